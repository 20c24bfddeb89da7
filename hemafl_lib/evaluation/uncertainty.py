"""How far could a number be off, and is one model really better than another?"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit, logit, ndtri, stdtrit

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


def seed_interval(values: ArrayLike, level: float = 0.95, *, overlap: float = 0.0) -> Interval:
    """Return the mean over repeated trainings of a score in [0, 1], with an interval that stays in there.

    Student's t on the logit scale: the standard error of the mean m becomes, by the delta method, that of
    log(m / (1 - m)), and both ends are brought back. Where all values are equal, so are both ends; this is
    also what a mean of exactly 0 or 1 means. In simulations with 3 to 30 seeds (`test_coverage_of_intervals`)
    a nominal 95 % covers 93 to 96 % of beta-distributed scores with means up to 0.95, where the plain t falls
    to 91 % and leaves [0, 1], and a percentile bootstrap of 3 or 5 seeds to 70 or 81 %. If one seed in five
    collapses, no method that sees five seeds covers more than 70 %.

    Parameters
    ----------
    values
        One score a seed, [S].
    level
        The share of such intervals that hold the mean over all seeds.
    overlap
        Test rows for each training row, where every seed splits the same rows anew: such seeds share rows,
        tell less than as many cohorts would, and the interval is widened accordingly (Nadeau and Bengio,
        2003). 0 where each seed has rows of its own, or where the interval is to say how much training
        varies on these rows and no more.

    Raises
    ------
    EvaluationError
        If there are fewer than two values, one is not in [0, 1], or an option is out of range.
    """
    array = _values_of_seeds(values, level, overlap)
    if array.min() < 0 or array.max() > 1:
        raise EvaluationError(
            f"'values' holds {array.min():g} to {array.max():g}; give shares in [0, 1], or use "
            "difference_interval for differences of them."
        )
    mean = float(array.mean())
    error = _reach(array, level, overlap)
    if error == 0 or mean in (0, 1):
        return Interval(mean, mean, mean)
    centre, reach = logit(mean), error / (mean * (1 - mean))
    return Interval(mean, float(expit(centre - reach)), float(expit(centre + reach)))


def difference_interval(values: ArrayLike, level: float = 0.95, *, overlap: float = 0.0) -> Interval:
    """Return the mean over seeds of a difference of two scores, with Student's t interval inside [-1, 1].

    ``values`` are first less second score, paired by seed, so that the deal and the split cancel. The
    interval excludes 0 exactly where the paired t-test rejects; what lies beyond -1 or 1 cannot be and is cut
    off, which costs no coverage. For the options and errors see `seed_interval`.
    """
    array = _values_of_seeds(values, level, overlap)
    if np.abs(array).max() > 1:
        raise EvaluationError(
            f"'values' holds {array.min():g} to {array.max():g}; give differences of shares, in [-1, 1]."
        )
    mean, reach = float(array.mean()), _reach(array, level, overlap)
    return Interval(mean, max(-1.0, mean - reach), min(1.0, mean + reach))


def share_interval(share: float, rows: float, level: float = 0.95) -> Interval:
    """Return a share of independent rows with Wilson's interval (1927), which stays in [0, 1].

    ``rows`` need not be a whole number, so that means over seeds can be given. Raises `EvaluationError` if
    the share is not in [0, 1], there are no rows, or ``level`` is not between 0 and 1.
    """
    if not (0 <= share <= 1 and 0 < rows < np.inf and 0 < level < 1):
        raise EvaluationError(
            f"'share' is {share}, 'rows' {rows} and 'level' {level}; give a share in [0, 1] of at least one "
            "row, and a level between 0 and 1."
        )
    z = float(ndtri((1 + level) / 2))
    centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    reach = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return Interval(share, max(0.0, float(centre - reach)), min(1.0, float(centre + reach)))


def _values_of_seeds(values: ArrayLike, level: float, overlap: float) -> np.ndarray:
    """Return one finite number a seed, float64[S]."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2 or not np.all(np.isfinite(array)):
        raise EvaluationError("'values' must hold one finite number a seed, from at least two seeds.")
    if not 0 < level < 1:
        raise EvaluationError(f"'level' is {level}; give a number between 0 and 1.")
    if not 0 <= overlap < np.inf:
        raise EvaluationError(f"'overlap' is {overlap}; give test rows for each training row, at least 0.")
    return array


def _reach(array: np.ndarray, level: float, overlap: float) -> float:
    """Return half the width of Student's t interval of the mean; 0 where all values are equal.

    Seeds that share rows are correlated: Nadeau and Bengio put 1 / S + overlap in the place of 1 / S.
    """
    if array.min() == array.max():
        return 0.0
    quantile = stdtrit(len(array) - 1, (1 + level) / 2)
    return float(quantile * array.std(ddof=1) * np.sqrt(1 / len(array) + overlap))
