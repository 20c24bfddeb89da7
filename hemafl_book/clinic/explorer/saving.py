"""A report that can be sent, and a table: one HTML page that asks for nothing, and CSV."""

import html
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from hemafl_book.clinic.explorer.cells import Cell
from hemafl_book.clinic.explorer.desk import Desk
from hemafl_book.clinic.explorer.looking import look
from hemafl_book.clinic.explorer.models import METHODS
from hemafl_book.clinic.explorer.screen import (
    STYLE,
    Look,
    cards,
    figures,
    probability_table,
    warnings,
    warnings_once,
)
from hemafl_lib.clinic import as_csv
from hemafl_lib.errors import DataError
from hemafl_lib.files import check_folder, write_text

REPORT, TABLE = "explorer_report.html", "explorer_answers.csv"
"""The two files of a report."""

MOST = 100
"""Cells of one report."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>What models say of cells</title>
<style>{style} body {{ margin: 2rem auto; max-width: 75rem; padding: 0 1rem }}
section {{ break-inside: avoid }}
@page {{ margin: 15mm }}
@media print {{ body {{ margin: 0; max-width: none }} .hint {{ display: none }}
body.hemafl-desk {{ font-size: 10px }}
.hemafl-desk figure {{ width: 23% !important; margin-right: 1% }} }}</style>
</head><body class="hemafl-desk">
<h1>What models say of cells, and where they looked</h1>
<p class="hint">For a PDF, print this page to a file. A picture grows when it is clicked.</p>
{content}
</body></html>
"""


def save(desk: Desk, cells: Sequence[Cell], look_of: Look, folder: Path, more: str = "") -> Iterator[float]:
    """Write a report of cells and the table of all answers into a folder; yield how much is done, 0 to 1.

    Parameters
    ----------
    desk
        Whose models are asked its question.
    cells
        Which of the cells to report, at most `MOST`.
    look_of
        How the maps are drawn.
    folder
        Made if need be; a report that is there is replaced.
    more
        HTML that is added at the end, for example a report card.

    Raises
    ------
    DataError
        If there are too many cells, or the folder cannot be written.
    """
    if not 1 <= len(cells) <= MOST:
        raise DataError(f"a report of {len(cells)} cells was asked for; choose 1 to {MOST}.")
    check_folder(folder)
    sections, rows = [], []
    for number, cell in enumerate(cells, 1):
        seen = look(desk.models, cell, desk.question)
        shown = figures(cell, seen, desk.question, look_of)
        sections.append(
            f"<section><h2>{html.escape(cell.name)}</h2>{shown}{probability_table(seen)}</section>"
        )
        rows += [
            {
                "model": each.view.model,
                "method": METHODS[each.view.method],
                "explained": each.explained,
                **each.row,
            }
            for each in seen
        ]
        yield number / len(cells)
    content = warnings(desk.asked) + "".join(sections) + more + cards(desk.asked, unfolded=True)
    write_text(folder / REPORT, PAGE.format(style=STYLE, content=content))
    write_text(folder / TABLE, as_csv(pd.DataFrame(rows), warnings_once(desk.asked)))
