"""What the clinic's page is made with: the book's small models, and sample cells of a simulated smear."""

import base64
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hemafl_book.clinic.samples import SAMPLES, draw, in_words, silences
from hemafl_lib.clinic import SavedModel, load, page_model
from hemafl_lib.data.images import resize

FAMILIES = ("white-cells", "leukaemia-fields")
ARMS = ("one-hospital", "federated", "centralised")
"""The folders of the models, in the order in which the page shows them."""

DRAWN = 8
"""How many cells of a class are drawn to choose a sample from."""

NO_CELL = "no cell: a chequered cloth"


def made(root: Path) -> dict[str, Any]:
    """Return the page's ``models`` and its sample ``cells``; ``root`` is that of the book."""
    models = load_models(root)
    cells = [sample for family in SAMPLES for sample in draw_samples(family, models)]
    return {"models": packed([page_model(model) for model in models]), "cells": [*cells, draw_cloth()]}


def load_models(root: Path) -> list[SavedModel]:
    """Return the models that the book ships, in the order in which the page shows them."""
    cards = (root / "book" / "clinic" / "models").glob("*/*/card.json")
    return [load(card.parent) for card in sorted(cards, key=place_of)]


def place_of(card: Path) -> tuple[int, int]:
    """Return where a model stands on the page, by the folders of its family and arm."""
    return FAMILIES.index(card.parts[-3]), ARMS.index(card.parts[-2])


def packed(models: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return models in few letters: their JSON, their whole numbers and their other bytes, each deflated.

    In the JSON, where a tensor or its scale begins among such bytes, and how many there are, stands for them.
    The three are apart because whole numbers have no repetitions, and pack best where none are sought.
    """
    whole, real = bytearray(), bytearray()

    def moved(text: str, to: bytearray) -> list[int]:
        content = base64.b64decode(text)
        to.extend(content)
        return [len(to) - len(content), len(content)]

    def pointing(tensor: dict[str, Any]) -> dict[str, Any]:
        to = {"data": whole if tensor["dtype"] == "int8" else real, "scale": real}
        return {key: moved(said, to[key]) if key in to else said for key, said in tensor.items()}

    plain = [
        {**model, "tensors": {name: pointing(tensor) for name, tensor in model["tensors"].items()}}
        for model in models
    ]
    text = json.dumps(plain, separators=(",", ":"), allow_nan=False).encode()
    return {
        "json": deflated(text),
        "whole": deflated(whole, zlib.Z_HUFFMAN_ONLY),
        "real": deflated(real),
    }


def deflated(content: bytes | bytearray, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> str:
    """Return deflated bytes in base64."""
    packer = zlib.compressobj(level=9, memLevel=9, strategy=strategy)
    return base64.b64encode(packer.compress(content) + packer.flush()).decode()


def draw_samples(family: str, models: Sequence[SavedModel]) -> Iterator[dict[str, Any]]:
    """Yield a drawn cell of each class as the page reads it: of several, one that most models answer."""
    classes, side = SAMPLES[family]
    cells = draw(classes, side, DRAWN)
    pictures = [encode(image.permute(1, 2, 0).numpy()) for image in cells.images]
    asked = [model for model in models if model.card.family == family]
    silent = silences(asked, len(pictures), partial(decoded, pictures))
    for label, name in enumerate(classes):
        rows = np.flatnonzero(cells.labels.numpy() == label)
        row = rows[silent[rows].argmin()]
        shown = in_words(name)
        yield {
            "family": family,
            "label": shown,
            "note": f"Drawn as: {shown}, in the stain of the hospital {cells.site[row]}; no patient exists.",
            "picture": base64.b64encode(pictures[row]).decode(),
        }


def decoded(pictures: Sequence[bytes], size: int) -> torch.Tensor:
    """Return pictures as a model of ``size`` pixels a side reads them, uint8[N, 3, size, size]."""
    arrays = [resize(Image.open(io.BytesIO(picture)).convert("RGB"), size) for picture in pictures]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def draw_cloth() -> dict[str, Any]:
    """Return a picture that shows no cell, so that a reader meets the warning."""
    across, down = np.meshgrid(np.arange(96), np.arange(96))
    stripes = ((across // 12 + down // 24) % 2)[..., None]
    pixels = np.where(stripes == 1, np.array([20, 110, 60]), np.array([240, 230, 40])).astype(np.uint8)
    note = "Drawn to show what the page says of a picture that holds no cell."
    return {
        "family": None,
        "label": NO_CELL,
        "note": note,
        "picture": base64.b64encode(encode(pixels)).decode(),
    }


def encode(pixels: np.ndarray) -> bytes:
    """Return pixels uint8[H, W, 3] as a small picture (WebP)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=85, method=6)
    return buffer.getvalue()
