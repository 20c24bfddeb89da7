"""How far can F1 be trusted when there are 65 patients, of whom 19 have the outcome?

Labels are 0 or 1, [N], with 1 the outcome of interest; predictions are 0 or 1, or scores where higher
means that the outcome is likelier. F1 = 2 TP / (2 TP + FP + FN); true negatives do not count. It is 0 where
there is no true positive, also where nobody has the outcome and nobody is predicted to.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_curve
from sklearn.model_selection import RepeatedStratifiedKFold

from hemafl_lib.errors import EvaluationError
from hemafl_lib.evaluation.arrays import as_label_pair, as_labels
from hemafl_lib.evaluation.uncertainty import Interval, bootstrap_interval
from hemafl_lib.seeds import derive


def _f1(hits: int, false_alarms: int, misses: int) -> float:
    """Return F1 from true positives, false positives and false negatives."""
    return 2 * hits / (2 * hits + false_alarms + misses) if hits else 0.0


def binary_f1(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Return the F1 of class 1; scikit-learn's ``f1_score(..., zero_division=0)``, only faster."""
    true, guessed = as_label_pair(labels, predicted, classes=2)
    hits = int(np.sum(true & guessed))
    return _f1(hits, int(guessed.sum()) - hits, int(true.sum()) - hits)


def all_positive_f1(labels: ArrayLike) -> float:
    """Return the F1 of predicting the outcome for everybody: 2 p / (1 + p) at prevalence p.

    A model that does not beat it has not used the features. At 29.5 % it is 0.456.
    """
    true = as_labels(labels, "labels", classes=2)
    return binary_f1(true, np.ones_like(true))


def threshold_sweep(labels: ArrayLike, scores: ArrayLike) -> pd.DataFrame:
    """Return precision, recall and F1 at every threshold that makes a difference, from low to high.

    A patient is predicted to have the outcome if the score reaches the threshold; the first row predicts it
    for everybody. Columns: ``threshold``, ``predicted`` (patients), ``precision``, ``recall``, ``f1``. The
    best F1 of this table is too good for other patients if these are the ones that chose the threshold:
    choose it on training patients.

    Raises
    ------
    EvaluationError
        If a label is not 0 or 1, nobody has the outcome, or a score is missing.
    """
    true = as_labels(labels, "labels", classes=2)
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != true.shape or not np.all(np.isfinite(values)):
        raise EvaluationError(f"'scores' must hold one finite number for each of the {len(true)} labels.")
    if not true.any():
        raise EvaluationError("'labels' holds no 1; recall needs patients with the outcome.")
    # The last point, recall 0 and precision 1 by convention, belongs to no threshold.
    precision, recall, thresholds = precision_recall_curve(true, values)
    predicted = len(values) - np.searchsorted(np.sort(values), thresholds)
    hits = recall[:-1] * true.sum()
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "predicted": predicted,
            "precision": precision[:-1],
            "recall": recall[:-1],
            "f1": 2 * hits / (predicted + true.sum()),
        }
    )


def repeated_folds(
    labels: ArrayLike, *, folds: int = 5, repeats: int = 20, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the row numbers (train, test), int64 each, of a repeated stratified cross-validation.

    There are ``folds`` times ``repeats`` of them, repeat by repeat; the tests of one repeat hold every row
    once, and each of them about the same share of each class (scikit-learn's ``RepeatedStratifiedKFold``).
    The spread between repeats tells how much the luck of the folds matters. It is no confidence interval:
    all repeats have the same patients.

    Raises
    ------
    EvaluationError
        If a class has fewer rows than there are folds, or a number is too small.
    """
    true = as_labels(labels, "labels")
    if folds < 2 or repeats < 1:
        raise EvaluationError(f"'folds' is {folds} and 'repeats' {repeats}; give at least 2 and 1.")
    smallest = int(np.unique(true, return_counts=True)[1].min())
    if smallest < folds:
        raise EvaluationError(
            f"'folds' is {folds}, and the rarest class has {smallest} rows; give at most as many folds."
        )
    # scikit-learn takes seeds of 32 bits.
    random_state = derive(seed, "folds") % 2**32
    splitter = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=random_state)
    return list(splitter.split(np.zeros(len(true)), true))


def f1_interval(
    labels: ArrayLike, predicted: ArrayLike, *, seed: int, draws: int = 1000, level: float = 0.95
) -> Interval:
    """Return F1 with its percentile bootstrap interval over patients.

    Each draw has as many patients with and without the outcome as the data; the interval says nothing of how
    another training would differ. See `bootstrap_interval`.
    """
    return bootstrap_interval(
        binary_f1, [labels, predicted], seed=seed, draws=draws, level=level, stratify=labels
    )


def one_patient(labels: ArrayLike, predicted: ArrayLike) -> pd.DataFrame:
    """Return what F1 would be, were a single patient predicted otherwise or left out.

    One row a change, index ``change``. Columns: ``patients`` (for how many it is possible; changes possible
    for none are left out), ``f1``, and ``difference`` from the F1 as it is.
    """
    true, guessed = as_label_pair(labels, predicted, classes=2)
    tp, fp = int(np.sum(true & guessed)), int(np.sum((1 - true) & guessed))
    fn, tn = int(true.sum()) - tp, len(true) - int(true.sum()) - fp
    changes = [
        ("a hit becomes a miss", tp, (tp - 1, fp, fn + 1)),
        ("a miss becomes a hit", fn, (tp + 1, fp, fn - 1)),
        ("a correct negative becomes a false alarm", tn, (tp, fp + 1, fn)),
        ("a false alarm becomes a correct negative", fp, (tp, fp - 1, fn)),
        ("a hit is left out", tp, (tp - 1, fp, fn)),
        ("a miss is left out", fn, (tp, fp, fn - 1)),
        ("a false alarm is left out", fp, (tp, fp - 1, fn)),
        ("a correct negative is left out", tn, (tp, fp, fn)),
    ]
    possible = [(change, patients, _f1(*counts)) for change, patients, counts in changes if patients > 0]
    table = pd.DataFrame(possible, columns=["change", "patients", "f1"]).set_index("change")
    return table.assign(difference=table["f1"] - _f1(tp, fp, fn))
