"""Paint places out and ask again: does the answer hang on what was covered?"""

from collections.abc import Collection

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from hemafl_book.clinic.explorer.cells import Cell, picture
from hemafl_lib.clinic import Answers, SavedModel, answer
from hemafl_lib.clinic.report import SIDE, percent, square
from hemafl_lib.errors import ExplanationError

GRID = 16
"""Squares a side that can be painted out, one by one: as fine as the windows of occlusion."""

EDGE = 2
"""Pixels of the line around what is painted out."""


def covered_places(squares: Collection[int]) -> np.ndarray:
    """Return bool[GRID, GRID] of painted squares, which are numbered row by row.

    Raises `ExplanationError` if none is painted, or a number is of no square.
    """
    if not squares or not all(0 <= number < GRID * GRID for number in squares):
        raise ExplanationError("no place is painted out; draw over the picture first.")
    places = np.zeros(GRID * GRID, bool)
    places[list(squares)] = True
    return places.reshape(GRID, GRID)


def enlarged(places: np.ndarray, side: int) -> np.ndarray:
    """Return places as pixels, bool[side, side]: each pixel belongs to the square that its middle is in."""
    at = (np.arange(side) * 2 + 1) * len(places) // (2 * side)
    return places[np.ix_(at, at)]


def covered(pixels: Tensor, places: np.ndarray) -> Tensor:
    """Return an image, uint8[3, S, S], whose ``places`` have the mean colour of the whole."""
    colour = pixels.float().mean(dim=(1, 2)).round().to(torch.uint8)
    return torch.where(torch.from_numpy(enlarged(places, pixels.shape[-1])), colour[:, None, None], pixels)


def before_and_after(model: SavedModel, cell: Cell, places: np.ndarray) -> tuple[Answers, Answers]:
    """Return what a model says of a cell, and of the cell with places covered."""
    pixels = picture(cell, model.size).pixels
    return answer(model, pixels[None]), answer(model, covered(pixels, places)[None])


def shown(cell: Cell, size: int, places: np.ndarray) -> Image.Image:
    """Return the picture with places painted out, a black line around them, as a square of `SIDE` pixels."""
    taken = picture(cell, size)
    painted, inside = np.array(square(taken.original)), enlarged(places, SIDE)
    painted[inside] = taken.pixels.float().mean(dim=(1, 2)).round().to(torch.uint8).numpy()
    painted[inside & ~ndimage.binary_erosion(inside, iterations=EDGE, border_value=1)] = 0
    return Image.fromarray(painted)


def in_words(model: SavedModel, before: Answers, after: Answers) -> str:
    """Return what covering places did to the answer."""
    if before.out_of_scope[0]:
        return "gives no answer, with these places or without."
    first, then = int(before.predicted[0]), int(after.predicted[0])
    classes, share = model.card.classes, after.probabilities[0]
    told = f"{classes[first]} goes from {percent(before.probabilities[0, first])} to {percent(share[first])}"
    changed = "and stays the answer" if first == then else f"and {classes[then]} has {percent(share[then])}"
    doubt = " It takes the painted picture for none of its kind: these numbers mean little."
    return f"{told} {changed}.{doubt if after.out_of_scope[0] else ''}"
