"""How often is the class right, and for which classes?

Labels and predictions are class numbers, int[N]. A class that no row has cannot be scored: the means
over classes leave it out, as scikit-learn's balanced accuracy does, and tables show NaN. A prediction
of such a class still counts as the mistake that it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_fscore_support

from hemafl_lib.errors import EvaluationError
from hemafl_lib.evaluation.arrays import as_label_pair, as_labels_and_scores


def _confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return int64[C, C]: rows are true classes, columns predicted ones."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def _confusion_seen(labels: ArrayLike, predicted: ArrayLike) -> np.ndarray:
    """Return the confusion matrix up to the largest class number that occurs."""
    true, guessed = as_label_pair(labels, predicted)
    return _confusion(true, guessed, int(max(true.max(), guessed.max())) + 1)


def accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Return the share of rows whose class is right."""
    table = _confusion_seen(labels, predicted)
    return float(np.trace(table) / table.sum())


def balanced_accuracy(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean recall over the classes that occur in ``labels``.

    Equal to scikit-learn's ``balanced_accuracy_score``, and many times faster inside a bootstrap.
    """
    table = _confusion_seen(labels, predicted)
    support = table.sum(axis=1)
    present = support > 0
    return float(np.mean(np.diag(table)[present] / support[present]))


def macro_f1(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean F1 over the classes that occur in ``labels``.

    F1 is twice the hits over the sum of true and predicted rows of the class. Equal to scikit-learn's
    ``f1_score(..., average="macro", labels=numpy.unique(labels))``.
    """
    table = _confusion_seen(labels, predicted)
    support = table.sum(axis=1)
    present = support > 0
    return float(np.mean(2 * np.diag(table)[present] / (support + table.sum(axis=0))[present]))


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> pd.DataFrame:
    """Return the counts of every true class (rows) and predicted class (columns)."""
    true, guessed = as_label_pair(labels, predicted, len(classes))
    return pd.DataFrame(
        _confusion(true, guessed, len(classes)),
        index=pd.Index(classes, name="true"),
        columns=pd.Index(classes, name="predicted"),
    )


def per_class(labels: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> pd.DataFrame:
    """Return recall, precision, F1 and support (true rows) of every class, one row a class.

    Undefined values are NaN: recall of a class without rows, precision of a class never predicted, F1
    of a class that is neither.
    """
    true, guessed = as_label_pair(labels, predicted, len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        true, guessed, labels=np.arange(len(classes)), zero_division=np.nan
    )
    return pd.DataFrame(
        {"recall": recall, "precision": precision, "f1": f1, "support": support},
        index=pd.Index(classes, name="class"),
    )


def prior_adjusted_precision(
    labels: ArrayLike, predicted: ArrayLike, classes: Sequence[str], prior: ArrayLike | None = None
) -> pd.Series:
    """Return the precision of every class as it would be if the classes were as common as ``prior``.

    By Bayes' rule, recall(c) prior(c) / sum over k of P(predicted c | true k) prior(k). Unlike plain
    precision and F1 it can be compared between test sets of different make-up.

    Parameters
    ----------
    prior
        Share of each class, float[C] with sum 1. By default the classes that occur in ``labels`` are
        equally common.

    Returns
    -------
    pandas.Series
        One value a class; NaN for a class that is never predicted under this prior.

    Raises
    ------
    EvaluationError
        If ``prior`` is no distribution, or not 0 for a class that ``labels`` does not hold.
    """
    true, guessed = as_label_pair(labels, predicted, len(classes))
    table = _confusion(true, guessed, len(classes))
    support = table.sum(axis=1)
    present = support > 0
    share = present / present.sum() if prior is None else np.asarray(prior, dtype=np.float64)
    if share.shape != (len(classes),) or not (np.all(share >= 0) and abs(share.sum() - 1) < 1e-6):
        raise EvaluationError(f"'prior' must hold {len(classes)} shares of at least 0 with sum 1.")
    if np.any(share[~present] > 0):
        missing = ", ".join(np.array(classes)[~present & (share > 0)])
        raise EvaluationError(f"'labels' holds no row of {missing}; set the prior of what is absent to 0.")
    expected = table / np.maximum(support, 1)[:, None] * share[:, None]
    predicted_share = expected.sum(axis=0)
    adjusted = np.full(len(classes), np.nan)
    np.divide(np.diag(expected), predicted_share, out=adjusted, where=predicted_share > 0)
    return pd.Series(adjusted, index=pd.Index(classes, name="class"), name="prior_adjusted_precision")


class Restriction(NamedTuple):
    """Rows and columns of the common classes: labels int64[M], scores float64[M, K], rows int64[M]."""

    labels: np.ndarray
    scores: np.ndarray
    rows: np.ndarray


def restrict(
    labels: ArrayLike, scores: ArrayLike, classes: Sequence[str], common: Sequence[str]
) -> Restriction:
    """Restrict a test to the classes ``common`` that two sets of classes share.

    Rows of other classes are dropped, and so are the other columns of the scores, which are then
    scaled to sum 1: the model may no longer answer with a class that the other test does not know.
    The new class numbers follow ``common``; ``rows`` says which rows were kept.

    Raises
    ------
    EvaluationError
        If a common class is unknown or named twice, no row is left, or a row has no score left.
    """
    true, probabilities = as_labels_and_scores(labels, scores)
    if len(classes) != probabilities.shape[1]:
        raise EvaluationError(
            f"'classes' has {len(classes)} names and 'scores' {probabilities.shape[1]} columns; "
            "name every column."
        )
    unknown = sorted(set(common) - set(classes))
    if unknown or len(set(common)) != len(common):
        raise EvaluationError(
            f"'common' must name classes of {', '.join(classes)}, each once; it is {', '.join(common)}."
        )
    columns = np.array([list(classes).index(name) for name in common], dtype=np.int64)
    rows = np.flatnonzero(np.isin(true, columns))
    if len(rows) == 0:
        raise EvaluationError("no row has one of the classes in 'common'; choose others.")
    kept = probabilities[np.ix_(rows, columns)]
    total = kept.sum(axis=1, keepdims=True)
    if np.any(total == 0):
        raise EvaluationError(
            f"'scores' of row {rows[np.argmin(total)]} are 0 for every class in 'common'; "
            "compute the softmax in float64."
        )
    position = np.full(len(classes), -1)
    position[columns] = np.arange(len(columns))
    return Restriction(position[true[rows]], kept / total, rows)
