"""What a user may rely on in ROC curves of several classes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from hemafl_lib import evaluation
from hemafl_lib.errors import EvaluationError
from hemafl_lib.evaluation.roc import POINTS


def answers(rows: int = 60, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    scores = rng.random((rows, classes)) + np.eye(classes)[labels] * 0.5
    return labels, scores / scores.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_areas_are_those_of_scikit_learn(average):
    labels, scores = answers()
    expected = roc_auc_score(labels, scores, multi_class="ovr", average=average)
    assert evaluation.area_under_roc(labels, scores, average) == pytest.approx(expected)


def test_a_class_without_rows_is_left_out():
    labels, scores = answers()
    kept = labels != 2
    expected = np.mean([roc_auc_score(labels[kept] == c, scores[kept, c]) for c in (0, 1, 3)])
    assert evaluation.area_under_roc(labels[kept], scores[kept], "macro") == pytest.approx(expected)
    assert "c" not in set(evaluation.roc_curves(labels[kept], scores[kept], "abcd")["curve"])


def test_micro_and_macro_differ_where_classes_are_unequal():
    labels, scores = answers(200)
    rare = np.flatnonzero(labels == 3)[5:]
    labels, scores = np.delete(labels, rare), np.delete(scores, rare, axis=0)
    micro, macro = (evaluation.area_under_roc(labels, scores, average) for average in ("micro", "macro"))
    assert abs(micro - macro) > 1e-3


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_curves_rise_to_one_and_enclose_the_area(seed):
    labels, scores = answers(400, 3, seed)
    curves = evaluation.roc_curves(labels, scores, ("a", "b", "c"))
    assert set(curves["curve"]) == {"a", "b", "c", "micro", "macro"}
    for name, curve in curves.groupby("curve"):
        assert len(curve) == POINTS
        assert (np.diff(curve["true positives"]) >= -1e-12).all()
        assert curve["true positives"].iloc[-1] == pytest.approx(1)
        if name in ("micro", "macro"):
            area = np.trapezoid(curve["true positives"], curve["false positives"])
            assert area == pytest.approx(evaluation.area_under_roc(labels, scores, name), abs=0.01)


def test_perfect_scores_find_all_at_no_false_positive():
    labels = np.arange(12) % 3
    curves = evaluation.roc_curves(labels, np.eye(3)[labels], ("a", "b", "c"))
    assert (curves["true positives"] == 1).all()
    assert evaluation.area_under_roc(labels, np.eye(3)[labels], "micro") == 1


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        ([0, 0, 0], ("macro",), "single class"),
        ([0, 1, 0], ("weighted",), "'average' is 'weighted'"),
    ],
)
def test_what_has_no_area_is_refused(labels, arguments, message):
    with pytest.raises(EvaluationError, match=message):
        evaluation.area_under_roc(np.array(labels), np.full((3, 2), 0.5), *arguments)


def test_every_column_needs_a_name():
    labels, scores = answers()
    with pytest.raises(EvaluationError, match="name every column"):
        evaluation.roc_curves(labels, scores, ("a", "b"))
