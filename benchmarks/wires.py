"""What secure aggregation and compression cost: bytes and seconds of a round beside the plain one's."""

import statistics
import time
from typing import Any

from benchmarks.jobs import Work, image_work
from benchmarks.timing import Report, Timing, at_most, in_turn, machine
from hemafl_lib.aggregation import Parameters
from hemafl_lib.federation import Quantise, TopK, Wire, run, run_over
from hemafl_lib.secure import SecureAggregation

PLAIN, SECURE = "plain", "secure aggregation"

WIRES: dict[str, Wire | None] = {
    PLAIN: None,
    SECURE: SecureAggregation(),
    "8 bits": Quantise(),
    "top 5 %": TopK(share=0.05),
}


def measure(
    *,
    few: int = 3,
    some: int = 10,
    many: int = 50,
    images: int = 32,
    size: int = 64,
    rounds: int = 2,
    repetitions: int = 3,
) -> Report:
    """Measure a round of the attention CNN with and without secure aggregation and compression.

    Parameters
    ----------
    few, some, many
        Numbers of hospitals.
    images, size, rounds
        Each hospital has ``images`` of ``size`` pixels.
    repetitions
        How often each variant runs, in turn with the others.
    """
    before = machine()
    image_work(1, images, size, 1).run()  # untimed: what a process does once would be the first variant's
    rows = [
        row
        for count in (few, some, many)
        for row in compare(image_work(count, images, size, rounds), repetitions)
    ]
    ten = next(row for row in rows if (row["hospitals"], row["wire"]) == (some, SECURE))
    return {
        "machine": before,
        "load average after": machine()["load average"],
        "job": {"images": images, "size": size, "rounds": rounds, "repetitions": repetitions},
        "runs": rows,
        "targets": {f"{some} hospitals: secure / plain, CPU": at_most(ten["CPU ratio"], 1.2)},
    }


def compare(work: Work, repetitions: int) -> list[Report]:
    """Return a row for each wire: its bytes and seconds as ratios to the plain round's.

    Seconds on the clock depend on whatever else the machine does, seconds of the CPU hardly. All hospitals
    and the server share this process's, while in a federation each has a machine.
    """
    runs = {name: Measured(work, wire) for name, wire in WIRES.items()}
    timings, _ = in_turn({name: measured.once for name, measured in runs.items()}, repetitions)
    return [row(name, measured, runs[PLAIN], timings) for name, measured in runs.items()]


class Measured:
    """A way to do the work, with the bytes and the CPU seconds of each time."""

    def __init__(self, work: Work, wire: Wire | None) -> None:
        self.work, self.wire = work, wire
        self.bytes_sent = 0
        self.cpu: list[float] = []

    def once(self) -> Parameters:
        """Do the work; return the global arrays."""
        work, began = self.work, time.process_time()
        settings: dict[str, Any] = {
            "recipe": work.recipe,
            "rounds": work.rounds,
            "evaluate": False,
            "progress": False,
        }
        if self.wire is None:
            done = run(work.sites, model=work.model, **settings)
        else:
            done = run_over(self.wire, work.sites, model=work.model, **settings)
        self.cpu.append(time.process_time() - began)
        self.bytes_sent = done.bytes_sent
        return done.parameters


def row(name: str, measured: Measured, plain: Measured, timings: dict[str, Timing]) -> Report:
    """Return what one way costs; a ratio is the median of those to the plain round beside it."""
    hospitals, rounds = len(measured.work.sites), measured.work.rounds
    extra = statistics.median(measured.cpu) - statistics.median(plain.cpu)
    return {
        "hospitals": hospitals,
        "wire": name,
        "ms a round": round(1000 * timings[name].median / rounds, 1),
        "ratio": median_ratio(timings[name].seconds, timings[PLAIN].seconds),
        "CPU ratio": median_ratio(measured.cpu, plain.cpu),
        "more CPU ms a hospital": round(1000 * extra / rounds / hospitals, 1),
        "bytes ratio": round(measured.bytes_sent / plain.bytes_sent, 3),
    }


def median_ratio(values: list[float], base: list[float]) -> float:
    """Return the median of the ratios of values to those beside them."""
    return round(statistics.median(a / b for a, b in zip(values, base, strict=True)), 3)
