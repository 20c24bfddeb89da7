"""The cache gives the same cohort, and is never believed when anything has changed."""

import os
import shutil

import pytest
from builders import tiny_layouts

from hemafl_lib import data
from hemafl_lib.data import cache, images
from hemafl_lib.data.cohort import same
from hemafl_lib.errors import DataError


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("HEMAFL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "root").mkdir()
    tiny_layouts.segmentation(tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def decoded(monkeypatch):
    """The names of the images that were decoded."""
    names = []
    decode = images.decode

    def counting(path, size):
        names.append(path.name)
        return decode(path, size)

    monkeypatch.setattr(images, "decode", counting)
    return names


def test_second_load_decodes_nothing_and_is_equal(root, decoded):
    first = data.load("tecom", size=16, root=root)
    assert len(decoded) == 3
    assert same(data.load("tecom", size=16, root=root), first)
    assert len(decoded) == 3


def test_sizes_are_kept_apart(root):
    assert data.load("tecom", size=16, root=root).size == 16
    assert data.load("tecom", size=8, root=root).size == 8
    assert data.load("tecom", size=16, root=root).size == 16


@pytest.mark.survives("A file of the cache is damaged", "it is made anew from the images")
@pytest.mark.parametrize("suffix", ["safetensors", "json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "delete"])
def test_damaged_cache_is_rebuilt(root, decoded, suffix, damage):
    first = data.load("tecom", size=16, root=root)
    (path,) = cache.directory().glob(f"*.{suffix}")
    content = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    elif damage == "flip":
        content[-10] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncate" else b"")
    assert same(data.load("tecom", size=16, root=root), first)
    assert len(decoded) == 6
    data.load("tecom", size=16, root=root)
    assert len(decoded) == 6


@pytest.mark.parametrize("change", ["pixels", "label", "mask", "removed"])
def test_stale_cache_is_rebuilt(root, change):
    before = data.load("tecom", size=40, root=root)
    folder = root / "segmentation_WBC"
    if change == "pixels":
        tiny_layouts.save(folder / "Dataset 1" / "001.bmp", 33)
    elif change == "label":
        table = folder / "Class Labels of Dataset 1.csv"
        table.write_text(table.read_text().replace("3,5", "3,4"))
        os.utime(table, ns=(1, 1))
    elif change == "mask":
        tiny_layouts.Image.new("L", (40, 40), 255).save(folder / "Dataset 1" / "001.png")
    else:
        (folder / "Dataset 1" / "003.bmp").unlink()
    after = data.load("tecom", size=40, root=root)
    assert not same(after, before)
    assert after.provenance.checksum != before.provenance.checksum


def test_checksum_names_the_content_not_the_copy(root, tmp_path):
    first = data.load("tecom", size=16, root=root)
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copy)
    second = data.load("tecom", size=8, root=tmp_path / "copy")
    assert second.provenance.checksum == first.provenance.checksum
    assert data.load("cellavision", size=8, root=root).provenance.checksum != first.provenance.checksum


def test_cache_that_cannot_be_written_is_named(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEMAFL_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set HEMAFL_CACHE"):
        data.load("tecom", size=16, root=root)
