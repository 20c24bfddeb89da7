"""What the federation explorer of chapter 2 varies: hospitals, label skew, stain shift and the aggregator."""

import threading

from hemafl_book.explorers import heads
from hemafl_book.explorers.heads import LabelSkew, Outcome, Report
from hemafl_book.explorers.leukaemia import CELLS
from hemafl_lib.aggregation import by_name

CHOICES = {
    each.name: each for each in (by_name("FedAvg"), by_name("FedMedian"), by_name("FedAvgM", momentum=0.7))
}
"""The aggregators to choose from."""

CONTROLS = {
    "hospitals": (2, 5, 10),
    "alpha": (0.1, 1.0, 10.0),
    "stain": (0.0, 1.0),
    "aggregator": tuple(CHOICES),
}
"""The settings that are recorded, by the argument of `explore`."""

PLACES = (heads.SHARED, heads.OWN, heads.WORST)
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
    "Hospitals, label skew, stain shift and the aggregator", CELLS, CONTROLS, CHOICES, PLACES, explore
)
