"""What the explorer of chapter 1 varies: hospitals, label skew, their stains, the aggregator."""

import threading

from hemafl_book.explorers import heads
from hemafl_book.explorers.drawn_cells import DrawnCells
from hemafl_book.explorers.heads import LabelSkew, Outcome, Report
from hemafl_lib.aggregation import by_name
from hemafl_lib.data import smear

CELLS = DrawnCells(smear.FOUR, count=700, patients=40, test_share=0.45, seed=1)
"""White cells of the four kinds that every public collection has."""

CHOICES = {
    **{name: by_name(name) for name in ("FedAvg", "FedMedian")},
    "FedOpt": by_name("FedAdam", learning_rate=0.1),  # the paper's word: Adam as the server's optimiser
}
"""The aggregators to choose from, by what the page calls them."""

CONTROLS = {
    "hospitals": (2, 5, 10),
    "alpha": (0.1, 1.0, 10.0),
    "stain": (0.0, 1.0),
    "aggregator": tuple(CHOICES),
}
"""The settings that are recorded, by the argument of `explore`."""

PLACES = (heads.OWN, heads.UNSEEN)
"""Whose cells a reader may have the models judged on."""


def explore(
    hospitals: int,
    alpha: float,
    stain: float,
    aggregator: str,
    *,
    report: Report = lambda done: None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Follow a federation of one setting over ten seeds, as `heads.explore` does; ``aggregator`` is a key."""
    skew = LabelSkew(hospitals, alpha)
    return heads.explore(CELLS, skew, stain, CHOICES[aggregator], PLACES, report=report, stop=stop)


SWEEP = heads.sweep(
    "Hospitals, label skew, their stains and the aggregator", CELLS, CONTROLS, CHOICES, PLACES, explore
)
