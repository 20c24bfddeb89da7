"""An archive is unpacked whole, or refused in one sentence before a byte of it is written."""

import io
import random
import struct
import tarfile
import zipfile
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemafl_lib.data.archives import MOST_ENTRIES, SMALL, unpack
from hemafl_lib.errors import DataError, HemaflError


@pytest.fixture
def place(tmp_path):
    (tmp_path / "unpacked").mkdir()
    return tmp_path


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def refuse(place, content, reason):
    """Assert that an archive is refused for a reason, in one line, and that nothing was unpacked."""
    (place / "some.zip").write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        unpack(place / "some.zip", place / "unpacked")
    assert len(str(caught.value).splitlines()) == 1
    assert "some.zip" in str(caught.value)
    assert list((place / "unpacked").iterdir()) == []


def test_a_sound_archive_is_unpacked(place):
    (place / "some.zip").write_bytes(zipped(**{"a/b.txt": "one", "a/c.txt": "two"}))
    unpack(place / "some.zip", place / "unpacked")
    assert (place / "unpacked" / "a" / "c.txt").read_text() == "two"


@pytest.mark.survives(
    "A small archive would grow to gigabytes (a zip bomb)",
    "it is refused by what it declares, and never unpacked",
)
def test_a_bomb_is_refused(place):
    refuse(place, zipped(bomb=bytes(2 * SMALL)), r"would grow to 33,554,432, more than 100 times")


@pytest.mark.survives(
    "An archive is a bomb of archives in archives", "the inner ones stay files; they are never unpacked"
)
def test_an_archive_in_an_archive_stays_a_file(place):
    (place / "some.zip").write_bytes(zipped(**{"inner.zip": zipped(a=bytes(SMALL))}))
    unpack(place / "some.zip", place / "unpacked")
    assert [path.name for path in (place / "unpacked").iterdir()] == ["inner.zip"]


@pytest.mark.survives("An archive holds hundreds of thousands of entries", "a sentence; nothing is unpacked")
def test_too_many_entries_are_refused(place, monkeypatch):
    monkeypatch.setattr("hemafl_lib.data.archives.MOST_ENTRIES", 3)
    assert MOST_ENTRIES > 41_621
    refuse(place, zipped(a="", b="", c="", d=""), "it holds 4 entries, more than 3")


@pytest.mark.survives("An archive needs more room than the disk has", "a sentence, before the disk is full")
def test_more_than_the_disk_has_is_refused(place, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1))
    refuse(place, zipped(a="some bytes"), "it needs 10 bytes and 1 are free")


def with_flag(content):
    """Mark the entries of an archive as encrypted, in their heads and in the directory."""
    changed = bytearray(content)
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        where = content.index(signature) + offset
        struct.pack_into("<H", changed, where, 1)
    return bytes(changed)


@pytest.mark.survives("An archive is encrypted", "a sentence says so")
def test_an_encrypted_archive_is_refused(place):
    refuse(place, with_flag(zipped(a="secret")), "'a' in it is encrypted")


@pytest.mark.survives(
    "An archive holds absolute names, or names that lead out of its folder", "a sentence; nothing is unpacked"
)
@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "..\\x", "C:\\x", "C:x"])
def test_names_that_lead_out_are_refused(place, name):
    refuse(place, zipped(**{"good.txt": "", name: "evil"}), "could lead out of the folder")
    assert not (place / "x").exists()


@pytest.mark.survives("An archive holds a link or a device", "a sentence; nothing is unpacked")
@pytest.mark.parametrize("kind", [0o120777, 0o020666, 0o010666])
def test_links_and_devices_are_refused(place, kind):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("passwords.jpg")
        entry.create_system, entry.external_attr = 3, kind << 16
        archive.writestr(entry, "/etc/passwd")
    refuse(place, buffer.getvalue(), "'passwords.jpg' in it is a link or a device")


@pytest.mark.survives(
    "Two names in an archive differ only in case, as some systems cannot tell",
    "a sentence; none overwrites the other",
)
@pytest.mark.parametrize("names", [("a/x.jpg", "A/X.JPG"), ("\u00e9.jpg", "e\u0301.jpg")])
def test_names_that_meet_on_some_system_are_refused(place, names):
    refuse(place, zipped(**dict.fromkeys(names, "")), "twice, perhaps in another case")


@pytest.mark.survives(
    "A tar archive, or an empty file, bears the name of a zip", "a sentence that names the file"
)
@pytest.mark.parametrize("kind", ["tar", "empty", "text"])
def test_what_is_no_zip_is_refused(place, kind):
    buffer = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a"))
    elif kind == "text":
        buffer.write(b"hello")
    refuse(place, buffer.getvalue(), "cannot be unpacked")


@pytest.mark.survives("Bytes of an archive are damaged", "it is unpacked right, or a sentence; nothing else")
@settings(max_examples=80, deadline=None, derandomize=True)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_any_damaged_byte_gives_the_files_or_a_sentence(tmp_path_factory, place, byte, cut):
    folder = tmp_path_factory.mktemp("archive")
    expected = {"a/one.txt": random.Random(0).randbytes(200), "b.txt": b"two" * 50}
    content = bytearray(zipped(**expected))
    where = int(place * len(content))
    content[where] = byte
    (folder / "some.zip").write_bytes(content[:where] if cut else content)
    (folder / "unpacked").mkdir()
    try:
        unpack(folder / "some.zip", folder / "unpacked")
        sentence = "unpacked"
    except HemaflError as error:
        sentence = str(error)
    assert len(sentence.splitlines()) == 1
    found = {path.read_bytes() for path in (folder / "unpacked").rglob("*") if path.is_file()}
    assert sentence != "unpacked" or found <= set(expected.values())
