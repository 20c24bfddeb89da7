"""What the privacy explorer of chapter 3 varies: the noise, the clip and the rounds of DP-SGD.

Three hospitals of unequal size learn from simulated patients whether a treatment will succeed, by logistic
regression. The log odds are known (`EFFECTS`), and so is how often the true rule is right.
"""

import functools
import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from flwr.app import RecordDict
from torch import nn

from hemafl_book.explorers.sweep import Sweep
from hemafl_lib import federation
from hemafl_lib.data.cohort import Cohort, Provenance, TableCohort
from hemafl_lib.models import LogisticRegression
from hemafl_lib.partition import Site
from hemafl_lib.privacy import RecordPrivacy, epsilon, private_fit, round_steps
from hemafl_lib.seeds import numpy_generator, torch_generator
from hemafl_lib.training import Recipe

VERSION = "1"
"""Changes whenever the same settings would give other patients."""

MEASUREMENTS = 60
EFFECTS = 0.4 * (-1.0) ** np.arange(MEASUREMENTS)
"""True log odds of success per standard deviation of each measurement, our choice."""

PATIENTS = {"large": 600, "middle": 240, "small": 60}
"""Training patients of each hospital."""
TESTED = 4000

RECIPE = Recipe(
    optimiser="sgd", learning_rate=2.0, momentum=0.0, weight_decay=0.0, batch_size=60, local_epochs=1
)
START = 0.5
"""Standard deviation of the weights at the beginning."""
DELTA = 1e-5
SEED = 0
PRIVATE, PLAIN = "private", "without privacy"

CURVE_TABLE, EPSILON_TABLE = "curves", "epsilon"
"""The titles of the recording's tables."""

LONGEST = 20
"""Rounds of the longest run."""

CONTROLS = {
    "noise": (0.3, 0.5, 1.0, 2.0, 4.0),
    "clip": (0.1, 0.3, 1.0, 3.0),
    "rounds": (1, 3, 5, 10, LONGEST),
}
"""The settings that are recorded, by the argument of `explore`."""

Report = Callable[[pd.DataFrame], object]


@dataclass(frozen=True)
class PrivacyOutcome:
    """What becomes of a private federation.

    ``curves`` holds accuracies on test patients, one row for each round from 0, in the columns "private" and
    "without privacy". ``epsilon`` is what each hospital has spent by the last round.
    """

    curves: pd.DataFrame
    epsilon: dict[str, float]


def explore(
    noise: float,
    clip: float,
    rounds: int,
    *,
    report: Report = lambda curves: None,
    stop: threading.Event | None = None,
) -> PrivacyOutcome:
    """Train a private federation of one setting and follow its accuracy.

    Parameters
    ----------
    noise
        Standard deviation of the noise on a sum of gradients, divided by the clip; above 0.
    clip
        Largest norm of one patient's gradient. The learning rate stays as it is.
    rounds
        Rounds of one local epoch. The first rounds of a longer run are those of a shorter one.
    report
        Called before the first round and after each, with the curves so far.
    stop
        Set it from another thread to end with `hemafl_lib.errors.Stopped`.

    Returns
    -------
    PrivacyOutcome
        The same seed for all settings: they differ by the setting only.
    """
    plain = plain_curve(rounds)
    run = train(
        rounds,
        trainer=AccountLater(noise=noise, clip=clip, delta=DELTA),
        report=lambda history: report(join_curves(accuracies(history), plain)),
        stop=stop,
    )
    return PrivacyOutcome(join_curves(accuracies(run.history), plain), epsilon_by_hospital(noise, rounds))


@dataclass(frozen=True)
class AccountLater(RecordPrivacy):
    """DP-SGD without an account at the end of each round, which takes longer here than the round itself.

    `epsilon_by_hospital` says what all rounds together cost.
    """

    keeps_state: ClassVar[bool] = False

    def train(
        self,
        model: nn.Module,
        cohort: Cohort,
        recipe: Recipe,
        generator: torch.Generator,
        state: RecordDict,
        **settings: Any,
    ) -> dict[str, float]:
        """Train for one round; report the steps."""
        return {"steps": private_fit(model, cohort, recipe, self, generator, **settings)}


def train(rounds: int, **settings: Any) -> federation.Run:
    """Let the hospitals learn together from the first round on; ``settings`` go to `federation.run`."""
    return federation.run(
        hospitals(),
        model=first_model(),
        recipe=RECIPE,
        rounds=rounds,
        seed=SEED,
        evaluate=False,
        monitor={"test": test_patients()},
        progress=False,
        **settings,
    )


def first_model() -> LogisticRegression:
    """Return a model of random weights, as the new last layer of a network has them.

    From weights of 0, even the shortest step would point the right way, and no clip would be too small.
    """
    model = LogisticRegression(MEASUREMENTS)
    torch.nn.init.normal_(model.weight, std=START, generator=torch_generator(SEED, "privacy explorer"))
    return model


@functools.cache
def plain_curve(rounds: int) -> pd.Series:
    """Return the accuracy by round of the federation that nobody protects."""
    return accuracies(train(rounds).history)


def accuracies(history: pd.DataFrame) -> pd.Series:
    """Return the accuracy on the test patients by round, from 0."""
    rows = history.query("phase == 'monitor' and metric == 'accuracy'")
    return rows.set_index("round")["value"]


def join_curves(private: pd.Series, plain: pd.Series) -> pd.DataFrame:
    """Return the private curve, and as much of the other."""
    return pd.DataFrame({PRIVATE: private, PLAIN: plain.reindex(private.index)})


def epsilon_by_hospital(noise: float, rounds: int) -> dict[str, float]:
    """Return the epsilon of each hospital after some rounds; the clip has no say in it."""
    return {
        name: epsilon([round_steps(patients, RECIPE, noise, rounds)], DELTA)
        for name, patients in PATIENTS.items()
    }


# The patients


@functools.cache
def hospitals() -> tuple[Site, ...]:
    """Return the hospitals with their training patients; the test patients are none of theirs."""
    sites = []
    for name, patients in PATIENTS.items():
        train = simulate(patients, numpy_generator(SEED, "train", name), name)
        sites.append(Site(name, train, train.take([]), train.take([])))
    return tuple(sites)


@functools.cache
def test_patients() -> TableCohort:
    """Return the patients on whom all are judged."""
    return simulate(TESTED, numpy_generator(SEED, "test"), "test")


def simulate(patients: int, generator: np.random.Generator, name: str) -> TableCohort:
    """Draw patients of one hospital.

    Returns
    -------
    TableCohort
        Features float32[N, 60], standard normal; ``label`` int64[N], 1 where the treatment succeeds.
    """
    features = generator.standard_normal((patients, MEASUREMENTS))
    success = generator.random(patients) < 1 / (1 + np.exp(-features @ EFFECTS))
    return TableCohort(
        site=np.full(patients, name),
        patient=np.array([f"{name}/{number}" for number in range(patients)]),
        provenance=provenance(),
        features=torch.tensor(features, dtype=torch.float32),
        feature_names=tuple(f"measurement {number}" for number in range(1, MEASUREMENTS + 1)),
        label=torch.tensor(success, dtype=torch.int64),
    )


def best_accuracy() -> float:
    """Return the accuracy on the test patients of the rule that knows `EFFECTS`."""
    patients = test_patients()
    likely = patients.features.double().numpy() @ EFFECTS > 0
    return float((likely == patients.targets.numpy()).mean())


def setup() -> dict:
    """Return what decides which patients are drawn, as plain JSON values."""
    return {"version": VERSION, "effects": EFFECTS.tolist(), "patients": PATIENTS, "tested": TESTED}


def provenance() -> Provenance:
    """Return where the patients come from."""
    return Provenance(
        name="three hospitals with a treatment",
        source="SIMULATED patients of three hospitals; none is real.",
        licence="Apache-2.0",
        simulated=True,
        checksum=hashlib.sha256(json.dumps(setup()).encode()).hexdigest(),
    )


# In words


def describe(noise: float, clip: float, found: PrivacyOutcome) -> str:
    """Return in two sentences what a setting gives."""
    rounds = found.curves.index[-1]
    private, plain = found.curves.iloc[-1][[PRIVATE, PLAIN]]
    largest, *_, smallest = PATIENTS
    after = f"{rounds} {'round' if rounds == 1 else 'rounds'}"
    return (
        f"Noise {noise:g}, clip {clip:g}: accuracy {private:.2f} after {after}, epsilon "
        f"{found.epsilon[largest]:.3g} at the {largest} and {found.epsilon[smallest]:.3g} at the {smallest} "
        f"hospital. Without privacy {plain:.2f}; the true rule reaches {best_accuracy():.2f}."
    )


# The recording


def protocol() -> dict:
    """Return what decides the recorded numbers, as plain JSON values."""
    return {
        **setup(),
        "recipe": asdict(RECIPE),
        "start": START,
        "delta": DELTA,
        "controls": {name: list(values) for name, values in CONTROLS.items()},
    }


def cut_longest(noise: float, clip: float, rounds: int) -> PrivacyOutcome:
    """Return the outcome of a recorded setting, cut from the longest run, which holds the shorter ones."""
    return PrivacyOutcome(_longest_curves(noise, clip).loc[:rounds], epsilon_by_hospital(noise, rounds))


@functools.cache
def _longest_curves(noise: float, clip: float) -> pd.DataFrame:
    return explore(noise, clip, LONGEST).curves


def to_rows(found: PrivacyOutcome) -> dict[str, pd.DataFrame]:
    """Return the rows of the recording's two tables, epsilon rounded to four decimals."""
    return {CURVE_TABLE: found.curves.reset_index(), EPSILON_TABLE: pd.DataFrame([found.epsilon]).round(4)}


def from_rows(rows: Mapping[str, pd.DataFrame]) -> PrivacyOutcome:
    """Return the outcome that these rows hold; the curves go on to the end of the longest run."""
    (spending,) = rows[EPSILON_TABLE].to_dict("records")
    curves = rows[CURVE_TABLE].set_index("round")[[PRIVATE, PLAIN]]
    return PrivacyOutcome(curves.loc[: spending["rounds"]], {name: spending[name] for name in PATIENTS})


SWEEP = Sweep(
    title="Noise, clip and rounds of DP-SGD: what privacy costs",
    controls=CONTROLS,
    explore=cut_longest,
    tables={CURVE_TABLE: ("noise", "clip"), EPSILON_TABLE: ("noise", "rounds")},
    to_rows=to_rows,
    from_rows=from_rows,
    protocol=protocol,
    data=lambda: [provenance()],
    seeds=(SEED,),
)
