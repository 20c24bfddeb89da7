"""Pictures of one's own: turned upright, and each bad one told in a sentence while the rest goes on."""

import numpy as np
import pandas as pd
import pytest
import torch
from builders.clinic import CLASSES, SIZE, a_card, a_model, a_scope
from PIL import ExifTags, Image

from hemafl_lib import clinic
from hemafl_lib.clinic.pictures import read
from hemafl_lib.data.images import decode
from hemafl_lib.errors import DataError, ModelError
from hemafl_lib.explain import ALL_METHODS


def a_picture(width=50, height=40, seed=0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Three pictures, a text and a broken picture."""
    place = tmp_path / "cells"
    (place / "inner").mkdir(parents=True)
    a_picture(seed=1).save(place / "b.png")
    a_picture(seed=2).save(place / "a.bmp")
    a_picture(seed=3).save(place / "inner" / "c.tif")
    (place / "notes.txt").write_text("no picture")
    (place / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (place / ".hidden").write_text("not looked at")
    return place


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_turned_as_its_tag_says(turn, tmp_path):
    picture = a_picture()
    tag = Image.Exif()
    tag[ExifTags.Base.Orientation] = turn
    picture.save(tmp_path / "turned.png", exif=tag)
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    upright = picture.transpose(turns[turn]) if turn in turns else picture
    expected = np.asarray(upright.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    found = read(tmp_path / "turned.png", SIZE)
    assert found.original.size == upright.size
    assert np.array_equal(found.pixels.permute(1, 2, 0).numpy(), expected)


def test_a_picture_without_a_tag_is_read_as_the_cells_of_a_collection_are(tmp_path):
    a_picture().save(tmp_path / "cell.png")
    expected = decode(tmp_path / "cell.png", SIZE).pixels
    assert np.array_equal(read(tmp_path / "cell.png", SIZE).pixels.permute(1, 2, 0).numpy(), expected)


ODD_TAGS = {
    "a number for a text": b"\x01\x32\x00\x05\x00\x00\x00\x01\x00\x00\x00\x26",
    "a number beyond the end": b"\x01\x32\x00\x0c\x00\x00\x00\x05\x00\x00\xff\x00",
}


@pytest.mark.parametrize("odd", ODD_TAGS.values(), ids=ODD_TAGS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_damaged_tag_keeps_no_picture_from_being_read(odd, folder):
    turned = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    tags = (
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x02"
        + turned
        + odd
        + bytes(4)
        + b"\x00\x00\x00\x48\x00\x00\x00\x01"
    )
    a_picture().save(folder / "tagged.png", exif=tags)
    found = clinic.predict(a_model(), [folder])
    assert [name.rpartition("/")[2] for name in found.table["file"]] == [
        "a.bmp",
        "b.png",
        "c.tif",
        "tagged.png",
    ]


# A table


def test_every_picture_gets_a_row_and_every_other_file_a_sentence(folder):
    model = a_model()
    found = clinic.predict(model, [folder])
    assert [name.rpartition("/")[2] for name in found.table["file"]] == ["a.bmp", "b.png", "c.tif"]
    assert [each.path.name for each in found.bad] == ["broken.jpg", "notes.txt"]
    assert all(each.sentence.endswith(".") and each.path.name in each.sentence for each in found.bad)


def test_a_row_says_what_the_model_answers(folder):
    model = a_model(a_card(scope=()))
    row = clinic.predict(model, [folder / "b.png"]).table.iloc[0]
    said = clinic.answer(model, read(folder / "b.png", SIZE).pixels[None])
    assert row["class"] == CLASSES[said.predicted[0]]
    assert [row[f"p {name}"] for name in CLASSES] == pytest.approx(said.probabilities[0].tolist())
    assert row["probability"] == pytest.approx(said.probabilities.max())
    assert row["set"] == "; ".join(np.array(CLASSES)[said.sets[0]])
    assert row["scope"] == "not checked"


def test_what_is_out_of_scope_gets_no_answer(folder):
    model = a_model(a_card(scope=(a_scope(1e-9),)))
    row = clinic.predict(model, [folder / "b.png"]).table.iloc[0]
    assert row["scope"] == "out of scope (colours)"
    assert row["class"] == row["set"] == ""
    assert np.isnan(row["probability"])


def test_answers_do_not_depend_on_the_other_pictures(folder, monkeypatch):
    model = a_model()
    together = clinic.predict(model, [folder]).table
    monkeypatch.setattr("hemafl_lib.clinic.tables.AT_A_TIME", 1)
    pd.testing.assert_frame_equal(clinic.predict(model, [folder]).table, together)


def test_a_folder_of_bad_files_gives_an_empty_table_with_all_columns(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    found = clinic.predict(a_model(), [tmp_path])
    assert found.table.empty
    assert list(found.table.columns)[-1] == f"p {CLASSES[-1]}"


def test_what_does_not_exist_or_holds_no_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        clinic.predict(a_model(), [tmp_path / "nowhere"])
    with pytest.raises(DataError, match=r"holds no file"):
        clinic.predict(a_model(), [tmp_path])


# A report


@pytest.fixture
def report(folder, tmp_path):
    """A report of the folder."""
    bad = clinic.explain(a_model(), [folder], tmp_path / "report")
    return tmp_path / "report", bad


def test_a_report_has_an_overlay_beside_each_picture_and_a_table(report):
    place, bad = report
    assert sorted(path.name for path in place.iterdir()) == [
        "001-a.png",
        "002-b.png",
        "003-c.png",
        "answers.csv",
        "report.html",
    ]
    assert [each.path.name for each in bad] == ["broken.jpg", "notes.txt"]
    assert Image.open(place / "001-a.png").size == (2 * 256 + 8, 256)
    table = pd.read_csv(place / "answers.csv")
    assert (table["explained"] == table["class"]).all()


def test_a_report_says_that_it_is_no_medical_device_and_asks_for_nothing(report):
    text = (report[0] / "report.html").read_text()
    assert "Not a medical device" in text
    assert "default-src 'none'" in text
    assert "broken.jpg" in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("<img") == 6


def test_names_of_files_are_no_markup(tmp_path):
    a_picture().save(tmp_path / "<b>&.png")
    clinic.explain(a_model(), [tmp_path / "<b>&.png"], tmp_path / "report")
    text = (tmp_path / "report" / "report.html").read_text()
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;.png" in text


def test_a_model_of_drawn_images_says_so_before_it_says_anything_of_a_picture(report):
    assert "Trained on drawn images only" in (report[0] / "report.html").read_text()
    assert clinic.warnings_of(a_model(a_card(simulated=False, scope=(a_scope(1.0),)))) == [clinic.DISCLAIMER]


def test_a_model_that_cannot_warn_of_a_flower_says_so():
    assert "a flower as surely as a cell" in clinic.warnings_of(a_model(a_card(scope=())))[-1]


def test_a_warning_takes_the_place_of_the_confidence(folder, tmp_path):
    clinic.explain(a_model(a_card(scope=(a_scope(1e-9),))), [folder / "b.png"], tmp_path / "report")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"report.html", "answers.csv"}, "no map"
    row = pd.read_csv(tmp_path / "report" / "answers.csv").iloc[0]
    assert row[["class", "set", "explained"]].isna().all()
    text = (tmp_path / "report" / "report.html").read_text()
    assert "unlike the pictures that the model was made for, by its colours" in text
    assert "%." not in text


def test_the_most_relevant_place_is_orange_and_a_place_without_relevance_is_grey(tmp_path):
    from hemafl_lib.clinic.report import overlay

    drawn = np.asarray(overlay(a_picture(), torch.tensor([[1.0, 0.0], [-1.0, 0.5]])), dtype=int)
    assert (drawn[:128, :128, 0] > drawn[:128, :128, 2] + 100).all()
    assert np.ptp(drawn[:128, 128:], axis=2).max() == 0
    assert np.ptp(drawn[128:, :128], axis=2).max() == 0


@pytest.mark.parametrize("method", ALL_METHODS)
def test_every_method_and_any_class_can_be_explained(method, folder, tmp_path):
    clinic.explain(a_model(), [folder / "b.png"], tmp_path, method=method, target="monocyte")
    assert pd.read_csv(tmp_path / "answers.csv")["explained"].tolist() == ["monocyte"]


@pytest.mark.parametrize(
    ("asked", "says"), [({"method": "magic"}, "grad_cam"), ({"target": "blast"}, "lymphocyte, monocyte")]
)
def test_an_unknown_method_or_class_is_answered_with_those_that_are_known(asked, says, folder, tmp_path):
    with pytest.raises(ModelError, match=says):
        clinic.explain(a_model(), [folder], tmp_path / "report", **asked)
    assert not (tmp_path / "report").exists()


def test_a_folder_without_any_picture_gives_no_report(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match="none of the files is a picture"):
        clinic.explain(a_model(), [tmp_path / "notes.txt"], tmp_path / "report")
