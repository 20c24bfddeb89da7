"""Weights as small whole numbers: a model that fits into a page, and is the same model everywhere.

What is saved is rounded before anything is measured on it, so that scores, temperature and thresholds are
those of the rounded model. A weight is a whole number (int8) times the scale of its output channel. Scales
have 16 significant bits, so that this product is exact in any floating-point arithmetic, and rounding what
was rounded changes nothing.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

FINE, COARSE = 127, 31
"""The largest whole number in a linear layer, and in a convolution, where most weights are: fewer levels are
packed into fewer bytes."""

BITS = 16
"""Significant bits of a scale: with the 7 of a whole number they fit into the 24 of a float32."""

SCALE = ".scale"
"""What a rounded tensor's name has added for its scales."""


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return whole numbers, int8 of the weight's shape, and scales, float32[outputs]: see `restore`.

    ``weight`` is float32[outputs, ...]; each output channel's largest absolute value becomes 127, or 31 in a
    convolution. A channel of zeros has the scale 1.
    """
    levels = COARSE if weight.ndim > 2 else FINE
    largest = weight.detach().flatten(1).abs().amax(dim=1).double() / levels
    mantissa, exponent = torch.frexp(largest.where(largest > 0, 1.0))
    scale = torch.ldexp(torch.ceil(torch.ldexp(mantissa, torch.tensor(BITS))), exponent - BITS)
    numbers = (weight.detach().double() / _over(scale, weight)).round()
    return numbers.to(torch.int8), scale.float()


def restore(numbers: Tensor, scale: Tensor) -> Tensor:
    """Return the weights, float32, that `quantise` gave as whole numbers and scales."""
    return numbers.float() * _over(scale.float(), numbers)


def _over(scale: Tensor, weight: Tensor) -> Tensor:
    """Return scales [outputs] in the shape that multiplies a weight [outputs, ...]."""
    return scale.reshape(-1, *([1] * (weight.ndim - 1)))


def to_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's state: weights of convolutions and linear layers as int8, the rest as float32.

    Vectors (biases, scales and statistics of norms) stay as they are. Counters, which no prediction reads,
    are left out.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            continue
        if value.ndim > 1:
            tensors[name], tensors[name + SCALE] = quantise(value)
        else:
            tensors[name] = value.detach().float().contiguous()
    return tensors


def from_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state, float32, that `to_tensors` wrote."""
    return {
        name: restore(value, tensors[name + SCALE]) if value.dtype == torch.int8 else value
        for name, value in tensors.items()
        if not name.endswith(SCALE)
    }


def rounded(network: nn.Module) -> nn.Module:
    """Return a copy of a network whose weights are those that a file of eight bits holds."""
    copied = copy.deepcopy(network).cpu()
    copied.load_state_dict(from_tensors(to_tensors(copied)), strict=False)  # counters stay
    return copied.eval()
