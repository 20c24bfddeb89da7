"""Stain normalisation: every image gets the colours of one reference.

Both methods reduce the colours of an image to six numbers and then replace them by the reference's.
The reference may be one image, as in the papers, or the mean over a laboratory's images; either way
the six numbers are all that laboratories need to agree upon, and no image leaves any of them.

Neither hides everything that tells two laboratories apart: `reinhard` levels light and white balance
better than amounts of dye, `macenko` the dyes and not the light. And neither hides what is in the
picture: a large nucleus still fills more of it with dark pixels than a small one.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hemafl_lib.data.cohort import Cohort, ImageCohort
from hemafl_lib.errors import PartitionError
from hemafl_lib.partition.stain import BLOCK, in_light, mix, recolour

# From red, green and blue to the cones for long, medium and short waves, and from the logarithms of
# those to lightness (l), yellow against blue (alpha) and red against green (beta): Reinhard et al.,
# equations 4 and 6.
CONES = torch.tensor([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
OPPONENTS = torch.tensor([[1.0, 1, 1], [1, 1, -2], [1, -1, 0]]) / torch.tensor([[3.0], [6], [2]]).sqrt()

LEAST_SPREAD = 1e-3
"""A channel that varies less than this has one colour: about a third of a grey level."""

LEAST_DENSITY = 0.15
"""Pixels with a lower optical density, as a vector's length, are background."""


def federated_reference(means: Sequence[np.ndarray], images: Sequence[int]) -> np.ndarray:
    """Return the mean over the images of several laboratories, of which each sends only its own mean.

    It is the reference that one laboratory with all the images would have.

    Parameters
    ----------
    means
        Each laboratory's mean over its images of what `lab_statistics` or `dye_densities` gives, [2, 3].
    images
        How many images each has.

    Raises
    ------
    PartitionError
        If there is no laboratory, one has no image, or not each says how many.
    """
    if not means or len(means) != len(images) or min(images) < 1:
        raise PartitionError(
            f"'means' has {len(means)} entries and 'images' is {list(images)}; give a mean of each "
            "laboratory, and how many images it has, at least 1."
        )
    return np.average(np.stack(means), axis=0, weights=images).astype(means[0].dtype)


def to_lab(light: Tensor) -> Tensor:
    """Return light float32[N, 3, H, W] (RGB) as l, alpha and beta, which vary almost independently."""
    return mix(OPPONENTS, torch.log10(mix(CONES, light)))


def from_lab(lab: Tensor) -> Tensor:
    """Return the light of l, alpha and beta: the inverse of `to_lab`."""
    return mix(torch.linalg.inv(CONES), 10 ** mix(torch.linalg.inv(OPPONENTS), lab))


def lab_statistics(images: Tensor) -> Tensor:
    """Return mean and standard deviation of l, alpha and beta in each image: float32[N, 2, 3].

    ``images`` is uint8[N, 3, H, W]. The mean over the images is a laboratory's reference for `reinhard`.
    """
    result = torch.empty(len(images), 2, 3)
    for start in range(0, len(images), BLOCK):
        lab = to_lab((images[start : start + BLOCK].float() + 1) / 256).flatten(2)
        result[start : start + BLOCK, 0] = lab.mean(dim=2)
        result[start : start + BLOCK, 1] = lab.std(dim=2, correction=0)
    return result


def reinhard_images(images: Tensor, reference: Tensor) -> Tensor:
    """Give every image uint8[N, 3, H, W] the means and standard deviations of a reference.

    This is the colour transfer of Reinhard et al., "Color transfer between images", IEEE Computer
    Graphics and Applications 21(5), 2001. An image of one colour takes the reference's mean colour.

    Parameters
    ----------
    reference
        float32[2, 3]: mean and standard deviation of l, alpha and beta (see `lab_statistics`).

    Raises
    ------
    PartitionError
        If ``reference`` has another shape.
    """
    _check(reference.shape, "lab_statistics")
    mean, spread = reference[:, :, None, None]

    def change(light: Tensor) -> Tensor:
        lab = to_lab(light)
        own_mean = lab.mean(dim=(2, 3), keepdim=True)
        own_spread = lab.std(dim=(2, 3), keepdim=True, correction=0).clamp(min=LEAST_SPREAD)
        return from_lab((lab - own_mean) / own_spread * spread + mean)

    return in_light(images, change)


def reinhard(cohort: Cohort, reference: Tensor) -> ImageCohort:
    """Return an image cohort after `reinhard_images`, with a provenance that says so.

    Raises `PartitionError` for anything but an `ImageCohort`.
    """
    return recolour(
        cohort,
        lambda images: reinhard_images(images, reference),
        "normalised (Reinhard)",
        f"reinhard {reference.tolist()}",
    )


def dye_densities(images: Tensor) -> np.ndarray:
    """Return the optical densities of the two dyes of each image where there is most of them.

    The dyes are found as Macenko et al. do: the optical densities of the stained pixels lie near a
    plane through 0, and the two extreme directions in it are the dyes.

    Parameters
    ----------
    images
        uint8[N, 3, H, W].

    Returns
    -------
    numpy.ndarray
        float64[N, 2, 3]: the dye that takes most of the red light (blue) and then the other (eosin), in
        red, green and blue. The 99th percentile of a dye's amounts counts as the most of it. An image
        without stained pixels has zeros. The mean over the images is a reference for `macenko`.
    """
    return np.stack([_dye_densities(_densities(image)) for image in images])


def _densities(image: Tensor) -> np.ndarray:
    """Return the optical density of every pixel of uint8[3, H, W]: float64[H * W, 3]."""
    return -np.log((image.flatten(1).T.double().numpy() + 1) / 256)


def _dye_densities(density: np.ndarray) -> np.ndarray:
    stained = density[np.linalg.norm(density, axis=1) >= LEAST_DENSITY]
    if len(stained) == 0:
        return np.zeros((2, 3))
    # The right singular vectors of ``stained``, found from a matrix of 3 x 3; the largest come last.
    plane = np.linalg.eigh(stained.T @ stained)[1].T[:0:-1]
    plane[0] *= np.sign(plane[0].sum())
    along, across = plane @ stained.T
    angles = np.percentile(np.arctan2(across, along), [1, 99])
    dyes = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane
    dyes = dyes[np.argsort(-dyes[:, 0])]
    most = np.percentile(stained @ np.linalg.pinv(dyes), 99, axis=0)
    return most[:, None] * dyes


def macenko_images(images: Tensor, reference: np.ndarray) -> Tensor:
    """Give the two dyes of every image uint8[N, 3, H, W] the optical densities of a reference.

    This is Macenko et al., "A method for normalizing histology slides for quantitative analysis", ISBI
    2009. What the two dyes do not explain is lost, and an image without stained pixels becomes white.

    Parameters
    ----------
    reference
        float64[2, 3]: see `dye_densities`.

    Raises
    ------
    PartitionError
        If ``reference`` has another shape.
    """
    _check(reference.shape, "dye_densities")
    result = torch.empty_like(images)
    for number, image in enumerate(images):
        density = _densities(image)
        amounts = density @ np.linalg.pinv(_dye_densities(density))
        light = np.exp(-amounts @ reference).T.reshape(image.shape)
        result[number] = torch.from_numpy((light * 256 - 1).round().clip(0, 255).astype(np.uint8))
    return result


def macenko(cohort: Cohort, reference: np.ndarray) -> ImageCohort:
    """Return an image cohort after `macenko_images`, with a provenance that says so.

    Raises `PartitionError` for anything but an `ImageCohort`.
    """
    return recolour(
        cohort,
        lambda images: macenko_images(images, reference),
        "normalised (Macenko)",
        f"macenko {reference.tolist()}",
    )


def _check(shape: tuple[int, ...], source: str) -> None:
    if tuple(shape) != (2, 3):
        raise PartitionError(
            f"'reference' has shape {tuple(shape)} and not (2, 3); give one image's `{source}` or their mean."
        )
