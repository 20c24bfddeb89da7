"""A paper's experiment by `hemafl run`, as its tests share it."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hemafl_book import papers
from hemafl_book.cli import app
from hemafl_book.results import Results


def run_by_command(name: str, asked: Any, out: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Results]:
    """Run a paper by the command on what it embeds, with the protocol ``asked``, and write ``out``.

    Returns what the command prints, and the results with all their digits.
    """
    paper = papers.find(name)
    run, found = paper.run, []

    def note(*given: Any) -> Results:
        found.append(run(*given))
        return found[0]

    monkeypatch.setattr(paper, "protocol", lambda *_: asked)
    monkeypatch.setattr(paper, "run", note)
    done = CliRunner().invoke(app, ["run", name, "--out", str(out)], env={"HEMAFL_DATA": None})
    assert done.exit_code == 0, done.output
    return done.output, found[0]
