"""An explorer as one value: what it varies, what a setting gives, how all are recorded and read."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import pandas as pd

from hemafl_book.fingerprint import Fingerprint
from hemafl_book.papers.kept import Kept, KeptPiece, open_kept
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import FrozenResult, describe_device, freeze
from hemafl_lib.data.cohort import Provenance
from hemafl_lib.errors import DataError
from hemafl_lib.progress import bar

Outcome = TypeVar("Outcome")
"""What one setting of an explorer gives."""

SETTINGS = "settings"
"""What stands for the studies of a paper: an explorer has all of its settings in one."""

Setting = dict[str, Any]
"""A value of every control, by its name."""


@dataclass(frozen=True, kw_only=True)
class Sweep(Generic[Outcome]):
    """All settings of an explorer.

    Parameters
    ----------
    title
        What it is about in a few words, for `hemafl list`. It decides no number and is not in the recording.
    controls
        The values that are recorded, by the argument of ``explore``; a notebook makes a slider of each.
    explore
        Computes one setting: ``explore(**setting)``.
    tables
        The titles of the recording's tables, each with the controls that its rows depend on.
    to_rows
        Turns an outcome into its rows of every table, rounded as they are to be stored.
    from_rows
        Turns these rows, with the controls that they depend on in further columns, into the outcome again.
    protocol
        Returns what decides the numbers, as plain JSON values.
    data
        Returns the provenance of every cohort that is read.
    seeds
        The seeds of the repetitions.
    extra
        Returns tables that belong to no setting, by title.
    """

    title: str
    controls: Mapping[str, Sequence[Any]]
    explore: Callable[..., Outcome]
    tables: Mapping[str, Sequence[str]]
    to_rows: Callable[[Outcome], Mapping[str, pd.DataFrame]]
    from_rows: Callable[[Mapping[str, pd.DataFrame]], Outcome]
    protocol: Callable[[], dict[str, Any]]
    data: Callable[[], Sequence[Provenance]]
    seeds: Sequence[int] = (0,)
    extra: Callable[[], Mapping[str, pd.DataFrame]] = dict

    def settings(self) -> list[Setting]:
        """Return every combination of the controls' values."""
        combinations = itertools.product(*self.controls.values())
        return [dict(zip(self.controls, values, strict=True)) for values in combinations]

    def record(
        self,
        out: Path,
        say: Callable[[str], object],
        where: Where = HERE,
        code: Fingerprint | None = None,
    ) -> None:
        """Compute every setting, under a progress bar, and write all to ``out`` as a frozen result.

        Finished settings are kept in the checkpoint of ``where``, if it names one. ``code`` is the
        fingerprint of what computes them.
        """
        began = time.monotonic()
        protocol, data, settings = self.protocol(), self.data(), self.settings()
        kept = open_kept(where, protocol, data, code or {})
        pieces = [self.piece(number, kept) for number in bar(range(len(settings)), desc="sweep")]
        tables = self.join_settings(settings, [piece.tables for piece in pieces])
        extra = self.extra()
        seconds = time.monotonic() - began + sum(piece.seconds for piece in pieces if piece.held)
        freeze(
            out,
            protocol=protocol,
            data=data,
            seeds=self.seeds,
            seconds=seconds,
            device=describe_device(where.device),
            tables={**tables, **extra},
            parts={SETTINGS: seconds},
            code=code,
        )
        say(f"{len(settings)} settings are in {out}.")

    def piece(self, number: int, kept: Kept) -> KeptPiece:
        """Return the rows of a setting, which are computed and kept if they are not held already."""
        held = kept.read(SETTINGS, number)
        if held is not None:
            return held
        began = time.monotonic()
        rows = dict(self.to_rows(self.explore(**self.settings()[number])))
        seconds = time.monotonic() - began
        kept.write(SETTINGS, number, rows, seconds=seconds)
        return KeptPiece(rows, seconds, held=False)

    def read(self, result: FrozenResult) -> dict[tuple[Any, ...], Outcome]:
        """Return what a recording holds for every setting, by the values of the controls.

        Raises `DataError` if it lacks a setting.
        """
        parts = {title: _split(result.table(title), list(keys)) for title, keys in self.tables.items()}
        found = {}
        for setting in self.settings():
            try:
                rows = {
                    title: parts[title][tuple(setting[key] for key in keys)]
                    for title, keys in self.tables.items()
                }
            except KeyError:
                raise DataError(f"the recording has no setting {setting}; record it again.") from None
            found[tuple(setting.values())] = self.from_rows(rows)
        return found

    def join_settings(
        self, settings: Sequence[Setting], rows: Sequence[Mapping[str, pd.DataFrame]]
    ) -> dict[str, pd.DataFrame]:
        """Return the tables of all settings, by title; ``rows`` holds what `to_rows` gives of each."""
        return {title: self._join(title, settings, rows) for title in self.tables}

    def _join(
        self, title: str, settings: Sequence[Setting], rows: Sequence[Mapping[str, pd.DataFrame]]
    ) -> pd.DataFrame:
        """Return one table of all settings, with the controls that decide its rows in the first columns.

        What several settings share, since the table does not depend on all controls, is stored once.
        """
        keys = list(self.tables[title])
        parts = [
            found[title].assign(**{key: setting[key] for key in keys})
            for setting, found in zip(settings, rows, strict=True)
        ]
        table = pd.concat(parts, ignore_index=True).drop_duplicates(ignore_index=True)
        return table[[*keys, *table.columns.drop(keys)]]


@dataclass(frozen=True, kw_only=True)
class RealSweep(Sweep[Outcome]):
    """All settings of an explorer that reads real cohorts.

    Its ``explore`` and ``data`` take their folder as ``root``, None for the one that ``HEMAFL_DATA`` names.

    Parameters
    ----------
    reads
        The names of the cohorts, as `hemafl_lib.data.load` knows them.
    """

    data: Callable[..., Sequence[Provenance]]
    reads: Sequence[str]

    def at(self, root: Path | None) -> "RealSweep[Outcome]":
        """Return the sweep with a folder to read from."""
        return replace(self, explore=partial(self.explore, root=root), data=partial(self.data, root=root))


def reads(sweep: Sweep[Any]) -> tuple[str, ...]:
    """Return the names of the real cohorts that a sweep reads."""
    return tuple(sweep.reads) if isinstance(sweep, RealSweep) else ()


def at_root(sweep: Sweep[Outcome], root: Path | None) -> Sweep[Outcome]:
    """Return a sweep that reads its real cohorts, if any, in a folder."""
    return sweep.at(root) if isinstance(sweep, RealSweep) else sweep


def _split(table: pd.DataFrame, keys: list[str]) -> dict[tuple[Any, ...], pd.DataFrame]:
    """Return the rows of every combination of the ``keys``."""
    return {values: rows.reset_index(drop=True) for values, rows in table.groupby(keys, sort=False)}
