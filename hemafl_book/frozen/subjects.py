"""What a file of frozen results is of: a paper by its full protocol, or an explorer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from hemafl_book import explorers, papers
from hemafl_book.explorers.sweep import SETTINGS, at_root, reads
from hemafl_book.fingerprint import Fingerprint
from hemafl_book.papers import running
from hemafl_book.papers.changes import UNCHANGED
from hemafl_book.papers.protocol import with_studies
from hemafl_book.papers.where import Where
from hemafl_book.results import plain
from hemafl_lib.errors import HemaflError


@dataclass(frozen=True)
class Again:
    """A part of a result, computed again.

    Attributes
    ----------
    studies
        The seeds of each study; of an explorer the number of the setting.
    tables
        The numbers by title, those of these seeds only.
    keys
        The columns of each table that tell these rows from those of other studies, seeds and settings.
    checksums
        Of the data that were read.
    """

    studies: dict[str, list[int]]
    tables: Mapping[str, pd.DataFrame]
    keys: Mapping[str, Sequence[str]]
    checksums: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One file of frozen results; another process can be asked to compute it.

    Attributes
    ----------
    name
        Of its file, without the ending.
    protocol
        Returns what decides its numbers, as plain JSON values.
    code
        Returns the fingerprint of the code that decides them.
    studies
        Returns the titles of its studies.
    reads
        Returns the real cohorts that are read.
    compute
        Computes its file, keeping finished pieces in the folder that `Where` names.
    again
        Computes the first seed of some studies again, or the last setting of an explorer.
    """

    name: str
    protocol: Callable[[], dict[str, Any]]
    code: Callable[[], Fingerprint]
    studies: Callable[[], tuple[str, ...]]
    reads: Callable[[], tuple[str, ...]]
    compute: Callable[[Path, Where, Callable[[str], object]], None]
    again: Callable[[Sequence[str], Where], Again]

    def path(self, folder: Path) -> Path:
        """Return its file in a folder."""
        return folder / f"{self.name}.json"


def subjects() -> dict[str, Subject]:
    """Return all that the registries know, by the names of their files."""
    found = [
        *(of_paper(name) for name in papers.PAPERS),
        *(of_explorer(name) for name in explorers.EXPLORERS),
    ]
    return {subject.name: subject for subject in found}


def find(names: Sequence[str]) -> list[Subject]:
    """Return the subjects of these names, or all; raise `HemaflError` if there is none of a name."""
    known = subjects()
    for name in names:
        if name not in known:
            raise HemaflError(f"result '{name}' is unknown; choose one of {', '.join(known)}.")
    return [known[name] for name in names or known]


def of_paper(name: str) -> Subject:
    """Return the result of a paper: its full protocol on real data, where it reads any."""
    return Subject(
        name=name,
        protocol=partial(paper_protocol, name),
        code=partial(papers.code_of, name),
        studies=partial(paper_studies, name),
        reads=partial(paper_reads, name),
        compute=partial(compute_paper, name),
        again=partial(run_first_seeds, name),
    )


def paper_protocol(name: str) -> dict[str, Any]:
    """Return a paper's full protocol as plain JSON values."""
    return plain(full_protocol(name).describe())


def paper_studies(name: str) -> tuple[str, ...]:
    """Return the titles of a paper's studies."""
    return tuple(study.title for study in full_protocol(name).studies)


def paper_reads(name: str) -> tuple[str, ...]:
    """Return the real cohorts that a paper reads."""
    return papers.find(name).OFFER.reads


def compute_paper(name: str, out: Path, where: Where, say: Callable[[str], object]) -> None:
    """Compute the frozen result of a paper."""
    running.run_and_report(name, "paper", UNCHANGED, where, out=out, say=say, renew=True)


def full_protocol(name: str) -> Any:
    """Return the protocol of a paper's frozen result."""
    paper = papers.find(name)
    return paper.protocol("paper", paper.OFFER.sources[0], UNCHANGED)


def run_first_seeds(name: str, titles: Sequence[str], where: Where) -> Again:
    """Run the first seed of some studies of a paper; tables that join seeds are left out."""
    asked = with_studies(full_protocol(name), titles).with_first_seed()
    found = papers.find(name).run(asked, where)
    seeds = {study.title: list(getattr(study, "seeds", asked.seeds)) for study in asked.studies}
    tables = {title: table for title, table in found.tables.items() if "seed" in table}
    keys = {title: [key for key in ("study", "seed") if key in table] for title, table in tables.items()}
    return Again(seeds, tables, keys, [source.checksum for source in found.data])


def of_explorer(name: str) -> Subject:
    """Return the recording of an explorer."""
    return Subject(
        name=f"explorer-{name}",
        protocol=partial(explorer_protocol, name),
        code=partial(explorers.code_of, name),
        studies=partial(tuple, (SETTINGS,)),
        reads=partial(explorer_reads, name),
        compute=partial(record_explorer, name),
        again=partial(explore_last, name),
    )


def explorer_protocol(name: str) -> dict[str, Any]:
    """Return what decides the numbers of an explorer, as plain JSON values."""
    return plain(explorers.find(name).protocol())


def explorer_reads(name: str) -> tuple[str, ...]:
    """Return the real cohorts that an explorer reads."""
    return reads(explorers.find(name))


def record_explorer(name: str, out: Path, where: Where, say: Callable[[str], object]) -> None:
    """Compute the recording of an explorer."""
    explorers.record(name, out, say, where, renew=True)


def explore_last(name: str, titles: Sequence[str], where: Where) -> Again:
    """Compute the last setting of an explorer; where one setting holds the rows of others, that one does.

    An explorer has no studies.
    """
    sweep = at_root(explorers.find(name), where.root)
    setting = sweep.settings()[-1]
    tables = sweep.join_settings([setting], [sweep.to_rows(sweep.explore(**setting))])
    return Again(
        {SETTINGS: [len(sweep.settings()) - 1]},
        tables,
        sweep.tables,
        [source.checksum for source in sweep.data()],
    )
