"""What decides a claim: numbers of frozen tables, as data, and how each gets its interval.

An interval over seeds covers what a seed decides in that study, paired where two arms are compared. Seeds
that split the same rows anew are not independent, so `Scores` states how many test rows there are for a
training row (see `hemafl_lib.evaluation.seed_interval`), roughly: those of all sites together, though an arm
that trains at one site has fewer. It says nothing of other hospitals: where a claim is
about a hospital that nobody knows, `OverHospitals` takes each for one number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pandas as pd

from hemafl_book.papers.claims.rules import Found
from hemafl_book.results import FrozenResult
from hemafl_lib.errors import DataError
from hemafl_lib.evaluation import Interval, difference_interval, seed_interval

Frozen = Mapping[str, FrozenResult]
"""The frozen results by name."""

LEVEL = 0.95
"""Of every interval, unless a claim asks for another."""


class Evidence(Protocol):
    """Something that a claim can rest on."""

    @property
    def label(self) -> str:
        """What the number is."""

    def find(self, frozen: Frozen, level: float = LEVEL) -> Found:
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


def one_row(one: "Stored | Apart", frozen: Frozen, columns: Sequence[str]) -> list[float]:
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

    def find(self, frozen: Frozen, level: float = LEVEL) -> Found:
        """Return the mean over the seeds, on the logit scale."""
        return Found(self.label, *seed_interval(self.by_seed(frozen), level, overlap=self.overlap))

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

    def find(self, frozen: Frozen, level: float = LEVEL) -> Found:
        """Return the mean over the seeds."""
        return Found(self.label, *seed_interval(self.by_seed(frozen), level, overlap=self.overlap))

    def reads(self) -> list[tuple[str, str]]:
        """Return all their tables."""
        return [table for one in self.of for table in one.reads()]


@dataclass(frozen=True, kw_only=True)
class Less:
    """The first less ``times`` the second, paired by seed, on the seeds that both have."""

    label: str
    first: BySeed
    second: BySeed
    times: float = 1.0

    @property
    def overlap(self) -> float:
        """That of the two."""
        return max(self.first.overlap, self.second.overlap)

    def by_seed(self, frozen: Frozen) -> pd.Series:
        """Return the difference by seed."""
        return (self.first.by_seed(frozen) - self.times * self.second.by_seed(frozen)).dropna()

    def find(self, frozen: Frozen, level: float = LEVEL) -> Found:
        """Return the mean difference with the paired t interval, which reaches from -``times`` to 1."""
        widest = max(1.0, self.times)
        found = difference_interval(self.by_seed(frozen) / widest, level, overlap=self.overlap)
        return Found(self.label, *(widest * value for value in found))

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

    def find(self, frozen: Frozen, level: float = LEVEL) -> Found:
        """Return the one row's numbers; `DataError` at another level than that of the stored interval."""
        if level != LEVEL:
            raise DataError(
                f"{self.label}: '{self.table}' holds intervals of {LEVEL:.0%} only; ask for these."
            )
        return Found(self.label, *one_row(self, frozen, self.columns))

    def reads(self) -> list[tuple[str, str]]:
        """Return the one table."""
        return [(self.result, self.table)]


@dataclass(frozen=True, kw_only=True)
class Lowest:
    """The lowest of several differences: what "all of them are above" rests on.

    Its interval reaches from the lowest lower end to the lowest upper end. The lower end holds as surely as
    those of the differences; the upper one less so, because any of them can be the lowest by chance.
    """

    label: str
    of: Sequence[Evidence]

    def find(self, frozen: Frozen, level: float = LEVEL) -> Found:
        """Return the lowest estimate, lower end and upper end."""
        found = [one.find(frozen, level) for one in self.of]
        estimate, low = min(one.estimate for one in found), min(one.low for one in found)
        return Found(self.label, estimate, low, min(one.high for one in found))

    def reads(self) -> list[tuple[str, str]]:
        """Return all their tables."""
        return [table for one in self.of for table in one.reads()]


@dataclass(frozen=True, kw_only=True)
class OverHospitals:
    """The mean over hospitals, each of which counts once with the mean of its seeds.

    ``interval`` is Student's t over the hospitals, `difference_interval` or for scores `seed_interval`: it
    says how far the mean over hospitals of their kind could be off, seeds and all. It takes them for
    independent, although hospitals that are left out in turn share those that train.
    """

    label: str
    of: Sequence[BySeed]
    interval: Callable[..., Interval] = difference_interval

    def find(self, frozen: Frozen, level: float = LEVEL) -> Found:
        """Return the mean of the hospitals' means."""
        return Found(self.label, *self.interval([one.by_seed(frozen).mean() for one in self.of], level))

    def reads(self) -> list[tuple[str, str]]:
        """Return all their tables."""
        return [table for one in self.of for table in one.reads()]


@dataclass(frozen=True, kw_only=True)
class Apart:
    """How far apart a number is in one row and in another, which chance does not touch."""

    label: str
    result: str
    table: str
    column: str
    rows: Mapping[str, str]
    other: Mapping[str, str]

    def find(self, frozen: Frozen, level: float = LEVEL) -> Found:
        """Return the first less the second, which has no interval; `DataError` if a side has several rows."""
        (first,) = one_row(self, frozen, [self.column])
        (second,) = one_row(replace(self, rows=self.other), frozen, [self.column])
        return Found(self.label, *[first - second] * 3)

    def reads(self) -> list[tuple[str, str]]:
        """Return the one table."""
        return [(self.result, self.table)]


@dataclass(frozen=True, kw_only=True)
class Total:
    """A sum over rows that chance does not touch, the same for every seed of the table."""

    label: str
    result: str
    table: str
    column: str
    rows: Mapping[str, str] = field(default_factory=dict)

    def find(self, frozen: Frozen, level: float = LEVEL) -> Found:
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

    def find(self, frozen: Frozen, level: float = LEVEL) -> Found:
        """Return the number, which has no interval."""
        return Found(self.label, *[float(self.compute(self.printed))] * 3)

    def reads(self) -> list[tuple[str, str]]:
        """Return nothing: no result is read."""
        return []
