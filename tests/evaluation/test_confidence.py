"""What a user may rely on when a model says how sure it is."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from hemafl_lib import evaluation
from hemafl_lib.errors import EvaluationError

CLASSES = ("a", "b", "c", "d")


def honest(rows, seed=0, concentration=0.6):
    """Probabilities, and labels drawn from them."""
    generator = np.random.default_rng(seed)
    scores = generator.dirichlet(np.full(4, concentration), rows)
    labels = (scores.cumsum(axis=1) < generator.random((rows, 1))).sum(axis=1)
    return np.minimum(labels, 3), scores


def likelihood_loss(labels, scores):
    return metrics.log_loss(labels, scores, labels=range(4))


# Temperature


def torch_temperature(labels, scores):
    """The usual way: L-BFGS on the logarithm of the temperature."""
    logits = torch.log(torch.from_numpy(scores))
    log_temperature = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits / log_temperature.exp(), torch.from_numpy(labels))
        loss.backward()
        return loss

    optimiser.step(closure)
    return log_temperature.exp().item()


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_that_of_lbfgs_and_near_the_one_that_was_applied(true_temperature):
    labels, scores = honest(3000)
    distorted = evaluation.apply_temperature(scores, 1 / true_temperature)
    found = evaluation.fit_temperature(labels, distorted)
    assert found == pytest.approx(torch_temperature(labels, distorted), rel=1e-3)
    assert found == pytest.approx(true_temperature, rel=0.06)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 60), seed=st.integers(0, 1000), sharpness=st.floats(0.3, 3))
def test_a_fitted_temperature_keeps_the_answers_and_never_makes_its_own_rows_less_likely(
    rows, seed, sharpness
):
    labels, scores = honest(rows, seed, concentration=2.0)
    stated = evaluation.apply_temperature(scores, sharpness)
    mended = evaluation.apply_temperature(stated, evaluation.fit_temperature(labels, stated))
    assert np.array_equal(mended.argmax(axis=1), stated.argmax(axis=1))
    assert likelihood_loss(labels, mended) <= likelihood_loss(labels, stated) + 1e-9


def test_a_temperature_of_one_changes_nothing_and_two_in_a_row_multiply():
    _, scores = honest(50)
    assert evaluation.apply_temperature(scores, 1) == pytest.approx(scores)
    twice = evaluation.apply_temperature(evaluation.apply_temperature(scores, 2), 3)
    assert twice == pytest.approx(evaluation.apply_temperature(scores, 6))


def test_log_probabilities_serve_as_logits():
    logits = np.random.default_rng(0).normal(size=(20, 4)) * 5
    scores = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    expected = torch.softmax(torch.from_numpy(logits / 1.7), dim=1).numpy()
    assert evaluation.apply_temperature(scores, 1.7) == pytest.approx(expected)


def test_zero_stays_zero_at_any_temperature():
    scores = np.array([[0.0, 0.2, 0.8, 0.0], [1.0, 0.0, 0.0, 0.0]])
    mended = evaluation.apply_temperature(scores, 4)
    assert np.array_equal(mended == 0, scores == 0)
    assert mended.sum(axis=1) == pytest.approx(1)


def test_rows_that_are_all_right_push_the_temperature_to_its_lower_end():
    labels = np.arange(4)
    assert evaluation.fit_temperature(labels, np.full((4, 4), 0.2) + 0.2 * np.eye(4)) < 0.06


# Conformal sets

SETTINGS = [("lac", False), ("aps", False), ("aps", True)]


def generators(random, seed):
    return np.random.default_rng(seed) if random else None


@pytest.mark.parametrize(("method", "random"), SETTINGS)
def test_sets_cover_as_often_as_they_promise(method, random):
    """Given n calibration rows the coverage has a beta distribution (Vovk, 2012), at best or from below."""
    alpha, known, draws = 0.15, 60, 150
    coverage = []
    for seed in range(draws):
        labels, scores = honest(known + 400, seed)
        options = {"method": method, "generator": generators(random, seed)}
        threshold = evaluation.conformal_threshold(labels[:known], scores[:known], alpha, **options)
        sets = evaluation.prediction_sets(scores[known:], threshold, **options)
        coverage.append(sets[np.arange(400), labels[known:]].mean())
    rank = math.ceil((known + 1) * (1 - alpha))
    beta = stats.beta(rank, known + 1 - rank)
    slack = 4 * math.sqrt((beta.var() + alpha * (1 - alpha) / 400) / draws)
    assert np.mean(coverage) >= 1 - alpha - slack
    if method == "lac" or random:
        assert np.mean(coverage) == pytest.approx(beta.mean(), abs=slack)
        assert np.std(coverage) == pytest.approx(
            math.sqrt(beta.var() + beta.mean() * (1 - beta.mean()) / 400), rel=0.25
        )


def test_class_conditional_sets_keep_the_promise_for_a_rare_and_hard_class():
    generator = np.random.default_rng(0)
    labels = np.where(generator.random(40_000) < 0.05, 3, generator.integers(0, 3, 40_000))
    logits = generator.normal(size=(40_000, 4)) + np.array([3, 3, 3, 1.0])[labels, None] * np.eye(4)[labels]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    coverage = {}
    for by_class in (False, True):
        threshold = evaluation.conformal_threshold(labels[:20_000], scores[:20_000], 0.1, by_class=by_class)
        sets = evaluation.prediction_sets(scores[20_000:], threshold)
        coverage[by_class] = evaluation.set_summary(labels[20_000:], sets, CLASSES)["coverage"]
    assert coverage[False]["overall"] == pytest.approx(0.9, abs=0.01)
    assert coverage[False]["d"] < 0.75
    assert coverage[True].to_numpy() == pytest.approx(0.9, abs=0.04)


@pytest.mark.parametrize(("method", "random"), SETTINGS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 40), alpha=st.floats(0.01, 0.99))
def test_the_calibration_rows_themselves_are_covered(method, random, seed, rows, alpha):
    labels, scores = honest(rows, seed)
    threshold = evaluation.conformal_threshold(
        labels, scores, alpha, method=method, generator=generators(random, seed)
    )
    sets = evaluation.prediction_sets(scores, threshold, method=method, generator=generators(random, seed))
    assert sets[np.arange(rows), labels].mean() >= 1 - alpha - 1e-9
    assert np.all(np.isinf(threshold)) == (rows < 1 / alpha - 1 - 1e-9)
    if method == "aps" and not random:
        assert np.all(sets[np.arange(rows), scores.argmax(axis=1)])


def test_too_few_rows_leave_every_class_in_the_set():
    labels, scores = honest(8)
    threshold = evaluation.conformal_threshold(labels, scores, 0.1)
    assert np.all(np.isinf(threshold))
    assert evaluation.prediction_sets(scores, threshold).all()
    labels, scores = honest(9)
    assert np.all(np.isfinite(evaluation.conformal_threshold(labels, scores, 0.1)))


def test_a_class_without_calibration_rows_is_in_every_set():
    labels, scores = honest(200)
    labels = labels % 3
    threshold = evaluation.conformal_threshold(labels, scores, 0.2, by_class=True)
    assert np.isinf(threshold).tolist() == [False, False, False, True]
    assert evaluation.prediction_sets(scores, threshold)[:, 3].all()


def test_the_rank_of_the_threshold_does_not_suffer_from_rounding():
    """Of 9 rows, (9 + 1) * (1 - 0.7) is rank 3, although it is a little more in floating point."""
    scores = np.stack([np.linspace(0.55, 0.95, 9), np.linspace(0.45, 0.05, 9)], axis=1)
    threshold = evaluation.conformal_threshold(np.zeros(9, dtype=int), scores, 0.7)
    assert threshold == pytest.approx(np.array([0.15, 0.15]))


def test_an_alpha_near_one_takes_the_lowest_calibration_score():
    labels, scores = honest(9)
    threshold = evaluation.conformal_threshold(labels, scores, 1 - 1e-12)
    assert threshold == pytest.approx(np.full(4, (1 - scores[np.arange(9), labels]).min()))


def romano_set(row, u, level):
    """The generalised conditional quantile set of Romano, Sesia and Candès (2020), equations 3 to 5."""
    order = np.argsort(-row)
    mass = np.cumsum(row[order])
    last = int(np.argmax(mass >= level))
    surplus = (mass[last] - level) / row[order[last]]
    return set(order[: last if u <= surplus else last + 1].tolist())


@pytest.mark.parametrize("level", [0.3, 0.7, 0.95])
def test_random_adaptive_sets_are_those_of_the_paper(level):
    _, scores = honest(100)
    sets = evaluation.prediction_sets(scores, level, method="aps", generator=np.random.default_rng(5))
    share = np.random.default_rng(5).random(100)
    for row, u, found in zip(scores, 1 - share, sets, strict=True):
        assert set(np.flatnonzero(found).tolist()) == romano_set(row, u, level)


def test_adaptive_nonconformity_by_hand():
    scores = [[0.2, 0.5, 0.3], [0.0, 0.0, 1.0]]
    expected = np.array([[0.8, 0.0, 0.5], [1.0, 1.0, 0.0]])
    assert evaluation.nonconformity(scores, "aps") == pytest.approx(expected)
    assert evaluation.nonconformity(scores) == pytest.approx(1 - np.array(scores))


def test_summary_of_sets_by_hand():
    sets = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)
    table = evaluation.set_summary([0, 0, 1, 2], sets, CLASSES)
    assert table.index.tolist() == ["overall", *CLASSES]
    assert table["rows"].tolist() == [4, 2, 1, 1, 0]
    assert table["coverage"].tolist()[:4] == [0.5, 0.5, 0, 1]
    assert table["mean_size"].tolist()[:4] == [1.75, 1.5, 0, 4]
    assert table["empty"].tolist() == [1, 0, 1, 0, 0]
    assert table.loc["d", ["coverage", "mean_size"]].isna().all()


# Selective answers


def test_risk_coverage_by_hand_with_ties():
    scores = [[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.6, 0.4]]
    curve = evaluation.risk_coverage([0, 0, 0, 0], scores)
    assert curve["threshold"].tolist() == [0.9, 0.8, 0.6]
    assert curve["coverage"].tolist() == [0.25, 0.75, 1]
    assert curve["risk"].tolist() == pytest.approx([0, 1 / 3, 1 / 4])
    area = evaluation.area_under_risk_coverage([0, 0, 0, 0], scores)
    assert area == pytest.approx(0.5 * (1 / 3) + 0.25 * 0.25)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 80), seed=st.integers(0, 1000), decimals=st.sampled_from([1, 8]))
def test_the_risk_coverage_curve_is_what_answering_above_each_threshold_gives(rows, seed, decimals):
    labels, scores = honest(rows, seed)
    scores[:, 0] = scores[:, 0].round(decimals)
    scores /= scores.sum(axis=1, keepdims=True)
    curve = evaluation.risk_coverage(labels, scores)
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    for threshold, coverage, risk in curve.itertuples(index=False):
        answered = confidence >= threshold
        assert coverage == pytest.approx(answered.mean())
        assert risk == pytest.approx(1 - right[answered].mean())
    assert curve["threshold"].is_monotonic_decreasing
    assert curve["coverage"].is_monotonic_increasing
    assert curve["coverage"].iloc[-1] == 1
    order = np.random.default_rng(seed).permutation(rows)
    area = evaluation.area_under_risk_coverage(labels, scores)
    assert evaluation.area_under_risk_coverage(labels[order], scores[order]) == pytest.approx(area)
    assert 0 <= area <= 1


def test_the_area_without_ties_is_the_mean_risk_over_all_numbers_of_answers():
    labels, scores = honest(300)
    right = (scores.argmax(axis=1) == labels)[np.argsort(-scores.max(axis=1))]
    expected = np.mean(np.cumsum(~right) / np.arange(1, 301))
    assert evaluation.area_under_risk_coverage(labels, scores) == pytest.approx(expected)


def test_confidence_that_knows_its_mistakes_has_a_smaller_area_than_one_that_does_not():
    labels = np.zeros(4, dtype=int)
    right, wrong = [[0.9, 0.1], [0.8, 0.2]], [[0.3, 0.7], [0.4, 0.6]]
    knows = evaluation.area_under_risk_coverage(labels, right + wrong)
    errs = evaluation.area_under_risk_coverage(labels, [[0.7, 0.3], [0.6, 0.4], [0.1, 0.9], [0.2, 0.8]])
    assert knows == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert errs == pytest.approx((1 + 1 + 2 / 3 + 1 / 2) / 4)


def test_confidence_of_right_and_wrong_answers():
    scores = [[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]]
    table = evaluation.confidence_by_correctness([0, 0, 0, 0], scores)
    assert table.loc["right"].tolist() == pytest.approx([3, (0.9 + 0.7 + 0.6) / 3, 0.7])
    assert table.loc["wrong"].tolist() == pytest.approx([1, 0.8, 0.8])
    assert evaluation.confidence_auroc([0, 0, 0, 0], scores) == pytest.approx(1 / 3)
    table = evaluation.confidence_by_correctness([0, 0, 0, 1], scores)
    assert table.loc["wrong", "count"] == 0
    assert table.loc["wrong", ["mean", "median"]].isna().all()


def test_confidence_auroc_is_the_chance_that_a_right_answer_is_more_confident():
    labels, scores = honest(150)
    confidence, right = (0.5 + scores.max(axis=1) / 2).round(2), scores.argmax(axis=1) == labels
    pairs = confidence[right][:, None] - confidence[~right]
    two = np.stack([confidence, 1 - confidence], axis=1)
    found = evaluation.confidence_auroc(np.where(right, 0, 1), two)
    assert found == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    assert np.isnan(evaluation.confidence_auroc([0], [[0.9, 0.1]]))
    assert np.isnan(evaluation.confidence_auroc([1], [[0.9, 0.1]]))


# Refusals

GOOD = np.full((3, 4), 0.25)
SURE = np.eye(3, 4)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: evaluation.fit_temperature([0, 1], GOOD), "'scores' 3"),
        (lambda: evaluation.fit_temperature([0, 2, 1], SURE), "row 1 give the true class probability 0"),
        (lambda: evaluation.apply_temperature(GOOD, 0), "'temperature' is 0"),
        (lambda: evaluation.apply_temperature(GOOD, np.nan), "'temperature' is nan"),
        (lambda: evaluation.apply_temperature(GOOD * 2, 1), "apply a softmax"),
        (lambda: evaluation.nonconformity(GOOD, "raps"), "'method' is 'raps'"),
        (lambda: evaluation.nonconformity(GOOD, "lac", np.random.default_rng(0)), "without a generator"),
        (lambda: evaluation.conformal_threshold([0, 1, 2], GOOD, 90), "'alpha' is 90"),
        (lambda: evaluation.conformal_threshold([0, 1, 2], GOOD, 0), "'alpha' is 0"),
        (lambda: evaluation.conformal_threshold([0, 1], GOOD, 0.1), "same rows in both"),
        (lambda: evaluation.prediction_sets(GOOD, [0.1, 0.2]), "'threshold' has shape"),
        (lambda: evaluation.prediction_sets(GOOD, np.nan), "none of them NaN"),
        (lambda: evaluation.set_summary([0, 1, 2], GOOD, CLASSES), "'sets' has shape"),
        (lambda: evaluation.set_summary([0, 1], GOOD > 0, CLASSES), "2 rows and 4 classes"),
        (lambda: evaluation.set_summary([0, 1, 4], GOOD > 0, CLASSES), "'labels' holds"),
        (lambda: evaluation.risk_coverage([0, 1, 2], GOOD * 3), "apply a softmax"),
        (lambda: evaluation.confidence_auroc([], np.empty((0, 4))), "'labels' has shape"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(call, sentence):
    with pytest.raises(EvaluationError, match=sentence):
        call()
