"""The one loop of all experiments: study by study and seed by seed, what is finished is kept.

A paper says what a study trains with a seed, and which tables that gives (`Piece`). `run_studies` goes
through all of them, says how long that will take, joins the tables, and goes on where an interrupted run
stopped.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import pandas as pd

from hemafl_book.fingerprint import fingerprint
from hemafl_book.papers.arms import Tables, Trial, answers, train
from hemafl_book.papers.kept import open_kept
from hemafl_book.papers.where import Where
from hemafl_book.results import Seconds
from hemafl_lib.data.cohort import Provenance
from hemafl_lib.federation import Run
from hemafl_lib.parallel import for_each
from hemafl_lib.progress import bar

BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, about {remaining} to go"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One study with one seed.

    Attributes
    ----------
    trials
        What is trained.
    examine
        Returns the tables of a trial that was trained: ``examine(trial, runs, where)``. It is called while
        other trials are trained, and the runs are let go afterwards.
    beside
        Returns the tables of what needs no training here.
    """

    trials: Sequence[Trial] = ()
    examine: Callable[[Trial, Mapping[str, Run], Where], Tables] = answers
    beside: Callable[[], Tables] = dict


@dataclass(frozen=True)
class Series:
    """One study with all of its seeds.

    Attributes
    ----------
    title
        Under which its tables are returned.
    seeds
        Its seeds.
    prepare
        Reads and computes what all seeds share, and returns the function from a seed to its piece. It is not
        called where every piece is kept already.
    """

    title: str
    seeds: Sequence[int]
    prepare: Callable[[], Callable[[int], Piece]]


def each_study(
    studies: Sequence[Any],
    prepare: Callable[[Any], Callable[[int], Piece]],
    seeds: Sequence[int] | None = None,
) -> list[Series]:
    """Return the series of all studies, each with the seeds that it names, or all with the same ``seeds``."""
    return [
        Series(study.title, study.seeds if seeds is None else seeds, partial(prepare, study))
        for study in studies
    ]


@dataclass(frozen=True)
class Found:
    """The tables of every series by its title, and the seconds that they took."""

    tables: Mapping[str, Tables]
    seconds: Seconds

    def __getitem__(self, title: str) -> Tables:
        return self.tables[title]


def run_studies(asked: Any, series: Sequence[Series], where: Where, data: Sequence[Provenance]) -> Found:
    """Train all pieces of all series, and return their tables, those of all seeds joined.

    Parameters
    ----------
    asked
        The protocol.
    series
        In the order in which they are computed.
    where
        Engine, device, and the folder in which finished pieces are kept, if any.
    data
        Where all cohorts of the experiment come from.

    Raises
    ------
    DataError
        If the folder holds something else than pieces of this protocol, data, code and device.
    """
    kept = open_kept(where, asked.describe(), data, fingerprint(type(asked).__module__))
    held = {(one.title, seed): kept.read(one.title, seed) for one in series for seed in one.seeds}
    ready = {key: piece for key, piece in held.items() if piece is not None}
    tables = {key: piece.tables for key, piece in ready.items()}
    taken = {key: piece.seconds for key, piece in ready.items()}
    earlier = sum(taken.values())
    with bar(total=len(held), initial=len(ready), bar_format=BAR, show=where.progress) as shown:
        for one in series:
            shown.set_description(one.title)
            missing = [seed for seed in one.seeds if (one.title, seed) not in ready]
            began = time.monotonic()
            for seed, found in zip(missing, compute(one, missing, where, shown.update), strict=True):
                tables[one.title, seed] = found
                taken[one.title, seed] = time.monotonic() - began
                kept.write(one.title, seed, found, seconds=taken[one.title, seed])
                began = time.monotonic()
    joined = {one.title: join([tables[one.title, seed] for seed in one.seeds]) for one in series}
    parts = {one.title: sum(taken[one.title, seed] for seed in one.seeds) for one in series}
    return Found(joined, Seconds(earlier, parts))


def compute(
    series: Series, seeds: Sequence[int], where: Where, advance: Callable[[float], object]
) -> Iterator[Tables]:
    """Yield the tables of the piece of each seed, in their order; call ``advance`` with shares of a piece.

    The trials of all seeds are trained at the same time, see `train_each`.
    """
    if not seeds:
        return
    pieces = [*map(series.prepare(), seeds)]
    with closing(train_each(pieces, where)) as trained:
        for piece in pieces:
            parts = []
            for tables in islice(trained, len(piece.trials)):
                parts.append(tables)
                advance(1 / len(piece.trials))
            parts.append(piece.beside())
            advance(0 if piece.trials else 1)
            yield join(parts)


def train_each(pieces: Sequence[Piece], where: Where) -> Generator[Tables, None, None]:
    """Train the trials of all pieces and yield the tables of each, in their order.

    On the local engine as many trials run at a time as there are cores, each on one; the numbers do not
    depend on it.
    """
    stop = threading.Event()

    def job(wanted: tuple[Piece, Trial]) -> Tables:
        piece, trial = wanted
        return piece.examine(trial, train(trial, where, stop), where)

    wanted = [(piece, trial) for piece in pieces for trial in piece.trials]
    yield from for_each(job, wanted, engine=where.engine, interrupt=stop.set)


def join(parts: Sequence[Tables]) -> Tables:
    """Return the tables of all parts, those of one title as one."""
    titles = dict.fromkeys(title for part in parts for title in part)
    return {
        title: pd.concat([part[title] for part in parts if title in part], ignore_index=True)
        for title in titles
    }


def with_titles(studies: Mapping[str, Tables]) -> Tables:
    """Return the tables of all studies, each by its study's title and its own."""
    return {f"{title}: {name}": table for title, found in studies.items() for name, table in found.items()}


def with_column(studies: Mapping[str, Tables]) -> Tables:
    """Return the tables of all studies, those of one title as one, with the study's title in a column."""
    parts = []
    for title, found in studies.items():
        parts.append({name: table.assign(study=title) for name, table in found.items()})
    joined = join(parts)
    return {name: table[["study", *table.columns.drop("study")]] for name, table in joined.items()}
