"""The registry MODELS: the one place where a network's name is tied to how it is made."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import nn

from hemafl_lib.errors import ModelError
from hemafl_lib.models.attention_cnn import AttentionCNN
from hemafl_lib.models.backbones import BACKBONES, backbone
from hemafl_lib.models.deepsurv import DeepSurv
from hemafl_lib.models.logistic import LogisticRegression
from hemafl_lib.models.norms import Norm

Reads = Literal["images", "tables with labels", "tables with survival"]


@dataclass(frozen=True)
class Model:
    """A network that can be asked for by name.

    Attributes
    ----------
    reads
        What it is made for: "images", "tables with labels" or "tables with survival".
    make
        Makes it: for images from the number of classes and ``size``, ``norm``, ``trainable`` and ``seed``
        by name; for a table from the number of features, with labels also that of the classes, and ``seed``.
    """

    reads: Reads
    make: Callable[..., nn.Module]


def attention_cnn(classes: int, *, size: int, trainable: str, **settings: Any) -> nn.Module:
    """Return the attention CNN; it reads images of any size and, not pretrained, is trained in all parts."""
    return AttentionCNN(classes, **settings)


def plain_cnn(classes: int, *, size: int, trainable: str, **settings: Any) -> nn.Module:
    """Return the attention CNN without its attention."""
    return AttentionCNN(classes, attention="none", **settings)


def logistic_regression(features: int, *, classes: int, seed: int) -> nn.Module:
    """Return logistic regression, which begins at 0 whatever the seed."""
    return LogisticRegression(features, classes)


MODELS: dict[str, Model] = {
    "attention_cnn": Model("images", attention_cnn),
    "plain_cnn": Model("images", plain_cnn),
    **{name: Model("images", partial(backbone, name)) for name in BACKBONES},
    "logistic_regression": Model("tables with labels", logistic_regression),
    "deepsurv": Model("tables with survival", DeepSurv),
}
"""Every network by its name. To add one, write it in a module of this room and name it here."""


def image_model(
    name: str,
    classes: int,
    *,
    size: int = 224,
    norm: Norm = "batch",
    trainable: str = "top",
    seed: int = 0,
    **settings: Any,
) -> nn.Module:
    """Make a network for images by its name in `MODELS`.

    Parameters
    ----------
    name
        "attention_cnn", "plain_cnn" (without attention), or a key of `BACKBONES`.
    classes
        Number of classes C.
    size
        Side of the images in pixels.
    norm, trainable, seed
        See `with_norm` and `backbone`; the attention CNN is trained in all its parts.
    settings
        Of that network alone, such as ``width`` of `AttentionCNN` or ``pretrained`` of `backbone`.

    Returns
    -------
    torch.nn.Module
        From float32[B, 3, size, size] in [0, 1] to logits [B, C].

    Raises
    ------
    ModelError
        If the name is unknown or reads tables, or a setting cannot be.
    """
    make = find_model(name, "images").make
    return make(classes, size=size, norm=norm, trainable=trainable, seed=seed, **settings)


def table_model(
    name: str, features: int, *, classes: int | None = None, seed: int = 0, **settings: Any
) -> nn.Module:
    """Make a network for tables by its name in `MODELS`.

    Parameters
    ----------
    name
        "logistic_regression" for tables with labels, "deepsurv" for tables with survival.
    features
        Number of features F.
    classes
        Number of classes C of a table with labels; None for one with survival.
    seed
        Of the initial parameters.
    settings
        Of that network alone, such as ``hidden`` of `DeepSurv`.

    Returns
    -------
    torch.nn.Module
        From float32[B, F] to logits [B, C], or to a log-risk [B, 1].

    Raises
    ------
    ModelError
        If the name is unknown or reads something else, or a setting cannot be.
    """
    if classes is None:
        return find_model(name, "tables with survival").make(features, seed=seed, **settings)
    return find_model(name, "tables with labels").make(features, classes=classes, seed=seed, **settings)


def find_model(name: str, reads: Reads) -> Model:
    """Return the entry of a name; raise `ModelError` unless it is made for what it shall read."""
    fitting = ", ".join(key for key, model in MODELS.items() if model.reads == reads)
    if name not in MODELS:
        raise ModelError(f"model '{name}' is unknown; for {reads}, choose one of: {fitting}.")
    if MODELS[name].reads != reads:
        raise ModelError(f"model '{name}' reads {MODELS[name].reads}; for {reads}, choose one of: {fitting}.")
    return MODELS[name]
