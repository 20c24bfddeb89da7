r"""Shamir's secret sharing: any t of n shares give a secret back, and t - 1 say nothing about it.

The secret is the value at 0 of a polynomial of degree t - 1 over a prime field, whose other coefficients are
drawn; share k is its value at k (Shamir, "How to share a secret", 1979). Any t values give the polynomial:

.. math:: s = \sum_{k} y_k \prod_{j \ne k} \frac{j}{j - k} \pmod p.
"""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence

from hemafl_lib.errors import PrivacyError

PRIME = 2**256 + 297
"""The smallest prime above 2^256, so that any 32 bytes are a number of the field."""

SECRET, SHARE = 32, 33
"""Bytes of a secret and of a share."""


def split(secret: bytes, threshold: int, count: int) -> list[bytes]:
    """Return ``count`` shares of a secret of 32 bytes, any ``threshold`` of which give it back.

    The k-th share, from 1 on, is 33 bytes. The coefficients come from the system's generator, since who could
    draw them again would need no shares. Raises `PrivacyError` if no such shares can be made.
    """
    if len(secret) != SECRET:
        raise PrivacyError(f"the secret has {len(secret)} bytes; give {SECRET}.")
    if not 1 <= threshold <= count:
        raise PrivacyError(f"threshold={threshold} is not from 1 to the {count} shares; choose such a one.")
    coefficients = [int.from_bytes(secret), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return [value_at(coefficients, place).to_bytes(SHARE) for place in range(1, count + 1)]


def value_at(coefficients: Sequence[int], place: int) -> int:
    """Return a polynomial's value, by Horner's rule."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * place + coefficient) % PRIME
    return value


def combine(shares: Mapping[int, bytes]) -> bytes | None:
    """Return the secret of which these are shares, by their places from 1 on; None if they are of none.

    All shares are used, so give as many as the threshold. Wrong ones give another secret or none, without a
    word: `recover` finds that out.
    """
    values = {place: int.from_bytes(share) for place, share in shares.items()}
    total = 0
    for place, value in values.items():
        others = [other for other in values if other != place]
        above = math.prod(others) % PRIME
        below = math.prod(other - place for other in others) % PRIME
        total += value * above * pow(below, -1, PRIME)
    secret = total % PRIME
    return secret.to_bytes(SECRET) if secret < 1 << (8 * SECRET) else None


def recover(
    shares: Mapping[int, bytes], threshold: int, public: Callable[[bytes], bytes], known: bytes
) -> bytes | None:
    """Return the secret whose ``public`` is ``known``, from any ``threshold`` neighbours among the shares.

    Where there are more shares than that, others take the place of a wrong one. None if no neighbours give
    such a secret.
    """
    places = sorted(shares)
    if len(places) < threshold:
        return None
    starts = range(1 if len(places) == threshold else len(places))
    for start in starts:
        chosen = [places[(start + step) % len(places)] for step in range(threshold)]
        secret = combine({place: shares[place] for place in chosen})
        if secret is not None and public(secret) == known:
            return secret
    return None
