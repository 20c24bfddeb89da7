"""What the sickle-cell explorer of chapter 4 varies: hospitals, how they differ, the aggregator.

The chapter's study has 65 children at three hospitals, 3 : 2 : 1, and no model says better than "all of them"
who has a silent infarct. How many children would it take? Here as many are simulated as one likes, with the
risk of `hemafl_lib.data.sickle_cell`. At some hospitals infarcts may be commoner than at others for a reason
that no feature tells, such as a better scanner: the log odds of a hospital's children are shifted by a normal
deviation, whose size is the difference between hospitals.
"""

import functools
import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from hemafl_book.explorers.heads import RATE, ROUNDS, STEPS, Part, play
from hemafl_book.explorers.repetitions import BETWEEN, repeated, summarise
from hemafl_book.explorers.softmax import scores
from hemafl_book.explorers.sweep import Sweep
from hemafl_lib import evaluation
from hemafl_lib.aggregation import FedAvg, by_name
from hemafl_lib.data import sickle_cell
from hemafl_lib.data.cohort import Provenance
from hemafl_lib.seeds import numpy_generator

CHILDREN = (65, 130, 260, 520, 1040)
"""Training children of all hospitals together, from the study's on."""

TESTED = 400
"""Further children of each hospital, on whom its models are judged."""

REPETITIONS, POOLS = 10, 100
"""Repetitions, and how many cohorts a repetition may draw without meeting those of the next."""

CHOICES = {
    "FedAvg": by_name("FedAvg"),
    "FedAvg, equal weights": by_name("FedAvg", equal_weights=True),
    "FedMedian": by_name("FedMedian"),
}
"""The aggregators to choose from."""

CONTROLS = {
    "hospitals": (2, 3, 6),
    "difference": (0.0, 0.5, 1.0),
    "aggregator": tuple(CHOICES),
}
"""The settings that are recorded, by the argument of `explore`."""

MEAN, SMALLEST = "children of all hospitals, their mean", "children of the smallest hospital"
PLACES = (MEAN, SMALLEST)
"""Whose children the models are judged on: those of each hospital, or of the one with the fewest."""

F1, AUROC = "F1", "AUROC"
MEASURES = (F1, AUROC)

FEDERATED, ALONE, CENTRALISED = "federated", "one hospital alone", "centralised"
TRIVIAL, TRUTH = "all of them", "true risk"
COMPARED = (FEDERATED, ALONE, CENTRALISED, TRUTH, TRIVIAL)
"""What is compared. "all of them" gives every child the same answer, yes; "true risk" knows the log odds."""

FEDERATED_TABLE, BESIDE_TABLE = "federated", "beside it"
"""The titles of the recording's tables."""

Report = Callable[[int], object]


def explore(
    hospitals: int,
    difference: float,
    aggregator: str,
    *,
    repetitions: int = REPETITIONS,
    report: Report = lambda done: None,
    stop: threading.Event | None = None,
) -> pd.DataFrame:
    """Let hospitals learn alone, together and in one place, on other children in every repetition.

    Parameters
    ----------
    hospitals
        How many. Their training children are as `sizes` says.
    difference
        Standard deviation of the log odds of an infarct between hospitals.
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
        One row for each ``place`` (`PLACES`), ``measure`` (`MEASURES`), ``model`` (`COMPARED`) and number of
        ``children`` (`CHILDREN`): ``mean``, ``low`` and ``high``.
    """

    def once(seed: int) -> pd.DataFrame:
        tasks = [Task(hospitals, difference, children, seed) for children in CHILDREN]
        return pd.concat([compare(task, aggregator) for task in tasks])

    done = list(repeated(repetitions, once, report, lambda: stop is not None and stop.is_set()))
    return summarise(pd.concat(done), ["place", "measure", "model", "children"])


# The children


def sizes(hospitals: int, children: int) -> list[int]:
    """Return the training children of each hospital: 3 : 2 : 1 of three, 2 : 1 of two, and so on."""
    weights = np.arange(hospitals, 0, -1)
    ends = np.round(np.cumsum(weights) / weights.sum() * children).astype(int)
    return np.diff(ends, prepend=0).tolist()


@dataclass(frozen=True)
class Drawn:
    """Some children: features float64[N, 6], their true log odds float64[N], labels int64[N]."""

    features: np.ndarray
    log_odds: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Task:
    """What all models of a repetition share: hospitals and their children."""

    hospitals: int
    difference: float
    children: int
    seed: int

    def train(self) -> list[Drawn]:
        """Return the training children of each hospital, from the largest to the smallest."""
        ends = np.cumsum([0, *sizes(self.hospitals, self.children)])
        return [draw(self.seed, 0, slice(*ends[k : k + 2]), shift) for k, shift in enumerate(self.shifts())]

    def tests(self) -> list[Drawn]:
        """Return the children on whom each hospital's models are judged."""
        return [draw(self.seed, k, slice(TESTED), shift) for k, shift in enumerate(self.shifts(), start=1)]

    def shifts(self) -> np.ndarray:
        """Return what is added to the log odds of each hospital's children, float64[hospitals]."""
        return self.difference * numpy_generator(self.seed, "shift").standard_normal(self.hospitals)


def draw(seed: int, pool: int, rows: slice, shift: float) -> Drawn:
    """Return some children of a pool, whose log odds are shifted."""
    features, chance = (whole[rows] for whole in _pool(seed, pool))
    log_odds = log_odds_of(features) + shift
    return Drawn(features, log_odds, (chance < 1 / (1 + np.exp(-log_odds))).astype(np.int64))


def log_odds_of(features: np.ndarray) -> np.ndarray:
    """Return what `hemafl_lib.data.sickle_cell.log_odds` does, for many children at once."""
    risk, typical = (np.array(list(values.values())) for values in (sickle_cell.RISK, sickle_cell.TYPICAL))
    return sickle_cell.INTERCEPT + (features - typical) @ risk


@functools.cache
def _pool(seed: int, pool: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features float64[N, 6] and what decides the outcome, float64[N] in 0..1.

    Pool 0 holds the training children of all hospitals, pool k the test children of the k-th.
    """
    count = TESTED if pool else CHILDREN[-1]
    cohort = sickle_cell.simulate(count, seed=POOLS * seed + pool)
    return cohort.features.double().numpy(), numpy_generator(seed, "outcome", pool).random(count)


# What they learn, and what it is worth


Model = Callable[[Drawn], np.ndarray]
"""From children to scores float64[N]: the higher, the likelier an infarct."""


def compare(task: Task, aggregator: str) -> pd.DataFrame:
    """Return what models are worth: columns ``place``, ``measure``, ``model``, ``children`` and ``value``."""
    train, tests = task.train(), task.tests()
    together = join(train)
    scaled = Scaling(together.features.mean(axis=0), together.features.std(axis=0))
    parts = [scaled.part(one) for one in train]
    for_all: dict[str, Model] = {
        FEDERATED: scaled.model(play(parts, CHOICES[aggregator], 2)[-1]),
        CENTRALISED: scaled.model(play([scaled.part(together)], FedAvg(), 2)[-1]),
        TRUTH: lambda children: children.log_odds,
        TRIVIAL: lambda children: np.zeros(len(children.labels)),
    }
    alone = [scaled.model(play([part], FedAvg(), 2)[-1]) for part in parts]
    rules = {name: [Rule(model, threshold(model, together))] * len(tests) for name, model in for_all.items()}
    rules[ALONE] = [Rule(model, threshold(model, own)) for model, own in zip(alone, train, strict=True)]
    worth = pd.concat(
        [
            pd.DataFrame([rule.worth(test) for rule, test in zip(of_each, tests, strict=True)]).assign(
                model=name
            )
            for name, of_each in rules.items()
        ]
    )
    judged = {
        MEAN: worth.groupby("model", sort=False).mean(),
        SMALLEST: worth.loc[len(tests) - 1].set_index("model"),
    }
    return pd.concat(
        [
            table.reset_index().melt("model", var_name="measure").assign(place=place, children=task.children)
            for place, table in judged.items()
        ]
    )


def join(parts: Sequence[Drawn]) -> Drawn:
    """Return the children of all hospitals as one table."""
    return Drawn(
        np.concatenate([one.features for one in parts]),
        np.concatenate([one.log_odds for one in parts]),
        np.concatenate([one.labels for one in parts]),
    )


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation of all training children, float64[6] each, as sums over hospitals give them."""

    mean: np.ndarray
    deviation: np.ndarray

    def part(self, children: Drawn) -> Part:
        """Return what is trained on: scaled features float32[N, 6] and labels int64[N]."""
        return ((children.features - self.mean) / self.deviation).astype(np.float32), children.labels

    def model(self, head: np.ndarray) -> Model:
        """Return the model of trained weights float32[7, 2]; its scores are log odds."""

        def log_odds(children: Drawn) -> np.ndarray:
            no, yes = scores(head, self.part(children)[0]).astype(np.float64).T
            return yes - no

        return log_odds


def threshold(model: Model, known: Drawn) -> float:
    """Return the score from which on a child is predicted an infarct: the best F1 of children it knows.

    Who has seen no infarct predicts none.
    """
    if not known.labels.any():
        return np.inf
    sweep = evaluation.threshold_sweep(known.labels, model(known))
    return float(sweep["threshold"].iloc[int(sweep["f1"].argmax())])


@dataclass(frozen=True)
class Rule:
    """A model, and the score from which on it predicts an infarct."""

    model: Model
    threshold: float

    def worth(self, test: Drawn) -> dict[str, float]:
        """Return F1 and AUROC on some children."""
        found = self.model(test)
        return {
            F1: evaluation.binary_f1(test.labels, (found >= self.threshold).astype(int)),
            AUROC: float(roc_auc_score(test.labels, found)),
        }


# In words, and the recording


def at(found: pd.DataFrame, place: str, measure: str) -> pd.DataFrame:
    """Return the means by number of ``children`` (rows) and model (columns), as they are judged."""
    rows = found[(found["place"] == place) & (found["measure"] == measure)]
    return rows.pivot(index="children", columns="model", values="mean")[list(COMPARED)]


def describe(found: pd.DataFrame, place: str, measure: str) -> str:
    """Return in two sentences what a setting says."""
    mean = at(found, place, measure)
    learnt = (FEDERATED, ALONE, CENTRALISED)
    said = [
        f"from {children:,} children {', '.join(f'{mean.loc[children, name]:.2f} {name}' for name in learnt)}"
        for children in (mean.index[0], mean.index[-1])
    ]
    return (
        f"Mean {measure}, {place}: {'; '.join(said)}. {TRIVIAL.capitalize()} has "
        f"{mean[TRIVIAL].mean():.2f}, the {TRUTH} {mean[TRUTH].iloc[-1]:.2f}."
    )


def protocol() -> dict:
    """Return what decides the recorded numbers, as plain JSON values."""
    return {
        **setup(),
        "head": "logistic regression on scaled features, full batches",
        "rounds": ROUNDS,
        "steps in a round": STEPS,
        "learning rate": RATE,
        "aggregators": {name: repr(aggregator) for name, aggregator in CHOICES.items()},
        "quantiles": list(BETWEEN),
        "controls": {name: list(values) for name, values in CONTROLS.items()},
    }


def setup() -> dict:
    """Return what decides which children are drawn, as plain JSON values."""
    return {
        "simulation": sickle_cell.VERSION,
        "children": list(CHILDREN),
        "tested": TESTED,
        "seeds of a repetition": POOLS,
    }


def provenance() -> Provenance:
    """Return where the children come from."""
    return Provenance(
        name="hospitals with sickle cell anaemia",
        source="SIMULATED children with sickle cell anaemia; none is real.",
        licence="Apache-2.0",
        simulated=True,
        checksum=hashlib.sha256(json.dumps(setup()).encode()).hexdigest(),
    )


def to_rows(found: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of a recording, rounded to thousandths."""
    table, federated = found.round(3), found["model"] == FEDERATED
    return {FEDERATED_TABLE: table[federated].drop(columns="model"), BESIDE_TABLE: table[~federated]}


def from_rows(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the outcome that these rows hold."""
    parts = [rows[FEDERATED_TABLE].assign(model=FEDERATED), rows[BESIDE_TABLE]]
    columns = ["place", "measure", "model", "children", "mean", "low", "high"]
    return pd.concat([part[columns] for part in parts], ignore_index=True)


SWEEP = Sweep(
    title="Silent infarcts: hospitals, how they differ, the aggregator, and how many children it takes",
    controls=CONTROLS,
    explore=explore,
    tables={FEDERATED_TABLE: tuple(CONTROLS), BESIDE_TABLE: ("hospitals", "difference")},
    to_rows=to_rows,
    from_rows=from_rows,
    protocol=protocol,
    data=lambda: [provenance()],
    seeds=range(REPETITIONS),
)
