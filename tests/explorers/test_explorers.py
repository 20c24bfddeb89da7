"""The explorers of chapter 2: what their settings compute, and what their recordings show."""

import threading

import numpy as np
import pandas as pd
import pytest
import torch
from builders.drawn import CELLS, draw_features, run_of_parts

from hemafl_book.explorers import attack as attack_explorer
from hemafl_book.explorers import drawn_cells, heads
from hemafl_book.explorers import partition as partition_explorer
from hemafl_book.explorers import saliency as saliency_explorer
from hemafl_book.show import results
from hemafl_lib import partition
from hemafl_lib.aggregation import FedAvg
from hemafl_lib.data import smear
from hemafl_lib.errors import DataError, Stopped
from hemafl_lib.models import AttentionCNN

ALONE, CENTRALISED, FEDERATED = heads.ALONE, heads.CENTRALISED, heads.FEDERATED


@pytest.fixture
def quick(monkeypatch):
    """Few cells, which nobody has to draw, and two seeds."""
    draw_features(monkeypatch)
    monkeypatch.setattr(attack_explorer, "CELLS", CELLS)
    monkeypatch.setattr(attack_explorer, "SEEDS", range(2))
    yield
    drawn_cells._scaled.cache_clear()
    heads._dealt.cache_clear()
    heads.beside.cache_clear()
    attack_explorer._attacked.cache_clear()


@pytest.fixture(scope="module")
def attacks():
    return attack_explorer.SWEEP.read(results.get("explorer-attack"))


# --- recordings ------------------------------------------------------------------------------------


def federated(attacks, place, *setting):
    return attacks[setting].last(place)["mean"][FEDERATED]


def test_recorded_attacks_break_the_mean_and_not_the_median(attacks):
    opposite, shared = "opposite step x 10", heads.SHARED
    one = attacks[5, 1, opposite, "FedAvg"].last(shared)["mean"]
    assert one[FEDERATED] < 0.4 < one[ALONE] < one[CENTRALISED]
    assert federated(attacks, shared, 5, 1, opposite, "FedMedian") > one[ALONE]
    assert federated(attacks, shared, 5, 2, opposite, "FedTrimmedMean") < 0.4
    assert federated(attacks, shared, 5, 1, opposite, "FedTrimmedMean") > one[ALONE]


def test_recorded_attacks_are_of_ten_seeds_and_only_the_huge_ones_are_refused(attacks):
    assert len(results.get("explorer-attack").seeds) >= 10
    refused = {setting for setting, found in attacks.items() if found.refused}
    assert {setting[2] for setting in refused} == {"opposite step x 1,000,000"}
    for (_, corrupted, _, _), found in attacks.items():
        assert found.refused in (0, corrupted * heads.ROUNDS)
        assert set(found.curves["place"]) == set(attack_explorer.PLACES)


def test_a_recorded_partition_is_the_computed_one():
    found = partition_explorer.SWEEP.read(results.get("explorer-partition"))
    for setting in ((2, "two classes each"), (5, "Dirichlet 0.3"), (3, "unequal sizes")):
        again = partition_explorer.explore(*setting)
        pd.testing.assert_frame_equal(found[setting].counts, again.counts)
        assert found[setting].jensen_shannon == pytest.approx(again.jensen_shannon, abs=1e-4)


# --- attack ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("corruption", attack_explorer.CONTROLS["corruption"])
def test_without_a_corrupted_client_the_run_is_the_honest_one(quick, corruption):
    found = attack_explorer.explore(4, 0, corruption, "FedAvg")
    honest = heads.explore(
        CELLS,
        heads.LabelSkew(4, attack_explorer.ALPHA),
        0.0,
        FedAvg(),
        attack_explorer.PLACES,
        seeds=range(2),
    )
    pd.testing.assert_frame_equal(found.curves, honest.curves)
    assert found.refused == 0


@pytest.mark.parametrize(
    "corruption", ["wrong labels", "noise", "opposite step x 10", "opposite step x 1,000,000"]
)
def test_an_attacked_round_is_that_of_the_library(quick, corruption):
    task = heads.Task(CELLS, attack_explorer.Honest(4, 10.0, 1), 0.0, attack_explorer.PLACES, 0)
    parts = attack_explorer.parts_of(task, 4)
    kind = attack_explorer.CORRUPTIONS[corruption]
    attack = attack_explorer.Attack(kind, 1, 0)
    here = attack.play(parts, FedAvg())[-1]
    (features, labels), *honest = parts
    run = run_of_parts([(features, kind.labels(labels, 4)), *honest], FedAvg(), mods=kind.mods((0,), 0))
    there = np.vstack([run.parameters["weight"].T, run.parameters["bias"]])
    assert len(run.refused) == attack.refused
    if corruption == "noise":  # the library's layer has two arrays, and each has noise of its own
        assert np.linalg.norm(here) == pytest.approx(np.linalg.norm(there), rel=0.5)
    else:
        np.testing.assert_allclose(here, there, atol=1e-3 * max(1, np.abs(there).max()))


def test_corrupted_clients_are_judged_by_nobody_and_refused_when_implausible(quick):
    found = attack_explorer.explore(4, 1, "opposite step x 1,000,000", "FedAvg")
    assert found.refused == heads.ROUNDS
    honest = attack_explorer.Honest(4, 10.0, 1).hospitals(CELLS, 0)
    assert [one.name for one in honest] == ["site-2", "site-3", "site-4"]
    last = found.last(heads.SHARED)["mean"]
    assert last[FEDERATED] > last[heads.COMMONEST] + 0.2
    assert "6 replies" in attack_explorer.refusals(found)


@pytest.mark.filterwarnings("ignore:Krum")  # the explorer shows what it cannot do, too
def test_an_attack_ends_when_it_is_outdated(quick):
    stop = threading.Event()
    with pytest.raises(Stopped):
        attack_explorer.explore(3, 1, "noise", "Krum", report=lambda done: stop.set(), stop=stop)


# --- partition -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", partition_explorer.WAYS)
@pytest.mark.parametrize("clients", [2, 5])
def test_every_scheme_deals_every_image_once(clients, scheme):
    dealt = partition_explorer.explore(clients, scheme)
    assert dealt.counts.shape == (clients, 4)
    assert dealt.counts.sum().to_dict() == partition_explorer.COUNTS
    assert dealt.counts.sum().sum() == 3256
    assert 0 <= dealt.jensen_shannon <= dealt.total_variation <= 1


def test_a_smaller_alpha_makes_the_recorded_clients_less_alike():
    found = partition_explorer.SWEEP.read(results.get("explorer-partition"))
    assert len(partition_explorer.DEALS) >= 10
    for clients in partition_explorer.CONTROLS["clients"]:
        for measure in partition_explorer.MEASURES:
            values = [
                getattr(found[clients, scheme], measure)
                for scheme in ("even", "Dirichlet 10", "Dirichlet 1", "Dirichlet 0.3", "Dirichlet 0.1")
            ]
            assert values == sorted(values), (clients, measure)


def test_a_deal_that_nobody_waits_for_is_stopped():
    stop = threading.Event()
    with pytest.raises(Stopped):
        partition_explorer.explore(3, "even", report=lambda done: stop.set(), stop=stop)


# --- saliency --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", saliency_explorer.CONTROLS["method"])
def test_an_explanation_fits_its_cell(method):
    cells = smear.simulate(2, size=64, classes=smear.LEUKAEMIA, seed=0)
    found = saliency_explorer.explain_cells(AttentionCNN(4, norm="group"), cells, method)
    for explanation in found:
        assert max(explanation.relevance.shape) <= saliency_explorer.GRID
        assert explanation.relevance.min() >= 0
        assert explanation.relevance.max() in (0, 1)
        assert explanation.predicted in smear.LEUKAEMIA
        assert 0.25 <= explanation.probability <= 1
        if explanation.relevance.any():
            assert 0 <= explanation.in_nucleus <= explanation.in_cell <= 1 + 1e-6


def test_maps_are_averaged_to_the_stored_grid_and_divided_by_their_largest():
    maps = torch.zeros(1, 64, 64)
    maps[0, :2, :2], maps[0, 2:4, :2] = 4.0, -1.0
    maps[0, 4, 4] = 8.0
    stored = saliency_explorer.scale(maps)
    assert stored.shape == (1, 32, 32)
    assert stored[0, 0, 0] == 1
    assert stored[0, 1, 0] == 0
    assert stored[0, 2, 2] == 0.5


def test_recorded_cells_are_the_explained_ones():
    result = results.get("explorer-saliency")
    cells = saliency_explorer.draw_recorded_cells(result)
    assert [cells.classes[label] for label in cells.labels] == list(smear.LEUKAEMIA)
    assert set(cells.site) == {saliency_explorer.ALONE}
    stored = result.table("cells")
    fresh = saliency_explorer.places(cells)
    pd.testing.assert_frame_equal(stored[list(fresh)], fresh, check_dtype=False, atol=2e-3)


def test_cells_of_another_smear_are_not_shown_under_old_maps(monkeypatch):
    result = results.get("explorer-saliency")
    monkeypatch.setattr(smear, "VERSION", "another")
    with pytest.raises(DataError, match="record it again"):
        saliency_explorer.draw_recorded_cells(result)


def test_recorded_models_learned_something():
    table = results.get("explorer-saliency").table("accuracies").set_index("model")
    assert list(table.index) == list(saliency_explorer.ARMS)
    assert table.loc["centralised"].mean() > table.loc["federated"].mean() > 0.5
    own = table.loc[saliency_explorer.ARMS[0]]
    others = own.drop(saliency_explorer.ALONE)
    assert own[saliency_explorer.ALONE] > others.max()


def test_natural_split_gives_the_rows_that_are_explained():
    """Row numbers are split as the cells are."""
    cells = smear.simulate(60, size=16, classes=smear.LEUKAEMIA, sites=("north",), seed=1)
    real = partition.natural(cells, seed=0)[0].test
    rows = partition.natural(drawn_cells.row_numbers(cells), seed=0)[0].test
    assert torch.equal(cells.take(rows.features[:, 0]).images, real.images)
