"""The cache gives the same cohort, and is never believed when anything has changed."""

import os
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from builders import tiny_layouts

from hemafl_lib import data
from hemafl_lib.data import cache, images, store
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


@pytest.mark.survives(
    "A file changes, and keeps its size and its date", "it is read anew: the cache decides by content"
)
def test_other_content_of_the_same_size_and_date_is_seen(root):
    table = root / "segmentation_WBC" / "Class Labels of Dataset 1.csv"
    before = data.load("tecom", size=16, root=root)
    about = table.stat()
    table.write_bytes(table.read_bytes().replace(b"3,5", b"3,4"))
    os.utime(table, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert table.stat().st_size == about.st_size
    after = data.load("tecom", size=16, root=root)
    assert after.labels.tolist() != before.labels.tolist()
    assert after.provenance.checksum != before.provenance.checksum


@pytest.mark.survives(
    "A file changes while its cohort is read", "a sentence asks to load again; nothing is kept of a mixture"
)
def test_a_file_that_changes_while_it_is_read_is_noticed(root, monkeypatch):
    decode = images.decode

    def changing(path, size):
        picture = decode(path, size)
        tiny_layouts.save(path, 77)
        return picture

    monkeypatch.setattr(images, "decode", changing)
    with pytest.raises(DataError, match="changed while it was read; load it again"):
        data.load("tecom", size=16, root=root)
    assert not list(cache.directory().glob("*"))


def files_of_cache():
    return {path.suffix: path for path in cache.directory().iterdir()}


@pytest.mark.survives(
    "The system lets everybody read new files (umask 0)",
    "decoded images are readable by their owner alone, in a folder that only the owner can enter",
)
@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_the_cache_is_private_whatever_the_umask(root, umask):
    cache.directory().mkdir(parents=True, mode=0o755)
    old = os.umask(umask)
    try:
        data.load("tecom", size=16, root=root)
    finally:
        os.umask(old)
    assert cache.directory().stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in files_of_cache().values()] == [0o600, 0o600]


@pytest.mark.survives(
    "The disk is full while decoded images are kept",
    "the images are loaded all the same; a warning names the folder, and no half-written file stays",
)
@pytest.mark.parametrize("room", [0, 100, 3000])
def test_a_full_disk_costs_the_cache_and_not_the_cohort(root, room):
    expected = data.load("tecom", size=16, root=root)
    cache.clear()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.warns(UserWarning, match=r"decoded cannot be written \(.*free space there") as caught:
            cohort = data.load("tecom", size=16, root=root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(str(caught[0].message).splitlines()) == 1
    assert same(cohort, expected)
    assert list(cache.directory().iterdir()) == []


def test_a_full_disk_after_the_images_leaves_no_half_pair(root, monkeypatch):
    def full(*arguments):
        raise DataError("no room") from OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_json", full)
    with pytest.warns(UserWarning, match=r"cannot be written \(No space left on device\)"):
        data.load("tecom", size=16, root=root)
    assert list(cache.directory().iterdir()) == []


@pytest.mark.survives(
    "Somebody puts a cohort of other images into the cache",
    "it does not fit its seal, and the images are decoded again",
)
def test_a_poisoned_cache_is_rebuilt(root, tmp_path):
    expected = data.load("tecom", size=16, root=root)
    other = data.load("cellavision", size=16, root=root)
    (kept,) = cache.directory().glob("tecom*.safetensors")
    store.save_cohort(other, kept)
    assert same(data.load("tecom", size=16, root=root), expected)


@pytest.mark.survives(
    "The folder of the cache is a link, or belongs to another user",
    "it is neither read nor written; a warning",
)
@pytest.mark.parametrize("planted", ["link", "owner"])
def test_a_folder_that_somebody_planted_is_not_used(root, tmp_path, monkeypatch, planted):
    expected = data.load("tecom", size=16, root=root)
    if planted == "link":
        cache.directory().rename(tmp_path / "elsewhere")
        cache.directory().symlink_to(tmp_path / "elsewhere")
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.warns(UserWarning, match="belongs to another user"):
        assert same(data.load("tecom", size=16, root=root), expected)


@pytest.mark.survives(
    "Two programs fill the cache at the same moment", "both load the right images, and so does the next"
)
def test_two_programs_fill_the_cache_at_once(root):
    with ThreadPoolExecutor(4) as pool:
        cohorts = list(pool.map(lambda _: data.load("tecom", size=16, root=root), range(8)))
    assert all(same(cohort, cohorts[0]) for cohort in cohorts)
    assert same(data.load("tecom", size=16, root=root), cohorts[0])
    assert len(list(cache.directory().iterdir())) == 2
    assert set(files_of_cache()) == {".safetensors", ".json"}


def test_writers_that_take_turns_never_leave_another_cohort(root, monkeypatch):
    """Two writers of other content, one between the images and the seal of the other."""
    first = data.load("tecom", size=16, root=root)
    second = data.load("cellavision", size=16, root=root)
    path = cache.place("x", 16, root)
    seal = cache.write_json

    def interrupted(target, value, mode):
        monkeypatch.setattr(cache, "write_json", seal)
        cache.write(path, "b", second)
        seal(target, value, mode)

    monkeypatch.setattr(cache, "write_json", interrupted)
    cache.write(path, "a", first)
    for key, cohort in (("a", first), ("b", second)):
        found = cache.read(path, key)
        assert found is None or same(found, cohort)


def test_the_cache_can_be_cleared(root):
    data.load("tecom", size=16, root=root)
    assert cache.clear() == cache.directory()
    assert not cache.directory().exists()
    cache.clear()
    data.load("tecom", size=16, root=root)


def test_cache_that_cannot_be_written_is_named(root, tmp_path, monkeypatch):
    expected = data.load("tecom", size=16, root=root)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEMAFL_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="set HEMAFL_CACHE"):
        assert same(data.load("tecom", size=16, root=root), expected)
