"""`hemafl results` and `hemafl sweep`: what they ask for, by name."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hemafl_book.cli import app
from hemafl_book.explorers import EXPLORERS
from hemafl_book.papers import PAPERS


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.survives("Frozen results are asked for without the real data", "a sentence; the results stay")
def test_results_without_real_data_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("HEMAFL_DATA", raising=False)
    done = call("results", "make", tmp_path)
    assert done.exit_code == 1
    assert "set HEMAFL_DATA" in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.survives(
    "A result's file cannot be written or holds another result", "a sentence before anything is computed"
)
@pytest.mark.parametrize(
    "command",
    [("run", "scd-infarct"), ("sweep", "partition"), ("bench", "engines")],
    ids=lambda words: words[0],
)
def test_what_cannot_be_written_or_holds_something_else_is_refused_before_anything_is_computed(
    command, tmp_path, repository
):
    other, papers = tmp_path / "other.json", tmp_path / "paper.json"
    other.write_text("{}")
    papers.write_bytes((repository / "book" / "results" / "all-privacy.json").read_bytes())
    before = {path: path.read_bytes() for path in (other, papers)}
    for out, sentence in (
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "such" / "x.json", "is no folder"),
        (other / "x.json", "is no folder"),
        (other, "name another file, or remove it"),
        (papers, "name another file, or remove it"),
    ):
        done = call(*command, "--out", out)
        assert done.exit_code == 1
        assert sentence in done.output
        assert len(done.output.strip().splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == [other, papers]
    assert before == {path: path.read_bytes() for path in (other, papers)}


@pytest.mark.parametrize("name", ["nowhere", "heterogenity"])
def test_an_unknown_explorer_is_answered_with_the_known_ones(name, tmp_path):
    done = call("sweep", name, "--out", tmp_path / "r.json")
    assert done.exit_code == 1
    assert all(known in done.output for known in EXPLORERS)


def test_the_makefile_names_no_result():
    lines = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    assert "hemafl results make book/results" in lines
    assert not any(name in lines for name in (*PAPERS, "hemafl sweep"))
