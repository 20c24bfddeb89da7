"""Frozen results for a chapter: the numbers of the full experiments, shown beside the live small ones."""

from pathlib import Path

import pandas as pd

import hemafl_lib
from hemafl_book import results as frozen
from hemafl_book.results import FrozenResult
from hemafl_lib.errors import DataError


def folder() -> Path:
    """Return the repository's folder of frozen results.

    It lies beside the package in a clone of the book; `DataError` if the package was installed alone.
    """
    path = Path(hemafl_lib.__file__).resolve().parent.parent / "book" / "results"
    if not path.is_dir():
        raise DataError(
            "The folder book/results is not beside the package; clone the book and install it with "
            "`make install` to read its frozen results."
        )
    return path


def get(name: str) -> FrozenResult:
    """Read ``book/results/NAME.json``; `DataError` naming what exists if there is no such file."""
    path = folder() / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder().glob("*.json"))) or "none"
        raise DataError(f"There is no frozen result '{name}'; available: {known}.")
    return frozen.load(path)


def table(name: str, title: str) -> pd.DataFrame:
    """Return one table of a frozen result."""
    return get(name).table(title)


def provenance(name: str) -> str:
    """Return one line that says what made a frozen result: data, seeds, device, time, versions, protocol."""
    result = get(name)
    data = ", ".join(f"{source['name']} ({source['checksum'][:8]})" for source in result.data)
    seeds = ", ".join(str(seed) for seed in result.seeds)
    versions = ", ".join(
        f"{package} {result.versions[package]}" for package in ("hemafl_lib", "flwr", "torch")
    )
    return (
        f"Frozen result '{name}': data {data}; seeds {seeds}; {result.device}, {_duration(result.seconds)}; "
        f"{versions}; protocol {result.protocol_hash[:8]}{_changes(result)}."
    )


def _changes(result: FrozenResult) -> str:
    """Say what was changed in the paper's protocol, if anything was."""
    named = ", ".join(f"{name} {value}" for name, value in result.changes.items())
    return f", CHANGED from the paper's: {named}" if named else ""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
