"""Which classes can a model not rule out? Sets of classes that hold the true one as often as asked.

Split conformal prediction (Vovk, Gammerman and Shafer, 2005) turns the probabilities of any model into
sets that hold the true class with probability at least 1 - ``alpha``. It asks one thing only: that the
rows on which the threshold is chosen were not used for training and are exchangeable with the rows to
come. Another hospital's rows are not. The promise is for the average over all rows, or, with
``by_class``, over the rows of each class.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hemafl_lib.errors import EvaluationError
from hemafl_lib.evaluation.arrays import as_labels, as_labels_and_scores, as_probabilities

Misfit = Literal["lac", "aps"]


def nonconformity(
    scores: ArrayLike, method: Misfit = "lac", generator: np.random.Generator | None = None
) -> np.ndarray:
    """Return how ill each class fits each row, float64[N, C] from 0 (best) to 1.

    Parameters
    ----------
    scores
        Probabilities, float[N, C].
    method
        ``"lac"``: 1 minus the probability of the class (Sadinle, Lei and Wasserman, JASA 2019), which
        gives the smallest sets on average where the probabilities are true. ``"aps"``: the probability of
        all classes that the model finds more likely (Romano, Sesia and Candès, NeurIPS 2020), which gives
        hard rows larger sets.
    generator
        For ``"aps"``: adds a random share, one a row, of the class's own probability, as in the paper.
        The coverage is then exactly 1 - ``alpha``, but a set may be empty. Without it the share is 0,
        and every set holds the most likely class.

    Raises
    ------
    EvaluationError
        If the method is unknown, or ``"lac"`` is given a generator.
    """
    probabilities = as_probabilities(scores)
    if method == "lac" and generator is None:
        return 1 - probabilities
    if method != "aps":
        raise EvaluationError(
            f"'method' is '{method}'; choose 'lac' (without a generator) or 'aps' (with or without one)."
        )
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    before = np.zeros_like(ranked)
    before[:, 1:] = np.cumsum(ranked, axis=1)[:, :-1]
    share = 0.0 if generator is None else generator.random((len(ranked), 1))
    result = np.empty_like(ranked)
    np.put_along_axis(result, order, before + share * ranked, axis=1)
    return result


def _quantile(values: np.ndarray, alpha: float) -> float:
    """Return the value of rank (n + 1)(1 - alpha), rounded up; infinity where n is too small for it."""
    # Without the small number, rounding errors such as 10 * 0.3 = 3.0000000000000004 cost a whole rank.
    rank = max(1, math.ceil((len(values) + 1) * (1 - alpha) - 1e-9))
    return float(np.sort(values)[rank - 1]) if rank <= len(values) else math.inf


def conformal_threshold(
    labels: ArrayLike,
    scores: ArrayLike,
    alpha: float,
    *,
    method: Misfit = "lac",
    by_class: bool = False,
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """Return the largest nonconformity that a class in a prediction set may have, float64[C].

    Parameters
    ----------
    labels, scores
        Held-out rows: class numbers int[N] and probabilities float[N, C].
    alpha
        Share of rows whose set may miss the true class, between 0 and 1.
    method, generator
        See `nonconformity`; give `prediction_sets` the same method, and a generator if this has one.
    by_class
        Choose each class's threshold on its own rows (Mondrian conformal prediction, Vovk 2005), so
        that the promise holds for rare classes too. Otherwise all C thresholds are equal.

    Returns
    -------
    numpy.ndarray
        Infinite, so that sets hold the class whatever its score, where fewer than 1 / alpha - 1 rows are
        there to choose on.

    Raises
    ------
    EvaluationError
        If ``alpha`` is not between 0 and 1, or labels and scores do not fit together.
    """
    if not 0 < alpha < 1:
        raise EvaluationError(f"'alpha' is {alpha}; give a share between 0 and 1, for example 0.1.")
    true, probabilities = as_labels_and_scores(labels, scores)
    classes = probabilities.shape[1]
    misfit = nonconformity(probabilities, method, generator)[np.arange(len(true)), true]
    if not by_class:
        return np.full(classes, _quantile(misfit, alpha))
    return np.array([_quantile(misfit[true == number], alpha) for number in range(classes)])


def prediction_sets(
    scores: ArrayLike,
    threshold: ArrayLike,
    *,
    method: Misfit = "lac",
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """Return the prediction set of each row, bool[N, C]: the classes that fit well enough.

    ``threshold`` is what `conformal_threshold` gave with the same ``method``: one number, or one a class.

    Raises
    ------
    EvaluationError
        If the number of thresholds is neither 1 nor that of the classes, or one is NaN.
    """
    misfit = nonconformity(scores, method, generator)
    limit = np.asarray(threshold, dtype=np.float64)
    if limit.shape not in ((), (misfit.shape[1],)) or np.isnan(limit).any():
        raise EvaluationError(
            f"'threshold' has shape {limit.shape}; give one number, or one for each of {misfit.shape[1]} "
            "classes, none of them NaN."
        )
    return misfit <= limit


def set_summary(labels: ArrayLike, sets: ArrayLike, classes: Sequence[str]) -> pd.DataFrame:
    """Return how often the sets hold the true class, and how large they are: overall and by true class.

    One row a class after the first, ``overall``. Columns: ``rows``, ``coverage`` (share of rows whose
    set holds the true class), ``mean_size`` (classes a set) and ``empty`` (rows whose set is empty).
    Coverage and size of a class without rows are NaN.

    Raises
    ------
    EvaluationError
        If ``sets`` is not bool[N, C] for the N labels and C classes.
    """
    true = as_labels(labels, "labels", len(classes))
    held = np.asarray(sets)
    if held.dtype != bool or held.shape != (len(true), len(classes)):
        raise EvaluationError(
            f"'sets' has shape {held.shape} and type {held.dtype}; give truth values for "
            f"{len(true)} rows and {len(classes)} classes, as from 'prediction_sets'."
        )
    size = held.sum(axis=1)
    rows = pd.DataFrame(
        {"coverage": held[np.arange(len(true)), true], "mean_size": size, "empty": size == 0}
    ).astype(float)
    groups = {"overall": rows, **{name: rows[true == number] for number, name in enumerate(classes)}}
    return pd.DataFrame(
        {
            "rows": [len(group) for group in groups.values()],
            "coverage": [group["coverage"].mean() for group in groups.values()],
            "mean_size": [group["mean_size"].mean() for group in groups.values()],
            "empty": [int(group["empty"].sum()) for group in groups.values()],
        },
        index=pd.Index(groups, name="class"),
    )
