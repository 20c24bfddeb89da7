"""How time and memory grow with the clients."""

import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from benchmarks.jobs import image_work
from benchmarks.timing import Report, at_most, machine


def measure(*, few: int = 100, many: int = 1000, images: int = 8, size: int = 64, rounds: int = 2) -> Report:
    """Measure seconds and peak memory for few and for many clients, each in a fresh process."""
    before = machine()
    runs = [in_fresh_process(run_once, clients, images, size, rounds) for clients in (few, many)]
    growth = (runs[1]["seconds"] / many) / (runs[0]["seconds"] / few)
    return {
        "machine": before,
        "load average after": machine()["load average"],
        "job": {"images": images, "size": size, "rounds": rounds},
        "runs": runs,
        "targets": {
            "peak GB of many": at_most(runs[1]["peak GB"], 1.5),
            "seconds a client, many / few": at_most(growth, 1.2),
        },
    }


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process, whose memory nothing else has grown."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def run_once(clients: int, images: int, size: int, rounds: int) -> Report:
    """Run one job in this process; return its seconds and the process's peak memory."""
    import resource  # exists on Unix only

    work = image_work(clients, images, size, rounds)
    began = time.perf_counter()
    work.run()
    seconds = time.perf_counter() - began
    unit = 1 if platform.system() == "Darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"clients": clients, "seconds": round(seconds, 3), "peak GB": round(peak / 1e9, 4)}
