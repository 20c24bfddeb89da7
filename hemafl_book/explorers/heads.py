"""Federations that train a head on drawn cells, beside what they are to be compared with, over ten seeds.

The head is a softmax regression on the features of a frozen network. In a round a hospital takes `STEPS`
steps of gradient descent on all of its cells, from what the server sent; the first weights are 0. So nothing
is drawn but who holds which cells, which the seed decides. It is written out in NumPy because no reader waits
for ten seeds of messages; a test holds its rounds to those of `hemafl_lib.federation.run`.
"""

import functools
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hemafl_book.explorers.drawn_cells import STRANGE, DrawnCells, Hospital, row_numbers
from hemafl_book.explorers.repetitions import BETWEEN, repeated, summarise
from hemafl_book.explorers.softmax import scores, step, with_one
from hemafl_book.explorers.sweep import Sweep
from hemafl_lib import partition
from hemafl_lib.aggregation import Aggregator, FedAvg, Parameters, aggregate, begin
from hemafl_lib.partition import total_variation

SEEDS = range(10)
ROUNDS, STEPS, RATE = 6, 20, 0.1
"""Rounds, steps of gradient descent in a round, and their learning rate."""

OWN, WORST = "own patients, mean of the hospitals", "own patients, the worst-off hospital"
SMALLEST, LARGEST = "own patients, the smallest hospital", "own patients, the largest hospital"
SHARED, UNSEEN = "patients of all hospitals alike", "hospitals that nobody trained on"
"""Whose cells a model is judged on. Own patients are in a hospital's stain and have its mix of classes; the
others are the test cells of all classes, in the stain of each laboratory that takes part or that does not."""

FEDERATED, ALONE, CENTRALISED = "federated", "one hospital alone", "centralised"
COLOUR, COMMONEST = "colours alone", "always the commonest kind"
"""Trivial models: a logistic regression on 15 colour statistics of all hospitals' training cells, and the
hospital's commonest class for every cell."""

FEDERATED_TABLE, BESIDE_TABLE, UNLIKE_TABLE = "federated", "beside it", "unlike"
"""The titles of a recording's tables."""

Report = Callable[[int], object]


@dataclass(frozen=True)
class Outcome:
    """What becomes of a setting.

    ``curves`` holds accuracies: columns ``place``, ``model``, ``round``, and the ``mean``, ``low``
    and ``high`` over the seeds. ``unlike`` is how far apart the mixes of classes of two hospitals are: the
    mean total variation over all pairs and seeds, 0 for equal shares and 1 for no class in common.
    """

    curves: pd.DataFrame
    unlike: float

    def last(self, place: str) -> pd.DataFrame:
        """Return the accuracies after the last round by model: mean, low and high."""
        rows = self.curves[(self.curves["place"] == place) & (self.curves["round"] == ROUNDS)]
        return rows.set_index("model")[["mean", "low", "high"]]


@dataclass(frozen=True)
class LabelSkew:
    """Deals classes to ``count`` hospitals by a Dirichlet distribution; a small ``alpha`` is much skew."""

    count: int
    alpha: float

    def hospitals(self, cells: DrawnCells, seed: int) -> list[Hospital]:
        """Deal the training cells to hospitals."""
        return cells.deal(self.count, self.alpha, seed)


@dataclass(frozen=True)
class OneSmall:
    """Gives a share ``smallest`` of the cells to the last of ``count`` hospitals, the others alike the rest.

    Hospitals have the same mix of classes.
    """

    count: int
    smallest: float

    def hospitals(self, cells: DrawnCells, seed: int) -> list[Hospital]:
        """Deal the training cells to hospitals."""
        others = (1 - self.smallest) / (self.count - 1)
        dealt = partition.quantity(
            row_numbers(cells.split()[0]),
            proportions=[others] * (self.count - 1) + [self.smallest],
            seed=seed,
            validation=0,
            test=0,
        )
        return cells.hospitals(dealt, seed)


Deal = LabelSkew | OneSmall
"""Who holds which cells."""


@dataclass(frozen=True)
class Task:
    """What all models of a seed share: the cells, who holds them, how differently they are stained.

    ``places`` are those where models are judged.
    """

    cells: DrawnCells
    deal: Deal
    stain: float
    places: tuple[str, ...]
    seed: int

    def hospitals(self) -> list[Hospital]:
        """Return the hospitals."""
        return _dealt(self.deal, self.cells, self.seed)

    def laboratories(self) -> dict[str, Sequence[int]]:
        """Return the laboratories behind each place that belongs to no hospital."""
        own = sorted({one.laboratory for one in self.hospitals()})
        return {SHARED: own} | ({UNSEEN: STRANGE} if UNSEEN in self.places else {})

    def part(self, hospital: Hospital) -> "Part":
        """Return what a hospital trains on."""
        features, _ = self.cells.scaled(self.stain, hospital.laboratory)
        return features[hospital.train], self.cells.split()[0].labels.numpy()[hospital.train]

    def judge(self, right: Callable[[int], np.ndarray]) -> dict[str, float]:
        """Return the accuracy by hospital and by place that belongs to none.

        ``right`` tells for a laboratory which of the test cells are named rightly in its stain, bool[T].
        """
        found = {number: right(number) for numbers in self.laboratories().values() for number in numbers}
        own = {one.name: float(found[one.laboratory][one.test].mean()) for one in self.hospitals()}
        shared = {
            place: float(np.mean([found[number].mean() for number in numbers]))
            for place, numbers in self.laboratories().items()
        }
        return own | shared

    def judge_head(self, weights: np.ndarray) -> dict[str, float]:
        """Return what `judge` says of a head."""
        labels = self.cells.split()[1].labels.numpy()
        return self.judge(
            lambda number: scores(weights, self.cells.scaled(self.stain, number)[1]).argmax(axis=1) == labels
        )

    def tell(self, accuracy: pd.DataFrame) -> pd.DataFrame:
        """Return accuracies by round (rows) and place (columns) from those that `judge` returns, by round."""
        by_size = sorted(self.hospitals(), key=lambda one: len(one.train))
        own = accuracy[[one.name for one in by_size]]
        told = {
            OWN: own.mean(axis=1),
            WORST: own.min(axis=1),
            SMALLEST: own.iloc[:, 0],
            LARGEST: own.iloc[:, -1],
            **{place: accuracy[place] for place in self.laboratories()},
        }
        return pd.DataFrame({place: told[place] for place in self.places})


Part = tuple[np.ndarray, np.ndarray]
"""What is trained on: features float32[N, 80] and labels int64[N]."""


# Training


Arrive = Callable[[Sequence[Parameters], np.ndarray, int], Sequence[Parameters | None]]
"""What reaches the aggregator, None where a reply is refused.

It is told of what hospitals have trained, what the server had sent them, and the number of the round.
"""


def as_sent(
    replies: Sequence[Parameters], current: np.ndarray, round_number: int
) -> Sequence[Parameters | None]:
    """Let everything arrive that hospitals have trained."""
    return replies


def play(
    parts: Sequence[Part],
    aggregator: Aggregator,
    classes: int,
    arrive: Arrive = as_sent,
) -> list[np.ndarray]:
    """Return the server's weights float32[F + 1, C] before the first round and after each."""
    current = {"head": np.zeros((parts[0][0].shape[1] + 1, classes), dtype=np.float32)}
    state, seen = begin(aggregator, current), [current["head"]]
    for number in range(1, ROUNDS + 1):
        trained = [{"head": descend(current["head"], *part)} for part in parts]
        replies = arrive(trained, current["head"], number)
        kept = [
            (reply, len(part[1])) for reply, part in zip(replies, parts, strict=True) if reply is not None
        ]
        current, state = aggregate(
            aggregator, current, [reply for reply, _ in kept], [count for _, count in kept], state
        )
        seen.append(current["head"])
    return seen


def descend(weights: np.ndarray, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the weights after `STEPS` steps of gradient descent on the mean cross-entropy of all rows."""
    inputs, wanted = with_one(features), np.eye(weights.shape[1], dtype=np.float32)[labels]
    for _ in range(STEPS):
        weights = step(weights, inputs, wanted, RATE)
    return weights


def explore(
    cells: DrawnCells,
    deal: Deal,
    stain: float,
    aggregator: Aggregator,
    places: Sequence[str],
    *,
    seeds: Sequence[int] = SEEDS,
    report: Report = lambda done: None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Let hospitals train together, alone, and with all cells in one place, once a seed.

    Parameters
    ----------
    cells
        What is dealt. All settings share the training cells: more hospitals have fewer each.
    deal
        Who holds which.
    stain
        How far the laboratories' stains lie apart, see `hemafl_lib.partition.draw_stain`.
    aggregator
        Of the federation.
    places
        Whose cells the models are judged on.
    seeds
        Of the repetitions.
    report
        Called after every seed with the number of those that are done.
    stop
        Set it from another thread to end with `hemafl_lib.errors.Stopped`.
    """
    tasks = [Task(cells, deal, stain, tuple(places), seed) for seed in seeds]
    return compare(tasks, lambda task: train_together(task, aggregator), report=report, stop=stop)


def compare(
    tasks: Sequence[Task],
    together: Callable[[Task], pd.DataFrame],
    *,
    report: Report = lambda done: None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Sum up what ``together`` returns of each task, accuracies by round and place, and what is `beside`.

    ``report`` and ``stop`` are as in `explore`.
    """

    def once(number: int) -> pd.DataFrame:
        found = long({FEDERATED: together(tasks[number])})
        return pd.concat([found, beside(tasks[number])], ignore_index=True)

    done = list(repeated(len(tasks), once, report, lambda: stop is not None and stop.is_set()))
    curves = summarise(pd.concat(done), ["place", "model", "round"])
    return Outcome(curves, float(np.mean([unlike(task) for task in tasks])))


def train_together(task: Task, aggregator: Aggregator) -> pd.DataFrame:
    """Return what a federation reaches, by round and place."""
    parts = [task.part(one) for one in task.hospitals()]
    return follow(task, play(parts, aggregator, len(task.cells.classes)))


def follow(task: Task, heads: Sequence[np.ndarray]) -> pd.DataFrame:
    """Return the accuracies of the heads of all rounds, by round and place."""
    return task.tell(pd.DataFrame([task.judge_head(head) for head in heads]))


def long(by_model: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return accuracies by round and place of each model as rows ``place, model, round, value``."""
    parts = [
        table.rename_axis("round").reset_index().melt("round", var_name="place").assign(model=model)
        for model, table in by_model.items()
    ]
    return pd.concat(parts, ignore_index=True)


# What a federation is compared with; no aggregator has a say in it


@functools.lru_cache(maxsize=4 * len(SEEDS))
def beside(task: Task) -> pd.DataFrame:
    """Return the accuracies of the other models, as `long` does."""
    return long(
        {
            ALONE: train_alone(task),
            CENTRALISED: train_in_one_place(task),
            COLOUR: level(task, judge_colours(task)),
            COMMONEST: level(task, judge_commonest(task)),
        }
    )


def train_alone(task: Task) -> pd.DataFrame:
    """Return what hospitals reach alone, each on its own test; of the other tests their mean."""
    found = {}
    for one in task.hospitals():
        heads = play([task.part(one)], FedAvg(), len(task.cells.classes))
        found[one.name] = pd.DataFrame([task.judge_head(head) for head in heads])
    own = {name: accuracy[name] for name, accuracy in found.items()}
    shared = {
        place: sum(each[place] for each in found.values()) / len(found) for place in task.laboratories()
    }
    return task.tell(pd.DataFrame(own | shared))


def train_in_one_place(task: Task) -> pd.DataFrame:
    """Return what one head reaches that is trained on all hospitals' cells."""
    features, labels = zip(*(task.part(one) for one in task.hospitals()), strict=True)
    pooled = (np.concatenate(features), np.concatenate(labels))
    return follow(task, play([pooled], FedAvg(), len(task.cells.classes)))


def judge_colours(task: Task) -> dict[str, float]:
    """Return the accuracies of colours alone."""
    cells, stain, hospitals = task.cells, task.stain, task.hospitals()
    train, test = cells.split()
    seen = np.concatenate([cells.colours(stain, one.laboratory)[0][one.train] for one in hospitals])
    known = np.concatenate([train.labels.numpy()[one.train] for one in hospitals])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(seen, known)
    labels = test.labels.numpy()
    return task.judge(lambda number: model.predict(cells.colours(stain, number)[1]) == labels)


def judge_commonest(task: Task) -> dict[str, float]:
    """Return the accuracies of answering with each hospital's own commonest class."""
    train, test = task.cells.split()
    said = {one.name: int(train.take(one.train).counts().argmax()) for one in task.hospitals()}
    right = {name: test.labels.numpy() == kind for name, kind in said.items()}
    own = {one.name: float(right[one.name][one.test].mean()) for one in task.hospitals()}
    others = float(np.mean([each.mean() for each in right.values()]))
    return own | dict.fromkeys(task.laboratories(), others)


def level(task: Task, accuracy: Mapping[str, float]) -> pd.DataFrame:
    """Return a model that does not learn by rounds as a level line, at the first and the last round."""
    return task.tell(pd.DataFrame([accuracy, accuracy], index=[0, ROUNDS]))


def unlike(task: Task) -> float:
    """Return the mean total variation between the mixes of classes of two hospitals."""
    train, _ = task.cells.split()
    mixes = [train.take(one.train).counts() / len(one.train) for one in task.hospitals()]
    return float(np.mean([total_variation(*pair) for pair in itertools.combinations(mixes, 2)]))


@functools.lru_cache(maxsize=4 * len(SEEDS))
def _dealt(deal: Deal, cells: DrawnCells, seed: int) -> list[Hospital]:
    return deal.hospitals(cells, seed)


# The recording


def sweep(
    title: str,
    cells: DrawnCells,
    controls: Mapping[str, Sequence[Any]],
    choices: Mapping[str, Aggregator],
    places: Sequence[str],
    explore: Callable[..., Outcome],
) -> Sweep[Outcome]:
    """Return the settings of an explorer whose last two controls are the stain and the aggregator.

    The controls before say who holds which cells; ``places`` are those that are recorded.
    """
    *dealt, stain, _ = controls
    return Sweep(
        title=title,
        controls=controls,
        explore=explore,
        tables={
            FEDERATED_TABLE: tuple(controls),
            BESIDE_TABLE: (*dealt, stain),
            UNLIKE_TABLE: tuple(dealt),
        },
        to_rows=to_rows,
        from_rows=from_rows,
        protocol=lambda: {
            **setup(cells),
            "controls": {name: list(values) for name, values in controls.items()},
            "aggregators": {name: repr(aggregator) for name, aggregator in choices.items()},
            "places": list(places),
        },
        data=lambda: [cells.provenance],
        seeds=SEEDS,
    )


def setup(cells: DrawnCells) -> dict:
    """Return what all explorers with heads share, as plain JSON values."""
    return {
        **cells.setup(),
        "head": "softmax regression on scaled features, full batches",
        "rounds": ROUNDS,
        "steps in a round": STEPS,
        "learning rate": RATE,
        "quantiles": list(BETWEEN),
    }


def to_rows(found: Outcome) -> dict[str, pd.DataFrame]:
    """Return the rows of a recording, rounded to thousandths."""
    curves = found.curves.round(3)
    together = curves["model"] == FEDERATED
    return {
        FEDERATED_TABLE: curves[together].drop(columns="model"),
        BESIDE_TABLE: curves[~together],
        UNLIKE_TABLE: pd.DataFrame([{"unlike": round(found.unlike, 3)}]),
    }


def from_rows(rows: Mapping[str, pd.DataFrame]) -> Outcome:
    """Return the outcome that these rows hold."""
    parts = [rows[FEDERATED_TABLE].assign(model=FEDERATED), rows[BESIDE_TABLE]]
    columns = ["place", "model", "round", "mean", "low", "high"]
    curves = pd.concat([part[columns] for part in parts], ignore_index=True)
    return Outcome(curves, float(rows[UNLIKE_TABLE]["unlike"].iloc[0]))
