"""Is a frozen result what its protocol, its data and its code would give today?

A result is *fresh* if the protocol of each of its studies is the paper's of today, the data that are here are
those that were read, and the code has the fingerprint of the code that computed it, or of code that was
confirmed to give the same numbers. Where only the code has changed it is *not confirmed*: nobody has looked
whether the numbers have. All else is *stale*.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from hemafl_book.fingerprint import Fingerprint
from hemafl_book.frozen.subjects import Subject
from hemafl_book.results import UNKNOWN, FrozenResult, load
from hemafl_lib import data
from hemafl_lib.errors import DataError

State = Literal["fresh", "not confirmed", "stale"]

BEFORE = "made before fingerprints"
"""What is said of a result whose file knows no code."""


@dataclass(frozen=True)
class StudyStatus:
    """One study of a result: ``state``, why it is not fresh, when it was made or last confirmed, seconds."""

    study: str
    state: State
    why: tuple[str, ...]
    date: str
    seconds: float | None


@dataclass(frozen=True)
class Status:
    """A result with its studies, when it was made, and the seconds of all."""

    name: str
    studies: tuple[StudyStatus, ...]
    made: str = ""
    seconds: float = 0.0

    @property
    def state(self) -> State:
        """The worst state of any study."""
        states = {study.state for study in self.studies}
        return "stale" if "stale" in states else "not confirmed" if "not confirmed" in states else "fresh"

    @property
    def reasons(self) -> tuple[str, ...]:
        """All reasons, each once."""
        return tuple(dict.fromkeys(reason for study in self.studies for reason in study.why))


def status_of(subject: Subject, folder: Path, checksums: Mapping[str, str]) -> Status:
    """Return the status of a subject's file in a folder.

    ``checksums`` are those of the real cohorts that are here, by name; of others nothing is said.
    """
    titles = subject.studies()
    try:
        held = load(subject.path(folder))
    except DataError as error:
        missing = tuple(StudyStatus(title, "stale", (str(error),), "", None) for title in titles)
        return Status(subject.name, missing)
    now, code = subject.protocol(), subject.code()
    common = (*differences(held.protocol, now), *changed_data(held, subject.reads(), checksums))
    studies = tuple(study_status(title, held, now, code, common) for title in titles)
    return Status(subject.name, studies, made(held), held.seconds)


def made(held: FrozenResult) -> str:
    """Return when a result was computed; of older files by which commit or version."""
    if held.date != UNKNOWN:
        return held.date
    known = held.commit if held.commit not in (None, UNKNOWN) else None
    return known[:12] if known else f"hemafl_lib {held.versions.get('hemafl_lib', UNKNOWN)}"


def study_status(
    title: str, held: FrozenResult, now: Mapping[str, Any], code: Fingerprint, common: Sequence[str]
) -> StudyStatus:
    """Return the status of one study; ``common`` is what has changed for all of them."""
    seconds = held.parts.get(title)
    changed = (*common, *differences(study_of(held.protocol, title), study_of(now, title), f"'{title}'"))
    if changed:
        return StudyStatus(title, "stale", changed, held.date, seconds)
    if held.code == code:
        return StudyStatus(title, "fresh", (), held.date, seconds)
    confirmed = [one for one in held.confirmed if title in one.studies]
    for one in confirmed:
        if one.code == code:
            return StudyStatus(title, "fresh", (), one.date, seconds)
    known = confirmed[-1].code if confirmed else held.code
    date = confirmed[-1].date if confirmed else held.date
    return StudyStatus(title, "not confirmed", (changed_code(known, code),), date, seconds)


def study_of(protocol: Mapping[str, Any], title: str) -> Any:
    """Return what a protocol says of a study; nothing if it knows no studies, or not this one."""
    return next((study for study in protocol.get("studies", ()) if study["title"] == title), {})


def differences(held: Any, now: Any, path: str = "protocol") -> tuple[str, ...]:
    """Return the paths at which two descriptions differ; studies are looked at one by one elsewhere."""
    if isinstance(held, Mapping) and isinstance(now, Mapping):
        keys = [key for key in dict.fromkeys((*held, *now)) if key != "studies"]
        return tuple(
            each
            for key in keys
            for each in (
                differences(held[key], now[key], f"{path}.{key}")
                if key in held and key in now
                else (f"{path}.{key}",)
            )
        )
    return () if held == now else (path,)


def changed_data(held: FrozenResult, reads: Sequence[str], checksums: Mapping[str, str]) -> tuple[str, ...]:
    """Return the real cohorts that are here and are not what was read."""
    read = {checksum for source in held.data for checksum in source["checksum"].split("+")}
    return tuple(f"data: {name}" for name in reads if name in checksums and checksums[name] not in read)


def changed_code(known: Fingerprint, code: Fingerprint) -> str:
    """Say which modules differ."""
    if not known:
        return BEFORE
    changed = [name for name in sorted({*known, *code}) if known.get(name) != code.get(name)]
    return f"code: {', '.join(changed)}"


def all_statuses(subjects: Sequence[Subject], folder: Path, root: Path | None) -> list[Status]:
    """Return the status of all subjects; ``root`` is the folder of the real data, if there is one."""
    reads = dict.fromkeys(name for subject in subjects for name in subject.reads())
    here = data.checksums(list(reads), root)
    return [status_of(subject, folder, here) for subject in subjects]


def table(statuses: Sequence[Status]) -> pd.DataFrame:
    """Return one row a result: its state and why, how many of its studies are fresh, date, minutes."""
    rows = [
        {
            "result": one.name,
            "state": one.state,
            "fresh studies": f"{sum(study.state == 'fresh' for study in one.studies)} of {len(one.studies)}",
            "why": "; ".join(shorten(one.reasons)),
            "made": one.made,
            "seconds": one.seconds,
        }
        for one in statuses
    ]
    return pd.DataFrame(rows).set_index("result")


def shorten(reasons: Sequence[str], most: int = 3) -> Iterator[str]:
    """Yield the first reasons, and how many more there are."""
    yield from reasons[:most]
    if len(reasons) > most:
        yield f"and {len(reasons) - most} more"


def study_table(statuses: Sequence[Status]) -> pd.DataFrame:
    """Return one row a study: its state and why, when it was made or last confirmed, its seconds."""
    rows = [
        {
            "result": one.name,
            "study": study.study,
            "state": study.state,
            "why": "; ".join(study.why),
            "date": study.date,
            "seconds": study.seconds,
        }
        for one in statuses
        for study in one.studies
    ]
    return pd.DataFrame(rows).set_index(["result", "study"])
