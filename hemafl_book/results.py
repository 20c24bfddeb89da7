"""Frozen results: numbers computed once on real data, together with everything that made them.

A frozen result is one JSON file with tables and their provenance: the protocol, the checksums of
the data, the versions of the packages, the device, the seeds and the seconds. It holds numbers only,
never an image or a patient.
"""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from hemafl_lib.data.cohort import Provenance
from hemafl_lib.errors import DataError
from hemafl_lib.files import read_json, write_json

PACKAGES = ("hemafl_lib", "flwr", "numpy", "scikit-learn", "timm", "torch", "torchvision")
"""The packages whose versions are stored with every result."""


@dataclass(frozen=True)
class Results:
    """What an experiment returns: tables by title, and what they were computed on.

    ``protocol`` is the experiment's own description of itself, with a method ``described``; ``seconds``
    are those of the wall clock.
    """

    protocol: Any
    tables: dict[str, pd.DataFrame]
    data: tuple[Provenance, ...]
    seeds: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FrozenResult:
    """One file of frozen results.

    ``tables`` maps a title to ``{"columns": [name, ...], "rows": [[value, ...], ...]}``, and ``data``
    lists ``{"name": ..., "checksum": ...}`` for every cohort that was read.
    """

    protocol: dict[str, Any]
    protocol_hash: str
    data: list[dict[str, str]]
    versions: dict[str, str]
    device: str
    seeds: list[int]
    seconds: float
    tables: dict[str, dict[str, list]]

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
        What computed it, in words, for example ``"2 CPU cores"``.
    tables
        The numbers, by title, stored with six decimals. A missing number (NaN) becomes ``null``; the
        index is dropped.
    """
    result = FrozenResult(
        protocol=json.loads(json.dumps(protocol, allow_nan=False)),
        protocol_hash=protocol_hash(protocol),
        data=[{"name": source.name, "checksum": source.checksum} for source in data],
        versions=_versions(),
        device=device,
        seeds=[int(seed) for seed in seeds],
        seconds=round(float(seconds), 1),
        tables={title: json.loads(_split(frame)) for title, frame in tables.items()},
    )
    write_json(path, asdict(result))
    return result


def load(path: Path) -> FrozenResult:
    """Read a frozen result; `DataError` if it is missing, damaged or edited by hand."""
    content = read_json(path)
    expected = {field.name for field in fields(FrozenResult)}
    if not isinstance(content, dict) or set(content) != expected:
        raise DataError(f"{path} is not a frozen result; compute it again with `hemafl run`.")
    if content["protocol_hash"] != protocol_hash(content["protocol"]):
        raise DataError(
            f"{path} holds a protocol that was edited by hand; compute it again with `hemafl run`."
        )
    return FrozenResult(**content)


def stale(result: FrozenResult, protocol: Mapping[str, Any]) -> bool:
    """Tell whether ``result`` was computed with another protocol than ``protocol``."""
    return result.protocol_hash != protocol_hash(protocol)


def _split(frame: pd.DataFrame) -> str:
    """Return a frame as JSON with ``columns`` and ``rows``; pandas writes NaN as ``null``."""
    parts = json.loads(frame.to_json(orient="split", index=False, double_precision=6))
    return json.dumps({"columns": parts["columns"], "rows": parts["data"]})


def _versions() -> dict[str, str]:
    """Return the versions of Python and of the `PACKAGES` that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
