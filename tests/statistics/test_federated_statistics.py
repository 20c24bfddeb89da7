"""Statistics over sites equal those of pooled rows, and say what they reveal."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from builders.cohorts import cohort, dealt, drawn
from builders.federated import pictures
from builders.federated import sites as labelled_sites
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.datasets import load_gbsg2, load_rossi
from lifelines.utils import concordance_index
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import concordance_index_censored
from sksurv.util import Surv

from hemafl_lib import statistics
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.local import LocalGrid
from hemafl_lib.federation.exchange import to_record
from hemafl_lib.partition import Site
from hemafl_lib.seeds import numpy_generator
from hemafl_lib.statistics import follow_up
from hemafl_lib.statistics.cells import suppress
from hemafl_lib.statistics.cox import risk_sums

EXACT = {"minimum": 1}
WEEKS = np.arange(1.0, 53.0)


def rossi():
    """432 prisoners, 114 arrests in 49 weeks (many tied)."""
    frame = load_rossi()
    names = [name for name in frame if name not in ("week", "arrest")]
    return frame, cohort(frame[names], names, time=frame["week"], event=frame["arrest"])


def gbsg2():
    """686 patients with breast cancer, times in days."""
    frame = load_gbsg2()[["age", "tsize", "pnodes", "progrec", "estrec", "time", "cens"]].astype("float32")
    return frame, cohort(frame.iloc[:, :5], frame.columns[:5], time=frame["time"], event=frame["cens"])


def by_lifelines(frame, time, event, **arguments):
    fitter = CoxPHFitter(**arguments)
    return fitter.fit(frame, time, event, fit_options={"precision": 1e-12})


def as_frame(whole):
    frame = pd.DataFrame(whole.features.numpy().astype(float), columns=whole.feature_names)
    return frame.assign(time=whole.time.numpy().astype(float), event=whole.event.numpy())


def pooled_arrays(whole):
    return whole.features.numpy().astype(float), Surv.from_arrays(whole.event.numpy(), whole.time.numpy())


# Standardisation


def test_mean_and_sd_are_those_of_the_pooled_rows():
    whole = drawn(200)
    whole.features[::7, 0] = torch.nan
    result = statistics.standardise(dealt(whole))
    pooled = StandardScaler().fit(whole.features.numpy().astype(float))
    np.testing.assert_allclose(result.table["mean"], pooled.mean_, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(result.table["sd"], pooled.scale_, rtol=1e-12)
    assert result.table["missing"].tolist() == [29, 0, 0]
    assert result.account.rounds == 1


def test_missing_values_become_the_mean_of_all_sites_in_every_part():
    whole = drawn(60)
    whole.features[3, 1] = torch.nan
    site = Site("a", whole.take(range(40)), whole.take(range(40, 50)), whole.take([3]))
    result = statistics.standardise([site])
    (filled,) = result.apply([site], scale=False)
    mean = np.float32(result.table.loc["x1", "mean"])
    assert filled.train.features[3, 1] == filled.test.features[0, 1] == mean
    assert torch.equal(filled.validation.features, site.validation.features)
    (scaled,) = result.apply([site])
    assert scaled.train.features[3, 1] == 0
    np.testing.assert_allclose(scaled.train.features.mean(0), 0, atol=1e-6)
    assert torch.isnan(site.train.features[3, 1]), "the caller's site is untouched"


def test_a_constant_feature_becomes_zero():
    values = np.random.default_rng(0).normal(size=(30, 2))
    values[:, 1] = 7.3
    sites = dealt(cohort(values, label=np.zeros(30)))
    result = statistics.standardise(sites)
    assert result.table.loc["x1", "sd"] == 0
    assert all((site.train.features[:, 1] == 0).all() for site in result.apply(sites))


def test_a_feature_that_nobody_measured_is_named():
    whole = drawn(30)
    whole.features[:, 2] = torch.nan
    with pytest.raises(FederationError, match="'x2' is missing at every site"):
        statistics.standardise(dealt(whole))


# Cox regression


@pytest.mark.parametrize("data", [rossi, gbsg2])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_cox_equals_lifelines_on_the_pooled_rows(data, count):
    frame, whole = data()
    time, event = ("week", "arrest") if data is rossi else ("time", "cens")
    fit = statistics.cox(dealt(whole, count), **EXACT)
    pooled = by_lifelines(frame, time, event)
    np.testing.assert_allclose(fit.coefficients, pooled.params_, atol=1e-6)
    np.testing.assert_allclose(fit.table["se"], pooled.standard_errors_, atol=1e-6)
    np.testing.assert_allclose(fit.table["p"], pooled.summary["p"], atol=1e-6)
    np.testing.assert_allclose(fit.table["lower"], pooled.summary["exp(coef) lower 95%"], atol=1e-6)
    assert fit.log_likelihood == pytest.approx(pooled.log_likelihood_, abs=1e-8)
    assert fit.account.rounds <= 10


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("ridge", [0.0, 3.0])
def test_cox_equals_scikit_survival_with_either_ties_and_a_ridge(ties, ridge):
    whole = drawn(150)
    fit = statistics.cox(dealt(whole), ties=ties, ridge=ridge, **EXACT)
    pooled = CoxPHSurvivalAnalysis(alpha=ridge, ties=ties, tol=1e-14).fit(*pooled_arrays(whole))
    np.testing.assert_allclose(fit.coefficients, pooled.coef_, atol=1e-6)


@pytest.mark.parametrize("count", [1, 3])
def test_stratified_cox_equals_lifelines_with_strata(count):
    frame, whole = rossi()
    sites = dealt(whole, count)
    frame["site"] = numpy_generator(0, "dealt").integers(0, count, len(whole))
    fit = statistics.cox_stratified(sites)
    pooled = by_lifelines(frame, "week", "arrest", strata="site")
    np.testing.assert_allclose(fit.coefficients, pooled.params_, atol=1e-6)
    np.testing.assert_allclose(fit.table["se"], pooled.standard_errors_, atol=1e-6)


def test_stratified_cox_loses_what_is_told_between_sites():
    """Everybody at one site has the feature: local risk sets say nothing about it."""
    whole = drawn(200)
    high = whole.features[:, 0] > 0
    whole.features[:, 1] = high
    sites = [
        Site(name, *[whole.take(np.flatnonzero(rows))] * 3) for name, rows in (("a", high), ("b", ~high))
    ]
    with pytest.raises(FederationError, match="'x1' does not vary"):
        statistics.cox_stratified(sites)
    assert statistics.cox(sites, **EXACT).table.loc["x1", "se"] < 1


def test_a_grid_gives_exactly_the_pooled_model_of_the_rounded_times():
    frame, whole = gbsg2()
    grid = np.arange(30.0, 2101.0, 30.0)
    fit = statistics.cox(dealt(whole), grid=grid, **EXACT)
    time, event = statistics.on_grid(frame["time"].to_numpy(), frame["cens"].to_numpy() > 0, grid)
    pooled = by_lifelines(frame.assign(time=time, cens=event), "time", "cens")
    np.testing.assert_allclose(fit.coefficients, pooled.params_, atol=1e-6)
    np.testing.assert_allclose(fit.table["se"], pooled.standard_errors_, atol=1e-6)


def test_times_are_rounded_up_and_follow_up_ends_with_the_grid():
    time, event = statistics.on_grid(
        np.array([0.0, 1.0, 1.1, 2.0, 2.1]), np.array([True, True, True, False, True]), np.array([1.0, 2.0])
    )
    assert time.tolist() == [1, 1, 2, 2, 2]
    assert event.tolist() == [True, True, True, False, False]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**20), count=st.integers(2, 9))
def test_how_rows_are_dealt_to_sites_makes_no_difference(seed, count):
    whole = drawn(80)
    survival, label = dealt(whole, count, seed), cohort(whole.features, label=whole.event)
    one, many = statistics.cox(dealt(whole, 1), **EXACT), statistics.cox(survival, **EXACT)
    np.testing.assert_allclose(one.coefficients, many.coefficients, atol=1e-9)
    one, many = statistics.logistic(dealt(label, 1)), statistics.logistic(dealt(label, count, seed), **EXACT)
    np.testing.assert_allclose(one.coefficients, many.coefficients, atol=1e-9)
    one, many = statistics.kaplan_meier(dealt(whole, 1), **EXACT), statistics.kaplan_meier(survival, **EXACT)
    pd.testing.assert_frame_equal(one.table, many.table)


def test_a_site_where_nobody_died_still_counts_as_at_risk():
    whole = drawn(120)
    alive, rest = whole.take(range(20)), whole.take(range(20, 120))
    alive = replace(alive, event=torch.zeros(20, dtype=torch.bool))
    sites = [Site("alive", *[alive] * 3), Site("rest", *[rest] * 3)]
    fit = statistics.cox(sites, **EXACT)
    frame = pd.concat([as_frame(alive), as_frame(rest)])
    np.testing.assert_allclose(fit.coefficients, by_lifelines(frame, "time", "event").params_, atol=1e-6)
    stratified, alone = statistics.cox_stratified(sites), statistics.cox_stratified(sites[1:])
    np.testing.assert_allclose(stratified.coefficients, alone.coefficients, atol=1e-12)
    over = statistics.over_flower(sites, statistics.cox, minimum=1)
    pd.testing.assert_frame_equal(over.table, fit.table, check_exact=True)


@pytest.mark.survives(
    "A feature separates who died from who lived", "a sentence that names it, instead of a huge coefficient"
)
def test_a_coefficient_that_grows_without_end_is_named():
    whole = drawn(100)
    whole.features[:, 2] = whole.event.float()  # nobody without the feature dies
    for fit in (statistics.cox, statistics.cox_stratified):
        with pytest.raises(FederationError, match=r"no finite estimate exists.*'x2'.*ridge"):
            fit(dealt(whole), **EXACT)
        assert np.isfinite(fit(dealt(whole), ridge=1.0, **EXACT).coefficients).all()


@pytest.mark.survives("A feature is constant or repeats another", "a sentence that names it")
def test_constant_and_collinear_features_are_named():
    whole = drawn(100)
    whole.features[:, 2] = 1.7
    with pytest.raises(FederationError, match="'x2' does not vary"):
        statistics.cox(dealt(whole), **EXACT)
    whole.features[:, 2] = 2 * whole.features[:, 0]
    with pytest.raises(FederationError, match="'x0' and 'x2' are collinear"):
        statistics.cox(dealt(whole), **EXACT)


# Logistic regression


@pytest.mark.parametrize("strength", [np.inf, 0.5])
def test_logistic_equals_scikit_learn_on_the_pooled_rows(strength):
    sites = labelled_sites(4, rows=60)
    for site in sites:  # bring the classes closer, so that they overlap
        site.train.features.sub_(1.7 * site.train.label[:, None])
    values = np.concatenate([site.train.features.numpy() for site in sites]).astype(float)
    label = np.concatenate([site.train.label.numpy() for site in sites])
    ridge = 0.0 if strength == np.inf else 1 / strength
    fit = statistics.logistic(sites, ridge=ridge)
    pooled = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    pooled.fit(values, label)
    np.testing.assert_allclose(fit.coefficients[1:], pooled.coef_[0], atol=1e-6)
    np.testing.assert_allclose(fit.coefficients[0], pooled.intercept_[0], atol=1e-6)
    probability = pooled.predict_proba(sites[0].train.features.numpy().astype(float))[:, 1]
    np.testing.assert_allclose(fit.probability(sites[0].train), probability, atol=1e-6)
    assert fit.account.rounds <= 10


@pytest.mark.survives(
    "Two classes can be separated perfectly", "a sentence instead of an estimate without end"
)
def test_separable_classes_have_no_finite_estimate():
    sites = labelled_sites(3)
    for site in sites:
        site.train.features[:, 4] += 10.0 * site.train.label
    with pytest.raises(FederationError, match=r"no finite estimate exists.*'x4'.*ridge"):
        statistics.logistic(sites)
    assert np.isfinite(statistics.logistic(sites, ridge=1.0).coefficients).all()


def test_labels_other_than_0_and_1_are_refused():
    with pytest.raises(FederationError, match="values other than 0 and 1"):
        statistics.logistic(dealt(cohort(np.eye(6), label=np.arange(6))))
    with pytest.raises(FederationError, match="has no 'label'"):
        statistics.logistic(dealt(drawn(20)))


# Survival curves, baseline hazard, concordance


@pytest.mark.parametrize("data", [rossi, gbsg2])
def test_kaplan_meier_equals_lifelines_at_every_time_of_death(data):
    _, whole = data()
    result = statistics.kaplan_meier(dealt(whole), **EXACT).table
    pooled = KaplanMeierFitter().fit(whole.time.numpy().astype(float), whole.event.numpy())
    np.testing.assert_allclose(result["survival"], pooled.predict(result["time"].to_numpy()), atol=1e-12)
    events = pooled.event_table.loc[result["time"]]
    assert result["at_risk"].tolist() == events["at_risk"].tolist()
    assert result["deaths"].tolist() == events["observed"].tolist()
    limits = pooled.confidence_interval_.loc[result["time"]].to_numpy()
    np.testing.assert_allclose(result[["lower", "upper"]], limits, atol=1e-9)


def test_kaplan_meier_on_a_grid_equals_lifelines_on_the_rounded_times():
    _, whole = gbsg2()
    grid = np.arange(100.0, 2001.0, 100.0)
    time, event = statistics.on_grid(whole.time.numpy().astype(float), whole.event.numpy(), grid)
    result = statistics.kaplan_meier(dealt(whole), grid=grid, **EXACT).table
    np.testing.assert_allclose(
        result["survival"], KaplanMeierFitter().fit(time, event).predict(grid), atol=1e-12
    )


def test_a_curve_that_reaches_zero_has_no_error_there():
    whole = cohort(np.ones((6, 1)), time=[1, 1, 2, 2, 2, 2], event=np.ones(6))
    last = statistics.kaplan_meier(dealt(whole, 1), **EXACT).table.iloc[-1]
    assert last["survival"] == 0
    assert np.isnan(last[["se", "lower", "upper"]].astype(float)).all()


def test_baseline_hazard_and_survival_equal_the_pooled_ones():
    whole = drawn(200)
    values, outcome = pooled_arrays(whole)
    sites = dealt(whole)
    fit = statistics.cox(sites, ties="breslow", **EXACT)
    baseline = statistics.baseline_hazard(sites, fit.coefficients, **EXACT)
    pooled = CoxPHSurvivalAnalysis(tol=1e-14).fit(values, outcome)
    times = baseline.table["time"].to_numpy()
    np.testing.assert_allclose(baseline.table["cumulative"], pooled.cum_baseline_hazard_(times), atol=1e-6)
    predicted = np.stack([curve(times) for curve in pooled.predict_survival_function(values[:9])])
    np.testing.assert_allclose(baseline.survival(whole.take(range(9)), times), predicted, atol=1e-6)


def test_baseline_hazard_equals_lifelines():
    frame, whole = rossi()
    pooled = by_lifelines(frame, "week", "arrest")
    baseline = statistics.baseline_hazard(dealt(whole), pooled.params_.to_numpy(), **EXACT)
    shift = np.exp(pooled._norm_mean.to_numpy() @ pooled.params_.to_numpy())  # lifelines centres the features
    expected = pooled.baseline_cumulative_hazard_.loc[baseline.table["time"]].to_numpy()[:, 0]
    np.testing.assert_allclose(baseline.table["cumulative"] * shift, expected, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**20), rows=st.integers(5, 40))
def test_pair_counts_equal_scikit_survival(seed, rows):
    whole = drawn(rows, seed, months=10)
    risk = np.round(whole.features[:, 0].numpy().astype(float), 1)
    time, event = whole.time.numpy(), whole.event.numpy()
    comparable, concordant, tied = statistics.pair_counts(time, event, risk)
    if comparable == 0:
        return
    expected = concordance_index_censored(event, time, risk)
    assert (concordant, comparable - concordant - tied, tied) == expected[1:4]
    assert (concordant + tied / 2) / comparable == pytest.approx(concordance_index(time, -risk, event))


def test_concordance_within_sites_misses_the_pairs_between_them():
    """Risks that are right within sites and the wrong way round between them."""
    whole = drawn(120)
    whole.features[:, 0] = -whole.time - 0.5 * ~whole.event  # of equal times, the censored one is later
    sites = dealt(whole, 2)
    late = sites[1].train
    sites[1] = replace(sites[1], train=replace(late, time=late.time + 100))
    late.features[:, 0] += 1000.0  # the patients who live longest get the highest risk
    result = statistics.concordance(sites, np.array([1.0, 0.0, 0.0]))
    assert result.within == result.mean_of_sites == 1.0
    time, event, risk = (
        np.concatenate([getattr(site.train, name).numpy() for site in sites]).astype(float)
        for name in ("time", "event", "features")
    )
    comparable, concordant, _ = statistics.pair_counts(time, event > 0, risk[:, 0])
    assert concordant / comparable < 0.6
    assert result.pairs_seen == pytest.approx(0.5, abs=0.02)
    assert result.table["comparable"].sum() < comparable


# What messages reveal


def test_the_difference_of_two_risk_sums_is_a_row():
    """What the account says, done: where one patient left, the message holds that patient's features."""
    whole = drawn(40)
    whole = replace(whole, time=torch.arange(1.0, 41.0), event=torch.ones(40, dtype=torch.bool))
    question = {"times": np.arange(1.0, 41.0), "beta": np.array([0.4, -0.2, 0.1])}
    message = risk_sums(whole, question, minimum=1)
    weight = message["risk0"][10] - message["risk0"][11]
    row = (message["risk1"][10] - message["risk1"][11]) / weight
    np.testing.assert_allclose(row, whole.features[10].numpy(), atol=1e-6)


@pytest.mark.survives(
    "A statistic would count fewer patients than a hospital allows",
    "the hospital refuses to answer, in a sentence",
)
@pytest.mark.parametrize(
    "ask",
    [
        statistics.cox,
        statistics.kaplan_meier,
        lambda sites, **more: statistics.cox(sites, grid=WEEKS, **more),
        lambda sites, **more: statistics.kaplan_meier(sites, grid=WEEKS, **more),
        lambda sites, **more: statistics.baseline_hazard(sites, np.zeros(7), grid=WEEKS, **more),
    ],
)
def test_a_site_refuses_counts_below_the_minimum(ask):
    _, whole = rossi()
    with pytest.raises(
        FederationError, match=r"site 'site 0': .* minimum=5 patients; give a .*'grid'.*minimum=1"
    ):
        ask(dealt(whole))
    ask(dealt(whole), minimum=1)


def test_other_messages_have_a_minimum_too():
    few = dealt(drawn(100), 3)
    few.append(Site("few", *[drawn(4)] * 3))
    zeros = np.zeros(3)
    for ask in (
        statistics.standardise,
        statistics.cox_stratified,
        lambda s: statistics.concordance(s, zeros),
    ):
        with pytest.raises(FederationError, match=r"site 'few': .* below minimum=5"):
            ask(few)
    classified = [Site(site.name, *[cohort(site.train.features, label=site.train.event)] * 3) for site in few]
    with pytest.raises(FederationError, match=r"site 'few': .*patients of a class.* below minimum=5"):
        statistics.logistic(classified)


def test_suppressed_counts_hide_patients_and_say_how_many():
    _, whole = gbsg2()
    grid = np.arange(200.0, 2601.0, 200.0)
    result = statistics.kaplan_meier(dealt(whole), grid=grid, small="suppress")
    assert 0 < result.suppressed < len(whole)
    assert result.table["at_risk"].iloc[0] == len(whole) - result.suppressed
    exact = statistics.kaplan_meier(dealt(whole), grid=grid, **EXACT)
    assert exact.suppressed == 0
    assert (exact.table["deaths"] >= result.table["deaths"]).all()


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.integers(1, 10))
def test_suppression_leaves_no_small_count(counts, minimum):
    kept, hidden = suppress(np.array(counts), minimum)
    assert not ((kept > 0) & (kept < minimum)).any()
    assert kept.sum() + hidden == sum(counts)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**20), count=st.integers(1, 4), minimum=st.integers(1, 8))
def test_no_cell_of_an_agreed_grid_is_small_and_the_sites_then_answer(seed, count, minimum):
    sites = dealt(drawn(300, seed), count, seed)
    agreed = statistics.agreed_grid(sites, np.arange(0.5, 41.0, 0.5), minimum=minimum)
    for site in sites:
        time, event = follow_up.follow_up(site.train, {"grid": agreed.times})
        assert min(map(np.min, follow_up.exits(time, event, agreed.times))) >= minimum
    statistics.kaplan_meier(sites, grid=agreed.times, minimum=minimum)
    assert agreed.account.rounds == len(agreed.times) + 1


def test_an_agreed_grid_needs_enough_deaths_everywhere():
    with pytest.raises(FederationError, match="too few deaths or withdrawals for a single cell"):
        statistics.agreed_grid([*dealt(drawn(200)), Site("few", *[drawn(6)] * 3)], np.arange(1, 41))


def test_the_account_lists_every_kind_of_message():
    _, whole = rossi()
    account = statistics.cox(dealt(whole), **EXACT).account
    assert account.reveals["statistic"].tolist() == ["event times", "risk and tie sums"]
    assert account.reveals["messages"].tolist() == [3, 3 * (account.rounds - 1)]
    assert account.messages["answered"].sum() == account.reveals["bytes"].sum()
    times, features = len(np.unique(whole.time[whole.event])), 7
    answer = 8 * (times * 2 * (1 + features + features * (features + 1) // 2) + times + features)
    assert set(account.messages["answered"][account.messages["round"] > 1]) == {answer}
    assert account.bytes_sent == account.messages[["asked", "answered"]].to_numpy().sum()
    assert all(statistic.reveals.endswith(".") for statistic in statistics.CATALOGUE.values())


# Over Flower


TASKS = {
    "standardise": lambda hospitals: statistics.standardise(hospitals).table,
    "cox": lambda hospitals: statistics.cox(hospitals).table,
    "breslow": lambda hospitals: statistics.cox(hospitals, ties="breslow", grid=WEEKS).table,
    "stratified": lambda hospitals: statistics.cox_stratified(hospitals, grid=WEEKS).table,
    "kaplan-meier": lambda hospitals: statistics.kaplan_meier(hospitals, grid=WEEKS).table,
    "baseline": lambda hospitals: statistics.baseline_hazard(hospitals, np.full(7, 0.01)).table,
    "concordance": lambda hospitals: statistics.concordance(hospitals, np.full(7, 0.01)).table,
    "account": lambda hospitals: statistics.cox(hospitals).account.messages,
    "agreed grid": lambda hospitals: pd.DataFrame(statistics.agreed_grid(hospitals, WEEKS).times),
}


@pytest.mark.parametrize("name", TASKS)
def test_flower_messages_give_the_same_to_the_bit(name):
    sites = dealt(rossi()[1])
    direct = TASKS[name](statistics.hospitals_of(sites, minimum=1))
    over = statistics.over_flower(sites, TASKS[name], minimum=1)
    pd.testing.assert_frame_equal(over, direct, check_exact=True)


def test_logistic_over_flower_is_the_same_to_the_bit():
    sites = labelled_sites(3)
    direct = statistics.logistic(sites, ridge=1.0)
    over = statistics.over_flower(sites, lambda hospitals: statistics.logistic(hospitals, ridge=1.0))
    pd.testing.assert_frame_equal(over.table, direct.table, check_exact=True)


@pytest.mark.deployment
def test_real_nodes_give_the_same_to_the_bit():
    sites = dealt(rossi()[1], count=2)
    over = statistics.over_flower(sites, TASKS["cox"], engine="deployment", minimum=1)
    pd.testing.assert_frame_equal(over, TASKS["cox"](statistics.hospitals_of(sites, 1)), check_exact=True)


def test_a_refusal_over_flower_is_the_sites_sentence():
    with pytest.raises(FederationError, match=r"^site 'site 0': .* below minimum=5 patients"):
        statistics.over_flower(dealt(rossi()[1]), statistics.cox)


@pytest.mark.survives(
    "A node fails while a statistic is computed",
    "an error that names it, because the sum would lack its patients",
)
def test_a_node_that_fails_is_named():
    def no_data(number):
        raise OSError("the disk is gone")

    sites = dealt(drawn(60))
    grid = LocalGrid(statistics.query_app(no_data), len(sites))
    hospitals = statistics.hospitals_behind(grid, [site.name for site in sites], sites[0].train.feature_names)
    with pytest.raises(
        FederationError, match="site 'site 0': the client failed: OSError: the disk is gone; mend it there"
    ):
        statistics.standardise(hospitals)
    grid.close()


@pytest.mark.survives("A server asks a hospital for what no statistic needs", "the hospital does not answer")
def test_a_node_answers_only_to_the_catalogue():
    sites = dealt(drawn(60))
    grid = LocalGrid(statistics.query_app(sites.__getitem__), len(sites))
    config = ConfigRecord({"statistic": "all rows", "features": list(sites[0].train.feature_names)})
    content = RecordDict({"arrays": to_record({}), "config": config})
    node = next(iter(grid.get_node_ids()))
    message = Message(content=content, message_type=MessageType.QUERY, dst_node_id=node)
    (reply,) = grid.send_and_receive([message])
    grid.close()
    assert "statistic 'all rows' is unknown" in reply.content["refusal"]["reason"]
    assert "arrays" not in reply.content


# Bad input


def test_bad_input_gets_one_sentence():
    whole = drawn(60)
    sites = dealt(whole)
    with pytest.raises(FederationError, match="sites is empty"):
        statistics.cox([])
    with pytest.raises(FederationError, match="same name"):
        statistics.cox([sites[0], sites[0]])
    with pytest.raises(FederationError, match="holds no table"):
        statistics.standardise(labelled_sites(2, pictures))
    with pytest.raises(FederationError, match="ties='exact' is unknown"):
        statistics.cox(sites, ties="exact")
    with pytest.raises(FederationError, match="'grid' must rise"):
        statistics.cox(sites, grid=[2, 1])
    with pytest.raises(FederationError, match="'grid' must be positive"):
        statistics.kaplan_meier(sites, grid=[0, 1])
    with pytest.raises(FederationError, match="'ridge' must be"):
        statistics.cox(sites, ridge=-1, **EXACT)
    with pytest.raises(FederationError, match="'coefficients' must be 3 finite numbers"):
        statistics.baseline_hazard(sites, np.zeros(2))
    with pytest.raises(FederationError, match="small='drop' is unknown"):
        statistics.kaplan_meier(sites, small="drop")
    with pytest.raises(FederationError, match="engine='cloud' is unknown"):
        statistics.over_flower(sites, statistics.cox, engine="cloud")
    with pytest.raises(FederationError, match="has no 'time' and 'event'"):
        statistics.cox(labelled_sites(2))
    other = replace(whole, feature_names=("x0", "x1", "odd"))
    with pytest.raises(FederationError, match=r"site 'other': its features differ .*odd"):
        statistics.standardise([*sites, Site("other", *[other] * 3)])
    whole.features[5, 1] = torch.nan
    with pytest.raises(FederationError, match="'x1' has missing values; fill them with 'standardise'"):
        statistics.cox(dealt(whole), **EXACT)
    alive = replace(drawn(60), event=torch.zeros(60, dtype=torch.bool))
    with pytest.raises(FederationError, match="no site has a death"):
        statistics.cox(dealt(alive), **EXACT)
    with pytest.raises(FederationError, match="has no training rows"):
        statistics.standardise([*sites, Site("none", *[drawn(9).take([])] * 3)])


# Real hospitals


@pytest.mark.real
def test_four_real_hospitals_together_equal_lifelines(real_data):
    frame = pd.read_csv(real_data / "bmt" / "bmt.csv")
    frame["low_risk"], frame["high_risk"] = frame["group"] == 2, frame["group"] == 3
    names = ["z1", "z2", "z8", "low_risk", "high_risk"]
    parts = {
        name: cohort(rows[names].astype(float), names, time=rows["t2"], event=rows["d3"])
        for name, rows in frame.groupby("z9")
    }
    sites = [Site(str(name), *[part] * 3) for name, part in parts.items()]
    table = frame[[*names, "t2", "d3", "z9"]].astype(float)
    for fit, pooled in (
        (statistics.cox(sites, **EXACT), by_lifelines(table.drop(columns="z9"), "t2", "d3")),
        (statistics.cox_stratified(sites, **EXACT), by_lifelines(table, "t2", "d3", strata="z9")),
    ):
        np.testing.assert_allclose(fit.coefficients, pooled.params_, atol=1e-6)
        np.testing.assert_allclose(fit.table["se"], pooled.standard_errors_, atol=1e-6)
        assert fit.account.rounds <= 10


@pytest.mark.real
def test_what_a_grid_costs_on_ipssm_is_what_the_docstrings_say(real_data):
    names = ["AGE", "BM_BLAST", "HB", "PLT", "ANC"]
    frame = pd.read_csv(real_data / "ipssm" / "df_clinical.tsv", sep="\t").dropna(
        subset=["OS_YEARS", "OS_STATUS"]
    )
    assert len(frame) == 2811
    whole = cohort(frame[names], names, time=12 * frame["OS_YEARS"], event=frame["OS_STATUS"])
    sites = dealt(whole)
    sites = statistics.standardise(sites).apply(sites)
    exact = statistics.cox(sites, **EXACT)

    def moved(grid, ties="efron", minimum=1):
        fit = statistics.cox(sites, grid=grid, ties=ties, minimum=minimum)
        return (np.abs(fit.coefficients - exact.coefficients) / exact.table["se"]).max()

    months, quarters, years = (np.arange(step, 361, step) for step in (1, 3, 12))
    assert [round(moved(grid), 2) for grid in (months, quarters, years)] == [0.03, 0.17, 0.94]
    assert [round(moved(grid, "breslow"), 2) for grid in (months, quarters, years)] == [0.18, 0.56, 2.11]
    agreed = statistics.agreed_grid(sites, months)
    assert 30 <= len(agreed.times) <= 40
    assert 0.1 < moved(agreed.times, minimum=5) < 0.7
