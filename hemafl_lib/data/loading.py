"""From a name to a cohort."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from hemafl_lib.data import cache
from hemafl_lib.data.cards import CARDS, card
from hemafl_lib.data.classes import types_of
from hemafl_lib.data.cohort import ImageCohort, Provenance
from hemafl_lib.data.layouts import LAYOUTS, Cell, Layout, Listing
from hemafl_lib.errors import DataError
from hemafl_lib.files import sha256

SIZES = range(8, 1025)


def data_root(root: Path | str | None = None) -> Path:
    """Return ``root``, or the folder that ``HEMAFL_DATA`` names.

    Raises
    ------
    DataError
        If neither is given, or the folder does not exist.
    """
    value = root or os.environ.get("HEMAFL_DATA")
    if not value:
        raise DataError(
            "no data folder is known; set HEMAFL_DATA or pass root= (the cohort 'smear' needs neither)."
        )
    path = Path(value)
    if not path.is_dir():
        raise DataError(f"data folder {path} does not exist; create it or correct HEMAFL_DATA or root=.")
    return path


def load(name: str, *, size: int = 64, root: Path | str | None = None) -> ImageCohort:
    """Load a cohort by name.

    Images are decoded once, resized with antialiasing to ``size`` x ``size`` pixels (the aspect
    ratio is not kept) and cached on disk; the cache is rebuilt when any file changes.

    Parameters
    ----------
    name
        ``"smear"`` (simulated, needs no files), or one of the names that `catalogue` lists.
    size
        Side of the images in pixels, from 8 to 1024.
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

    Raises
    ------
    DataError
        If the name or size is not valid, the folder does not hold the layout, or a file of it is
        damaged or of unknown class.
    """
    if not isinstance(size, int) or size not in SIZES:
        raise DataError(f"size={size!r} is not valid; give a whole number from 8 to 1024 pixels.")
    if card(name).name == "smear":
        from hemafl_lib.data import smear  # drawing is heavy to import, and reading files needs none of it

        return smear.simulate(size=size)
    layout = LAYOUTS[name]
    listing = _listing(layout, data_root(root))
    path = cache.place(name, size, listing.folder)
    key = cache.key(name, size, listing)
    cohort = cache.read(path, key)
    if cohort is None:
        cohort = _read(layout, listing, size)
        cache.write(path, key, cohort)
    return cohort


def available(root: Path | str | None = None) -> list[str]:
    """Return the names that `load` can load now: "smear", and every layout that ``root`` holds."""
    if root is None and not os.environ.get("HEMAFL_DATA"):
        return ["smear"]
    folder = data_root(root)
    return [name for name in CARDS if name == "smear" or LAYOUTS[name].find(folder) is not None]


def checksum(listing: Listing) -> str:
    """Return a SHA-256 over the sorted paths of a listing's files and the SHA-256 of each."""
    files = sorted(listing.files)
    with ThreadPoolExecutor() as pool:
        hashes = pool.map(lambda file: sha256(listing.folder / file), files)
        lines = [f"{digest}  {file}\n" for file, digest in zip(files, hashes, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _listing(layout: Layout, root: Path) -> Listing:
    """Find the layout under ``root``; refuse images of unknown class."""
    listing = layout.find(root)
    if listing is None:
        raise DataError(
            f"cohort '{layout.name}' is not in {root}; its layout is {card(layout.name).layout} "
            f"(see 'hemafl data card {layout.name}')."
        )
    if listing.unknown:
        raise DataError(
            f"{listing.folder / listing.unknown[0]} has no known class; move it out of the folder "
            f"('hemafl data check' lists {len(listing.unknown)} such file(s))."
        )
    return listing


def _read(layout: Layout, listing: Listing, size: int) -> ImageCohort:
    """Decode every file of a listing into one cohort."""
    total = len(listing.items) or None
    shown = tqdm(layout.cells(listing, size), desc=layout.name, total=total, unit="image", disable=None)
    cells = list(_sound(shown))
    classes = types_of(layout.name)
    about = card(layout.name)
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
        ),
    )


def _sound(cells: Iterable[Cell | DataError]) -> Iterator[Cell]:
    """Pass cells on; raise the first error."""
    for cell in cells:
        if isinstance(cell, DataError):
            raise cell
        yield cell
