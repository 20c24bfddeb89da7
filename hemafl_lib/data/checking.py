"""What a folder holds, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hemafl_lib.data.layouts import LAYOUTS, Cell, Layout, Listing
from hemafl_lib.data.survival_cohorts import TABLES, TableSource
from hemafl_lib.errors import DataError

SHOWN = 10
"""Lines of each kind of problem in a printed report."""

ROWS = 18
"""Rows of each count in a printed report; no layout has more classes."""


@dataclass(frozen=True)
class Report:
    """The result of reading every file of one layout.

    ``classes``, ``sites`` and ``sizes`` count images; ``broken`` holds one sentence per file that
    cannot be read; ``unknown`` and ``stray`` hold paths relative to ``folder``.
    """

    name: str
    folder: Path
    classes: Mapping[str, int]
    sites: Mapping[str, int]
    sizes: Mapping[str, int]
    broken: tuple[str, ...]
    unknown: tuple[str, ...]
    stray: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether `load` will read the folder; stray files do no harm."""
        return not self.broken and not self.unknown

    def text(self) -> str:
        """Return the report as lines of text."""
        lines = [f"{self.name}: {sum(self.classes.values()):,} images in {self.folder}"]
        for title, counts in (("class", self.classes), ("site", self.sites), ("size", self.sizes)):
            lines += [f"  {title:6} {name:28} {count:>7,}" for name, count in _largest(counts)]
        problems = (
            ("broken", self.broken),
            ("of unknown class", self.unknown),
            ("that do not belong to the layout (ignored)", self.stray),
        )
        for title, found in problems:
            if found:
                lines.append(f"  {len(found):,} file(s) {title}:")
                lines += [f"    {line}" for line in found[:SHOWN]]
                lines += ["    ..."] if len(found) > SHOWN else []
        return "\n".join([*lines, "  all files can be read" if self.ok else "  NOT READY TO LOAD"])


@dataclass(frozen=True)
class TableReport:
    """The result of reading one table of patients.

    ``patients`` and ``events`` count those whose outcome is known, ``sites`` counts patients and
    ``missing`` the patients whose value of a feature is not known; ``notes`` and ``repairs`` are those of the
    cohort's `Provenance`, and ``broken`` holds the sentence of what could not be repaired, if there is one.
    """

    name: str
    folder: Path
    patients: int
    events: int
    sites: Mapping[str, int]
    missing: Mapping[str, int]
    notes: tuple[str, ...]
    repairs: tuple[str, ...]
    broken: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether `load` will read the table as it is: nothing is broken and nothing has to be repaired."""
        return not self.broken and not self.repairs

    def text(self) -> str:
        """Return the report as lines of text."""
        lines = [f"{self.name}: {self.patients:,} patients, {self.events:,} events, in {self.folder}"]
        for title, counts in (("site", self.sites), ("not known", self.missing)):
            lines += [f"  {title:9} {name:25} {count:>7,}" for name, count in _largest(counts)]
        lines += [f"  noted     {line}" for line in self.notes]
        lines += [f"  repaired  {line}" for line in self.repairs]
        lines += [f"  broken    {line}" for line in self.broken]
        if self.ok:
            return "\n".join([*lines, "  the table can be read"])
        last = "NOT READY TO LOAD" if self.broken else "NOT AS IT SHOULD BE: 'load' reads it repaired as said"
        return "\n".join([*lines, f"  {last}"])


def check(path: Path | str) -> list[Report | TableReport]:
    """Read every image of every layout, and every table, found in ``path`` and report on each.

    Parameters
    ----------
    path
        A folder in one of the public layouts, or the parent of several.

    Raises
    ------
    DataError
        If the folder does not exist or holds no known layout.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the folder that holds the images or tables.")
    found = [(layout, layout.find(root)) for layout in LAYOUTS.values()]
    tables = [(source, source.find(root)) for source in TABLES.values()]
    reports: list[Report | TableReport] = [
        *(_report(layout, listing) for layout, listing in found if listing is not None),
        *(_table_report(source, listing) for source, listing in tables if listing is not None),
    ]
    if not reports:
        raise DataError(
            f"{root} holds no known layout; compare it with 'hemafl data card NAME' for the data you have."
        )
    return reports


def _report(layout: Layout, listing: Listing) -> Report:
    # Every file is decoded in full; the smallest size only keeps the memory low.
    read = list(layout.cells(listing, 8))
    cells = [cell for cell in read if isinstance(cell, Cell)]
    return Report(
        name=layout.name,
        folder=listing.folder,
        classes=Counter(cell.cell_type for cell in cells),
        sites=Counter(cell.site for cell in cells),
        sizes=Counter(f"{cell.width}x{cell.height}" for cell in cells),
        broken=tuple(str(error) for error in read if isinstance(error, DataError)),
        unknown=listing.unknown,
        stray=listing.stray,
    )


def _table_report(source: TableSource, listing: Listing) -> TableReport:
    try:
        table = source.read(listing.folder)
    except DataError as error:
        return TableReport(source.name, listing.folder, 0, 0, {}, {}, (), (), (str(error),))
    missing = table.rows.isna().sum()
    return TableReport(
        name=source.name,
        folder=listing.folder,
        patients=len(table.rows),
        events=int(table.rows["event"].sum()),
        sites=Counter(table.rows["site"]),
        missing={str(name): int(count) for name, count in missing.items() if count},
        notes=table.notes,
        repairs=table.repairs,
        broken=(),
    )


def _largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the largest counts first; what follows the first `ROWS` is summed up."""
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(count for _, count in ranked[ROWS:])
    return ranked[:ROWS] + ([("(others)", rest)] if rest else [])
