"""Normalisation: of the images that a model reads, and of the batches inside it, which sites do not share.

Batch normalisation keeps a running mean and variance of the images it has seen, and these differ
between sites. A policy says what to do: share them ("batch"), leave those of pretraining as they
are ("frozen"), use a layer that keeps none ("group"), or use no normalisation ("none").
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hemafl_lib.errors import ModelError

Norm = Literal["batch", "frozen", "group", "none"]

CHANNELS_PER_GROUP = 8
"""Every width in the library's models is a multiple of 8; few channels a group give noisy statistics."""


class Normalise(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel: an image model's first layer.

    Both are constants of the model: they are in no state dictionary and never travel. The result lies
    in memory channel by channel within each pixel (``channels_last``), in which convolutions are faster.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return ``images``, float32[B, 3, H, W] in [0, 1], normalised."""
        images = images.contiguous(memory_format=torch.channels_last)
        return (images - self.mean) / self.std


def with_norm(model: nn.Module, policy: Norm) -> nn.Module:
    """Return a copy of ``model`` in which every 2-D batch normalisation follows ``policy``.

    Parameters
    ----------
    model
        Any module, timm's included: an activation that timm keeps inside its batch normalisation stays.
    policy
        - ``"batch"``: as it is.
        - ``"frozen"``: mean, variance, scale and offset become constants, whatever mode the model is in.
        - ``"group"``: group normalisation of 8 channels a group (Wu and He 2018), which keeps no
          statistics; scale and offset are copied.
        - ``"none"``: left out.

    Raises
    ------
    ModelError
        If the policy is unknown.
    """
    if policy not in get_args(Norm):
        raise ModelError(f"norm policy '{policy}' is unknown; choose one of: {', '.join(get_args(Norm))}.")
    model = copy.deepcopy(model)
    if policy == "frozen":
        from timm.layers import freeze_batch_norm_2d

        return freeze_batch_norm_2d(model)
    if policy == "group":
        return _replace(model, _group_norm)
    if policy == "none":
        return _replace(model, _activation_only)
    return model


def _replace(module: nn.Module, convert: Callable[[nn.BatchNorm2d], nn.Module]) -> nn.Module:
    """Convert every batch normalisation at or below ``module``."""
    if isinstance(module, nn.BatchNorm2d):
        return convert(module)
    for name, child in module.named_children():
        setattr(module, name, _replace(child, convert))
    return module


def _group_norm(norm: nn.BatchNorm2d) -> nn.Module:
    """Return group normalisation with the scale and offset of ``norm``, and its activation if any."""
    from timm.layers import BatchNormAct2d, GroupNormAct

    channels = norm.num_features
    groups = channels // math.gcd(CHANNELS_PER_GROUP, channels)
    group = nn.GroupNorm(groups, channels, eps=norm.eps)
    if isinstance(norm, BatchNormAct2d):
        group = GroupNormAct(channels, groups, eps=norm.eps, apply_act=False)
        group.drop, group.act = norm.drop, norm.act
    if norm.affine:
        group.load_state_dict({"weight": norm.weight, "bias": norm.bias})
    return group


def _activation_only(norm: nn.BatchNorm2d) -> nn.Module:
    """Return the activation inside ``norm``, or nothing."""
    from timm.layers import BatchNormAct2d

    return norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
