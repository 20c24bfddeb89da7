"""Nodes as programs over TLS on this machine: how soon all are there, and what secure aggregation adds."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil

from benchmarks.jobs import Work, image_work
from benchmarks.timing import Report, Timing, at_most, in_turn, machine
from hemafl_lib import federation
from hemafl_lib.aggregation import Parameters
from hemafl_lib.secure import SecureAggregation

PLAIN, SECURE = "plain", "secure aggregation"


def measure(
    *, nodes: int = 10, images: int = 32, size: int = 64, rounds: int = 5, repetitions: int = 3
) -> Report:
    """Start SuperNodes and train the attention CNN over TLS, in turn with secure aggregation and without.

    A round is judged by the median of all but the first, in which the nodes' programs still load PyTorch.

    Parameters
    ----------
    nodes
        SuperNodes, each with a program of its own beside it that trains.
    images, size
        Each node has ``images`` of ``size`` pixels: few, so that the messages are what takes time.
    rounds
        Of each run; at least two.
    repetitions
        How often each of the two ways runs, in turn.
    """
    before, work = machine(), image_work(nodes, images, size, max(2, rounds))
    watched = {PLAIN: Watched(work, federation.run), SECURE: Watched(work, over_masks)}
    timings, _ = in_turn({name: each.once for name, each in watched.items()}, repetitions)
    rows = [row(name, each, timings[name]) for name, each in watched.items()]
    plain, secure = (row["s a round"] for row in rows)
    start = statistics.median(seconds for each in watched.values() for seconds in each.starts)
    return {
        "machine": before,
        "load average after": machine()["load average"],
        "job": {"nodes": nodes, "images": images, "size": size, "rounds": work.rounds},
        "runs": rows,
        "targets": {
            f"{nodes} nodes: s until the first round": at_most(start, 30.0),
            f"{nodes} nodes: a round, secure / plain": at_most(secure / plain, 1.2),
            f"{nodes} nodes: CPU of a round, secure / plain": at_most(
                rows[1]["CPU s a round"] / rows[0]["CPU s a round"], 1.2
            ),
        },
    }


def over_masks(sites: Any, **settings: Any) -> federation.Run:
    """Run as `federation.run` does, with secure aggregation."""
    return federation.run_over(SecureAggregation(), sites, **settings)


@dataclass
class Watched:
    """One way to train: when its rounds ended, and the CPU seconds of all programs by then.

    ``starts`` are the seconds from the call to the first round, ``rounds`` and ``cpu`` those of each later
    round but the first.
    """

    work: Work
    run: Callable[..., federation.Run]
    starts: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def once(self) -> Parameters:
        """Do the work; return the global arrays."""
        work, began = self.work, time.perf_counter()
        ends: list[tuple[float, float]] = []
        done = self.run(
            work.sites,
            model=work.model,
            recipe=work.recipe,
            rounds=work.rounds,
            evaluate=False,
            progress=False,
            engine="deployment",
            report=lambda history: ends.append((time.perf_counter(), cpu_of_all())),
        )
        self.starts.append(ends[0][0] - began)
        seconds, cpu = np.diff(np.array(ends[1:]), axis=0).T.tolist()
        self.rounds += seconds
        self.cpu += cpu
        return done.parameters


def cpu_of_all() -> float:
    """Return the CPU seconds so far of this process and the programs that it runs."""
    here = psutil.Process()
    times = [each.cpu_times() for each in (here, *here.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def row(name: str, watched: Watched, timing: Timing) -> Report:
    """Return what one way takes: medians over runs and rounds."""
    return {
        "way": name,
        "s until the first round": round(statistics.median(watched.starts), 1),
        "s a round": round(statistics.median(watched.rounds), 2),
        "CPU s a round": round(statistics.median(watched.cpu), 2),
        "load": round(statistics.median(timing.loads), 2),
    }
