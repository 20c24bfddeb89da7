"""An image file becomes a correct picture or one sentence that names it."""

import io
import zlib

import numpy as np
import pytest
import torch
from builders.tiny_layouts import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2.functional import resize

from hemafl_lib.data import images
from hemafl_lib.errors import DataError

RED = (200, 30, 40)


def decoded(tmp_path, image, name="cell.png", size=8, **options):
    image.save(tmp_path / name, **options)
    return images.decode(tmp_path / name, size)


def test_resizing_is_antialiased_as_in_torchvision(tmp_path):
    image = picture(3, (97, 61))
    expected = resize(torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1), [16, 16], antialias=True)
    result = decoded(tmp_path, image, size=16)
    difference = torch.from_numpy(result.pixels.astype(int)).permute(2, 0, 1) - expected.int()
    assert difference.abs().max() <= 1
    assert (result.width, result.height) == (97, 61)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", RED, RED),
        ("L", 77, (77, 77, 77)),
        ("1", 255, (255, 255, 255)),
        ("LA", (77, 255), (77, 77, 77)),
        ("RGBA", (*RED, 255), RED),
        ("RGBA", (*RED, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 120, (120, 120, 120)),
    ],
)
def test_colour_modes_become_rgb(tmp_path, mode, colour, expected):
    result = decoded(tmp_path, Image.new(mode, (20, 20), colour))
    assert result.pixels.dtype == np.uint8
    assert result.pixels.shape == (8, 8, 3)
    assert (result.pixels == expected).all()


def test_palette_with_a_transparent_colour_becomes_white_there(tmp_path):
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, *RED])
    assert (decoded(tmp_path, image).pixels == RED).all()
    assert (decoded(tmp_path, image, transparency=1).pixels == 255).all()


def test_sixteen_bit_big_endian_tiff_is_scaled(tmp_path):
    image = Image.fromarray(np.full((20, 20), 257 * 100, dtype=">u2"))
    assert (decoded(tmp_path, image, "cell.tif").pixels == 100).all()


def test_cmyk_jpeg_keeps_its_colour(tmp_path):
    image = Image.new("CMYK", (20, 20), (0, 255, 255, 0))
    red, green, blue = decoded(tmp_path, image, "cell.jpg", quality=95).pixels[4, 4].astype(int)
    assert red > 230
    assert max(green, blue) < 30


def test_orientation_tag_is_ignored(tmp_path):
    image = picture(0, (40, 40))
    plain = decoded(tmp_path, image, "plain.jpg").pixels
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(decoded(tmp_path, image, "turned.jpg", exif=exif).pixels, plain)


def test_unsupported_mode_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"cell\.tif.*colour mode 'F'"):
        decoded(tmp_path, Image.new("F", (20, 20)), "cell.tif")


@pytest.mark.survives("An image is cut off in the middle", "a sentence that names the file")
@pytest.mark.parametrize("extension", ["jpg", "png", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6])
def test_truncated_file_is_refused_by_name(tmp_path, extension, share):
    path = tmp_path / f"cell.{extension}"
    picture(1, (80, 80)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=rf"cell\.{extension} cannot be read as an image"):
        images.decode(path, 8)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png does not exist"):
        images.decode(tmp_path / "gone.png", 8)


@pytest.mark.survives("A small file claims to be a gigantic image", "it is refused before it is decoded")
@pytest.mark.parametrize("side", [8_001, 60_000])
def test_decompression_bomb_is_refused_before_decoding(tmp_path, side):
    path = tmp_path / "bomb.png"
    buffer = io.BytesIO()
    Image.new("1", (side, 8)).save(buffer, format="PNG")
    content = bytearray(buffer.getvalue())
    content[20:24] = side.to_bytes(4, "big")  # the height that the header declares
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bomb\.png declares more than"):
        images.decode(path, 8)


@pytest.mark.survives("Any byte of an image file is changed", "a picture or a sentence, nothing else")
@settings(max_examples=60, deadline=None)
@given(
    position=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
    kind=st.sampled_from(["jpeg", "png"]),
)
def test_any_damaged_byte_gives_a_picture_or_a_sentence(tmp_path_factory, position, byte, kind):
    buffer = io.BytesIO()
    picture(2, (32, 32)).save(buffer, format=kind)
    content = bytearray(buffer.getvalue())
    content[int(position * len(content))] = byte
    path = tmp_path_factory.getbasetemp() / f"damaged.{kind}"
    path.write_bytes(content)
    try:
        outcome = images.decode(path, 8).pixels.shape
    except DataError as error:
        outcome = str(error)
    assert outcome == (8, 8, 3) or path.name in outcome


def test_mask_classes_survive_stray_values_and_resizing(tmp_path):
    values = np.full((40, 40), 9, dtype=np.uint8)
    values[8:32, 8:32] = 125
    values[16:24, 16:24] = 250
    Image.fromarray(values).save(tmp_path / "mask.png")
    picture(0).save(tmp_path / "cell.png")
    drawn_on = images.decode(tmp_path / "cell.png", 10)
    mask = images.decode_mask(tmp_path / "mask.png", 10, drawn_on=drawn_on)
    expected = np.zeros((10, 10), dtype=np.uint8)
    expected[2:8, 2:8] = 1
    expected[4:6, 4:6] = 2
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, expected)
