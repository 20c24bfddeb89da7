"""The public layouts: where a source keeps its images, and how it names their class.

A `Layout` lists the files of a folder without opening them (`listing`), and then reads them one
cell at a time (`cells`). Loading and checking a folder are two uses of the same two steps.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from hemafl_lib.data import images
from hemafl_lib.data.classes import OWN_NAMES, cell_type
from hemafl_lib.errors import DataError

READER_VERSION = 1
"""Raised whenever the same files would be read into other pixels, labels or sites."""

JPEG = (".jpg", ".jpeg")
TIFF = (".tif", ".tiff")

BARCELONA_FIRST_BATCH = (360, 363)
"""Width and height of Barcelona's first batch; the second has other sizes and a neutral background."""


class Item(NamedTuple):
    """One image of a listing; paths are relative to the folder, ``cell_type`` is the harmonised name."""

    path: str
    cell_type: str
    patient: str
    mask: str | None = None


@dataclass(frozen=True)
class Listing:
    """What a folder holds, before any image is opened.

    ``files`` are all files that will be read; ``unknown`` are images without a known class;
    ``stray`` are files that do not belong to the layout.
    """

    folder: Path
    items: tuple[Item, ...]
    files: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    stray: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One cell as read: ``pixels`` uint8[size, size, 3], ``mask`` uint8[size, size] or None."""

    cell_type: str
    site: str
    patient: str
    pixels: np.ndarray
    mask: np.ndarray | None
    width: int
    height: int


@dataclass(frozen=True)
class Layout:
    """A public layout: its usual folder name, and how to list and read such a folder."""

    name: str
    folder: str
    listing: Callable[[Path], Listing]
    cells: Callable[[Listing, int], Iterator[Cell | DataError]]

    def recognises(self, listing: Listing) -> bool:
        """Return whether a listing has files, and a known class for most of its images."""
        return len(listing.files) > 0 and len(listing.unknown) <= len(listing.items)

    def find(self, root: Path) -> Listing | None:
        """Look in ``root/folder``, then in ``root`` itself; None if neither holds this layout."""
        for folder in (root / self.folder, root):
            if folder.is_dir():
                listing = self.listing(folder)
                if self.recognises(listing):
                    return listing
        return None


def _files(folder: Path, pattern: str) -> list[PurePosixPath]:
    """Return the files of ``folder``, sorted; hidden files and macOS leftovers are not data."""
    found = (path.relative_to(folder) for path in folder.glob(pattern) if path.is_file())
    visible = (path for path in found if not any(p.startswith((".", "__MACOSX")) for p in path.parts))
    return sorted(PurePosixPath(path.as_posix()) for path in visible)


def _by_parent(path: PurePosixPath) -> str:
    return path.parent.name


def _by_prefix(path: PurePosixPath) -> str:
    return path.stem.split("_")[0]


def _by_parent_of_field(path: PurePosixPath) -> str:
    """The parent folder, for files named like ``BloodImage_00008_1.jpg`` only."""
    return path.parent.name if path.stem.startswith("BloodImage_") else ""


def _field(path: PurePosixPath) -> str:
    """The photographed field: ``BloodImage_00008`` of ``BloodImage_00008_1.jpg``."""
    return path.stem.rpartition("_")[0]


def list_folders(
    folder: Path,
    *,
    source: str,
    suffixes: tuple[str, ...],
    own_name: Callable[[PurePosixPath], str],
    within: str = "",
    patient: Callable[[PurePosixPath], str] = str,
) -> Listing:
    """List a tree of images whose own class name is a function of the path."""
    items, unknown, stray = [], [], []
    for path in _files(folder, f"{within}/**/*" if within else "**/*"):
        meaning = cell_type(source, own_name(path))
        if path.suffix.lower() not in suffixes:
            stray.append(str(path))
        elif meaning is None:
            unknown.append(str(path))
        else:
            items.append(Item(str(path), meaning, f"{source}/{patient(path)}"))
    files = tuple(item.path for item in items)
    return Listing(folder, tuple(items), files, tuple(unknown), tuple(stray))


def list_segmentation(folder: Path, *, source: str, number: int) -> Listing:
    """List one dataset of segmentation_WBC: BMP images, PNG masks, and classes in a CSV table."""
    table = folder / f"Class Labels of Dataset {number}.csv"
    if not table.is_file():
        return Listing(folder, (), ())
    own_names = _numbered_labels(table)
    items, unknown, stray = [], [], []
    paths = _files(folder, f"Dataset {number}/*")
    pictures = {path for path in paths if path.suffix.lower() == ".bmp"}
    for path in paths:
        if path in pictures:
            meaning = cell_type(source, own_names.get(path.stem.lstrip("0"), ""))
            if meaning is None:
                unknown.append(str(path))
            else:
                mask = str(path.with_suffix(".png"))
                items.append(Item(str(path), meaning, f"{source}/{path.stem}", mask))
        elif path.with_suffix(".bmp") not in pictures:
            stray.append(str(path))
    read = [table.name, *(name for item in items for name in (item.path, item.mask) if name)]
    return Listing(folder, tuple(items), tuple(read), tuple(unknown), tuple(stray))


def _numbered_labels(table: Path) -> dict[str, str]:
    """Read a table of image number and class number, with a header line."""
    try:
        rows = [row for row in csv.reader(table.read_text(encoding="utf-8-sig").splitlines()[1:]) if row]
        return {number.strip(): label.strip() for number, label in rows}
    except (ValueError, csv.Error):
        raise DataError(f"{table} must hold two columns, image and class; restore the file.") from None


def decode_items(
    listing: Listing, size: int, *, site_of: Callable[[int, int], str]
) -> Iterator[Cell | DataError]:
    """Decode a listing in parallel threads, in order; a file that cannot be read yields its error."""

    def read(item: Item) -> Cell | DataError:
        try:
            picture = images.decode(listing.folder / item.path, size)
            mask = None if item.mask is None else images.decode_mask(listing.folder / item.mask, size)
        except DataError as error:
            return error
        site = site_of(picture.width, picture.height)
        return Cell(item.cell_type, site, item.patient, picture.pixels, mask, picture.width, picture.height)

    with ThreadPoolExecutor() as pool:
        yield from pool.map(read, listing.items)


def list_bloodmnist(folder: Path) -> Listing:
    """List the archive of a folder; of several resolutions, the largest is the one that is read."""
    sides = {}
    for path in folder.glob("bloodmnist*.npz"):
        side = path.stem.removeprefix("bloodmnist").removeprefix("_") or "28"
        if side.isdigit():
            sides[int(side)] = path.name
    files = (sides[max(sides)],) if sides else ()
    return Listing(folder, (), files, stray=tuple(sorted(set(sides.values()) - set(files))))


def read_bloodmnist(listing: Listing, size: int) -> Iterator[Cell | DataError]:
    """Read the three splits of an archive as one cohort; a damaged archive yields its error."""
    path = listing.folder / listing.files[0]
    try:
        # Opened here, because NumPy leaves the file of a damaged archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            splits = [(split, *_split(archive, split)) for split in ("train", "val", "test")]
    except Exception as error:  # NumPy and zipfile raise many kinds of error for damaged bytes
        yield DataError(f"{path} cannot be read as BloodMNIST ({error}); fetch it again.")
        return
    for split, pictures, labels in splits:
        for number, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
            yield Cell(
                cell_type=OWN_NAMES["bloodmnist"][str(label)],
                site="bloodmnist",
                patient=f"bloodmnist/{split}/{number}",
                pixels=images.resize(Image.fromarray(pixels), size),
                mask=None,
                width=pixels.shape[1],
                height=pixels.shape[0],
            )


def _split(archive: np.lib.npyio.NpzFile, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images uint8[N, S, S, 3] and labels [N] of one split, checked."""
    pictures, labels = archive[f"{split}_images"], archive[f"{split}_labels"].reshape(-1)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
        raise ValueError(f"'{split}_images' must be uint8[N, S, S, 3]")
    if len(labels) != len(pictures) or not np.isin(labels, range(len(OWN_NAMES["bloodmnist"]))).all():
        raise ValueError(f"'{split}_labels' must be one number from 0 to 7 for every image")
    return pictures, labels


def _folders(
    name: str,
    folder: str,
    *,
    suffixes: tuple[str, ...],
    own_name: Callable[[PurePosixPath], str],
    within: str = "",
    patient: Callable[[PurePosixPath], str] = str,
    site_of: Callable[[int, int], str] | None = None,
) -> Layout:
    """Return the layout of a tree of class folders."""
    listing = partial(
        list_folders, source=name, suffixes=suffixes, own_name=own_name, within=within, patient=patient
    )
    return Layout(name, folder, listing, partial(decode_items, site_of=site_of or _always(name)))


def _segmentation(name: str, number: int) -> Layout:
    """Return the layout of one of the two datasets of segmentation_WBC."""
    listing = partial(list_segmentation, source=name, number=number)
    return Layout(name, "segmentation_WBC", listing, partial(decode_items, site_of=_always(name)))


def _always(site: str) -> Callable[[int, int], str]:
    return lambda width, height: site


def barcelona_batch(width: int, height: int) -> str:
    """Return the acquisition batch of a Barcelona image, told by its size in pixels."""
    return "barcelona" if (width, height) == BARCELONA_FIRST_BATCH else "barcelona-2"


LAYOUTS = {
    layout.name: layout
    for layout in (
        _folders("taleqani", "taleqani", suffixes=JPEG, own_name=_by_parent, within="Original"),
        _folders("taleqani-v2", "Blood cell Cancer [ALL]", suffixes=JPEG, own_name=_by_parent),
        _folders(
            "barcelona",
            "PBC_dataset_normal_DIB",
            suffixes=JPEG,
            own_name=_by_prefix,
            site_of=barcelona_batch,
        ),
        _segmentation("tecom", 1),
        _segmentation("cellavision", 2),
        _folders("bccd", "BCCD_cropped", suffixes=JPEG, own_name=_by_parent_of_field, patient=_field),
        _folders("lmu", "AML-Cytomorphology_LMU", suffixes=TIFF, own_name=_by_prefix),
        _folders("mll23", "MLL23", suffixes=TIFF, own_name=_by_parent),
        Layout("bloodmnist", "bloodmnist", list_bloodmnist, read_bloodmnist),
    )
}
