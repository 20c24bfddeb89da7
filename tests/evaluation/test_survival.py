"""What a user may rely on in survival models, their measures, and the care that few patients need."""

import math
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from builders.federated import PROVENANCE, linear, same_parameters, table
from firthmodels import FirthLogisticRegression
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter, KaplanMeierFitter
from scipy import optimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression as ScikitLogistic
from sklearn.metrics import f1_score
from sksurv import metrics
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from hemafl_lib import evaluation, federation, models
from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.errors import EvaluationError, HemaflError, ModelError
from hemafl_lib.models import load_model, save_model
from hemafl_lib.partition import Site
from hemafl_lib.seeds import torch_generator
from hemafl_lib.training import Pairs, Recipe, compare_pairs, cox_loss, epoch_batches, fit, predict, score

EFFECTS = np.array([0.9, -0.5, 0.0])
# lifelines' default stops when coefficients may still be off in the sixth decimal.
PRECISE = {"precision": 1e-12, "r_precision": 1e-14}


def patients(rows=150, seed=0, effects=EFFECTS, ties=True):
    """Features, log-risk and outcome of patients of a true Cox model, a third censored, times in months."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(rows, len(effects)))
    death = generator.exponential(20 * np.exp(-features @ effects))
    censored = generator.exponential(40, rows)
    time = np.minimum(death, censored)
    outcome = np.column_stack([np.ceil(time) if ties else time, death <= censored])
    return features, features @ effects, outcome


def cohort(rows=60, seed=0, events=True) -> TableCohort:
    features, _, outcome = patients(rows, seed)
    return TableCohort(
        features=torch.from_numpy(features).float(),
        feature_names=("a", "b", "c"),
        time=torch.from_numpy(outcome[:, 0]).float(),
        event=torch.from_numpy(outcome[:, 1]).bool() & events,
        site=np.full(rows, "a"),
        patient=np.arange(rows).astype(str),
        provenance=PROVENANCE,
    )


def loss_of(log_risk, outcome, ties="efron"):
    risk, time, event = map(torch.tensor, (log_risk, outcome[:, 0], outcome[:, 1]))
    return float(cox_loss(risk, time, event, ties))


def structured(outcome):
    return Surv.from_arrays(outcome[:, 1].astype(bool), outcome[:, 0])


@st.composite
def small_cohorts(draw):
    """Log-risk and outcome of a few patients, with many ties in both."""
    rows = draw(st.integers(2, 25))
    column = st.lists(st.integers(0, 5), min_size=rows, max_size=rows)
    events = st.lists(st.booleans(), min_size=rows, max_size=rows)
    return np.array(draw(column)) / 2, np.column_stack([draw(column), draw(events)]).astype(float)


# The partial likelihood


def by_definition(log_risk, outcome, ties):
    """The sum over events as the papers write it, one event at a time."""
    time, event = outcome[:, 0], outcome[:, 1].astype(bool)
    hazard, total = np.exp(log_risk), 0.0
    for moment in np.unique(time[event]):
        here = event & (time == moment)
        at_risk, dying, deaths = hazard[time >= moment].sum(), hazard[here].sum(), here.sum()
        for number in range(deaths):
            total += math.log(at_risk - (number / deaths * dying if ties == "efron" else 0))
        total -= log_risk[here].sum()
    return total / event.sum()


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@settings(max_examples=60, deadline=None)
@given(patients=small_cohorts())
def test_partial_likelihood_is_its_definition(patients, ties):
    log_risk, outcome = patients
    assume(outcome[:, 1].any())
    assert loss_of(log_risk, outcome, ties) == pytest.approx(by_definition(log_risk, outcome, ties), abs=1e-9)


def test_partial_likelihood_is_that_of_lifelines_where_times_are_tied():
    features, _, outcome = patients()
    assert len(np.unique(outcome[:, 0])) < len(outcome) / 2
    frame = pd.DataFrame(np.column_stack([features, outcome]), columns=["a", "b", "c", "time", "event"])
    fitted = CoxPHFitter().fit(frame, "time", "event", fit_options=PRECISE)
    log_risk = features @ fitted.params_.to_numpy()
    total = loss_of(log_risk, outcome) * outcome[:, 1].sum()
    assert total == pytest.approx(-fitted.log_likelihood_, abs=1e-6)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_partial_likelihood_is_flat_where_scikit_survival_finds_the_maximum(ties):
    features, _, outcome = patients()
    fitted = CoxPHSurvivalAnalysis(ties=ties, tol=1e-12).fit(features, structured(outcome))
    beta = torch.tensor(fitted.coef_, requires_grad=True)
    table, time, event = map(torch.tensor, (features, outcome[:, 0], outcome[:, 1]))
    cox_loss(table @ beta, time, event, ties).backward()
    assert beta.grad.abs().max() < 1e-6


@settings(max_examples=40, deadline=None)
@given(patients=small_cohorts(), shift=st.floats(-50, 50), seed=st.integers(0, 99))
def test_neither_a_shift_of_the_log_risk_nor_the_order_of_rows_matters(patients, shift, seed):
    log_risk, outcome = patients
    expected = loss_of(log_risk, outcome)
    assert loss_of(log_risk + shift, outcome) == pytest.approx(expected, abs=1e-9)
    order = np.random.default_rng(seed).permutation(len(log_risk))
    assert loss_of(log_risk[order], outcome[order]) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(patients=small_cohorts())
def test_efrons_ties_never_exceed_breslows_and_equal_them_where_no_times_are_tied(patients):
    log_risk, outcome = patients
    assert loss_of(log_risk, outcome) <= loss_of(log_risk, outcome, "breslow") + 1e-12
    outcome[:, 0] = np.arange(len(outcome))
    assert loss_of(log_risk, outcome) == pytest.approx(loss_of(log_risk, outcome, "breslow"))


def test_without_events_the_loss_and_its_gradient_are_zero():
    log_risk = torch.randn(5, generator=torch_generator(0), requires_grad=True)
    loss = cox_loss(log_risk, torch.arange(5.0), torch.zeros(5, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(log_risk.grad, torch.zeros(5))


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_the_gradient_is_that_of_finite_differences_and_stays_finite_for_extreme_risks(ties):
    _, log_risk, outcome = patients(25)
    time, event = torch.tensor(outcome[:, 0]), torch.tensor(outcome[:, 1])
    risk = torch.tensor(log_risk, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: cox_loss(values, time, event, ties), (risk,))
    extreme = (300 * risk).detach().float().requires_grad_()
    loss = cox_loss(extreme, time, event, ties)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(extreme.grad).all()
    assert abs(float(extreme.grad.sum())) < 1e-4


# Training


def test_deepsurv_without_hidden_layers_trained_on_all_rows_is_the_cox_model():
    rows = cohort(120)
    recipe = Recipe(
        loss="cox", optimiser="sgd", learning_rate=0.2, weight_decay=0.0, batch_size=120, local_epochs=250
    )
    model = models.DeepSurv(3, hidden=())
    fit(model, rows, recipe, torch_generator(0))
    outcome = rows.targets.double().numpy()
    expected = models.ridge_cox(rows.features.numpy(), outcome[:, 0], outcome[:, 1], 0.0)
    np.testing.assert_allclose(model.head.weight.detach().numpy()[0], expected, atol=1e-4)


def test_deepsurv_finds_what_no_weighted_sum_can():
    """The risk rises on both sides of the mean."""
    rows = cohort(400)
    time = np.random.default_rng(1).exponential(np.exp(-(rows.features[:, 0].numpy() ** 2)))
    rows = replace(rows, time=torch.from_numpy(time).float(), event=torch.ones(400, dtype=torch.bool))
    train, test = rows.take(range(300)), rows.take(range(300, 400))
    recipe = Recipe(loss="cox", learning_rate=0.01, batch_size=64, local_epochs=30)
    reached = {}
    for hidden in ((), (16,)):
        model = models.DeepSurv(3, hidden)
        fit(model, train, recipe, torch_generator(0))
        reached[hidden] = score(model, test, recipe)["c-index"]
    assert reached[(16,)] > 0.65 > reached[()] + 0.05


def test_score_is_scikit_survivals_c_index_and_the_loss_of_all_rows():
    rows, recipe = cohort(), Recipe(loss="cox")
    model = models.DeepSurv(3)
    found = score(model, rows, recipe)
    risk, outcome = predict(model, rows)[:, 0].numpy(), rows.targets.numpy()
    c, concordant, discordant, tied, _ = metrics.concordance_index_censored(
        outcome[:, 1].astype(bool), outcome[:, 0], risk, tied_tol=0
    )
    assert found["c-index"] == pytest.approx(c)
    assert found["comparable-pairs"] == concordant + discordant + tied
    assert found["loss"] == pytest.approx(loss_of(risk, outcome), rel=1e-5)


def test_a_federation_of_hospitals_trains_deepsurv_even_if_one_cannot_compare_any_patients():
    sites = [
        Site(
            name=f"site {k}", train=cohort(40, k), validation=cohort(15, 10 + k, events=k > 0), test=cohort(9)
        )
        for k in range(3)
    ]
    model, recipe = models.DeepSurv(3, (4,)), Recipe(loss="cox", batch_size=64)
    run = federation.run(sites, model=model, recipe=recipe, rounds=2, progress=False)
    again = federation.run(sites, model=model, recipe=recipe, rounds=2, progress=False, workers=1)
    assert run.hash == again.hash
    assert run.refused.empty
    c_index = run.curve("c-index")
    assert c_index["site 0"].isna().all()
    assert c_index[["site 1", "site 2"]].notna().all(axis=None)
    assert (run.curve("comparable-pairs")["site 0"] == 0).all()


def test_logistic_regression_trained_on_all_rows_is_scikit_learns():
    rows = table(80, 0)
    mixed = replace(rows, features=rows.features - 1.4 * rows.label[:, None])
    recipe = Recipe(optimiser="sgd", learning_rate=0.5, weight_decay=0.0, batch_size=80, local_epochs=400)
    model = models.LogisticRegression(6)
    fit(model, mixed, recipe, torch_generator(0))
    expected = ScikitLogistic(C=np.inf, tol=1e-10, max_iter=1000).fit(mixed.features, mixed.label)
    coefficients = (model.weight[1:] - model.weight[0]).detach().numpy()
    np.testing.assert_allclose(coefficients, expected.coef_, atol=1e-3)


@pytest.mark.parametrize(
    "model", [models.DeepSurv(3, (5, 4), activation="selu"), models.LogisticRegression(3)]
)
def test_models_of_tables_can_be_sent_to_other_programs(model, tmp_path):
    save_model(model, tmp_path / "model.safetensors")
    assert same_parameters(model, load_model(tmp_path / "model.safetensors"))


def test_deepsurvs_layers_and_seed():
    model = models.DeepSurv(7, (5, 3), activation="tanh", seed=4)
    assert model(torch.zeros(2, 7)).shape == (2, 1)
    assert [tuple(value.shape) for value in model.parameters()] == [(5, 7), (5,), (3, 5), (3,), (1, 3)]
    assert same_parameters(model, models.DeepSurv(7, (5, 3), activation="tanh", seed=4))
    assert not same_parameters(model, models.DeepSurv(7, (5, 3), activation="tanh", seed=5))


def test_what_does_not_fit_an_outcome_is_refused_before_training():
    survival = cohort()
    for task in (fit, score):
        last = (torch_generator(0),) if task is fit else ()
        with pytest.raises(HemaflError, match="the cohort has survival; use loss='cox'"):
            task(models.DeepSurv(3), survival, Recipe(), *last)
        with pytest.raises(HemaflError, match="the cohort has labels"):
            task(linear(), table(20, 0), Recipe(loss="cox"), *last)
        with pytest.raises(HemaflError, match="one log-risk a patient"):
            task(models.LogisticRegression(3), survival, Recipe(loss="cox"), *last)
    with pytest.raises(HemaflError, match="balanced_sampler balances classes"):
        epoch_batches(survival, Recipe(loss="cox", balanced_sampler=True), torch_generator(0))


def test_models_of_tables_refuse_impossible_sizes():
    for make in (
        lambda: models.DeepSurv(0),
        lambda: models.DeepSurv(3, (4, 0)),
        lambda: models.DeepSurv(3, activation="step"),
        lambda: models.LogisticRegression(0),
        lambda: models.LogisticRegression(3, 1),
    ):
        with pytest.raises(ModelError):
            make()


# Who dies first?


@settings(max_examples=80, deadline=None)
@given(patients=small_cohorts())
def test_pairs_are_those_of_scikit_survival(patients):
    log_risk, outcome = patients
    found = evaluation.concordance(outcome, log_risk)
    if found.comparable == 0:
        assert math.isnan(evaluation.harrell_c(outcome, log_risk))
        return
    c, concordant, discordant, tied, _ = metrics.concordance_index_censored(
        outcome[:, 1].astype(bool), outcome[:, 0], log_risk
    )
    assert found == Pairs(concordant, discordant, tied)
    assert evaluation.harrell_c(outcome, log_risk) == pytest.approx(c)
    assert evaluation.harrell_c(outcome, -log_risk) == pytest.approx(1 - c)
    assert evaluation.harrell_c(outcome, np.zeros(len(outcome))) == 0.5


@settings(max_examples=60, deadline=None)
@given(patients=small_cohorts(), seed=st.integers(0, 99))
def test_pairs_within_and_across_sites_are_all_pairs(patients, seed):
    log_risk, outcome = patients
    site = np.random.default_rng(seed).choice(["north", "south", "west"], len(outcome))
    found = evaluation.concordance_by_site(outcome, log_risk, site)
    counts = found.drop(columns="c_index")
    assert counts.iloc[:-3].sum().equals(counts.loc["within sites"])
    assert (counts.loc["within sites"] + counts.loc["across sites"]).equals(counts.loc["all"])
    assert (counts >= 0).all(axis=None)
    row = found.loc["all"]
    assert row["comparable"] == row["concordant"] + row["discordant"] + row["tied"]
    assert row["c_index"] == pytest.approx(evaluation.harrell_c(outcome, log_risk), nan_ok=True)


def test_a_model_that_knows_the_site_only_is_good_across_sites_and_by_chance_within():
    _, _, outcome = patients(200)
    site = np.repeat(["mild", "severe"], 100)
    outcome[site == "severe", 0] /= 5
    found = evaluation.concordance_by_site(outcome, (site == "severe").astype(float), site)["c_index"]
    assert found["within sites"] == 0.5
    assert found["across sites"] > 0.7
    assert found["within sites"] < found["all"] < found["across sites"]


def test_c_has_a_bootstrap_interval_over_patients_and_two_models_can_be_compared():
    _, log_risk, outcome = patients(150)
    found = evaluation.bootstrap_interval(evaluation.harrell_c, [outcome, log_risk], seed=0, draws=200)
    assert found.low < found.estimate < found.high
    assert found.estimate == evaluation.harrell_c(outcome, log_risk)
    better = evaluation.paired_bootstrap(
        evaluation.harrell_c, outcome, log_risk, log_risk * 0, seed=0, draws=200
    )
    assert better.low > 0
    same = evaluation.paired_bootstrap(evaluation.harrell_c, outcome, log_risk, log_risk, seed=0, draws=20)
    assert same == (0, 0, 0)


@pytest.mark.parametrize("horizon", [3.0, 12.0, 40.0])
def test_unos_c_is_scikit_survivals_also_if_test_patients_lived_longer_than_those_of_training(horizon):
    _, _, train = patients(120, 1)
    _, log_risk, test = patients(100, 2)
    test[0] = (train[:, 0].max() + 5, 1)
    expected = metrics.concordance_index_ipcw(structured(train), structured(test), log_risk, tau=horizon)[0]
    assert evaluation.uno_c(test, log_risk, train=train, horizon=horizon) == pytest.approx(
        expected, abs=1e-12
    )


def test_unos_c_without_censoring_is_harrells_and_nan_without_pairs():
    _, log_risk, outcome = patients(60)
    outcome[:, 1] = 1
    c = evaluation.uno_c(outcome, log_risk, train=outcome, horizon=outcome[:, 0].max())
    assert c == pytest.approx(evaluation.harrell_c(outcome, log_risk))
    assert math.isnan(evaluation.uno_c(outcome, log_risk, train=outcome, horizon=0.5))


def test_unos_c_does_not_move_with_the_follow_up_as_harrells_does():
    _, log_risk, outcome = patients(4000, effects=np.array([1.0, -1.0, 0.5]), ties=False)
    everybody = outcome.copy()
    generator = np.random.default_rng(3)
    leaves = generator.exponential(6, len(outcome))
    short = np.column_stack([np.minimum(outcome[:, 0], leaves), outcome[:, 1] * (outcome[:, 0] <= leaves)])
    uno = [evaluation.uno_c(one, log_risk, train=one, horizon=15) for one in (everybody, short)]
    harrell = [evaluation.harrell_c(one, log_risk) for one in (everybody, short)]
    assert abs(uno[0] - uno[1]) < 0.01
    assert abs(harrell[0] - harrell[1]) > abs(uno[0] - uno[1])


# When?


def true_curves(log_risk, times):
    """The chance of each of the `patients` to live past each time, float64[N, T]."""
    return np.exp(-np.outer(np.exp(log_risk), times) / 20)


def test_kaplan_meier_is_that_of_lifelines():
    _, _, outcome = patients(80)
    times = np.linspace(0, outcome[:, 0].max(), 30)
    expected = KaplanMeierFitter().fit(outcome[:, 0], outcome[:, 1]).survival_function_at_times(times)
    np.testing.assert_allclose(evaluation.kaplan_meier_at(outcome, times), expected, atol=1e-12)
    assert np.isnan(evaluation.kaplan_meier_at([[1, 1], [2, 0]], [3.0])).all()
    assert evaluation.kaplan_meier_at([[1, 1], [2, 1]], [3.0]) == 0


def test_brier_score_is_scikit_survivals():
    _, _, train = patients(120, 1)
    _, log_risk, test = patients(100, 2)
    times = np.arange(2.0, 30.0, 2.0)
    curves = true_curves(log_risk, times)
    _, expected = metrics.brier_score(structured(train), structured(test), curves, times)
    found = evaluation.brier_curve(test, curves, times, train=train)
    np.testing.assert_allclose(found["brier"], expected, atol=1e-12)
    integrated = evaluation.integrated_brier_score(test, curves, times, train=train)
    assert integrated == pytest.approx(
        metrics.integrated_brier_score(structured(train), structured(test), curves, times)
    )
    everybody = np.tile(evaluation.kaplan_meier_at(train, times), (len(test), 1))
    assert integrated < evaluation.integrated_brier_score(test, everybody, times, train=train)
    longer = test.copy()
    longer[test[:, 0].argmax(), 0] = train[:, 0].max() + 50
    moved = evaluation.brier_curve(longer, curves, times, train=train)
    assert np.isfinite(moved["brier"]).all()


def test_brier_score_of_certain_answers_without_censoring():
    outcome = np.column_stack([np.arange(1.0, 11.0), np.ones(10)])
    times = np.array([2.5, 5.5, 8.5])
    truth = (outcome[:, :1] > times).astype(float)
    assert evaluation.integrated_brier_score(outcome, truth, times, train=outcome) == 0
    assert evaluation.integrated_brier_score(outcome, 1 - truth, times, train=outcome) == 1
    half = evaluation.integrated_brier_score(outcome, np.full((10, 3), 0.5), times, train=outcome)
    assert half == pytest.approx(0.25)


def test_observed_risk_and_its_interval_are_those_of_lifelines():
    _, log_risk, outcome = patients(200)
    alive = true_curves(log_risk, [12.0])[:, 0]
    found = evaluation.calibration_at(outcome, alive, horizon=12, groups=4)
    assert found["patients"].tolist() == [50] * 4
    assert found["predicted"].is_monotonic_increasing
    order = np.argsort(-alive, kind="stable")
    for number, part in enumerate(np.array_split(order, 4)):
        fitter = KaplanMeierFitter().fit(outcome[part, 0], outcome[part, 1])
        ends = fitter.confidence_interval_.loc[:12].iloc[-1].to_numpy()
        assert found.loc[number, "observed"] == pytest.approx(1 - fitter.predict(12), abs=1e-12)
        assert found.loc[number, ["low", "high"]].tolist() == pytest.approx(sorted(1 - ends), abs=1e-6)


def test_a_true_model_is_calibrated_and_one_that_exaggerates_is_not():
    _, log_risk, outcome = patients(3000, ties=False)
    exact = np.exp(-12 / 20 * np.exp(log_risk))
    found = evaluation.calibration_at(outcome, exact, horizon=12, groups=5, level=0.99)
    assert ((found["low"] <= found["predicted"]) & (found["predicted"] <= found["high"])).all()
    exaggerated = np.exp(-12 / 20 * np.exp(3 * log_risk))
    found = evaluation.calibration_at(outcome, exaggerated, horizon=12, groups=5, level=0.99)
    assert found["predicted"].iloc[0] < found["low"].iloc[0]
    assert found["predicted"].iloc[-1] > found["high"].iloc[-1]


def test_calibration_where_nobody_was_followed_so_far_or_nobody_died():
    outcome = np.array([[1, 1], [2, 0], [30, 0], [40, 0], [50, 0]], dtype=float)
    found = evaluation.calibration_at(outcome, [0.1, 0.2, 0.8, 0.9, 0.95], horizon=20, groups=2)
    assert found["patients"].tolist() == [3, 2]
    assert found["observed"].iloc[0] == 0
    assert found.loc[0, ["low", "high"]].isna().all()
    assert found.loc[1, ["observed", "low", "high"]].isna().all()


OUTCOME = np.array([[1, 1], [2, 0], [3, 1], [4, 0]], dtype=float)
RISK = np.array([0.3, 0.1, 0.2, 0.0])


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (lambda: evaluation.harrell_c(OUTCOME[:, 0], RISK), "a time and an event a patient"),
        (lambda: evaluation.harrell_c(OUTCOME[:, ::-1], RISK), "time first"),
        (lambda: evaluation.harrell_c(OUTCOME * [-1, 1], RISK), "missing or negative"),
        (lambda: evaluation.harrell_c(OUTCOME * [np.nan, 1], RISK), "missing or negative"),
        (lambda: evaluation.harrell_c(OUTCOME, RISK[:3]), "'log_risk' has shape"),
        (lambda: evaluation.harrell_c(OUTCOME, RISK * np.nan), "finite"),
        (lambda: evaluation.concordance_by_site(OUTCOME, RISK, ["a"]), "one name for each"),
        (lambda: evaluation.uno_c(OUTCOME, RISK, train=OUTCOME, horizon=9), "horizon 9 .* at most 4"),
        (lambda: evaluation.uno_c(OUTCOME, RISK, train=OUTCOME * [1, 0], horizon=2), "'train' has no"),
        (lambda: evaluation.brier_curve(OUTCOME, np.ones((4, 1)), [4], train=OUTCOME), "to before 4"),
        (lambda: evaluation.brier_curve(OUTCOME, np.ones((4, 2)), [3, 2], train=OUTCOME), "rising"),
        (lambda: evaluation.brier_curve(OUTCOME, np.ones(4), [2], train=OUTCOME), "'survival' has shape"),
        (
            lambda: evaluation.brier_curve(OUTCOME * [1, 0], np.ones((4, 1)), [2], train=OUTCOME),
            "no observed",
        ),
        (
            lambda: evaluation.integrated_brier_score(OUTCOME, np.ones((4, 1)), [2], train=OUTCOME),
            "two or more",
        ),
        (lambda: evaluation.calibration_at(OUTCOME, RISK, horizon=2, groups=5), "1 to 4 groups"),
        (lambda: evaluation.calibration_at(OUTCOME, RISK + 1, horizon=2), "0..1"),
    ],
)
def test_survival_measures_refuse_with_one_sentence(task, message):
    with pytest.raises(EvaluationError, match=message) as caught:
        task()
    assert "\n" not in str(caught.value)


def test_the_remedy_is_named_where_scikit_survival_is_missing(monkeypatch):
    for name in ("sksurv.metrics", "sksurv.util", "sksurv.linear_model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EvaluationError, match=r"hemafl_lib\[survival\]"):
        evaluation.uno_c(OUTCOME, RISK, train=OUTCOME, horizon=3)
    with pytest.raises(ModelError, match=r"hemafl_lib\[survival\]"):
        models.ridge_cox(RISK[:, None], OUTCOME[:, 0], OUTCOME[:, 1], 1.0)
    assert evaluation.harrell_c(OUTCOME, RISK) > 0


# Few patients


@st.composite
def answers(draw):
    rows = draw(st.integers(2, 40))
    column = st.lists(st.integers(0, 1), min_size=rows, max_size=rows)
    return np.array(draw(column)), np.array(draw(column))


@settings(max_examples=80, deadline=None)
@given(pair=answers())
def test_f1_and_its_baseline_are_scikit_learns(pair):
    labels, predicted = pair
    expected = f1_score(labels, predicted, zero_division=0)
    assert evaluation.binary_f1(labels, predicted) == pytest.approx(expected)
    share = labels.mean()
    assert evaluation.all_positive_f1(labels) == pytest.approx(2 * share / (1 + share))


@settings(max_examples=60, deadline=None)
@given(pair=answers())
def test_what_one_patient_changes_is_what_happens_if_one_patient_is_changed(pair):
    labels, predicted = pair
    found = evaluation.one_patient(labels, predicted)
    expected = set()
    for row in range(len(labels)):
        flipped = predicted.copy()
        flipped[row] = 1 - flipped[row]
        expected.add(evaluation.binary_f1(labels, flipped))
        expected.add(evaluation.binary_f1(np.delete(labels, row), np.delete(predicted, row)))
    assert set(found["f1"]) == expected
    assert found["patients"].sum() == 2 * len(labels)
    before = evaluation.binary_f1(labels, predicted)
    assert (found["f1"] - found["difference"]).to_numpy() == pytest.approx(before)


@settings(max_examples=60, deadline=None)
@given(labels=st.lists(st.integers(0, 1), min_size=2, max_size=30), seed=st.integers(0, 99))
def test_the_sweep_holds_every_threshold_that_makes_a_difference(labels, seed):
    assume(sum(labels) > 0)
    scores = np.random.default_rng(seed).integers(0, 8, len(labels)) / 8
    found = evaluation.threshold_sweep(labels, scores)
    assert set(found["threshold"]) == set(scores)
    for row in found.itertuples():
        predicted = (scores >= row.threshold).astype(int)
        assert row.predicted == predicted.sum()
        assert row.f1 == pytest.approx(f1_score(labels, predicted, zero_division=0))
    assert found["f1"].iloc[0] == pytest.approx(evaluation.all_positive_f1(labels))


def test_repeated_folds_hold_every_patient_once_a_repeat_and_the_classes_in_equal_shares():
    labels = np.repeat([0, 1], [46, 19])
    folds = evaluation.repeated_folds(labels, folds=5, repeats=3, seed=1)
    assert len(folds) == 15
    for repeat in range(3):
        tests = [test for _, test in folds[5 * repeat : 5 * repeat + 5]]
        assert sorted(np.concatenate(tests)) == list(range(65))
    for train, test in folds:
        assert not set(train) & set(test)
        assert len(train) + len(test) == 65
        assert labels[test].sum() in (3, 4)
    again = evaluation.repeated_folds(labels, folds=5, repeats=3, seed=1)
    assert all(np.array_equal(one[1], two[1]) for one, two in zip(folds, again, strict=True))
    other = evaluation.repeated_folds(labels, folds=5, repeats=3, seed=2)
    assert not np.array_equal(folds[0][1], other[0][1])


def test_the_f1_of_65_patients_is_uncertain():
    labels = np.repeat([0, 1], [46, 19])
    predicted = labels.copy()
    predicted[[0, 1, 2, 3, 4, 5, 46, 47, 48, 49, 50, 51]] ^= 1
    found = evaluation.f1_interval(labels, predicted, seed=0)
    assert found.estimate == evaluation.binary_f1(labels, predicted) == pytest.approx(2 * 13 / 38)
    assert found.low < found.estimate < found.high
    assert found.high - found.low > 0.2
    assert found == evaluation.f1_interval(labels, predicted, seed=0)
    # Every draw has its one patient with the outcome.
    assert evaluation.f1_interval([1, 0, 0, 0], [1, 0, 0, 0], seed=0, draws=50) == (1, 1, 1)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (lambda: evaluation.binary_f1([0, 2], [0, 1]), "below 2"),
        (lambda: evaluation.binary_f1([0, 1], [0]), "same rows"),
        (lambda: evaluation.threshold_sweep([0, 0], [0.1, 0.2]), "holds no 1"),
        (lambda: evaluation.threshold_sweep([0, 1], [0.1, np.nan]), "finite"),
        (lambda: evaluation.repeated_folds([0, 0, 1], folds=2, seed=0), "rarest class has 1 rows"),
        (lambda: evaluation.repeated_folds([0, 0, 1], folds=1, seed=0), "at least 2"),
    ],
)
def test_measures_of_few_patients_refuse_with_one_sentence(task, message):
    with pytest.raises(EvaluationError, match=message):
        task()


# Penalised models


def labelled(rows=65, seed=0, effects=EFFECTS):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(rows, len(effects)))
    return features, (generator.random(rows) < expit(features @ effects - 0.8)).astype(int)


@pytest.mark.parametrize("strength", [0.01, 1.0, 30.0])
def test_ridge_is_scikit_learns(strength):
    features, labels = labelled()
    found = models.ridge_logistic(features, labels, strength)
    expected = ScikitLogistic(C=1 / strength, tol=1e-12, solver="newton-cholesky").fit(features, labels)
    np.testing.assert_allclose(found.coefficients, expected.coef_[0], atol=1e-6)
    assert found.intercept == pytest.approx(expected.intercept_[0], abs=1e-6)
    np.testing.assert_allclose(
        found.probabilities(features), expected.predict_proba(features)[:, 1], atol=1e-6
    )
    design = np.column_stack([np.ones(65), features])
    slope = design.T @ (labels - found.probabilities(features)) - strength * np.r_[0, found.coefficients]
    np.testing.assert_allclose(slope, 0, atol=1e-9)


def penalised_likelihood(beta, features, labels):
    """Firth's penalised log-likelihood, with nothing of the library in it."""
    design = np.column_stack([np.ones(len(features)), features])
    p = expit(design @ beta)
    information = sum(w * np.outer(x, x) for w, x in zip(p * (1 - p), design, strict=True))
    likelihood = np.sum(labels * np.log(p) + (1 - labels) * np.log1p(-p))
    return likelihood + 0.5 * np.log(np.linalg.det(information))


@pytest.mark.parametrize("seed", range(4))
def test_firths_estimate_is_the_maximum_of_the_penalised_likelihood(seed):
    features, labels = labelled(40, seed)
    found = models.firth_logistic(features, labels)
    beta = np.r_[found.intercept, found.coefficients]
    assert found.log_likelihood == pytest.approx(penalised_likelihood(beta, features, labels), abs=1e-9)
    searched = optimize.minimize(
        lambda values: -penalised_likelihood(values, features, labels),
        np.zeros(4),
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 10_000, "maxfev": 10_000},
    )
    np.testing.assert_allclose(beta, searched.x, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_firths_estimate_is_that_of_firthmodels(seed):
    features, labels = labelled(40, seed)
    found = models.firth_logistic(features, labels)
    oracle = FirthLogisticRegression(backend="numpy", xtol=1e-8, gtol=1e-7, max_iter=200).fit(
        features, labels
    )
    np.testing.assert_allclose(found.coefficients, oracle.coef_.ravel(), atol=1e-6)
    assert found.intercept == pytest.approx(float(np.ravel(oracle.intercept_)[0]), abs=1e-6)
    assert found.log_likelihood == pytest.approx(oracle.loglik_, abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(cells=st.lists(st.integers(0, 30), min_size=4, max_size=4))
@example(cells=[0, 1, 0, 1])
def test_firth_adds_half_a_patient_to_each_cell_of_a_two_by_two_table(cells):
    """Known exactly, also with empty cells: log of (a + 1/2)(d + 1/2) / (b + 1/2)(c + 1/2)."""
    a, b, c, d = cells
    assume(a + b > 0 and c + d > 0)
    exposed = np.repeat([1, 1, 0, 0], cells)
    labels = np.repeat([1, 0, 1, 0], cells)
    found = models.firth_logistic(exposed[:, None], labels)
    half = np.array(cells) + 0.5
    assert found.coefficients[0] == pytest.approx(np.log(half[0] * half[3] / half[1] / half[2]), abs=1e-8)
    assert found.intercept == pytest.approx(np.log(half[2] / half[3]), abs=1e-8)
    errors = np.linalg.inv(
        sum(n * p * (1 - p) * np.outer(x, x) for n, p, x in two_by_two(cells, half))
    ).diagonal()
    np.testing.assert_allclose(found.standard_errors, np.sqrt(errors), rtol=1e-6)


def two_by_two(cells, half):
    """Patients, probability and design row of the exposed and the others."""
    yield cells[0] + cells[1], half[0] / (half[0] + half[1]), np.array([1, 1])
    yield cells[2] + cells[3], half[2] / (half[2] + half[3]), np.array([1, 0])


def test_firth_and_ridge_are_finite_where_the_likelihood_has_no_maximum():
    features, _ = labelled(65)
    labels = (features[:, 0] > 0.7).astype(int)
    firth, ridge = models.firth_logistic(features, labels), models.ridge_logistic(features, labels, 1.0)
    for found in (firth, ridge):
        assert np.isfinite(found.coefficients).all()
        assert np.argmax(np.abs(found.coefficients)) == 0
    assert np.isfinite(firth.standard_errors).all()
    one_class = models.firth_logistic(features, np.ones(65, dtype=int))
    assert np.isfinite(one_class.coefficients).all()


def test_firth_does_not_depend_on_units_and_ridge_does():
    features, labels = labelled()
    units = np.array([100.0, 0.01, 1.0])
    firth = models.firth_logistic(features, labels).coefficients
    np.testing.assert_allclose(models.firth_logistic(features * units, labels).coefficients * units, firth)
    ridge = models.ridge_logistic(features, labels, 5.0).coefficients
    scaled = models.ridge_logistic(features * units, labels, 5.0).coefficients * units
    assert np.abs(scaled - ridge).max() > 0.05


def test_firth_takes_away_most_of_the_bias():
    """Over many small cohorts, maximum likelihood overstates a true coefficient, and Firth hardly does."""
    likelihood, firth = [], []
    for seed in range(150):
        features, labels = labelled(60, 1000 + seed, np.array([1.0, 0.0, 0.0]))
        likelihood.append(models.ridge_logistic(features, labels, 1e-6).coefficients[0])
        firth.append(models.firth_logistic(features, labels).coefficients[0])
    assert abs(np.mean(firth) - 1) < 0.5 * abs(np.mean(likelihood) - 1)


def test_ridge_cox_is_lifelines_without_a_penalty_and_flat_with_one():
    features, _, outcome = patients()
    frame = pd.DataFrame(np.column_stack([features, outcome]), columns=["a", "b", "c", "time", "event"])
    expected = CoxPHFitter().fit(frame, "time", "event", fit_options=PRECISE).params_
    found = models.ridge_cox(features, outcome[:, 0], outcome[:, 1], 0.0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    shrunk = models.ridge_cox(features, outcome[:, 0], outcome[:, 1], 20.0)
    beta = torch.tensor(shrunk, requires_grad=True)
    table, time, event = map(torch.tensor, (features, outcome[:, 0], outcome[:, 1]))
    (cox_loss(table @ beta, time, event) * event.sum() + 10.0 * beta.square().sum()).backward()
    assert beta.grad.abs().max() < 1e-4
    assert np.linalg.norm(shrunk) < np.linalg.norm(found)


def test_ridge_cox_fits_a_small_hospital_that_the_cox_model_cannot():
    features, _, outcome = patients(12, 5, effects=np.zeros(20))
    with pytest.raises(ModelError, match="no finite estimate"):
        models.ridge_cox(features, outcome[:, 0], outcome[:, 1], 0.0)
    assert np.isfinite(models.ridge_cox(features, outcome[:, 0], outcome[:, 1], 5.0)).all()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (lambda x, y: models.ridge_logistic(x[:, 0], y, 1.0), "one column a feature"),
        (lambda x, y: models.ridge_logistic(x, y[:-1], 1.0), "0 or 1 for each row"),
        (lambda x, y: models.ridge_logistic(x, y + 1, 1.0), "0 or 1 for each row"),
        (lambda x, y: models.ridge_logistic(x, y, 0.0), "strength=0.0 must be a positive"),
        (lambda x, y: models.ridge_logistic(x, y * 0, 1.0), "all equal"),
        (lambda x, y: models.ridge_logistic(np.where(x > 2, np.nan, x), y, 1.0), "no number in row"),
        (lambda x, y: models.firth_logistic(np.column_stack([x, x[:, 0]]), y), "weighted sum of others"),
        (lambda x, y: models.ridge_cox(x, y[:-1], y, 1.0), "'time' and 'event'"),
        (lambda x, y: models.ridge_cox(x, y, y * 0, 1.0), "observed events"),
        (lambda x, y: models.ridge_cox(x, y, y, -1.0), "at least 0"),
    ],
)
def test_penalised_models_refuse_with_one_sentence(task, message):
    with pytest.raises(ModelError, match=message) as caught:
        task(*labelled())
    assert "\n" not in str(caught.value)


# Real data


@pytest.fixture(scope="module")
def transplants(real_data):
    """137 bone-marrow transplants in four hospitals: age, disease group, disease-free survival in months."""
    file = real_data / "bmt" / "bmt.csv"
    if not file.exists():
        pytest.skip(f"needs {file.name}")
    rows = pd.read_csv(file)
    features = np.column_stack([rows["z1"], rows["z2"], rows["group"] == 2, rows["group"] == 3, rows["z8"]])
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    return scaled, np.column_stack([rows["t2"] / 30.4375, rows["d3"]]), rows["z9"].astype(str).to_numpy()


@pytest.mark.real
def test_on_four_real_hospitals_the_partial_likelihood_and_the_measures_agree_with_lifelines(transplants):
    features, outcome, site = transplants
    frame = pd.DataFrame(np.column_stack([features, outcome]))
    fitted = CoxPHFitter().fit(frame, 5, 6, fit_options=PRECISE)
    beta = models.ridge_cox(features, outcome[:, 0], outcome[:, 1], 0.0)
    np.testing.assert_allclose(beta, fitted.params_, atol=1e-6)
    log_risk = features @ beta
    total = loss_of(log_risk, outcome) * outcome[:, 1].sum()
    assert total == pytest.approx(-fitted.log_likelihood_, abs=1e-6)
    assert evaluation.harrell_c(outcome, log_risk) == pytest.approx(fitted.concordance_index_)
    found = evaluation.concordance_by_site(outcome, log_risk, site)
    assert len(found) == 7
    assert found.loc["across sites", "comparable"] > found.loc["within sites", "comparable"]


def test_compare_pairs_can_be_added():
    log_risk, time, event = torch.tensor(RISK), torch.tensor(OUTCOME[:, 0]), torch.tensor(OUTCOME[:, 1])
    pairs = compare_pairs(log_risk, time, event)
    assert pairs == Pairs(concordant=4)
    assert sum([pairs, Pairs(0, 1, 2)], Pairs()) == Pairs(4, 1, 2)
    assert Pairs(4, 1, 2).c_index == 5 / 7
    assert math.isnan(Pairs().c_index)
