"""The cells that the explorer shows: drawn ones, real ones of a collection, and pictures of one's own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from hemafl_book.clinic.samples import FIELDS, SAMPLES, WHITE_CELLS, draw, in_words, silences
from hemafl_book.clinic.white_cells import GROUPS, grouped
from hemafl_lib import data
from hemafl_lib.clinic import SavedModel
from hemafl_lib.clinic.pictures import LARGEST, Bad, Picture, find_files
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.data.images import photograph, resize
from hemafl_lib.errors import DataError

Kind = Literal["drawn", "real", "own"]

REAL: Mapping[str, Sequence[str]] = {
    WHITE_CELLS: ("barcelona", "tecom", "bccd", "cellavision"),
    FIELDS: ("taleqani",),
}
"""For each family the collections whose cells can be shown."""

EACH, CANDIDATES = 3, 6
"""Cells of a class in a gallery, and how many are drawn to choose them from."""

REAL_SIDE = 96
MOST_OWN = 300
"""Pictures of one's own that are open at a time."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A picture that models are asked about.

    Attributes
    ----------
    name
        Unique among the cells that are open; of an own picture the file's name.
    kind, source
        Where it comes from, in short and in words.
    known
        The class that it was drawn as, or that its collection says; None for a picture of one's own.
    take
        Returns it in its full size, RGB.
    nucleus
        Where its nucleus was drawn, bool[S, S]; None where nobody drew one.
    """

    name: str
    kind: Kind
    source: str
    known: str | None
    take: Callable[[], Image.Image]
    nucleus: np.ndarray | None = None


@lru_cache(maxsize=512)
def picture(cell: Cell, size: int) -> Picture:
    """Return a cell as it was taken and as a model of ``size`` pixels a side reads it."""
    original = cell.take()
    pixels = torch.from_numpy(np.array(resize(original, size))).permute(2, 0, 1).contiguous()
    shown = original.copy()
    shown.thumbnail((LARGEST, LARGEST))
    return Picture(Path(cell.name), shown, pixels)


def batch(cells: Sequence[Cell], size: int) -> torch.Tensor:
    """Return cells as a model of ``size`` pixels a side reads them, uint8[N, 3, size, size]."""
    return torch.stack([picture(cell, size).pixels for cell in cells])


def drawn(family: str, models: Sequence[SavedModel]) -> list[Cell]:
    """Return drawn cells, `EACH` of a class: of several, those that most of ``models`` give an answer to.

    Raises `DataError` if no cells of the family can be drawn.
    """
    classes, side = SAMPLES.get(family, ((), 0))
    if not classes:
        raise DataError(f"no cells of the family '{family}' can be drawn; open pictures of your own.")
    cohort = draw(classes, side, CANDIDATES, masks=True)
    masks = cohort.masks
    nuclei = None if masks is None or family == FIELDS else masks.numpy() == 2
    cells = [
        Cell(
            f"drawn {in_words(classes[label])} {row // len(classes) + 1} ({cohort.site[row]})",
            "drawn",
            f"drawn as {in_words(classes[label])}, in the stain of the made-up hospital {cohort.site[row]}",
            group_of(classes[label]) if family == WHITE_CELLS else classes[label],
            partial(as_image, cohort, row),
            None if nuclei is None else nuclei[row],
        )
        for row, label in sorted(enumerate(cohort.labels.tolist()), key=lambda each: each[1])
    ]
    return list(clearest(cells, models))


def clearest(cells: Sequence[Cell], models: Sequence[SavedModel]) -> Iterator[Cell]:
    """Yield `EACH` cells of a class, those first that fewest models call out of scope."""
    silent = silences(models, len(cells), partial(batch, cells))
    for kind in dict.fromkeys(cell.known for cell in cells):
        rows = [row for row, cell in enumerate(cells) if cell.known == kind]
        for row in sorted(rows, key=lambda row: silent[row])[:EACH]:
            yield cells[row]


def real(family: str, collection: str) -> list[Cell]:
    """Return the first `EACH` cells of each class of a collection in the folder that HEMAFL_DATA names.

    Raises `DataError` if the collection is not there.
    """
    whole = data.load_images(collection, size=REAL_SIDE)
    cohort = grouped(whole) if family == WHITE_CELLS else whole
    title = data.card(collection).title
    return [
        Cell(
            f"{collection} {cohort.classes[label]} {number + 1}",
            "real",
            f"{title}; labelled {cohort.classes[label]}",
            cohort.classes[label],
            partial(as_image, cohort, int(row)),
        )
        for label in range(len(cohort.classes))
        for number, row in enumerate(np.flatnonzero(cohort.labels.numpy() == label)[:EACH])
    ]


def collections(family: str) -> list[str]:
    """Return the collections of a family that lie in the folder that HEMAFL_DATA names; none without it."""
    root = data.known_root()
    present = data.available(root) if root is not None else ()
    return [name for name in REAL.get(family, ()) if name in present]


def own(paths: Sequence[Path]) -> tuple[list[Cell], list[Bad]]:
    """Return the pictures among files and folders, and a sentence for each file that is none.

    Raises `DataError` if a path does not exist, there is no file, or there are more than `MOST_OWN`.
    """
    files = find_files(paths)
    if len(files) > MOST_OWN:
        raise DataError(f"these are {len(files)} files; open at most {MOST_OWN} at a time.")
    cells, bad, names = [], [], set()
    for number, path in enumerate(files, 1):
        try:
            photograph(path)
        except DataError as error:
            bad.append(Bad(path, str(error)))
            continue
        name = path.name if path.name not in names else f"{path.name} ({number})"
        names.add(name)
        cells.append(Cell(name, "own", "your own picture", None, partial(photograph, path)))
    return cells, bad


def references(cells: Sequence[Cell]) -> dict[str, Cell]:
    """Return the first cell of each class, to hold others against."""
    return {cell.known: cell for cell in reversed(cells) if cell.known is not None}


def group_of(kind: str) -> str:
    """Return the class of the white-cell models to which a cell type belongs."""
    return next(group for group, kinds in GROUPS.items() if kind in kinds)


def as_image(cohort: ImageCohort, row: int) -> Image.Image:
    """Return a cell of a cohort as an image."""
    return Image.fromarray(cohort.images[row].permute(1, 2, 0).numpy())
