"""The sickle-cell explorer of chapter 4: its simulated children, what is learnt from them, its recording."""

import threading

import numpy as np
import pandas as pd
import pytest

from hemafl_book.explorers import sickle_cell as explorer
from hemafl_book.show import results
from hemafl_lib.data import sickle_cell
from hemafl_lib.errors import Stopped

FEDERATED, ALONE, CENTRALISED = explorer.FEDERATED, explorer.ALONE, explorer.CENTRALISED
TRIVIAL, TRUTH = explorer.TRIVIAL, explorer.TRUTH


@pytest.fixture(scope="module")
def found():
    return explorer.SWEEP.read(results.get("explorer-sickle-cell"))


# --- the recording ---------------------------------------------------------------------------------


def test_a_value_computed_in_jupyter_is_the_recorded_one(found):
    keys = ["place", "measure", "model", "children"]
    stored, again = (
        table.set_index(keys).sort_index()
        for table in (found[2, 0.5, "FedMedian"], explorer.explore(2, 0.5, "FedMedian"))
    )
    pd.testing.assert_frame_equal(stored, again[list(stored)], atol=2e-3, rtol=0)


def test_the_recording_has_ten_repetitions_bands_and_the_trivial_answer(found):
    assert len(results.get("explorer-sickle-cell").seeds) >= 10
    for one in found.values():
        assert set(one["model"]) == set(explorer.COMPARED)
        assert set(one["children"]) == set(explorer.CHILDREN)
        assert (one["low"] <= one["high"]).all()
        assert one[["mean", "low", "high"]].stack().between(0, 1).all()
        chance = one.query("measure == 'AUROC' and model == @TRIVIAL")
        assert (chance[["low", "mean", "high"]] == 0.5).all(axis=None)


# --- the lesson ------------------------------------------------------------------------------------


def test_more_children_teach_an_order_and_no_f1_shows_it(found):
    f1, order = (explorer.at(found[3, 0.0, "FedAvg"], explorer.MEAN, each) for each in explorer.MEASURES)
    assert f1.loc[65, FEDERATED] < f1.loc[65, TRIVIAL]
    assert (f1[[FEDERATED, CENTRALISED, TRUTH]].max() - f1.loc[1040, TRIVIAL]).max() < 0.03
    assert order[FEDERATED].is_monotonic_increasing
    assert order.loc[1040, FEDERATED] > order.loc[65, FEDERATED] + 0.03
    assert order.loc[1040, TRUTH] - order.loc[1040, FEDERATED] < 0.02


def test_the_smallest_of_six_hospitals_gains_at_every_number_of_children(found):
    few = explorer.at(found[6, 0.0, "FedAvg"], explorer.SMALLEST, explorer.AUROC)
    assert (few[FEDERATED] > few[ALONE] + 0.03).all()
    assert (few[FEDERATED] - few[CENTRALISED]).abs().max() < 0.02


def test_one_threshold_for_unlike_hospitals_is_right_at_none(found):
    f1, order = (explorer.at(found[3, 1.0, "FedAvg"], explorer.MEAN, each) for each in explorer.MEASURES)
    assert (f1[FEDERATED] < f1[TRIVIAL]).all()
    assert f1.loc[1040, ALONE] > f1.loc[1040, FEDERATED]
    alike = explorer.at(found[3, 0.0, "FedAvg"], explorer.MEAN, explorer.AUROC)
    assert order.loc[1040, FEDERATED] == pytest.approx(alike.loc[1040, FEDERATED], abs=0.01)


# --- the children ----------------------------------------------------------------------------------


def test_hospitals_share_the_children_as_in_the_study():
    assert explorer.sizes(3, 65) == [32, 22, 11]
    assert explorer.sizes(6, 1040)[-1] == 50
    for hospitals in (2, 3, 4, 6, 9):
        for children in explorer.CHILDREN:
            sizes = explorer.sizes(hospitals, children)
            assert sum(sizes) == children
            assert min(sizes) >= 1


def test_their_risk_is_that_of_the_library_and_a_difference_shifts_it():
    plain, shifted = (explorer.draw(0, 1, slice(5), shift) for shift in (0.0, 0.7))
    for features, risk in zip(plain.features, plain.log_odds, strict=True):
        named = dict(zip(sickle_cell.TYPICAL, features, strict=True))
        assert risk == pytest.approx(sickle_cell.log_odds(named))
    np.testing.assert_allclose(shifted.log_odds - plain.log_odds, 0.7)
    many = explorer.draw(0, 0, slice(None), 0.0).labels
    assert len(many) == 1040
    assert many.mean() == pytest.approx(sickle_cell.PREVALENCE, abs=0.05)


def test_hospitals_train_and_are_judged_on_different_children():
    task = explorer.Task(3, 0.5, 65, seed=0)
    drawn = [*task.train(), *task.tests()]
    assert [len(one.labels) for one in drawn] == [32, 22, 11, 400, 400, 400]
    features = np.concatenate([one.features for one in drawn])
    assert len(np.unique(features, axis=0)) == len(features)


def test_who_has_seen_no_infarct_predicts_none():
    task = explorer.Task(3, 0.0, 65, seed=0)
    healthy = explorer.Drawn(np.zeros((4, 6)), np.zeros(4), np.zeros(4, dtype=int))
    assert explorer.threshold(lambda children: children.log_odds, healthy) == np.inf
    rule = explorer.Rule(lambda children: children.log_odds, np.inf)
    assert rule.worth(task.tests()[0])["F1"] == 0


# --- an exploration --------------------------------------------------------------------------------


def test_an_exploration_reports_repeats_and_ends_when_it_is_outdated(monkeypatch):
    monkeypatch.setattr(explorer, "CHILDREN", (65, 1040))
    seen, stop = [], threading.Event()
    one = explorer.explore(2, 0.0, "FedMedian", repetitions=1, report=seen.append)
    assert seen == [1]
    mean = explorer.explore(2, 0.0, "FedAvg, equal weights", repetitions=1)
    assert one["mean"].tolist() == pytest.approx(mean["mean"].tolist()), "the median of two is their mean"
    with pytest.raises(Stopped):
        explorer.explore(2, 0.0, "FedAvg", report=lambda done: stop.set(), stop=stop)


def test_words_hold_the_numbers_of_a_setting(found):
    one = found[6, 0.0, "FedAvg"]
    said, mean = (say(one, explorer.SMALLEST, explorer.AUROC) for say in (explorer.describe, explorer.at))
    for children in (65, 1040):
        assert f"from {children:,} children {mean.loc[children, FEDERATED]:.2f} federated" in said
    assert "All of them has 0.50" in said
