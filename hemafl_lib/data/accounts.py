"""Every file of a cohort's folder accounted for: what is used, what is not, and what was known before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from hemafl_lib.data.cards import card
from hemafl_lib.data.findings import Finding, shown
from hemafl_lib.data.layouts import Cell, Layout, Listing
from hemafl_lib.data.survival_cohorts import TABLES, TableSource


class Account(NamedTuple):
    """What reading a folder came upon.

    ``notes`` are sentences on what the public release has too; ``findings`` are what is amiss in this copy.
    """

    notes: tuple[str, ...]
    findings: tuple[Finding, ...]


def of_images(name: str, listing: Listing, cells: Sequence[Cell]) -> Account:
    """Account for a folder of images whose ``cells`` were read."""
    remarks = [Finding(kind, shown(cell.path), detail) for cell in cells for kind, detail in cell.remarks]
    found = list(copies(cells))
    known = [copy for copy in found if copy.kind == "copy" and copy.file in card(name).copies]
    notes = _beside(listing.known)
    if known:
        notes += (f"{len(known)} image(s) show the same picture as another of their class, as published.",)
    others = [copy for copy in found if copy not in known]
    nothing = [] if cells else [Finding("nothing", shown(listing.folder.name))]
    return Account(notes, (*listing.findings, *remarks, *others, *nothing))


def of_table(source: TableSource, folder: Path) -> Account:
    """Account for the files beside those of the tables in a folder; folders in it are not entered."""
    read = {file for table in TABLES.values() for file in table.files}
    beside = card(source.name).beside
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name not in read)
    known = tuple(name for name in names if name in beside)
    return Account(
        _beside(known), tuple(Finding("beside", shown(name)) for name in names if name not in beside)
    )


def missing(source: Layout | TableSource, root: Path) -> tuple[Path, str] | None:
    """Return the folder that should hold a cohort, and why it is not read; None if there is none."""
    folder = root if root.name == source.folder else root / source.folder
    if not source.folder or not folder.is_dir():
        return None
    if isinstance(source, TableSource):
        lacking = [file for file in source.files if not os.path.isfile(folder / file)]
        return folder, f"it lacks {', '.join(lacking)}"
    findings = source.listing(folder).findings
    example = f", for example {findings[0].line().rstrip('.')}" if findings else ""
    return folder, f"it holds no images of that layout, or most are of no known class{example}"


def unclaimed(root: Path, claimed: Iterable[Path]) -> tuple[Finding, ...]:
    """Return the folders in ``root`` that belong to no cohort; hidden ones are nobody's."""
    known = {path.resolve() for path in claimed}
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return tuple(Finding("unclaimed", shown(path.name)) for path in folders if path.resolve() not in known)


def copies(cells: Iterable[Cell]) -> Iterable[Finding]:
    """Find the cells that show the same picture as an earlier one."""
    first: dict[str, Cell] = {}
    for cell in cells:
        other = first.setdefault(cell.picture, cell)
        if other is not cell:
            kind = "copy" if other.cell_type == cell.cell_type else "two labels"
            yield Finding(kind, shown(cell.path), f"{shown(other.path)}, {other.cell_type}")


def _beside(known: Sequence[str]) -> tuple[str, ...]:
    return (f"Beside what is read, as published: {', '.join(known)}.",) if known else ()
