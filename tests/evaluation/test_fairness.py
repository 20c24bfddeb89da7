"""What a user may rely on when clients are compared and printed percentages are checked."""

import math
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hemafl_lib import evaluation
from hemafl_lib.errors import EvaluationError

# Spread over clients

shares = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)
measures = st.dictionaries(st.text("abcdef", min_size=1), shares, min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(values=measures)
def test_spread_is_that_of_numpy(values):
    found = evaluation.spread(values)
    array = np.array(list(values.values()))
    assert found.mean == pytest.approx(array.mean())
    assert found.weighted_mean == pytest.approx(array.mean())
    assert found.standard_deviation == pytest.approx(array.std())
    assert found.range == pytest.approx(np.ptp(array))
    assert found.worst_value == array.min() == values[found.worst]
    assert evaluation.spread(pd.Series(values)) == pytest.approx(found, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(values=measures, scale=st.floats(1e-3, 1e3))
def test_jains_index_lies_between_one_nth_and_one_whatever_the_scale(values, scale):
    array = np.array(list(values.values()))
    assume(array.max() > 0)
    found = evaluation.jain_index(values)
    assert 1 / len(values) - 1e-9 <= found <= 1 + 1e-9
    assert evaluation.jain_index({name: value * scale for name, value in values.items()}) == pytest.approx(
        found
    )
    assert found == pytest.approx(1 / (1 + (array.std() / array.mean()) ** 2))


def test_jains_index_of_known_shares():
    assert evaluation.jain_index({"a": 0.7, "b": 0.7, "c": 0.7}) == pytest.approx(1)
    assert evaluation.jain_index({"a": 1, "b": 0, "c": 0, "d": 0}) == pytest.approx(0.25)
    assert evaluation.jain_index({"a": 0.9, "b": 1.0}) == pytest.approx(0.99724, abs=1e-5)
    assert evaluation.jain_index({"a": 0.5, "b": 1.0}) == pytest.approx(0.9)
    assert math.isnan(evaluation.jain_index({"a": 0.0, "b": 0.0}))


def test_rows_are_matched_by_name_not_by_order():
    found = evaluation.spread({"small": 0.5, "large": 0.9}, {"large": 300, "small": 100})
    assert found.weighted_mean == pytest.approx(0.8)
    assert found.mean == pytest.approx(0.7)
    assert (found.worst, found.worst_value) == ("small", 0.5)


def test_the_first_of_several_worst_clients_is_named():
    assert evaluation.spread({"b": 0.5, "a": 0.5, "c": 0.9}).worst == "b"


# Percentages and counts


def brute_force(percentage, n, decimals):
    """All counts whose percentage is printed so, by exact fractions."""
    printed = Fraction(percentage) * 10**decimals
    counts = []
    for count in range(n + 1):
        exact = Fraction(100 * count * 10**decimals, n)
        half_up, half_even = math.floor(exact + Fraction(1, 2)), round(exact)
        if printed in (half_up, half_even):
            counts.append(count)
    return counts


@settings(max_examples=150, deadline=None)
@given(n=st.integers(1, 60), decimals=st.integers(0, 2), data=st.data())
def test_attainable_agrees_with_trying_every_count(n, decimals, data):
    percentage = str(Decimal(data.draw(st.integers(0, 100 * 10**decimals))).scaleb(-decimals))
    counts = brute_force(percentage, n, decimals)
    assert evaluation.attainable(percentage, n, decimals) == bool(counts)
    table = evaluation.nearest_counts(percentage, n, decimals)
    assert set(table.loc[table["attains"], "count"]) <= set(counts)
    assert table["attains"].any() == bool(counts)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 5000), decimals=st.integers(0, 3), data=st.data())
def test_what_a_count_gives_is_attainable_however_ties_are_rounded(n, decimals, data):
    count = data.draw(st.integers(0, n))
    exact = Decimal(100 * count) / n
    for rounding in (ROUND_HALF_UP, ROUND_HALF_EVEN):
        printed = exact.quantize(Decimal(1).scaleb(-decimals), rounding)
        assert evaluation.attainable(str(printed), n, decimals)


def test_ties_may_be_rounded_up_or_to_the_even_digit_but_not_down_to_the_odd_one():
    assert evaluation.attainable("0.12", 800)
    assert evaluation.attainable("0.13", 800)
    assert evaluation.attainable("0.38", 800)
    assert not evaluation.attainable("0.37", 800)


def test_numbers_and_text_mean_the_same():
    assert evaluation.attainable(95.7, 651) == evaluation.attainable("95.70", 651) is True
    assert evaluation.attainable(np.float64(96.56), 651) == evaluation.attainable("96.56", 651) is False


def test_a_paper_whose_test_set_cannot_be_the_one_stated():
    """Table 1 and 2 of World J. Adv. Research and Reviews 24(03), 2795-2806, 2024: 2,594 test images."""
    printed = ["85.42", "86.31", "88.23", "89.4", "91.23", "89.85", "92.42", "91.8", "87.52", "85.93"]
    printed += ["93.21", "95.49", "94.15"]
    possible = [value for value in printed if evaluation.attainable(value, 2594)]
    assert possible == ["86.31", "89.4", "85.93", "95.49"]
    assert evaluation.nearest_counts("85.42", 2594)["count"].tolist() == [2215, 2216]
    assert evaluation.sizes_consistent_with(printed, range(1, 5000)) == []


def test_the_true_size_is_among_the_consistent_ones():
    printed = [f"{100 * count / 37:.2f}" for count in (5, 18, 31, 36)]
    found = evaluation.sizes_consistent_with(printed, range(1, 100))
    assert found == [n for n in range(1, 100) if all(brute_force(p, n, 2) for p in printed)]
    assert 37 in found
    assert 36 not in found
    assert evaluation.sizes_consistent_with(printed, np.arange(1, 100)) == found


# Refusals


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: evaluation.spread({}), "'values' must hold"),
        (lambda: evaluation.spread({"a": np.nan}), "'values' must hold"),
        (lambda: evaluation.jain_index({"a": -0.1}), "at least 0"),
        (lambda: evaluation.spread(pd.Series([1, 2], ["a", "a"])), "each named once"),
        (lambda: evaluation.spread({"a": 1}, {"b": 1}), "name the clients"),
        (lambda: evaluation.spread({"a": 1}, {"a": 0}), "rows of at least one"),
        (lambda: evaluation.spread({"a": 1}, {"a": -3}), "'rows' must hold"),
        (lambda: evaluation.attainable("95,70", 651), "'percentage' is 95,70"),
        (lambda: evaluation.attainable(float("nan"), 651), "'percentage' is nan"),
        (lambda: evaluation.attainable(100.5, 651), "from 0 to 100"),
        (lambda: evaluation.attainable("95.701", 651), "'decimals' is 2"),
        (lambda: evaluation.attainable("95", 651, decimals=-1), "'decimals' is -1"),
        (lambda: evaluation.nearest_counts("95.70", 0), "'n' is 0"),
        (lambda: evaluation.sizes_consistent_with(["x"], [3]), "'percentage' is x"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(call, sentence):
    with pytest.raises(EvaluationError, match=sentence):
        call()
