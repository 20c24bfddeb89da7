"""The command ``hemafl data``."""

import pytest
from builders import tiny_layouts
from typer.testing import CliRunner

from hemafl_book.cli import app
from hemafl_lib import data
from hemafl_lib.data.cards import CARDS


@pytest.fixture
def hemafl(monkeypatch):
    monkeypatch.delenv("HEMAFL_DATA", raising=False)
    return lambda *arguments: CliRunner().invoke(app, ["data", *map(str, arguments)])


def test_list_names_every_cohort_and_what_is_here(hemafl, tmp_path):
    tiny_layouts.bccd(tmp_path)
    result = hemafl("list", "--root", tmp_path)
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split()[1] for line in result.output.splitlines() if line[:1].strip()}
    here = {"smear", "flchain", "sickle-cell", "bccd"}
    assert {name for name in CARDS if rows[name] == "yes"} == here
    built_in = {line.split()[0] for line in result.output.splitlines() if line.endswith("built in")}
    assert built_in == here - {"bccd"}
    assert {name for name in CARDS if rows[name] == "-"} == set(CARDS) - here


@pytest.mark.parametrize("name", CARDS)
def test_card_tells_licence_and_what_is_not_known(hemafl, name):
    result = hemafl("card", name)
    assert result.exit_code == 0
    assert CARDS[name].licence in result.output
    assert CARDS[name].unknown in result.output


def test_check_of_a_sound_folder_succeeds(hemafl, tmp_path):
    tiny_layouts.segmentation(tmp_path)
    result = hemafl("check", tmp_path)
    assert result.exit_code == 0
    assert "tecom: 3 images" in result.output
    assert "cellavision: 2 images" in result.output


def test_check_of_a_broken_folder_fails_and_names_the_file(hemafl, tmp_path):
    tiny_layouts.bccd(tmp_path)
    (tmp_path / "BCCD_cropped" / "Basophil" / "BloodImage_00002_1.jpg").write_bytes(b"")
    result = hemafl("check", tmp_path)
    assert result.exit_code == 1
    assert "BloodImage_00002_1.jpg" in result.output


@pytest.mark.survives(
    "Decoded images of patients stay behind after a federation", "`hemafl data clear` deletes them"
)
def test_clear_deletes_the_decoded_images(hemafl, tmp_path, monkeypatch):
    monkeypatch.setenv("HEMAFL_CACHE", str(tmp_path / "cache"))
    tiny_layouts.bccd(tmp_path)
    data.load("bccd", size=8, root=tmp_path)
    assert list((tmp_path / "cache").rglob("*.safetensors"))
    result = hemafl("clear")
    assert result.exit_code == 0
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_check_fails_for_what_load_would_leave_out(hemafl, tmp_path):
    tiny_layouts.bccd(tmp_path)
    tiny_layouts.save(tmp_path / "BCCD_cropped" / "Basophil" / "BloodImage_00009_1.png", 9)
    result = hemafl("check", tmp_path)
    assert result.exit_code == 1
    assert (
        "BloodImage_00009_1.png: left out, because its suffix is none of this layout; save it"
        in result.output
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("card", "nothing"), "'nothing' is unknown"),
        (("fetch", "bccd"), "HEMAFL_DATA"),
        (("fetch", "lmu"), "Cancer Imaging Archive"),
        (("check", "nowhere"), "nowhere is not a folder"),
    ],
)
def test_errors_are_one_sentence_and_exit_code_one(hemafl, arguments, sentence):
    result = hemafl(*arguments)
    assert result.exit_code == 1
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert len(result.output.strip().splitlines()) == 1
