"""Heads on drawn cells: who holds which cells, rounds as the library's, and what they are compared with."""

import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from builders.drawn import CELLS, draw_features, run_of_parts

from hemafl_book.explorers import drawn_cells, heads
from hemafl_book.explorers import heterogeneity as explorer
from hemafl_book.explorers.heads import LabelSkew, OneSmall, Task
from hemafl_book.results import load
from hemafl_lib.aggregation import FedAdam, FedAvg, FedMedian
from hemafl_lib.errors import Stopped

PLACES = (heads.OWN, heads.WORST, heads.SMALLEST, heads.LARGEST, heads.SHARED, heads.UNSEEN)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    draw_features(monkeypatch)
    yield
    drawn_cells._scaled.cache_clear()
    heads._dealt.cache_clear()
    heads.beside.cache_clear()


SKEWED = LabelSkew(3, 1.0)


def task(deal=SKEWED, stain=1.0, seed=0):
    return Task(CELLS, deal, stain, PLACES, seed)


# --- the cells of hospitals --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 7])
def test_hospitals_share_the_training_cells_and_are_tested_on_their_mix(count):
    train, test = CELLS.split()
    dealt = CELLS.deal(count, 0.5, seed=1)
    assert sorted(np.concatenate([one.train for one in dealt])) == list(range(len(train)))
    for one, site in zip(dealt, CELLS.sites(dealt, 0.5), strict=True):
        shares = train.take(one.train).counts() / len(one.train)
        np.testing.assert_allclose(test.take(one.test).counts() / len(one.test), shares, atol=0.01)
        assert not set(site.train.patient) & set(site.test.patient)
        assert torch.equal(
            site.train.variants, CELLS.features(0.5, one.laboratory)[0].take(one.train).variants
        )
    assert [one.laboratory for one in dealt] == [number % 5 for number in range(count)]


def test_a_hospitals_test_uses_the_cells_of_a_class_equally_often():
    _, test = CELLS.split()
    rows = drawn_cells.rows_of_mix(test, np.array([3, 1, 0, 0]), np.random.default_rng(0))
    used = np.bincount(rows, minlength=len(test))
    for label, wanted in ((0, 300), (1, 100), (2, 0), (3, 0)):
        times = used[test.labels.numpy() == label]
        assert times.sum() == wanted
        assert times.max() - times.min() <= 1


def test_one_hospital_is_small_and_all_have_the_same_mix():
    train, _ = CELLS.split()
    dealt = OneSmall(3, 0.1).hospitals(CELLS, seed=0)
    assert [len(one.train) for one in dealt] == [54, 54, 12]
    for one in dealt:
        assert np.ptp(train.take(one.train).counts()) <= 1


def test_a_small_alpha_makes_hospitals_unlike_on_average_over_deals():
    means = [
        np.mean([heads.unlike(task(LabelSkew(4, alpha), seed=seed)) for seed in heads.SEEDS])
        for alpha in (0.1, 1.0, 10.0)
    ]
    assert means[0] > means[1] > means[2]


# --- the rounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [FedAvg(), FedMedian(), FedAdam(learning_rate=0.1)])
def test_its_rounds_are_those_of_the_library(rule):
    given = task()
    names = [one.name for one in given.hospitals()]
    parts = [given.part(one) for one in given.hospitals()]
    run = run_of_parts(parts, rule, names)
    there = np.vstack([run.parameters["weight"].T, run.parameters["bias"]])
    here = heads.play(parts, rule, 4)[-1]
    assert np.abs(there).max() > 0.1
    np.testing.assert_allclose(here, there, atol=1e-4)


def test_places_say_whose_cells_they_hold():
    given = task(OneSmall(3, 0.1))
    told = given.tell(
        pd.DataFrame([{"site-1": 0.5, "site-2": 0.6, "site-3": 0.1, heads.SHARED: 0.7, heads.UNSEEN: 0.8}])
    ).iloc[0]
    assert told.to_dict() == {
        heads.OWN: pytest.approx(0.4), heads.WORST: 0.1, heads.SMALLEST: 0.1, heads.LARGEST: 0.6,
        heads.SHARED: 0.7, heads.UNSEEN: 0.8,
    }  # fmt: skip
    judged = given.judge(lambda number: np.full(80, number == 1))
    assert judged["site-2"] == 1
    assert judged["site-1"] == 0
    assert judged[heads.SHARED] == pytest.approx(1 / 3)
    assert judged[heads.UNSEEN] == 0


def test_the_commonest_kind_is_the_trivial_model():
    found = heads.judge_commonest(task(LabelSkew(3, 0.1)))
    train, _ = CELLS.split()
    for one in task(LabelSkew(3, 0.1)).hospitals():
        counts = train.take(one.train).counts()
        assert found[one.name] == pytest.approx(counts.max() / counts.sum(), abs=0.01)
    assert found[heads.SHARED] == pytest.approx(0.25)


# --- an exploration ----------------------------------------------------------------------------------


def test_an_exploration_reports_every_seed_repeats_and_can_be_stopped():
    seen, stop = [], threading.Event()
    found = heads.explore(CELLS, SKEWED, 1.0, FedAvg(), PLACES, seeds=(0, 1), report=seen.append)
    assert seen == [1, 2]
    again = heads.explore(CELLS, SKEWED, 1.0, FedAvg(), PLACES, seeds=(0, 1))
    pd.testing.assert_frame_equal(found.curves, again.curves)
    with pytest.raises(Stopped):
        heads.explore(CELLS, SKEWED, 1.0, FedAvg(), PLACES, report=lambda done: stop.set(), stop=stop)
    last = found.last(heads.SHARED)
    assert set(last.index) == {
        heads.FEDERATED, heads.ALONE, heads.CENTRALISED, heads.COLOUR, heads.COMMONEST
    }  # fmt: skip
    assert (last["low"] <= last["mean"]).all()
    assert last.loc[heads.CENTRALISED, "mean"] > 0.5


def test_a_recording_is_read_back_to_thousandths(monkeypatch, tmp_path):
    controls = {"hospitals": (2, 3), "alpha": (1.0,), "stain": (0.0,), "aggregator": ("FedAvg", "FedMedian")}
    monkeypatch.setattr(explorer, "CELLS", CELLS)
    few = heads.sweep("few", CELLS, controls, explorer.CHOICES, explorer.PLACES, explorer.explore)
    few.record(tmp_path / "r.json", lambda text: None)
    result = load(tmp_path / "r.json")
    found = few.read(result)
    assert len(result.table(heads.BESIDE_TABLE)) == 2 * 3 * (2 * 7 + 2 * 2), "of both aggregators stored once"
    for setting, stored in found.items():
        fresh = explorer.explore(*setting)
        columns = ["place", "model", "round"]
        pd.testing.assert_frame_equal(
            stored.curves.sort_values(columns, ignore_index=True),
            fresh.curves.sort_values(columns, ignore_index=True),
            atol=1e-3, rtol=0, check_like=True,
        )  # fmt: skip
        assert stored.unlike == pytest.approx(fresh.unlike, abs=1e-3)


def test_other_cells_are_another_protocol():
    other = replace(CELLS, seed=CELLS.seed + 1)
    assert heads.setup(CELLS) != heads.setup(other)
