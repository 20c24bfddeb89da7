"""Arithmetic on the transfer-learning paper's tables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemafl_book.papers import published
from hemafl_lib import evaluation
from hemafl_lib.errors import EvaluationError

EVERY_ROW = (*published.ALONE, *published.FEDERATED)


def test_four_of_thirteen_accuracies_can_come_from_the_test_set():
    table = published.grim([row.accuracy for row in EVERY_ROW])
    assert len(table) == 13
    assert table.loc[table["attainable"], "printed"].tolist() == ["86.31", "89.4", "85.93", "95.49"]
    assert table.loc[0, "nearest"] == "85.389 or 85.428"


def test_no_test_set_that_the_data_could_give_has_all_thirteen():
    accuracies = [row.accuracy for row in EVERY_ROW]
    possible = evaluation.sizes_consistent_with(accuracies, range(1, 5400))
    assert possible == [5303]
    assert possible[0] > 2 * published.TEST_IMAGES


def test_every_f1_is_the_mean_of_its_row():
    table = published.f1_from_row(EVERY_ROW)
    assert table["is the mean"].all()
    assert table["is the harmonic mean"].all(), "with the decimals printed the two means agree"
    other = table.loc[~table["to two decimals"], "network"]
    assert other.tolist() == ["EfficientNetB0", "MobileNetV2"]


def test_an_f1_that_is_neither_mean_is_seen():
    row = published.Row("made up", "90", "90.0", "80.0", "84.0")
    found = published.f1_from_row([row]).iloc[0]
    assert (found["mean"], found["harmonic mean"]) == ("85.00", "84.71")
    assert not found[["is the mean", "is the harmonic mean"]].any()


def test_the_leak_of_the_paper():
    assert published.share_with_sibling() == pytest.approx(0.973)
    assert published.distinct_originals() == pytest.approx(1914, abs=1)
    assert round(published.ORIGINALS * published.COPIES * 0.2) == published.TEST_IMAGES


@given(copies=st.integers(1, 6), share=st.sampled_from([0.1, 0.2, 0.5]))
@settings(max_examples=10, deadline=None)
def test_shares_of_a_random_split_are_those_of_a_simulation(copies, share):
    originals = 4000
    side = np.random.default_rng(0).random((originals, copies)) < share
    distinct = side.any(axis=1).mean()
    assert published.distinct_originals(originals, copies, share) / originals == pytest.approx(
        distinct, abs=0.03
    )
    sibling = side[:, 1:].any(axis=1).mean()
    assert published.share_with_sibling(copies, share) == pytest.approx(sibling, abs=0.03)


@pytest.mark.parametrize("options", [{"copies": 0}, {"training": 1.2}])
def test_impossible_copies_and_shares_are_refused(options):
    with pytest.raises(EvaluationError, match="give at least 1"):
        published.share_with_sibling(**options)
