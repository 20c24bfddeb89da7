"""What decides a claim: numbers of frozen tables, as data, and how each gets its interval.

An interval over seeds covers what a seed decides in that study, paired where two arms are compared. Seeds
that split the same rows anew are not independent, so `Scores` states how many test rows there are for a
training row (see `hemafl_lib.evaluation.seed_interval`). Where a table holds means over seeds only,
`ClassScore` takes the interval over the cells of one test.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot
from typing import Any, Protocol

import pandas as pd

from hemafl_book.papers.claims.rules import Found
from hemafl_book.results import FrozenResult
from hemafl_lib.errors import DataError
from hemafl_lib.evaluation import Interval, difference_interval, seed_interval, share_interval

Frozen = Mapping[str, FrozenResult]
"""The frozen results by name."""


class Evidence(Protocol):
    """Something that a claim can rest on."""

    @property
    def label(self) -> str:
        """What the number is."""

    def find(self, frozen: Frozen) -> Found:
        """Return the number with its interval."""

    def reads(self) -> list[tuple[str, str]]:
        """Return the results and titles of the tables that are read."""


class BySeed(Protocol):
    """Evidence with one number a seed."""

    @property
    def label(self) -> str:
        """What the number is."""

    @property
    def overlap(self) -> float:
        """Test rows for each training row, see `Scores`."""

    def by_seed(self, frozen: Frozen) -> pd.Series:
        """Return the numbers by seed."""

    def reads(self) -> list[tuple[str, str]]:
        """Return the results and titles of the tables that are read."""


def rows_of(frozen: Frozen, result: str, title: str, rows: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows of a table whose columns hold these values; `DataError` if there is none."""
    if result not in frozen:
        raise DataError(f"there is no frozen result '{result}'; compute it with `hemafl run {result}`.")
    table = frozen[result].table(title)
    for column, value in rows.items():
        table = table[table[column] == value]
    if table.empty:
        raise DataError(f"table '{title}' of '{result}' has no row with {dict(rows)}; correct the claim.")
    return table


def one_row(one: "Stored | ClassScore", frozen: Frozen, columns: Sequence[str]) -> list[float]:
    """Return the numbers of the one row that evidence names; `DataError` if it names several."""
    rows = rows_of(frozen, one.result, one.table, one.rows)
    if len(rows) > 1:
        raise DataError(f"{one.label}: '{one.table}' has {len(rows)} such rows; name more columns.")
    return [float(rows[column].iloc[0]) for column in columns]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A score in [0, 1], one row a seed: the column of the ``rows`` in which each column holds its value.

    ``overlap`` is the number of test rows for each training row if all seeds split the same rows, else 0.
    """

    label: str
    result: str
    table: str
    column: str
    rows: Mapping[str, str]
    overlap: float = 0.0

    def by_seed(self, frozen: Frozen) -> pd.Series:
        """Return the score by seed; `DataError` if a seed has several."""
        chosen = rows_of(frozen, self.result, self.table, self.rows).set_index("seed")[self.column]
        if chosen.index.has_duplicates:
            raise DataError(f"{self.label}: a seed has several rows in '{self.table}'; name more columns.")
        return chosen

    def find(self, frozen: Frozen) -> Found:
        """Return the mean over the seeds, on the logit scale."""
        return Found(self.label, *seed_interval(self.by_seed(frozen), overlap=self.overlap))

    def reads(self) -> list[tuple[str, str]]:
        """Return the one table."""
        return [(self.result, self.table)]


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean of several scores, seed by seed."""

    label: str
    of: Sequence[BySeed]

    @property
    def overlap(self) -> float:
        """That of the scores."""
        return max(one.overlap for one in self.of)

    def by_seed(self, frozen: Frozen) -> pd.Series:
        """Return the mean by seed, of the seeds that all scores have."""
        return pd.concat([one.by_seed(frozen) for one in self.of], axis=1, join="inner").mean(axis=1)

    def find(self, frozen: Frozen) -> Found:
        """Return the mean over the seeds."""
        return Found(self.label, *seed_interval(self.by_seed(frozen), overlap=self.overlap))

    def reads(self) -> list[tuple[str, str]]:
        """Return all their tables."""
        return [table for one in self.of for table in one.reads()]


@dataclass(frozen=True, kw_only=True)
class Less:
    """The first less the second, paired by seed, on the seeds that both have."""

    label: str
    first: BySeed
    second: BySeed

    @property
    def overlap(self) -> float:
        """That of the two."""
        return max(self.first.overlap, self.second.overlap)

    def by_seed(self, frozen: Frozen) -> pd.Series:
        """Return the difference by seed."""
        return (self.first.by_seed(frozen) - self.second.by_seed(frozen)).dropna()

    def find(self, frozen: Frozen) -> Found:
        """Return the mean difference with the paired t interval."""
        return Found(self.label, *difference_interval(self.by_seed(frozen), overlap=self.overlap))

    def reads(self) -> list[tuple[str, str]]:
        """Return the tables of both."""
        return [*self.first.reads(), *self.second.reads()]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A number that a table holds with both ends of its interval, as from a bootstrap over cells."""

    label: str
    result: str
    table: str
    columns: tuple[str, str, str]
    rows: Mapping[str, str]

    def find(self, frozen: Frozen) -> Found:
        """Return the one row's numbers."""
        return Found(self.label, *one_row(self, frozen, self.columns))

    def reads(self) -> list[tuple[str, str]]:
        """Return the one table."""
        return [(self.result, self.table)]


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """Recall or F1 of one class from a table of means over seeds, with Wilson's interval over cells.

    The cells are those of *one* seed's test, as if the other seeds had added nothing: too wide rather than
    too narrow. F1 = 2 J / (1 + J), where J is the share of right answers among the cells that belong to the
    class or are taken for it.
    """

    label: str
    result: str
    table: str
    column: str
    rows: Mapping[str, str]

    def find(self, frozen: Frozen) -> Found:
        """Return the score with its interval."""
        recall, support, precision, f1 = one_row(self, frozen, ("recall", "support", "precision", "f1"))
        if self.column == "recall":
            return Found(self.label, *share_interval(recall, support))
        right = f1 / (2 - f1)
        called = recall * support / precision if precision else 0.0
        cells = support + called - recall * support
        found = share_interval(right, cells)
        return Found(self.label, *(2 * value / (1 + value) for value in found))

    def reads(self) -> list[tuple[str, str]]:
        """Return the one table."""
        return [(self.result, self.table)]


@dataclass(frozen=True, kw_only=True)
class ClassLess:
    """The first class score less the second, taken for independent (Newcombe, 1998)."""

    label: str
    first: ClassScore
    second: ClassScore

    def find(self, frozen: Frozen) -> Found:
        """Return the difference with its interval."""
        one, other = self.first.find(frozen), self.second.find(frozen)
        difference = one.estimate - other.estimate
        down = hypot(one.estimate - one.low, other.high - other.estimate)
        up = hypot(one.high - one.estimate, other.estimate - other.low)
        return Found(self.label, *Interval(difference, difference - down, difference + up))

    def reads(self) -> list[tuple[str, str]]:
        """Return the tables of both."""
        return [*self.first.reads(), *self.second.reads()]


@dataclass(frozen=True, kw_only=True)
class Total:
    """A sum over rows that chance does not touch, the same for every seed of the table."""

    label: str
    result: str
    table: str
    column: str
    rows: Mapping[str, str] = field(default_factory=dict)

    def find(self, frozen: Frozen) -> Found:
        """Return the sum; `DataError` if the seeds differ in it."""
        chosen = rows_of(frozen, self.result, self.table, self.rows)
        sums = chosen.groupby("seed")[self.column].sum() if "seed" in chosen else chosen[[self.column]].sum()
        if sums.nunique() != 1:
            raise DataError(f"{self.label}: the seeds of '{self.table}' differ in it; it is no constant.")
        return Found(self.label, *[float(sums.iloc[0])] * 3)

    def reads(self) -> list[tuple[str, str]]:
        """Return the one table."""
        return [(self.result, self.table)]


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """What a paper's own ``printed`` numbers give when they are put together again."""

    label: str
    printed: Sequence[Any]
    compute: Callable[[Sequence[Any]], float]

    def find(self, frozen: Frozen) -> Found:
        """Return the number, which has no interval."""
        return Found(self.label, *[float(self.compute(self.printed))] * 3)

    def reads(self) -> list[tuple[str, str]]:
        """Return nothing: no result is read."""
        return []
