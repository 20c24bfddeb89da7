"""What each app can be asked for: its settings, and how a file of them becomes Flower's run config."""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from flwr.app import UserConfig

from hemafl_lib.errors import FederationError, one_line
from hemafl_lib.federation.hospital import Epochs, RunSettings
from hemafl_lib.federation.hospital import read_settings as read_settings
from hemafl_lib.models import DeepSurv
from hemafl_lib.models.deepsurv import Activation
from hemafl_lib.settings import Count, NotNegative, Positive, Settings, Whole
from hemafl_lib.statistics.cox import Ties
from hemafl_lib.training import Recipe

MOST_LAYERS, WIDEST = 8, 512
"""Hidden layers of DeepSurv, and units of the widest: a hospital trains what the server asks for."""


@dataclass(frozen=True)
class Place(Settings):
    """Which federation a run is of: what the server knows beside the app's own settings.

    ``names`` are the hospitals' by their number, with commas; ``nodes`` their numbers at the server, in the
    same order; ``secure`` says whether their replies are summed under masks.
    """

    ERROR: ClassVar[type[FederationError]] = FederationError

    app: str
    names: str
    nodes: str
    secure: bool

    @property
    def hospitals(self) -> tuple[str, ...]:
        """The hospitals' names."""
        return tuple(self.names.split(","))

    @property
    def numbers(self) -> dict[int, int]:
        """Which hospital each node is."""
        return {int(node): number for number, node in enumerate(self.nodes.split(","))}


@dataclass(frozen=True)
class TableRun(Settings):
    """What all apps of tables are asked for.

    ``features`` are the federation's names, with commas and in the order of the result. ``deadline`` is in
    seconds: for the hospitals to come, and for their replies to each question. ``out`` is the server's
    folder.
    """

    ERROR: ClassVar[type[FederationError]] = FederationError
    OUTCOME: ClassVar[str] = "survival"

    features: str
    out: str
    deadline: Positive = 600.0

    def __post_init__(self) -> None:
        """Raise `FederationError` for a value that is not allowed."""
        super().__post_init__()
        if len(set(self.columns)) < len(self.columns):
            raise FederationError(f"features='{self.features}' names one twice; name each once.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the features."""
        return tuple(name.strip() for name in self.features.split(",") if name.strip())


@dataclass(frozen=True)
class DeepSurvRun(TableRun):
    """DeepSurv, trained round by round on standardised features; ``hidden`` holds the widths, with commas."""

    rounds: Count = 20
    seed: Whole = 0
    hidden: str = "32,32"
    activation: Activation = "relu"
    aggregator: str = "FedAvg"
    learning_rate: Positive = 0.01
    batch_size: Count = 64
    local_epochs: Epochs = 1
    weight_decay: NotNegative = 1e-4

    def __post_init__(self) -> None:
        """Raise `FederationError` for a value that is not allowed."""
        super().__post_init__()
        layers = [width.strip() for width in self.hidden.split(",") if width]
        if len(layers) > MOST_LAYERS or not all(map(is_width, layers)):
            raise FederationError(
                f"hidden='{one_line(self.hidden, 100)}' is not allowed; give widths such as '32,32': at most "
                f"{MOST_LAYERS}, each from 1 to {WIDEST}."
            )
        if not self.columns:
            raise FederationError("features='' is not allowed; name at least one feature.")

    def model(self) -> DeepSurv:
        """Return the initial network."""
        widths = [int(width) for width in self.hidden.split(",") if width]
        return DeepSurv(len(self.columns), widths, activation=self.activation, seed=self.seed)

    def recipe(self) -> Recipe:
        """Return how a hospital trains it."""
        return Recipe(
            loss="cox",
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            local_epochs=self.local_epochs,
            weight_decay=self.weight_decay,
            balanced_sampler=False,
        )


def is_width(text: str) -> bool:
    """Return whether a text is the width of a layer that a hospital agrees to train."""
    return text.isdecimal() and len(text) <= len(str(WIDEST)) and 1 <= int(text) <= WIDEST


@dataclass(frozen=True)
class SurvivalRun(TableRun):
    """Times are rounded up to the next point of a grid, every ``grid_months`` up to ``last_month``.

    With ``grid_months=0`` they are exact, to which hospitals agree only with ``smallest_count = 1``.
    """

    grid_months: NotNegative = 12.0
    last_month: Positive = 120.0

    @property
    def grid(self) -> np.ndarray | None:
        """The grid in months, float64[J], or None for exact times."""
        if self.grid_months == 0:
            return None
        return np.arange(1, int(self.last_month / self.grid_months) + 1) * float(self.grid_months)


@dataclass(frozen=True)
class CoxRun(SurvivalRun):
    """Exact Cox regression; unknown values are the mean over all hospitals."""

    ties: Ties = "efron"
    ridge: NotNegative = 0.0


@dataclass(frozen=True)
class KaplanMeierRun(SurvivalRun):
    """The survival curve of all patients together; it reads no feature."""

    features: str = ""
    out: str = ""
    small: Literal["refuse", "suppress"] = "refuse"


@dataclass(frozen=True)
class LogisticRun(TableRun):
    """Exact logistic regression; unknown values are the mean over all hospitals."""

    OUTCOME: ClassVar[str] = "label"

    ridge: NotNegative = 0.0


APPS: dict[str, type[Settings]] = {
    "images": RunSettings,
    "deepsurv": DeepSurvRun,
    "logistic": LogisticRun,
    "cox": CoxRun,
    "kaplan-meier": KaplanMeierRun,
}
"""The settings of each app by its name."""

GIVEN = ("hospitals", "out")
"""Settings that the federation gives, and no file of settings."""


def read_run_file(app: str, path: Path | None) -> dict[str, Any]:
    """Return the settings of a TOML file for an app, by their names with underscores.

    Raises `FederationError` if the app is unknown, the file cannot be read, or names what is no setting.
    """
    if app not in APPS:
        raise FederationError(f"app='{app}' is unknown; choose one of: {', '.join(APPS)}.")
    if path is None:
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise FederationError(f"the settings {path} cannot be read ({reason}); correct the file.") from None
    settings = {
        name.replace("-", "_"): ",".join(map(str, value)) if isinstance(value, list) else value
        for name, value in content.items()
    }
    known = [field.name for field in dataclasses.fields(APPS[app]) if field.name not in GIVEN]  # type: ignore[arg-type]
    for name in settings:
        if name not in known:
            raise FederationError(f"{path}: '{name}' is no setting of {app}; it has {', '.join(known)}.")
    return settings


def run_config(app: str, place: Place, settings: dict[str, Any], out: Path) -> UserConfig:
    """Return the run config of a run, all settings checked; raise `HemaflError` for what is not allowed."""
    given: dict[str, Any] = {**settings, "out": str(out)}
    if app == "images":
        given["hospitals"] = len(place.hospitals)
    try:
        checked = APPS[app](**given)
    except TypeError as error:  # a setting without a default
        missing = str(error).rpartition(": ")[2]
        raise FederationError(f"the setting {missing} of {app} is missing; give it in the file.") from None
    whole = {**dataclasses.asdict(place), **dataclasses.asdict(checked)}  # type: ignore[call-overload]
    return {name.replace("_", "-"): value for name, value in whole.items()}
