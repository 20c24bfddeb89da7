"""How far could a number be off, and is one model really better than another?"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from hemafl_lib.errors import EvaluationError
from hemafl_lib.evaluation.arrays import as_label_pair
from hemafl_lib.seeds import numpy_generator

Metric = Callable[..., float]


class Interval(NamedTuple):
    """An estimate and the ends of its interval."""

    estimate: float
    low: float
    high: float


def bootstrap_interval(
    metric: Metric,
    arrays: Sequence[ArrayLike],
    *,
    seed: int,
    draws: int = 1000,
    level: float = 0.95,
    cluster: ArrayLike | None = None,
    stratify: ArrayLike | None = None,
) -> Interval:
    """Return a metric with its percentile bootstrap interval (Efron and Tibshirani, 1993).

    Parameters
    ----------
    metric
        Called as ``metric(*arrays)`` and not sensitive to the order of the rows.
    arrays
        What the metric takes, for example ``[labels, predicted]``; each has one entry a row.
    draws, level
        Number of resamples, and the share of them between the two ends.
    cluster
        What belongs together, [N], usually the patient: whole clusters are drawn, because the rows of
        one patient resemble each other and tell less than as many patients would.
    stratify
        Groups [N] of which each draw holds as many rows (or clusters) as the data, usually the class.

    Raises
    ------
    EvaluationError
        If lengths differ, a cluster lies in two strata, an option is out of range, or the metric is
        not finite for a draw.
    """
    if not (draws >= 1 and 0 < level < 1):
        raise EvaluationError(
            f"'draws' is {draws} and 'level' {level}; give at least 1, and a level in 0..1."
        )
    columns = [np.asarray(array) for array in arrays]
    if not columns or any(column.ndim == 0 for column in columns):
        raise EvaluationError(
            "'arrays' must be a list of arrays; give what the metric takes, one entry a row."
        )
    count = len(columns[0])
    unit = _number(np.arange(count) if cluster is None else cluster, count, "cluster")
    stratum = _number(np.zeros(count) if stratify is None else stratify, count, "stratify")
    if any(len(column) != count for column in columns):
        raise EvaluationError("the arrays differ in length; give the same rows in all of them.")
    strata = _units_by_stratum(unit, stratum)
    generator = numpy_generator(seed, "bootstrap")
    values = np.empty(draws)
    for draw in range(draws):
        chosen = np.concatenate([generator.choice(units, len(units)) for units in strata])
        times = np.bincount(chosen, minlength=unit.max() + 1)
        rows = np.repeat(np.arange(count), times[unit])
        values[draw] = metric(*(column[rows] for column in columns))
    if not np.all(np.isfinite(values)):
        raise EvaluationError(
            "the metric is not finite for some draws; use 'stratify', or a metric that bears an absent class."
        )
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(float(metric(*columns)), low, high)


def _number(values: ArrayLike, count: int, name: str) -> np.ndarray:
    """Return the distinct values of an array numbered from 0, int64[N]."""
    array = np.asarray(values)
    if count == 0 or array.shape != (count,):
        raise EvaluationError(f"'{name}' has shape {array.shape} for {count} rows; give one entry a row.")
    return np.unique(array, return_inverse=True)[1]


def _units_by_stratum(unit: np.ndarray, stratum: np.ndarray) -> list[np.ndarray]:
    """Return the units of each stratum; refuse a unit that lies in two."""
    pairs = np.unique(np.stack([stratum, unit], axis=1), axis=0)
    if len(pairs) > unit.max() + 1:
        raise EvaluationError("a cluster lies in two strata; leave out 'stratify', or 'cluster'.")
    return [pairs[pairs[:, 0] == number, 1] for number in range(stratum.max() + 1)]


def paired_bootstrap(
    metric: Metric,
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    seed: int,
    draws: int = 1000,
    level: float = 0.95,
    cluster: ArrayLike | None = None,
    stratify: ArrayLike | None = None,
) -> Interval:
    """Return ``metric(labels, first) - metric(labels, second)`` of two models, with its interval.

    Each draw takes the same rows for both models, so that what makes a row hard cancels out.
    ``first`` and ``second`` are what the metric takes: predicted classes or scores. See
    `bootstrap_interval` for the options and errors.
    """

    def difference(true: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
        return metric(true, one) - metric(true, other)

    return bootstrap_interval(
        difference,
        [labels, first, second],
        seed=seed,
        draws=draws,
        level=level,
        cluster=cluster,
        stratify=stratify,
    )


class McNemar(NamedTuple):
    """Rows that only one of two models got right, and the two-sided p-value."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(labels: ArrayLike, first: ArrayLike, second: ArrayLike) -> McNemar:
    """Test whether two models are right equally often on the same rows: the exact McNemar test.

    Only rows on which one model is right and the other wrong tell anything; if the models are equal,
    each is as likely to fall to either (a binomial test at 1/2). The test takes rows as independent.
    """
    true, one = as_label_pair(labels, first)
    _, other = as_label_pair(labels, second)
    only_first = int(np.sum((one == true) & (other != true)))
    only_second = int(np.sum((one != true) & (other == true)))
    discordant = only_first + only_second
    p_value = stats.binomtest(only_first, discordant).pvalue if discordant else 1.0
    return McNemar(only_first, only_second, float(p_value))


def seed_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Return the mean over repeated trainings with Student's t interval, from two seeds on.

    It says how much training varies on this test set; it does not say how another test set would vary.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2 or not np.all(np.isfinite(array)):
        raise EvaluationError("'values' must hold one finite number a seed, from at least two seeds.")
    if not 0 < level < 1:
        raise EvaluationError(f"'level' is {level}; give a share between 0 and 1.")
    mean = float(array.mean())
    reach = float(stats.t.ppf((1 + level) / 2, len(array) - 1) * stats.sem(array))
    return Interval(mean, mean - reach, mean + reach)
