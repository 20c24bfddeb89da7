"""The explorers of chapter 2: what their settings compute, and what their recordings show."""

import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from hemafl_book.explorers import attack as attack_explorer
from hemafl_book.explorers import heterogeneity as heterogeneity_explorer
from hemafl_book.explorers import leukaemia
from hemafl_book.explorers import partition as partition_explorer
from hemafl_book.explorers import saliency as saliency_explorer
from hemafl_book.results import load
from hemafl_book.show import results
from hemafl_lib import federation, partition
from hemafl_lib.aggregation import FedAvg
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import VariantCohort
from hemafl_lib.errors import DataError, Stopped
from hemafl_lib.models import AttentionCNN


@pytest.fixture
def quick(monkeypatch):
    """Features of a few cells, drawn from one Gaussian a class, instead of those of simulated smears."""

    def drawn(stain: float, laboratory: int) -> tuple[VariantCohort, VariantCohort]:
        rng = np.random.default_rng(laboratory)
        centres = np.random.default_rng(9).normal(size=(4, 80))
        cohorts = []
        for count in (120, 80):
            labels = np.arange(count) % 4
            values = centres[labels] + rng.normal(size=(count, 80)) + stain * rng.normal(size=80)
            cohorts.append(
                VariantCohort(
                    site=np.full(count, "north"),
                    patient=np.array([f"{count}-{row}" for row in range(count)]),
                    provenance=partition_explorer.labels().provenance,
                    labels=torch.from_numpy(labels),
                    classes=smear.LEUKAEMIA,
                    variants=torch.from_numpy(values.astype(np.float32))[:, None],
                )
            )
        return tuple(cohorts)

    monkeypatch.setattr(leukaemia, "_features", drawn)
    monkeypatch.setattr(leukaemia, "split_patients", lambda: drawn(0.0, 0))
    monkeypatch.setattr(leukaemia, "cells", lambda: drawn(0.0, 0)[0])
    monkeypatch.setattr(leukaemia, "ROUNDS", 2)


# --- recordings ------------------------------------------------------------------------------------


def test_recorded_curves_show_what_the_chapter_says():
    found = heterogeneity_explorer.SWEEP.read(results.get("explorer-heterogeneity"))
    final = pd.DataFrame(
        [
            {**dict(zip(heterogeneity_explorer.CONTROLS, setting, strict=True)), **e.curves.iloc[-1]}
            for setting, e in found.items()
        ]
    )
    for control, better, worse in (("alpha", 10.0, 0.1), ("stain", 0.0, 1.0), ("clients", 2, 20)):
        means = final.groupby(control)[["shared test", "worst client"]].mean()
        assert (means.loc[better] > means.loc[worse] + 0.05).all()
    skewed = final[final["alpha"] == 0.1].groupby("aggregator")["shared test"].mean()
    assert skewed["FedAvg"] > skewed["FedMedian"] + 0.05


def test_recorded_attacks_break_the_mean_and_not_the_median():
    found = attack_explorer.SWEEP.read(results.get("explorer-attack"))
    final = {setting: e.curves["shared test"].iloc[-1] for setting, e in found.items()}
    assert final[5, 1, "opposite step x 10", "FedAvg"] < 0.4
    assert final[5, 1, "opposite step x 10", "FedMedian"] > 0.6
    refused = {setting for setting, e in found.items() if e.refused}
    assert {setting[2] for setting in refused} == {"opposite step x 1,000,000"}


def test_a_recorded_partition_is_the_computed_one():
    found = partition_explorer.SWEEP.read(results.get("explorer-partition"))
    for setting in ((2, "two classes each"), (5, "Dirichlet 0.3"), (20, "unequal sizes")):
        again = partition_explorer.explore(*setting)
        pd.testing.assert_frame_equal(found[setting].counts, again.counts)
        assert found[setting].jensen_shannon == pytest.approx(again.jensen_shannon, abs=1e-4)


# --- federation ------------------------------------------------------------------------------------


def test_an_exploration_follows_every_client_from_round_0(quick):
    seen = []
    found = heterogeneity_explorer.explore(3, 1.0, 0.5, "FedAvg", report=seen.append)
    names = ["site-1", "site-2", "site-3"]
    assert list(found.curves) == ["shared test", "worst client", "mean of clients", *names]
    assert list(found.curves.index) == [0, 1, 2]
    assert (found.curves["worst client"] == found.curves[names].min(axis=1)).all()
    assert [len(curves) for curves in seen] == [1, 2, 3]
    pd.testing.assert_frame_equal(seen[-1], found.curves)
    arrays = sum(value.numel() for value in leukaemia.head(0).state_dict().values())
    assert 2 * 3 * 2 * 4 * arrays <= found.bytes_sent <= 1.3 * 2 * 3 * 2 * 4 * arrays


def test_an_exploration_ends_when_it_is_outdated(quick):
    stop, seen = threading.Event(), []

    def outdate(curves: pd.DataFrame) -> None:
        seen.append(curves)
        stop.set()

    with pytest.raises(Stopped):
        heterogeneity_explorer.explore(3, 1.0, 0.0, "FedAvg", report=outdate, stop=stop)
    assert len(seen) == 1


@pytest.mark.parametrize("clients", [2, 7])
def test_clients_share_the_training_cells_and_are_tested_on_their_mix(quick, clients):
    train, _ = leukaemia.split_patients()
    sites = leukaemia.deal(clients, 0.5, 0.5, seed=1)
    assert sum(len(site.train) for site in sites) == len(train)
    for site in sites:
        shares = site.train.counts() / len(site.train)
        np.testing.assert_allclose(site.test.counts() / len(site.test), shares, atol=0.01)
        assert not set(site.train.patient) & set(site.test.patient)


def test_a_clients_test_uses_the_cells_of_a_class_equally_often(quick):
    _, test = leukaemia.split_patients()
    rows = leukaemia.rows_of_mix(test, np.array([3, 1, 0, 0]), np.random.default_rng(0))
    used = np.bincount(rows, minlength=len(test))
    for label, wanted in ((0, 300), (1, 100), (2, 0), (3, 0)):
        times = used[test.labels.numpy() == label]
        assert times.sum() == wanted
        assert times.max() - times.min() <= 1


def test_the_shared_test_holds_every_test_cell_in_every_laboratorys_stain(quick):
    _, test = leukaemia.split_patients()
    assert len(leukaemia.join_tests(3, 1.0)) == 3 * len(test)
    assert len(leukaemia.join_tests(20, 1.0)) == 5 * len(test)


def test_a_packed_exploration_is_read_back_to_thousandths(quick, tmp_path):
    controls = {"clients": (2, 3), "alpha": (1.0,), "stain": (0.0,), "aggregator": ("FedAvgM",)}
    out = tmp_path / "r.json"
    few = replace(heterogeneity_explorer.SWEEP, controls=controls)
    few.record(out, lambda text: None)
    found = few.read(load(out))
    assert list(found) == [(2, 1.0, 0.0, "FedAvgM"), (3, 1.0, 0.0, "FedAvgM")]
    for setting, stored in found.items():
        fresh = heterogeneity_explorer.explore(*setting)
        pd.testing.assert_frame_equal(stored.curves, fresh.curves, atol=1e-3, rtol=0)
        assert (stored.bytes_sent, stored.steps, stored.refused) == (fresh.bytes_sent, fresh.steps, 0)


# --- attack ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("corruption", attack_explorer.CONTROLS["corruption"])
def test_without_a_corrupted_client_the_run_is_the_honest_one(quick, corruption):
    sites = leukaemia.deal(4, attack_explorer.ALPHA, 0.0, seed=0)
    shared = leukaemia.join_tests(4, 0.0)
    run = federation.run(
        sites,
        model=leukaemia.head(0),
        aggregator=FedAvg(),
        recipe=leukaemia.RECIPE,
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


def test_skew_grows_from_even_shares_to_two_classes():
    values = [
        np.mean([partition_explorer.explore(5, scheme, seed=s).jensen_shannon for s in range(3)])
        for scheme in ("even", "Dirichlet 10", "Dirichlet 1", "Dirichlet 0.1")
    ]
    assert values == sorted(values)


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
    rows = partition.natural(leukaemia.row_numbers(cells), seed=0)[0].test
    assert torch.equal(cells.take(rows.features[:, 0]).images, real.images)
