"""Laboratories that stain and light their smears differently."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hemafl_lib.data.cohort import Cohort, ImageCohort
from hemafl_lib.errors import PartitionError
from hemafl_lib.partition.sites import PARTS, Site
from hemafl_lib.seeds import derive, numpy_generator

BLOCK = 64
"""Images that are worked on at once, which bounds the memory."""

# Optical density of methylene blue and of eosin in red, green and blue, as measured for the "Giemsa"
# vectors of ImageJ's Colour Deconvolution (G. Landini); the third row is what neither explains.
_DYES = np.array([[0.834750233, 0.513556283, 0.196330403], [0.092789, 0.954111, 0.283111]])
DYES = np.vstack([_DYES, np.cross(*_DYES)])


@dataclass(frozen=True)
class Stain:
    """How one laboratory's colours differ from those of the images as they are.

    ``blue`` and ``eosin`` multiply the amount of each dye; ``gain`` multiplies the light in red, green
    and blue (white balance and background). The default changes nothing.
    """

    blue: float = 1.0
    eosin: float = 1.0
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)


def draw_stain(strength: float, generator: np.random.Generator) -> Stain:
    """Draw a laboratory at random: log-normal factors around 1.

    The logarithms have a standard deviation of 0.3 ``strength`` for the dyes and 0.1 ``strength`` for
    the gains. Five public collections of smears (Barcelona, Tecom, CellaVision, BCCD and Taleqani)
    differ by 0.24 in blue, 0.75 in eosin and 0.09 to 0.13 in gain; eosin is drawn more narrowly here,
    because scaling it also scales the tint of the background.

    Raises `PartitionError` if ``strength`` is negative or not finite.
    """
    if not (np.isfinite(strength) and strength >= 0):
        raise PartitionError(f"'strength' is {strength}; give 0 (unchanged) or more, 1 being typical.")
    spread = np.array([0.3, 0.3, 0.1, 0.1, 0.1])
    blue, eosin, *gain = np.exp(strength * spread * generator.standard_normal(5)).tolist()
    return Stain(blue, eosin, tuple(gain))


def restain_images(images: Tensor, stain: Stain) -> Tensor:
    """Return images uint8[N, 3, H, W] (RGB) as another laboratory would have stained and lit them.

    By the law of Beer and Lambert, optical density is the sum of the dyes' densities, each in
    proportion to its amount (Ruifrok and Johnston, 2001): the image is unmixed into dyes, their
    amounts are scaled, and the mixture is turned back into light.
    """
    amounts = np.diag([stain.blue, stain.eosin, 1.0])
    mixing = torch.from_numpy((np.linalg.inv(DYES) @ amounts @ DYES).T.astype(np.float32))
    gain = torch.tensor(stain.gain, dtype=torch.float32).reshape(3, 1, 1)

    def change(light: Tensor) -> Tensor:
        return torch.exp(-mix(mixing, -torch.log(light))) * gain

    return in_light(images, change)


def in_light(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return images uint8[N, 3, H, W] after ``change`` of their light, as images of the same kind.

    ``change`` gets and returns the light of some images, float32[B, 3, H, W]: pixel value 0 is 1/256,
    so that light has a logarithm, and 255 is 1.
    """
    result = torch.empty_like(images)
    for start in range(0, len(images), BLOCK):
        light = change((images[start : start + BLOCK].float() + 1) / 256)
        result[start : start + BLOCK] = (light * 256 - 1).round().clamp(0, 255).to(torch.uint8)
    return result


def mix(matrix: Tensor, pixels: Tensor) -> Tensor:
    """Return [N, O, H, W]: the 3 numbers of every pixel of [N, 3, H, W] times ``matrix`` [O, 3]."""
    return torch.einsum("oc,nchw->nohw", matrix, pixels)


def restain(cohort: Cohort, stain: Stain) -> ImageCohort:
    """Return an image cohort in another laboratory's colours, with a provenance that says so.

    Raises `PartitionError` for anything but an `ImageCohort`.
    """
    if stain == Stain() and isinstance(cohort, ImageCohort):
        return cohort
    return recolour(cohort, lambda images: restain_images(images, stain), "restained", str(stain))


def recolour(cohort: Cohort, change: Callable[[Tensor], Tensor], how: str, settings: str) -> ImageCohort:
    """Return an image cohort with changed images; its provenance says ``how`` and depends on ``settings``."""
    if not isinstance(cohort, ImageCohort):
        raise PartitionError(
            f"stains are for images, and this is a {type(cohort).__name__}; give an ImageCohort."
        )
    provenance = replace(
        cohort.provenance,
        name=f"{cohort.provenance.name}, {how}",
        checksum=f"{derive(0, cohort.provenance.checksum, settings):016x}",
    )
    return replace(cohort, images=change(cohort.images), provenance=provenance)


def stained(sites: Sequence[Site], *, strength: float, seed: int) -> list[Site[ImageCohort]]:
    """Give each site the colours of a laboratory of its own (see `draw_stain`); strength 0 changes nothing.

    Raises `PartitionError` if the sites hold no images.
    """
    stains = [draw_stain(strength, numpy_generator(seed, "stain", site.name)) for site in sites]
    return [
        Site(site.name, *(restain(getattr(site, part), stain) for part in PARTS))
        for site, stain in zip(sites, stains, strict=True)
    ]
