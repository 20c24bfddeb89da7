"""What the drug explorer of chapter 4 varies: unequal hazards, and who gets the drug.

The patients are simulated, so the log hazard ratios are known. Whether a patient gets the drug is a matter of
chance within a hospital, but one hospital gives it more often than another, and patients of that hospital may
die sooner for reasons that no feature tells: the hospital confounds the drug's effect.
"""

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from hemafl_book.explorers.repetitions import BETWEEN, repeated, summarise
from hemafl_book.explorers.survival_patients import EFFECTS, provenance, setup, simulate
from hemafl_book.explorers.sweep import Sweep
from hemafl_lib import statistics
from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.partition import Site
from hemafl_lib.seeds import numpy_generator

HOSPITALS = {"large": 380, "middle": 190, "small": 30}
"""Training patients of the hospitals."""

REPETITIONS = 30
RIDGE = 3.0
"""Ridge of a hospital alone: a few dozen patients may have no finite estimate without one."""

ESTIMATES = ("pooled Cox", "stratified Cox", "mean of local fits")

CONTROLS = {"shift": (1, 2, 4, 8), "uneven": (0.0, 0.3, 0.6)}
"""The settings that are recorded, by the argument of `explore`."""

TABLE = "effects"
"""The title of the recording's table."""


def explore(
    shift: float,
    uneven: float,
    *,
    repetitions: int = REPETITIONS,
    report: Callable[[int], object] = lambda done: None,
    stop: threading.Event | None = None,
) -> pd.DataFrame:
    """Estimate the drug's effect over three unequal hospitals, on new patients in every repetition.

    Parameters
    ----------
    shift
        The hazard of every patient of the middle hospital is multiplied by this.
    uneven
        Share of patients who get the drug at the middle hospital less that at the large one, 0 to 1.
    repetitions
        How many. All settings share their random numbers, so that they differ by the setting only.
    report
        Called after every repetition with the number of those that are done.
    stop
        Set it from another thread to end with `hemafl_lib.errors.Stopped`.

    Returns
    -------
    DataFrame
        One row for each ``estimate`` (`ESTIMATES`) of the drug's log hazard ratio, with its ``mean``, ``low``
        and ``high``. "mean of local fits" weights the ridge Cox model of each hospital alone by its patients.
    """
    done = repeated(
        repetitions,
        lambda seed: estimates(deal(shift, uneven, seed)),
        report,
        lambda: stop is not None and stop.is_set(),
    )
    return summarise(pd.concat(done), ["estimate"])


def deal(shift: float, uneven: float, seed: int) -> list[Site[TableCohort]]:
    """Return the large, the middle and the small hospital with new patients; see `explore`."""
    hazards = (1.0, float(shift), 1.0)
    treated = (0.5 - uneven / 2, 0.5 + uneven / 2, 0.5)
    sites = []
    for (name, count), hazard, share in zip(HOSPITALS.items(), hazards, treated, strict=True):
        generator = numpy_generator(seed, "train", name)
        train = simulate(count, generator, name=name, hazard=hazard, treated=share)
        sites.append(Site(name, train, train.take([]), train.take([])))
    return sites


def estimates(sites: Sequence[Site[TableCohort]]) -> pd.DataFrame:
    """Return the three estimates of the drug's log hazard ratio."""
    local = [statistics.cox([site], ridge=RIDGE, minimum=1).coefficients for site in sites]
    mean = np.average(local, axis=0, weights=[len(site.train) for site in sites])
    pooled = statistics.cox(sites, minimum=1).coefficients
    stratified = statistics.cox_stratified(sites, minimum=1).coefficients
    return pd.DataFrame({"estimate": ESTIMATES, "value": [pooled[0], stratified[0], mean[0]]})


def by_shift(found: Mapping[tuple[float, float], pd.DataFrame], uneven: float) -> pd.DataFrame:
    """Return the estimates of the drug's effect for every ``shift``, and the "true value" beside them.

    Columns ``estimate``, ``shift``, ``mean``, ``low`` and ``high``.
    """
    parts = [one.assign(shift=shift) for (shift, unequal), one in found.items() if unequal == uneven]
    table = pd.concat(parts, ignore_index=True)
    truth = table.drop_duplicates("shift").assign(estimate="true value")
    truth[["mean", "low", "high"]] = EFFECTS["drug"]
    return pd.concat([table, truth], ignore_index=True)[["estimate", "shift", "mean", "low", "high"]]


def describe(effects: pd.DataFrame) -> str:
    """Return in two sentences what a table of `by_shift` says."""
    mean = effects.pivot(index="shift", columns="estimate", values="mean")
    moves = [f"{name} from {mean[name].iloc[0]:.2f} to {mean[name].iloc[-1]:.2f}" for name in ESTIMATES]
    return (
        f"As the hazard at the middle hospital grows {mean.index[-1]:g}-fold, the drug's estimated effect "
        f"goes: {', '.join(moves)}. The true value is {EFFECTS['drug']:.2f}."
    )


def protocol() -> dict:
    """Return what decides the recorded numbers, as plain JSON values."""
    return {
        **setup(),
        "hospitals": HOSPITALS,
        "ridge": RIDGE,
        "quantiles": list(BETWEEN),
        "controls": {name: list(values) for name, values in CONTROLS.items()},
    }


SWEEP = Sweep(
    title="Unequal hazards between hospitals, and who gets the drug",
    controls=CONTROLS,
    explore=explore,
    tables={TABLE: tuple(CONTROLS)},
    to_rows=lambda effects: {TABLE: effects.round(4)},
    from_rows=lambda rows: rows[TABLE].drop(columns=list(CONTROLS)),
    protocol=protocol,
    data=lambda: [provenance()],
    seeds=range(REPETITIONS),
)
