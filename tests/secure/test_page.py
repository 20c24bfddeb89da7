"""The page on secure aggregation: its examples run, and end where it says."""

import re

import numpy as np
import pandas as pd
import pytest

from hemafl_lib import statistics


@pytest.fixture(scope="module")
def ran(repository):
    """The names that the page's examples leave behind, run one after the other."""
    page = (repository / "book" / "reference" / "secure_aggregation.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    names = {}
    for number, block in enumerate(blocks):
        exec(block, names)
        names[f"run {number}"] = names["run"]
    return names


def test_the_first_run_ends_where_the_second_does(ran):
    one, other = ran["run 0"], ran["plain"]
    assert one.refused.empty
    for name, value in other.parameters.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(one.parameters[name], value, atol=1e-5, err_msg=name)


def test_the_statistics_are_those_of_the_plain_sums(ran):
    fit = statistics.over_flower(
        ran["filled"], lambda hospitals: statistics.cox(hospitals, grid=ran["years"]), minimum=1
    )
    pd.testing.assert_frame_equal(ran["fit"].table, fit.table, rtol=1e-9, atol=1e-12)


def test_the_compressed_run_sends_less(ran):
    assert ran["run 2"].bytes_sent < ran["plain"].bytes_sent
