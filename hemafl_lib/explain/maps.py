"""What any relevance map has: a grid, an order of its places, and a likeness to another map.

Maps are float32[N, h, w], one an image. Their grid may be coarser than the pixels.
"""

import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor

from hemafl_lib.errors import ExplanationError


def as_maps(maps: Tensor, count: int | None = None) -> Tensor:
    """Return ``maps``; refuse what is not finite float[N, h, w], or another number of maps than ``count``."""
    if maps.ndim != 3 or not maps.is_floating_point() or not maps.isfinite().all():
        raise ExplanationError(f"maps have shape {list(maps.shape)}; give one finite map [h, w] an image.")
    if count is not None and len(maps) != count:
        raise ExplanationError(f"there are {len(maps)} maps for {count} images; give one map an image.")
    return maps


def upsample(maps: Tensor, size: int, smooth: bool = False) -> Tensor:
    """Return maps float32[N, size, size]: blocks of equal value, or, if ``smooth``, bilinear transitions.

    A map of 8 x 8 places tells nothing about single pixels. Smooth transitions look better than blocks, but
    show a precision that the map does not have.
    """
    mode = {"mode": "bilinear", "align_corners": False} if smooth else {"mode": "nearest-exact"}
    return F.interpolate(as_maps(maps)[:, None], size=(size, size), **mode)[:, 0]


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return Pearson's correlation of each map with its counterpart, float32[N].

    NaN where one of the two is constant: it has no order to compare.
    """
    if as_maps(first).shape != as_maps(second).shape:
        raise ExplanationError(
            f"the maps have shapes {list(first.shape)} and {list(second.shape)}; compare maps of one grid."
        )
    a, b = (maps.flatten(1).double() for maps in (first, second))
    constant = (a.amin(dim=1) == a.amax(dim=1)) | (b.amin(dim=1) == b.amax(dim=1))
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    likeness = (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1))
    return likeness.masked_fill(constant, torch.nan).float()


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's rank correlation of each map with its counterpart, float32[N]; ties share a rank."""
    return correlation(_ranks(first), _ranks(second))


def _ranks(maps: Tensor) -> Tensor:
    """Return the rank of each place within its map, float64[N, h, w]."""
    ranks = rankdata(as_maps(maps).flatten(1).numpy(), axis=1)
    return torch.from_numpy(ranks).reshape(maps.shape)


def sparsity(maps: Tensor) -> Tensor:
    """Return the Gini index of each map's absolute values, float32[N].

    0 if all places have the same relevance, close to 1 if one place has all of it (Hurley and Rickard,
    "Comparing measures of sparsity", IEEE Trans. Inf. Theory 2009, table I). A map of zeros gives NaN.
    """
    values = as_maps(maps).flatten(1).abs().double().sort(dim=1).values
    places = values.shape[1]
    rank = torch.arange(1, places + 1, dtype=torch.float64)
    share = values / values.sum(dim=1, keepdim=True)
    return (1 - 2 * (share * (places - rank + 0.5)).sum(dim=1) / places).float()
