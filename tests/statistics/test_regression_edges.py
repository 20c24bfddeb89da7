"""Regressions at the edge: features far from 0, in any unit, without deaths, or that part the outcomes."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_federated_statistics import EXACT, cohort, dealt

from hemafl_lib import statistics
from hemafl_lib.errors import HemaflError
from hemafl_lib.models import firth_logistic, ridge_cox, ridge_logistic
from hemafl_lib.seeds import numpy_generator

FITS = {"cox": statistics.cox, "stratified": statistics.cox_stratified, "logistic": statistics.logistic}
ROWS = 120


def patients(seed=0):
    """Two features that float32 holds at any offset used here, times with ties, events and labels."""
    generator = numpy_generator(seed, "edges")
    values = np.stack([np.round(generator.normal(size=ROWS) * 64) / 64, generator.random(ROWS) < 0.3], axis=1)
    risk = values @ [0.7, -0.5]
    time = np.ceil(generator.exponential(20 * np.exp(-risk))) + 1
    label = (generator.random(ROWS) < 1 / (1 + np.exp(-risk))).astype(int)
    return values, {"time": time, "event": generator.random(ROWS) < 0.7, "label": label}


def fitted(fit, values, outcome, **settings):
    return FITS[fit](dealt(cohort(values, **outcome)), **EXACT | settings)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.survives(
    "A feature that lies far from 0, such as a year or a count of 7,000",
    "the coefficients and standard errors are those of the centred feature, over sites and in one place",
)
def test_where_a_feature_begins_makes_no_difference(fit):
    values, outcome = patients()
    plain = fitted(fit, values, outcome)
    for offset in (-7000.0, 7000.0, 2.0**17):
        moved = fitted(fit, values + np.array([offset, 0.0]), outcome)
        last = slice(-2, None)
        assert moved.coefficients[last] == pytest.approx(plain.coefficients[last], rel=1e-9)
        assert moved.table["se"].to_numpy()[last] == pytest.approx(
            plain.table["se"].to_numpy()[last], rel=1e-7
        )
    assert plain.account.rounds < moved.account.rounds + (fit == "stratified")


def test_probabilities_of_a_far_feature_are_those_of_the_centred_one():
    values, outcome = patients()
    plain, moved = (fitted("logistic", values + np.array([offset, 0]), outcome) for offset in (0.0, 7000.0))
    near, far = cohort(values, **outcome), cohort(values + np.array([7000.0, 0]), **outcome)
    assert moved.probability(far) == pytest.approx(plain.probability(near), abs=1e-9)


@pytest.mark.parametrize("fit", FITS)
@settings(max_examples=8, deadline=None)
@given(power=st.integers(-20, 20), offset=st.sampled_from([0.0, -64.0, 4096.0]))
def test_units_make_no_difference(fit, power, offset):
    values, outcome = patients()
    plain = fitted(fit, values, outcome).coefficients[-2:]
    scaled = fitted(fit, (values + offset) * 2.0**power, outcome).coefficients[-2:]
    assert scaled * 2.0**power == pytest.approx(plain, rel=1e-6)


@pytest.mark.parametrize("offset", [100.0, 7000.0, 1e6])
def test_penalised_models_do_not_depend_on_where_a_feature_begins(offset):
    values, outcome = patients()
    moved = values + np.array([offset, 0.0])
    time, event, label = outcome["time"], outcome["event"], outcome["label"]
    assert ridge_cox(moved, time, event, 1.0) == pytest.approx(ridge_cox(values, time, event, 1.0), rel=1e-6)
    for fit in (lambda rows: ridge_logistic(rows, label, 1.0), lambda rows: firth_logistic(rows, label)):
        here, there = fit(values), fit(moved)
        assert there.coefficients == pytest.approx(here.coefficients, rel=1e-6)
        assert there.standard_errors[1:] == pytest.approx(here.standard_errors[1:], rel=1e-6)
        assert there.probabilities(moved) == pytest.approx(here.probabilities(values), abs=1e-6)


def refused(call, sentence):
    with pytest.raises(HemaflError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(re.findall(r"[.?!](?:\s|$)", str(caught.value))) == 1


NOTHING = "no patient died while another was at risk|no site has a death"


@pytest.mark.parametrize("fit", ["cox", "stratified"])
@pytest.mark.parametrize("grid", [None, np.arange(1.0, 100.0)])
@pytest.mark.survives(
    "Survival data in which nobody died, or only after the grid's last time",
    "a sentence says that there is no death to learn from, and blames no feature",
)
def test_without_deaths_there_is_nothing_to_estimate(fit, grid):
    values, outcome = patients()
    outcome["event"] = np.zeros(ROWS, dtype=bool)
    refused(lambda: fitted(fit, values, outcome, grid=grid), NOTHING)
    late = outcome | {"time": np.full(ROWS, 500.0), "event": np.ones(ROWS, dtype=bool)}
    if grid is not None:
        refused(lambda: fitted(fit, values, late, grid=grid), NOTHING)


@pytest.mark.parametrize("fit", ["cox", "stratified"])
def test_all_deaths_at_one_time_or_a_single_death_give_an_estimate(fit):
    values, outcome = patients()
    together = outcome | {"time": np.full(ROWS, 6.0)}
    assert np.isfinite(fitted(fit, values, together).coefficients).all()
    single = np.zeros(ROWS, dtype=bool)
    single[np.argsort(values[:, 0])[ROWS // 2]] = True
    one = fitted(fit, values[:, :1], outcome | {"time": np.arange(1.0, ROWS + 1) % 7 + 1, "event": single})
    assert np.isfinite(one.coefficients).all()


@pytest.mark.parametrize("fit", FITS)
def test_features_that_tell_nothing_new_are_named(fit):
    values, outcome = patients()
    for shift in (0.0, 7000.0):
        constant = np.column_stack([values, np.full(ROWS, 0.3 + shift)])
        twice = np.column_stack([values, values[:, 0] + shift])
        if shift or fit != "logistic":
            refused(lambda rows=constant: fitted(fit, rows, outcome), "feature 'x2' does not vary")
        refused(lambda rows=twice: fitted(fit, rows, outcome), "'x0' and 'x2' are collinear")
    for value, sentence in ((np.nan, "'x1' has missing values"), (np.inf, "'x1' has infinite values")):
        holes = values.copy()
        holes[3, 1] = value
        refused(lambda rows=holes: fitted(fit, rows, outcome), sentence)


@pytest.mark.survives(
    "A logistic regression of patients who all have, or all lack, the outcome",
    "a sentence says so, with or without a ridge",
)
def test_one_class_alone_is_refused_for_what_it_is():
    values, outcome = patients()
    for label in (0, 1):
        for ridge in (0.0, 1.0):
            alone = outcome | {"label": np.full(ROWS, label)}
            refused(
                lambda r=ridge, o=alone: fitted("logistic", values, o, ridge=r),
                f"all patients have the label {label}",
            )


def test_separation_is_told_from_a_climb_that_does_not_end():
    values, outcome = patients()
    far = np.column_stack([outcome["label"] + 7000.0, values[:, 0]])
    refused(lambda: fitted("logistic", far, outcome), "'x0' grows without end")
    refused(lambda: fitted("cox", np.column_stack([-outcome["time"]]), outcome), "'x0' grows without end")


def test_a_server_cannot_ask_for_a_centre_that_does_not_fit():
    values, outcome = patients()
    table = cohort(values, **outcome)
    for centre in (np.zeros(3), np.array([np.nan, 0.0]), np.zeros((2, 2))):
        question = {"beta": np.zeros(2), "times": np.array([5.0]), "centre": centre}
        refused(
            lambda q=question: statistics.risk_and_tie_sums(table, q, 1), "'centre' must be one finite number"
        )


def test_a_hazard_that_is_no_number_is_refused():
    values, outcome = patients()
    sites = dealt(cohort(values + 7000.0, **outcome))
    refused(
        lambda: statistics.baseline_hazard(sites, np.array([0.5, 0.5]), **EXACT),
        "relative hazard is too large",
    )


def test_concordance_without_pairs_is_not_a_number():
    values, outcome = patients()
    outcome["event"] = np.zeros(ROWS, dtype=bool)
    found = statistics.concordance(dealt(cohort(values, **outcome)), np.array([1.0, 0.0]), **EXACT)
    assert np.isnan(found.within)
    single = cohort(values[:1], **{name: value[:1] for name, value in outcome.items()})
    assert np.isnan(statistics.concordance(dealt(single), np.array([1.0, 0.0]), **EXACT).pairs_seen)
