"""What a site's message can be: rules that sums over any patients keep.

Each rule raises `FederationError` with the reason. None of them proves that a message is true; they find what
cannot be: a negative count, more deaths than patients, sums that no weights could have.
"""

import numpy as np

from hemafl_lib.errors import FederationError

MOST_PATIENTS = 10_000_000
"""More patients than a hospital has had."""

HUGE = 1e100
"""Sums of what was measured in patients are smaller."""

TOLERATED = 1e-6
"""Share by which rounding may break a rule."""

CANCELLED = 1e-3
"""The same where a large sum was taken from another, so that little of both is left."""


def require(holds: bool | np.bool_ | np.ndarray, reason: str) -> None:
    """Raise `FederationError` with the reason unless the rule, one truth value, holds."""
    if not holds:
        raise FederationError(reason)


def check_counts(**counts: np.ndarray) -> None:
    """Require counts of patients, all together, that a hospital can have; each int64[...], by its name."""
    for name, count in counts.items():
        require((count >= 0).all(), f"'{name}' counts {count.min()} patients")
    total = sum(float(count.astype(np.float64).sum()) for count in counts.values())
    names = " and ".join(f"'{name}'" for name in counts)
    require(
        total <= MOST_PATIENTS,
        f"{names} count {total:,.0f} patients, and a hospital has at most {MOST_PATIENTS:,}",
    )


def check_sizes(**sums: np.ndarray) -> None:
    """Require sums that what is measured in patients can have; each float64[...], by its name."""
    for name, value in sums.items():
        require((np.abs(value) <= HUGE).all(), f"'{name}' is as large as {np.abs(value).max(initial=0):.0e}")


def check_fall(**sums: np.ndarray) -> None:
    """Require sums of what is not negative over ever fewer patients; each float64[J, ...], by its name."""
    for name, value in sums.items():
        require((value >= 0).all(), f"'{name}' is negative")
        slack = TOLERATED * value.max(axis=0, initial=0)
        require((np.diff(value, axis=0) <= slack).all(), f"'{name}' grows, though patients only leave")


def check_moments(zeroth: np.ndarray, first: np.ndarray, second: np.ndarray, name: str) -> None:
    """Require sums of w, w x and w x^2 with weights w >= 0 (Cauchy-Schwarz), of shapes that broadcast."""
    most = np.sqrt(zeroth) * np.sqrt(second)
    require(
        (np.abs(first) <= most * (1 + TOLERATED) + TOLERATED**2).all(),
        f"'{name}' is larger than the sums beside it allow",
    )


def check_squares(matrix: np.ndarray, name: str, rounding: float = TOLERATED) -> None:
    """Require a symmetric matrix float64[F, F] without negative eigenvalues, as sums of squares have."""
    scale = np.sqrt(np.abs(np.diag(matrix)))
    size = np.outer(scale, scale)
    unit = matrix / np.where(size > 0, size, 1.0)
    require((np.abs(unit - unit.T) <= rounding).all(), f"'{name}' is not symmetric")
    empty = scale == 0
    require((unit[empty] == 0).all(), f"'{name}' has a diagonal of 0 beside other numbers")
    lowest = np.linalg.eigvalsh((unit + unit.T) / 2)[0]
    require(lowest >= -rounding, f"'{name}' has a negative eigenvalue, as no sum of squares has")
