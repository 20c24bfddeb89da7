"""All frozen results in one go: what is stale, file by file, and what was interrupted goes on.

Each result keeps its finished pieces, a study with a seed or a setting of an explorer, in a folder of its own
until its file is written. A result that fails is told at the end and does not stop the others.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hemafl_book.frozen.status import Status, all_statuses
from hemafl_book.frozen.subjects import Subject
from hemafl_book.papers.kept import checksum
from hemafl_book.papers.where import Where
from hemafl_lib.errors import quote
from hemafl_lib.files import check_folder

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
    *,
    everything: bool = False,
    pieces: Path = PIECES,
) -> list[str]:
    """Compute the stale results of ``subjects`` into ``folder``, or ``everything``; return those that failed.

    After Ctrl-C the same call goes on. Raises `DataError` if the folder cannot be written.
    """
    check_folder(folder)
    statuses = all_statuses(subjects, folder, where.root)
    wanted = jobs(subjects, statuses, everything)
    unsure = [one.name for one in statuses if one.state == "not confirmed"]
    if unsure and not everything:
        say(f"Not confirmed and left as they are: {', '.join(unsure)}; see `hemafl results confirm`.")
    failed = []
    for number, job in enumerate(wanted):
        say(progress(number, wanted))
        try:
            compute(job.subject, folder, where, say, pieces)
        except KeyboardInterrupt:
            say(f"Stopped; what is finished is in {pieces}, and the same command goes on from there.")
            raise
        except Exception as error:  # whatever is wrong with one result, hours of others do not depend on it
            say(f"{job.subject.name} FAILED: {type(error).__name__}: {quote(str(error))}.")
            failed.append(job.subject.name)
    say(f"{len(wanted) - len(failed)} of {len(wanted)} results were computed into {folder}.")
    return failed


def jobs(subjects: Sequence[Subject], statuses: Sequence[Status], everything: bool) -> list[Job]:
    """Return what has to be computed."""
    return [
        Job(subject, status.seconds)
        for subject, status in zip(subjects, statuses, strict=True)
        if everything or status.state == "stale"
    ]


def progress(number: int, wanted: Sequence[Job]) -> str:
    """Return which result comes now, and about how long all that are left will take."""
    left = sum(job.seconds for job in wanted[number:])
    unknown = sum(not job.seconds for job in wanted[number:])
    more = f", and {unknown} that were never timed" if unknown else ""
    name = wanted[number].subject.name
    return f"{number + 1} of {len(wanted)}: {name}; about {left / 60:.0f} minutes to go{more}."


def compute(subject: Subject, folder: Path, where: Where, say: Callable[[str], object], pieces: Path) -> None:
    """Compute one result; its finished pieces stay until its file is written."""
    key = checksum({"protocol": subject.protocol(), "code": subject.code()})
    kept = pieces / f"{subject.name}-{key[:12]}"
    subject.compute(subject.path(folder), replace(where, checkpoint=kept), say)
    shutil.rmtree(kept)
