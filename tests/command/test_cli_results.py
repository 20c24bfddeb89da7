"""`hemafl results` and `hemafl sweep`: what they ask for, by name."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hemafl_book import explorers
from hemafl_book.cli import app
from hemafl_book.explorers import EXPLORERS
from hemafl_book.papers import PAPERS, running


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_results_computes_every_paper_and_every_explorer(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        running,
        "run_and_report",
        lambda name, preset, changes, where, *, out, say: asked.append((name, preset, where.root, out)),
    )
    monkeypatch.setattr(explorers, "record", lambda name, out, say: asked.append((name, out)))
    done = call("results", tmp_path / "out", "--root", tmp_path)
    assert done.exit_code == 0, done.output
    assert asked == [
        *((name, "paper", tmp_path, tmp_path / "out" / f"{name}.json") for name in PAPERS),
        *((name, tmp_path / "out" / f"explorer-{name}.json") for name in EXPLORERS),
    ]


def test_results_without_real_data_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("HEMAFL_DATA", raising=False)
    done = call("results", tmp_path)
    assert done.exit_code == 1
    assert "set HEMAFL_DATA" in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["nowhere", "heterogenity"])
def test_an_unknown_explorer_is_answered_with_the_known_ones(name, tmp_path):
    done = call("sweep", name, "--out", tmp_path / "r.json")
    assert done.exit_code == 1
    assert all(known in done.output for known in EXPLORERS)


def test_the_makefile_names_no_result():
    lines = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    assert "hemafl results book/results" in lines
    assert not any(name in lines for name in (*PAPERS, "hemafl sweep"))
