"""Images that are none of a family's cells: what a warning has to find.

No cell is among the first kinds. The last two are home's own cells as a bad photograph shows them: a model
may well be right about them, and a person had better take another picture.
"""

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from hemafl_lib.data.images import resize
from hemafl_lib.seeds import torch_generator

TILES = (80, 107, 160)
"""Sides in pixels of the squares that the two photographs are cut into."""

COUNT = 100
"""Images of noise, of one colour, and of each fault of a photograph."""

OVEREXPOSED = 1.6
"""Factor on the light, which then is cut off at white."""


def outside(cells: Tensor) -> dict[str, Tensor]:
    """Return what is out of scope, uint8[M, 3, S, S] a kind; among it are home's ``cells``, taken badly."""
    side = cells.shape[-1]
    return {
        "photographs": photographs(side),
        "noise": noise(side),
        "one colour": plain_colours(side),
        **badly_taken(cells[:COUNT]),
    }


def badly_taken(cells: Tensor) -> dict[str, Tensor]:
    """Return cells, uint8[N, 3, S, S], out of focus and in too much light."""
    side = cells.shape[-1]
    return {
        "blurred": gaussian_blur(cells, kernel_size=2 * (side // 4) + 1, sigma=side / 16),
        "overexposed": (cells.float() * OVEREXPOSED).clamp_max(255).to(torch.uint8),
    }


def photographs(side: int) -> Tensor:
    """Return squares of scikit-learn's two photographs, a temple and a flower."""
    tiles = [
        resize(Image.fromarray(picture[top : top + tile, left : left + tile]), side)
        for picture in load_sample_images().images
        for tile in TILES
        for top in range(0, picture.shape[0] - tile + 1, tile)
        for left in range(0, picture.shape[1] - tile + 1, tile)
    ]
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).contiguous()


def noise(side: int) -> Tensor:
    """Return images of which every pixel is drawn for itself."""
    generator = torch_generator(0, "noise")
    return torch.randint(0, 256, (COUNT, 3, side, side), dtype=torch.uint8, generator=generator)


def plain_colours(side: int) -> Tensor:
    """Return images of one drawn colour each, with a little noise."""
    generator = torch_generator(0, "plain colours")
    colour = torch.randint(20, 236, (COUNT, 3, 1, 1), generator=generator)
    shaken = colour + torch.randint(-5, 6, (COUNT, 3, side, side), generator=generator)
    return shaken.to(torch.uint8)


def of_another_kind(cells: Tensor, name: str) -> Mapping[str, Tensor]:
    """Return `COUNT` images of another kind of picture, evenly taken, under its name."""
    return {name: cells[np.linspace(0, len(cells) - 1, min(COUNT, len(cells))).astype(int)]}
