"""Augmentation: small changes of an image that leave its label as it is, drawn for a whole batch at once.

Every image gets numbers of its own (`draw`), which a few tensor operations then apply to the whole
batch (`apply`). Drawing and applying are apart so that any part of a cohort can be augmented at any
time, in any order, with the same result.

Budget: 240 lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from hemafl_lib.data.cohort import ImageCohort, VariantCohort
from hemafl_lib.errors import DataError, HemaflError, ModelError
from hemafl_lib.seeds import torch_generator
from hemafl_lib.settings import Settings

CHUNK = 256
"""Rows that `variants` augments at a time, to keep memory small."""


@dataclass(frozen=True)
class Augmentation(Settings):
    """How far an image may be changed; the default changes nothing.

    Attributes
    ----------
    flips
        Mirror left to right, and top to bottom, each with probability one half.
    translate
        Largest shift along each axis, as a share of the side (0 to 0.5).
    rotate
        Largest rotation, in degrees (0 to 180).
    stain
        Largest relative change of a channel's optical density (0 to below 1).
    """

    flips: bool = False
    translate: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    stain: Annotated[float, Field(ge=0, lt=1)] = 0.0

    ERROR: ClassVar[type[HemaflError]] = ModelError

    @property
    def moves(self) -> bool:
        """Whether images are shifted or rotated."""
        return self.translate > 0 or self.rotate > 0


UNCHANGED = Augmentation()
"""Leaves every image as it is."""


@dataclass(frozen=True)
class Draws:
    """The random numbers of N images, one row an image.

    ``mirror`` and ``flip`` are bool[N] (left to right, top to bottom), ``angle`` float32[N] in
    radians, ``shift`` float32[N, 2] in shares of the side (right, down), and ``density``
    float32[N, 3] multiplies the optical density of red, green and blue.
    """

    mirror: Tensor
    flip: Tensor
    angle: Tensor
    shift: Tensor
    density: Tensor

    def take(self, rows: slice | Tensor) -> Draws:
        """Return the draws of some images."""
        return Draws(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def draw(count: int, augmentation: Augmentation, generator: torch.Generator) -> Draws:
    """Draw the changes of ``count`` images.

    As many numbers are drawn whatever is switched on, so that two augmentations that differ in
    one setting differ in nothing else.
    """
    uniform = torch.rand(count, 8, generator=generator)
    spread = 2 * uniform[:, 2:] - 1
    coins = (uniform[:, :2] < 0.5) & augmentation.flips
    return Draws(
        mirror=coins[:, 0],
        flip=coins[:, 1],
        angle=spread[:, 0] * math.radians(augmentation.rotate),
        shift=spread[:, 1:3] * augmentation.translate,
        density=1 + spread[:, 3:] * augmentation.stain,
    )


def flip(images: Tensor, draws: Draws) -> Tensor:
    """Mirror the images [B, C, H, W] for which the coin said so; no pixel value changes."""
    mirror, upside_down = (coin[:, None, None, None].to(images.device) for coin in (draws.mirror, draws.flip))
    images = torch.where(mirror, images.flip(3), images)
    return torch.where(upside_down, images.flip(2), images)


def move(images: Tensor, draws: Draws) -> Tensor:
    """Rotate about the centre and shift, bilinearly; what comes in from outside is the mirrored border.

    ``images`` is float32[B, C, S, S]. `affine_grid` maps a place in the result to the place in the
    image where it is read, in coordinates from -1 to 1: hence the minus and the factor 2.
    """
    cos, sin = draws.angle.cos(), draws.angle.sin()
    right, down = -2 * draws.shift[:, 0], -2 * draws.shift[:, 1]
    matrices = torch.stack(
        [torch.stack([cos, -sin, right], dim=1), torch.stack([sin, cos, down], dim=1)], dim=1
    )
    grid = F.affine_grid(matrices.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def vary_stain(images: Tensor, draws: Draws) -> Tensor:
    """Multiply the optical density of each channel: more, or less, stain of each colour.

    By the law of Beer and Lambert the light that passes is ``10 ** -density``, so a density that
    is multiplied by f raises the light to the power f. White (no stain) stays white.
    """
    return images ** draws.density[:, :, None, None].to(images.device)


def apply(images: Tensor, augmentation: Augmentation, draws: Draws) -> Tensor:
    """Apply ``draws`` to ``images``, float32[B, 3, S, S] in [0, 1]; same shape and range out."""
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise DataError(f"images have the shape {list(images.shape)}; give square RGB images [B, 3, S, S].")
    if not images.is_floating_point():
        raise DataError(f"images are {images.dtype}; give floating point in [0, 1], see 'to_float'.")
    if augmentation.flips:
        images = flip(images, draws)
    if augmentation.moves:
        images = move(images, draws).clamp(0, 1)
    if augmentation.stain > 0:
        images = vary_stain(images, draws)
    return images


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Change every image of a batch at random.

    Parameters
    ----------
    images
        float32[B, 3, S, S] in [0, 1].
    augmentation
        What may change, and how far. With everything off the images are returned as they are.
    generator
        Where the random numbers come from; equal generators give equal images.

    Returns
    -------
    Tensor
        float32[B, 3, S, S] in [0, 1].

    Raises
    ------
    DataError
        If the images are not square RGB in floating point.
    """
    return apply(images, augmentation, draw(len(images), augmentation, generator))


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]."""
    return images.to(torch.float32) / 255


def to_bytes(images: Tensor) -> Tensor:
    """Return float32 images in [0, 1] as uint8, rounded; the inverse of `to_float`."""
    return (images * 255).round().to(torch.uint8)


def variant_maker(
    cohort: ImageCohort, augmentation: Augmentation, count: int, seed: int
) -> Callable[[slice, int], Tensor]:
    """Return a function ``(rows, k)`` that makes variant k of some rows, uint8[B, 3, S, S].

    Variant 0 is the image itself. The draws of variant k depend on ``seed``, on k and on the row's
    place in the cohort; making variants in any order or in pieces gives the same bytes.
    """
    if count < 1:
        raise ModelError(f"'count' is {count}; ask for at least one variant (the image itself).")
    draws = [
        draw(len(cohort), augmentation, torch_generator(seed, "variant", index)) for index in range(1, count)
    ]

    def make(rows: slice, index: int) -> Tensor:
        images = cohort.images[rows]
        if index == 0:
            return images
        return to_bytes(apply(to_float(images), augmentation, draws[index - 1].take(rows)))

    return make


def variants(cohort: ImageCohort, augmentation: Augmentation, count: int, seed: int) -> VariantCohort:
    """Return ``count`` variants of every image, uint8[N, count, 3, S, S]; variant 0 is the image itself."""
    make = variant_maker(cohort, augmentation, count, seed)
    made = torch.empty(len(cohort), count, *cohort.images.shape[1:], dtype=torch.uint8)
    for start in range(0, len(cohort), CHUNK):
        rows = slice(start, start + CHUNK)
        for index in range(count):
            made[rows, index] = make(rows, index)
    return with_variants(cohort, made)


def with_variants(cohort: ImageCohort | VariantCohort, made: Tensor) -> VariantCohort:
    """Return the rows of ``cohort`` with ``made`` [N, K, ...] as what a model reads."""
    return VariantCohort(
        site=cohort.site,
        patient=cohort.patient,
        provenance=cohort.provenance,
        labels=cohort.labels,
        classes=cohort.classes,
        variants=made,
    )
