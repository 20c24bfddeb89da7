"""What the survival explorer of chapter 4 varies: hospitals, their sizes, how they differ, the aggregator.

The patients are simulated. At every hospital the features have effects of its own: those of `EFFECTS`, and a
normal deviation whose size is the heterogeneity. A federation learns one set of effects for all.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from hemafl_book.explorers.repetitions import BETWEEN, repeated, summarise
from hemafl_book.explorers.survival_patients import EFFECTS, PATIENTS, provenance, setup, simulate
from hemafl_book.explorers.sweep import Sweep
from hemafl_lib import evaluation, federation
from hemafl_lib.aggregation import by_name
from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.models import DeepSurv, ridge_cox
from hemafl_lib.partition import Site
from hemafl_lib.seeds import numpy_generator
from hemafl_lib.training import Recipe

TESTED = 200
"""Held-out patients of each hospital."""

REPETITIONS = 10
RIDGE = 3.0
"""Ridge of a hospital alone. A dozen patients have no finite estimate without one."""

ROUNDS = 12
RECIPE = Recipe(
    loss="cox",
    optimiser="sgd",
    learning_rate=0.3,
    momentum=0.0,
    weight_decay=0.0,
    batch_size=PATIENTS,
    local_epochs=2,
)
"""How a hospital trains its Cox model: two steps a round on all of its patients."""

CHOICES = {
    "FedAvg": by_name("FedAvg"),
    "FedMedian": by_name("FedMedian"),
    "FedAdam": by_name("FedAdam", learning_rate=0.1),
}
"""The aggregators to choose from."""

CURVES = ("alone", "federated", "age alone", "true risk")
"""What is compared: a ridge Cox model of the hospital alone, the federated Cox model, the trivial model that
ranks by age, and the hospital's own true effects, which nothing can beat for long."""

CONTROLS = {
    "hospitals": (3, 5, 9),
    "smallest": (0.07, 0.04, 0.02),
    "heterogeneity": (0.0, 0.3, 0.6),
    "aggregator": tuple(CHOICES),
}
"""The settings that are recorded, by the argument of `explore`."""

TABLE = "hospitals"
"""The title of the recording's table."""


def explore(
    hospitals: int,
    smallest: float,
    heterogeneity: float,
    aggregator: str,
    *,
    repetitions: int = REPETITIONS,
    report: Callable[[int], object] = lambda done: None,
    stop: threading.Event | None = None,
) -> pd.DataFrame:
    """Let unequal hospitals learn alone and together, on new patients in every repetition.

    Parameters
    ----------
    hospitals
        How many, at least 3.
    smallest
        Share of the training patients whom the smallest hospital has; see `sizes`.
    heterogeneity
        Standard deviation of the log hazard ratios between hospitals.
    aggregator
        A key of `CHOICES`.
    repetitions
        How many. All settings share their random numbers, so that they differ by the setting only.
    report
        Called after every repetition with the number of those that are done.
    stop
        Set it from another thread to end with `hemafl_lib.errors.Stopped`.

    Returns
    -------
    DataFrame
        C-indices on each hospital's own held-out patients, one row for each number of training ``patients``
        (from small to large) and ``model`` (`CURVES`): ``mean``, ``low`` and ``high``, and ``loses``, the
        share of repetitions in which the federated model is worse than the hospital's own.
    """
    done = repeated(
        repetitions,
        lambda seed: c_indices(hospitals, smallest, heterogeneity, aggregator, seed),
        report,
        lambda: stop is not None and stop.is_set(),
    )
    rows = pd.concat(done)
    losses = rows.groupby("patients")["loses"].mean()
    table = summarise(rows, ["patients", "model"])
    return table.assign(loses=table["patients"].map(losses))


def c_indices(
    hospitals: int, smallest: float, heterogeneity: float, aggregator: str, seed: int
) -> pd.DataFrame:
    """Return the C-index of every model on the held-out patients of every hospital, from small to large."""
    drawn = draw(hospitals, smallest, heterogeneity, seed)
    together = federated(drawn.sites, aggregator, seed)
    parts = []
    for site, fixed in reversed(list(zip(drawn.sites, drawn.fixed, strict=True))):
        values = {**fixed, "federated": c_index(site.test, together)}
        parts.append(
            pd.DataFrame(
                {"patients": len(site.train), "model": CURVES, "value": [values[model] for model in CURVES]}
            ).assign(loses=float(values["federated"] < values["alone"]))
        )
    return pd.concat(parts)


# The hospitals and their patients


def sizes(hospitals: int, smallest: float) -> list[int]:
    """Return the numbers of training patients, from large to small.

    The last has the share ``smallest``; of the others the first has twice as many as the last.
    """
    small = round(PATIENTS * smallest)
    weights = np.linspace(2, 1, hospitals - 1)
    ends = np.round(np.cumsum(weights) / weights.sum() * (PATIENTS - small)).astype(int)
    return [*np.diff(ends, prepend=0).tolist(), small]


@dataclass(frozen=True)
class Drawn:
    """Hospitals, and what does not depend on the aggregator: the C-index of the other models at each."""

    sites: Sequence[Site[TableCohort]]
    fixed: Sequence[dict[str, float]]


@lru_cache(maxsize=4 * REPETITIONS)
def draw(hospitals: int, smallest: float, heterogeneity: float, seed: int) -> Drawn:
    """Return hospitals with new patients; see `explore`."""
    sites, fixed = [], []
    for number, count in enumerate(sizes(hospitals, smallest), start=1):
        name = f"hospital-{number}"
        deviation = numpy_generator(seed, "effects", name).standard_normal(len(EFFECTS))
        effects = np.array(list(EFFECTS.values())) + heterogeneity * deviation
        train, test = (
            simulate(size, numpy_generator(seed, part, name), name=name, effects=effects.tolist())
            for part, size in (("train", count), ("test", TESTED))
        )
        sites.append(Site(name, train, train.take([]), test))
        age = np.array([float(feature == "age") for feature in EFFECTS])
        known = {"alone": alone(train), "age alone": age, "true risk": effects}
        fixed.append({model: c_index(test, beta) for model, beta in known.items()})
    return Drawn(sites, fixed)


# What they learn


def alone(train: TableCohort) -> np.ndarray:
    """Return the log hazard ratios of a hospital's own ridge Cox model; all 0 where nobody died."""
    time, event = train.follow_up
    if not event.any():
        return np.zeros(len(EFFECTS))
    return ridge_cox(train.features.numpy(), time.numpy(), event.numpy(), RIDGE)


def federated(sites: Sequence[Site[TableCohort]], aggregator: str, seed: int) -> np.ndarray:
    """Return the log hazard ratios of the Cox model that hospitals train together."""
    run = federation.run(
        sites,
        model=DeepSurv(len(EFFECTS), (), seed=seed),
        aggregator=CHOICES[aggregator],
        recipe=RECIPE,
        rounds=ROUNDS,
        seed=seed,
        evaluate=False,
        progress=False,
    )
    return run.parameters["head.weight"][0].astype(np.float64)


def c_index(cohort: TableCohort, coefficients: np.ndarray) -> float:
    """Return Harrell's C of a Cox model."""
    return evaluation.harrell_c(cohort.targets.numpy(), cohort.features.double().numpy() @ coefficients)


# In words, and the recording


def describe(found: pd.DataFrame) -> str:
    """Return in two sentences what the C-indices of a setting say."""
    mean = found.pivot(index="patients", columns="model", values="mean").sort_index()
    loses = found.groupby("patients")["loses"].first()
    small, large = mean.index[0], mean.index[-1]
    said = [
        f"with {n} patients {mean.loc[n, 'alone']:.2f} alone and {mean.loc[n, 'federated']:.2f} federated "
        f"(worse than alone in {loses[n]:.0%} of repetitions)"
        for n in (small, large)
    ]
    return (
        f"Mean C-index on own patients: {', '.join(said)}. In the mean of the hospitals age alone reaches "
        f"{mean['age alone'].mean():.2f}, and the true risks {mean['true risk'].mean():.2f} "
        f"({mean.loc[large, 'true risk']:.2f} at the largest)."
    )


def protocol() -> dict:
    """Return what decides the recorded numbers, as plain JSON values."""
    return {
        **setup(),
        "tested": TESTED,
        "ridge": RIDGE,
        "rounds": ROUNDS,
        "recipe": asdict(RECIPE),
        "aggregators": {name: repr(aggregator) for name, aggregator in CHOICES.items()},
        "quantiles": list(BETWEEN),
        "controls": {name: list(values) for name, values in CONTROLS.items()},
    }


SWEEP = Sweep(
    title="Hospitals, their sizes, how they differ, and the aggregator",
    controls=CONTROLS,
    explore=explore,
    tables={TABLE: tuple(CONTROLS)},
    to_rows=lambda found: {TABLE: found.round(4)},
    from_rows=lambda rows: rows[TABLE].drop(columns=list(CONTROLS)),
    protocol=protocol,
    data=lambda: [provenance()],
    seeds=range(REPETITIONS),
)
