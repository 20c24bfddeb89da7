"""Paint a region out and ask again: does the answer hang on what was covered?"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from hemafl_book.clinic.explorer.cells import Cell, picture
from hemafl_lib.clinic import Answers, SavedModel, answer
from hemafl_lib.clinic.report import SIDE, square
from hemafl_lib.errors import ExplanationError


@dataclass(frozen=True)
class Region:
    """A rectangle, in per cent of the picture from its left and its top."""

    left: int
    right: int
    top: int
    bottom: int

    def __post_init__(self) -> None:
        if not (0 <= self.left < self.right <= 100 and 0 <= self.top < self.bottom <= 100):
            raise ExplanationError(
                f"the region {self.left} to {self.right} % by {self.top} to {self.bottom} % is empty or "
                "beyond the picture; choose one of at least 1 %."
            )

    def pixels(self, side: int) -> tuple[slice, slice]:
        """Return the rows and columns that it covers of an image of ``side`` pixels: all that it touches."""
        low, high = np.array([self.top, self.left]), np.array([self.bottom, self.right])
        first, last = low * side // 100, -(-high * side // 100)
        return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))


def covered(pixels: Tensor, region: Region) -> Tensor:
    """Return an image, uint8[3, S, S], whose region has the mean colour of the whole."""
    rows, columns = region.pixels(pixels.shape[-1])
    painted = pixels.clone()
    painted[:, rows, columns] = pixels.float().mean(dim=(1, 2)).round().to(torch.uint8)[:, None, None]
    return painted


def before_and_after(model: SavedModel, cell: Cell, region: Region) -> tuple[Answers, Answers]:
    """Return what a model says of a cell, and of the cell with a region covered."""
    pixels = picture(cell, model.size).pixels
    return answer(model, pixels[None]), answer(model, covered(pixels, region)[None])


def shown(cell: Cell, size: int, region: Region) -> Image.Image:
    """Return the picture with the region painted out, as a square of `SIDE` pixels."""
    taken = picture(cell, size)
    colour = tuple(int(value) for value in taken.pixels.float().mean(dim=(1, 2)).round())
    rows, columns = region.pixels(SIDE)
    painted = square(taken.original)
    ImageDraw.Draw(painted).rectangle(
        (columns.start, rows.start, columns.stop - 1, rows.stop - 1), fill=colour, outline="black"
    )
    return painted


def in_words(model: SavedModel, before: Answers, after: Answers) -> str:
    """Return what covering a region did to the answer."""
    if before.out_of_scope[0]:
        return "gives no answer, with the region or without."
    first, then = int(before.predicted[0]), int(after.predicted[0])
    classes, share = model.card.classes, after.probabilities[0]
    told = f"{classes[first]} goes from {before.probabilities[0, first]:.0%} to {share[first]:.0%}"
    changed = "and stays the answer" if first == then else f"and {classes[then]} has {share[then]:.0%}"
    doubt = " It takes the painted picture for none of its kind: these numbers mean little."
    return f"{told} {changed}.{doubt if after.out_of_scope[0] else ''}"
