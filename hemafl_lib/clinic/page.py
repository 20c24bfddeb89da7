"""A saved model as one JSON file, which a page in a browser reads: weights, settings and card together."""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hemafl_lib.clinic.card import Attentive, plain
from hemafl_lib.clinic.rounding import SCALE, to_tensors
from hemafl_lib.clinic.saved import SavedModel
from hemafl_lib.errors import ModelError
from hemafl_lib.files import check_target, write_text
from hemafl_lib.models import AttentionCNN, to_onnx

FORMAT, VERSION = "hemafl page model", 1

MOST_PRODUCTS = 2_000_000_000
"""Products of an answer of the largest network that the page takes: some seconds in a browser."""

TARGETS = ("page", "onnx")
"""What a saved model can be exported to."""


def page_model(model: SavedModel) -> dict[str, Any]:
    """Return a model as plain JSON values.

    They are ``format``, ``version``, the ``card``, the settings of the ``network``, and ``tensors`` by their
    names in the network's state: ``shape``, ``dtype`` and ``data``, the bytes (little-endian, rows last) in
    base64. A tensor of the dtype "int8" has a ``scale`` for each output channel, float32 in base64, which
    multiplies it; others are "float32".

    Raises
    ------
    ModelError
        If the network is not an `AttentionCNN`, the only one that the page evaluates, or too large for it.
    """
    if not isinstance(model.settings, Attentive):
        raise ModelError(
            f"'{model.card.name}' is a {type(model.network).__name__}, and the page evaluates an "
            "AttentionCNN only; save a model of attention_cnn."
        )
    tensors = to_tensors(model.network)
    count = products(tensors, model.size)
    if count > MOST_PRODUCTS:
        raise ModelError(
            f"'{model.card.name}' takes {count:,} products for an answer and the page at most "
            f"{MOST_PRODUCTS:,}; train a narrower network, or one of smaller images."
        )
    return {
        "format": FORMAT,
        "version": VERSION,
        "card": plain(model.card),
        "network": plain(model.settings),
        "tensors": {
            name: _tensor(value, tensors.get(name + SCALE))
            for name, value in tensors.items()
            if not name.endswith(SCALE)
        },
    }


def products(tensors: Mapping[str, Tensor], size: int) -> int:
    """Return how many products an `AttentionCNN` of these tensors takes for an image of ``size`` pixels.

    Each weight of a convolution is used at each place of its maps, whose sides are halved after each block.
    """
    count = 0
    for name, value in tensors.items():
        if name.endswith(SCALE):
            continue
        inside = re.match(r"blocks\.(\d)\.(attention)?", name)
        halved = 3 if inside is None else int(inside[1]) + bool(inside[2])
        count += value.numel() * ((size >> halved) ** 2 if value.ndim == 4 else 1)
    return count


def _tensor(value: Tensor, scale: Tensor | None) -> dict[str, Any]:
    """Return one tensor of the page's file."""
    said = {
        "shape": list(value.shape),
        "dtype": str(value.dtype).removeprefix("torch."),
        "data": _text(value),
    }
    return said if scale is None else {**said, "scale": _text(scale)}


def _text(value: Tensor) -> str:
    """Return a tensor's bytes, little-endian, in base64."""
    array = value.contiguous().numpy()
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()


def export(model: SavedModel, to: str, path: Path | str) -> None:
    """Write a model as one file: for the "page", or as "onnx" (see `hemafl_lib.models.to_onnx`).

    Raises
    ------
    ModelError
        If the target is unknown, or cannot hold this network.
    DataError
        If the file cannot be written.
    """
    path = Path(path)
    if to not in TARGETS:
        raise ModelError(f"to='{to}' is unknown; choose one of: {', '.join(TARGETS)}.")
    check_target(path)
    if to == "page":
        write_text(path, json.dumps(page_model(model), separators=(",", ":"), allow_nan=False), rescue=True)
    elif isinstance(model.network, AttentionCNN):
        to_onnx(model.network, path, size=model.size)
    else:
        raise ModelError(f"'{model.card.name}' is no AttentionCNN; export to onnx writes only that.")
