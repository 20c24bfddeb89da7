"""One image file becomes one small RGB picture, or one sentence that says why not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hemafl_lib.errors import DataError

MAX_PIXELS = 64_000_000
"""A file that declares more pixels than this is refused before it is decoded."""

CYTOPLASM = 64
NUCLEUS = 192
"""Grey levels that separate background (0), cytoplasm (128) and nucleus (255) in a drawn mask."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image: ``pixels`` is uint8[size, size, 3]; ``width`` and ``height`` are the file's own."""

    pixels: np.ndarray
    width: int
    height: int


def decode(path: Path, size: int) -> DecodedImage:
    """Read an image file as RGB and resize it to ``size`` x ``size`` pixels.

    The resize is bilinear with antialiasing and does not keep the aspect ratio. Orientation tags
    (EXIF) are ignored. Transparent pixels become white, 16-bit grey is scaled to 8 bits, and the
    first frame of a multi-page file is read.

    Raises
    ------
    DataError
        If the file is missing, damaged, truncated, too large, or of a colour mode without an
        agreed meaning in RGB.
    """
    with _open(path) as image:
        rgb = _rgb(image, path)
        return DecodedImage(resize(rgb, size), image.width, image.height)


def decode_mask(path: Path, size: int) -> np.ndarray:
    """Read a drawn mask as uint8[size, size]: 0 background, 1 cytoplasm, 2 nucleus.

    Grey levels are thresholded at 64 and 192, so that stray values next to 0, 128 and 255 do no
    harm. Each pixel of the result belongs to the class that covers at least half of its area.

    Raises
    ------
    DataError
        As `decode`.
    """
    with _open(path) as image:
        grey = np.asarray(_rgb(image, path).convert("L"))
    return _covers(grey >= CYTOPLASM, size) + _covers(grey >= NUCLEUS, size)


def resize(image: Image.Image, size: int) -> np.ndarray:
    """Return ``image`` as an array of ``size`` x ``size`` pixels (bilinear, antialiased)."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _covers(region: np.ndarray, size: int) -> np.ndarray:
    """Return 1 where ``region`` (bool[H, W]) covers at least half of the resized pixel, else 0."""
    share = resize(Image.fromarray(region.astype(np.uint8) * 255), size)
    return (share >= 128).astype(np.uint8)


def _open(path: Path) -> Image.Image:
    """Open and decode ``path``; the declared size is checked before any pixel is read."""
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; restore the file or remove what refers to it.") from None
    except Image.DecompressionBombError:
        raise _too_large(path) from None
    except Exception as error:  # damaged bytes make Pillow's plugins raise errors of a dozen kinds
        raise _damaged(path, error) from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise _too_large(path)
    try:
        image.load()
    except Exception as error:
        image.close()
        raise _damaged(path, error) from None
    return image


def _rgb(image: Image.Image, path: Path) -> Image.Image:
    """Convert a decoded image of any supported mode to RGB."""
    if image.mode.startswith("I;16"):
        scaled = np.asarray(image).astype(np.float64) / 257
        return Image.fromarray(scaled.round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode in {"1", "L", "P", "RGB", "CMYK", "YCbCr"}:
        return image.convert("RGB")
    raise DataError(
        f"{path} has the colour mode '{image.mode}', which is not supported; "
        "convert it to 8-bit RGB or 16-bit grey."
    )


def _damaged(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{path} cannot be read as an image ({reason}); replace the file or remove it.")


def _too_large(path: Path) -> DataError:
    return DataError(
        f"{path} declares more than {MAX_PIXELS:,} pixels and was not decoded; "
        "replace the file by a crop of a single cell."
    )
