"""Does a stated confidence of 80 % mean right four times in five?

Scores are probabilities, float[N, C]. The errors sort rows into ``bins`` equal-width bins of 0..1, each
open below and closed above (the first is closed on both sides).
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from hemafl_lib.errors import EvaluationError
from hemafl_lib.evaluation.arrays import as_labels_and_scores, as_probabilities

SHARPEST = 1e-6
"""Least temperature that can be applied: below it, logits divided by it may be no numbers."""

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0


def _bin_means(probability: np.ndarray, happened: np.ndarray, bins: int) -> pd.DataFrame:
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
    true, probabilities = as_labels_and_scores(labels, scores)
    return _bin_means(probabilities.max(axis=1), probabilities.argmax(axis=1) == true, bins)


def expected_calibration_error(labels: ArrayLike, scores: ArrayLike, bins: int = 15) -> float:
    """Return the top-label ECE: the mean gap between confidence and accuracy, weighted by bin count.

    Definition of Guo et al., "On calibration of modern neural networks", ICML 2017; 0 is best.
    """
    return _error(reliability(labels, scores, bins))


def classwise_calibration_error(labels: ArrayLike, scores: ArrayLike, bins: int = 15) -> float:
    """Return the ECE of each class's own probability against "is it this class?", averaged over classes.

    Definition of Kull et al., "Beyond temperature scaling", NeurIPS 2019; 0 is best.
    """
    true, probabilities = as_labels_and_scores(labels, scores)
    errors = [
        _error(_bin_means(column, true == number, bins)) for number, column in enumerate(probabilities.T)
    ]
    return float(np.mean(errors))


def brier(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the multi-class Brier score (Brier, 1950), 0 (best) to 2.

    The sum over classes of (probability - outcome) squared, averaged over rows. For two classes this
    is twice the score that counts the positive class alone.
    """
    true, probabilities = as_labels_and_scores(labels, scores)
    outcome = np.eye(probabilities.shape[1])[true]
    return float(((probabilities - outcome) ** 2).sum(axis=1).mean())


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    """Return log-probabilities, minus infinity where a probability is 0."""
    with np.errstate(divide="ignore"):
        return np.log(probabilities)


def fit_temperature(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the temperature at which held-out ``labels`` are most likely (Guo et al., ICML 2017).

    Dividing the logits by a temperature above 1 softens the scores, below 1 it sharpens them; the order
    of the classes stays. Log-probabilities serve as logits: the two differ by a constant in each row,
    which the softmax removes. The mean negative log-likelihood has one minimum, and the search for it
    runs over the logarithm of temperatures from 0.05 to 20. If the model is right on every row there is
    no minimum, because sharper is always better; the result, at or near 0.05, then says only that the
    rows are too few or too easy.

    Raises
    ------
    EvaluationError
        If a true class has probability 0, which no temperature can mend.
    """
    true, probabilities = as_labels_and_scores(labels, scores)
    rows = np.arange(len(true))
    impossible = probabilities[rows, true] == 0
    if impossible.any():
        raise EvaluationError(
            f"'scores' of row {impossible.argmax()} give the true class probability 0; "
            "compute the softmax in float64, or smooth the scores."
        )
    logits = _logarithms(probabilities)

    def negative_log_likelihood(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature), axis=1)[rows, true].mean())

    bounds = (np.log(LOWEST_TEMPERATURE), np.log(HIGHEST_TEMPERATURE))
    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded").x))


def apply_temperature(scores: ArrayLike, temperature: float) -> np.ndarray:
    """Return probabilities float64[N, C] after dividing their logits by ``temperature``; 1 changes nothing.

    Raises
    ------
    EvaluationError
        If ``temperature`` is below 1e-6 or not finite.
    """
    if not SHARPEST <= temperature < np.inf:
        raise EvaluationError(f"'temperature' is {temperature}; give a positive number from {SHARPEST:g}.")
    return softmax(_logarithms(as_probabilities(scores)) / temperature, axis=1)
