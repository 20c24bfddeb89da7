"""A cell and a map as pictures: what speaks for a class in orange, what speaks against it in hatched blue."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hemafl_lib.clinic.report import COLOUR, SIDE

AGAINST = (0, 90, 180)
"""The colour of what speaks against a class. White lines are drawn over it, for who sees no colours."""

HATCH, LINE = 16, 3
"""Pixels from line to line across a hatched place, and how many of them a line has."""


@dataclass(frozen=True)
class Zoom:
    """A part of a picture, ``times`` as large; its middle is so many per cent ``across`` and ``down``."""

    times: int = 1
    across: int = 50
    down: int = 50

    def start(self, side: int) -> tuple[int, int]:
        """Return the row and column where a window of ``side`` pixels begins in the enlarged picture."""
        whole = side * self.times
        row, column = (round(middle / 100 * whole - side / 2) for middle in (self.down, self.across))
        return min(max(row, 0), whole - side), min(max(column, 0), whole - side)


WHOLE = Zoom()
"""All of a picture."""


def enlarged(original: Image.Image, zoom: Zoom) -> Image.Image:
    """Return what a zoom shows of a picture, as a square of `SIDE` pixels, as the model sees its shape."""
    row, column = zoom.start(SIDE)
    across, down = (side / (SIDE * zoom.times) for side in original.size)
    box = (column * across, row * down, (column + SIDE) * across, (row + SIDE) * down)
    return original.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)


def overlay(
    original: Image.Image,
    relevance: Tensor,
    largest: float,
    *,
    opacity: float = 0.85,
    smooth: bool = False,
    zoom: Zoom = WHOLE,
) -> Image.Image:
    """Return a picture in grey with relevance, float32[h, w], laid over it.

    Parameters
    ----------
    original
        The picture.
    relevance
        What speaks for the class is positive.
    largest
        The relevance that is drawn with the full ``opacity``, in 0 to 1; less is drawn in proportion.
    smooth
        Whether the squares of the map are blended into each other, which shows more than was computed.
    zoom
        Which part of picture and map is drawn.
    """
    mode = {"mode": "bilinear", "align_corners": False} if smooth else {"mode": "nearest-exact"}
    row, column = zoom.start(SIDE)
    whole = F.interpolate(relevance[None, None], (SIDE * zoom.times, SIDE * zoom.times), **mode)[0, 0]
    wide = whole[row : row + SIDE, column : column + SIDE]
    share = (wide / largest).clamp(-1, 1) if largest > 0 else torch.zeros_like(wide)
    strength = opacity * share.abs().numpy()[:, :, None]
    line = np.add.outer(np.arange(SIDE), np.arange(SIDE))[:, :, None] % HATCH < LINE
    against = np.where(line, 255, np.array(AGAINST))
    colour = np.where(share.numpy()[:, :, None] >= 0, np.array(COLOUR), against)
    grey = np.asarray(enlarged(original, zoom).convert("L").convert("RGB"), dtype=np.float64)
    return Image.fromarray(np.rint((1 - strength) * grey + strength * colour).astype(np.uint8))
