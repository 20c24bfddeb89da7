"""The smallest count that a site tells.

A count of one patient points at that patient, so a site refuses to tell counts from 1 to
``minimum - 1``, or puts 0 in their place and says how many patients that hides. The rule is the usual
one of statistical offices. It is a rule of thumb, not a guarantee: several messages about the same
patients, or two that differ by one patient, can reveal what each of them hides. Most estimates need only
the total over sites, so that secure aggregation could hide every single message; differential privacy
would bound what the totals reveal.
"""

import numpy as np

from hemafl_lib.errors import FederationError


def small_cells(counts: np.ndarray, minimum: int) -> np.ndarray:
    """Return bool, where a count is above 0 and below ``minimum``."""
    return (counts > 0) & (counts < minimum)


def check_cells(counts: np.ndarray, minimum: int, what: str, remedy: str) -> None:
    """Raise `FederationError` if one of the counts int64[...] is too small to be told.

    ``what`` says what is counted and ``remedy`` what the asker can do about it.
    """
    small = small_cells(np.atleast_1d(counts), minimum)
    if small.any():
        raise FederationError(
            f"{small.sum()} of {small.size} {what} would be below minimum={minimum} patients; {remedy}, or "
            "set minimum=1 to accept that single patients show."
        )


def suppress(counts: np.ndarray, minimum: int) -> tuple[np.ndarray, int]:
    """Return the counts with 0 in place of the small ones, and how many patients that hides."""
    small = small_cells(counts, minimum)
    return np.where(small, 0, counts), int(counts[small].sum())
