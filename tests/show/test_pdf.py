"""The book as one PDF: solutions are left out or unfolded, and the page links to it only where it is."""

import re
from types import SimpleNamespace

import pytest
from builders.browser import MISSING

from hemafl_book.build import pdf
from hemafl_lib.errors import DataError

PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Book</title>
<style>.solution { height: 3000px; } .toggle-hidden { height: 10px; overflow: hidden; }</style></head>
<body><h1>A page</h1>
<details class="sd-dropdown"><summary>Why?</summary><p style="height: 2000px">So.</p></details>
<div class="solution toggle-hidden">The solution.</div></body></html>"""


def pages_of(file):
    """How many pages a PDF has."""
    content = file.read_bytes()
    assert content.startswith(b"%PDF-")
    return len(re.findall(rb"/Type\s*/Page\b", content))


@pytest.mark.browser
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_solutions_are_left_out_or_unfolded_on_demand(tmp_path, capsys):
    page = tmp_path / "page.html"
    page.write_text(PAGE)
    assert pdf.main([str(page), str(tmp_path / "out" / "short.pdf")]) == 0
    assert pdf.main([str(page), str(tmp_path / "out" / "long.pdf"), "--solutions"]) == 0
    assert pages_of(tmp_path / "out" / "short.pdf") == 1
    assert pages_of(tmp_path / "out" / "long.pdf") >= 5
    assert re.search(r"long\.pdf: \d\.\d MB", capsys.readouterr().out)


def test_what_is_missing_is_named(tmp_path, monkeypatch, capsys):
    assert pdf.main([str(tmp_path / "none.html"), str(tmp_path / "book.pdf")]) == 1
    assert "none.html does not exist; build the page" in capsys.readouterr().err
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    with pytest.raises(DataError, match="no Chromium to print with; install the package chromium"):
        pdf.browser()


@pytest.mark.parametrize("made", [True, False])
def test_the_page_links_to_the_pdf_where_there_is_one(tmp_path, monkeypatch, made):
    book = tmp_path / "book.pdf"
    if made:
        book.write_bytes(b"%PDF-1.4")
    monkeypatch.setattr(pdf, "BOOK", book)
    noted = []
    env = SimpleNamespace(note_dependency=noted.append)
    directive = SimpleNamespace(env=env)
    (said,) = pdf.PdfDirective.run(directive)
    assert noted == [str(book)]
    assert ("../book.pdf" in said.astext()) == made
    assert ("make pdf" in said.astext()) != made
    out = tmp_path / "html"
    out.mkdir()
    pdf.carry(SimpleNamespace(builder=SimpleNamespace(name="html"), outdir=out), None)
    assert (out / "book.pdf").exists() == made
