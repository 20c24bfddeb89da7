"""Can a printed percentage come from that many rows? Arithmetic that needs no data.

Of n rows a whole number is right, so only n + 1 percentages are possible. Brown and Heathers (Social
Psychological and Personality Science, 2017) call the check GRIM: granularity-related inconsistency of
means. It finds misprints and undeclared test sets; it does not say which of the two. A made-up percentage
passes with a chance of about n / 10^(decimals + 2), so that the check tells much for few rows, and nothing
for that many or more.
"""

import math
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, InvalidOperation

import pandas as pd

from hemafl_lib.errors import EvaluationError


def _as_percentage(percentage: str | float, decimals: int) -> Decimal:
    """Return the percentage as printed; refuse what is no percentage or has more decimals than said."""
    try:
        value = Decimal(str(percentage))
    except InvalidOperation:
        value = Decimal("NaN")
    if not (value.is_finite() and 0 <= value <= 100):
        raise EvaluationError(f"'percentage' is {percentage}; give a number from 0 to 100.")
    if decimals < 0 or value != round(value, decimals):
        raise EvaluationError(
            f"'decimals' is {decimals} for the percentage {percentage}; give the number of decimals printed."
        )
    return value


def _roundings(count: int, n: int, decimals: int) -> set[Decimal]:
    """Return count / n in per cent as it may be printed: a tie is rounded up, or to the even digit."""
    exact = Decimal(100 * count) / n
    unit = Decimal(1).scaleb(-decimals)
    return {exact.quantize(unit, rounding) for rounding in (ROUND_HALF_UP, ROUND_HALF_EVEN)}


def _neighbours(percentage: Decimal, n: int) -> list[int]:
    """Return the counts of n just below and above the percentage; one count where it is met exactly."""
    if n < 1:
        raise EvaluationError(f"'n' is {n}; give the number of rows, at least 1.")
    count = percentage * n / 100
    return sorted({math.floor(count), math.ceil(count)})


def attainable(percentage: str | float, n: int, decimals: int = 2) -> bool:
    """Return whether some whole count of ``n`` rows, in per cent, is printed as ``percentage``.

    Parameters
    ----------
    percentage
        What is printed, for example ``"95.70"`` or 95.7; a number is taken by its shortest decimal form.
    n
        Number of rows.
    decimals
        Decimals to which the percentage was rounded. A tie may have been rounded up or to the even digit,
        as Python and R do; both are accepted.

    Raises
    ------
    EvaluationError
        If ``percentage`` is not in 0..100 or has more decimals than that, or ``n`` is below 1.
    """
    stated = _as_percentage(percentage, decimals)
    return any(stated in _roundings(count, n, decimals) for count in _neighbours(stated, n))


def nearest_counts(percentage: str | float, n: int, decimals: int = 2) -> pd.DataFrame:
    """Return the counts of ``n`` rows next to ``percentage``: the one below and the one above it.

    One row a count (a single one where the percentage is met exactly). Columns: ``count``, ``percentage``
    (not rounded, float64) and ``attains`` (whether it is printed as the percentage). Parameters and
    errors are those of `attainable`.
    """
    stated = _as_percentage(percentage, decimals)
    counts = _neighbours(stated, n)
    return pd.DataFrame(
        {
            "count": counts,
            "percentage": [100 * count / n for count in counts],
            "attains": [stated in _roundings(count, n, decimals) for count in counts],
        }
    )


def sizes_consistent_with(
    percentages: Iterable[str | float], sizes: Iterable[int], decimals: int = 2
) -> list[int]:
    """Return those of ``sizes``, numbers of rows, at which every one of the percentages is `attainable`."""
    stated = [_as_percentage(percentage, decimals) for percentage in percentages]
    return [int(n) for n in sizes if all(attainable(str(value), n, decimals) for value in stated)]
