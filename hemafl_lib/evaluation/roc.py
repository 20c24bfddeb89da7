"""ROC curves of several classes: one curve a class against the rest, and two ways to make one of them.

"The AUC" of four classes is no defined number. The **macro** average gives every class the same weight: the
mean of the classes' areas. The **micro** average throws all scores of all classes together: is this row of
this class? A common and easy class then weighs more, and scores have to be comparable between classes.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score, roc_curve

from hemafl_lib.errors import EvaluationError
from hemafl_lib.evaluation.arrays import as_labels_and_scores

POINTS = 101
"""Shares of false positives, evenly spaced from 0 to 1, at which curves are given."""


def one_vs_rest(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows are of which class, bool[N, C], and the scores, float64[N, C].

    Raises
    ------
    EvaluationError
        If the scores are not probabilities, or the labels are all of one class.
    """
    true, probabilities = as_labels_and_scores(labels, scores)
    if len(np.unique(true)) < 2:
        raise EvaluationError("'labels' holds a single class; a ROC curve needs rows of at least two.")
    return true[:, None] == np.arange(probabilities.shape[1]), probabilities


def area_under_roc(labels: ArrayLike, scores: ArrayLike, average: Literal["micro", "macro"]) -> float:
    """Return the area under the one-vs-rest ROC curves, averaged over the classes that occur.

    Equal to scikit-learn's ``roc_auc_score`` with ``multi_class="ovr"`` where every class occurs.

    Parameters
    ----------
    labels, scores
        Class numbers int[N] and probabilities float[N, C].
    average
        ``"macro"``: the mean of the classes' areas; ``"micro"``: one curve of all rows and classes.

    Raises
    ------
    EvaluationError
        See `one_vs_rest`, or if the average is unknown.
    """
    if average not in ("micro", "macro"):
        raise EvaluationError(f"'average' is '{average}'; choose 'micro' or 'macro'.")
    is_class, probabilities = one_vs_rest(labels, scores)
    present = is_class.any(axis=0)
    return float(roc_auc_score(is_class[:, present], probabilities[:, present], average=average))


def roc_curves(labels: ArrayLike, scores: ArrayLike, classes: Sequence[str]) -> pd.DataFrame:
    """Return the ROC curve of every class that occurs, and their micro and macro average.

    Columns: ``curve`` (a class, "micro" or "macro"), ``false positives`` (`POINTS` shares from 0 to 1) and
    ``true positives`` (the share found there, linear between the steps). The macro curve is the mean of the
    classes' curves.

    Raises
    ------
    EvaluationError
        See `one_vs_rest`, or if ``classes`` does not name every column.
    """
    is_class, probabilities = one_vs_rest(labels, scores)
    if len(classes) != is_class.shape[1]:
        raise EvaluationError(
            f"'classes' has {len(classes)} names and 'scores' {is_class.shape[1]} columns; name every column."
        )
    present = np.flatnonzero(is_class.any(axis=0)).tolist()
    curves = {classes[c]: _curve(is_class[:, c], probabilities[:, c]) for c in present}
    curves["macro"] = np.mean([curves[classes[c]] for c in present], axis=0)
    curves["micro"] = _curve(is_class[:, present].ravel(), probabilities[:, present].ravel())
    grid = np.linspace(0, 1, POINTS)
    parts = [
        pd.DataFrame({"curve": name, "false positives": grid, "true positives": found})
        for name, found in curves.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _curve(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the share of positives found at `POINTS` shares of false positives; the first is none."""
    false, true, _ = roc_curve(positive, score)
    # Several shares may be found at no false positive at all: the curve rises there to the last of them.
    last = np.append(np.diff(false) > 0, True)
    return np.interp(np.linspace(0, 1, POINTS), false[last], true[last])
