"""Do all clients gain alike, or does the mean hide one that does not?"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from hemafl_lib.errors import EvaluationError


class Spread(NamedTuple):
    """How a measure such as accuracy differs between clients; see `spread`."""

    mean: float
    weighted_mean: float
    standard_deviation: float
    range: float
    jain: float
    worst: str
    worst_value: float


def jain_index(values: pd.Series | Mapping[str, float]) -> float:
    """Return Jain's index, (sum of x)^2 / (n * sum of x^2): 1 if all are equal, 1 / n if one has all.

    Jain, Chiu and Hawe, "A quantitative measure of fairness and discrimination", DEC TR-301, 1984. It is
    1 / (1 + CV^2), with the coefficient of variation CV, and was made for shares of a resource. For
    accuracies it hardly moves: 0.9 and 1.0 give 0.997, and even 0.5 and 1.0 give 0.9. Undefined, NaN, if
    all values are 0.

    Raises
    ------
    EvaluationError
        If the values are not one finite number of at least 0 for each of some distinct names.
    """
    array = _as_values(values, "values").to_numpy()
    squares = (array**2).sum()
    return float(array.sum() ** 2 / (len(array) * squares)) if squares > 0 else float("nan")


def spread(
    values: pd.Series | Mapping[str, float], rows: pd.Series | Mapping[str, float] | None = None
) -> Spread:
    """Return how a measure differs between clients.

    Parameters
    ----------
    values
        The measure by client, at least 0, where higher is better.
    rows
        Number of test rows by client, the weights of ``weighted_mean``; without them all clients count
        alike.

    Returns
    -------
    Spread
        Mean and weighted mean, standard deviation (of these clients, so divided by n), range (best minus
        worst), `jain_index`, and name and value of the worst client, the first of several.

    Raises
    ------
    EvaluationError
        If values or rows are not one finite number of at least 0 for each client, if they name different
        clients, or if all rows are 0.
    """
    table = _as_values(values, "values")
    weights = pd.Series(1.0, table.index) if rows is None else _as_values(rows, "rows")
    if set(weights.index) != set(table.index) or weights.sum() == 0:
        raise EvaluationError("'rows' must name the clients of 'values', and hold rows of at least one.")
    return Spread(
        mean=float(table.mean()),
        weighted_mean=float(np.average(table, weights=weights[table.index])),
        standard_deviation=float(table.std(ddof=0)),
        range=float(table.max() - table.min()),
        jain=jain_index(table),
        worst=str(table.idxmin()),
        worst_value=float(table.min()),
    )


def _as_values(values: pd.Series | Mapping[str, float], name: str) -> pd.Series:
    """Return one float64 a client; refuse what is empty, named twice, negative or not finite."""
    table = pd.Series(values if isinstance(values, pd.Series) else dict(values), dtype=np.float64)
    if table.empty or not table.index.is_unique or not np.all(np.isfinite(table) & (table >= 0)):
        raise EvaluationError(
            f"'{name}' must hold one finite number of at least 0 for each client, each named once."
        )
    return table
