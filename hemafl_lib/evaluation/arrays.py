"""Checks that every measure makes of its arrays before it computes anything."""

import numpy as np
from numpy.typing import ArrayLike

from hemafl_lib.errors import EvaluationError


def as_labels(values: ArrayLike, name: str, classes: int | None = None) -> np.ndarray:
    """Return class numbers as int64[N]; refuse what is empty, not whole, or outside 0..classes - 1."""
    array = np.asarray(values)
    if array.ndim != 1 or len(array) == 0 or not np.issubdtype(array.dtype, np.integer):
        raise EvaluationError(
            f"'{name}' has shape {array.shape} and type {array.dtype}; give one whole number a row."
        )
    if array.min() < 0 or (classes is not None and array.max() >= classes):
        limit = "" if classes is None else f" below {classes}"
        raise EvaluationError(
            f"'{name}' holds values from {array.min()} to {array.max()}; give class numbers from 0{limit}."
        )
    return array.astype(np.int64)


def as_label_pair(
    labels: ArrayLike, predicted: ArrayLike, classes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and predicted classes as int64[N] each; refuse different lengths."""
    true = as_labels(labels, "labels", classes)
    guessed = as_labels(predicted, "predicted", classes)
    if len(true) != len(guessed):
        raise EvaluationError(
            f"'labels' has {len(true)} rows and 'predicted' {len(guessed)}; give the same rows in both."
        )
    return true, guessed


def as_probabilities(scores: ArrayLike) -> np.ndarray:
    """Return scores as float64[N, C]; refuse what are not probabilities."""
    probabilities = np.asarray(scores, dtype=np.float64)
    if probabilities.ndim != 2:
        raise EvaluationError(
            f"'scores' has shape {probabilities.shape}; give one row an example and one column a class."
        )
    if not (np.all(probabilities >= 0) and np.allclose(probabilities.sum(axis=1), 1, atol=1e-3)):
        raise EvaluationError(
            "'scores' must be probabilities, finite and with sum 1 in each row; apply a softmax to logits."
        )
    return probabilities


def as_labels_and_scores(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return labels int64[N] and scores float64[N, C]; refuse scores that are not probabilities."""
    probabilities = as_probabilities(scores)
    true = as_labels(labels, "labels", probabilities.shape[1])
    if len(true) != len(probabilities):
        raise EvaluationError(
            f"'labels' has {len(true)} rows and 'scores' {len(probabilities)}; give the same rows in both."
        )
    return true, probabilities
