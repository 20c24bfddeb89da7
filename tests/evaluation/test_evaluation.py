"""What a user may rely on when a model is judged."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics
from sklearn.calibration import calibration_curve

from hemafl_lib import evaluation
from hemafl_lib.errors import EvaluationError

CLASSES = ("a", "b", "c", "d")


@st.composite
def answers(draw):
    rows = draw(st.integers(1, 60))
    column = st.lists(st.integers(0, 3), min_size=rows, max_size=rows)
    return np.array(draw(column)), np.array(draw(column))


def probabilities(rows=200, classes=4, seed=0, sharpness=1.5):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, rows)
    logits = generator.normal(size=(rows, classes)) + sharpness * np.eye(classes)[labels]
    scores = np.exp(logits)
    return labels, scores / scores.sum(axis=1, keepdims=True)


# Classification


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(max_examples=60, deadline=None)
@given(pair=answers())
def test_means_agree_with_scikit_learn(pair):
    labels, predicted = pair
    present = np.unique(labels)
    assert evaluation.accuracy(labels, predicted) == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert evaluation.balanced_accuracy(labels, predicted) == pytest.approx(
        metrics.balanced_accuracy_score(labels, predicted)
    )
    assert evaluation.macro_f1(labels, predicted) == pytest.approx(
        metrics.f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
    )


@settings(max_examples=40, deadline=None)
@given(pair=answers())
def test_tables_agree_with_each_other_and_with_the_means(pair):
    labels, predicted = pair
    counts = evaluation.confusion_matrix(labels, predicted, CLASSES)
    table = evaluation.per_class(labels, predicted, CLASSES)
    assert np.array_equal(counts, metrics.confusion_matrix(labels, predicted, labels=range(4)))
    assert counts.sum(axis=1).tolist() == table["support"].tolist()
    assert table["recall"].mean() == pytest.approx(evaluation.balanced_accuracy(labels, predicted))
    present = table["support"] > 0
    assert table.loc[present, "f1"].mean() == pytest.approx(evaluation.macro_f1(labels, predicted))


def test_torch_tensors_are_welcome():
    labels = torch.tensor([0, 1, 1, 0])
    assert evaluation.balanced_accuracy(labels, torch.tensor([0, 1, 0, 0])) == 0.75


def test_classes_without_rows_are_left_out_and_shown_as_nan():
    labels, predicted = [0, 0, 1, 1], [0, 2, 1, 1]
    assert evaluation.balanced_accuracy(labels, predicted) == 0.75
    table = evaluation.per_class(labels, predicted, CLASSES)
    assert np.isnan(table.loc["c", "recall"])
    assert table.loc["c", "precision"] == 0
    assert table.loc["d"].isna().tolist() == [True, True, True, False]


def test_prior_adjusted_precision_is_plain_precision_under_the_prior_of_the_data():
    labels, scores = probabilities()
    predicted = scores.argmax(axis=1)
    prior = np.bincount(labels, minlength=4) / len(labels)
    adjusted = evaluation.prior_adjusted_precision(labels, predicted, CLASSES, prior)
    plain = evaluation.per_class(labels, predicted, CLASSES)["precision"]
    assert adjusted.to_numpy() == pytest.approx(plain.to_numpy())


def test_prior_adjusted_precision_is_the_precision_of_a_resampled_test_set():
    labels, scores = probabilities(400)
    predicted = scores.argmax(axis=1)
    prior = np.array([0.7, 0.1, 0.1, 0.1])
    weight = (prior / np.bincount(labels))[labels]
    rows = np.random.default_rng(0).choice(len(labels), 100_000, p=weight)
    resampled = metrics.precision_score(labels[rows], predicted[rows], average=None)
    adjusted = evaluation.prior_adjusted_precision(labels, predicted, CLASSES, prior)
    assert adjusted.to_numpy() == pytest.approx(resampled, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(pair=answers(), times=st.integers(2, 9))
def test_adjusted_precision_does_not_depend_on_how_common_a_class_is(pair, times):
    labels, predicted = pair
    more = np.concatenate([np.arange(len(labels)), *[np.flatnonzero(labels == labels[0])] * times])
    before, after = (
        evaluation.prior_adjusted_precision(labels[rows], predicted[rows], CLASSES)
        for rows in (np.arange(len(labels)), more)
    )
    assert before.to_numpy() == pytest.approx(after.to_numpy(), nan_ok=True)


def test_restriction_drops_rows_and_columns_and_rescales():
    labels = np.array([0, 1, 2, 3])
    scores = np.array([[0.4, 0.2, 0.4, 0], [0.1, 0.3, 0.6, 0], [0, 0, 1, 0], [0.25, 0, 0, 0.75]])
    kept = evaluation.restrict(labels, scores, CLASSES, ("d", "b", "a"))
    assert kept.rows.tolist() == [0, 1, 3]
    assert kept.labels.tolist() == [2, 1, 0]
    assert kept.scores == pytest.approx(np.array([[0, 1 / 3, 2 / 3], [0, 0.75, 0.25], [0.75, 0, 0.25]]))
    assert kept.scores.argmax(axis=1).tolist() == [2, 1, 0]


def test_restriction_to_all_classes_changes_nothing():
    labels, scores = probabilities()
    kept = evaluation.restrict(labels, scores, CLASSES, CLASSES)
    assert np.array_equal(kept.labels, labels)
    assert kept.scores == pytest.approx(scores)


# Calibration


def test_reliability_agrees_with_scikit_learn():
    labels, scores = probabilities(500)
    table = evaluation.reliability(labels, scores, bins=10)
    right = scores.argmax(axis=1) == labels
    happened, stated = calibration_curve(right, scores.max(axis=1), n_bins=10)
    filled = table[table["count"] > 0]
    assert filled["accuracy"].to_numpy() == pytest.approx(happened)
    assert filled["confidence"].to_numpy() == pytest.approx(stated)
    assert table["count"].sum() == 500


def test_calibration_errors_by_hand():
    labels = [0, 1, 1, 1]
    scores = [[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]]
    assert evaluation.expected_calibration_error(labels, scores, bins=10) == pytest.approx(
        0.5 * abs(0.9 - 0.5) + 0.5 * abs(0.8 - 1.0)
    )
    assert evaluation.classwise_calibration_error(labels, scores, bins=10) == pytest.approx(
        0.5 * abs(0.1 - 0.5) + 0.5 * abs(0.8 - 1.0)
    )


def test_honest_scores_have_less_calibration_error_than_overconfident_ones():
    generator = np.random.default_rng(0)
    scores = generator.dirichlet(np.ones(4), 4000)
    labels = np.array([generator.choice(4, p=row) for row in scores])
    sharpened = scores**4 / (scores**4).sum(axis=1, keepdims=True)
    for error in (evaluation.expected_calibration_error, evaluation.classwise_calibration_error):
        assert error(labels, scores) < 0.03
        assert error(labels, sharpened) > 3 * error(labels, scores)
    assert evaluation.brier(labels, scores) < evaluation.brier(labels, sharpened)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 50), seed=st.integers(0, 1000), bins=st.integers(1, 30))
def test_calibration_measures_stay_in_their_range(rows, seed, bins):
    labels, scores = probabilities(rows, seed=seed)
    assert 0 <= evaluation.expected_calibration_error(labels, scores, bins) <= 1
    assert 0 <= evaluation.classwise_calibration_error(labels, scores, bins) <= 1
    assert 0 <= evaluation.brier(labels, scores) <= 2


def test_brier_agrees_with_scikit_learn():
    labels, scores = probabilities(classes=2)
    assert evaluation.brier(labels, scores) == pytest.approx(
        2 * metrics.brier_score_loss(labels, scores[:, 1])
    )
    labels, scores = probabilities()
    outcome = np.eye(4)[labels]
    by_class = [metrics.brier_score_loss(outcome[:, k], scores[:, k]) for k in range(4)]
    assert evaluation.brier(labels, scores) == pytest.approx(sum(by_class))


def test_certainty_is_scored_at_the_ends():
    assert evaluation.brier([0, 1], np.eye(2)) == 0
    assert evaluation.brier([1, 0], np.eye(2)) == 2
    assert evaluation.expected_calibration_error([0, 1], np.eye(2)) == 0
    assert evaluation.expected_calibration_error([1, 0], np.eye(2)) == 1


# Uncertainty


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(0).normal(size=150)
    ours = evaluation.bootstrap_interval(np.mean, [values], seed=0, draws=4000)
    scipys = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1)
    assert ours.estimate == values.mean()
    assert ours.low == pytest.approx(scipys.confidence_interval.low, abs=0.02)
    assert ours.high == pytest.approx(scipys.confidence_interval.high, abs=0.02)


def test_bootstrap_is_decided_by_its_seed():
    labels, scores = probabilities(80)
    arrays = [labels, scores.argmax(axis=1)]
    first, again, other = (
        evaluation.bootstrap_interval(evaluation.balanced_accuracy, arrays, seed=seed, draws=50)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert first.low <= first.estimate <= first.high


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        interval = evaluation.bootstrap_interval(
            np.mean, [generator.random(100) < 0.7], seed=seed, draws=200, level=0.9
        )
        hits += interval.low <= 0.7 <= interval.high
    assert 0.83 <= hits / 200 <= 0.96


def test_only_clustered_intervals_cover_where_patients_differ():
    generator = np.random.default_rng(0)
    patient = np.repeat(np.arange(30), 20)
    hits = {"rows": 0, "patients": 0}
    for seed in range(100):
        right = generator.random(600) < generator.beta(1.4, 0.6, 30)[patient]
        for name, cluster in (("rows", None), ("patients", patient)):
            interval = evaluation.bootstrap_interval(np.mean, [right], seed=seed, draws=200, cluster=cluster)
            hits[name] += interval.low <= 0.7 <= interval.high
    assert hits["patients"] >= 86
    assert hits["rows"] <= 70


def test_a_stratified_draw_keeps_the_class_counts():
    labels = np.array([0] * 40 + [1] * 3)

    def share(values):
        return float(np.mean(values))

    fixed = evaluation.bootstrap_interval(share, [labels], seed=0, draws=50, stratify=labels)
    assert fixed.low == fixed.high == fixed.estimate
    free = evaluation.bootstrap_interval(share, [labels], seed=0, draws=50)
    assert free.low < free.high


def test_whole_clusters_are_drawn_within_their_stratum():
    cluster = np.array(["p", "p", "p", "q", "r", "r"])
    group = np.array([0, 0, 0, 1, 1, 1])
    seen = set()

    def record(clusters, groups):
        seen.add(tuple(clusters.tolist()))
        return 0.0

    evaluation.bootstrap_interval(record, [cluster, group], seed=0, draws=60, cluster=cluster, stratify=group)
    assert seen == {("p", "p", "p", *rest) for rest in (("q", "q"), ("q", "r", "r"), ("r",) * 4)}


def test_a_model_does_not_differ_from_itself():
    labels, scores = probabilities()
    predicted = scores.argmax(axis=1)
    metric = evaluation.balanced_accuracy
    assert evaluation.paired_bootstrap(metric, labels, predicted, predicted, seed=0, draws=20) == (0, 0, 0)


def test_pairing_narrows_the_interval_and_swapping_turns_it_round():
    generator = np.random.default_rng(0)
    labels, scores = probabilities(400, sharpness=1)
    first = scores.argmax(axis=1)
    second = np.where(generator.random(400) < 0.05, (first + 1) % 4, first)
    metric = evaluation.accuracy
    paired = evaluation.paired_bootstrap(metric, labels, first, second, seed=0, draws=300)
    turned = evaluation.paired_bootstrap(metric, labels, second, first, seed=0, draws=300)
    alone = evaluation.bootstrap_interval(metric, [labels, first], seed=0, draws=300)
    assert paired.estimate == pytest.approx(metric(labels, first) - metric(labels, second))
    assert turned == pytest.approx((-paired.estimate, -paired.high, -paired.low))
    assert paired.high - paired.low < (alone.high - alone.low) / 2


@pytest.mark.parametrize(
    ("first_only", "second_only", "p_value"), [(0, 0, 1.0), (1, 9, 22 / 1024), (5, 5, 1.0), (0, 6, 2 / 64)]
)
def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_rows(first_only, second_only, p_value):
    labels = np.zeros(40, dtype=int)
    first, second = labels.copy(), labels.copy()
    first[20:], second[20:] = 1, 1
    second[:first_only] = 1
    first[10 : 10 + second_only] = 1
    assert evaluation.mcnemar(labels, first, second) == (first_only, second_only, pytest.approx(p_value))


SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=30)


@settings(max_examples=200, deadline=None)
@given(values=SHARES, level=st.floats(0.01, 0.99))
def test_an_interval_of_shares_is_possible_and_holds_the_mean(values, level):
    mean, low, high = evaluation.seed_interval(values, level)
    assert 0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1
    assert mean == pytest.approx(np.mean(values))


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.floats(-1, 1), min_size=2, max_size=30))
def test_an_interval_of_differences_is_students_inside_its_range(values):
    mean, low, high = evaluation.difference_interval(values, level=0.9)
    assert -1 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1
    if np.std(values) > 1e-6:
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
        assert (low, high) == pytest.approx(np.clip(expected, -1, 1))


@settings(max_examples=50, deadline=None)
@given(values=SHARES, level=st.floats(0.01, 0.99))
def test_wrong_answers_have_the_mirror_image_of_the_interval_of_right_ones(values, level):
    _, low, high = evaluation.seed_interval(values, level)
    mirrored = evaluation.seed_interval([1 - value for value in values], level)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((low, high), abs=1e-6)


def test_far_from_the_ends_the_interval_is_students():
    values = [0.50, 0.51, 0.49, 0.505, 0.495]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert evaluation.seed_interval(values)[1:] == pytest.approx(expected, abs=1e-5)


def test_seeds_that_split_the_same_rows_have_a_wider_interval():
    # Nadeau and Bengio (2003): the variance of the mean of 5 splits with 1 test row for 4 training rows is
    # s^2 (1/5 + 1/4).
    values = [0.02, 0.03, 0.01, 0.04, 0.05]
    plain, wide = (evaluation.difference_interval(values, overlap=share) for share in (0.0, 0.25))
    assert (wide.high - wide.estimate) == pytest.approx((plain.high - plain.estimate) * np.sqrt(0.45 / 0.2))
    scores = [0.9, 0.95, 0.97]
    assert evaluation.seed_interval(scores, overlap=0.25).low < evaluation.seed_interval(scores).low


@pytest.mark.parametrize(("count", "rows"), [(0, 5), (3, 40), (39, 40), (7, 7)])
def test_the_interval_of_a_share_is_wilsons(count, rows):
    expected = stats.binomtest(count, rows).proportion_ci(method="wilson")
    found = evaluation.share_interval(count / rows, rows)
    assert found == pytest.approx((count / rows, expected.low, expected.high))


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_equal_seeds_give_an_interval_of_no_width(value):
    assert evaluation.seed_interval([value] * 3) == (value, value, value)
    assert evaluation.difference_interval([value] * 3) == (value, value, value)


@pytest.mark.parametrize(("mean", "spread"), [(0.5, 0.1), (0.8, 0.15), (0.95, 0.03)])
@pytest.mark.parametrize("seeds", [3, 5, 10, 30])
def test_coverage_of_intervals(mean, spread, seeds):
    # The numbers in the docstring of seed_interval: 2,000 experiments have a standard error of 0.005.
    size = mean * (1 - mean) / spread**2 - 1
    draws = np.random.default_rng(0).beta(mean * size, (1 - mean) * size, (2000, seeds))
    found = np.array([evaluation.seed_interval(values)[1:] for values in draws])
    reach = stats.t.ppf(0.975, seeds - 1) * stats.sem(draws, axis=1)
    covered = np.mean((found[:, 0] <= mean) & (mean <= found[:, 1]))
    assert 0.92 < covered < 0.965
    assert covered >= np.mean(np.abs(draws.mean(axis=1) - mean) <= reach) - 0.003, "no worse than the plain t"


# Refusals


GOOD = np.full((3, 4), 0.25)
NAN = np.where(np.eye(3, 4) > 0, np.nan, GOOD)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: evaluation.accuracy([0, 1], [0]), "'labels' has 2 rows and 'predicted' 1"),
        (lambda: evaluation.accuracy([], []), "'labels' has shape"),
        (lambda: evaluation.accuracy([0.5], [1]), "one whole number a row"),
        (lambda: evaluation.accuracy([0, 1], [0, -1]), "'predicted' holds values from -1"),
        (lambda: evaluation.per_class([0, 4], [0, 1], CLASSES), "'labels' holds values from 0 to 4"),
        (lambda: evaluation.confusion_matrix([0, 1], [0, 9], CLASSES), "'predicted' holds"),
        (lambda: evaluation.brier([0, 1], GOOD), "'scores' 3"),
        (lambda: evaluation.brier([0, 1, 2], NAN), "must be probabilities"),
        (lambda: evaluation.brier([0, 1, 2], GOOD * 2), "apply a softmax"),
        (lambda: evaluation.brier([0, 1, 4], GOOD), "'labels' holds values"),
        (lambda: evaluation.brier([0, 1, 2], [0.1, 0.2, 0.3]), "one column a class"),
        (lambda: evaluation.reliability([0, 1, 2], GOOD, bins=0), "'bins' is 0"),
        (lambda: evaluation.restrict([0, 1, 2], GOOD, CLASSES, ("a", "z")), "'common' must name"),
        (lambda: evaluation.restrict([0, 1, 2], GOOD, CLASSES, ("a", "a")), "each once"),
        (lambda: evaluation.restrict([0, 1, 2], GOOD, CLASSES[:3], ("a",)), "name every column"),
        (lambda: evaluation.restrict([0, 1, 2], GOOD, CLASSES, ("d",)), "no row"),
        (lambda: evaluation.restrict([0], [[0, 0, 0, 1.0]], CLASSES, ("a", "b")), "row 0 are 0"),
        (lambda: evaluation.prior_adjusted_precision([0], [0], CLASSES, [1, 1, 1, 1]), "'prior' must"),
        (lambda: evaluation.prior_adjusted_precision([0], [0], CLASSES, [0.5, 0.5, 0, 0]), "no row of b"),
        (lambda: evaluation.bootstrap_interval(np.mean, [[]], seed=0), "for 0 rows"),
        (lambda: evaluation.bootstrap_interval(np.mean, [[1, 2], [1]], seed=0), "differ in length"),
        (
            lambda: evaluation.bootstrap_interval(np.mean, [[1, 2]], seed=0, cluster=[1]),
            "'cluster' has shape",
        ),
        (lambda: evaluation.bootstrap_interval(np.mean, [[1, 2]], seed=0, draws=0), "'draws' is 0"),
        (lambda: evaluation.bootstrap_interval(np.mean, [[1, 2]], seed=0, level=95), "'level' 95"),
        (lambda: evaluation.bootstrap_interval(lambda x: np.nan, [[1, 2]], seed=0), "not finite"),
        (
            lambda: evaluation.bootstrap_interval(
                np.mean, [[1, 2]], seed=0, cluster=["p", "p"], stratify=[0, 1]
            ),
            "lies in two strata",
        ),
        (lambda: evaluation.mcnemar([0, 1], [0, 1], [0]), "'predicted' 1"),
        (lambda: evaluation.seed_interval([0.5]), "at least two seeds"),
        (lambda: evaluation.seed_interval([0.5, np.inf]), "finite"),
        (lambda: evaluation.seed_interval([0.5, 0.6], level=1), "'level' is 1"),
        (lambda: evaluation.seed_interval([0.5, 60.0]), "give shares in"),
        (lambda: evaluation.seed_interval([-0.1, 0.2]), "or use difference_interval"),
        (lambda: evaluation.difference_interval([0.5, 1.5]), "differences of shares"),
        (lambda: evaluation.difference_interval([0.5]), "at least two seeds"),
        (lambda: evaluation.share_interval(1.5, 10), "'share' is 1.5"),
        (lambda: evaluation.difference_interval([0.5, 0.6], overlap=-1), "'overlap' is -1"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(call, sentence):
    with pytest.raises(EvaluationError, match=sentence):
        call()
