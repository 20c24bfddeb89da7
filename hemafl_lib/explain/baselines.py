"""Maps that know nothing of the model: what any explanation has to beat.

Each is float32[N, h, w], like the maps of `hemafl_lib.explain.saliency`, and is measured in the same way.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hemafl_lib.augmentation import to_float
from hemafl_lib.errors import ExplanationError


def random_maps(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return relevance drawn uniformly for each pixel of ``images`` [N, 3, S, S]: places in random order."""
    return torch.rand(len(images), *images.shape[2:], generator=generator)


def edge_maps(images: Tensor) -> Tensor:
    """Return how steep the grey of ``images`` is (Sobel's operator), uint8 or float [N, 3, S, S]: the edges.

    Some saliency methods show little more (Adebayo et al. 2018).
    """
    grey = (to_float(images) if images.dtype == torch.uint8 else images).mean(dim=1, keepdim=True)
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=images.device)
    sobel = torch.stack([across, across.T])[:, None]
    slopes = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), sobel)
    return slopes.square().sum(dim=1).sqrt().cpu()


def centred_gaussian(count: int, size: int, sigma: float = 0.15) -> Tensor:
    """Return ``count`` equal maps [size, size]: a Gaussian around the centre, largest value 1.

    Single-cell pictures are centred on the cell, so that "looks at the cell" is no more than "looks at the
    centre" unless a map beats this one. ``sigma`` is the standard deviation as a share of the side. In the
    public pictures with masks (tecom, cellavision) nuclei spread around the centre by 0.12 of the side, whole
    cells by 0.16.
    """
    if size < 1 or not sigma > 0:
        raise ExplanationError(
            f"size is {size} and sigma is {sigma}; give a size from 1, and a sigma above 0."
        )
    places = (torch.arange(size, dtype=torch.float32) + 0.5) / size - 0.5
    bell = torch.exp(-0.5 * (places / sigma).square())
    return torch.outer(bell, bell).expand(count, size, size).contiguous()
