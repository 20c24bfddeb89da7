"""The commands ``hemafl run`` and ``hemafl list``: changed protocols, unknown names, registries."""

import re
import subprocess
import sys
import tomllib
from dataclasses import replace

import huggingface_hub
import pytest
from typer.testing import CliRunner

from hemafl_book import papers
from hemafl_book.cli import EXTRAS, app
from hemafl_book.explorers import EXPLORERS
from hemafl_book.papers import PAPERS, blood_morphology, mds_survival, scd_infarct
from hemafl_book.results import Results, load
from hemafl_lib.aggregation import AGGREGATORS
from hemafl_lib.data.cards import CARDS
from hemafl_lib.explain import ALL_METHODS
from hemafl_lib.federation.engines import ENGINES
from hemafl_lib.models import MODELS
from hemafl_lib.partition import SCHEMES


@pytest.fixture
def hemafl():
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments)], env={"HEMAFL_DATA": None})


@pytest.fixture
def small(monkeypatch):
    """Chapter 1's experiment on small, few cells, one local epoch."""
    whole = blood_morphology.protocol
    changed = lambda *asked: replace(whole(*asked), size=32, cells=60)  # noqa: E731
    monkeypatch.setattr(blood_morphology, "protocol", changed)


def test_another_aggregator_on_cells_dealt_anew_gives_the_expected_table(hemafl, small, tmp_path):
    out = tmp_path / "out.json"
    asked = ("--aggregator", "Krum", "--clients", 5, "--alpha", 0.8, "--rounds", 1, "--local-epochs", 1)
    done = hemafl("run", "blood-morphology", *asked, "--out", out)
    assert done.exit_code == 0, done.output
    assert "aggregator Krum, clients 5, alpha 0.8, rounds 1, local epochs 1" in done.output
    frozen = load(out)
    scores = frozen.table("group norm: scores")
    clients = [f"site-{number}" for number in range(1, 6)]
    assert set(scores["arm"]) == {
        *(f"isolated: {client}" for client in clients),
        "Krum",
        "centralised",
        "colour alone",
    }
    assert set(scores["where"]) == {*clients, "joint", *blood_morphology.DRAWN_UNSEEN}
    assert frozen.changes == {
        "aggregator": "Krum",
        "clients": 5,
        "alpha": 0.8,
        "rounds": 1,
        "local_epochs": 1,
    }


@pytest.mark.filterwarnings("ignore:(Multi)?Krum")  # among three hospitals they promise nothing, as said
def test_one_study_alone_is_run_and_the_result_says_so(hemafl, tmp_path):
    """Of chapter 4's two studies of 65 patients; the paper preset has both."""
    out = tmp_path / "out.json"
    asked = ("--preset", "paper", "--study", "other-cohorts", "--seed", 3, "--rounds", 1)
    done = hemafl("run", "scd-infarct", *asked, "--out", out)
    assert done.exit_code == 0, done.output
    assert "study other-cohorts" in done.output
    frozen = load(out)
    tables = ["other cohorts: own patients", "other cohorts: scaling", "other cohorts: scores"]
    assert list(frozen.tables) == tables
    assert frozen.changes == {"study": ["other-cohorts"], "seed": 3, "rounds": 1}
    assert list(frozen.parts) == ["other cohorts"]


def test_a_study_may_be_an_experiment_of_its_own(hemafl, monkeypatch):
    offer = replace(mds_survival.OFFER, parts={"infarcts": "scd-infarct"})
    monkeypatch.setattr(mds_survival, "OFFER", offer)
    asked = []
    monkeypatch.setattr(scd_infarct, "run", lambda *given: asked.append(given) or Results(given[0], {}, ()))
    monkeypatch.setattr(scd_infarct, "report", lambda results: "")
    assert hemafl("run", "mds-survival", "--study", "infarcts").exit_code == 0
    assert asked[0][0] == scd_infarct.protocol()
    done = hemafl("run", "mds-survival", "--study", "infarcts", "--study", "registry")
    assert done.output == "hemafl: study 'infarcts' is an experiment of its own; name it alone.\n"
    assert "choose one of registry, infarcts." in hemafl("run", "mds-survival", "--study", "no").output


@pytest.mark.survives("An unknown name is given to the command", "one sentence that lists the known ones")
@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        (("run", "blood-letting"), PAPERS),
        (("sweep", "blood-letting", "--out", "x.json"), EXPLORERS),
        (("run", "blood-morphology", "--preset", "hasty"), ("quick", "paper")),
        (("run", "blood-morphology", "--aggregator", "Crumb"), AGGREGATORS),
        (
            ("run", "attention-cnn", "--preset", "paper", "--study", "x"),
            ("3-clients-8-rounds", "macenkos-dyes"),
        ),
        (("run", "blood-morphology", "--scheme", "by moonlight"), SCHEMES),
        (("run", "blood-morphology", "--engine", "steam"), ENGINES),
        (("run", "blood-morphology", "--device", "abacus"), ("auto", "cpu", "cuda")),
        (("run", "blood-morphology", "--network", "resnet1000"), ("attention_cnn", "resnet34")),
        (("run", "mds-survival", "--data", "smear"), ("flchain", "amlsg")),
        (("run", "mds-survival", "--model", "resnet34"), ("--aggregator", "--clients")),
        (("run", "attention-cnn", "--model", "resnet34"), ("attention_cnn", "plain_cnn")),
    ],
)
def test_what_is_unknown_is_answered_in_one_sentence_with_what_is_known(hemafl, arguments, known):
    done = hemafl(*arguments)
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert len(done.output.strip().splitlines()) == 1
    for name in known:
        assert name in done.output


@pytest.mark.survives(
    "A pretrained network is asked for whose weights are not on the machine",
    "A sentence before anything is computed; random features never stand under its name",
)
@pytest.mark.parametrize("paper", ["blood-morphology", "all-transfer", "all-privacy"])
@pytest.mark.parametrize(
    ("network", "sentence"),
    [("resnet34", "'resnet34' are not on this machine"), ("NASNetMobile", "no weights of 'nasnetmobile'")],
)
def test_a_pretrained_network_without_its_weights_is_refused(
    hemafl, monkeypatch, tmp_path, paper, network, sentence
):
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(papers.find(paper), "run", lambda *_: pytest.fail("something was computed"))
    done = hemafl("run", paper, "--network", network, "--out", tmp_path / "out.json")
    assert done.exit_code == 1
    assert sentence in done.output
    assert not list(tmp_path.iterdir())


def test_real_cohorts_need_a_folder(hemafl):
    done = hemafl("run", "attention-cnn", "--data", "tecom")
    assert done.exit_code == 1
    assert "HEMAFL_DATA" in done.output


def read_list(output: str) -> dict[str, dict[str, str]]:
    """What ``hemafl list`` says of each name, by kind."""
    kinds: dict[str, dict[str, str]] = {}
    for line in output.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            kinds[line[:-1]] = {}
        else:
            name, _, about = line.strip().partition(" ")
            kinds[list(kinds)[-1]][name] = about.strip()
    return kinds


def test_list_names_everything_in_the_registries_and_says_what_it_is(hemafl):
    done = hemafl("list")
    assert done.exit_code == 0, done.output
    kinds = read_list(done.output)
    assert all(about for names in kinds.values() for about in names.values()), done.output
    assert {kind: list(names) for kind, names in kinds.items()} == {
        "papers": list(PAPERS),
        "models": list(MODELS),
        "aggregators": list(AGGREGATORS),
        "schemes": list(SCHEMES),
        "engines": list(ENGINES),
        "methods": list(ALL_METHODS),
        "explorers": list(EXPLORERS),
        "cohorts": list(CARDS),
    }


WITHOUT_EXTRAS = """
import sys

extras = ["captum", "captum.attr", "dp_accounting", "opacus"]
slow = ["timm", "torchvision"]  # nothing loads them before it makes a network of theirs
sys.modules.update(dict.fromkeys([*extras, *slow]))  # not to be found

from hemafl_book.cli import app

app(["list"])
"""


@pytest.mark.slow
def test_list_says_which_extra_a_name_needs():
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kinds = read_list(done.stdout)
    explain = "needs pip install 'hemafl_lib[explain]'"
    assert kinds["methods"] == {"-": explain}
    assert kinds["explorers"]["saliency"] == explain
    assert list(kinds["explorers"]) == list(EXPLORERS)
    assert kinds["papers"]["blood-morphology"] == papers.find("blood-morphology").OFFER.title


def test_the_extras_of_the_list_bring_the_packages(repository):
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package, extra in EXTRAS.items():
        assert package.replace("_", "-") in {re.match(r"[\w-]+", each)[0] for each in extras[extra]}


@pytest.mark.parametrize("name", PAPERS)
def test_every_paper_can_be_found_and_bears_its_name(name):
    assert papers.find(name).OFFER.name == name
