"""Copies of a model, one for every message that a site answers.

`copy.deepcopy` spends most of its time on the dozen dictionaries of hooks that every layer keeps, and
that are nearly always empty. A model of few weights then takes longer to copy than to evaluate.
"""

import copy
from collections import OrderedDict
from types import NoneType
from typing import Any, TypeVar

from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)

SHARED = frozenset({NoneType, bool, int, float, str})
"""Types of settings that cannot change, so that a copy may hold the same object."""

CONTAINERS = frozenset({dict, OrderedDict, set})
"""Types of what a layer keeps its hooks and names in."""


def copy_model(model: Layer) -> Layer:
    """Return what ``copy.deepcopy(model)`` returns: nothing that happens to one is seen in the other."""
    return copy_layer(model, {})


def copy_layer(layer: Layer, memo: dict[int, Any]) -> Layer:
    """Return a copy of a layer and of those in it; ``memo`` holds the copies by `id`, as in `copy`."""
    if id(layer) in memo:
        return memo[id(layer)]
    kind = type(layer)
    if hasattr(kind, "__deepcopy__"):
        return copy.deepcopy(layer, memo)
    copied = memo[id(layer)] = kind.__new__(kind)
    copied.__setstate__(
        {name: copy_setting(name, value, memo) for name, value in layer.__getstate__().items()}
    )
    return copied


def copy_setting(name: str, value: Any, memo: dict[int, Any]) -> Any:
    """Return a copy of what a layer keeps under ``name``: its layers, its tensors or anything else."""
    if type(value) in SHARED:
        return value
    if type(value) in CONTAINERS and not value:
        return type(value)()
    if name == "_modules":
        return {key: None if child is None else copy_layer(child, memo) for key, child in value.items()}
    return copy.deepcopy(value, memo)
