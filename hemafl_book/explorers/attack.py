"""What the attack explorer of chapter 2 varies: what corrupted clients do, and who withstands them.

The cells and the head are those of the federation explorer, with little label skew and no stain shift, so
that what is to be seen comes from the corruption. Ten seeds, each with a deal of its own.
"""

import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from hemafl_book.explorers import heads
from hemafl_book.explorers.corruption import CORRUPTIONS, Corruption
from hemafl_book.explorers.drawn_cells import DrawnCells, Hospital
from hemafl_book.explorers.heads import SEEDS, LabelSkew, Outcome, Part, Report, Task
from hemafl_book.explorers.leukaemia import CELLS
from hemafl_book.explorers.sweep import Sweep
from hemafl_lib.aggregation import Aggregator, Parameters, by_name
from hemafl_lib.federation.mods import UpdateMod
from hemafl_lib.federation.replies import norm_limit, update_norm

ALPHA, STAIN = 10.0, 0.0
IMPLAUSIBLE = 1000.0
"""How many times the median an update may be long before the server refuses it, as in `federation.run`."""

CHOICES = {
    each.name: each
    for each in (
        by_name("FedAvg"),
        by_name("FedMedian"),
        by_name("FedTrimmedMean", trim=0.2),
        by_name("Krum", malicious=1),
    )
}
"""The aggregators to choose from."""

CONTROLS = {
    "clients": (5, 10),
    "corrupted": (0, 1, 2),
    "corruption": tuple(CORRUPTIONS),
    "aggregator": tuple(CHOICES),
}
"""The settings that are recorded, by the argument of `explore`."""

PLACES = (heads.SHARED, heads.WORST)
"""Whose cells a reader may have the models judged on; of own patients, those of honest clients."""

REFUSED_TABLE = "refused"
"""The title of the recording's table of refused replies."""


@dataclass(frozen=True)
class Attacked(Outcome):
    """What becomes of a setting; ``refused`` counts the replies of a run that the server did not use."""

    refused: float = field(kw_only=True)


@dataclass(frozen=True)
class Honest(LabelSkew):
    """The hospitals of `LabelSkew` without the first ``corrupted``, who are none to be judged on."""

    corrupted: int

    def hospitals(self, cells: DrawnCells, seed: int) -> list[Hospital]:
        """Deal the training cells to all hospitals; return the honest ones."""
        return super().hospitals(cells, seed)[self.corrupted :]


def explore(
    clients: int,
    corrupted: int,
    corruption: str,
    aggregator: str,
    *,
    report: Report = lambda done: None,
    stop: threading.Event | None = None,
) -> Attacked:
    """Train a federation some of whose clients are corrupted, beside what honest ones reach without them.

    Parameters
    ----------
    clients
        Number of clients.
    corrupted
        How many of them are corrupted, from the first on.
    corruption
        A key of `hemafl_book.explorers.corruption.CORRUPTIONS`.
    aggregator
        A key of `CHOICES`. Krum is told to expect one corrupted client.
    report
        Called after every seed with the number of those that are done.
    stop
        Set it from another thread to end with `hemafl_lib.errors.Stopped`.

    Returns
    -------
    Attacked
        "federated" is the attacked federation; the other models see cells of honest clients only. The test
        cells carry the right labels.
    """
    tasks = [Task(CELLS, Honest(clients, ALPHA, corrupted), STAIN, PLACES, seed) for seed in SEEDS]
    kind = corruption if corrupted else next(iter(CORRUPTIONS))  # what nobody does makes no difference
    refused = []

    def together(task: Task) -> pd.DataFrame:
        curves, count = _attacked(task, clients, corrupted, kind, aggregator)
        refused.append(count)
        return curves

    found = heads.compare(tasks, together, report=report, stop=stop)
    return Attacked(found.curves, found.unlike, refused=float(np.mean(refused)))


@functools.lru_cache(maxsize=16 * len(SEEDS))
def _attacked(
    task: Task, clients: int, corrupted: int, corruption: str, aggregator: str
) -> tuple[pd.DataFrame, int]:
    """Return the accuracies of an attacked federation by round and place, and how many replies it refused."""
    attack = Attack(CORRUPTIONS[corruption], corrupted, task.seed)
    played = attack.play(parts_of(task, clients), CHOICES[aggregator])
    return heads.follow(task, played), attack.refused


def parts_of(task: Task, clients: int) -> list[Part]:
    """Return what all clients train on while they are honest; those who will not be come first."""
    return [task.part(one) for one in LabelSkew(clients, ALPHA).hospitals(task.cells, task.seed)]


@dataclass
class Attack:
    """What the first clients do to a run; ``refused`` counts the replies that the server does not use."""

    kind: Corruption
    corrupted: int
    seed: int
    refused: int = 0

    def play(self, parts: Sequence[Part], aggregator: Aggregator) -> list[np.ndarray]:
        """Return the server's weights before the first round and after each, as `heads.play` does."""
        classes = len(CELLS.classes)
        wrong = [
            (features, self.kind.labels(labels, classes)) for features, labels in parts[: self.corrupted]
        ]
        return heads.play([*wrong, *parts[self.corrupted :]], aggregator, classes, self.arrive)

    def arrive(
        self, replies: Sequence[Parameters], current: np.ndarray, round_number: int
    ) -> list[Parameters | None]:
        """Return the replies as they are sent; None for those that the server refuses as implausibly long."""
        sent = list(replies)
        for number in range(self.corrupted):
            for mod in self.kind.mods(tuple(range(self.corrupted)), self.seed):
                sent[number] = changed(mod, sent[number], current, number, round_number)
        norms = [update_norm(reply, {"head": current}) for reply in sent]
        limit = norm_limit(norms, {"head": current}, IMPLAUSIBLE)
        self.refused += sum(norm > limit for norm in norms)
        return [reply if norm <= limit else None for reply, norm in zip(sent, norms, strict=True)]


def changed(
    mod: UpdateMod, reply: Parameters, current: np.ndarray, number: int, round_number: int
) -> Parameters:
    """Return what a mod makes of a client's reply."""
    update = mod.change({"head": reply["head"] - current.astype(np.float64)}, number, round_number)
    return {"head": (current + update["head"]).astype(current.dtype)}


def to_rows(found: Attacked) -> dict[str, pd.DataFrame]:
    """Return the rows of a recording, rounded to thousandths."""
    return {**heads.to_rows(found), REFUSED_TABLE: pd.DataFrame([{"refused": found.refused}])}


def from_rows(rows: Mapping[str, pd.DataFrame]) -> Attacked:
    """Return the outcome that these rows hold."""
    found = heads.from_rows(rows)
    refused = float(rows[REFUSED_TABLE]["refused"].iloc[0])
    return Attacked(found.curves, found.unlike, refused=refused)


def refusals(found: Attacked) -> str:
    """Return a sentence on refused replies, or nothing."""
    return f" The server refused {found.refused:g} replies in each run." if found.refused else ""


def protocol() -> dict:
    """Return what decides the recorded numbers, as plain JSON values."""
    return {
        **heads.setup(CELLS),
        "alpha": ALPHA,
        "stain": STAIN,
        "implausible": IMPLAUSIBLE,
        "controls": {name: list(values) for name, values in CONTROLS.items()},
        "aggregators": {name: repr(aggregator) for name, aggregator in CHOICES.items()},
        "places": list(PLACES),
    }


SWEEP = Sweep(
    title="What corrupted clients do, and which aggregator withstands them",
    controls=CONTROLS,
    explore=explore,
    tables={
        heads.FEDERATED_TABLE: tuple(CONTROLS),
        heads.BESIDE_TABLE: ("clients", "corrupted"),
        heads.UNLIKE_TABLE: ("clients", "corrupted"),
        REFUSED_TABLE: tuple(CONTROLS),
    },
    to_rows=to_rows,
    from_rows=from_rows,
    protocol=protocol,
    data=lambda: [CELLS.provenance],
    seeds=SEEDS,
)
