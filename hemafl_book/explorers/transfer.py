"""What the federation explorer of chapter 3 varies: hospitals, a small one, their stains and the aggregator.

As in the chapter, a network that was trained on everyday photographs stays frozen, and hospitals train what
comes after it. One of them has very few images. Does it gain by training together, and do the others lose?
"""

import threading

from hemafl_book.explorers import heads
from hemafl_book.explorers.heads import OneSmall, Outcome, Report
from hemafl_book.explorers.leukaemia import CELLS
from hemafl_lib.aggregation import by_name

CHOICES = {
    "FedAvg": by_name("FedAvg"),
    "FedAvg, equal weights": by_name("FedAvg", equal_weights=True),
    "FedMedian": by_name("FedMedian"),
}
"""The aggregators to choose from."""

CONTROLS = {
    "hospitals": (3, 6),
    "smallest": (0.1, 0.02),
    "stain": (0.0, 1.0),
    "aggregator": tuple(CHOICES),
}
"""The settings that are recorded, by the argument of `explore`."""

PLACES = (heads.SMALLEST, heads.LARGEST)
"""Whose cells a reader may have the models judged on."""


def explore(
    hospitals: int,
    smallest: float,
    stain: float,
    aggregator: str,
    *,
    report: Report = lambda done: None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Follow a federation of one setting over ten seeds, as `heads.explore` does; ``aggregator`` is a key."""
    sizes = OneSmall(hospitals, smallest)
    return heads.explore(CELLS, sizes, stain, CHOICES[aggregator], PLACES, report=report, stop=stop)


SWEEP = heads.sweep(
    "Hospitals, a small one, their stains and the aggregator", CELLS, CONTROLS, CHOICES, PLACES, explore
)
