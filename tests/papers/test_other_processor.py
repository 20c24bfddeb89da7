"""What a chapter asserts of frozen numbers alone holds by those of another processor as well."""

import ast
import re
import shutil
import symtable
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from hemafl_book.papers import claims
from hemafl_book.show import results

BOOK = claims.FOLDER.parent
PAGES = sorted((BOOK / "papers").glob("*.ipynb"))
TRAINS = re.compile(
    r"federation\.(run|isolated|pooled|centralised)\(|\b(fit|activations|explorer?|live_data)\("
)
"""What takes seconds, and knows no frozen number."""

OF_THE_TEXT = re.compile(r"\bstated\b")
"""How cells call the numbers that the text prints, which are ours."""


def names(cell: str) -> tuple[set[str], set[str], set[str]]:
    """The names that a cell uses, those that it binds, and those of what it changes."""
    table = symtable.symtable(cell, "cell", "exec")
    own = [symbol for symbol in table.get_symbols() if symbol.is_referenced()]
    inner = [symbol for part in parts_of(table) for symbol in part.get_symbols() if symbol.is_global()]
    bound = {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
    }
    changed = {
        each.id
        for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store)
        for each in ast.walk(node.value)
        if isinstance(each, ast.Name)
    }
    return {symbol.get_name() for symbol in [*own, *inner]}, bound, changed


def parts_of(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    """The functions and comprehensions in a block, and those in them."""
    for part in table.get_children():
        yield part
        yield from parts_of(part)


def needed(cells: list[str], last: int) -> list[int]:
    """The cells that the last one rests on, and itself, in their order."""
    wanted, found = names(cells[last])[0], [last]
    for number in range(last - 1, -1, -1):
        used, bound, changed = names(cells[number])
        if wanted & (bound | changed):
            wanted = wanted - bound | used
            found.append(number)
    return found[::-1]


def asserting(cells: list[str]) -> dict[int, list[int]]:
    """The cells that assert something of frozen numbers, each with those that it rests on."""
    found = {number: needed(cells, number) for number, cell in enumerate(cells) if "assert " in cell}
    return {
        number: parts
        for number, parts in found.items()
        if any(re.search(r"\.table\(|SWEEP\.read\(", cells[part]) for part in parts)
        and not any(TRAINS.search(cells[part]) for part in parts)
        and not OF_THE_TEXT.search(cells[number])
    }


def code_of(page: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(page, as_version=4).cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """A folder of all frozen results, those of another processor in place of ours."""
    folder = tmp_path_factory.mktemp("results")
    for path in [*claims.FOLDER.glob("*.json"), *(claims.FOLDER / claims.OTHER).glob("*.json")]:
        shutil.copy(path, folder)
    return folder


def failures(cells: list[str], numbers: list[int]) -> list[str]:
    """Run cells one after the other; what becomes of those that fail, with the line."""
    space, failed = {}, []
    for number in numbers:
        code = compile(cells[number], f"cell {number}", "exec")
        try:
            exec(code, space)
        except Exception as error:
            line = error.__traceback__.tb_next.tb_lineno
            failed.append(f"cell {number}, {type(error).__name__}: {cells[number].splitlines()[line - 1]}")
    return failed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_chapter_asserts_of_frozen_numbers_holds_on_another_processor(page, elsewhere, monkeypatch):
    monkeypatch.setattr(results, "folder", lambda: elsewhere)
    cells = code_of(page)
    numbers = sorted({part for parts in asserting(cells).values() for part in parts})
    assert failures(cells, numbers) == []


def test_the_cells_of_the_chapters_that_assert_something_are_found():
    counted = {page.stem: len(asserting(code_of(page))) for page in PAGES}
    assert counted["blood_morphology"] >= 10
    assert counted["attention_cnn"] >= 15
    assert min(counted.values()) >= 5


def test_a_cell_that_fails_is_told():
    cells = ["import math\nfrozen = math", "x = frozen.pi", "x\nassert x > 4", "y = 2"]
    assert needed(cells, 2) == [0, 1, 2]
    assert failures(cells, [0, 1, 2]) == ["cell 2, AssertionError: assert x > 4"]
