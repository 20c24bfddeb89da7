"""Frozen results: numbers computed once on real data, together with everything that made them.

A frozen result is one JSON file with tables and their provenance: the protocol and what was changed in it,
the checksums of the data, the commit of the code and its fingerprint, the versions of the packages, the
device, the seeds, the date, and the seconds of each study. It holds numbers only, no image and no patient.

Where the code has changed since, a `Confirmation` says that it still gives the same numbers: of each study
one seed was computed again. Files that are older than a field say `UNKNOWN`, or nothing, in its place.

Budget: 350 lines.
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from hemafl_book.fingerprint import CODE, Fingerprint
from hemafl_lib.data.cohort import Provenance
from hemafl_lib.device import choose
from hemafl_lib.errors import DataError
from hemafl_lib.files import check_target, read_json, write_json
from hemafl_lib.parallel import cores

PACKAGES = ("hemafl_lib", "flwr", "numpy", "scikit-learn", "timm", "torch", "torchvision")
"""The packages whose versions are stored with every result."""


UNKNOWN = "unknown"
"""What is read for the commit and the date of files that are older than these fields."""


@dataclass(frozen=True)
class Seconds:
    """How long an experiment took.

    ``earlier`` is what interrupted runs took, from whose pieces this one went on; ``parts`` is all time of
    each study, by its title.
    """

    earlier: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """What an experiment returns: its protocol, tables by title, where their data come from, and its time."""

    protocol: Any
    tables: dict[str, pd.DataFrame]
    data: tuple[Provenance, ...]
    seconds: Seconds = Seconds()


@dataclass(frozen=True)
class Confirmation:
    """Other code than a result's own was found to give its numbers.

    Attributes
    ----------
    date, commit, code
        When, by which commit, and the fingerprint of its code.
    studies
        The seeds that were computed again, by title of the study; of an explorer the number of the setting.
    numbers, difference, tolerance
        How many numbers were compared, how far apart the furthest two were, and how far they might be.
    versions, device
        Of the packages, and what computed.
    wider
        What the description of the protocol had gained since, by its path.
    """

    date: str
    commit: str | None
    code: Fingerprint
    studies: dict[str, list[int]]
    numbers: int
    difference: float
    tolerance: float
    versions: dict[str, str]
    device: str
    wider: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class FrozenResult:
    """One file of frozen results.

    ``tables`` maps a title to ``{"columns": [name, ...], "rows": [[value, ...], ...]}``, and ``data``
    lists ``{"name": ..., "checksum": ...}`` for every cohort that was read. ``commit`` is that of the code
    (see the function), or `UNKNOWN`. ``changes`` says what was changed in the paper's protocol. ``parts`` are
    the seconds of each study, ``code`` the fingerprint of the code, empty in files that are older than it.
    """

    protocol: dict[str, Any]
    protocol_hash: str
    data: list[dict[str, str]]
    versions: dict[str, str]
    device: str
    seeds: list[int]
    seconds: float
    tables: dict[str, dict[str, list]]
    commit: str | None = UNKNOWN
    changes: dict[str, Any] = field(default_factory=dict)
    date: str = UNKNOWN
    parts: dict[str, float] = field(default_factory=dict)
    code: Fingerprint = field(default_factory=dict)
    confirmed: list[Confirmation] = field(default_factory=list)

    def table(self, title: str) -> pd.DataFrame:
        """Return one table as a data frame; `DataError` if there is no table of that title."""
        if title not in self.tables:
            raise DataError(f"The result has no table '{title}'; choose one of {', '.join(self.tables)}.")
        return pd.DataFrame(self.tables[title]["rows"], columns=self.tables[title]["columns"])


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a protocol's JSON, which does not depend on the order of its keys."""
    text = json.dumps(protocol, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def freeze(
    path: Path,
    *,
    protocol: Mapping[str, Any],
    data: Sequence[Provenance],
    seeds: Sequence[int],
    seconds: float,
    device: str,
    tables: Mapping[str, pd.DataFrame],
    changes: Mapping[str, Any] | None = None,
    parts: Mapping[str, float] | None = None,
    code: Fingerprint | None = None,
) -> FrozenResult:
    """Write a frozen result to ``path`` and return it.

    Parameters
    ----------
    path
        The JSON file to write or replace.
    protocol
        Everything that decides the numbers except data and seeds, as plain JSON values.
    data
        The provenance of every cohort that was read.
    seeds
        The seeds of the repetitions.
    seconds
        Wall-clock seconds of the whole experiment.
    device
        What computed it, in words, for example ``"2 CPU cores (AVX2)"``.
    tables
        The numbers, by title, stored with six decimals. A missing number (NaN) becomes ``null``; the
        index is dropped.
    changes
        What was changed in the paper's protocol, by name.
    parts
        The seconds of each study, by its title.
    code
        The fingerprint of the code that computed it.
    """
    result = FrozenResult(
        protocol=plain(protocol),
        protocol_hash=protocol_hash(protocol),
        data=[{"name": source.name, "checksum": source.checksum} for source in data],
        versions=installed_versions(),
        device=device,
        seeds=[int(seed) for seed in seeds],
        seconds=round(float(seconds), 1),
        tables={title: json.loads(_split(frame)) for title, frame in tables.items()},
        commit=commit(),
        changes=dict(changes or {}),
        date=today(),
        parts={title: round(float(each), 1) for title, each in (parts or {}).items()},
        code=dict(code or {}),
    )
    write_json(path, asdict(result), rescue=True)
    return result


def add_confirmation(
    path: Path, held: FrozenResult, new: Confirmation, protocol: Mapping[str, Any]
) -> FrozenResult:
    """Write a confirmation into the file of a result; ``protocol`` is the description as it is now.

    Earlier confirmations go as far as the new one says more: those of its studies.
    """
    kept = [one for one in held.confirmed if not set(one.studies) <= set(new.studies)]
    described = plain(protocol)
    result = replace(held, protocol=described, protocol_hash=protocol_hash(described), confirmed=[*kept, new])
    write_json(path, asdict(result), rescue=True)
    return result


def today() -> str:
    """Return the date, in UTC, as 2026-01-31."""
    return datetime.now(UTC).date().isoformat()


def plain(value: Any) -> Any:
    """Return a value as JSON gives it back; `ValueError` if it holds NaN or infinity."""
    return json.loads(json.dumps(value, allow_nan=False))


def load(path: Path) -> FrozenResult:
    """Read a frozen result; `DataError` if it is missing, damaged or edited by hand."""
    content = read_json(path)
    known = {item.name for item in fields(FrozenResult)}
    needed = {item.name for item in fields(FrozenResult) if item.default is item.default_factory is MISSING}
    if not isinstance(content, dict) or not needed <= set(content) <= known:
        raise DataError(f"{path} is not a frozen result; compute it again with `hemafl run`.")
    if content["protocol_hash"] != protocol_hash(content["protocol"]):
        raise DataError(
            f"{path} holds a protocol that was edited by hand; compute it again with `hemafl run`."
        )
    confirmed = [Confirmation(**one) for one in content.pop("confirmed", [])]
    return FrozenResult(**content, confirmed=confirmed)


def stale(result: FrozenResult, protocol: Mapping[str, Any]) -> bool:
    """Tell whether ``result`` was computed with another protocol than ``protocol``."""
    return result.protocol_hash != protocol_hash(protocol)


def compare_descriptions(held: Any, now: Any, path: str) -> tuple[list[str], list[str]]:
    """Return the paths of what is only in the second description, and of what differs otherwise."""
    if isinstance(held, Mapping) and isinstance(now, Mapping):
        parts = [compare_descriptions(held[key], now[key], f"{path}.{key}") for key in held if key in now]
        more = [f"{path}.{key}" for key in now if key not in held]
        other = [f"{path}.{key}" for key in held if key not in now]
    elif isinstance(held, list) and isinstance(now, list) and len(held) == len(now):
        pairs = enumerate(zip(held, now, strict=True))
        parts = [compare_descriptions(one, two, f"{path}[{place}]") for place, (one, two) in pairs]
        more, other = [], []
    else:
        return [], [] if held == now else [path]
    return (
        [*more, *(each for part in parts for each in part[0])],
        [*other, *(each for part in parts for each in part[1])],
    )


def same_experiment(one: FrozenResult, other: FrozenResult) -> bool:
    """Tell whether two results are of one protocol, the same data, seeds and changes.

    One of them may describe the protocol more widely, as a confirmed result does.
    """
    protocols = ((one.protocol, other.protocol), (other.protocol, one.protocol))
    alike = any(not compare_descriptions(held, now, "protocol")[1] for held, now in protocols)
    return alike and (one.data, one.seeds, one.changes) == (other.data, other.seeds, other.changes)


def check_place(path: Path, protocol: Mapping[str, Any]) -> None:
    """Raise `DataError` if a result of ``protocol`` must not be written to ``path``, see `check_target`.

    A file that is there may be replaced by another result of its own protocol only.
    """
    check_target(path)
    if not path.exists():
        return
    try:
        held = load(path)
    except DataError:
        raise DataError(
            f"{path} is there and holds no sound result; name another file, or remove it."
        ) from None
    if stale(held, protocol):
        raise DataError(
            f"{path} holds the result of another protocol{_about(held)}; name another file, or remove it."
        )


def _about(held: FrozenResult) -> str:
    """Return in words what tells the protocol of a result from others, as far as it says so."""
    names = {name: held.protocol[name] for name in ("preset", "source") if name in held.protocol}
    named = [f"{name} '{value}'" for name, value in names.items()]
    changed = ["changed"] if held.changes else ["without changes"] if named else []
    return f" ({', '.join([*named, *changed])})" if named else ""


def commit() -> str | None:
    """Return the commit of the code, with "-dirty" behind it where a file of either package differs from it.

    None outside a checkout, and where git is not installed.
    """
    if not (CODE / ".git").exists():
        return None
    try:
        head = _git("rev-parse", "HEAD")
        differs = _git("status", "--porcelain", "--", "hemafl_lib", "hemafl_book")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}-dirty" if differs else head


def _git(*arguments: str) -> str:
    """Return what git says about the code."""
    done = subprocess.run(["git", "-C", str(CODE), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def describe_device(device: str | None = None) -> str:
    """Return in words where networks run: on ``device``, by default as ``HEMAFL_DEVICE`` says.

    Of a CPU it names the instructions that PyTorch's own kernels use, since rounding depends on them.
    """
    if choose(device) == "cuda":
        return torch.cuda.get_device_name()
    return f"{cores()} CPU core{'' if cores() == 1 else 's'} ({torch.backends.cpu.get_cpu_capability()})"


def as_stored(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table as a frozen result gives it back."""
    parts = json.loads(_split(frame))
    return pd.DataFrame(parts["rows"], columns=parts["columns"])


def _split(frame: pd.DataFrame) -> str:
    """Return a frame as JSON with ``columns`` and ``rows``; pandas writes NaN as ``null``."""
    parts = json.loads(frame.to_json(orient="split", index=False, double_precision=6))
    return json.dumps({"columns": parts["columns"], "rows": parts["data"]})


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the `PACKAGES` that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
