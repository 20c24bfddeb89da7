"""One image file becomes one small RGB picture, or one sentence that says why not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import (
    BmpImagePlugin,
    ExifTags,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from hemafl_lib.data.findings import shown
from hemafl_lib.errors import DataError

FORMATS = {
    ".jpg": JpegImagePlugin.JpegImageFile.format,
    ".jpeg": JpegImagePlugin.JpegImageFile.format,
    ".tif": TiffImagePlugin.TiffImageFile.format,
    ".tiff": TiffImagePlugin.TiffImageFile.format,
    ".bmp": BmpImagePlugin.BmpImageFile.format,
    ".png": PngImagePlugin.PngImageFile.format,
}
"""The suffixes of the layouts, and the only format that is read from such a file (no other decoder runs)."""

MAX_PIXELS = 64_000_000
"""A file that declares more pixels than this is refused before it is decoded."""

MIN_SIDE = 8
"""A picture with fewer pixels in a row or column shows no cell."""

DARKEST_WHITE = 64
"""A 16-bit picture whose brightest level (of 0 to 255) is below this holds the fewer bits of a camera."""

CYTOPLASM = 64
NUCLEUS = 192
"""Grey levels that separate background (0), cytoplasm (128) and nucleus (255) in a drawn mask."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image: ``pixels`` is uint8[size, size, 3]; ``width`` and ``height`` are the file's own.

    ``picture`` is the same for files that show the same pixels in full resolution. ``remarks`` name what
    could have been read in another way too: keys of `hemafl_lib.data.findings.KINDS`, each with a detail.
    """

    pixels: np.ndarray
    width: int
    height: int
    picture: str
    remarks: tuple[tuple[str, str], ...] = ()


def decode(path: Path, size: int) -> DecodedImage:
    """Read an image file as RGB and resize it to ``size`` x ``size`` pixels.

    The resize is bilinear with antialiasing and does not keep the aspect ratio. Orientation tags
    (EXIF) are not heeded, except in TIFF, where Pillow turns the picture. Transparent pixels become
    white, 16-bit grey is scaled to 8 bits, and the first frame of a multi-page file is read.

    Raises
    ------
    DataError
        If the file is missing, not of the format of its suffix, damaged, truncated, too large or small, of a
        colour mode without an agreed meaning in RGB, or in 16 bits without using them.
    """
    with _open(path) as image:
        remarks, deep = _remarks(image), _is_deep(image)
        _load(image, path)
        if image.mode == "CMYK":
            remarks.append(("print", ""))
        if _is_transparent(image):
            remarks.append(("transparent", ""))
        rgb = _rgb(image, path)
        if deep and np.asarray(rgb).max() < DARKEST_WHITE:
            raise DataError(
                f"{shown(path)} has 16 bits and uses less than a quarter of their range, as cameras of 10, "
                "12 or 14 bits write it; scale it to all 16 bits, or save it in 8."
            )
        return DecodedImage(resize(rgb, size), image.width, image.height, fingerprint(rgb), tuple(remarks))


def photograph(path: Path) -> Image.Image:
    """Read an image file as RGB in its full size, turned upright as its orientation tag (EXIF) says.

    For pictures that a person took of cells; `decode` is for collections, whose masks lie as their files do.
    Transparent pixels become white, 16-bit grey is scaled to 8 bits, and the first frame is read.

    Raises
    ------
    DataError
        If the file is missing, not of the format of its suffix, damaged, truncated, too large or small, or
        of a colour mode without an agreed meaning in RGB.
    """
    with _open(path) as image:
        _load(image, path)
        try:
            upright = ImageOps.exif_transpose(image)
        except Exception:  # a damaged tag makes Pillow raise errors of a dozen kinds
            upright = image  # as it lies
        return _rgb(upright, path)


def decode_mask(path: Path, size: int, *, drawn_on: DecodedImage) -> np.ndarray:
    """Read a drawn mask as uint8[size, size]: 0 background, 1 cytoplasm, 2 nucleus.

    Grey levels are thresholded at 64 and 192, so that stray values next to 0, 128 and 255 do no
    harm. Each pixel of the result belongs to the class that covers at least half of its area.

    Raises
    ------
    DataError
        As `decode`; or if the mask has not the width and height of the picture it is ``drawn_on``, or
        could be read in more than one way.
    """
    with _open(path) as image:
        remarks = _remarks(image)
        _load(image, path)
        if remarks or image.mode == "CMYK" or _is_transparent(image):
            raise DataError(
                f"{shown(path)} is no plain mask (it has pages, transparency, a turn or colours of print); "
                "save it as 8-bit grey."
            )
        if image.size != (drawn_on.width, drawn_on.height):
            raise DataError(
                f"{shown(path)} has {image.width}x{image.height} pixels and its picture "
                f"{drawn_on.width}x{drawn_on.height}; save the mask in the size of the picture."
            )
        grey = np.asarray(_rgb(image, path).convert("L"))
    return _covers(grey >= CYTOPLASM, size) + _covers(grey >= NUCLEUS, size)


def resize(image: Image.Image, size: int) -> np.ndarray:
    """Return ``image`` as an array of ``size`` x ``size`` pixels (bilinear, antialiased)."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def fingerprint(image: Image.Image) -> str:
    """Return a text that is equal for pictures with equal pixels."""
    return hashlib.blake2b(repr(image.size).encode() + image.tobytes(), digest_size=16).hexdigest()


def _covers(region: np.ndarray, size: int) -> np.ndarray:
    """Return 1 where ``region`` (bool[H, W]) covers at least half of the resized pixel, else 0."""
    share = resize(Image.fromarray(region.astype(np.uint8) * 255), size)
    return (share >= 128).astype(np.uint8)


def _open(path: Path) -> Image.Image:
    """Open ``path`` as the format of its suffix; no pixel is read before the declared size is checked."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{shown(path)} has a suffix that is not read; use one of {', '.join(FORMATS)}.")
    try:
        image = Image.open(path, formats=[kind])
    except UnidentifiedImageError:
        raise _damaged(path, f"it holds no {kind} picture") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(path) from None
    except FileNotFoundError:
        raise DataError(
            f"{shown(path)} does not exist; restore the file or remove what refers to it."
        ) from None
    except PermissionError:
        raise DataError(
            f"{shown(path)} may not be read; give the user of this program the right to."
        ) from None
    except Exception as error:  # damaged bytes make Pillow's plugins raise errors of a dozen kinds
        raise _damaged(path, error) from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise _too_large(path)
    if min(image.size) < MIN_SIDE:
        image.close()
        raise DataError(
            f"{shown(path)} has {image.width}x{image.height} pixels, too few to show a cell; remove the file."
        )
    return image


def _load(image: Image.Image, path: Path) -> None:
    """Decode the pixels of an open image."""
    try:
        image.load()
    except Exception as error:  # as above
        raise _damaged(path, error) from None


def _remarks(image: Image.Image) -> list[tuple[str, str]]:
    """Return what the head of an open image says that can be read in more than one way."""
    remarks = []
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged tag turns nothing, and the pixels are read without it
        turn = 1
    if turn not in (0, 1):
        remarks.append(("turned", "and read turned" if image.format == "TIFF" else "and read as it lies"))
    try:
        pages = getattr(image, "n_frames", 1)
    except Exception:  # a damaged second page; that there is one is what counts
        pages = 2
    if pages > 1:
        remarks.append(("pages", ""))
    return remarks


def _is_deep(image: Image.Image) -> bool:
    """Return whether an open image has more than 8 bits a channel (Pillow's plans of decoding name them)."""
    return image.mode.startswith("I;16") or any(";16" in str(tile) for tile in getattr(image, "tile", ()))


def _is_transparent(image: Image.Image) -> bool:
    """Return whether any pixel of a decoded image is not opaque."""
    if not image.has_transparency_data:
        return False
    return bool((np.asarray(image.convert("RGBA").getchannel("A")) < 255).any())


def _rgb(image: Image.Image, path: Path) -> Image.Image:
    """Convert a decoded image of any supported mode to RGB."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode in {"1", "L", "P", "RGB", "CMYK", "YCbCr"}:
        return image.convert("RGB")
    raise DataError(
        f"{shown(path)} has the colour mode '{image.mode}', which is not supported; "
        "convert it to 8-bit RGB or 16-bit grey."
    )


def _damaged(path: Path, reason: object) -> DataError:
    said = " ".join(str(reason).split()) or type(reason).__name__
    return DataError(f"{shown(path)} cannot be read as an image ({said}); replace the file or remove it.")


def _too_large(path: Path) -> DataError:
    return DataError(
        f"{shown(path)} declares more than {MAX_PIXELS:,} pixels and was not decoded; "
        "replace the file by a crop of a single cell."
    )
