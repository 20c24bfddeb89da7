"""Variants in turn, their medians and ratios, and how busy the machine was meanwhile."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from hemafl_lib.aggregation import Parameters
from hemafl_lib.federation import parameter_hash
from hemafl_lib.parallel import cores
from hemafl_lib.progress import bar

Report = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition of one variant, the load before each, and the arrays that it ended with."""

    seconds: list[float]
    loads: list[float]
    parameters: Parameters

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.seconds)


def in_turn(
    work: Mapping[str, Callable[[], Parameters]],
    repetitions: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[str, Timing], dict[str, str]]:
    """Time every variant ``repetitions`` times, one after the other in turn.

    By default the seconds are those that pass. Of work in one thread of this process `time.process_time` is
    fairer: a neighbour that keeps the cores busy hardly changes it.

    Returns the timings, and why a variant was skipped: a package that it needs is not installed.
    """
    timings: dict[str, Timing] = {}
    skipped: dict[str, str] = {}
    threads = torch.get_num_threads()
    for name in bar(list(work) * repetitions, desc="bench"):
        if name in skipped:
            continue
        load, began = load_average(), clock()
        try:
            parameters = work[name]()
            earlier = timings.get(name, Timing([], [], parameters))
            seconds = [*earlier.seconds, clock() - began]
            timings[name] = Timing(seconds, [*earlier.loads, load], parameters)
        except ImportError as error:
            skipped[name] = f"a package is missing: {error}"
        finally:
            torch.set_num_threads(threads)
    return timings, skipped


def fastest(timings: dict[str, Timing], names: Collection[str]) -> str:
    """Return the name of the variant with the smallest median."""
    return min(names, key=lambda name: timings[name].median)


def largest_difference(left: Parameters, right: Parameters) -> float:
    """Return the largest absolute difference between two models' arrays, counters left out."""
    names = [name for name in left if np.issubdtype(left[name].dtype, np.floating)]
    return max(float(np.max(np.abs(left[name] - right[name]))) for name in names)


def timing_table(timings: dict[str, Timing], reference: str) -> Report:
    """Return each variant's seconds, loads, median, ratio to the reference and distance from its result."""
    base = timings[reference]
    return {
        name: {
            "seconds": [round(value, 4) for value in timing.seconds],
            "loads": timing.loads,
            "median": round(timing.median, 4),
            "load": round(statistics.median(timing.loads), 2),
            f"ratio to {reference}": round(timing.median / base.median, 4),
            "hash": parameter_hash(timing.parameters),
            f"largest difference from {reference}": largest_difference(timing.parameters, base.parameters),
        }
        for name, timing in timings.items()
    }


def at_most(value: float, limit: float) -> Report:
    """Return a value beside the limit that it should not exceed."""
    return {"value": round(value, 4), "at most": limit, "met": bool(value <= limit)}


def at_least(value: float, limit: float) -> Report:
    """Return a value beside the limit that it should reach."""
    return {"value": round(value, 4), "at least": limit, "met": bool(value >= limit)}


def load_average() -> float:
    """Return how many programs wanted a core in the last minute; NaN where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else float("nan")


def machine() -> Report:
    """Return what the numbers depend on: cores, versions, and the load that other programs make."""
    return {
        "cores": cores(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "flwr": version("flwr"),
        "load average": load_average(),
    }
