"""A model as one safetensors file: every layer by its class and settings, and all tensors.

A file of weights alone does not say which layers they belong to, and a pickle runs code when it is
read. Here each layer is named by its class, with the plain values that it keeps beside its tensors.
This describes every model whose layers keep plain values only: those of PyTorch, timm and torchvision, the
library's own, and what `with_norm` and `trained_part` make of them.

A file may come from anybody. So reading imports nothing but those libraries, and calls no method of a class
that the file names: a class is looked up among their layers, or among those that the caller allows. Whatever
the file says is checked before anything is made of it.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from typing_extensions import TypeAliasType

from hemafl_lib.errors import ModelError, one_line, quote
from hemafl_lib.files import replace_file

BOOKKEEPING = frozenset(vars(nn.Module()))
"""What every `torch.nn.Module` keeps: tensors, layers and hooks, which are not settings."""

HOMES = (
    "hemafl_lib.models",
    "timm.layers",
    "timm.models",
    "torch.nn.modules",
    "torchvision.models",
    "torchvision.ops",
)
"""Packages whose layers a file may name; all modules of one are loaded with it."""

DEEPEST, MOST, LONGEST = 100, 10_000, 10_000_000
"""How deep layers may lie in each other, how many a model may have, and the characters of their description;
the library's have 6, 1,110 and 470,000."""


def check_size(value: Any) -> Any:
    """Raise ValueError for a whole number that PyTorch has no room for."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number of more than 64 bits")
    return value


Plain = TypeAliasType(
    "Plain",
    "bool | Annotated[int | float, AfterValidator(check_size)] | str | "
    "Annotated[dict[Literal['tuple', 'list'], list[Plain]], Field(min_length=1, max_length=1)] | None",
)
"""A plain value as `encode` writes it."""


class Checked(BaseModel):
    """Part of what a file says; other names, types and numbers that are not finite are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Layer(Checked):
    """One layer as `describe` writes it.

    ``parameters`` tells which are trained and ``buffers`` which are persistent; None stands for one left out.
    """

    name: str
    kind: str = Field(alias="class")
    settings: dict[str, Plain]
    training: bool
    parameters: dict[str, bool | None]
    buffers: dict[str, bool | None]

    def tensor_names(self) -> list[str]:
        """Return the names of the tensors that the file holds for this layer."""
        kept = {**self.parameters, **self.buffers}
        return [joined(self.name, key) for key, value in kept.items() if value is not None]


class Head(Checked):
    """What a file says beside its tensors: the layers, and how each tensor lies in memory."""

    layers: list[Layer] = Field(max_length=MOST)
    strides: dict[str, list[Annotated[int, Field(ge=0, lt=2**63)]]]


def save_model(model: nn.Module, path: Path | str) -> None:
    """Write a model to ``path``, or leave what was there untouched.

    Raises
    ------
    ModelError
        If another process could not import the class of a layer, if a layer keeps something else than
        plain values, has hooks, or shares a tensor with another layer.
    DataError
        If the file cannot be written; it names where the model is instead.
    """
    tensors = {name: value for name, value in all_tensors(model).items() if value is not None}
    if len({id(value) for value in tensors.values()}) < len(tensors):
        raise ModelError(f"two layers of {type(model).__name__} share a tensor; give each its own.")
    head = {
        "layers": [describe(name, layer) for name, layer in model.named_modules(remove_duplicate=False)],
        # As a copy would lie: without the gaps and the overlaps that a view may have.
        "strides": {name: torch.empty_like(value).stride() for name, value in tensors.items()},
    }
    text = json.dumps(head)
    try:
        read_head(text)
    except ValueError as error:
        raise ModelError(
            f"{type(model).__name__} cannot be written to a file ({error}); choose engine='local'."
        ) from None
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {"model": text}
    replace_file(
        Path(path), lambda temporary: save_file(contiguous, temporary, metadata=metadata), rescue=True
    )


def load_model(path: Path, allow: Iterable[type[nn.Module]] = ()) -> nn.Module:
    """Read what `save_model` wrote, to the bit.

    Parameters
    ----------
    path
        The file. It may come from anybody: no code of it is run and nothing is imported for it.
    allow
        Classes of your own that the file may name beside the layers of the library, PyTorch, timm and
        torchvision. Their ``__init__`` is not called; code of theirs runs when the model is used.

    Raises
    ------
    ModelError
        If the file is missing or damaged, or names a class that is not allowed. Whether the settings of
        a layer make sense together shows only when the model is used.
    """
    path = Path(path)
    if not path.is_file():
        fate = "is no file; name one" if path.exists() else "does not exist; save the model there first"
        raise ModelError(f"{path} {fate}.")
    try:
        with safe_open(path, framework="pt") as file:
            head = read_head((file.metadata() or {}).get("model"))
            kinds = find_kinds(
                {layer.kind for layer in head.layers}, {reference(kind): kind for kind in allow}
            )
            check_tensors(head, set(file.keys()))
            tensors = {
                name: as_it_lay(file.get_tensor(name), stride) for name, stride in head.strides.items()
            }
        return assemble([(layer.name, rebuild(layer, kinds[layer.kind], tensors)) for layer in head.layers])
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except (SafetensorError, ValueError, RuntimeError, OSError) as error:
        raise ModelError(
            f"{path} is not a model that can be read ({quote(str(error))}); save it again."
        ) from None


def read_head(text: str | None) -> Head:
    """Return what a file says beside its tensors; raise ValueError if that cannot be a model's."""
    if text is None:
        raise ValueError("it holds weights without their layers")
    if len(text) > LONGEST:
        raise ValueError(f"its description has more than {LONGEST:,} characters")
    try:
        head = Head.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"][:4]) or "its description"
        # A setting may be one of several kinds, and pydantic has an error for each.
        reason = first["msg"] if len(first["loc"]) <= 4 else "Input should be a plain, finite value"
        raise ValueError(f"{place}: {reason}") from None
    seen: set[str] = set()
    for layer in head.layers:
        parent = layer.name.rpartition(".")[0]
        if layer.name in seen or not (parent in seen if seen else layer.name == ""):
            raise ValueError(f"layer '{one_line(layer.name)}' has no place among the others")
        if layer.name.count(".") >= DEEPEST:
            raise ValueError(f"its layers lie more than {DEEPEST} deep in each other")
        seen.add(layer.name)
    if not seen:
        raise ValueError("it has no layer")
    return head


def check_tensors(head: Head, stored: set[str]) -> None:
    """Raise ValueError unless a file holds each tensor that its layers name, and no other."""
    named = {name for layer in head.layers for name in layer.tensor_names()}
    for what, names in (("missing", named - stored), ("not of any layer", stored - named)):
        if names:
            raise ValueError(f"the tensor '{min(names)}' is {what}")
    if set(head.strides) != stored:
        raise ValueError("it does not say how each tensor lies in memory")


def assemble(layers: Sequence[tuple[str, nn.Module]]) -> nn.Module:
    """Put layers into each other by their names, each after the one that holds it; return the outermost."""
    placed = dict(layers)
    for name, layer in layers:
        if name:
            parent, _, child = name.rpartition(".")
            try:
                nn.Module.add_module(placed[parent], child, layer)
            except KeyError as error:
                raise ValueError(f"layer '{name}': {error.args[0]}") from None
    return placed[""]


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


def rebuild(described: Layer, kind: type[nn.Module], tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return the layer that `describe` described, without the layers in it; no code of its class runs.

    Raises ValueError if a layer of its class could not be like this.
    """
    layer = nn.Module.__new__(kind)
    nn.Module.__init__(layer)
    for key, value in described.settings.items():
        if not may_be_setting(kind, key):
            raise ValueError(f"'{joined(described.name, key)}' is no setting of a layer")
        vars(layer)[key] = decode(value)
    try:
        for key, trained in described.parameters.items():
            tensor = None if trained is None else tensors[joined(described.name, key)]
            parameter = None if tensor is None else nn.Parameter(tensor, bool(trained))
            nn.Module.register_parameter(layer, key, parameter)
        for key, persistent in described.buffers.items():
            tensor = None if persistent is None else tensors[joined(described.name, key)]
            nn.Module.register_buffer(layer, key, tensor, persistent=persistent is not False)
    except KeyError as error:
        raise ValueError(f"layer '{described.name}': {error.args[0]}") from None
    vars(layer)["training"] = described.training
    try:
        layer.extra_repr()
    except Exception as error:
        raise ValueError(f"layer '{described.name}' lacks a setting: {error}") from None
    return layer


def may_be_setting(kind: type[nn.Module], key: str) -> bool:
    """Return whether a file may set this attribute: nothing that PyTorch keeps, and no method."""
    return not (
        key in BOOKKEEPING
        or key.startswith("__")
        or hasattr(nn.Module, key)
        or callable(getattr(kind, key, None))
    )


def reference(kind: type[nn.Module]) -> str:
    """Return "module:class"; raise `ModelError` if another process could not import it."""
    name = f"{kind.__module__}:{kind.__qualname__}"
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        raise ModelError(
            f"the class {kind.__qualname__} is defined in a notebook, script or function, where other "
            "processes cannot find it; put it in a module, or choose engine='local'."
        )
    return name


def find_kinds(names: Iterable[str], allowed: Mapping[str, type[nn.Module]]) -> dict[str, type[nn.Module]]:
    """Return the classes that `reference` named; raise `ModelError` for one that a file may not name."""
    kinds = {name: allowed.get(name) or find_kind(name) for name in names}
    for name, kind in kinds.items():
        if kind is None:
            raise ModelError(
                f"a layer is of the class '{one_line(name)}', which is none of PyTorch, timm, torchvision or "
                "the library; if it is your own and you trust the file, say load_model(path, allow=[...])."
            )
    return {name: kind for name, kind in kinds.items() if kind is not None}


def find_kind(name: str) -> type[nn.Module] | None:
    """Return the layer of one of `HOMES` that is called "module:class", or None.

    Of its modules none but the home itself is imported, whatever the name says.
    """
    module, _, attribute = name.partition(":")
    home = next((home for home in HOMES if f"{module}.".startswith(f"{home}.")), None)
    if home is None:
        return None
    import_module(home)
    found = vars(sys.modules.get(module, object)).get(attribute)
    is_layer = isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module
    return found if is_layer else None


def own_layers(model: nn.Module) -> list[str]:
    """Return the classes of a model that are no library's, which `load_model` has to be allowed."""
    names = {reference(type(layer)) for layer in model.modules()}
    return sorted(name for name in names if find_kind(name) is None)


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


def as_it_lay(value: Tensor, strides: Sequence[int]) -> Tensor:
    """Return the tensor with its strides, because the layout in memory decides how sums round.

    Raises ValueError if its elements would overlap or lie apart: strides never decide how much is allocated.
    """
    if value.numel() == 0:
        return value
    extent = 1
    for stride, size in sorted(zip(strides, value.shape, strict=True)):
        if size > 1 and stride != extent:
            raise ValueError(f"a tensor of shape {list(value.shape)} cannot lie in memory as {list(strides)}")
        extent *= size
    return torch.empty_strided(value.shape, strides, dtype=value.dtype).copy_(value)
