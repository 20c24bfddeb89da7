"""A model as one safetensors file: every layer by its class and settings, and all tensors.

A file of weights alone does not say which layers they belong to, and a pickle runs code when it is
read. Here each layer is named by its class, with the plain values that it keeps beside its tensors;
reading imports classes of layers and calls nothing. This describes every model whose layers keep
plain values only: those of PyTorch and timm, the library's own, and what `with_norm` and
`trained_part` make of them.
"""

import importlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hemafl_lib.errors import ModelError
from hemafl_lib.files import replacing

BOOKKEEPING = frozenset(vars(nn.Module()))
"""What every `torch.nn.Module` keeps: tensors, layers and hooks, which are not settings."""


def save_model(model: nn.Module, path: Path) -> None:
    """Write a model to ``path``, or leave what was there untouched.

    Raises
    ------
    ModelError
        If another process could not import the class of a layer, if a layer keeps something else than
        plain values, has hooks, or shares a tensor with another layer.
    """
    tensors = {name: value for name, value in all_tensors(model).items() if value is not None}
    if len({id(value) for value in tensors.values()}) < len(tensors):
        raise ModelError(f"two layers of {type(model).__name__} share a tensor; give each its own.")
    head = {
        "layers": [describe(name, layer) for name, layer in model.named_modules(remove_duplicate=False)],
        "strides": {name: value.stride() for name, value in tensors.items()},
    }
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as temporary:
        save_file(contiguous, temporary, metadata={"model": json.dumps(head)})


def load_model(path: Path) -> nn.Module:
    """Read what `save_model` wrote, to the bit; raise `ModelError` if it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads(file.metadata()["model"])
            tensors = {
                name: as_it_lay(file.get_tensor(name), stride) for name, stride in head["strides"].items()
            }
        layers = {described["name"]: rebuild(described, tensors) for described in head["layers"]}
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist; save the model there first.") from None
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ModelError(f"{path} is not a model that can be read ({error}); save it again.") from None
    for name, layer in layers.items():
        if name:
            parent, _, child = name.rpartition(".")
            layers[parent].add_module(child, layer)
    return layers[""]


def all_tensors(model: nn.Module) -> dict[str, Tensor | None]:
    """Return every parameter and buffer by its name, persistent or not; None for one left out."""
    return {
        joined(prefix, name): value
        for prefix, layer in model.named_modules(remove_duplicate=False)
        for name, value in (*layer._parameters.items(), *layer._buffers.items())
    }


def joined(prefix: str, name: str) -> str:
    """Return the name of something in the layer ``prefix``; the whole model's is empty."""
    return f"{prefix}.{name}" if prefix else name


def describe(name: str, layer: nn.Module) -> dict[str, Any]:
    """Return a layer as plain JSON values, without the layers in it and without the tensors' values."""
    if any(value for key, value in vars(layer).items() if key.endswith("hooks")):
        raise ModelError(f"layer '{name}' ({type(layer).__name__}) has hooks; remove them.")
    settings = {key: value for key, value in vars(layer).items() if key not in BOOKKEEPING}
    return {
        "name": name,
        "class": reference(type(layer)),
        "settings": {key: encode(value, f"{joined(name, key)}") for key, value in settings.items()},
        "training": layer.training,
        "parameters": {
            key: None if value is None else value.requires_grad for key, value in layer._parameters.items()
        },
        "buffers": {
            key: None if value is None else key not in layer._non_persistent_buffers_set
            for key, value in layer._buffers.items()
        },
    }


def rebuild(described: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    """Return the layer that `describe` described, without the layers in it."""
    kind = resolve(described["class"])
    layer = kind.__new__(kind)
    nn.Module.__init__(layer)
    vars(layer).update({key: decode(value) for key, value in described["settings"].items()})
    for key, trained in described["parameters"].items():
        tensor = None if trained is None else tensors[joined(described["name"], key)]
        layer.register_parameter(key, None if tensor is None else nn.Parameter(tensor, trained))
    for key, persistent in described["buffers"].items():
        tensor = None if persistent is None else tensors[joined(described["name"], key)]
        layer.register_buffer(key, tensor, persistent=persistent is not False)
    layer.training = described["training"]
    return layer


def reference(kind: type[nn.Module]) -> str:
    """Return "module:class"; raise `ModelError` if another process could not import it."""
    name = f"{kind.__module__}:{kind.__qualname__}"
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        raise ModelError(
            f"the class {kind.__qualname__} is defined in a notebook, script or function, where other "
            "processes cannot find it; put it in a module, or choose engine='local'."
        )
    return name


def resolve(name: str) -> type[nn.Module]:
    """Return the class that `reference` named; raise TypeError if it is not a layer's."""
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise TypeError(f"the class {name} cannot be imported: {error}") from None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise TypeError(f"{name} is not a layer")
    return found


def encode(value: Any, name: str) -> Any:
    """Return a plain value as JSON that tells tuples from lists; raise `ModelError` for any other."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [encode(element, name) for element in value]}
    raise ModelError(
        f"'{name}' is a {type(value).__name__}, and only plain values can be written; choose engine='local'."
    )


def decode(value: Any) -> Any:
    """Return what `encode` encoded."""
    if not isinstance(value, dict):
        return value
    ((kind, elements),) = value.items()
    decoded = [decode(element) for element in elements]
    return tuple(decoded) if kind == "tuple" else decoded


def as_it_lay(value: Tensor, stride: list[int]) -> Tensor:
    """Return the tensor with its strides, because the layout in memory decides how sums round."""
    return torch.empty_strided(value.shape, stride, dtype=value.dtype).copy_(value)
