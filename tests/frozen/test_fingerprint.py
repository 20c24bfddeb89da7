"""A fingerprint changes with what can move a number, and with nothing else."""

import pytest

from hemafl_book import explorers, papers
from hemafl_book.fingerprint import fingerprint, read

PAPER = '''
"""A paper."""

import math
from hemafl_book import tools
from hemafl_book.tools import Scale, root as square_root

RATE = 0.1


def run(values):
    """Return a number."""
    data = [square_root(value) for value in values]  # not tools.data
    return math.fsum(data) * RATE * Scale(2).factor + tools.inner.offset()


def report(found):
    return f"found {found}"
'''

TOOLS = """
from hemafl_book.deeper import base

POWER = 0.5


class Scale:
    def __init__(self, factor: float) -> None:
        if factor < 0:
            raise ValueError("no")
        self.factor = factor


def root(value: float) -> float:
    return base(value) ** POWER


def data():
    return 1


class inner:
    def offset():
        return 0
"""

DEEPER = "def base(value):\n    return value\n\n\ndef other():\n    return 3\n"


@pytest.fixture
def packages(tmp_path):
    """A folder with a paper, and the function that writes its modules anew and returns the fingerprint."""
    number = iter(range(100))

    def write(paper=PAPER, tools=TOOLS, deeper=DEEPER):
        root = tmp_path / str(next(number))
        (root / "hemafl_book").mkdir(parents=True)
        for name, text in (("__init__", ""), ("paper", paper), ("tools", tools), ("deeper", deeper)):
            (root / "hemafl_book" / f"{name}.py").write_text(text)
        return fingerprint("hemafl_book.paper", ("run",), root)

    return write


HARMLESS = {
    "a comment": ("RATE = 0.1", "RATE = 0.1  # a tenth"),
    "a docstring": ('"""Return a number."""', '"""Return the number."""'),
    "formatting": ("RATE = 0.1", "RATE = (\n    0.1\n)"),
    "an annotation": ("def run(values):", "def run(values: list[float]) -> float:"),
    "a function that is not reached": ('f"found {found}"', 'f"here is {found}"'),
}
TOUCHING = {
    "a constant": ("RATE = 0.1", "RATE = 0.2"),
    "an expression": ("fsum(data)", "prod(data)"),
    "another function behind a name": ("root as square_root", "data as square_root"),
    "another package behind a name": ("import math", "import cmath as math"),
}


@pytest.mark.parametrize("edit", HARMLESS)
def test_what_moves_no_number_leaves_it(packages, edit):
    assert packages(PAPER.replace(*HARMLESS[edit])) == packages()


def test_of_an_import_counts_what_its_names_mean_and_not_where_it_stands(packages):
    top = "import math\nfrom hemafl_book import tools\n"
    inside = PAPER.replace(top, "").replace(
        'number."""\n', f'number."""\n    {top.strip().replace(chr(10), chr(10) + "    ")}\n'
    )
    assert inside.count("import math") == PAPER.count("import math")
    assert packages(inside) == packages()
    assert packages(inside.replace("import math", "import cmath as math")) != packages()


@pytest.mark.parametrize("edit", TOUCHING)
def test_what_may_move_a_number_changes_the_module_where_it_is(packages, edit):
    before, after = packages(), packages(PAPER.replace(*TOUCHING[edit]))
    assert after["hemafl_book.paper"] != before["hemafl_book.paper"]


def test_it_follows_imports_to_where_a_name_is_defined(packages):
    before = packages()
    assert set(before) == {f"hemafl_book.{name}" for name in ("paper", "tools", "deeper")}
    after = packages(deeper=DEEPER.replace("return value", "return 2 * value"))
    assert {name for name in before if before[name] != after[name]} == {"hemafl_book.deeper"}


@pytest.mark.parametrize(
    "change", [("POWER = 0.5", "POWER = 1 / 3"), ("self.factor = factor", "self.factor = 1")]
)
def test_constants_and_methods_behind_a_function_count(packages, change):
    assert packages(tools=TOOLS.replace(*change)) != packages()


@pytest.mark.parametrize(
    "change", [("return 1", "return 2"), ('ValueError("no")', 'ValueError("at least 0")'), ("float", "int")]
)
def test_neither_a_name_that_is_local_there_nor_a_sentence_nor_a_type_counts(packages, change):
    """The paper's own ``data`` is a list, not the function of that name."""
    assert packages(tools=TOOLS.replace(*change)) == packages()


def test_what_a_module_does_when_it_is_imported_counts(packages):
    assert packages(deeper=DEEPER + "\nother()\n") != packages()


def test_a_package_may_import_a_module_of_its_own(tmp_path):
    package = tmp_path / "hemafl_book"
    package.mkdir()
    (package / "__init__.py").write_text("from hemafl_book import tools\n")
    (package / "tools.py").write_text("def base():\n    return 1\n")
    (package / "paper.py").write_text(
        "from hemafl_book import tools\n\n\ndef run():\n    return tools.base()\n"
    )
    assert set(fingerprint("hemafl_book.paper", ("run",), tmp_path)) == {
        "hemafl_book.paper",
        "hemafl_book.tools",
    }


def test_a_module_elsewhere_has_none(tmp_path):
    assert fingerprint("json", (), tmp_path) == {}


@pytest.mark.parametrize("code_of", [*(lambda name=name: papers.code_of(name) for name in papers.PAPERS)])
def test_the_training_and_the_aggregation_are_in_every_papers(code_of):
    found = code_of()
    assert {"hemafl_lib.training", "hemafl_lib.aggregation", "hemafl_lib.federation.strategy"} <= set(found)
    assert not any(name.startswith(("hemafl_book.show", "hemafl_book.cli")) for name in found)


@pytest.mark.parametrize("name", explorers.EXPLORERS)
def test_an_explorers_own_module_is_in_its(name):
    module = f"hemafl_book.explorers.{explorers.EXPLORERS[name]}"
    assert module in explorers.code_of(name)


def test_spared_modules_are_modules(repository):
    from hemafl_book.fingerprint import SPARED

    for name in SPARED:
        path = repository.joinpath(*name.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), name
        assert read(repository, name) is None
