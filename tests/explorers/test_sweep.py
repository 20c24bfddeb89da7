"""Every explorer of the registry has a fresh and whole recording; and what a sweep does with any."""

import json
import pkgutil
from dataclasses import fields, replace
from importlib import import_module
from itertools import permutations

import grimp
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hemafl_book import explorers
from hemafl_book.cli import app
from hemafl_book.explorers import EXPLORERS, attack, heterogeneity, morphology, partition, privacy, survival
from hemafl_book.explorers.sweep import RealSweep, Sweep, at_root, reads
from hemafl_book.results import load, stale
from hemafl_book.show import results
from hemafl_lib.aggregation import AGGREGATORS
from hemafl_lib.data.cohort import Provenance
from hemafl_lib.errors import DataError, HemaflError
from hemafl_lib.explain import METHODS
from hemafl_lib.federation.engines import ENGINES
from hemafl_lib.models import MODELS
from hemafl_lib.partition import SCHEMES

LARGEST = 400_000
"""Bytes of a recording; a page carries a part of it, packed."""


# --- the registry ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPLORERS)
def test_a_recording_is_not_stale_and_holds_every_setting(name):
    """Whoever changes the protocol has to compute the recording again (`hemafl sweep NAME`)."""
    sweep = explorers.find(name)
    path = results.folder() / f"explorer-{name}.json"
    result = load(path)
    assert not stale(result, json.loads(json.dumps(sweep.protocol())))
    assert result.seeds == list(sweep.seeds)
    found = sweep.read(result)
    assert list(found) == [tuple(setting.values()) for setting in sweep.settings()]
    assert len(found) == np.prod([len(values) for values in sweep.controls.values()])
    assert path.stat().st_size <= LARGEST


@pytest.mark.parametrize("name", EXPLORERS)
def test_a_recording_read_and_stored_again_is_the_same(name):
    sweep, result = explorers.find(name), results.get(f"explorer-{name}")
    found = sweep.read(result)
    again = {title: [] for title in sweep.tables}
    for setting, outcome in zip(sweep.settings(), found.values(), strict=True):
        for title, rows in sweep.to_rows(outcome).items():
            again[title].append(rows.assign(**{key: setting[key] for key in sweep.tables[title]}))
    for title, parts in again.items():
        stored = result.table(title)
        order = [*sweep.tables[title], *(["round"] if "round" in stored else [])]
        fresh = pd.concat(parts).drop_duplicates()[list(stored)]
        left, right = (
            table.sort_values(order, kind="stable", ignore_index=True) for table in (stored, fresh)
        )
        pd.testing.assert_frame_equal(left, right, check_dtype=False, atol=1e-6, rtol=0)


COMPUTED_AGAIN = {
    "federated-from-scratch": (2, 0.3, 1),
    "attack": (5, 2, "noise", "Krum"),
}
"""Settings of explorers that nothing else computes again; the saliency's models take minutes to train."""


@pytest.mark.parametrize("name", COMPUTED_AGAIN)
def test_a_recorded_setting_is_the_computed_one(name):
    sweep, setting = explorers.find(name), COMPUTED_AGAIN[name]
    recorded, again = sweep.read(results.get(f"explorer-{name}"))[setting], sweep.explore(*setting)
    left, right = (getattr(found, "curves", found) for found in (recorded, again))
    if "mean" in left:
        keys = [column for column in left if column not in ("mean", "low", "high")]
        left, right = (table.set_index(keys)[["mean", "low", "high"]].sort_index() for table in (left, right))
    pd.testing.assert_frame_equal(left, right, atol=0.02, rtol=0, check_names=False)


def test_every_recording_in_the_book_has_its_explorer():
    stored = {path.stem.removeprefix("explorer-") for path in results.folder().glob("explorer-*.json")}
    assert stored == set(EXPLORERS)


def test_no_explorer_imports_another():
    graph = grimp.build_graph("hemafl_book")
    modules = [f"hemafl_book.explorers.{module}" for module in EXPLORERS.values()]
    for importer, imported in permutations(modules, 2):
        assert graph.find_shortest_chain(importer, imported) is None


REGISTRIES = {
    "AGGREGATORS": AGGREGATORS,
    "ENGINES": ENGINES,
    "METHODS": METHODS,
    "MODELS": MODELS,
    "SCHEMES": SCHEMES,
}


def test_the_name_of_a_registry_means_the_registry():
    for module in pkgutil.iter_modules(explorers.__path__, "hemafl_book.explorers."):
        own = vars(import_module(module.name))
        for name in own.keys() & REGISTRIES:
            assert own[name] is REGISTRIES[name], f"{module.name}.{name}"


@pytest.mark.parametrize("module", [attack, heterogeneity, morphology])
def test_an_aggregator_is_called_as_in_the_registry(module):
    """Only what the paper calls otherwise has another label: FedOpt is FedAdam."""
    for label, aggregator in module.CHOICES.items():
        assert type(aggregator) is AGGREGATORS[{"FedOpt": "FedAdam"}.get(label, label)]
    assert module.CONTROLS["aggregator"] == tuple(module.CHOICES)


def test_an_unknown_explorer_is_refused_by_those_that_are_known():
    with pytest.raises(HemaflError, match=r"'nowhere' is unknown; choose one of .*attack"):
        explorers.find("nowhere")


# --- the command -----------------------------------------------------------------------------------

FEW = {
    "partition": (partition, {"clients": (3,), "scheme": ("even", "Dirichlet 1")}),
    "privacy": (privacy, {"noise": (4.0,), "clip": (0.3, 3.0), "rounds": (1, 2)}),
    "survival": (
        survival,
        {"hospitals": (3,), "smallest": (0.02,), "heterogeneity": (0.3,), "aggregator": ("FedAvg",)},
    ),
}


@pytest.mark.parametrize("name", FEW)
def test_hemafl_sweep_writes_a_recording(name, tmp_path, monkeypatch):
    module, controls = FEW[name]
    few = replace(module.SWEEP, controls=controls)
    monkeypatch.setattr(module, "SWEEP", few)
    out = tmp_path / f"{name}.json"
    done = CliRunner().invoke(app, ["sweep", name, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"{len(few.settings())} settings are in {out}." in done.output
    assert list(few.read(load(out))) == [tuple(setting.values()) for setting in few.settings()]


# --- a sweep ---------------------------------------------------------------------------------------

NOBODY = Provenance(name="none", source="None.", licence="none.", simulated=True, checksum="0")


def powers(base: int, exponent: int) -> list[int]:
    return [base**k for k in range(exponent + 1)]


def write(found: list[int]) -> dict[str, pd.DataFrame]:
    table = pd.DataFrame({"k": range(len(found)), "power": found})
    return {"powers": table, "last": pd.DataFrame([{"last": found[-1]}])}


def read(rows: dict[str, pd.DataFrame]) -> list[int]:
    powers, last = rows["powers"]["power"].tolist(), rows["last"]["last"].item()
    return powers[: powers.index(last) + 1]


SWEEP = Sweep(
    title="Powers of whole numbers",
    controls={"base": (2, 3), "exponent": (1, 2)},
    explore=powers,
    tables={"powers": ("base",), "last": ("base", "exponent")},
    to_rows=write,
    from_rows=read,
    protocol=lambda: {"of": "whole numbers"},
    data=lambda: [NOBODY],
    seeds=(7,),
    extra=lambda: {"note": pd.DataFrame({"said": ["all"]})},
)


def test_a_sweep_is_read_as_it_was_computed(tmp_path):
    said = []
    SWEEP.record(tmp_path / "r.json", said.append)
    result = load(tmp_path / "r.json")
    assert SWEEP.read(result) == {(2, 1): [1, 2], (2, 2): [1, 2, 4], (3, 1): [1, 3], (3, 2): [1, 3, 9]}
    assert result.seeds == [7]
    assert not stale(result, SWEEP.protocol())
    assert result.table("note")["said"].tolist() == ["all"]
    assert len(said) == 1


def test_what_settings_share_is_stored_once(tmp_path):
    SWEEP.record(tmp_path / "r.json", lambda text: None)
    stored = load(tmp_path / "r.json").table("powers")
    assert list(stored) == ["base", "k", "power"]
    assert stored["power"].tolist() == [1, 2, 4, 1, 3, 9]


def test_a_recording_that_lacks_a_setting_is_refused(tmp_path):
    SWEEP.record(tmp_path / "r.json", lambda text: None)
    more = replace(SWEEP, controls={"base": (2, 3, 4), "exponent": (1, 2)})
    with pytest.raises(DataError, match=r"no setting \{'base': 4, 'exponent': 1\}; record it again"):
        more.read(load(tmp_path / "r.json"))


def test_a_sweep_of_real_cohorts_reads_in_the_folder_that_it_is_told(tmp_path):
    read_in = []

    def of_a_folder(base, exponent, *, root=None):
        read_in.append(root)
        return powers(base, exponent)

    def of_data(root=None):
        read_in.append(root)
        return [NOBODY]

    given = {field.name: getattr(SWEEP, field.name) for field in fields(SWEEP)}
    real = RealSweep(**{**given, "explore": of_a_folder, "data": of_data}, reads=("taleqani",))
    at_root(real, tmp_path).record(tmp_path / "r.json", lambda text: None)
    assert read_in == [tmp_path] * 5
    assert real.read(load(tmp_path / "r.json"))[3, 2] == [1, 3, 9]
    assert reads(real) == ("taleqani",)
    assert reads(SWEEP) == ()
    assert at_root(SWEEP, tmp_path) is SWEEP


# --- the pages that show them ----------------------------------------------------------------------


def test_every_explorer_of_the_book_asks_for_a_prediction_first(repository):
    shown = []
    for path in sorted((repository / "book").rglob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                page = "".join(output.get("data", {}).get("text/html", ""))
                if '<section class="hemafl-explorer"' in page:
                    shown.append((path.stem, page.count('<fieldset class="hemafl-prediction"')))
    assert len(shown) >= len(EXPLORERS)
    assert [name for name, asked in shown if asked != 1] == []
