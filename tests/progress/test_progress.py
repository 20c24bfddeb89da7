"""Who sees a progress bar: a person at a terminal or at an open notebook, and nobody else."""

import os
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from hemafl_lib.progress import bar

SLOW = "from hemafl_lib.progress import bar\nsteps = list(bar(range(3), delay=0))\nprint(steps)"


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    for name in ("HEMAFL_PROGRESS", "JPY_SESSION_NAME"):
        monkeypatch.delenv(name, raising=False)


def test_a_file_holds_no_bar_and_a_caller_may_want_one(capfd):
    assert list(bar(range(3), delay=0)) == [0, 1, 2]
    assert capfd.readouterr().err == ""
    assert list(bar(range(3), delay=0, show=True)) == [0, 1, 2]
    assert "3/3" in capfd.readouterr().err


def test_nobody_sees_a_bar_that_is_switched_off(capfd, monkeypatch):
    monkeypatch.setenv("HEMAFL_PROGRESS", "off")
    assert list(bar(range(3), delay=0, show=True)) == [0, 1, 2]
    assert capfd.readouterr().err == ""


def test_a_terminal_shows_a_bar():
    termios = pytest.importorskip("termios", reason="needs a pseudo-terminal")
    reader, writer = os.openpty()
    termios.tcsetwinsize(writer, (24, 80))
    subprocess.run([sys.executable, "-c", SLOW], stderr=writer, stdout=subprocess.DEVNULL, check=True)
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as terminal:
        assert b"3/3" in terminal.read(10_000)


def outputs(**environment):
    """What a cell with a bar leaves in a notebook whose kernel has these variables besides ours."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SLOW)])
    NotebookClient(notebook, kernel_name="python3").execute(env={**os.environ, **environment})
    return notebook.cells[0].outputs


def test_a_notebook_that_is_only_run_holds_no_bar():
    (printed,) = outputs()
    assert printed.text == "[0, 1, 2]\n"


@pytest.mark.parametrize("told", [{"JPY_SESSION_NAME": "chapter.ipynb"}, {"HEMAFL_PROGRESS": "on"}])
def test_a_notebook_at_which_a_person_looks_shows_a_bar(told):
    shown, printed = outputs(**told)
    assert "0/3" in shown.data["text/plain"]
    assert printed.text == "[0, 1, 2]\n"
