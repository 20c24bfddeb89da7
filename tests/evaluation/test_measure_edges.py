"""Measures at the edge: no pairs, ties, one row, and cohorts of tens of thousands."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sksurv.metrics import concordance_index_ipcw
from sksurv.nonparametric import kaplan_meier_estimator
from sksurv.util import Surv

from hemafl_lib import evaluation
from hemafl_lib.errors import EvaluationError
from hemafl_lib.seeds import torch_generator
from hemafl_lib.training import CELLS, Pairs, compare_pairs

OUTCOME = np.array([[1, 1], [2, 0], [2, 1], [3, 1], [4, 0]])


def by_hand(outcome, risk, train, horizon):
    """Uno's C pair by pair, with the ties that its docstring states."""
    steps, share = kaplan_meier_estimator(train[:, 1] == 1, train[:, 0], reverse=True)
    right = total = 0.0
    for time, event, mine in zip(*outcome.T, risk, strict=True):
        if not event or time >= horizon:
            continue
        weight = share[np.searchsorted(steps, time, side="right") - 1] ** -2 if time >= steps[0] else 1.0
        later = (outcome[:, 0] > time) | ((outcome[:, 0] == time) & (outcome[:, 1] == 0))
        right += weight * ((risk[later] < mine).sum() + (risk[later] == mine).sum() / 2)
        total += weight * later.sum()
    return right / total if total else math.nan


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.integers(0, 2)), min_size=1, max_size=15),
    st.integers(2, 5),
)
@pytest.mark.survives(
    "Many deaths and censorings at one time, and equal risks",
    "Uno's C by the rule for ties that it states, or NaN",
)
def test_unos_c_with_ties_is_that_of_its_pairs(rows, horizon):
    outcome, risk = (
        np.array([row[:2] for row in rows], dtype=float),
        np.array([row[2] for row in rows], dtype=float),
    )
    train = np.array([[1, 1], [1, 0], [2, 1], [2, 0], [3, 0], [4, 1], [5, 1], [6, 1]], dtype=float)
    mine = evaluation.uno_c(outcome, risk, train=train, horizon=horizon)
    assert math.isnan(mine) or 0 <= mine <= 1
    assert mine == pytest.approx(by_hand(outcome, risk, train, horizon), nan_ok=True)
    if not math.isnan(mine):
        survival, reference = (Surv.from_arrays(part[:, 1] == 1, part[:, 0]) for part in (outcome, train))
        assert mine == concordance_index_ipcw(reference, survival, risk, tau=horizon, tied_tol=0.0)[0]
    assert math.isnan(evaluation.harrell_c(outcome, risk)) or 0 <= evaluation.harrell_c(outcome, risk) <= 1


@pytest.mark.survives(
    "A test of one patient, or in which no two can be compared",
    "Harrell's C and Uno's C are NaN, not an error",
)
def test_without_pairs_c_is_not_a_number():
    for outcome in ([[1, 1]], [[1, 0], [2, 0]], [[2, 1], [2, 1]]):
        risk = np.arange(len(outcome))
        assert math.isnan(evaluation.harrell_c(outcome, risk))
        assert math.isnan(evaluation.uno_c(outcome, risk, train=OUTCOME, horizon=4))


def whole(log_risk, time, event):
    """All pairs at once, in memory for events times patients."""
    risk, moment = log_risk[event, None], time[event, None]
    comparable = (moment < time) | ((moment == time) & ~event)
    counts = [comparable & (risk > log_risk), comparable & (risk < log_risk), comparable & (risk == log_risk)]
    return Pairs(*(int(count.sum()) for count in counts))


def many(count, seed=0):
    generator = torch_generator(seed, "many")
    risk = torch.randint(0, 1000, (count,), generator=generator).float()
    return (
        risk,
        torch.randint(1, 400, (count,), generator=generator),
        torch.rand(count, generator=generator) < 0.5,
    )


def test_pairs_compared_in_parts_are_all_pairs():
    assert CELLS < 1500**2 / 2
    assert compare_pairs(*many(1500)) == whole(*many(1500))
    assert compare_pairs(*many(0)) == Pairs()


@pytest.mark.survives("A cohort of tens of thousands of patients", "its C takes megabytes, not gigabytes")
def test_pairs_take_memory_for_some_rows_at_a_time(monkeypatch):
    largest, real = [], torch.Tensor.__and__
    monkeypatch.setattr(torch.Tensor, "__and__", lambda a, b: largest.append(a.numel()) or real(a, b))
    compare_pairs(*many(3000))
    assert 0 < max(largest) <= CELLS


BAD = [
    (lambda: evaluation.bootstrap_interval(np.mean, [], seed=0), "'arrays' must be a list of arrays"),
    (lambda: evaluation.bootstrap_interval(np.mean, [5], seed=0), "'arrays' must be a list of arrays"),
    (lambda: evaluation.bootstrap_interval(np.mean, [[]], seed=0), "for 0 rows"),
    (lambda: evaluation.kaplan_meier_at(OUTCOME, [1, math.nan]), "'times' holds a number that is missing"),
    (lambda: evaluation.apply_temperature([[0.5, 0.5]], 1e-320), "'temperature' is 1e-320"),
    (lambda: evaluation.apply_temperature([[0.5, 0.5]], math.nan), "'temperature' is nan"),
    (lambda: evaluation.seed_interval([1.0]), "at least two seeds"),
    (lambda: evaluation.seed_interval([1.0, math.nan]), "one finite number a seed"),
    (lambda: evaluation.brier([], np.zeros((0, 2))), "'labels' has shape"),
    (lambda: evaluation.brier([0], [[math.nan, 1.0]]), "must be probabilities"),
    (lambda: evaluation.area_under_roc([1, 1], [[0.5, 0.5]] * 2, "macro"), "a single class"),
    (lambda: evaluation.threshold_sweep([0, 0], [0.1, 0.2]), "holds no 1"),
    (
        lambda: evaluation.integrated_brier_score(OUTCOME, np.full((5, 2), 0.5), [1, 9], train=OUTCOME),
        "the longest time of 'train'",
    ),
    (
        lambda: evaluation.integrated_brier_score(OUTCOME, np.full((5, 2), 0.5), [0, 2], train=OUTCOME),
        "keep them from 1 to before 4",
    ),
]


@pytest.mark.parametrize(("call", "sentence"), BAD)
@pytest.mark.survives(
    "Labels, scores or times that are empty, NaN, of one class, or outside the follow-up", "a sentence"
)
def test_what_cannot_be_measured_is_refused(call, sentence):
    with pytest.raises(EvaluationError, match=re.escape(sentence)):
        call()


def test_a_prediction_set_from_one_row_holds_every_class():
    threshold = evaluation.conformal_threshold([0], [[0.9, 0.1]], 0.1)
    assert evaluation.prediction_sets([[0.2, 0.8]], threshold).all()
