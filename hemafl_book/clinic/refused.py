"""What do the white-cell models refuse? Blasts, which they have no class for, and badly taken pictures.

``python -m hemafl_book.clinic.refused`` prints the table of the page *Your own cells*; it needs the real
data. The blasts are single cells cut out of the fields of leukaemia smears of another hospital. A model may
refuse them for their stain as well as for their kind: the same table shows how many good cells of hospitals
with another stain it refuses.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from hemafl_book.clinic.explorer.models import FOLDER
from hemafl_book.clinic.explorer.nucleus import likely_nucleus
from hemafl_book.clinic.make import ARMS, slug
from hemafl_book.clinic.outside import COUNT, outside
from hemafl_book.clinic.white_cells import SIZE, material
from hemafl_lib import data
from hemafl_lib.clinic import SavedModel, answer, load
from hemafl_lib.data.images import resize

FIELD = 224
"""Side in pixels of the fields."""

SMALLEST, FULLEST, ROUNDEST = 250, 0.6, 1.5
"""Of a nucleus: fewest pixels, least share of its box, and most that one side of the box is longer."""


def cut_out(field: Tensor) -> Tensor | None:
    """Return the cell with the largest whole nucleus of a field uint8[3, H, W], a square twice as wide as it.

    None if there is no round nucleus that is whole and has room around it.
    """
    spots, _ = ndimage.label(ndimage.binary_opening(likely_nucleus(field), iterations=3))
    best: tuple[int, Tensor] | None = None
    for number, (down, across) in enumerate(ndimage.find_objects(spots), 1):
        area = int((spots[down, across] == number).sum())
        sides = sorted((down.stop - down.start, across.stop - across.start))
        if area < SMALLEST or area < FULLEST * sides[0] * sides[1] or sides[1] > ROUNDEST * sides[0]:
            continue
        top, left = ((each.start + each.stop) // 2 - sides[1] for each in (down, across))
        inside = min(top, left) >= 0 and max(top, left) + 2 * sides[1] <= field.shape[-1]
        if inside and (best is None or area > best[0]):
            best = area, field[:, top : top + 2 * sides[1], left : left + 2 * sides[1]]
    return None if best is None else best[1]


def blasts(root: Path | None) -> Iterator[tuple[str, Tensor]]:
    """Yield each diagnosis of the leukaemia fields with at most `COUNT` single cells, uint8[N, 3, S, S]."""
    fields = data.load_images("taleqani", size=FIELD, root=root)
    for label, name in enumerate(fields.classes):
        rows = np.flatnonzero(fields.labels.numpy() == label)
        some = rows[np.linspace(0, len(rows) - 1, min(2 * COUNT, len(rows))).astype(int)]
        cells = [cell for row in some if (cell := cut_out(fields.images[row])) is not None][:COUNT]
        yield name, torch.stack([sized(cell) for cell in cells])


def sized(cell: Tensor) -> Tensor:
    """Return an image uint8[3, H, H] as the models read it."""
    image = Image.fromarray(cell.permute(1, 2, 0).numpy())
    return torch.from_numpy(np.array(resize(image, SIZE))).permute(2, 0, 1).contiguous()


def kinds(root: Path | None) -> Mapping[str, Tensor]:
    """Return all that is asked: blasts, and of each hospital good cells, blurred and overexposed ones."""
    whole = material(root)
    places = {site.name: site.test.images for site in whole.sites}
    places |= {place.where: place.cells.inputs for place in whole.unseen}
    asked = {f"blasts: {name}": cells for name, cells in blasts(root)}
    for name, cells in places.items():
        asked[f"{name}: good"] = cells
        some = cells[np.linspace(0, len(cells) - 1, min(COUNT, len(cells))).astype(int)]
        faults = outside(some)
        asked |= {f"{name}: {fault}": faults[fault] for fault in ("blurred", "overexposed")}
    return asked


def share_refused(model: SavedModel, cells: Tensor) -> float:
    """Return the share of images uint8[N, 3, S, S] to which a model gives no answer."""
    return float(answer(model, cells).out_of_scope.mean())


def table(root: Path | None) -> pd.DataFrame:
    """Return the share that each of the white-cell models refuses, one row a kind of picture."""
    asked = kinds(root)
    models = {arm: load(FOLDER / "white-cells" / slug(arm)) for arm in ARMS}
    shares = {arm: [share_refused(model, cells) for cells in asked.values()] for arm, model in models.items()}
    return pd.DataFrame({"pictures": [len(cells) for cells in asked.values()], **shares}, index=list(asked))


if __name__ == "__main__":
    print(table(data.known_root()).round(2).to_string())
