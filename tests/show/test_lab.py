"""The notebooks as a reader opens them in JupyterLab: MyST is read, solutions are folded, nothing is lost."""

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
from builders.browser import MISSING, launched
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from hemafl_book.build import lab
from hemafl_book.build.normalise import NOTEBOOK_METADATA, read

NAMES = {"ansah2026": "Ansah et al. 2026", "li2020": "[Li et al. 2020](https://doi.org/10.1)"}
PATIENCE = 120_000
TOKEN = secrets.token_hex()

EXERCISE = """```{exercise} How much
:label: one
Predict.
```

````{solution-start} one
:class: dropdown
````
"""

ANSWER = """It is seven.

````{solution-end}
````

## Quiz
"""


def an_exercise() -> nbformat.NotebookNode:
    summary = '<p class="hemafl-summary" aria-live="polite">Six rise.</p>'
    face = f'<section class="hemafl-explorer"><input>{summary}</section>'
    explorer = new_code_cell("show", outputs=[new_output("execute_result", {"text/html": face})])
    return new_notebook(
        metadata=NOTEBOOK_METADATA,
        cells=[
            new_markdown_cell(
                "# Cells\n\n:::{admonition} What you will learn\nWords {cite}`ansah2026`.\n:::"
            ),
            explorer,
            new_markdown_cell(EXERCISE),
            new_code_cell("seven = 7"),
            new_markdown_cell(ANSWER),
            new_code_cell("after = 8"),
        ],
    )


def test_a_solution_is_folded_with_its_code_and_what_follows_is_not():
    shown = lab.for_lab(an_exercise(), NAMES)
    exercise, code, answer, after = shown.cells[2:]
    assert "solution-start" not in exercise.source
    assert "{exercise} How much" in exercise.source
    assert code.metadata["jupyter"] == {"source_hidden": True, "outputs_hidden": True}
    assert answer.source.startswith("`````{dropdown} Solution in words\nIt is seven.\n`````")
    assert answer.source.endswith("## Quiz\n")
    assert "jupyter" not in after.metadata


def test_two_solutions_in_one_cell_are_two_boxes():
    text, within = lab.folded(ANSWER + EXERCISE + ANSWER, True)
    assert text.count("{dropdown}") == 2
    assert not within


def test_citations_name_author_and_year_and_unknown_ones_stay():
    assert lab.cite("as {cite}`ansah2026,li2020`", NAMES) == (
        "as (Ansah et al. 2026; [Li et al. 2020](https://doi.org/10.1))"
    )
    assert lab.cite("as {cite}`nobody`", NAMES) == "as {cite}`nobody`"


def test_an_explorer_says_to_run_the_notebook_and_what_is_recorded():
    html = lab.for_lab(an_exercise(), NAMES).cells[1].outputs[0].data["text/html"]
    assert "Run this notebook first" in html
    assert "Six rise." in html
    assert "<input>" not in html


def test_no_notebook_of_the_book_shows_a_solution_or_a_bare_citation(repository):
    names = lab.author_and_year(repository / "book" / "reference" / "references.bib")
    for path in sorted((repository / "book").rglob("*.ipynb")):
        shown = lab.for_lab(read(path), names)
        text = "".join(cell.source for cell in shown.cells if cell.cell_type == "markdown")
        assert "{solution-" not in text, path.name
        assert "{cite}" not in text, path.name


@pytest.fixture
def book(tmp_path):
    """A book of one page and one notebook."""
    folder = tmp_path / "book"
    folder.mkdir()
    (folder / "page.md").write_text("first")
    nbformat.write(an_exercise(), folder / "cells.ipynb")
    return folder


def test_a_copy_follows_the_book_until_the_reader_changes_it(book, tmp_path):
    copies, said = tmp_path / "copies", []
    before = (book / "cells.ipynb").read_bytes()
    lab.update(book, copies, said.append)
    (book / "page.md").write_text("second")
    lab.update(book, copies, said.append)
    assert (copies / "page.md").read_text() == "second"

    (copies / "page.md").write_text("mine")
    lab.update(book, copies, said.append)
    assert (copies / "page.md").read_text() == "mine"
    assert not said

    (book / "page.md").write_text("third")
    lab.update(book, copies, said.append)
    assert (copies / "page.md").read_text() == "third"
    assert (copies / "page-yours-1.md").read_text() == "mine"
    assert "kept as page-yours-1.md" in said[0]
    assert (book / "cells.ipynb").read_bytes() == before
    assert not list(copies.rglob("*.new"))


def test_a_file_that_was_there_before_the_first_copy_is_kept(book, tmp_path):
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "page.md").write_text("mine")
    lab.update(book, copies, lambda _: None)
    assert (copies / "page-yours-1.md").read_text() == "mine"


def test_what_stands_in_the_way_of_one_copy_stays_and_the_others_are_written(book, tmp_path):
    copies, said = tmp_path / "copies", []
    (copies / "cells.ipynb").mkdir(parents=True)
    (copies / "cells.ipynb" / "mine.txt").write_text("mine")
    lab.update(book, copies, said.append)
    assert (copies / "cells.ipynb" / "mine.txt").read_text() == "mine"
    assert (copies / "page.md").read_text() == "first"
    assert len(said) == 1
    assert said[0].startswith("cells.ipynb is not copied: ")
    assert not list(copies.rglob("*.new"))


def test_a_link_is_replaced_and_not_what_it_leads_to(book, tmp_path):
    copies, elsewhere = tmp_path / "copies", tmp_path / "elsewhere.md"
    copies.mkdir()
    elsewhere.write_text("mine")
    (copies / "page.md").symlink_to(elsewhere)
    lab.update(book, copies, lambda _: None)
    assert elsewhere.read_text() == "mine"
    assert (copies / "page.md").read_text() == "first"
    assert (copies / "page-yours-1.md").read_text() == "mine"


@pytest.mark.parametrize("step", [1, 2, 3])
def test_nothing_of_the_readers_is_lost_if_copying_is_broken_off(book, tmp_path, monkeypatch, step):
    """As by a kill before any of the renames; the next time goes on from there."""
    copies = tmp_path / "copies"
    lab.update(book, copies, lambda _: None)
    (copies / "page.md").write_text("mine")
    (book / "page.md").write_text("second")
    done = []

    def replace(old, new):
        done.append(new)
        if len(done) == step:
            raise KeyboardInterrupt
        Path(old).replace(new)

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(lab.os, "replace", replace)
        lab.update(book, copies, lambda _: None)
    lab.update(book, copies, lambda _: None)
    assert (copies / "page.md").read_text() == "second"
    assert "mine" in {path.read_text() for path in copies.glob("page*.md")}


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_jupyterlab_reads_myst_and_asks_for_no_news(book, tmp_path):
    lab.update(book, tmp_path / "copies", lambda _: None)
    lab.write_settings(tmp_path / "settings")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--IdentityProvider.token={TOKEN}",
    ]
    command += [f"--port={port}", f"--notebook-dir={tmp_path / 'copies'}", "--ServerApp.ip=127.0.0.1"]
    clean = {"JUPYTER_CONFIG_PATH": str(tmp_path / "settings"), "JUPYTER_CONFIG_DIR": str(tmp_path / "own")}
    served = subprocess.Popen(
        command,
        env=os.environ | clean,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/api")
        with launched() as browser:
            page = browser.new_page(viewport={"width": 1280, "height": 1400})
            page.set_default_timeout(PATIENCE)
            page.goto(f"http://127.0.0.1:{port}/lab/tree/cells.ipynb?token={TOKEN}", timeout=PATIENCE)
            page.get_by_text("Run this notebook first").wait_for(timeout=PATIENCE)
            page.locator("aside", has_text="What you will learn").wait_for(timeout=PATIENCE)
            page.get_by_text("Exercise 1").first.wait_for(timeout=PATIENCE)
            text = page.inner_text(".jp-Notebook")
            assert ":::" not in text
            assert "Ansah et al. 2026" in text
            assert "How much" in text
            answer = page.locator("details p", has_text="It is seven.")
            assert not answer.is_visible()
            assert not page.locator(".jp-CodeCell .cm-line", has_text="seven = 7").is_visible()
            page.get_by_text("Solution in words", exact=True).click()
            answer.wait_for(timeout=PATIENCE)
            assert page.get_by_text("Jupyter news").count() == 0
    finally:
        served.kill()  # its kernel ends with it
        served.wait(60)


def wait_for(url: str) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"nothing answers at {url}")
