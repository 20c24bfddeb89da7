"""Pictures of one's own: from files to what a model reads, or a sentence on what is wrong with one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hemafl_lib.data.images import FORMATS, photograph, resize
from hemafl_lib.errors import DataError

LARGEST = 512
"""Longer side in pixels of what is kept of a picture, so that many fit into memory."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as it was taken, at most `LARGEST` pixels wide, and as a model reads it: uint8[3, S, S]."""

    path: Path
    original: Image.Image
    pixels: Tensor


@dataclass(frozen=True)
class Bad:
    """A file that is no picture, and the sentence that says why."""

    path: Path
    sentence: str


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files, and those of the folders: every one but hidden ones, in the order of their names.

    Raises `DataError` if a path does not exist, or there is no file at all.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist; name a picture, or a folder of pictures.")
        inside = path.rglob("*") if path.is_dir() else [path]
        found += sorted(each for each in inside if each.is_file() and not each.name.startswith("."))
    if not found:
        raise DataError(f"{paths[0]} holds no file; give pictures ({', '.join(FORMATS)}).")
    return list(dict.fromkeys(found))


def read(path: Path, size: int) -> Picture | Bad:
    """Return a picture, resized to ``size`` pixels a side as cells of collections are, or what is wrong."""
    try:
        original = photograph(path)
    except DataError as error:
        return Bad(path, str(error))
    pixels = torch.from_numpy(np.array(resize(original, size))).permute(2, 0, 1).contiguous()
    original.thumbnail((LARGEST, LARGEST))
    return Picture(path, original, pixels)
