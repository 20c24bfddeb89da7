"""Sums are exact, any threshold of the shares gives a secret back, and nothing wraps around unseen."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemafl_lib.errors import PrivacyError
from hemafl_lib.secure import fixed_point, shamir
from hemafl_lib.secure.fixed_point import decode, decode_wide, encode, encode_wide
from hemafl_lib.secure.packing import pack_sums, pack_update, unpack_mean, unpack_sums

# --- integers modulo 2^64 and 2^128 ------------------------------------------------------------------


def number_of(vector) -> int:
    return sum(int(word[0]) << (64 * k) for k, word in enumerate(vector))


def vector_of(number: int, words: int):
    parts = [(number >> (64 * k)) % 2**64 for k in range(words)]
    return np.array(parts, dtype=np.uint64)[:, None]


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1), st.sampled_from([1, 2]))
def test_sums_and_differences_are_those_of_the_ring(left, right, words):
    modulus = 2 ** (64 * words)
    a, b = vector_of(left % modulus, words), vector_of(right % modulus, words)
    assert number_of(fixed_point.add(a, b)) == (left + right) % modulus
    assert number_of(fixed_point.subtract(a, b)) == (left - right) % modulus


VALUES = st.floats(-64, 64)


@given(st.lists(VALUES, min_size=1, max_size=5), st.integers(1, 40))
def test_a_number_is_off_by_half_a_step_at_most(values, bits):
    values = np.array(values)
    coded = decode(encode(values, bits, 64.0, 1, 1), bits)
    assert np.abs(coded - values).max() <= 2.0 ** -(bits + 1)


@given(st.lists(st.tuples(VALUES, st.integers(1, 10_000)), min_size=3, max_size=8))
def test_a_weighted_sum_of_rounded_numbers_is_exact(sites):
    total = sum(encode(np.array([value]), 32, 64.0, weight, len(sites)) for value, weight in sites)
    exact = sum(round(Fraction(value) * 2**32) * weight for value, weight in sites)
    assert int(total.view(np.int64)[0, 0]) == exact


@given(st.lists(st.floats(-(2.0**56), 2.0**56), min_size=1, max_size=6))
def test_wide_sums_are_exact_down_to_2_to_the_minus_64(values):
    total = np.zeros((2, 1), dtype=np.uint64)
    for value in values:
        total = fixed_point.add(total, encode_wide(np.array([value])))
    exact = sum(Fraction(round(Fraction(value) * 2**64), 2**64) for value in values)
    assert decode_wide(total, np.dtype(float))[0] == pytest.approx(float(exact), rel=2**-52, abs=0)


@given(st.lists(st.integers(-(2**56), 2**56), min_size=1, max_size=6))
def test_whole_numbers_stay_whole(values):
    total = np.zeros((2, 1), dtype=np.uint64)
    for value in values:
        total = fixed_point.add(total, encode_wide(np.array([value], dtype=np.int64)))
    assert decode_wide(total, np.dtype(np.int64))[0] == sum(values)


@pytest.mark.survives(
    "A hospital's update is too large for secure aggregation, or no number",
    "It sends nothing and says so; no sum wraps around",
)
@pytest.mark.parametrize(
    ("value", "weight", "told"),
    [
        (64.001, 1, r"a number of its update is beyond limit=64"),
        (np.nan, 1, "is beyond limit=64"),
        (-np.inf, 1, "is beyond limit=64"),
        (1.0, 2**24, "might not fit into 64 bits; give SecureAggregation fewer bits"),
    ],
)
def test_what_does_not_fit_is_one_sentence(value, weight, told):
    with pytest.raises(PrivacyError, match=told):
        encode(np.array([value]), 32, 64.0, weight, 3)


def test_wide_numbers_that_do_not_fit_are_one_sentence():
    with pytest.raises(PrivacyError, match="measure in larger units"):
        encode_wide(np.array([2.0**57]))


# --- packing -----------------------------------------------------------------------------------------

ARRAYS = {
    "a": np.zeros((2, 3), np.float32),
    "b": np.ones(1),
    "steps": np.array(7),
    "c": np.zeros((0, 2), np.float32),
}
SETTINGS = {"bits": 32, "limit": 64.0, "parties": 3}


def moved(change: float, steps: int):
    return {k: v + steps if k == "steps" else (v + change).astype(v.dtype) for k, v in ARRAYS.items()}


@pytest.mark.parametrize(("weighted", "mean"), [(True, (1 * 10 + 2 * 30) / 40), (False, 1.5)])
def test_the_sum_of_packed_updates_is_the_mean(weighted, mean):
    parts = [
        pack_update(moved(change, steps), ARRAYS, examples, weighted=weighted, **SETTINGS)
        for change, steps, examples in ((1.0, 3, 10), (2.0, 4, 30))
    ]
    arrays, examples = unpack_mean(sum(parts), ARRAYS, 32)
    assert examples == 40
    assert arrays["a"] == pytest.approx(np.full((2, 3), mean))
    assert arrays["b"] == pytest.approx([1 + mean], abs=2**-33)
    assert arrays["steps"] == 11  # 7, and the mean of 3 and 4 rounded up
    assert {k: (v.dtype, v.shape) for k, v in arrays.items()} == {
        k: (v.dtype, v.shape) for k, v in ARRAYS.items()
    }


def test_a_site_without_examples_is_refused():
    with pytest.raises(PrivacyError, match="its number of examples is no weight"):
        pack_update(ARRAYS, ARRAYS, 0, weighted=True, **SETTINGS)


def test_sums_that_are_beyond_numbers_at_one_site_are_infinite_for_all():
    fine = {"risk": np.array([1.5, 2.0]), "rows": np.array(3)}
    wild = {"risk": np.array([np.inf, 2.0]), "rows": np.array(3)}
    (one, form), (two, _) = pack_sums(fine), pack_sums(wild)
    assert unpack_sums(fixed_point.add(one, one), form)["risk"].tolist() == [3.0, 4.0]
    assert unpack_sums(fixed_point.add(one, one), form)["rows"] == 6
    assert np.isinf(unpack_sums(fixed_point.add(one, two), form)["risk"]).all()


# --- Shamir ------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 5), st.integers(0, 3))
def test_any_threshold_of_the_shares_give_the_secret_back(secret, threshold, more):
    shares = dict(enumerate(shamir.split(secret, threshold, threshold + more), start=1))
    for chosen in combinations(shares, threshold):
        assert shamir.combine({place: shares[place] for place in chosen}) == secret


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.integers(2, 6))
def test_fewer_shares_fit_any_other_secret_as_well(secret, other, threshold):
    """For every other secret there is one last share with which it comes out."""
    shares = dict(enumerate(shamir.split(secret, threshold, threshold), start=1))
    del shares[threshold]
    at_zero = {0: int.from_bytes(other), **{place: int.from_bytes(s) for place, s in shares.items()}}
    last = interpolate(at_zero, threshold) % shamir.PRIME
    assert shamir.combine({**shares, threshold: last.to_bytes(shamir.SHARE)}) == other


def interpolate(points: dict[int, int], place: int) -> int:
    total = 0
    for x, y in points.items():
        for other in points:
            if other != x:
                y = y * (place - other) * pow(x - other, -1, shamir.PRIME) % shamir.PRIME
        total += y
    return total


def test_a_wrong_share_is_passed_over_where_there_are_others():
    secret = bytes(range(32))
    shares = dict(enumerate(shamir.split(secret, 3, 5), start=1))
    shares[2] = bytes(33)
    assert shamir.recover(shares, 3, bytes, secret) == secret
    shares[4] = bytes(33)
    assert shamir.recover({k: shares[k] for k in (1, 2, 3, 4)}, 3, bytes, secret) is None
    assert shamir.recover({1: shares[1], 3: shares[3]}, 3, bytes, secret) is None


@pytest.mark.parametrize(
    ("secret", "threshold", "told"),
    [(bytes(31), 2, "31 bytes; give 32"), (bytes(32), 0, "threshold=0"), (bytes(32), 4, "threshold=4")],
)
def test_shares_that_cannot_be_are_one_sentence(secret, threshold, told):
    with pytest.raises(PrivacyError, match=told):
        shamir.split(secret, threshold, 3)
