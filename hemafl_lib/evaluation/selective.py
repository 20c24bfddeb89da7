"""Does a model know when it is wrong? What it gains by leaving doubtful cells to a person.

A row's confidence is its top score. Scores are probabilities, float[N, C].
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score

from hemafl_lib.evaluation.arrays import as_labels_and_scores


def _confidence(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the top score of each row, float64[N], and whether its class is right, bool[N]."""
    true, probabilities = as_labels_and_scores(labels, scores)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == true


def risk_coverage(labels: ArrayLike, scores: ArrayLike) -> pd.DataFrame:
    """Return the risk-coverage curve of a model that answers only if it is confident enough.

    Definition of El-Yaniv and Wiener, "On the foundations of noise-free selective classification", JMLR
    2010. One row for each distinct confidence, from the highest down, so that rows of equal confidence
    are answered together. Columns: ``threshold`` (the confidence from which on rows are answered),
    ``coverage`` (share of rows answered) and ``risk`` (share of wrong answers among them). The last row
    answers everything.
    """
    confidence, right = _confidence(labels, scores)
    threshold, group = np.unique(-confidence, return_inverse=True)
    answered = np.cumsum(np.bincount(group))
    wrong = np.cumsum(np.bincount(group, ~right))
    return pd.DataFrame(
        {"threshold": -threshold, "coverage": answered / len(right), "risk": wrong / answered}
    )


def area_under_risk_coverage(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the risk-coverage curve, from 0 (best) to 1.

    Definition of Geifman, Uziel and El-Yaniv, "Bias-reduced uncertainty estimation", ICLR 2019: the mean
    risk over all numbers of answered rows. Rows of equal confidence count with the risk of the whole
    group, so that their order does not matter. It falls with the error rate as well as with better
    confidence.
    """
    curve = risk_coverage(labels, scores)
    return float((curve["risk"] * np.diff(curve["coverage"], prepend=0)).sum())


def confidence_by_correctness(labels: ArrayLike, scores: ArrayLike) -> pd.DataFrame:
    """Return count, mean and median confidence of ``right`` and of ``wrong`` answers; NaN without any."""
    confidence, right = _confidence(labels, scores)
    groups = {"right": pd.Series(confidence[right]), "wrong": pd.Series(confidence[~right])}
    return pd.DataFrame(
        [{"count": len(group), "mean": group.mean(), "median": group.median()} for group in groups.values()],
        index=pd.Index(groups, name="answer"),
    )


def confidence_auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return how often a right answer is more confident than a wrong one (ties count half).

    It is the area under the ROC curve of confidence as a sign of being right: 1 is best, 0.5 is chance,
    NaN if all answers are right or all wrong. Unlike a calibration error it does not change with the
    scale of the confidence.
    """
    confidence, right = _confidence(labels, scores)
    if right.all() or not right.any():
        return float("nan")
    return float(roc_auc_score(right, confidence))
