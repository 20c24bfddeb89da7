"""Pictures of which the white-cell models are asked whether they refuse them, and on which nothing is chosen.

They are blasts, which the models have no class for, and badly taken pictures. The blasts are single cells cut
by a rule out of the fields of another hospital, and bear the diagnosis of their field: nobody looked at each.
A model may refuse them for their stain as well as for their kind: its scores say how many good cells of
hospitals with another stain it refuses.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from hemafl_book.clinic.nucleus import likely_nucleus
from hemafl_book.clinic.outside import COUNT, badly_taken
from hemafl_lib import data
from hemafl_lib.clinic import Card
from hemafl_lib.data.images import resize

DIAGNOSES: Mapping[str, str] = {
    "early": "early pre-B blasts",
    "pre": "pre-B blasts",
    "pro": "pro-B blasts",
    "benign": "haematogones",
}
"""The classes of the fields, and what their cells are."""

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


def blasts(size: int, root: Path | None) -> Iterator[tuple[str, Tensor]]:
    """Yield each of `DIAGNOSES` with at most `COUNT` single cells, uint8[N, 3, size, size]."""
    fields = data.load_images("taleqani", size=FIELD, root=root)
    for name, diagnosis in DIAGNOSES.items():
        rows = np.flatnonzero(fields.labels.numpy() == fields.classes.index(name))
        some = rows[np.linspace(0, len(rows) - 1, min(2 * COUNT, len(rows))).astype(int)]
        cells = [cell for row in some if (cell := cut_out(fields.images[row])) is not None][:COUNT]
        yield diagnosis, torch.stack([sized(cell, size) for cell in cells])


def sized(cell: Tensor, size: int) -> Tensor:
    """Return an image uint8[3, H, H] with ``size`` pixels a side."""
    image = Image.fromarray(cell.permute(1, 2, 0).numpy())
    return torch.from_numpy(np.array(resize(image, size))).permute(2, 0, 1).contiguous()


def tried(places: Mapping[str, Tensor], size: int, root: Path | None) -> dict[str, Tensor]:
    """Return blasts, and of each place's good cells, uint8[N, 3, S, S], blurred and overexposed ones."""
    asked = dict(blasts(size, root))
    for name, cells in places.items():
        some = cells[np.linspace(0, len(cells) - 1, min(COUNT, len(cells))).astype(int)]
        asked |= {f"{fault}, {name}": images for fault, images in badly_taken(some).items()}
    return asked


def table(cards: Mapping[str, Card]) -> str:
    """Return in Markdown what the cards of models say that they refuse, one column an arm."""
    shares = [
        {f"good cells of {score.where}": score.flagged for score in card.scores if score.kind != "joint"}
        | {each.of: each.share for each in card.refused}
        for card in cards.values()
    ]
    kinds = [kind for kind in shares[-1] if all(kind in each for each in shares)]
    rows = [["no answer to", *cards], ["---"] * (1 + len(cards))]
    rows += [[kind, *(f"{100 * (each[kind] or 0):.0f} %" for each in shares)] for kind in kinds]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
