"""All frozen results in one go: what is stale, file by file, and what was interrupted goes on.

Each result keeps its finished pieces, a study with a seed or a setting of an explorer, in a folder of its own
until its file is written. A result that fails is told at the end and does not stop the others. Several are
computed at a time, each in a process on a core of its own: threads of one process would wait for each other.
"""

import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hemafl_book.frozen.status import Status, all_statuses
from hemafl_book.frozen.subjects import Subject
from hemafl_book.papers.kept import checksum
from hemafl_book.papers.where import Where
from hemafl_lib.errors import quote
from hemafl_lib.files import check_folder
from hemafl_lib.parallel import cores

PIECES = Path("build/results")
"""The folder of unfinished results."""


@dataclass(frozen=True)
class Job:
    """A result to compute, and the seconds that it took the last time, 0 if it never did."""

    subject: Subject
    seconds: float


def make(
    subjects: Sequence[Subject],
    folder: Path,
    where: Where,
    say: Callable[[str], object],
    pool: Executor,
    *,
    everything: bool = False,
    at_a_time: int = 1,
    pieces: Path = PIECES,
) -> list[str]:
    """Compute the stale results of ``subjects`` into ``folder``, or ``everything``; return those that failed.

    ``pool`` computes ``at_a_time`` of them at a time, the longest first; see `processes`. After Ctrl-C the
    same call goes on. Raises `DataError` if the folder cannot be written.
    """
    check_folder(folder)
    statuses = all_statuses(subjects, folder, where.root)
    wanted = jobs(subjects, statuses, everything)
    unsure = [one.name for one in statuses if one.state == "not confirmed"]
    if unsure and not everything:
        say(f"Not confirmed and left as they are: {', '.join(unsure)}; see `hemafl results confirm`.")
    say(f"{len(wanted)} to compute, {at_a_time} at a time; {estimate(wanted, at_a_time)}.")
    failed = []
    tasks = {pool.submit(compute, job.subject, folder, where, pieces): job for job in wanted}
    try:
        for number, task in enumerate(as_completed(tasks), start=1):
            job = tasks.pop(task)
            left = f"{number} of {len(wanted)}; {estimate([*tasks.values()], at_a_time)}"
            if error := task.exception():
                if not isinstance(error, Exception):
                    raise error
                failed.append(job.subject.name)
                say(f"{job.subject.name} FAILED: {type(error).__name__}: {quote(str(error))}. {left}.")
            else:
                say(f"{job.subject.name} is computed, {left}.")
    except KeyboardInterrupt:
        pool.shutdown(cancel_futures=True)
        say(f"Stopped; what is finished is in {pieces}, and the same command goes on from there.")
        raise
    say(f"{len(wanted) - len(failed)} of {len(wanted)} results were computed into {folder}.")
    return failed


def jobs(subjects: Sequence[Subject], statuses: Sequence[Status], everything: bool) -> list[Job]:
    """Return what has to be computed: what was never timed, then the longest."""
    wanted = [
        Job(subject, status.seconds)
        for subject, status in zip(subjects, statuses, strict=True)
        if everything or status.state == "stale"
    ]
    return sorted(wanted, key=lambda job: (job.seconds > 0, -job.seconds))


def estimate(left: Sequence[Job], at_a_time: int) -> str:
    """Return about how long results will take by the seconds of the last time."""
    seconds = [job.seconds for job in left]
    unknown = seconds.count(0)
    more = f", and {unknown} that were never timed" if unknown else ""
    return f"about {max(sum(seconds) / at_a_time, *seconds, 0, 0) / 60:.0f} minutes to go{more}"


def processes(count: int | None = None) -> ProcessPoolExecutor:
    """Return a pool of ``count`` processes (default: cores), each of which keeps to one core."""
    fresh = multiprocessing.get_context("spawn")
    places = fresh.Queue()
    for core in usable_cores(count or cores()):
        places.put(core)
    return ProcessPoolExecutor(
        count or cores(), mp_context=fresh, initializer=keep_to_one_core, initargs=(places,)
    )


def usable_cores(count: int) -> list[int]:
    """Return the core of each of ``count`` processes: in turn those that this process may use."""
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    return [mine[number % len(mine)] for number in range(count)]


def keep_to_one_core(places: Any) -> None:
    """Let this process use the next core of a queue only, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {places.get()})


def compute(subject: Subject, folder: Path, where: Where, pieces: Path) -> None:
    """Compute one result; its finished pieces stay until its file is written."""
    key = checksum({"protocol": subject.protocol(), "code": subject.code()})
    kept = pieces / f"{subject.name}-{key[:12]}"
    here = replace(where, checkpoint=kept, progress=False)
    subject.compute(subject.path(folder), here, partial(tell, subject.name))
    shutil.rmtree(kept)


def tell(name: str, line: str) -> None:
    """Print what a result says while it is computed, each line behind the name of the result."""
    for part in line.splitlines():
        print(f"{name}: {part}", flush=True)
