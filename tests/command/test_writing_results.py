"""The result of a long run is not lost to a terminal that has gone, nor the report to a full disk."""

from dataclasses import dataclass
from types import SimpleNamespace

import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import check_place
from hemafl_book.cli import app
from hemafl_book.papers import running
from hemafl_book.papers.changes import Changes
from hemafl_book.papers.where import Where
from hemafl_book.results import Results, load
from hemafl_lib.data.cohort import Provenance
from hemafl_lib.errors import DataError


@dataclass(frozen=True)
class Protocol:
    """The protocol of a paper of one table."""

    seeds: tuple[int, ...] = (0,)

    def describe(self):
        return {"preset": "quick"}


@pytest.fixture
def paper(monkeypatch):
    """A paper whose run takes no time; it counts its runs."""
    table = pd.DataFrame({"auc": [0.9]})
    data = (Provenance(name="test", source="Drawn.", licence="none", simulated=True, checksum="0"),)
    runs = []

    def run(asked, where):
        runs.append(asked)
        return Results(asked, {"main": table}, data)

    paper = SimpleNamespace(
        OFFER=SimpleNamespace(
            source=lambda root, changes: ("smear", changes),
            sources=("smear",),
            embedded="drawn cells",
            parts={},
        ),
        protocol=lambda preset, source, changes: Protocol(),
        run=run,
        report=lambda results: "AUC 0.9",
        runs=runs,
    )
    monkeypatch.setattr(running.papers, "find", lambda name: paper)
    monkeypatch.setattr(running.papers, "code_of", lambda name: {})
    return paper


def report(out, say):
    where = Where(root=None, engine="local", device="cpu")
    running.run_and_report("x", "quick", Changes(), where, out=out, say=say)


@pytest.mark.survives(
    "The terminal is gone when an experiment of hours has ended (ssh cut, output piped into head)",
    "The file of the results is there all the same",
)
def test_a_terminal_that_is_gone_does_not_take_the_result_away(paper, tmp_path):
    def say(line):
        if "AUC" in line:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        report(tmp_path / "out.json", say)
    assert load(tmp_path / "out.json").table("main")["auc"][0] == 0.9


def test_a_file_that_cannot_be_written_does_not_take_the_report_away(paper, tmp_path, monkeypatch):
    said = []

    def fail(*_, **__):
        raise DataError("the disk is full")

    monkeypatch.setattr(running, "freeze", fail)
    with pytest.raises(DataError, match="the disk is full"):
        report(tmp_path / "out.json", said.append)
    assert "AUC 0.9" in said


@pytest.mark.parametrize("place", ["folder", "input.csv", "input.csv/below", "far/away/out.json"])
def test_a_place_that_does_not_do_is_refused_before_anything_is_computed(paper, tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "input.csv").write_text("patient,age\n1,60\n")
    ended = CliRunner().invoke(app, ["run", "x", "--out", str(tmp_path / place)])
    assert ended.exit_code == 1
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("hemafl: ")
    assert not paper.runs
    assert (tmp_path / "input.csv").read_text() == "patient,age\n1,60\n"


@pytest.mark.survives(
    "The system refuses something that nobody thought of while a command runs",
    "One sentence instead of a page of source lines",
)
def test_what_the_system_does_not_allow_is_one_sentence(paper):
    def run(asked, where):
        raise PermissionError(13, "Permission denied", "/data/key")

    paper.run = run
    ended = CliRunner().invoke(app, ["run", "x"])
    assert ended.exit_code == 1
    assert ended.stderr == "hemafl: /data/key cannot be used (Permission denied); give another.\n"


@pytest.mark.parametrize("content", ["patient,age\n", "[]", "3", "[" * 100_000])
def test_a_bench_does_not_replace_what_is_no_report(tmp_path, content):
    (tmp_path / "out").write_text(content)
    with pytest.raises(DataError, match="holds no report of a bench; name another file"):
        check_place(tmp_path / "out")
