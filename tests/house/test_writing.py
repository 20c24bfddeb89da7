"""Files are written as a whole or not at all, checked before anything is computed, and no result is lost."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from builders.federated import linear

from hemafl_lib import files
from hemafl_lib.errors import DataError
from hemafl_lib.files import check_target, read_json, replace_file, write_json
from hemafl_lib.models import load_model, save_model


def folder(path):
    path.mkdir()


def below_a_file(path):
    path.parent.write_text("a file")


def dangling(path):
    path.symlink_to(path.with_name("nothing"))


def loop(path):
    path.symlink_to(path)


def fifo(path):
    os.mkfifo(path)


@pytest.mark.survives(
    "A result is to be written to a folder, a pipe, a link to nothing, below a file or under too long a name",
    "One sentence names the place and the remedy before anything is computed",
)
@pytest.mark.parametrize(
    ("make", "name", "match"),
    [
        (folder, "out", "is a folder; name a file in it"),
        (below_a_file, "table.csv/out", "table.csv is no folder; make it or name another"),
        (dangling, "out", "is a link to nothing; remove it or name another file"),
        (loop, "out", "is a link to nothing"),
        (fifo, "out", "is no ordinary file"),
        (lambda path: None, "not/there/out", "not is no folder; make it"),
        (lambda path: None, "x" * 300, "File name too long"),
        (lambda path: None, "a\0b", "null"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, make, name, match):
    make(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=match) as refused:
        check_target(tmp_path / name)
    assert "\n" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["out", "new/out", "é" * 100])
def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path, name):
    check_target(tmp_path / name)
    assert not list(tmp_path.iterdir())
    write_json(tmp_path / name, [1])
    check_target(tmp_path / name)
    assert read_json(tmp_path / name) == [1]
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [Path(name).name]


def test_a_link_stays_and_a_file_keeps_its_mode(tmp_path):
    (tmp_path / "disk").mkdir()
    real = tmp_path / "disk" / "result"
    write_json(real, [1])
    real.chmod(0o600)
    (tmp_path / "link").symlink_to(real)
    check_target(tmp_path / "link")
    write_json(tmp_path / "link", [2])
    assert (tmp_path / "link").is_symlink()
    assert read_json(real) == [2]
    assert real.stat().st_mode & 0o777 == 0o600


def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.survives(
    "The disk is full when a result of many hours is to be written",
    "It is written into the folder of temporary files or the current one, and the sentence says where",
)
def test_a_result_that_cannot_be_written_is_written_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "place").write_text("the disk that was there has become a file")
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(
        DataError, match=r"place/result.json cannot be written \(.+\); the result is in"
    ) as told:
        write_json(tmp_path / "place" / "result.json", {"auc": 0.9}, rescue=True)
    saved = Path(re.search(r"is in (\S+) instead", str(told.value))[1])
    assert saved.parent == tmp_path
    assert read_json(saved) == {"auc": 0.9}
    assert saved.stat().st_mode & 0o777 == 0o600


def test_what_is_no_result_is_not_written_elsewhere(tmp_path, monkeypatch):
    """A cohort, for example: no image of a patient goes where nobody looks for it."""
    (tmp_path / "place").write_text("a file")
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(DataError, match="name another file"):
        write_json(tmp_path / "place" / "result.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_a_model_that_cannot_be_written_is_written_elsewhere(tmp_path, monkeypatch):
    """safetensors has an error of its own for what the system does not allow."""
    (tmp_path / "place").write_text("a file")
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(DataError, match="the result is in") as told:
        save_model(linear(), tmp_path / "place" / "model")
    saved = Path(re.search(r"is in (\S+) instead", str(told.value))[1])
    assert repr(load_model(saved)) == repr(linear())


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "out"
    write_json(path, [1])
    with pytest.raises(DataError, match="No space left on device"):
        replace_file(path, full)
    assert read_json(path) == [1]
    assert list(tmp_path.iterdir()) == [path]


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from hemafl_lib.errors import DataError
from hemafl_lib.files import check_target, replace_file, write_json
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
path = Path(sys.argv[1])
for attempt in (
    lambda: check_target(path),
    lambda: write_json(path, list(range(10_000)), rescue=True),
    lambda: replace_file(path, lambda to: save_file({"a": np.zeros(10_000)}, to)),
):
    try:
        attempt()
    except DataError as error:
        print(error)
"""


@pytest.mark.survives(
    "A limit on the size of files (ulimit -f) below that of the result",
    "The process is not killed without a word: one sentence says that the file is too large",
)
def test_a_limit_on_file_sizes_is_one_sentence(tmp_path):
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "out"), "1024"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    checked, written, tensors = ended.stdout.splitlines()
    for line in (checked, written, tensors):
        assert "out cannot be written (File too large)" in line
    assert written.endswith("and the result is lost.")
    assert not list(tmp_path.iterdir())
