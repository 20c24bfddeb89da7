"""Does the code of today give the numbers of a frozen result? One seed of each study tells.

A fingerprint that differs says that the code is another text, not that it gives other numbers. Here the
first seed of each study (of an explorer the last setting) is computed again and held against the frozen rows
of that seed. If all numbers agree, the result learns the new fingerprint, with the date and the commit; else
nothing is written. Tables that join seeds are not compared.

The description of a protocol may have become wider since: it names what was a constant before. If it says all
that it said, and more, the result takes the wider one over in the same way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemafl_book.frozen.subjects import Again, Subject
from hemafl_book.papers.where import Where
from hemafl_book.results import (
    Confirmation,
    FrozenResult,
    add_confirmation,
    as_stored,
    commit,
    compare_descriptions,
    describe_device,
    installed_versions,
    load,
    today,
)
from hemafl_lib.errors import DataError

TOLERANCE = 1e-6
"""The furthest that two numbers may be apart: the last digit that is stored. Other processors round in other
places, and training carries that on; whoever confirms there has to say how far."""

NOT_COMPARED = ("hash",)
"""Columns that tell bits apart, and so processors."""


@dataclass(frozen=True)
class Comparison:
    """How many numbers were compared, and how far apart the furthest two are."""

    numbers: int
    difference: float


def confirm(
    subject: Subject,
    folder: Path,
    where: Where,
    say: Callable[[str], object],
    *,
    studies: Sequence[str] = (),
    tolerance: float = TOLERANCE,
) -> Confirmation:
    """Compute the first seed of some studies again, by default of all, and write that it gave the numbers.

    Raises
    ------
    DataError
        If the protocol is another one, the data are others, or a number differs by more than ``tolerance``.
    """
    path = subject.path(folder)
    held, now, code = load(path), subject.protocol(), subject.code()  # the code as it is before the hours
    wider = gained(held.protocol, now, path)
    titles = studies or subject.studies()
    again = subject.again(titles, where)
    check_data(held, again, path)
    found = compare(held, again, path, tolerance)
    new = Confirmation(
        date=today(),
        commit=commit(),
        code=code,
        studies=again.studies,
        numbers=found.numbers,
        difference=found.difference,
        tolerance=tolerance,
        versions=installed_versions(),
        device=describe_device(where.device),
        wider=wider,
    )
    add_confirmation(path, held, new, now)
    say(
        f"{subject.name}: {found.numbers} numbers of {len(again.studies)} of {len(subject.studies())} "
        f"studies are the same within {tolerance:g} (largest difference {found.difference:.1g})."
    )
    return new


def gained(held: Any, now: Any, path: Path) -> list[str]:
    """Return what a description says more than an earlier one; `DataError` if it says something else."""
    more, other = compare_descriptions(held, now, "protocol")
    if other:
        raise DataError(
            f"{path} was computed with another protocol ({', '.join(other[:3])}); compute it again."
        )
    return more


def check_data(held: FrozenResult, again: Again, path: Path) -> None:
    """Raise `DataError` if something was read that the result was not computed from."""
    known = {source["checksum"] for source in held.data}
    if not set(again.checksums) <= known:
        raise DataError(f"{path} was computed from other data than those that are here; compute it again.")


def compare(held: FrozenResult, again: Again, path: Path, tolerance: float) -> Comparison:
    """Hold all tables against the frozen rows; raise `DataError` naming the first number that differs."""
    numbers, largest = 0, 0.0
    for title, table in again.tables.items():
        fresh = as_stored(table)
        frozen = same_rows(held.table(title), fresh, again.keys[title])
        left, right = in_one_order(frozen), in_one_order(fresh)
        check_words(left, right, f"{path}, table '{title}'")
        for column in numeric(right):
            apart = distances(left[column], right[column])
            numbers, largest = numbers + len(apart), max(largest, float(apart.max()))
            if not (apart <= tolerance).all():
                row = int(apart.argmax())
                raise DataError(
                    f"{path}, table '{title}': '{column}' was {left[column].iloc[row]} and is now "
                    f"{right[column].iloc[row]} ({describe_row(right, row)}); the result is stale."
                )
    return Comparison(numbers, largest)


def same_rows(held: pd.DataFrame, fresh: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a frozen table that have the keys of a fresh one."""
    return held.merge(fresh[list(keys)].drop_duplicates(), on=list(keys))[list(held)]


def numeric(table: pd.DataFrame) -> list[str]:
    """Return the columns of numbers, missing ones among them."""
    missing = set(table.columns[table.isna().all()])
    return [str(name) for name in table if name in missing or pd.api.types.is_numeric_dtype(table[name])]


def in_one_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in the order of their words, else as they came, without what is not compared."""
    kept = table.drop(columns=[name for name in NOT_COMPARED if name in table])
    words = sorted(str(name) for name in kept if name not in numeric(kept))
    return kept.sort_values(words, kind="stable", ignore_index=True) if words else kept


def check_words(left: pd.DataFrame, right: pd.DataFrame, place: str) -> None:
    """Raise `DataError` if two tables differ in rows, columns, or in what is no number."""
    if set(left) != set(right) or len(left) != len(right):
        raise DataError(f"{place} has other rows or columns now; the result is stale.")
    for column in right.columns.difference(numeric(right)):
        differs = left[column].astype(str) != right[column].astype(str)
        if differs.any():
            row = int(differs.to_numpy().argmax())
            raise DataError(
                f"{place}: '{column}' was {left[column].iloc[row]} and is now {right[column].iloc[row]}; "
                "the result is stale."
            )


def distances(left: pd.Series, right: pd.Series) -> np.ndarray:
    """Return how far apart the numbers of two columns are, float64[N]; 0 where both are missing."""
    first, second = left.to_numpy(dtype=float), right.to_numpy(dtype=float)
    same = (np.isnan(first) & np.isnan(second)) | (first == second)
    return np.where(same, 0.0, np.nan_to_num(np.abs(first - second), nan=np.inf))


def describe_row(table: pd.DataFrame, row: int) -> str:
    """Return the words of a row, and its seed."""
    words = [name for name in table if name not in numeric(table) or name == "seed"]
    return ", ".join(f"{name} {table[name].iloc[row]}" for name in words)
