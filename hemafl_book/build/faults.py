"""A Sphinx extension with the directive ``{faults}``: what was done, what happens, which test holds it.

The rows are the marks ``@pytest.mark.survives(fault, happens)`` of the tests, read without running them, so
that the page cannot promise what no test holds.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

HEADINGS = ("The fault", "What happens", "The test")
WIDTHS = (40, 35, 25)


@dataclass(frozen=True)
class Fault:
    """One row: what went wrong, what the library does, and the test that holds it (file and function)."""

    fault: str
    happens: str
    file: Path
    test: str


def read_faults(folder: Path) -> list[Fault]:
    """Return the marks of the tests under ``folder``, by file and in the order in which they stand."""
    return [row for file in sorted(folder.rglob("test_*.py")) for row in read_file(file)]


def read_file(file: Path) -> Iterator[Fault]:
    """Yield the marks of one file of tests."""
    for test in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(test, ast.FunctionDef):
            for mark in marks(test):
                yield Fault(*read_words(mark, file), file, test.name)


def marks(test: ast.FunctionDef) -> list[ast.Call]:
    """Return the calls of ``survives`` among a test's decorators, also those of single parameters."""
    calls = [call for place in test.decorator_list for call in ast.walk(place) if isinstance(call, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "survives"]


def read_words(mark: ast.Call, file: Path) -> tuple[str, str]:
    """Return both texts of a mark; raise ValueError if they do not stand there as such."""
    try:
        fault, happens = (str(ast.literal_eval(value)) for value in mark.args)
    except ValueError:
        raise ValueError(f"{file}, line {mark.lineno}: give survives two plain texts.") from None
    return fault, happens


class FaultsDirective(SphinxDirective):
    """``{faults} FOLDER``: the table of the tests in a folder of ``tests/``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table, and have the page built anew when one of the tests changes."""
        folder = Path(self.env.srcdir) / "tests" / self.arguments[0]
        rows = read_faults(folder)
        if not rows:
            raise self.error(f"no test in {folder} is marked with survives; name another folder.")
        for row in rows:
            self.env.note_dependency(str(row.file))
        return [table(rows, folder)]


def table(rows: list[Fault], folder: Path) -> nodes.table:
    """Return the rows as a table of the page."""
    group = nodes.tgroup(cols=len(WIDTHS))
    group += [nodes.colspec(colwidth=width) for width in WIDTHS]
    group += nodes.thead("", row_of([nodes.paragraph(text=heading) for heading in HEADINGS]))
    body = nodes.tbody()
    for row in rows:
        name = f"{row.file.relative_to(folder.parent)}::{row.test}"
        test = nodes.paragraph("", "", nodes.literal(text=name))
        body += row_of([nodes.paragraph(text=row.fault), nodes.paragraph(text=row.happens), test])
    group += body
    return nodes.table("", group, classes=["faults"])


def row_of(cells: list[nodes.paragraph]) -> nodes.row:
    """Return a row of a table."""
    return nodes.row("", *(nodes.entry("", cell) for cell in cells))


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("faults", FaultsDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
