"""Values as files, so that another program can have them: JSON, and safetensors for the models in them.

A frozen dataclass is described by the name of its class and its settings, a model by the name of its
file. Reading a description makes dataclasses of `HOMES` and the models beside it, and imports nothing else,
whatever the file says.
"""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from hemafl_lib.errors import FederationError, HemaflError, one_line
from hemafl_lib.models import load_model, save_model

HOMES = (
    "hemafl_lib.augmentation",
    "hemafl_lib.federation.client",
    "hemafl_lib.federation.compression",
    "hemafl_lib.federation.mods",
    "hemafl_lib.federation.trainer",
    "hemafl_lib.privacy.record_level",
    "hemafl_lib.secure.aggregation",
    "hemafl_lib.secure.noise",
    "hemafl_lib.secure.statistics",
    "hemafl_lib.statistics.app",
    "hemafl_lib.training",
)
"""Modules of the settings that a description may name: the jobs of a site, recipes, trainers and mods."""


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
    if dataclasses.is_dataclass(value) and type(value).__module__ in HOMES:
        settings = {
            field.name: describe(getattr(value, field.name), folder, f"{name}.{field.name}")
            for field in dataclasses.fields(value)
        }
        return {"class": f"{type(value).__module__}:{type(value).__qualname__}", "settings": settings}
    raise FederationError(
        f"'{name}' is a {type(value).__name__}, and another program can be given only plain values, models "
        "and the library's own settings; choose engine='local'."
    )


def restore(description: Any, folder: Path, allow: Sequence[type[nn.Module]] = ()) -> Any:
    """Return the value that `describe` described; ``allow`` is as in `load_model`.

    Raises
    ------
    FederationError
        If it names a class that is not among the settings in `HOMES`, or nothing can be like this.
    ModelError
        If a model beside it cannot be read.
    """
    if not isinstance(description, dict | list):
        return description
    match description:
        case {"model": str(name), **rest} if not rest and name == Path(name).name:
            return load_model(folder / name, allow)
        case {"class": str(name), "settings": dict(settings), **rest} if not rest:
            return make(
                find_class(name), {key: restore(value, folder, allow) for key, value in settings.items()}
            )
        case {"tuple": list(elements), **rest} if not rest:
            return tuple(restore(element, folder, allow) for element in elements)
        case {"list": list(elements), **rest} if not rest:
            return [restore(element, folder, allow) for element in elements]
    raise FederationError(f"'{one_line(description, 80)}' describes no value; store the app again.")


def make(kind: type, settings: dict[str, Any]) -> Any:
    """Return settings of a class; raise `FederationError` if it has not these."""
    try:
        return kind(**settings)
    except HemaflError:
        raise
    except TypeError as error:
        raise FederationError(f"{kind.__name__} has other settings ({error}); store the app again.") from None


def find_class(name: str) -> type:
    """Return the dataclass of `HOMES` that is called "module:name"; raise `FederationError` for others."""
    module, _, attribute = name.partition(":")
    found = vars(importlib.import_module(module)).get(attribute) if module in HOMES else None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found) and found.__module__ == module):
        raise FederationError(f"'{one_line(name)}' is none of the library's settings, so it is not loaded.")
    return found
