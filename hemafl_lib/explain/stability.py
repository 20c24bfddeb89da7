"""Does a map stay if the image hardly changes? Small shifts, and a little more or less stain."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hemafl_lib.augmentation import Augmentation, augment
from hemafl_lib.errors import ExplanationError
from hemafl_lib.explain.maps import rank_correlation, upsample
from hemafl_lib.explain.saliency import saliency
from hemafl_lib.training import as_input


def shift(images: Tensor, right: int, down: int) -> Tensor:
    """Return ``images`` [N, C, S, S] moved by whole pixels; what comes in is the mirrored border."""
    reach = max(abs(right), abs(down))
    side = images.shape[-1]
    if not 0 <= reach < side:
        raise ExplanationError(f"a shift by {reach} pixels leaves nothing of {side}; shift by less.")
    padded = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    return padded[:, :, reach - down : reach - down + side, reach - right : reach - right + side]


def shift_stability(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    method: str,
    *,
    pixels: int = 2,
    layer: str | None = None,
    device: str | None = None,
) -> Tensor:
    """Return how alike the maps of an image and of the same image moved a little are, float32[N].

    The mean rank correlation over four shifts by ``pixels`` (right, left, down, up), each map moved back
    and compared where both images show the same; NaN where one of them is constant. Other
    arguments as in `hemafl_lib.explain.saliency`.
    """
    images = as_input(images)
    side = images.shape[-1]
    if not 0 < pixels < side // 2:
        raise ExplanationError(f"pixels is {pixels}; shift images of {side} by 1 to {side // 2 - 1} pixels.")
    within = slice(pixels, side - pixels)
    explain = partial(saliency, model, target=target, method=method, layer=layer, device=device)
    original = upsample(explain(images), side)
    likeness = []
    for right, down in ((pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels)):
        maps = explain(shift(images, right, down))
        back = shift(upsample(maps, side)[:, None], -right, -down)[:, 0]
        likeness.append(rank_correlation(back[:, within, within], original[:, within, within]))
    return torch.stack(likeness).mean(dim=0)


def stain_stability(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    method: str,
    generator: torch.Generator,
    *,
    stain: float = 0.05,
    draws: int = 4,
    layer: str | None = None,
    device: str | None = None,
) -> Tensor:
    """Return how alike the maps of an image and of the same image stained a little otherwise are, float32[N].

    The mean rank correlation over ``draws`` random changes of each channel's optical density by up to the
    share ``stain``; NaN where one of the maps is constant. Other arguments as in
    `hemafl_lib.explain.saliency`.
    """
    if draws < 1:
        raise ExplanationError(f"draws is {draws}; draw at least 1 change of the stain.")
    images = as_input(images)
    explain = partial(saliency, model, target=target, method=method, layer=layer, device=device)
    original = explain(images)
    likeness = []
    for _ in range(draws):
        other = augment(images, Augmentation(stain=stain), generator)
        likeness.append(rank_correlation(explain(other), original))
    return torch.stack(likeness).mean(dim=0)
