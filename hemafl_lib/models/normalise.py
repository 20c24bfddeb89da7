"""The first layer of every image model: from [0, 1] to the range in which the weights were trained."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel.

    Both are constants of the model: they are in no state dictionary and never travel. The result lies
    in memory channel by channel within each pixel (``channels_last``), in which convolutions are faster.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return ``images``, float32[B, 3, H, W] in [0, 1], normalised."""
        images = images.contiguous(memory_format=torch.channels_last)
        return (images - self.mean) / self.std
