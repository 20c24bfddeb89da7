"""What a site sends as one vector of integers, and what the server reads from the sum of such vectors.

After training that is the site's update times its number of examples, and that number itself, so that their
quotient is the mean of federated averaging with no rounding but the first, to a multiple of 2^-bits. A
statistic's arrays of sums are sent as they are, in two words a number.
"""

import json
import math

import numpy as np

from hemafl_lib.aggregation import Parameters
from hemafl_lib.errors import PrivacyError
from hemafl_lib.federation.mods import update_of
from hemafl_lib.federation.replies import MOST_EXAMPLES, MOST_STEPS
from hemafl_lib.federation.roster import MOST
from hemafl_lib.federation.wire import flat, unflat
from hemafl_lib.secure.fixed_point import Vector, decode, decode_wide, encode, encode_wide, fits_wide


def pack_update(
    sent: Parameters,
    received: Parameters,
    examples: int,
    *,
    weighted: bool,
    bits: int,
    limit: float,
    parties: int,
) -> Vector:
    """Return a site's update as integers of one word, uint64[1, N + 2].

    Parameters
    ----------
    sent, received
        The site's arrays after and before training, see `trained_arrays`; they hold N numbers.
    examples
        The site's rows.
    weighted
        Whether these are its weight; otherwise all sites count the same.
    bits, limit, parties
        As for `encode`.

    Raises
    ------
    PrivacyError
        If a number is beyond the limit or not finite, or the sum might not fit.
    """
    if not 0 < examples <= MOST_EXAMPLES:
        raise PrivacyError(f"its number of examples is no weight; give 1 to {MOST_EXAMPLES:,}.")
    weight = examples if weighted else 1
    growth = {k: sent[k].astype(np.float64) - received[k] for k in counters(received)}
    return np.concatenate(
        [
            encode(flat(update_of(sent, received)), bits, limit, weight, parties),
            encode(flat(growth), 0, MOST_STEPS, weight, parties),
            encode(np.array([weight, examples], dtype=np.float64), 0, MOST_EXAMPLES, 1, parties),
        ],
        axis=1,
    )


def unpack_mean(
    total: Vector, received: Parameters, bits: int, *, limit: float = math.inf, parties: int = MOST
) -> tuple[Parameters, int]:
    """Return the mean of the sites' arrays and the sum of their examples, from the sum of their vectors.

    A counter is the mean, rounded up: of a sum, nobody can read the largest. Raises `PrivacyError` if no
    updates of so many ``parties`` within ``limit`` have such a mean.
    """
    numbers = [name for name in sorted(received) if name not in counters(received)]
    size = sum(received[name].size for name in numbers)
    weight, examples = decode(total[:, -2:], 0)
    values = decode(total[:, :size], bits)
    most = parties * MOST_EXAMPLES
    if not (0 < weight <= most and 0 < examples <= most and (np.abs(values) <= limit * weight).all()):
        raise PrivacyError(
            f"the mean of the updates is beyond limit={limit:g}, so that some site has sent what is none; "
            "look for it by leaving sites out."
        )
    mean = unflat(values / weight, {k: received[k] for k in numbers})
    growth = unflat(
        np.ceil(decode(total[:, size:-2], 0) / weight), {k: received[k] for k in counters(received)}
    )
    moved = {k: received[k].astype(np.float64) + v for k, v in (mean | growth).items()}
    return {k: np.asarray(moved[k].astype(received[k].dtype)) for k in received}, int(examples)


def update_size(received: Parameters) -> int:
    """Return how many integers `pack_update` makes of arrays like these."""
    return sum(value.size for value in received.values()) + 2


def counters(arrays: Parameters) -> list[str]:
    """Return the names of the integer arrays, in order."""
    return [name for name in sorted(arrays) if np.issubdtype(arrays[name].dtype, np.integer)]


def pack_sums(arrays: Parameters) -> tuple[Vector, str]:
    """Return a statistic's sums as integers of two words, and in JSON which arrays they are.

    uint64[2, N + 1]: where a number is not finite or too large, all are 0 and the last says so, by 1.
    """
    form = json.dumps([[name, arrays[name].dtype.str, arrays[name].shape] for name in sorted(arrays)])
    fit = all(fits_wide(value) for value in arrays.values())
    coded = [
        encode_wide(arrays[name].ravel() if fit else np.zeros(arrays[name].size)) for name in sorted(arrays)
    ]
    return np.concatenate([*coded, encode_wide(np.array([0 if fit else 1]))], axis=1), form


def unpack_sums(total: Vector, form: str) -> Parameters:
    """Return the sums; float arrays are infinite if at some site a number was, or was too large."""
    arrays, start = {}, 0
    beyond = total[:, -1].any()
    for name, dtype, shape in json.loads(form):
        size = int(np.prod(shape))
        values = decode_wide(total[:, start : start + size], np.dtype(dtype)).reshape(shape)
        arrays[name] = np.full_like(values, np.inf) if beyond and values.dtype.kind == "f" else values
        start += size
    return arrays
