"""What CONTRIBUTING.md promises: an addition touches the files of its row, and is then known everywhere.

Each addition is made in a copy of the tree, in exactly the files that its row names; the command must list
the new name, a test, which the addition brings along, must use it, and what the row says to do then must
work where it takes seconds.
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

TABLE_READER = '''def read_bergen(folder: Path) -> CleanTable:
    """Read a table for a test: ages and survival."""
    sheet = require(read_sheet(folder / "bergen.csv", ","), ["id", "age", "days", "dead"])
    sheet = one_row_a_patient(sheet, "id")
    times = outcome(sheet, "days", "dead", unit="days")
    return joined(times, _named("bergen", sheet.rows["id"]), "bergen", _measured(sheet, [age("age")]), sheet)


'''

TABLE_SOURCE = """        TableSource(
            "bergen", "bergen", ("bergen.csv",), {"clinical": ("age",)}, read_bergen
        ),
"""

TABLE_CARD = """        Card(
            name="bergen",
            title="Patients for a test",
            source="Drawn for a test.",
            licence="none",
            patients=2,
            outcome="overall survival",
            layout="bergen/bergen.csv",
            known="Their ages.",
            unknown="All else.",
            by_hand="It is drawn.",
        ),
"""

TABLE_TEST = """

def test_bergen_is_read(tmp_path):
    (tmp_path / "bergen").mkdir()
    (tmp_path / "bergen" / "bergen.csv").write_text("id,age,days,dead\\na,60,1000,1\\nb,70,2000,0\\n")
    cohort = data.load("bergen", root=tmp_path, features="clinical")
    assert cohort.features.tolist() == [[60.0], [70.0]]
"""

METHOD = '''def plain_gradient(model: nn.Module, images: Tensor, target: Tensor, layer: str | None) -> Tensor:
    """Return the gradient of the score, summed over colour."""
    scores = model(images).gather(1, target[:, None]).sum()
    return torch.autograd.grad(scores, images)[0].sum(dim=1)


'''

METHOD_OF_CAPTUM = """    if method == "plain_gradient":
        from captum.attr import Saliency

        return Saliency(model).attribute(images.requires_grad_(), target, abs=False).sum(dim=1)
"""

METHOD_TEST = """

def test_the_plain_gradient_has_the_grid_of_the_pixels(trained, cohort):
    maps = explain.saliency(trained, cohort.images, 0, "plain_gradient")
    assert maps.shape == (4, SIZE, SIZE)
"""

PAPER = '''"""An urn of red and white balls."""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pandas as pd

from hemafl_book.papers.changes import UNCHANGED, Changes
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.studies import Piece, Series, run_studies, with_titles
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results
from hemafl_lib.seeds import numpy_generator

OFFER = Offer(
    name="urn",
    title="an urn of red and white balls",
    sources=("simulated",),
    embedded="SIMULATED draws",
    takes=("seed",),
)


@dataclass(frozen=True)
class Protocol:
    """How many balls are drawn."""

    draws: int
    seeds: tuple[int, ...]

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        return asdict(self)


def protocol(preset: str = "quick", source: str = "simulated", changes: Changes = UNCHANGED) -> Protocol:
    """Return the protocol of a preset."""
    OFFER.check(preset, source, changes)
    return Protocol(10 if preset == "quick" else 1000, changes.seeds((0,)))


def run(asked: Protocol, where: Where = HERE) -> Results:
    """Return the share of red balls for every seed."""
    series = [Series("urn", asked.seeds, lambda: partial(piece, asked))]
    found = run_studies(asked, series, where, data=())
    return Results(asked, with_titles(found.tables), (), found.seconds)


def piece(asked: Protocol, seed: int) -> Piece:
    """Return the draws with one seed."""
    share = numpy_generator(seed, "urn").integers(2, size=asked.draws).mean()
    return Piece(beside=lambda: {"red": pd.DataFrame([{"seed": seed, "share": share}])})


def report(results: Results) -> str:
    """Return the shares."""
    return results.tables["urn: red"].to_string(index=False)
'''

PAPER_TEST = '''"""The urn."""

from hemafl_book.papers import urn


def test_the_urn_has_red_balls():
    assert 0 < urn.run(urn.protocol("paper")).tables["urn: red"]["share"].item() < 1
'''

STATISTIC = '''"""How many patients there are."""

from collections.abc import Sequence

from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.partition import Site
from hemafl_lib.statistics.messages import MINIMUM, Hospitals, add_up, hospitals_of
from hemafl_lib.statistics.standardise import MOMENTS


def head_count(sites: Sequence[Site[TableCohort]] | Hospitals, *, minimum: int = MINIMUM) -> int:
    """Return the number of patients of all sites."""
    return int(add_up(hospitals_of(sites, minimum).ask(MOMENTS))["rows"])
'''

STATISTIC_TEST = """

def test_the_head_count_is_that_of_all_sites():
    assert statistics.head_count(dealt(cohort(np.ones((90, 2)), label=[0, 1] * 45))) == 90
"""

ENGINE = '''"""One site after the other, in this process."""

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from hemafl_lib.federation.engines.local import run_local


def run_in_turn(server_app: ServerApp, client_app: ClientApp, nodes: int) -> None:
    """Run an app on ``nodes`` virtual nodes, one message at a time."""
    run_local(server_app, client_app, nodes, workers=1, progress=False)
'''

ENGINE_ENTRY = '''

def run_one_by_one(
    server_app: ServerApp, site_app: SiteApp, sites: Sequence[Site], wishes: Wishes
) -> None:
    """Run one site after the other in this process."""
    run_in_turn(server_app, site_app.make_app(sites.__getitem__, wishes.stop.is_set), len(sites))
'''

ENGINE_TEST = """

def test_sites_in_turn_agree_with_local_to_the_bit():
    settings = {"model": linear(), "recipe": RECIPE, "rounds": 1}
    local, in_turn = (federation.run(sites(3), **settings, engine=name) for name in ("local", "in_turn"))
    assert local.hash == in_turn.hash
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
    "a table of patients": Addition(
        "bergen",
        {
            "hemafl_lib/data/survival_cohorts.py": edits(
                insert(TABLE_READER, before='DEMOGRAPHIC = ("age", "male")\n'),
                insert(TABLE_SOURCE, before='        TableSource(\n            "amlsg",\n'),
            ),
            "hemafl_lib/data/cards.py": insert(TABLE_CARD, before='        Card(\n            name="bmt",\n'),
            "tests/data/test_data_tables.py": append(TABLE_TEST),
        },
        "tests/data/test_data_tables.py",
        "bergen",
    ),
    "a saliency method": Addition(
        "plain_gradient",
        {
            "hemafl_lib/explain/saliency.py": edits(
                insert(METHOD, before='Network = TypeVar("Network", bound=nn.Module)\n'),
                insert('    "plain_gradient": plain_gradient,\n', before='    "occlusion": occlusion,\n'),
            ),
            "tests/explain/test_explain.py": edits(
                insert(METHOD_OF_CAPTUM, before='    if method == "grad_cam":\n'), append(METHOD_TEST)
            ),
        },
        "tests/explain/test_explain.py",
        "plain_gradient",
    ),
    "a paper": Addition(
        "urn",
        {
            "hemafl_book/papers/NAME.py": write(PAPER),
            "hemafl_book/papers/__init__.py": insert(
                '    "urn": "urn",\n', after='    "scd-infarct": "scd_infarct",\n'
            ),
            "tests/papers/test_NAME.py": write(PAPER_TEST),
            "README.md": insert("hemafl run urn\n", before="hemafl run scd-infarct --preset quick"),
        },
        "tests/papers/test_urn.py",
        "urn_has_red_balls",
    ),
    "a statistic over sites": Addition(
        "head_count",
        {
            "hemafl_lib/statistics/NAME.py": write(STATISTIC),
            "hemafl_lib/statistics/__init__.py": edits(
                insert(
                    "from hemafl_lib.statistics.head_count import head_count\n",
                    before="from hemafl_lib.statistics.kaplan_meier import",
                ),
                insert('    "head_count",\n', before='    "hospitals_behind",\n'),
            ),
            "tests/statistics/test_federated_statistics.py": append(STATISTIC_TEST),
        },
        "tests/statistics/test_federated_statistics.py",
        "head_count",
    ),
    "an engine": Addition(
        "in_turn",
        {
            "hemafl_lib/federation/engines/NAME.py": write(ENGINE),
            "hemafl_lib/federation/engines/__init__.py": edits(
                insert(
                    "from hemafl_lib.federation.engines.in_turn import run_in_turn\n",
                    before="from hemafl_lib.federation.engines.local import run_local\n",
                ),
                insert(
                    ENGINE_ENTRY,
                    after="    run_deployment(server_app, site_app, sites, wishes.stop)\n",
                ),
                insert('    "in_turn": run_one_by_one,\n', before='    "local": run_on_threads,\n'),
            ),
            "tests/federation/test_federation.py": append(ENGINE_TEST),
        },
        "tests/federation/test_federation.py",
        "in_turn",
    ),
}


@pytest.fixture(scope="module")
def rows(repository):
    """What each row of the table says: the files to touch, by what is added."""
    table = re.findall(
        r"^\| (an? [\w ]+) \| (.+?) \|", (repository / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )
    return {what: re.findall(r"`(.+?)`", files) for what, files in table}


@pytest.fixture(scope="module")
def then(repository):
    """The first call of the last column of the table, by what is added."""
    table = re.findall(
        r"^\| (an? [\w ]+) \|.+\| `([^|`]+)`[^|]*\|$",
        (repository / "CONTRIBUTING.md").read_text(),
        re.MULTILINE,
    )
    return dict(table)


LISTED_TEST = '''"""The command knows the names."""

import re

import pytest
import torch
from typer.testing import CliRunner

from hemafl_book.cli import app


@pytest.mark.parametrize("name", NAMES)
def test_it_is_listed(name):
    listed = CliRunner().invoke(app, ["list"]).output
    assert re.search(rf"^  {name}\\b", listed, re.MULTILINE), listed
'''


THEN_TEST = """

THEN = COMMANDS


@pytest.mark.parametrize("name", THEN)
def test_what_comes_then_works(name):
    import shlex

    from builders.federated import sites, table

    from hemafl_lib import explain, statistics
    from hemafl_lib.models import AttentionCNN

    if THEN[name].startswith("hemafl "):
        done = CliRunner().invoke(app, shlex.split(THEN[name])[1:])
        assert done.exit_code == 0, done.output
        assert done.output
    else:
        given = {
            "explain": explain,
            "statistics": statistics,
            "model": AttentionCNN(4, width=8),
            "images": torch.rand(2, 3, 32, 32),
            "target": 0,
            "sites": sites(2, table),
        }
        assert eval(THEN[name], given) is not None
"""

TRIED = ("an image data set", "a table of patients", "a saliency method", "a paper", "a statistic over sites")
"""The rows whose last column is tried here too; in others it trains for minutes, or a test does the same."""


@pytest.fixture(scope="module")
def outcome(repository, then, tmp_path_factory) -> str:
    """What pytest says of a copy of the tree with all additions."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("hemafl_lib", "hemafl_book", "tests"):
        shutil.copytree(repository / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(repository / name, copy)
    for addition in ADDITIONS.values():
        for name, edit in addition.changes.items():
            path = copy / name.replace("NAME", addition.name)
            path.write_text(edit(path.read_text() if path.exists() else ""))
    names = [addition.name for addition in ADDITIONS.values()]
    commands = {ADDITIONS[what].name: then[what].replace("NAME", ADDITIONS[what].name) for what in TRIED}
    listed = LISTED_TEST.replace("NAMES", repr([name for name in names if name != "head_count"]))
    (copy / "tests" / "test_listed.py").write_text(listed + THEN_TEST.replace("COMMANDS", repr(commands)))
    files = [addition.tests for addition in ADDITIONS.values()]
    chosen = "listed or comes_then or " + " or ".join(addition.chosen for addition in ADDITIONS.values())
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
    if what != "a statistic over sites":  # it has no registry
        assert f"PASSED tests/test_listed.py::test_it_is_listed[{addition.name}]" in outcome, outcome
    if what in TRIED:
        assert f"PASSED tests/test_listed.py::test_what_comes_then_works[{addition.name}]" in outcome, outcome
    used = re.findall(
        rf"^(\w+) {addition.tests}::.*(?:{addition.chosen.replace(' or ', '|')})", outcome, re.MULTILINE
    )
    assert used, outcome
    assert set(used) == {"PASSED"}, outcome


def test_every_row_names_files_that_are_there(rows, repository):
    assert set(ADDITIONS) < set(rows)
    for what, names in rows.items():
        assert names, what
        for name in names:
            assert "NAME" in name or (repository / name).exists(), f"{what}: {name}"
            assert (repository / name).parent.is_dir(), f"{what}: {name}"
