"""The public layouts: where a source keeps its images, and how it names their class.

A `Layout` lists the files of a folder without opening them (`listing`), and then reads them one
cell at a time (`cells`). Loading and checking a folder are two uses of the same two steps. Whatever lies in
the folder is an item, a finding, or known to lie there in the public release: nothing is passed over.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from hemafl_lib.data import images
from hemafl_lib.data.cards import card
from hemafl_lib.data.classes import OWN_NAMES, cell_type
from hemafl_lib.data.findings import Finding, shown
from hemafl_lib.errors import DataError

READER_VERSION = 2
"""Raised whenever the same files would be read into other pixels, labels, sites or notes."""

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

    ``files`` are all files that will be read; ``findings`` say what will not be, or only doubtfully;
    ``known`` are the files and folders beside the images that the public release has too.
    """

    folder: Path
    items: tuple[Item, ...]
    files: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One cell as read: ``pixels`` uint8[size, size, 3], ``mask`` uint8[size, size] or None.

    ``path`` is that of the listing; ``picture`` and ``remarks`` are those of a `DecodedImage`.
    """

    path: str
    cell_type: str
    site: str
    patient: str
    pixels: np.ndarray
    mask: np.ndarray | None
    width: int
    height: int
    picture: str
    remarks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Layout:
    """A public layout: its usual folder name, and how to list and read such a folder."""

    name: str
    folder: str
    listing: Callable[[Path], Listing]
    cells: Callable[[Listing, int], Iterator[Cell | DataError]]

    def recognises(self, listing: Listing) -> bool:
        """Return whether a listing has files, and a known class for most of its images."""
        unknown = sum(finding.kind == "unknown" for finding in listing.findings)
        return len(listing.files) > 0 and unknown <= len(listing.items)

    def find(self, root: Path) -> Listing | None:
        """Look in ``root/folder``, then in ``root`` itself; None if neither holds this layout."""
        for folder in (root / self.folder, root):
            if folder.is_dir():
                listing = self.listing(folder)
                if self.recognises(listing):
                    return listing
        return None


def require_open(folder: Path) -> None:
    """Raise `DataError` if a folder may not be listed or entered."""
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DataError(f"{shown(folder)} may not be opened; give the user of this program the right to.")


class Survey(NamedTuple):
    """Everything below a folder: its regular files, sorted, what else was found, and what is ``known``."""

    files: list[PurePosixPath]
    findings: list[Finding]
    known: list[str]


def survey(folder: Path, known: Sequence[str] = ()) -> Survey:
    """List a folder and all folders in it; links are not followed, and hidden folders not entered.

    ``known`` holds patterns of paths that are no images, and are expected.
    """
    seen = Survey([], [], [])
    pending = [PurePosixPath()]
    while pending:
        inner = pending.pop()
        try:
            with os.scandir(folder / inner) as found:
                entries = list(found)
        except OSError as error:
            seen.findings.append(Finding("closed", shown(inner), error.strerror or ""))
            continue
        if not entries:
            seen.findings.append(Finding("empty", shown(inner)))
        for entry in entries:
            path = inner / entry.name
            if any(fnmatchcase(str(path), pattern) for pattern in known):
                seen.known.append(shown(path))
            elif entry.name.startswith((".", "__MACOSX")):
                seen.findings.append(Finding("hidden", shown(path)))
            elif entry.is_symlink():
                seen.findings.append(Finding("link", shown(path)))
            elif entry.is_dir(follow_symlinks=False):
                pending.append(path)
            elif entry.is_file(follow_symlinks=False):
                seen.files.append(path)
            else:
                seen.findings.append(Finding("special", shown(path)))
    return Survey(sorted(seen.files), sorted(seen.findings), sorted(seen.known))


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


def _outer(path: PurePosixPath) -> Sequence[str]:
    """The folders around the one that names the class."""
    return path.parts[:-2]


def _outer_and_taleqani(path: PurePosixPath) -> Sequence[str]:
    """Also the class in a name like ``WBC-Malignant-Pro-001``."""
    return (*_outer(path), *path.stem.split("-")[-2:-1])


def _outer_and_stem(path: PurePosixPath) -> Sequence[str]:
    """Also the class in a name like ``basophil_0001``."""
    return (*_outer(path), path.stem.rpartition("_")[0])


def _all_folders(path: PurePosixPath) -> Sequence[str]:
    return path.parts[:-1]


BARCELONA_FOLDERS = {
    "neutrophil": ("SNE", "BNE", "NEUTROPHIL"),
    "eosinophil": ("EO",),
    "basophil": ("BA",),
    "lymphocyte": ("LY",),
    "monocyte": ("MO",),
    "ig": ("MMY", "MY", "PMY", "IG"),
    "erythroblast": ("ERB",),
    "platelet": ("PLATELET",),
}
"""The coarser classes that Barcelona's folders name, and the codes of the files in each."""


def _barcelona_folder(path: PurePosixPath) -> Sequence[str]:
    """A code of the folder, if the code of the file is none of the folder's."""
    codes = BARCELONA_FOLDERS.get(path.parent.name.lower(), ())
    return () if _by_prefix(path).upper() in codes else codes[:1]


def list_folders(
    folder: Path,
    *,
    source: str,
    suffixes: tuple[str, ...],
    own_name: Callable[[PurePosixPath], str],
    other_names: Callable[[PurePosixPath], Sequence[str]] = _outer,
    within: str = "",
    class_folders: bool = True,
    patient: Callable[[PurePosixPath], str] = str,
) -> Listing:
    """List a tree of images whose own class name is a function of the path.

    ``other_names`` are the other places of a path that may name a class, and should then name the same.
    With ``class_folders`` each folder around an image's own has to be that of a class too: another layout
    has its class folders deeper.
    """
    require_open(folder)
    if not os.path.isdir(folder / within):
        return Listing(folder, (), ())
    seen = survey(folder, card(source).beside)
    items, findings = [], list(seen.findings)
    for path in seen.files:
        own, file = own_name(path), shown(path)
        meaning = cell_type(source, own)
        around = path.parts[1:-2] if within else path.parts[:-2]
        elsewhere = within and path.parts[0] != within
        if elsewhere or (class_folders and any(cell_type(source, name) is None for name in around)):
            findings.append(Finding("outside", file))
        elif path.suffix.lower() not in suffixes:
            findings.append(Finding("suffix", file))
        elif meaning is None:
            findings.append(Finding("unknown", file))
        elif not _is_text(path):
            findings.append(Finding("name", file))
        else:
            items.append(Item(str(path), meaning, f"{source}/{patient(path)}"))
            if own not in OWN_NAMES[source]:
                findings.append(Finding("case", file, f"'{own}'"))
            others = {cell_type(source, name) for name in other_names(path)} - {None, meaning}
            findings += [
                Finding("two places", file, f"{meaning}, not {other}") for other in sorted(map(str, others))
            ]
    files = tuple(item.path for item in items)
    return Listing(folder, tuple(items), files, tuple(findings), tuple(seen.known))


def _is_text(path: PurePosixPath) -> bool:
    """Return whether a path is UTF-8; Python keeps other bytes as surrogates."""
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def list_segmentation(folder: Path, *, source: str, number: int) -> Listing:
    """List one dataset of segmentation_WBC: BMP images, PNG masks, and classes in a CSV table."""
    table, within = f"Class Labels of Dataset {number}.csv", f"Dataset {number}"
    require_open(folder)
    if not os.path.isfile(folder / table):
        return Listing(folder, (), ())
    seen = survey(folder, card(source).beside)
    items, findings = [], list(seen.findings)
    try:
        own_names = _numbered_labels(folder / table)
    except ValueError as error:
        own_names = {}
        findings.append(Finding("unread", table, str(error)))
    inside = [path for path in seen.files if path.parent == PurePosixPath(within)]
    pictures = [path for path in inside if path.suffix.lower() == ".bmp"]
    masks = {path.with_suffix(".png") for path in pictures}
    for path in pictures:
        meaning = cell_type(source, own_names.pop(path.stem.lstrip("0"), ""))
        if meaning is None:
            findings.append(Finding("unknown", shown(path)))
        else:
            items.append(Item(str(path), meaning, f"{source}/{path.stem}", str(path.with_suffix(".png"))))
    for path in sorted(set(seen.files) - {PurePosixPath(table), *pictures, *masks}):
        lonely = "lonely" if path.suffix.lower() == ".png" else "suffix"
        findings.append(Finding(lonely if path in inside else "outside", shown(path)))
    findings += [Finding("lonely", f"{table}, image {shown(name)}") for name in own_names]
    read = (table, *(name for item in items for name in (item.path, item.mask) if name))
    return Listing(folder, tuple(items), read, tuple(findings), tuple(seen.known))


def _numbered_labels(table: Path) -> dict[str, str]:
    """Read a table of image number and class number, with a header line; `ValueError` says what is wrong."""
    try:
        rows = [row for row in csv.reader(table.read_text(encoding="utf-8-sig").splitlines()[1:]) if row]
        pairs = [(number.strip().lstrip("0"), label.strip()) for number, label in rows]
    except OSError as error:
        raise ValueError(error.strerror) from None
    except (ValueError, csv.Error):
        raise ValueError("it must hold two columns, image and class") from None
    labels: dict[str, str] = {}
    for number, label in pairs:
        if labels.setdefault(number, label) != label:
            raise ValueError(f"it gives image {shown(number)} two classes")
    return labels


def decode_items(
    listing: Listing, size: int, *, site_of: Callable[[int, int], str]
) -> Iterator[Cell | DataError]:
    """Decode a listing in parallel threads, in order; a file that cannot be read yields its error."""

    def read(item: Item) -> Cell | DataError:
        try:
            picture = images.decode(listing.folder / item.path, size)
            where = None if item.mask is None else listing.folder / item.mask
            mask = None if where is None else images.decode_mask(where, size, drawn_on=picture)
        except DataError as error:
            return error
        return Cell(
            path=item.path,
            cell_type=item.cell_type,
            site=site_of(picture.width, picture.height),
            patient=item.patient,
            pixels=picture.pixels,
            mask=mask,
            width=picture.width,
            height=picture.height,
            picture=picture.picture,
            remarks=picture.remarks,
        )

    with ThreadPoolExecutor() as pool:
        yield from pool.map(read, listing.items)


def list_bloodmnist(folder: Path) -> Listing:
    """List the archive of a folder; of several resolutions, the largest is the one that is read."""
    require_open(folder)
    sides = {}
    for path in folder.glob("bloodmnist*.npz"):
        side = path.stem.removeprefix("bloodmnist").removeprefix("_") or "28"
        if side.isdecimal():
            sides[int(side)] = path.name
    if not sides:
        return Listing(folder, (), ())
    largest = sides.pop(max(sides))
    seen = survey(folder, tuple(sides.values()))
    others = tuple(Finding("suffix", shown(path)) for path in seen.files if str(path) != largest)
    return Listing(folder, (), (largest,), (*seen.findings, *others), tuple(seen.known))


def read_bloodmnist(listing: Listing, size: int) -> Iterator[Cell | DataError]:
    """Read the three splits of an archive as one cohort; a damaged archive yields its error."""
    path = listing.folder / listing.files[0]
    try:
        # Opened here, because NumPy leaves the file of a damaged archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            splits = [(split, *_split(archive, split)) for split in ("train", "val", "test")]
    except Exception as error:  # NumPy and zipfile raise many kinds of error for damaged bytes
        yield DataError(f"{shown(path)} cannot be read as BloodMNIST ({shown(error)}); fetch it again.")
        return
    for split, pictures, labels in splits:
        for number, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
            image = Image.fromarray(pixels)
            yield Cell(
                path=f"{path.name}, image {number} of {split}",
                cell_type=OWN_NAMES["bloodmnist"][str(label)],
                site="bloodmnist",
                patient=f"bloodmnist/{split}/{number}",
                pixels=images.resize(image, size),
                mask=None,
                width=pixels.shape[1],
                height=pixels.shape[0],
                picture=images.fingerprint(image),
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
    other_names: Callable[[PurePosixPath], Sequence[str]] = _outer,
    within: str = "",
    class_folders: bool = True,
    patient: Callable[[PurePosixPath], str] = str,
    site_of: Callable[[int, int], str] | None = None,
) -> Layout:
    """Return the layout of a tree of class folders."""
    listing = partial(
        list_folders,
        source=name,
        suffixes=suffixes,
        own_name=own_name,
        other_names=other_names,
        within=within,
        class_folders=class_folders,
        patient=patient,
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
        _folders(
            "taleqani",
            "taleqani",
            suffixes=JPEG,
            own_name=_by_parent,
            other_names=_outer_and_taleqani,
            within="Original",
        ),
        _folders(
            "taleqani-v2",
            "Blood cell Cancer [ALL]",
            suffixes=JPEG,
            own_name=_by_parent,
        ),
        _folders(
            "barcelona",
            "PBC_dataset_normal_DIB",
            suffixes=JPEG,
            own_name=_by_prefix,
            other_names=_barcelona_folder,
            class_folders=False,
            site_of=barcelona_batch,
        ),
        _segmentation("tecom", 1),
        _segmentation("cellavision", 2),
        _folders(
            "bccd",
            "BCCD_cropped",
            suffixes=JPEG,
            own_name=_by_parent_of_field,
            patient=_field,
        ),
        _folders(
            "lmu",
            "AML-Cytomorphology_LMU",
            suffixes=TIFF,
            own_name=_by_prefix,
            other_names=_all_folders,
            class_folders=False,
        ),
        _folders("mll23", "MLL23", suffixes=TIFF, own_name=_by_parent, other_names=_outer_and_stem),
        Layout("bloodmnist", "bloodmnist", list_bloodmnist, read_bloodmnist),
    )
}
