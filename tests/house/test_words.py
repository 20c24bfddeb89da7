"""What the pages for people say agrees with the code: commands parse, names are known, files are there."""

import re
import shlex
from importlib import import_module
from itertools import pairwise

import pytest
from click import Group
from click.exceptions import Exit
from typer.main import get_command
from typer.testing import CliRunner

from benchmarks.__main__ import make_parser
from hemafl_book import cli
from hemafl_book.explorers import EXPLORERS
from hemafl_book.papers import PAPERS
from hemafl_lib.aggregation import AGGREGATORS
from hemafl_lib.data.cards import CARDS
from hemafl_lib.explain import ALL_METHODS
from hemafl_lib.federation.engines import ENGINES
from hemafl_lib.models import MODELS
from hemafl_lib.partition import SCHEMES

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "book/intro.md",
    "book/start/two_machines.md",
    "book/start/own_data.md",
)
KNOWN = {
    "--aggregator": AGGREGATORS,
    "--model": MODELS,
    "--scheme": SCHEMES,
    "--engine": ENGINES,
    "--data": CARDS,
    "--preset": ("quick", "paper"),
    "run": PAPERS,
    "sweep": EXPLORERS,
    "card": CARDS,
    "fetch": CARDS,
}
"""After each of these words stands a name; in what it is known."""

REGISTRIES = {
    "AGGREGATORS": "hemafl_lib.aggregation",
    "MODELS": "hemafl_lib.models",
    "SCHEMES": "hemafl_lib.partition",
    "METHODS": "hemafl_lib.explain",
    "ENGINES": "hemafl_lib.federation.engines",
    "LAYOUTS": "hemafl_lib.data.layouts",
    "TABLES": "hemafl_lib.data.survival_cohorts",
    "PAPERS": "hemafl_book.papers",
    "EXPLORERS": "hemafl_book.explorers",
}
"""Where each registry can be imported."""


def commands(text: str) -> list[list[str]]:
    """The words of every `hemafl` command of a page, in its blocks and within its lines."""
    blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    lines = re.findall(r"^(?:\.venv/bin/)?hemafl .+$", blocks.replace("\\\n", " "), re.MULTILINE)
    inline = re.findall(r"`(hemafl [a-z]+ .+?)`", text)
    return [shlex.split(line, comments=True)[1:] for line in [*lines, *inline]]


def all_commands(repository):
    return [words for page in PAGES for words in commands((repository / page).read_text())]


def parse(words: list[str]) -> None:
    """Parse a command as the program would, without running it; raise what click or argparse raises."""
    command = get_command(cli.app)
    while isinstance(command, Group) and not words[0].startswith("-"):
        _, command, words = command.resolve_command(command.make_context("hemafl", list(words)), words)
    if command.name == "bench":
        make_parser().parse_args(words)
    else:
        command.make_context(command.name, list(words))


def test_every_command_on_the_pages_parses(repository):
    found = [words for words in all_commands(repository) if "--help" not in words]
    assert len(found) > 15
    for words in found:
        if "..." not in words:
            parse(words)


@pytest.mark.parametrize(
    "words", [["runn", "x"], ["run", "blood-morphology", "--nonsense", "1"], ["data", "card"]]
)
def test_a_wrong_command_does_not_parse(words):
    with pytest.raises(Exception, match=r"No such|Missing"):
        parse(words)


def test_help_is_there():
    with pytest.raises(Exit):
        parse(["--help"])


def test_every_name_on_the_pages_is_known(repository):
    own = ("federation", "hospital")  # names and folders of the reader's own
    for words in [words for words in all_commands(repository) if words[0] not in own]:
        for before, name in pairwise(words):
            if before in KNOWN and name not in ("NAME", "list"):
                assert name in KNOWN[before], " ".join(words)


def test_the_readme_runs_every_paper(repository):
    runs = [words for words in commands((repository / "README.md").read_text()) if words[0] == "run"]
    assert {words[1] for words in runs} == set(PAPERS)


def test_every_make_target_on_the_pages_exists(repository):
    targets = re.findall(r"^([a-z-]+):.*##", (repository / "Makefile").read_text(), re.MULTILINE)
    for page in PAGES:
        text = (repository / page).read_text()
        named = re.findall(r"`make ([a-z-]+)`", text) + re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)
        assert set(named) <= set(targets), page


def test_every_path_on_the_pages_exists(repository):
    text = "\n".join((repository / page).read_text() for page in ("README.md", "CONTRIBUTING.md"))
    text += (repository / "book" / "reference" / "reading_order.md").read_text()
    paths = re.findall(r"`([\w./-]+/[\w./-]*|\w+\.(?:md|txt|cff|toml))`", text)
    assert len(paths) > 30
    for path in paths:
        if "NAME" not in path and not path.startswith(".venv"):
            assert (repository / path).exists() or (repository / "hemafl_lib" / path).exists(), path


def test_the_command_lists_every_registry():
    said = CliRunner().invoke(cli.app, ["list"])
    assert said.exit_code == 0
    listed = set(re.findall(r"^  (\S+)", said.output, re.MULTILINE))
    registries = (PAPERS, EXPLORERS, MODELS, AGGREGATORS, SCHEMES, ALL_METHODS, ENGINES, CARDS)
    assert listed == {name for names in registries for name in names}


def test_registries_are_where_the_pages_say(repository):
    rows = re.findall(r"^\| an? .+\|$", (repository / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"\| `([A-Z]+)` \|", row)}
    assert named == set(REGISTRIES)
    for name, module in REGISTRIES.items():
        assert len(getattr(import_module(module), name)) > 1
