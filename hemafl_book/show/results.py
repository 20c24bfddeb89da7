"""Frozen results for a chapter: the numbers of the full experiments, shown beside the live small ones."""

from html import escape
from pathlib import Path

import pandas as pd
from IPython.display import HTML

import hemafl_lib
from hemafl_book import results as frozen
from hemafl_book.frozen import status, subjects
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


def status_table() -> pd.DataFrame:
    """Return one row a frozen result: is its protocol the book's, who knows its code, when, and how long.

    Whether the code has changed since is not here, since a page would change with every line of code:
    `hemafl results status` says it.
    """
    rows = []
    for subject in subjects.find([]):
        held, titles = get(subject.name), subject.studies()
        rows.append(
            {
                "result": subject.name,
                "protocol": "stale" if frozen.stale(held, subject.protocol()) else "fresh",
                "studies": len(titles),
                "made": status.made(held),
                "code": "known" if held.code else status.BEFORE,
                "confirmed": _confirmed(held, titles),
                "time": _duration(held.seconds),
            }
        )
    return pd.DataFrame(rows).set_index("result")


def _confirmed(held: FrozenResult, titles: tuple[str, ...]) -> str:
    """Say when other code was last found to give the numbers, and of how many studies."""
    if not held.confirmed:
        return "-"
    last = held.confirmed[-1]
    return f"{last.date}, {len(set(titles) & set(last.studies))} of {len(titles)} studies"


def details(name: str) -> HTML:
    """Return a folded block that says what made a frozen result, and what its tables hold."""
    result = get(name)
    tables = "".join(
        f"<li>{escape(title)}: {len(table['rows'])} rows of {escape(', '.join(table['columns'][:6]))}</li>"
        for title, table in result.tables.items()
    )
    versions = ", ".join(f"{package} {version}" for package, version in result.versions.items())
    return HTML(
        f"<details><summary>{escape(name)}</summary><p>{escape(provenance(name))}</p>"
        f"<p>{escape(versions)}</p><ul>{tables}</ul></details>"
    )


def _changes(result: FrozenResult) -> str:
    """Say what was changed in the paper's protocol, if anything was."""
    named = ", ".join(f"{name} {value}" for name, value in result.changes.items())
    return f", CHANGED from the paper's: {named}" if named else ""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
