"""A hospital's own folders of images, read as its mapping says."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from hemafl_lib.data import accounts
from hemafl_lib.data.classes import CELL_TYPES
from hemafl_lib.data.cohort import ImageCohort, Provenance
from hemafl_lib.data.findings import Finding, sentences, shown
from hemafl_lib.data.images import FORMATS
from hemafl_lib.data.layouts import Cell, Item, Listing, decode_items, require_open, survey
from hemafl_lib.data.loading import checksum
from hemafl_lib.data.own.mapping import ImageMapping, Mapping
from hemafl_lib.errors import DataError

PATIENT: dict[str, Callable[[PurePosixPath], str]] = {
    "image": str,
    "prefix": lambda path: path.stem.partition("_")[0],
    "folder": lambda path: path.parts[1] if len(path.parts) > 2 else path.name,
}
"""What tells patients apart, from a path below the folder of images: class folder, then the rest."""


@dataclass(frozen=True)
class OwnImages:
    """What a folder of images holds: its ``cells``, ``findings``, and ``broken``, a sentence a file."""

    listing: Listing
    cells: tuple[Cell, ...]
    findings: tuple[Finding, ...]
    broken: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each file or folder that will not be read as it lies, and why."""
        return (*self.broken, *(finding.line() for finding in self.findings))


def load_own_images(folder: Path | str, mapping: Mapping, site: str, *, size: int) -> ImageCohort:
    """Return a hospital's own images of ``size`` x ``size`` pixels as the rows of ``site``, in class order.

    Nothing decoded is written to a disk. The classes are the types of cells that the mapping names.

    Raises `DataError` if the mapping has no images, a file is damaged, or a folder is of no known class.
    """
    if mapping.images is None:
        raise DataError("the mapping has no '[images]'; add it, or train on a table.")
    found = examine_images(Path(folder), mapping.images, size)
    refused = [*found.broken, *(finding.line() for finding in found.findings if finding.refused)]
    if refused:
        raise DataError(
            f"{refused[0].rstrip('.')} ('hemafl data check FOLDER --mapping FILE' names all {len(refused)})."
        )
    cells = found.cells
    present = set(mapping.images.classes.values())
    classes = tuple(name for name in CELL_TYPES if name in present)
    return ImageCohort(
        images=torch.from_numpy(np.stack([cell.pixels for cell in cells])).permute(0, 3, 1, 2).contiguous(),
        labels=torch.tensor([classes.index(cell.cell_type) for cell in cells]),
        classes=classes,
        site=np.full(len(cells), site),
        patient=np.array([cell.patient for cell in cells]),
        provenance=Provenance(
            name=site,
            source=f"The hospital's own images, {len(cells)} of them.",
            licence="the hospital's own",
            simulated=False,
            checksum=checksum(found.listing),
            repairs=sentences(found.findings),
        ),
    )


def examine_images(folder: Path, mapping: ImageMapping, size: int) -> OwnImages:
    """Decode every image that a mapping names, and collect everything that is wrong.

    Raises `DataError` if the folder cannot be opened.
    """
    listing = list_own(folder / mapping.folder, mapping)
    read = list(decode_items(listing, size, site_of=lambda width, height: ""))
    cells = tuple(cell for cell in read if isinstance(cell, Cell))
    broken = tuple(str(error) for error in read if isinstance(error, DataError))
    remarks = [Finding(kind, shown(cell.path), detail) for cell in cells for kind, detail in cell.remarks]
    nothing = [] if cells else [Finding("nothing", shown(folder / mapping.folder))]
    findings = (*listing.findings, *remarks, *accounts.copies(cells), *nothing)
    return OwnImages(listing, cells, findings, broken)


def list_own(folder: Path, mapping: ImageMapping) -> Listing:
    """List the images in the class folders of a mapping; everything else becomes a finding.

    Raises `DataError` if the folder or a class folder is not there.
    """
    if not folder.is_dir():
        raise DataError(f"{shown(folder)} is not a folder; give the folder that holds the class folders.")
    require_open(folder)
    absent = [name for name in mapping.classes if not (folder / name).is_dir()]
    if absent:
        raise DataError(
            f"{shown(folder)} has no class folder '{absent[0]}'; correct '[images.classes]' in the mapping."
        )
    seen = survey(folder, [pattern for name in mapping.left_out for pattern in (name, f"{name}/*")])
    suffixes = {suffix.lower() for suffix in mapping.suffixes}
    patient = PATIENT[mapping.patient]
    items, findings = [], list(seen.findings)
    for path in seen.files:
        if len(path.parts) == 1 and path.suffix.lower() not in FORMATS:
            continue  # beside the class folders stand the table and the mapping
        wrong = place_of(path, mapping.classes, suffixes)
        if wrong is not None:
            findings.append(Finding(wrong, shown(path)))
        else:
            items.append(Item(str(path), mapping.classes[path.parts[0]], patient(path)))
    return Listing(folder, tuple(items), tuple(item.path for item in items), tuple(findings))


def place_of(path: PurePosixPath, classes: dict[str, str], suffixes: Collection[str]) -> str | None:
    """Return the kind of finding that a file is, or None for an image of a class."""
    if len(path.parts) == 1:
        return "outside"
    if path.parts[0] not in classes:
        return "unknown"
    return None if path.suffix.lower() in suffixes else "suffix"


def check_folders(folder: Path | str, mapping: Mapping) -> None:
    """Raise `DataError` if the class folders of a mapping are not there; no image is opened."""
    if mapping.images is not None:
        list_own(Path(folder) / mapping.images.folder, mapping.images)
