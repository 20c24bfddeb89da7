"""What a reader may rely on: a core that can be read in an afternoon, in order, and rooms that stay small."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

CORE_LINES = 4500
CODE = (".py", ".js", ".css")
AFTERNOON = 240
"""Minutes that all of the core may take."""


@pytest.fixture(scope="module")
def core(repository):
    """The listed files of the reading order with their minutes."""
    page = (repository / "book" / "reference" / "reading_order.md").read_text()
    rows = re.findall(r"^\| `(\w+/[\w/]+\.py)` \| .+ \| (\d+) \|$", page, re.MULTILINE)
    return {repository / name: int(minutes) for name, minutes in rows}


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_the_core_is_at_most_so_long(core):
    assert len(core) > 10
    assert sum(map(lines_of, core)) <= CORE_LINES


def test_the_core_holds_the_way_of_a_federated_run(core, repository):
    names = {str(path.relative_to(repository / "hemafl_lib")) for path in core}
    assert {
        "data/cohort.py",
        "partition/sites.py",
        "training.py",
        "aggregation.py",
        "federation/by_hand.py",
        "federation/client.py",
        "federation/exchange.py",
        "federation/strategy.py",
        "federation/runs.py",
        "explain/saliency.py",
    } <= names


def test_the_minutes_fit_the_lines(core):
    """Ten to twenty lines a minute: a file that grows takes longer."""
    for path, minutes in core.items():
        assert 8 <= lines_of(path) / minutes <= 20, (path.name, lines_of(path), minutes)
    assert sum(core.values()) <= AFTERNOON


def test_nothing_is_used_before_it_was_read(core):
    read: set[Path] = set()
    for path in core:
        unread = (imported_files(path) & set(core)) - read - {path}
        assert not unread, (
            f"{path.name} uses {[other.name for other in unread]} before the reader has met them"
        )
        read.add(path)


def imported_files(path: Path) -> set[Path]:
    """The files of the library that define what a file imports, behind the names that a room hands on."""
    files = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            files |= {file_of(import_module(alias.name)) for alias in node.names if is_ours(alias.name)}
        elif isinstance(node, ast.ImportFrom) and node.module and is_ours(node.module):
            files |= {defining_file(node.module, alias.name) for alias in node.names}
    return files


def is_ours(name: str) -> bool:
    return name.partition(".")[0] in ("hemafl_lib", "hemafl_book")


def file_of(module) -> Path:
    return Path(module.__file__)


def defining_file(module: str, name: str) -> Path:
    """The file in which a name that can be imported from a module is defined."""
    value = getattr(import_module(module), name)
    if hasattr(value, "__file__"):
        return file_of(value)
    home = getattr(value, "__module__", None) or module
    return file_of(import_module(home if is_ours(home) else module))


def test_a_name_that_a_room_hands_on_leads_to_its_file(repository):
    assert defining_file("hemafl_lib.partition", "Site") == repository / "hemafl_lib/partition/sites.py"
    assert defining_file("hemafl_lib", "federation") == repository / "hemafl_lib/federation/__init__.py"


def rooms() -> list[str]:
    """Every package or module of the two packages, and the benches."""
    root = Path(__file__).resolve().parent.parent.parent
    found = [
        str(path.relative_to(root))
        for package in ("hemafl_lib", "hemafl_book")
        for path in sorted((root / package).iterdir())
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    ]
    return ["benchmarks", *(name for name in found if not name.endswith("__init__.py"))]


@pytest.mark.parametrize("room", rooms())
def test_a_room_keeps_the_budget_that_it_states(repository, room):
    path = repository / room
    files = [file for file in path.rglob("*") if file.suffix in CODE] if path.is_dir() else [path]
    docstring = (
        ast.get_docstring(ast.parse((path / "__init__.py" if path.is_dir() else path).read_text())) or ""
    )
    stated = re.search(r"^Budget: ([\d,]+) lines\.$", docstring.splitlines()[-1] if docstring else "")
    assert stated, f"{room}: end the docstring (of its __init__) with 'Budget: N lines.'"
    budget, used = int(stated[1].replace(",", "")), sum(map(lines_of, files))
    assert used <= budget, f"{room} has {used} lines and states {budget}; make it smaller or say why it grew"
    assert used >= 0.75 * budget, f"{room} has {used} lines; a budget of {budget} holds nothing"
