"""Arrays from elsewhere, in the types of those they are to be put together with.

The receiver's types count. A float is rounded to the receiver's precision, as any computation rounds; every
other change of type must keep each number exactly as it is: a whole number or a truth value for a float, a
float for a counter. What is too large for the type, not finite or no number at all is refused.
"""

from collections.abc import Collection, Mapping

import numpy as np

from hemafl_lib.aggregation import Parameters
from hemafl_lib.errors import FederationError, one_line

EXACT = 2**53
"""Up to here a float64 holds every whole number."""


class NotFinite(FederationError):
    """An array holds infinite numbers, or none at all."""


def fitted(arrays: Parameters, like: Mapping[str, np.ndarray], infinite: Collection[str] = ()) -> Parameters:
    """Return the arrays in the types of those of the same name in ``like``.

    Those named in ``infinite`` need not be finite. Raises `FederationError`, which names the array, if one is
    missing, unknown or of another shape, or if its numbers are not finite or cannot be kept in the type.
    """
    if missing := sorted(set(like) - set(arrays)):
        raise FederationError(f"array '{missing[0]}' is missing")
    if unknown := sorted(set(arrays) - set(like)):
        raise FederationError(f"array '{one_line(unknown[0])}' is unknown")
    for name, value in arrays.items():
        if value.dtype.kind == "f" and name not in infinite and not np.isfinite(value).all():
            raise NotFinite(f"array '{name}' is not finite")
    return {name: fitted_array(name, value, like[name]) for name, value in arrays.items()}


def fitted_array(name: str, value: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return one array in the type of ``like``, the same object if it has it; raises as `fitted`."""
    if value.shape != like.shape:
        raise FederationError(f"array '{name}' has shape {value.shape} instead of {like.shape}")
    if value.dtype.kind not in "fiub":
        raise FederationError(f"array '{name}' holds {value.dtype}, which are no numbers of {like.dtype}")
    return value if value.dtype == like.dtype else cast(name, value, like.dtype)


def cast(name: str, value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return numbers in another type; raise `FederationError` if that changes more than rounding."""
    rounds = value.dtype.kind == "f" and dtype.kind == "f"
    if not rounds and not is_exact(value, dtype):
        raise FederationError(f"array '{name}' holds {value.dtype} numbers that {dtype} cannot hold exactly")
    with np.errstate(over="ignore"):
        found = value.astype(dtype)
    if rounds and not (np.isfinite(found) == np.isfinite(value)).all():
        raise FederationError(f"array '{name}' holds numbers too large for {dtype}")
    return found


def is_exact(value: np.ndarray, dtype: np.dtype) -> bool:
    """Return whether each number is one of ``dtype`` too; of whole numbers for a float, up to 2^53."""
    if value.size == 0:
        return True
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        return False
    if dtype.kind == "f":
        number = value.astype(np.float64)
        with np.errstate(over="ignore"):
            return bool(np.abs(number).max() <= EXACT and (value.astype(dtype) == number).all())
    if value.dtype.kind == "f" and not (np.trunc(value) == value).all():
        return False
    lowest, highest = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return int(lowest) <= int(value.min()) and int(value.max()) <= int(highest)
