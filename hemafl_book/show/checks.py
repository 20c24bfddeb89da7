"""The only way a trained number reaches a page: compared with a recorded value, then shown as recorded.

Training gives slightly different numbers on different processors. A page that printed them would
change with the machine; a page that stored them would not notice when reality moves. `check` does
both jobs: it fails if the live number leaves the tolerance, and it shows the recorded one. Where the text
speaks of a difference, the check takes what is compared (``above``, ``below``), and refuses a tolerance that
the difference fits into.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import display

from hemafl_book.show.live import Live
from hemafl_lib.errors import HemaflError


class CheckError(HemaflError):
    """A live number is not what the page says."""


Seeds = float | Sequence[float]
"""A number, or one of each seed, which counts by their mean."""


def check(
    name: str,
    live: Seeds,
    recorded: float,
    tolerance: float,
    unit: str = "",
    *,
    above: Mapping[str, Seeds] | None = None,
    below: Mapping[str, Seeds] | None = None,
    on: Live | None = None,
) -> None:
    """Print ``name recorded (within tolerance)``, or raise `CheckError` if ``live`` is further away.

    Parameters
    ----------
    name
        What the number is, for example ``"balanced accuracy"``.
    live
        The number that was just computed. A single trained model may depend on the processor; give the
        numbers of a few seeds where it does, and their mean is compared.
    recorded
        The number that the page shows.
    tolerance
        The largest allowed distance, in the same unit. It also fixes the digits that are shown.
    unit
        Printed behind the numbers, for example ``" %"`` or ``" s"``.
    above, below
        What the number is compared with in the text, by name. The live number has to lie above, or below,
        and the tolerance has to be smaller than the difference, or the check could not fail.
    on
        The data that ``live`` was computed on, if the reader can choose: of others than those of the record,
        both numbers are shown and nothing is compared.
    """
    _require_tolerance(name, tolerance)
    shown, value = f"{_digits(recorded, tolerance)}{unit}", _mean(live)
    if on is not None and not on.recorded:
        print(f"{name} {_digits(value, tolerance)}{unit} here; {shown} was recorded on {on.embedded}")
        return
    if not abs(value - recorded) <= tolerance:
        raise CheckError(
            f"{name} is {value:.6g}{unit} and the page says {shown} within {tolerance:g}{unit}; "
            "find out what moved it, and change the recorded value only if the new one is right."
        )
    for word, sign, others in (("above", 1, above), ("below", -1, below)):
        for other, numbers in (others or {}).items():
            gap, gap_now = sign * (recorded - _mean(numbers)), sign * (value - _mean(numbers))
            _require_order(f"{name} {word} {other}", gap, gap_now, tolerance)
    told = [
        f"within {tolerance:g}{unit}",
        *_seeds(live),
        *_compared("above", above),
        *_compared("below", below),
    ]
    print(f"{name} {shown} ({', '.join(told)})")


def check_table(
    name: str,
    live: pd.DataFrame,
    recorded: Mapping[str, Any] | pd.DataFrame,
    tolerance: float | Mapping[str, float],
    *,
    above: Mapping[str, Sequence[tuple[Any, Any]]] | None = None,
    on: Live | None = None,
) -> None:
    """Show the recorded table with its tolerance, or raise `CheckError` naming the cell that moved.

    Parameters
    ----------
    name
        What the table is.
    live
        The table that was just computed. Numbers are compared within the tolerance, everything else
        exactly; an empty cell (NaN) equals an empty cell.
    recorded
        The table that the page shows: a frame, or a mapping from column to a list with one value a row.
    tolerance
        One tolerance for all columns of floating-point numbers, or one a column. A column without a
        tolerance must be equal.
    above
        The order that the text speaks of: of a column, pairs of rows of which the first lies above the
        second, in the live table too. The tolerance has to be smaller than their difference.
    on
        The data that ``live`` was computed on, see `check`; of others the live table is shown.
    """
    if on is not None and not on.recorded:
        print(f"{name}, on other data than those of the record ({on.embedded}), which is not shown")
        display(live)
        return
    if not isinstance(recorded, pd.DataFrame):
        recorded = _as_frame(name, recorded, live.index)
    if list(recorded.columns) != list(live.columns) or not recorded.index.equals(live.index):
        raise CheckError(
            f"{name} has other rows or columns than recorded (live columns {list(live.columns)}, rows "
            f"{list(live.index)}); record the table again."
        )
    tolerances = _column_tolerances(name, live, tolerance)
    for column in live.columns:
        for row, here, there in zip(live.index, live[column], recorded[column], strict=True):
            if not _close(here, there, tolerances.get(column, 0.0)):
                raise CheckError(
                    f"{name}: '{column}' of row '{row}' is {here} and the page says {there} within "
                    f"{tolerances.get(column, 0.0):g}; find out what moved it, and change the recorded "
                    "value only if the new one is right."
                )
    for column, pairs in (above or {}).items():
        for higher, lower in pairs:
            gap, gap_now = (
                table.loc[higher, column] - table.loc[lower, column] for table in (recorded, live)
            )
            what = f"{name}: '{column}' of '{higher}' above '{lower}'"
            _require_order(what, gap, gap_now, tolerances.get(column, 0.0))
    print(f"{name} ({_describe(tolerances)})")
    display(_with_digits(recorded, tolerances))


def _require_order(what: str, gap: float, gap_now: float, tolerance: float) -> None:
    """Raise `CheckError` unless the recorded gap is wider than the tolerance, and the live one is a gap."""
    if not tolerance < gap:
        raise CheckError(
            f"{what}: they are {gap:.3g} apart, and the tolerance is {tolerance:g}; give a smaller one, "
            "or do not speak of the difference."
        )
    if not gap_now > 0:
        raise CheckError(f"{what}: they are {gap_now:.3g} apart now; find out what moved them.")


def _mean(numbers: Seeds) -> float:
    """Return a number, or the mean of those of the seeds."""
    return float(np.mean(numbers))


def _seeds(live: Seeds) -> list[str]:
    """Say of how many seeds a number is the mean."""
    return [f"mean of {np.size(live)} seeds"] if np.ndim(live) else []


def _compared(word: str, others: Mapping[str, Seeds] | None) -> list[str]:
    """Say what a number lies above or below."""
    return [f"{word} {' and '.join(others)}"] if others else []


def _as_frame(name: str, columns: Mapping[str, Sequence[Any]], index: pd.Index) -> pd.DataFrame:
    """Return the recorded columns under the index of the live table."""
    if any(len(values) != len(index) for values in columns.values()):
        raise CheckError(
            f"{name}: every recorded column needs {len(index)} values, one a row; record it again."
        )
    return pd.DataFrame(columns, index=index)


def _column_tolerances(
    name: str, live: pd.DataFrame, tolerance: float | Mapping[str, float]
) -> dict[str, float]:
    """Return one tolerance for every column that is allowed to move."""
    if isinstance(tolerance, Mapping):
        tolerances = dict(tolerance)
    else:
        tolerances = {
            column: tolerance for column in live.columns if pd.api.types.is_float_dtype(live[column])
        }
    unknown = [column for column in tolerances if column not in live.columns]
    if unknown:
        raise CheckError(f"{name} has no column '{unknown[0]}'; take it out of 'tolerance'.")
    for column, value in tolerances.items():
        _require_tolerance(f"{name}, column '{column}'", value)
    return tolerances


def _require_tolerance(name: str, tolerance: float) -> None:
    if not (tolerance >= 0 and math.isfinite(tolerance)):
        raise CheckError(f"{name}: the tolerance is {tolerance}; give a finite number of at least 0.")


def _close(here: Any, there: Any, tolerance: float) -> bool:
    if pd.isna(here) or pd.isna(there):
        return bool(pd.isna(here) and pd.isna(there))
    return bool(here == there) if tolerance == 0 else bool(abs(here - there) <= tolerance)


def _digits(value: float, tolerance: float) -> str:
    """Show as many decimals as the tolerance has, for example 0.870 for a tolerance of 0.005."""
    if tolerance == 0:
        return f"{value:g}"
    return f"{value:.{max(0, -math.floor(math.log10(tolerance)))}f}"


def _with_digits(table: pd.DataFrame, tolerances: Mapping[str, float]) -> pd.DataFrame:
    """Return a copy in which every column with a tolerance is text with the digits that it deserves."""
    shown = table.copy()
    for column, tolerance in tolerances.items():
        shown[column] = ["" if pd.isna(value) else _digits(value, tolerance) for value in table[column]]
    return shown


def _describe(tolerances: Mapping[str, float]) -> str:
    values = set(tolerances.values())
    if not values:
        return "equal"
    if len(values) == 1:
        return f"within {values.pop():g}"
    return ", ".join(f"{column} within {value:g}" for column, value in tolerances.items())
