"""What a folder holds, and what is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hemafl_lib.data import accounts
from hemafl_lib.data.findings import KINDS, Finding, shown
from hemafl_lib.data.layouts import LAYOUTS, Cell, Layout, Listing, require_open
from hemafl_lib.data.survival_cohorts import TABLES, TableSource
from hemafl_lib.errors import DataError

SHOWN = 100
"""Lines of each kind of finding in a printed report."""

ROWS = 18
"""Rows of each count in a printed report; no layout has more classes."""


@dataclass(frozen=True)
class Report:
    """The result of reading every file of one layout.

    ``classes``, ``sites`` and ``sizes`` count images; ``broken`` holds one sentence per file that
    cannot be read; ``findings`` name what `load` leaves out, could read in another way, or refuses; ``notes``
    state what the public release has too.
    """

    name: str
    folder: Path
    classes: Mapping[str, int]
    sites: Mapping[str, int]
    sizes: Mapping[str, int]
    broken: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether `load` uses every file as it lies."""
        return not self.broken and not self.findings

    def text(self) -> str:
        """Return the report as lines of text."""
        lines = [f"{self.name}: {sum(self.classes.values()):,} images in {shown(self.folder)}"]
        for title, counts in (("class", self.classes), ("site", self.sites), ("size", self.sizes)):
            lines += [f"  {title:6} {name:28} {count:>7,}" for name, count in _largest(counts)]
        lines += [f"  noted     {note}" for note in self.notes]
        lines += _few([f"  broken    {line}" for line in self.broken])
        for kind in KINDS:
            found = [finding for finding in self.findings if finding.kind == kind]
            lines += _few([f"  {'refused  ' if one.refused else 'not as is'} {one.line()}" for one in found])
        return "\n".join([*lines, f"  {self._last()}"])

    def _last(self) -> str:
        if self.ok:
            return "all files can be read"
        if self.broken or any(finding.refused for finding in self.findings):
            return "NOT READY TO LOAD"
        return "NOT AS IT SHOULD BE: 'load' reads the rest, and says so in the provenance"


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

    A folder that has the name of a cohort's, or of none, and cannot be read as one gets a report too.

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
    if not os.path.isdir(root):
        raise DataError(f"{shown(root)} is not a folder; give the folder that holds the images or tables.")
    require_open(root)
    sources: list[Layout | TableSource] = [*LAYOUTS.values(), *TABLES.values()]
    found = [(source, source.find(root)) for source in sources]
    reports = [_report(source, listing) for source, listing in found if listing is not None]
    claimed = {report.folder for report in reports}
    for source in sources:
        there = accounts.missing(source, root)
        if there is not None and there[0] not in claimed:
            reports.append(_missing(source.name, *there))
            claimed.add(there[0])
    if not reports:
        raise DataError(
            f"{shown(root)} holds no known layout; compare it with 'hemafl data card NAME' "
            "for the data you have."
        )
    if root not in claimed:
        others = accounts.unclaimed(root, claimed)
        reports += [Report("no cohort", root, {}, {}, {}, (), others)] if others else []
    return reports


def _report(source: Layout | TableSource, listing: Listing) -> Report | TableReport:
    return (
        _table_report(source, listing) if isinstance(source, TableSource) else _image_report(source, listing)
    )


def _missing(name: str, folder: Path, reason: str) -> Report:
    broken = f"{shown(folder)} cannot be read as '{name}', because {reason}; see 'hemafl data card {name}'."
    return Report(name, folder, {}, {}, {}, (broken,))


def _image_report(layout: Layout, listing: Listing) -> Report:
    # Every file is decoded in full; the smallest size only keeps the memory low.
    read = list(layout.cells(listing, 8))
    cells = [cell for cell in read if isinstance(cell, Cell)]
    account = accounts.of_images(layout.name, listing, cells)
    return Report(
        name=layout.name,
        folder=listing.folder,
        classes=Counter(cell.cell_type for cell in cells),
        sites=Counter(cell.site for cell in cells),
        sizes=Counter(f"{cell.width}x{cell.height}" for cell in cells),
        broken=tuple(str(error) for error in read if isinstance(error, DataError)),
        findings=account.findings,
        notes=account.notes,
    )


def _table_report(source: TableSource, listing: Listing) -> TableReport:
    try:
        table = source.read(listing.folder)
    except DataError as error:
        return TableReport(source.name, listing.folder, 0, 0, {}, {}, (), (), (str(error),))
    missing = table.rows.isna().sum()
    account = accounts.of_table(source, listing.folder)
    return TableReport(
        name=source.name,
        folder=listing.folder,
        patients=len(table.rows),
        events=int(table.rows["event"].sum()),
        sites=Counter(table.rows["site"]),
        missing={str(name): int(count) for name, count in missing.items() if count},
        notes=(*table.notes, *account.notes),
        repairs=(*table.repairs, *(finding.line() for finding in account.findings)),
        broken=(),
    )


def _few(lines: list[str]) -> list[str]:
    """Return the first lines of a kind, and how many there are besides."""
    rest = len(lines) - SHOWN
    return [*lines[:SHOWN], f"            and {rest:,} more like this"] if rest > 0 else lines


def _largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the largest counts first; what follows the first `ROWS` is summed up."""
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    rest = sum(count for _, count in ranked[ROWS:])
    return ranked[:ROWS] + ([("(others)", rest)] if rest else [])
