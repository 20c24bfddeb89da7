"""Does a map lie on the cell? Relevance inside a mask, against what the mask's place and area give away.

Masks are those of a cohort, uint8[N, S, S] with 0 background, 1 cytoplasm and 2 nucleus; ``inside`` is a
part of them, bool[N, S, S], for example ``cohort.masks == 2`` for the nucleus.
"""

import torch
from torch import Tensor

from hemafl_lib.errors import ExplanationError
from hemafl_lib.explain.maps import as_maps, upsample


def share_inside(maps: Tensor, inside: Tensor) -> Tensor:
    """Return the share of each map's positive relevance that lies inside, float32[N].

    A map without positive relevance gives NaN. A map of equal values gives `area_share`.
    """
    relevance = upsample(as_maps(maps, len(inside)), _size(inside)).clamp_min(0).double()
    return ((relevance * inside).sum(dim=(1, 2)) / relevance.sum(dim=(1, 2))).float()


def area_share(inside: Tensor) -> Tensor:
    """Return the share of each image's area that is inside, float32[N]: what an even map would reach."""
    _size(inside)
    return inside.float().mean(dim=(1, 2))


def _size(inside: Tensor) -> int:
    """Return the side of the masks; refuse what is no truth value for each pixel of square images."""
    if inside.dtype != torch.bool or inside.ndim != 3 or inside.shape[1] != inside.shape[2]:
        raise ExplanationError(
            f"inside has shape {list(inside.shape)} and type {inside.dtype}; give bool[N, S, S], for example "
            "cohort.masks == 2."
        )
    return inside.shape[-1]
