"""The changed copies of an image that chapter 3 trains on, and what a network reads of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hemafl_lib.augmentation import to_bytes, to_float, with_variants
from hemafl_lib.data.cohort import ImageCohort, VariantCohort
from hemafl_lib.models import SplitModel, activations

Change = Callable[[Tensor], Tensor]
"""From images uint8[N, 3, H, W] to as many of the same size."""

ORIGINAL = "as it is"


def scaled(images: Tensor, factor: float) -> Tensor:
    """Return square images seen ``factor`` times as large, about their centre.

    What comes in from outside where the factor is below 1 is the mirrored border.
    """
    matrix = torch.eye(2, 3)[None].expand(len(images), 2, 3) / factor
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    found = F.grid_sample(
        to_float(images), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return to_bytes(found.clamp(0, 1))


FLIPS: Mapping[str, Change] = {
    ORIGINAL: lambda images: images,
    "left to right": lambda images: images.flip(3),
    "top to bottom": lambda images: images.flip(2),
    "both": lambda images: images.flip((2, 3)),
}
"""The paper's four copies of an image."""

ROTATIONS: Mapping[str, Change] = {
    ORIGINAL: lambda images: images,
    **{f"{90 * turns} degrees": partial(torch.rot90, k=turns, dims=(2, 3)) for turns in (1, 2, 3)},
}
"""As many copies by quarter turns, which the paper promises and does not describe."""

SCALINGS: Mapping[str, Change] = {
    ORIGINAL: lambda images: images,
    **{f"{factor:g} times": partial(scaled, factor=factor) for factor in (0.9, 1.1, 1.2)},
}
"""As many copies of other size, which the paper promises and does not describe."""


def network_inputs(
    network: nn.Module,
    images: ImageCohort,
    *,
    copies: Mapping[str, Change] = FLIPS,
    device: str | None = None,
) -> VariantCohort:
    """Return all copies of every image as variants [N, K, ...] of what is trained of the network.

    That is the activations of the frozen layers, or the images themselves for a network without any.
    """
    changed = (replace(images, images=change(images.images)) for change in copies.values())
    if isinstance(network, SplitModel):
        found = [
            activations(network, copy, batch_size=16, device=device, progress=False).variants[:, 0]
            for copy in changed
        ]
    else:
        found = [copy.images for copy in changed]
    return with_variants(images, torch.stack(found, dim=1))


def in_rows(cohort: VariantCohort) -> VariantCohort:
    """Return every variant as a row of its own: [N, K, ...] to [N K, 1, ...], an image's rows together.

    Rows of one image have the same patient.
    """
    count = cohort.variants.shape[1]
    return replace(
        cohort.take(np.repeat(np.arange(len(cohort)), count)),
        variants=cohort.variants.flatten(0, 1)[:, None],
    )


def originals(cohort: VariantCohort) -> VariantCohort:
    """Return every image once, as it is."""
    return replace(cohort, variants=cohort.variants[:, :1])
