"""Numbers as integers modulo 2^64 or 2^128, where masks vanish and no sum is rounded.

A **vector** is uint64[words, N]: N integers of one or two words, the lowest word first. Negative integers are
those of the upper half, as in any processor. A number x stands as the integer nearest to x * 2^bits.
"""

import numpy as np

from hemafl_lib.errors import PrivacyError

Vector = np.ndarray
"""Integers modulo 2^(64 * words), uint64[words, N]."""

WIDE_LIMIT = 2.0**56
"""Largest size of a number in two words: sums of 127 such numbers fit, and steps of 2^-64 below the point."""

TOP_BIT = np.uint64(1 << 63)


def add(left: Vector, right: Vector) -> Vector:
    """Return the sum modulo 2^64 or 2^128; what goes beyond one word is carried into the other."""
    total = left + right
    if len(total) == 2:
        total[1] += total[0] < left[0]
    return total


def subtract(left: Vector, right: Vector) -> Vector:
    """Return the difference modulo 2^64 or 2^128."""
    total = left - right
    if len(total) == 2:
        total[1] -= left[0] < right[0]
    return total


def negative(vector: Vector) -> Vector:
    """Return what added to ``vector`` gives 0."""
    return subtract(np.zeros_like(vector), vector)


def encode(values: np.ndarray, bits: int, limit: float, weight: int, parties: int) -> Vector:
    """Return ``weight`` times the values as integers of one word, uint64[1, N].

    Parameters
    ----------
    values
        float64[N]. Each is rounded to a multiple of 2^-bits first, so that the sum over sites is exact.
    bits
        Binary digits after the point.
    limit
        Largest size of a value.
    weight
        A whole number of at least 1.
    parties
        How many such vectors will be added up.

    Raises
    ------
    PrivacyError
        If a value is beyond the limit or not finite, or if the sum might not fit into 64 bits. It names no
        number of the site's own, since the server reads it.
    """
    largest = float(np.max(np.abs(values), initial=0.0))
    if not largest <= limit:
        raise PrivacyError(
            f"a number of its update is beyond limit={limit:g}, so it is not sent; give SecureAggregation a "
            "larger limit, or let updates be shorter, for example with ClipUpdate."
        )
    if parties * weight * int(np.ceil(np.ldexp(limit, bits))) >= 1 << 63:
        raise PrivacyError(
            f"{parties} sums of its examples times {limit:g} with {bits} bits after the point might not fit "
            "into 64 bits; give SecureAggregation fewer bits or a smaller limit."
        )
    integers = np.rint(np.ldexp(values, bits)).astype(np.int64) * np.int64(weight)
    return integers.view(np.uint64)[None]


def decode(vector: Vector, bits: int) -> np.ndarray:
    """Return the numbers of a vector of one word, float64[N]."""
    return np.ldexp(vector[0].view(np.int64).astype(np.float64), -bits)


def encode_wide(values: np.ndarray) -> Vector:
    """Return numbers as integers of two words with 64 bits after the point, uint64[2, N].

    ``values`` is float64[N] or int64[N], each of a size of at most `WIDE_LIMIT`. Whole numbers stay exact,
    and so does every float64 of at least 2^-11; smaller ones are rounded to a multiple of 2^-64. Raises
    `PrivacyError` for others.
    """
    if not fits_wide(values):
        raise PrivacyError(f"a number is beyond {WIDE_LIMIT:g}, so it is not sent; measure in larger units.")
    size = np.abs(values)
    whole = np.trunc(size)
    vector = np.stack([np.rint(np.ldexp(size - whole, 64)).astype(np.uint64), whole.astype(np.uint64)])
    return np.where(values < 0, negative(vector), vector)


def fits_wide(values: np.ndarray) -> bool:
    """Return whether `encode_wide` takes the values."""
    return bool((np.abs(values) <= WIDE_LIMIT).all())


def decode_wide(vector: Vector, dtype: np.dtype) -> np.ndarray:
    """Return the numbers of a vector of two words, float64[N] or, where these were encoded, int64[N]."""
    below = vector[1] >= TOP_BIT
    size = np.where(below, negative(vector), vector)
    sign = np.where(below, -1, 1)
    if dtype.kind == "i":
        return sign * size[1].astype(np.int64)
    return sign * (size[1].astype(np.float64) + np.ldexp(size[0].astype(np.float64), -64))
