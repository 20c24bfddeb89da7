"""From a name to a cohort."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from hemafl_lib.data import accounts, cache, sickle_cell
from hemafl_lib.data.cards import BUILT_IN, CARDS, card
from hemafl_lib.data.classes import types_of
from hemafl_lib.data.cohort import ImageCohort, Provenance, TableCohort
from hemafl_lib.data.digests import digests
from hemafl_lib.data.findings import Finding, sentences, shown
from hemafl_lib.data.layouts import LAYOUTS, Cell, Layout, Listing, require_open
from hemafl_lib.data.survival_cohorts import TABLES, TableSource
from hemafl_lib.data.tables import CleanTable, choose_features, to_cohort
from hemafl_lib.errors import DataError

SIZES = range(8, 1025)

SIMULATED = tuple(name for name, card in CARDS.items() if card.comes == "drawn")
"""The cohorts that are drawn, not read: images and a table."""


def known_root(root: Path | str | None = None) -> Path | None:
    """Return ``root``, or the folder that ``HEMAFL_DATA`` names, or None. Nothing else reads the variable."""
    value = root or os.environ.get("HEMAFL_DATA")
    return Path(value) if value else None


def data_root(root: Path | str | None = None) -> Path:
    """Return ``root``, or the folder that ``HEMAFL_DATA`` names.

    Raises
    ------
    DataError
        If neither is given, or the folder does not exist or may not be opened.
    """
    path = known_root(root)
    if path is None:
        raise DataError(
            "no data folder is known; set HEMAFL_DATA or pass root= "
            f"(the cohorts {', '.join(BUILT_IN)} need neither)."
        )
    # os.path, unlike pathlib, takes a folder behind a closed one for one that is not there.
    if not os.path.isdir(path):
        raise DataError(
            f"data folder {shown(path)} does not exist; create it or correct HEMAFL_DATA or root=."
        )
    require_open(path)
    return path


def load(
    name: str, *, size: int = 64, features: str | None = None, root: Path | str | None = None
) -> ImageCohort | TableCohort:
    """Load a cohort by name, images or a table; `load_images` and `load_table` promise which.

    Images are decoded once, resized with antialiasing to ``size`` x ``size`` pixels (the aspect
    ratio is not kept) and cached on disk; the cache is rebuilt when the content of any file changes.
    Tables are checked and repaired each time they are read (`hemafl_lib.data.tables`). The provenance
    tells what was left out, repaired, or could have been read in another way; `check` tells it file by
    file.

    Parameters
    ----------
    name
        ``"smear"`` or ``"sickle-cell"`` (simulated, need no files), ``"flchain"`` (comes with
        scikit-survival), or one of the names that `catalogue` lists.
    size
        Side of the images in pixels, from 8 to 1024.
    features
        Groups of a table's features, joined by "+": ``"clinical"``, ``"clinical+genetic"``; all by
        default. The groups are "demographic", "clinical" (with the demographic ones) and, of
        "ipssm" and "amlsg", "cytogenetic" and "genetic".
    root
        Folder that holds the public layouts; the environment variable ``HEMAFL_DATA`` by default.

    Returns
    -------
    ImageCohort
        Images uint8[N, 3, size, size] in the order of their sorted paths. The classes are the cell
        types that the source labels (`hemafl_lib.data.classes`), whether present or not; `harmonise`
        turns them into the classes of a study. Where the source names no patients, each image is
        a patient of its own. The provenance checksum is a SHA-256 over the path and the SHA-256 of
        every file that was read.
    TableCohort
        Features float32[N, F] of the patients whose outcome is known, in the order of the file, NaN
        where a value is not known (`hemafl_lib.data.tables.impute` fills them); time float32[N] in
        months and event bool[N], or label int64[N].

    Raises
    ------
    DataError
        If the name, size or group of features is not valid, the folder does not hold the layout, or
        a file of it is damaged, of unknown class, changes meanwhile, or holds what cannot be.

    Warns
    -----
    UserWarning
        If the decoded images cannot be cached (a full disk); they are returned all the same.
    """
    _check_size(size)
    if card(name).kind == "tables":
        return load_table(name, features=features, root=root)
    if features is not None:
        raise DataError(f"'{name}' has no groups of features; leave features= out, or load a table.")
    return load_images(name, size=size, root=root)


def load_images(name: str, *, size: int = 64, root: Path | str | None = None) -> ImageCohort:
    """Load a cohort of images by name, as `load` does; raise `DataError` if ``name`` is a table."""
    _check_size(size)
    if card(name).kind == "tables":
        raise DataError(f"'{name}' is a table and holds no images; load it with load_table.")
    if name in SIMULATED:
        from hemafl_lib.data import smear  # drawing is heavy to import, and reading files needs none of it

        return smear.simulate(size=size)
    layout = LAYOUTS[name]
    listing = _listing(layout, data_root(root))
    path, key = cache.place(name, size, listing.folder), cache.key(name, size, listing)
    cohort = cache.read(path, key)
    if cohort is None:
        cohort = _read(layout, listing, size)
        if cache.key(name, size, listing) != key:
            raise DataError(f"{shown(listing.folder)} changed while it was read; load it again.")
        try:
            cache.write(path, key, cohort)
        except DataError as error:
            warnings.warn(str(error), stacklevel=2)
    return cohort


def load_table(name: str, *, features: str | None = None, root: Path | str | None = None) -> TableCohort:
    """Load a table of patients by name, as `load` does; raise `DataError` if ``name`` holds images."""
    if card(name).kind == "images":
        raise DataError(f"'{name}' holds images and is no table; load it with load_images.")
    if name in SIMULATED:
        return sickle_cell.simulate()
    source = TABLES[name]
    names = choose_features(source.groups, features)
    if source.package is not None:
        table = source.read(Path())
        return to_cohort(table, names, _provenance(source, table, content_checksum(table)))
    listing = _found(source, data_root(root))
    table = source.read(listing.folder)
    beside = accounts.of_table(source, listing.folder)
    return to_cohort(table, names, _provenance(source, table, checksum(listing), beside))


def _check_size(size: int) -> None:
    if not isinstance(size, int) or size not in SIZES:
        raise DataError(f"size={size!r} is not valid; give a whole number from 8 to 1024 pixels.")


def available(root: Path | str | None = None) -> list[str]:
    """Return the names that `load` can load now: what needs no files, and what ``root`` holds."""
    folder = None if known_root(root) is None else data_root(root)
    return [name for name in CARDS if _is_here(name, folder)]


def _is_here(name: str, folder: Path | None) -> bool:
    """Return whether a cohort is simulated, comes with an installed package, or lies in ``folder``."""
    if name in SIMULATED or (name in TABLES and TABLES[name].installed):
        return True
    source: Layout | TableSource = TABLES[name] if name in TABLES else LAYOUTS[name]
    return folder is not None and source.find(folder) is not None


def checksums(names: Iterable[str], root: Path | str | None = None) -> dict[str, str]:
    """Return the checksums of those of the named cohorts whose files ``root`` holds, without reading cells.

    Raises `DataError` if a file cannot be opened.
    """
    folder = None if known_root(root) is None else data_root(root)
    sources = {name: TABLES[name] if name in TABLES else LAYOUTS[name] for name in names}
    found = {name: None if folder is None else source.find(folder) for name, source in sources.items()}
    return {name: checksum(listing) for name, listing in found.items() if listing is not None}


def checksum(listing: Listing) -> str:
    """Return a SHA-256 over the sorted paths of a listing's files and the SHA-256 of each.

    Raises
    ------
    DataError
        If a file is missing or cannot be opened.
    """
    files = sorted(listing.files)
    pairs = zip(digests(listing.folder, files, "sha256"), files, strict=True)
    return hashlib.sha256("".join(f"{digest}  {file}\n" for digest, file in pairs).encode()).hexdigest()


def _provenance(
    source: TableSource, table: CleanTable, digest: str, beside: accounts.Account | None = None
) -> Provenance:
    """Return the provenance of a table; what was repaired is part of where it comes from."""
    about = card(source.name)
    return Provenance(
        name=about.name,
        source=f"{about.title}. {about.source}",
        licence=about.licence,
        simulated=False,
        checksum=digest,
        notes=(*table.notes, *(beside.notes if beside else ())),
        repairs=(*table.repairs, *sentences(beside.findings if beside else ())),
    )


def content_checksum(table: CleanTable) -> str:
    """Return a SHA-256 over the rows of a table that has no files of its own."""
    return hashlib.sha256(table.rows.to_csv(float_format="%.9g").encode()).hexdigest()


def _found(source: Layout | TableSource, root: Path) -> Listing:
    """Find a layout or a table under ``root``."""
    listing = source.find(root)
    if listing is not None:
        return listing
    there = accounts.missing(source, root)
    reason = (
        f"is not in {shown(root)}" if there is None else f"is not in {shown(there[0])}, because {there[1]}"
    )
    raise DataError(
        f"cohort '{source.name}' {reason}; its layout is {card(source.name).layout} "
        f"(see 'hemafl data card {source.name}')."
    )


def _listing(layout: Layout, root: Path) -> Listing:
    """Find the layout under ``root``; refuse images of unknown class and what cannot be opened."""
    listing = _found(layout, root)
    _refuse(listing.folder, listing.findings)
    return listing


def _refuse(folder: Path, findings: Iterable[Finding]) -> None:
    """Raise `DataError` for the first finding that is refused, if there is one."""
    refused = [finding for finding in findings if finding.refused]
    if refused:
        raise DataError(
            f"{shown(folder)}/{refused[0].line().rstrip('.')} "
            f"('hemafl data check' names all {len(refused)} that are refused)."
        )


def _read(layout: Layout, listing: Listing, size: int) -> ImageCohort:
    """Decode every file of a listing into one cohort."""
    total = len(listing.items) or None
    shown = tqdm(layout.cells(listing, size), desc=layout.name, total=total, unit="image", disable=None)
    cells = list(_sound(shown))
    classes = types_of(layout.name)
    about, account = card(layout.name), accounts.of_images(layout.name, listing, cells)
    _refuse(listing.folder.parent, account.findings)
    masks = [cell.mask for cell in cells if cell.mask is not None]
    return ImageCohort(
        images=torch.from_numpy(np.stack([cell.pixels for cell in cells])).permute(0, 3, 1, 2).contiguous(),
        labels=torch.tensor([classes.index(cell.cell_type) for cell in cells]),
        classes=classes,
        site=np.array([cell.site for cell in cells]),
        patient=np.array([cell.patient for cell in cells]),
        masks=torch.from_numpy(np.stack(masks)) if masks else None,
        provenance=Provenance(
            name=about.name,
            source=f"{about.title}. {about.source}",
            licence=about.licence,
            simulated=False,
            checksum=checksum(listing),
            notes=account.notes,
            repairs=sentences(account.findings),
        ),
    )


def _sound(cells: Iterable[Cell | DataError]) -> Iterator[Cell]:
    """Pass cells on; raise the first error."""
    for cell in cells:
        if isinstance(cell, DataError):
            raise cell
        yield cell
