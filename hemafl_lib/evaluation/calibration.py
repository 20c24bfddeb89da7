"""Does a stated confidence of 80 % mean right four times in five?

Scores are probabilities, float[N, C]. The errors sort rows into ``bins`` equal-width bins of 0..1, each
open below and closed above (the first is closed on both sides).
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hemafl_lib.errors import EvaluationError
from hemafl_lib.evaluation.arrays import checked_scores


def _binned(probability: np.ndarray, happened: np.ndarray, bins: int) -> pd.DataFrame:
    """Return one row a bin: its edges, count, mean probability and the share that happened."""
    if bins < 1:
        raise EvaluationError(f"'bins' is {bins}; ask for at least 1.")
    edges = np.linspace(0, 1, bins + 1)
    number = np.searchsorted(edges[1:-1], probability)
    count = np.bincount(number, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    return pd.DataFrame(
        {
            "lower": edges[:-1],
            "upper": edges[1:],
            "count": count,
            "confidence": np.bincount(number, probability, bins) / filled,
            "accuracy": np.bincount(number, happened, bins) / filled,
        }
    )


def _error(table: pd.DataFrame) -> float:
    """Return the mean gap between confidence and accuracy, weighted by the bins' counts."""
    gap = (table["confidence"] - table["accuracy"]).abs()
    return float((gap * table["count"]).sum() / table["count"].sum())


def reliability(labels: ArrayLike, scores: ArrayLike, bins: int = 15) -> pd.DataFrame:
    """Return the points of a reliability diagram, one row a bin of the top score.

    Columns: ``lower``, ``upper``, ``count``, ``confidence`` (mean top score) and ``accuracy``, the last
    two NaN where the bin is empty.
    """
    true, probabilities = checked_scores(labels, scores)
    return _binned(probabilities.max(axis=1), probabilities.argmax(axis=1) == true, bins)


def expected_calibration_error(labels: ArrayLike, scores: ArrayLike, bins: int = 15) -> float:
    """Return the top-label ECE: the mean gap between confidence and accuracy, weighted by bin count.

    Definition of Guo et al., "On calibration of modern neural networks", ICML 2017; 0 is best.
    """
    return _error(reliability(labels, scores, bins))


def classwise_calibration_error(labels: ArrayLike, scores: ArrayLike, bins: int = 15) -> float:
    """Return the ECE of each class's own probability against "is it this class?", averaged over classes.

    Definition of Kull et al., "Beyond temperature scaling", NeurIPS 2019; 0 is best.
    """
    true, probabilities = checked_scores(labels, scores)
    errors = [_error(_binned(column, true == number, bins)) for number, column in enumerate(probabilities.T)]
    return float(np.mean(errors))


def brier(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the multi-class Brier score (Brier, 1950), 0 (best) to 2.

    The sum over classes of (probability - outcome) squared, averaged over rows. For two classes this
    is twice the score that counts the positive class alone.
    """
    true, probabilities = checked_scores(labels, scores)
    outcome = np.eye(probabilities.shape[1])[true]
    return float(((probabilities - outcome) ** 2).sum(axis=1).mean())
