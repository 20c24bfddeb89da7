"""What CONTRIBUTING.md promises: an addition touches the files of its row, and is then known everywhere.

Each addition is made in a copy of the tree, in exactly the files that its row names; the command must list
the new name, and a test, which the addition brings along, must use it.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

Edit = Callable[[str], str]


def insert(text: str, *, before: str = "", after: str = "") -> Edit:
    """An edit that puts ``text`` next to a line that stands exactly once in the file."""

    def edit(old: str) -> str:
        mark = before or after
        assert old.count(mark) == 1, mark
        return old.replace(mark, text + mark if before else mark + text)

    return edit


def edits(*several: Edit) -> Edit:
    def edit(old: str) -> str:
        for each in several:
            old = each(old)
        return old

    return edit


def append(text: str) -> Edit:
    return lambda old: old + text


def write(text: str) -> Edit:
    return lambda old: text


@dataclass(frozen=True)
class Addition:
    """What is added, under which name, by which edits of which files, and which tests of a file use it."""

    name: str
    changes: dict[str, Edit]
    tests: str
    chosen: str


AGGREGATOR = '''@dataclass(frozen=True)
class Midrange(Aggregator):
    """The mean of the smallest and the largest value of each coordinate."""

    def combine(self, replies: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
        """Return the midrange of every coordinate."""
        return coordinatewise(replies, lambda stack: (stack.min(axis=0) + stack.max(axis=0)) / 2)


'''

AGGREGATOR_TEST = """

def test_the_midrange_by_name():
    from hemafl_lib.aggregation import AGGREGATORS

    replies = [{"w": np.array([value])} for value in (0.0, 1.0, 4.0)]
    assert AGGREGATORS["Midrange"]().combine(replies, [1, 1, 1])["w"] == [2.0]
"""

MODEL = '''"""One linear layer on mean colours."""

from torch import Tensor, nn

from hemafl_lib.seeds import initialised


class MeanColour(nn.Module):
    """Logits [B, C] of the mean colour of images float32[B, 3, H, W]."""

    def __init__(self, classes: int, seed: int) -> None:
        super().__init__()
        with initialised(seed, "mean colour"):
            self.head = nn.Linear(3, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(images.mean(dim=(2, 3)))
'''

MODEL_MAKER = '''def mean_colour(classes: int, *, seed: int, **settings: Any) -> nn.Module:
    """Return the model of mean colours, which has no norm and is trained in all parts."""
    return MeanColour(classes, seed)


'''

MODEL_TEST = """

def test_the_mean_colour_trains_over_sites():
    from builders.federated import pictures, sites

    from hemafl_lib import federation

    run = federation.run(sites(2, pictures), model=image_model("mean_colour", 2, size=16), rounds=1)
    assert len(run.curve("loss")) == 1
"""

DATA_CARD = """        Card(
            name="oslo",
            title="Cells for a test",
            source="Drawn for a test.",
            licence="none",
            images=2,
            layout="oslo/{EO,LY}/*.jpg",
            known="Two classes.",
            unknown=NO_PATIENTS,
            by_hand="It is drawn.",
        ),
"""

DATA_BUILDER = """def oslo(root: Path) -> None:
    save(root / "oslo" / "EO" / "one.jpg", 1)
    save(root / "oslo" / "LY" / "two.jpg", 2)


"""

SCHEME = '''def alternate(cohort: CohortKind, *, sites: int, **settings: Any) -> list[Site[CohortKind]]:
    """Give the sites as many rows each, as `iid` does."""
    return iid(cohort, sites=sites, **settings)


'''

SCHEME_TEST = """

def test_the_alternate_scheme_by_name():
    from builders.federated import table

    scheme = partition.SCHEMES["alternate"]
    assert len(scheme.cut(table(40, 0), seed=0, **scheme.settings(2, 1.0))) == 2
"""

EXPLORER = '''"""How often a coin falls on its head."""

from collections.abc import Mapping

import pandas as pd

from hemafl_book.explorers.sweep import Sweep
from hemafl_lib.seeds import numpy_generator

CONTROLS = {"tosses": (10, 100)}


def explore(tosses: int) -> float:
    """Return the share of heads."""
    return float(numpy_generator(0, "coin").integers(2, size=tosses).mean())


def to_rows(heads: float) -> dict[str, pd.DataFrame]:
    """Return one row."""
    return {"heads": pd.DataFrame({"share": [heads]})}


def from_rows(rows: Mapping[str, pd.DataFrame]) -> float:
    """Return the share of heads of a row."""
    return float(rows["heads"]["share"].iloc[0])


SWEEP = Sweep(
    title="Heads of a coin",
    controls=CONTROLS,
    explore=explore,
    tables={"heads": ("tosses",)},
    to_rows=to_rows,
    from_rows=from_rows,
    protocol=lambda: {"controls": {"tosses": [10, 100]}},
    data=lambda: [],
)
'''

EXPLORER_TEST = """

def test_the_coin_is_swept(tmp_path):
    from typer.testing import CliRunner

    from hemafl_book.cli import app

    done = CliRunner().invoke(app, ["sweep", "coin", "--out", str(tmp_path / "coin.json")])
    assert done.exit_code == 0, done.output
    assert "2 settings" in done.output
    assert (tmp_path / "coin.json").exists()
"""

ADDITIONS = {
    "an aggregator": Addition(
        "Midrange",
        {
            "hemafl_lib/aggregation.py": edits(
                insert(AGGREGATOR, before="AGGREGATORS: dict[str, type[Aggregator]] = {\n"),
                insert("        Midrange,\n", after="        FedTrimmedMean,\n"),
            ),
            "tests/aggregation/test_aggregation.py": append(AGGREGATOR_TEST),
        },
        "tests/aggregation/test_aggregation.py",
        "midrange",
    ),
    "a model": Addition(
        "mean_colour",
        {
            "hemafl_lib/models/NAME.py": write(MODEL),
            "hemafl_lib/models/registry.py": edits(
                insert(
                    "from hemafl_lib.models.mean_colour import MeanColour\n",
                    after="from hemafl_lib.models.logistic import LogisticRegression\n",
                ),
                insert(MODEL_MAKER, before="MODELS: dict[str, Model] = {\n"),
                insert(
                    '    "mean_colour": Model("images", mean_colour),\n',
                    after="MODELS: dict[str, Model] = {\n",
                ),
            ),
            "tests/models/test_models.py": append(MODEL_TEST),
        },
        "tests/models/test_models.py",
        "mean_colour",
    ),
    "an image data set": Addition(
        "oslo",
        {
            "hemafl_lib/data/classes.py": insert(
                '    "oslo": {"EO": "eosinophil", "LY": "lymphocyte"},\n',
                before='    "tecom": _SEGMENTATION,\n',
            ),
            "hemafl_lib/data/layouts.py": insert(
                '        _folders("oslo", "oslo", suffixes=JPEG, own_name=_by_parent),\n',
                before='        _segmentation("tecom", 1),\n',
            ),
            "hemafl_lib/data/cards.py": insert(
                DATA_CARD, before='        Card(\n            name="tecom",\n'
            ),
            "tests/builders/tiny_layouts.py": edits(
                insert(DATA_BUILDER, before="BUILDERS: dict["),
                insert('    "oslo": oslo,\n', before='    "tecom": '),
            ),
            "tests/data/test_data_layouts.py": insert(
                '    "oslo": {"eosinophil": 1, "lymphocyte": 1},\n', before='    "tecom": {"neutrophil": 1, '
            ),
        },
        "tests/data/test_data_layouts.py",
        "oslo or side_by_side or card_and_a_reader",
    ),
    "a partition scheme": Addition(
        "alternate",
        {
            "hemafl_lib/partition/sites.py": edits(
                insert(SCHEME, before="@dataclass(frozen=True)\nclass Scheme:\n"),
                insert(
                    '    "alternate": Scheme(alternate, lambda sites, alpha: {"sites": sites}),\n',
                    after="SCHEMES: dict[str, Scheme] = {\n",
                ),
            ),
            "tests/partition/test_partition.py": append(SCHEME_TEST),
        },
        "tests/partition/test_partition.py",
        "alternate",
    ),
    "an explorer": Addition(
        "coin",
        {
            "hemafl_book/explorers/NAME.py": write(EXPLORER),
            "hemafl_book/explorers/__init__.py": insert(
                '    "coin": "coin",\n', before='    "survival": "survival",\n'
            ),
            "tests/explorers/test_explorers.py": append(EXPLORER_TEST),
        },
        "tests/explorers/test_explorers.py",
        "coin_is_swept",
    ),
}


@pytest.fixture(scope="module")
def rows(repository):
    """What each row of the table says: the files to touch, by what is added."""
    table = re.findall(
        r"^\| (an? [\w ]+) \| (.+?) \|", (repository / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )
    return {what: re.findall(r"`(.+?)`", files) for what, files in table}


LISTED_TEST = '''"""The command knows the names."""

import re

import pytest
from typer.testing import CliRunner

from hemafl_book.cli import app


@pytest.mark.parametrize("name", NAMES)
def test_it_is_listed(name):
    listed = CliRunner().invoke(app, ["list"]).output
    assert re.search(rf"^  {name}\\b", listed, re.MULTILINE), listed
'''


@pytest.fixture(scope="module")
def outcome(repository, tmp_path_factory) -> str:
    """What pytest says of a copy of the tree with all additions; no two of them touch the same file."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("hemafl_lib", "hemafl_book", "tests"):
        shutil.copytree(repository / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repository / "pyproject.toml", copy)
    for addition in ADDITIONS.values():
        for name, edit in addition.changes.items():
            path = copy / name.replace("NAME", addition.name)
            path.write_text(edit(path.read_text() if path.exists() else ""))
    names = [addition.name for addition in ADDITIONS.values()]
    (copy / "tests" / "test_listed.py").write_text(LISTED_TEST.replace("NAMES", repr(names)))
    files = [addition.tests for addition in ADDITIONS.values()]
    chosen = "listed or " + " or ".join(addition.chosen for addition in ADDITIONS.values())
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rA",
            "-p",
            "no:cacheprovider",
            "tests/test_listed.py",
            *files,
            "-k",
            chosen,
        ],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("what", ADDITIONS)
def test_an_addition_touches_the_files_of_its_row(rows, outcome, what):
    addition = ADDITIONS[what]
    assert list(addition.changes) == rows[what]
    assert f"PASSED tests/test_listed.py::test_it_is_listed[{addition.name}]" in outcome, outcome
    used = re.findall(
        rf"^(\w+) {addition.tests}::.*(?:{addition.chosen.replace(' or ', '|')})", outcome, re.MULTILINE
    )
    assert used, outcome
    assert set(used) == {"PASSED"}, outcome


def test_no_two_additions_touch_the_same_file():
    touched = [name for addition in ADDITIONS.values() for name in addition.changes if "NAME" not in name]
    assert len(touched) == len(set(touched))


def test_every_row_names_files_that_are_there(rows, repository):
    assert set(ADDITIONS) < set(rows)
    for what, names in rows.items():
        assert names, what
        for name in names:
            assert "NAME" in name or (repository / name).exists(), f"{what}: {name}"
            assert (repository / name).parent.is_dir(), f"{what}: {name}"
