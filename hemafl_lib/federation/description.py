"""Values as files, so that another program can have them: JSON, and safetensors for the models in them.

A frozen dataclass is described by the name of its class and its settings, a model by the name of its
file. Reading a description imports no class but the library's own dataclasses, whatever the file says.
"""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

from torch import nn

from hemafl_lib.errors import FederationError
from hemafl_lib.models import load_model, save_model

LIBRARY = "hemafl_lib"


def describe(value: Any, folder: Path, name: str) -> Any:
    """Return a value as JSON, and write the models in it into ``folder``.

    Parameters
    ----------
    value
        None, a bool, a number, a text, a model, a dataclass of the library, or a list or tuple of these.
    folder
        Where the models go.
    name
        What errors and files call the value.

    Raises
    ------
    FederationError
        If it is or holds anything else.
    ModelError
        If a model cannot be written, see `save_model`.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [describe(each, folder, f"{name}.{k}") for k, each in enumerate(value)]}
    if isinstance(value, nn.Module):
        save_model(value, folder / f"{name}.safetensors")
        return {"model": f"{name}.safetensors"}
    if dataclasses.is_dataclass(value) and is_of_library(type(value).__module__):
        settings = {
            field.name: describe(getattr(value, field.name), folder, f"{name}.{field.name}")
            for field in dataclasses.fields(value)
        }
        return {"class": f"{type(value).__module__}:{type(value).__qualname__}", "settings": settings}
    raise FederationError(
        f"'{name}' is a {type(value).__name__}, and another program can be given only plain values, models "
        "and the library's own settings; choose engine='local'."
    )


def restore(description: Any, folder: Path) -> Any:
    """Return the value that `describe` described.

    Raises
    ------
    FederationError
        If it names a class that is not a dataclass of the library.
    """
    if not isinstance(description, dict):
        return description
    if "model" in description:
        return load_model(folder / description["model"])
    if "class" in description:
        settings = {name: restore(value, folder) for name, value in description["settings"].items()}
        return find_class(description["class"])(**settings)
    ((kind, elements),) = description.items()
    restored = [restore(element, folder) for element in elements]
    return tuple(restored) if kind == "tuple" else restored


def find_class(name: str) -> type:
    """Return the library's dataclass that is called "module:name"; raise `FederationError` for others."""
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute, None) if is_of_library(module) else None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found) and found.__module__ == module):
        raise FederationError(f"'{name}' is not a dataclass of {LIBRARY}, so it is not loaded.")
    return found


def is_of_library(module: str) -> bool:
    """Return whether a module is one of the library's."""
    return module.split(".")[0] == LIBRARY
