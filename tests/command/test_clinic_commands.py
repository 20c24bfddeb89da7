"""A clinician's commands: answers, a report and a page from a saved model, whatever lies in the folder."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from builders.clinic import a_card, a_model, a_scope
from PIL import Image
from typer.testing import CliRunner

from hemafl_book.cli import app
from hemafl_lib import clinic


@pytest.fixture
def place(tmp_path):
    """A saved model and a folder of two pictures and two bad files."""
    clinic.save(a_model(), tmp_path / "model")
    (tmp_path / "cells").mkdir()
    for name in ("a.png", "b.jpg"):
        Image.fromarray(np.full((40, 40, 3), 128, np.uint8)).save(tmp_path / "cells" / name)
    (tmp_path / "cells" / "c.png").write_bytes(b"broken")
    (tmp_path / "cells" / "d.txt").write_text("notes")
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_predict_answers_what_it_can_and_names_what_it_cannot(place):
    done = call("predict", place / "model", place / "cells", "--out", place / "out" / "table.csv")
    assert done.exit_code == 0
    assert len(pd.read_csv(place / "out" / "table.csv")) == 2
    assert done.stderr.count("hemafl: ") == 2
    assert "c.png" in done.stderr
    assert "d.txt" in done.stderr
    assert "Not a medical device" in done.stdout


def test_predict_ends_well_where_every_file_is_a_picture(place):
    done = call("predict", place / "model", place / "cells" / "a.png", "--out", place / "table.csv")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""


def test_predict_prints_its_table_where_no_file_is_named(place):
    done = call("predict", place / "model", place / "cells" / "a.png", place / "cells" / "b.jpg")
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv(io.StringIO(done.stdout))) == 2
    assert "Not a medical device" in done.stderr


def test_no_name_in_a_table_is_a_formula_to_a_spreadsheet():
    table = pd.DataFrame({"file": ["=WEBSERVICE(1)", "-a.png", "b=c.png"], "p": [-1.0, 0.5, 0.2]})
    rows = clinic.as_csv(table).splitlines()[1:]
    expected = ["'=WEBSERVICE(1),-1.0,", "'-a.png,0.5,", "b=c.png,0.2,"]
    assert [row.partition('"')[0] for row in rows] == expected
    assert all("Not a medical device" in row for row in rows)


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_whatever_a_spreadsheet_computes_after_gets_an_apostrophe(first):
    table = clinic.as_csv(pd.DataFrame({"file": [f"{first}1+1"]}))
    with io.StringIO(table, newline="") as text:
        (row,) = csv.DictReader(text)
    assert row["file"] == f"'{first}1+1".replace("\r", "\n")


def test_no_text_in_a_table_begins_a_row():
    table = clinic.as_csv(pd.DataFrame({"file": ["a\r=1+1", "b\n=1+1", "c"]}))
    with io.StringIO(table, newline="") as text:
        assert [row["file"] for row in csv.DictReader(text)] == ["a\n=1+1", "b\n=1+1", "c"]


def test_no_name_of_a_file_steers_the_terminal(place):
    """It is spelt out in the table and in the sentences on files that cannot be read."""
    odd = place / "cells" / "\x1b[2Ja\n.png"
    odd.write_bytes((place / "cells" / "a.png").read_bytes())
    (place / "cells" / "\x1b[2Jbad.png").write_text("no picture")
    done = call("predict", place / "model", place / "cells")
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output
    assert "\\x1b[2Ja\\n.png" in done.stdout


def test_where_no_file_is_a_picture_the_command_fails(place):
    done = call("predict", place / "model", place / "cells" / "c.png", "--out", place / "table.csv")
    assert done.exit_code == 1
    assert done.stderr.count("hemafl: ") == 1


def test_explain_writes_a_report(place):
    arguments = ("--out", place / "report", "--method", "occlusion", "--target", "monocyte")
    done = call("explain", place / "model", place / "cells", *arguments)
    assert done.exit_code == 0
    assert done.stderr.count("hemafl: ") == 2
    assert (place / "report" / "report.html").is_file()
    assert set(pd.read_csv(place / "report" / "answers.csv")["explained"]) == {"monocyte"}


def test_export_writes_one_file_for_the_page(place):
    done = call("export", place / "model", "--to", "page", "--out", place / "page.json")
    assert done.exit_code == 0, done.output
    assert json.loads((place / "page.json").read_text())["format"] == "hemafl page model"


@pytest.mark.parametrize(("to", "suffix"), [("page", "json"), ("onnx", "onnx")])
def test_export_names_the_file_after_the_model_where_none_is_given(place, monkeypatch, to, suffix):
    monkeypatch.chdir(place)
    done = call("export", "model", "--to", to)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"model.{suffix} holds the model.")
    assert (place / f"model.{suffix}").stat().st_size > 0


def test_a_folder_of_models_is_answered_with_their_names(place):
    done = call("predict", place, place / "cells")
    assert done.exit_code == 1
    assert str(place / "model") in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_out_of_scope_is_counted_and_has_no_probability_in_the_file(place):
    clinic.save(a_model(a_card(scope=(a_scope(1e-9),))), place / "narrow")
    done = call("predict", place / "narrow", place / "cells", "--out", place / "table.csv")
    assert "Of 2 pictures 2 get no answer" in done.stdout
    table = pd.read_csv(place / "table.csv")
    assert table.filter(regex="^p ").isna().all(axis=None)


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "nowhere", "cells", "--out", "t.csv"),
        ("explain", "nowhere", "cells", "--out", "r"),
        ("export", "nowhere", "--to", "page", "--out", "p"),
        ("clinic", "models", "no-such-family"),
    ],
)
def test_what_is_not_there_gets_one_sentence(command):
    done = call(*command)
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("hemafl: ")
