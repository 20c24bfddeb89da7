"""The explorers of chapter 2: what their settings compute, and what their recordings show."""

import threading

import pandas as pd
import pytest
import torch
from builders.drawn import draw_features

from hemafl_book.explorers import attack as attack_explorer
from hemafl_book.explorers import drawn_cells, leukaemia
from hemafl_book.explorers import partition as partition_explorer
from hemafl_book.explorers import saliency as saliency_explorer
from hemafl_book.show import results
from hemafl_lib import federation, partition
from hemafl_lib.aggregation import FedAvg
from hemafl_lib.data import smear
from hemafl_lib.errors import DataError, Stopped
from hemafl_lib.models import AttentionCNN


@pytest.fixture
def quick(monkeypatch):
    """Few cells, which nobody has to draw, and two rounds."""
    draw_features(monkeypatch)
    monkeypatch.setattr(attack_explorer, "ROUNDS", 2)
    yield
    drawn_cells._scaled.cache_clear()


# --- recordings ------------------------------------------------------------------------------------


def test_recorded_attacks_break_the_mean_and_not_the_median():
    found = attack_explorer.SWEEP.read(results.get("explorer-attack"))
    final = {setting: e.curves["shared test"].iloc[-1] for setting, e in found.items()}
    assert final[5, 1, "opposite step x 10", "FedAvg"] < 0.4
    assert final[5, 1, "opposite step x 10", "FedMedian"] > 0.6
    refused = {setting for setting, e in found.items() if e.refused}
    assert {setting[2] for setting in refused} == {"opposite step x 1,000,000"}


def test_a_recorded_partition_is_the_computed_one():
    found = partition_explorer.SWEEP.read(results.get("explorer-partition"))
    for setting in ((2, "two classes each"), (5, "Dirichlet 0.3"), (3, "unequal sizes")):
        again = partition_explorer.explore(*setting)
        pd.testing.assert_frame_equal(found[setting].counts, again.counts)
        assert found[setting].jensen_shannon == pytest.approx(again.jensen_shannon, abs=1e-4)


# --- attack ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("corruption", attack_explorer.CONTROLS["corruption"])
def test_without_a_corrupted_client_the_run_is_the_honest_one(quick, corruption):
    dealt = leukaemia.CELLS.deal(4, attack_explorer.ALPHA, seed=0)
    shared = leukaemia.CELLS.tests(range(4), 0.0, "shared test")
    run = federation.run(
        leukaemia.CELLS.sites(dealt, 0.0),
        model=attack_explorer.new_head(0),
        aggregator=FedAvg(),
        recipe=attack_explorer.RECIPE,
        rounds=2,
        evaluate=False,
        monitor={"shared test": shared},
    )
    found = attack_explorer.explore(4, 0, corruption, "FedAvg")
    honest = run.curve("accuracy", "monitor")["shared test"]
    assert found.curves["shared test"].tolist() == honest.tolist()
    assert (found.bytes_sent, found.steps) == (run.bytes_sent, run.total_steps())


def test_corrupted_clients_are_left_out_of_the_curves_and_refused_when_implausible(quick):
    found = attack_explorer.explore(4, 1, "opposite step x 1,000,000", "FedAvg")
    assert list(found.curves)[3:] == ["site-2", "site-3", "site-4"]
    assert found.refused == 2
    assert found.curves["shared test"].iloc[-1] > 0.5


def test_an_attack_follows_every_honest_client_from_round_0(quick):
    seen = []
    found = attack_explorer.explore(3, 0, "noise", "FedAvg", report=seen.append)
    names = ["site-1", "site-2", "site-3"]
    assert list(found.curves) == ["shared test", "worst client", "mean of clients", *names]
    assert list(found.curves.index) == [0, 1, 2]
    assert (found.curves["worst client"] == found.curves[names].min(axis=1)).all()
    assert [len(curves) for curves in seen] == [1, 2, 3]
    pd.testing.assert_frame_equal(seen[-1], found.curves)


def test_a_packed_attack_is_read_back_to_thousandths(quick):
    fresh = attack_explorer.explore(4, 1, "noise", "FedAvg")
    stored = attack_explorer.from_rows(attack_explorer.to_rows(fresh))
    pd.testing.assert_frame_equal(stored.curves, fresh.curves, atol=1e-3, rtol=0)
    assert (stored.bytes_sent, stored.steps, stored.refused) == (fresh.bytes_sent, fresh.steps, 0)


@pytest.mark.filterwarnings("ignore:Krum")  # the explorer shows what it cannot do, too
def test_an_attack_ends_when_it_is_outdated(quick):
    stop = threading.Event()
    with pytest.raises(Stopped):
        attack_explorer.explore(3, 1, "noise", "Krum", report=lambda curves: stop.set(), stop=stop)


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
