"""A convolutional network of about 33,000 parameters with attention in each block.

Awan, Khan, Strakos et al. (Sci Rep 16, 9768, 2026) state the size of their network but neither its
layers nor its kind of attention. This is a network of that size: three blocks, squeeze-and-excitation,
128 features. The 128 features are computed at every place (a 1x1 convolution) and then averaged, so
that a class score is a weighted sum of feature maps and its class activation map is exact.
"""

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from hemafl_lib.errors import ModelError
from hemafl_lib.models.norms import Norm, Normalise, with_norm
from hemafl_lib.seeds import initialised

Attention = Literal["se", "eca", "cbam", "none"]


class SqueezeExcitation(nn.Module):
    """Weigh each channel by what all channels hold on average (Hu et al. 2018, equations 2 to 4)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(1, channels // reduction))
        self.excite = nn.Linear(self.squeeze.out_features, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` [B, C, H, W] with its channels weighted."""
        weights = self.excite(self.squeeze(x.mean(dim=(2, 3))).relu()).sigmoid()
        return x * weights[:, :, None, None]


class EfficientChannelAttention(nn.Module):
    """Weigh each channel by its own mean and that of its two neighbours (Wang et al. 2020, equation 9)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.neighbours = nn.Conv1d(1, 1, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` [B, C, H, W] with its channels weighted."""
        weights = self.neighbours(x.mean(dim=(2, 3))[:, None]).sigmoid()
        return x * weights[:, 0, :, None, None]


class ConvolutionalBlockAttention(nn.Module):
    """Weigh each channel, then each place (CBAM; Woo et al. 2018, equations 2 and 3)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.channel = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.place = nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` [B, C, H, W] with its channels and places weighted."""
        channels = (self.channel(x.mean(dim=(2, 3))) + self.channel(x.amax(dim=(2, 3)))).sigmoid()
        x = x * channels[:, :, None, None]
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * self.place(summary).sigmoid()


ATTENTION = {
    "se": SqueezeExcitation,
    "eca": EfficientChannelAttention,
    "cbam": ConvolutionalBlockAttention,
    "none": nn.Identity,
}


def block(inputs: int, outputs: int, attention: Attention) -> nn.Sequential:
    """Return one block: [B, inputs, H, W] to [B, outputs, H // 2, W // 2].

    Pooling comes before the activation and the attention, which then work on a quarter of the places;
    the maximum of rectified values is the rectified maximum.
    """
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, kernel_size=3, padding=1),
            norm=nn.BatchNorm2d(outputs),
            pool=nn.MaxPool2d(2),
            act=nn.ReLU(),
            attention=ATTENTION[attention](outputs),
        )
    )


class AttentionCNN(nn.Module):
    """Three blocks, 128 feature maps, their averages, and one linear layer.

    Parameters
    ----------
    classes
        Number of classes C.
    width
        Channels of the first block; the next have twice and four times as many, the features eight times.
    attention
        ``"se"`` (squeeze-and-excitation), ``"eca"``, ``"cbam"`` or ``"none"``.
    norm
        What follows each convolution, see `with_norm`.
    seed
        Of the initial parameters.

    Raises
    ------
    ModelError
        If the attention or norm is unknown.
    """

    def __init__(
        self,
        classes: int,
        *,
        width: int = 16,
        attention: Attention = "se",
        norm: Norm = "batch",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if attention not in ATTENTION:
            raise ModelError(f"attention '{attention}' is unknown; choose one of: {', '.join(ATTENTION)}.")
        with initialised(seed, "attention_cnn"):
            self.normalise = Normalise(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
            blocks = nn.Sequential(
                block(3, width, attention),
                block(width, 2 * width, attention),
                block(2 * width, 4 * width, attention),
            )
            self.blocks = with_norm(blocks, norm)
            self.embed = nn.Sequential(nn.Conv2d(4 * width, 8 * width, kernel_size=1), nn.ReLU())
            self.head = nn.Linear(8 * width, classes)

    def features(self, images: Tensor) -> Tensor:
        """Return the feature maps [B, 8 * width, H // 8, W // 8] of ``images`` [B, 3, H, W] in [0, 1]."""
        return self.embed(self.blocks(self.normalise(images)))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, C] of ``images``, float32[B, 3, H, W] in [0, 1], at least 8 pixels a side."""
        return self.head(self.features(images).mean(dim=(2, 3)))
