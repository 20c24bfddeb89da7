"""A cell and a map as pictures: what speaks for a class in orange, what speaks against it in hatched blue."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hemafl_lib.clinic.report import COLOUR, SIDE, square

AGAINST = (0, 90, 180)
"""The colour of what speaks against a class. White lines are drawn over it, for who sees no colours."""

HATCH, LINE = 16, 3
"""Pixels from line to line across a hatched place, and how many of them a line has."""


def overlay(
    original: Image.Image, relevance: Tensor, largest: float, *, opacity: float = 0.85, smooth: bool = False
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
    """
    mode = {"mode": "bilinear", "align_corners": False} if smooth else {"mode": "nearest-exact"}
    wide = F.interpolate(relevance[None, None], (SIDE, SIDE), **mode)[0, 0]
    share = (wide / largest).clamp(-1, 1) if largest > 0 else torch.zeros_like(wide)
    strength = opacity * share.abs().numpy()[:, :, None]
    line = np.add.outer(np.arange(SIDE), np.arange(SIDE))[:, :, None] % HATCH < LINE
    against = np.where(line, 255, np.array(AGAINST))
    colour = np.where(share.numpy()[:, :, None] >= 0, np.array(COLOUR), against)
    grey = np.asarray(square(original).convert("L").convert("RGB"), dtype=np.float64)
    return Image.fromarray(np.rint((1 - strength) * grey + strength * colour).astype(np.uint8))
