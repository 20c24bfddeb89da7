"""Chapter 4's experiments: who is compared with whom, on which patients, and that nothing is stale."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from builders.command import run_by_command
from lifelines import CoxPHFitter
from sklearn.linear_model import LogisticRegression
from sksurv.linear_model.coxph import BreslowEstimator

from hemafl_book.papers import arms, mds_survival, scd_infarct, survival_scores
from hemafl_book.papers.scaling import SCALINGS, by_sums, furthest
from hemafl_book.papers.where import Where
from hemafl_book.results import Results, load, stale
from hemafl_book.show import results
from hemafl_lib import data, evaluation, federation, statistics
from hemafl_lib.aggregation import AGGREGATORS
from hemafl_lib.errors import HemaflError
from hemafl_lib.federation.engines import ENGINES
from hemafl_lib.models import ridge_cox

PROTOCOL = mds_survival.protocol
QUIET = Where(progress=False)

FEW = np.arange(0, 7874, 13)
"""Every thirteenth patient of the free light chain cohort, about 600."""


def tiny_protocol(*_: object, **__: object) -> mds_survival.Protocol:
    asked = PROTOCOL("quick", "embedded")
    return replace(asked, studies=(replace(asked.studies[0], rounds=2, seeds=(0, 1)),))


@pytest.fixture(autouse=True)
def few_patients(monkeypatch):
    whole = mds_survival.patients
    monkeypatch.setattr(mds_survival, "patients", lambda study, root=None: whole(study, root).take(FEW))


@pytest.fixture(scope="module")
def tiny_results() -> Results:
    with pytest.MonkeyPatch.context() as patch:
        whole = mds_survival.patients
        patch.setattr(mds_survival, "patients", lambda study, root=None: whole(study, root).take(FEW))
        return mds_survival.run(tiny_protocol(), QUIET)


@pytest.fixture(scope="module")
def dealt():
    return mds_survival.hospitals(data.load("flchain").take(FEW), tiny_protocol().studies[0], 0)


@pytest.fixture(scope="module")
def sites(dealt):
    return by_sums(mds_survival.with_validation(dealt))


# --- survival --------------------------------------------------------------------------------------


def test_every_network_stands_beside_models_without_one(tiny_results):
    scores = tiny_results.tables["registry: scores"]
    clients = [f"site-{number}" for number in (1, 2, 3)]
    expected = {
        *(f"isolated: {client}" for client in clients),
        *(f"isolated ridge: {client}" for client in clients),
        "FedAvg",
        "centralised",
        "exact federated Cox",
        "age and sex",
    }
    assert set(scores["arm"]) == expected
    assert set(scores["where"]) == {"joint"}
    assert scores["Uno's C"].between(0, 1).all()
    assert scores["Brier"].between(0, 0.5).all()


def test_the_three_clients_are_unequal_and_share_no_patient(dealt):
    sizes = [len(site.train) for site in dealt]
    assert sizes[0] > 1.5 * sizes[1] > 3 * sizes[2]
    parts = [part for site in dealt for part in (site.train, site.validation, site.test)]
    patients = [name for part in parts for name in part.patient]
    assert len(patients) == len(set(patients)) == len(FEW)


def test_a_seed_decides_deal_split_weights_and_order_and_is_repeatable(tiny_results):
    again = mds_survival.run(tiny_protocol(), QUIET)
    for title, table in tiny_results.tables.items():
        pd.testing.assert_frame_equal(table, again.tables[title], check_exact=True)
    cost = tiny_results.tables["registry: cost"]
    assert not cost["hash"].duplicated().any()
    study, cohort = tiny_protocol().studies[0], data.load("flchain").take(FEW)
    first, second = (mds_survival.hospitals(cohort, study, seed) for seed in (0, 1))
    assert set(first[2].train.patient) != set(second[2].train.patient)
    setting = study.tries(study.arms[0])[0]
    models = [
        mds_survival.trial_of(study, by_sums(first), study.arms[0], setting, seed).model for seed in (0, 0, 1)
    ]
    weights = [model.head.weight for model in models]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_settings_are_chosen_by_validation_patients_only(dealt, monkeypatch):
    """The test patients may say anything while settings are tried."""
    study, cohort = tiny_protocol().studies[0], data.load("flchain").take(FEW)

    def tables(spoil):
        monkeypatch.setattr(mds_survival, "hospitals", lambda *_: [spoil(site) for site in dealt])
        piece = mds_survival.try_piece(study, cohort, 0)
        return pd.concat(piece.examine(t, arms.train(t, QUIET), QUIET)["settings"] for t in piece.trials)

    def spoilt(site):
        return replace(site, test=replace(site.test, time=site.test.time.flip(0), event=~site.test.event))

    tried = tables(lambda site: site)
    pd.testing.assert_frame_equal(tried, tables(spoilt), check_exact=True)
    tries = {arm.name: len(study.tries(arm)) for arm in study.arms}
    assert tried.groupby("arm")["try"].count().to_dict() == tries
    assert tiny_protocol().describe()["tries"] == {"registry": tries}


def test_the_best_try_is_chosen_and_the_first_of_equal_ones():
    table = pd.DataFrame(
        {"arm": "a", "seed": [0, 0, 0, 1], "try": [0, 1, 2, 0], "validation C": [0.6, 0.7, 0.7, np.nan]}
    )
    chosen = mds_survival.with_choice(table)
    assert chosen["chosen"].tolist() == [False, True, False, True]


def test_every_aggregator_of_the_registry_is_an_arm_of_both_studies():
    study = PROTOCOL("paper", "real").studies[0]
    other = scd_infarct.protocol("paper").studies[1]
    for asked in (study, other):
        federated = [arm for arm in asked.arms if arm.kind == "federated"]
        assert {arm.aggregator.name for arm in federated} == set(AGGREGATORS)
        assert "FedProx" in {arm.name for arm in federated}
    tuned = {arm.name for arm in study.arms if len(study.tries(arm)) == 4}
    assert {"isolated", "FedAvg", "centralised", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad"} == tuned
    adam = next(arm for arm in study.arms if arm.name == "FedAdam")
    rates = [setting.of(adam).aggregator.learning_rate for setting in study.tries(adam)]
    assert rates == list(study.server_rates)


def test_the_exact_federated_model_is_the_pooled_one(sites):
    exact = statistics.cox(sites, ridge=100.0, minimum=1)
    train = federation.pooled(sites).train
    pooled = ridge_cox(train.features.double().numpy(), train.time.numpy(), train.event.numpy(), 100.0)
    np.testing.assert_allclose(exact.coefficients, pooled, atol=1e-6)
    np.testing.assert_allclose(mds_survival.ridge_of(train, 100.0), pooled)
    assert exact.account.rounds <= 10


def test_a_model_of_age_and_sex_uses_nothing_else(sites):
    train = federation.pooled(sites).train
    found = mds_survival.ridge_of(train, 1.0, mds_survival.SIMPLE)
    used = {name for name, value in zip(train.feature_names, found, strict=True) if value}
    assert used <= set(mds_survival.SIMPLE)
    assert "age" in used


def test_pairs_within_and_across_hospitals_add_up_to_all(tiny_results):
    pairs = (
        tiny_results.tables["registry: pairs"].query("seed == 0").set_index(["arm", "where"])["comparable"]
    )
    shared = pairs["FedAvg"]
    assert shared[["site-1", "site-2", "site-3"]].sum() == shared["within sites"]
    assert shared["within sites"] + shared["across sites"] == shared["all"]
    assert pairs["isolated"].to_dict() == shared[list(pairs["isolated"].index)].to_dict()


def test_own_patients_are_judged_by_the_hospitals_own_model(sites):
    risks = {site.name: number for number, site in enumerate(sites)}
    models = [
        survival_scores.Fitted(
            "isolated", 0, lambda cohort, k=k: k * cohort.features[:, 0].double().numpy(), name
        )
        for name, k in zip(risks, (1, -1, 0), strict=True)
    ]
    table = survival_scores.own_pairs(models, sites).set_index("where")
    age = [evaluation.harrell_c(site.test.targets, site.test.features[:, 0]) for site in sites]
    assert table.loc["site-1", "c_index"] == pytest.approx(age[0])
    assert table.loc["site-2", "c_index"] == pytest.approx(1 - age[1])
    assert table.loc["site-3", "c_index"] == 0.5
    assert table.loc["site-3", "tied"] == table.loc["site-3", "comparable"]


def test_the_baseline_hazard_of_the_sums_is_that_of_the_pooled_patients(sites):
    train, test = federation.pooled(sites).train, federation.pooled(sites).test
    beta = mds_survival.ridge_of(train, 100.0)
    risk = partial(survival_scores.linear_risk, beta)
    found = survival_scores.predicted_survival(survival_scores.Fitted("ridge", 0, risk), sites)
    baseline = BreslowEstimator().fit(risk(train), train.event.numpy(), train.time.numpy())
    expected = [curve(survival_scores.TIMES) for curve in baseline.get_survival_function(risk(test))]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_network_that_diverged_says_nothing(sites):
    model = torch.nn.Linear(sites[0].test.features.shape[1], 1)
    model.weight.data.fill_(float("nan"))
    assert not survival_scores.network_risk(model, sites[0].test).any()


def test_published_scores_are_judged_on_those_who_have_them(sites):
    names = federation.pooled(sites).test.patient
    published = pd.DataFrame({"score": np.arange(20.0)}, index=names[:20])
    table = survival_scores.of_scores(published, 0, sites)["scores"]
    assert table["where"].tolist() == ["scored"]
    assert table["patients"].tolist() == [20]


# --- who scales --------------------------------------------------------------------------------------


def test_sums_scale_as_scikit_learn_does_on_one_table(dealt):
    assert furthest(by_sums(dealt), SCALINGS["one table"](dealt)) < 1e-4


def test_the_ways_of_scaling_agree_with_lifelines_where_they_should(dealt):
    """Ridge Cox regression on rows scaled by federated sums, beside lifelines' on one scaled table."""
    train = federation.pooled(by_sums(dealt)).train
    frame = pd.DataFrame(
        federation.pooled(SCALINGS["one table"](dealt)).train.features.double().numpy(),
        columns=list(train.feature_names),
    )
    time, event = train.follow_up
    frame = frame.assign(time=time.numpy(), event=event.numpy())
    fitted = CoxPHFitter(penalizer=100.0 / len(train)).fit(frame, "time", "event")
    np.testing.assert_allclose(mds_survival.ridge_of(train, 100.0), fitted.params_, atol=2e-3)


@pytest.mark.parametrize("way", ["training and test rows", "test rows by themselves"])
def test_a_mistake_learns_from_test_rows_and_the_others_do_not(dealt, way):
    def moved(scale):
        louder = [replace(s, test=replace(s.test, features=s.test.features * 3 + 1)) for s in dealt]
        before, after = scale(dealt), scale(louder)
        train = [a.train.features.equal(b.train.features) for a, b in zip(before, after, strict=True)]
        test = [
            torch.allclose(a.test.features, b.test.features, atol=1e-4)
            for a, b in zip(before, after, strict=True)
        ]
        return all(train), all(test)

    for name in ("federated sums", "one table", "each hospital its own"):
        assert moved(SCALINGS[name]) == (True, False)
    assert moved(SCALINGS[way]) == ((False, False) if way == "training and test rows" else (True, True))


def test_hospitals_by_age_are_of_the_sizes_asked_for():
    cohort = data.load("flchain").take(FEW)
    sites = mds_survival.by_age(cohort, (6, 3, 1), seed=0)
    ages = [site.train.features[:, 0] for site in sites]
    assert [len(site.train) + len(site.test) for site in sites] == pytest.approx(
        [364, 182, 60], abs=24
    )  # ages are whole years
    assert ages[0].max() <= ages[1].min() <= ages[1].max() <= ages[2].min()


# --- the command and the engines -----------------------------------------------------------------------


def test_hemafl_run_gives_the_same_tables_prints_the_hash_and_says_what_it_ran_on(
    tiny_results, tmp_path, monkeypatch
):
    out = tmp_path / "out.json"
    output, again = run_by_command("mds-survival", tiny_protocol(), out, monkeypatch)
    for title, table in tiny_results.tables.items():
        pd.testing.assert_frame_equal(table, again.tables[title], check_exact=True)
    cost = load(out).table("registry: cost")
    digest = cost[(cost["arm"] == "FedAvg") & (cost["seed"] == 0)]["hash"].item()
    for word in ("scikit-survival", "isolated", "exact federated Cox", digest):
        assert word in output


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """The engines' own tests hold that they agree; here their names stand for threads that are counted."""
    used: list[str] = []
    threads = ENGINES["local"]

    def count(name):
        def run(*given):
            used.append(name)
            threads(*given)

        return run

    for name in ENGINES:
        monkeypatch.setitem(ENGINES, name, count(name))
    return used


def test_an_experiment_runs_on_the_engine_that_is_asked_for(counted):
    study = replace(
        tiny_protocol().studies[0],
        arms=(mds_survival.FEDERATED,),
        seeds=(0,),
        rounds=1,
        weight_decays=(1.0,),
    )
    asked = replace(tiny_protocol(), studies=(study,))
    local = mds_survival.run(asked, QUIET)
    assert set(counted) == {"local"}
    named = mds_survival.run(asked, Where(engine="simulation", progress=False))
    assert counted == ["local", "local", "simulation", "simulation"]
    for title, table in local.tables.items():
        pd.testing.assert_frame_equal(table, named.tables[title])


def test_every_engine_is_compared_in_the_outcome_of_each_paper(counted, monkeypatch):
    study = replace(tiny_protocol().studies[0], arms=(mds_survival.FEDERATED,), seeds=(0,), rounds=1)
    study = replace(study, platform=(0,), weight_decays=(1.0,))
    survival = mds_survival.run(replace(tiny_protocol(), studies=(study,)), QUIET)
    found = survival.tables["registry, platform: engines"]
    scores = survival.tables["registry: scores"].set_index("arm")
    assert found["C"].unique() == pytest.approx([scores.loc["FedAvg", "C"]])
    monkeypatch.setattr(scd_infarct, "FOLDS", 2)
    small = replace(scd_infarct.protocol("quick"), rounds=1)
    asked = replace(small, studies=(replace(small.studies[0], platform=(0,)),))
    infarcts = scd_infarct.run(asked, QUIET)
    again = infarcts.tables["one cohort, platform: engines"]
    scores = infarcts.tables["one cohort: scores"].set_index("arm")
    assert again["F1"].unique() == pytest.approx([scores.loc["FedAvg", "F1"]])
    for table in (found, again):
        assert table["engine"].tolist() == list(ENGINES)
        assert table["hash"].nunique() == 1
    assert set(counted) == set(ENGINES)


def test_both_models_of_the_chapter_are_the_same_in_separate_programs_over_tls():
    """Real nodes, two for each: DeepSurv, and the logistic regression of one fold; two rounds."""
    study = replace(tiny_protocol().studies[0], rounds=2)
    sites = by_sums(
        mds_survival.with_validation(mds_survival.hospitals(data.load("flchain").take(FEW), study, 0))
    )
    survival = mds_survival.trial_of(study, sites, mds_survival.FEDERATED, study.tries(study.arms[0])[0], 0)
    fold = scd_infarct.cross_validation(data.load_table("sickle-cell"), seed=0)[0]
    (infarct,) = scd_infarct.trials(fold, [scd_infarct.PLAIN], rounds=2)
    for trial in (survival, infarct):
        local, deployed = (
            arms.train(replace(trial, sites=trial.sites[:2]), Where(engine=engine, progress=False))["FedAvg"]
            for engine in ("local", "deployment")
        )
        assert deployed.hash == local.hash


@pytest.mark.parametrize("arguments", [("fast", "real"), ("quick", "drawn")])
@pytest.mark.parametrize("module", [mds_survival, scd_infarct])
def test_unknown_protocols_are_refused_in_one_sentence(module, arguments):
    with pytest.raises(HemaflError, match="is unknown; choose one of"):
        module.protocol(*arguments)


# --- sickle cell disease -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick() -> Results:
    return scd_infarct.run(few_rounds(), QUIET)


def few_rounds() -> scd_infarct.Protocol:
    return replace(scd_infarct.protocol("quick"), rounds=3)


def test_every_arm_stands_beside_the_all_positive_baseline(quick):
    scores = quick.tables["one cohort: scores"].set_index("arm")
    assert {"FedAvg", "centralised", "exact federated ridge", "Firth", "all positive"} <= set(scores.index)
    prevalence = scores["infarcts"].iloc[0] / scd_infarct.PATIENTS
    assert scores.loc["all positive", "F1"] == pytest.approx(2 * prevalence / (1 + prevalence))
    models = scores.drop(index=["all positive", "prevalence"])
    assert (models["low"] <= models["F1"]).all()
    assert (models["F1"] <= models["high"]).all()
    assert (models["one patient"] > 0).all()
    assert scores.loc["prevalence", "Brier"] == pytest.approx(prevalence * (1 - prevalence), abs=0.005)
    assert scores.loc["prevalence", "AUROC"] == 0.5


def test_nobody_is_predicted_by_a_model_that_knew_them():
    cohort = data.load_table("sickle-cell")
    seen, homes = [], {}
    for fold in scd_infarct.cross_validation(cohort, seed=0):
        trained = {name for site in fold.sites for name in site.train.patient}
        held = [name for site in fold.sites for name in site.test.patient]
        assert not trained & set(held)
        assert len(trained) + len(held) == scd_infarct.PATIENTS
        assert [len(site.test) for site in fold.sites] == pytest.approx([6.6, 4.2, 2.2], abs=1)
        for site in fold.sites:
            homes.update({name: homes.get(name, set()) | {site.name} for name in site.train.patient})
        seen.extend(held)
    assert len(seen) == len(set(seen)) == scd_infarct.PATIENTS
    assert all(len(hospitals) == 1 for hospitals in homes.values()), "patients belong to one hospital"


def test_a_hospital_alone_learns_from_its_own_patients_only(monkeypatch):
    chosen = []
    whole = scd_infarct.answer

    def note(probability, train, test):
        chosen.append(set(train.patient))
        return whole(probability, train, test)

    monkeypatch.setattr(scd_infarct, "answer", note)
    fold = scd_infarct.cross_validation(data.load_table("sickle-cell"), seed=0)[0]
    test = federation.pooled(fold.sites).test
    names = []
    for trial in scd_infarct.trials(fold, scd_infarct.NETWORKS, rounds=1):
        names += list(scd_infarct.network_answers(trial, arms.train(trial, QUIET), test))
    names += list(scd_infarct.answers_without_networks(fold))
    own = {site.name: set(site.train.patient) for site in fold.sites}
    everybody = set.union(*own.values())
    assert len(chosen) == len(names) == 3 + 2 + 3 + 3
    for name, patients in zip(names, chosen, strict=True):
        assert patients == own.get(name.split(": ")[-1], everybody)


def test_the_ridge_is_chosen_within_training_patients():
    folds = scd_infarct.cross_validation(data.load_table("sickle-cell"), seed=0)
    fold = folds[0]
    train = federation.pooled(fold.sites).train
    assert fold.ridges[scd_infarct.ALL] == scd_infarct.chosen_ridge(train, 0)
    assert set(fold.ridges) == {*(site.name for site in fold.sites), scd_infarct.ALL}
    one = train.take(np.flatnonzero(train.label.numpy() == 0)[:8])
    assert scd_infarct.chosen_ridge(one, 0) == max(scd_infarct.RIDGES)


def test_a_plain_signal_asks_for_a_weaker_ridge_than_noise():
    cohort = data.load_table("sickle-cell")
    clear = replace(cohort, label=(cohort.features[:, 0] > cohort.features[:, 0].median()).long())
    scaled = (clear.features - clear.features.mean(0)) / clear.features.std(0)
    assert scd_infarct.chosen_ridge(replace(clear, features=scaled), 0) < max(scd_infarct.RIDGES)


def test_the_weight_decay_stands_for_the_ridge():
    """Without constants, the minimum of the network's loss is that of the ridge regression."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 2))
    features = np.vstack([features, -features])
    labels = (features @ [1.0, -0.5] + rng.logistic(size=120) > 0).astype(int)
    ridge = 5.0
    fit = LogisticRegression(C=1 / ridge, fit_intercept=False, tol=1e-10).fit(features, labels)
    weight = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    x, y = torch.tensor(features), torch.tensor(labels)
    step = torch.optim.LBFGS([weight], max_iter=200, tolerance_grad=1e-10)

    def loss():
        step.zero_grad()
        decay = scd_infarct.weight_decay(ridge, len(x))
        value = torch.nn.functional.cross_entropy(x @ weight.T, y) + decay / 2 * weight.square().sum()
        value.backward()
        return value

    step.step(loss)
    found = (weight[1] - weight[0]).detach().numpy()
    np.testing.assert_allclose(found, fit.coef_[0], atol=1e-4)


def test_who_has_seen_no_infarct_predicts_none():
    cohort = data.load_table("sickle-cell")
    healthy = cohort.take(np.flatnonzero(cohort.label.numpy() == 0)[:6])
    risk = scd_infarct.ridge_alone(healthy, 1.0)
    found = scd_infarct.answer(risk, healthy, cohort)
    assert not found.predicted.any()
    assert not found.probability.any()


def test_pairs_of_two_folds_are_no_pairs():
    answers = pd.DataFrame(
        {"fold": [0, 0, 1, 1], "infarct": [1, 0, 1, 0], "probability": [0.9, 0.8, 0.2, 0.1]}
    )
    assert scd_infarct.auroc_within_folds(answers) == 1.0


def test_two_seeds_differ_and_one_is_repeatable(quick):
    asked = few_rounds()
    again = scd_infarct.run(asked, QUIET)
    for title, table in quick.tables.items():
        pd.testing.assert_frame_equal(table, again.tables[title], check_exact=True)
    cohort = data.load_table("sickle-cell")
    first, second = (scd_infarct.cross_validation(cohort, seed)[0] for seed in (0, 1))
    for part in ("train", "test"):
        patients = [set(getattr(fold.sites[2], part).patient) for fold in (first, second)]
        assert patients[0] != patients[1]
    other = scd_infarct.protocol("paper").studies[1]
    labels = [scd_infarct.cohort_of(other, seed).label for seed in (0, 1)]
    assert not labels[0].equal(labels[1])


def test_own_patients_are_those_of_the_hospital(quick):
    own = quick.tables["one cohort: own patients"]
    sizes = own.groupby("where")[["patients", "infarcts"]].first()
    assert sizes["patients"].tolist() == [33, 21, 11]
    whole = quick.tables["one cohort: scores"]
    assert sizes["infarcts"].sum() == whole["infarcts"].iloc[0]
    assert set(own["arm"]) >= {"isolated", "isolated ridge", "FedAvg", "centralised", "prevalence"}
    assert (own.groupby(["arm", "where"]).size() == 1).all()


def test_other_cohorts_have_other_patients():
    study = scd_infarct.Study("other cohorts", own_cohort=True, seeds=(0, 1))
    found = scd_infarct.run(replace(few_rounds(), studies=(study,)), QUIET)
    assert found.tables["other cohorts: scores"].groupby("seed")["infarcts"].first().nunique() == 2
    assert len(found.data) == 2
    assert all(source.simulated for source in found.data)


def test_hemafl_run_gives_the_same_tables_and_says_that_the_patients_are_simulated(
    quick, tmp_path, monkeypatch
):
    output, again = run_by_command("scd-infarct", few_rounds(), tmp_path / "out.json", monkeypatch)
    table = quick.tables["one cohort: scores"]
    pd.testing.assert_frame_equal(table, again.tables["one cohort: scores"], check_exact=True)
    assert "SIMULATED" in output
    assert "all positive" in output


# --- the frozen results ------------------------------------------------------------------------------

FROZEN = {"mds-survival": (mds_survival, "real"), "scd-infarct": (scd_infarct, "simulated")}


@pytest.mark.parametrize("name", FROZEN)
def test_the_frozen_result_is_not_stale(name):
    """Whoever changes the protocol has to compute the results again (`make results`)."""
    module, source = FROZEN[name]
    described = module.protocol("paper", source).describe()
    assert not stale(load(results.folder() / f"{name}.json"), json.loads(json.dumps(described)))


def test_ten_seeds_decide_the_main_studies():
    survival, infarcts = (load(results.folder() / f"{name}.json") for name in FROZEN)
    assert survival.table("registry: scores")["seed"].nunique() == 10
    for study in ("centres", "thirds"):
        assert survival.table(f"{study}: scores")["seed"].nunique() == 5
    for study in ("registry", "centres", "thirds"):
        assert survival.table(f"{study}: exact")["rounds"].max() <= 10
    for study, seeds in (("one cohort", 10), ("other cohorts", 20)):
        assert infarcts.table(f"{study}: scores")["seed"].nunique() == seeds


@pytest.mark.parametrize(
    ("name", "study", "metric"), [("mds-survival", "registry", "C"), ("scd-infarct", "one cohort", "F1")]
)
def test_the_frozen_engines_agree_to_the_bit_and_with_the_study(name, study, metric):
    frozen = load(results.folder() / f"{name}.json")
    engines = frozen.table(f"{study}, platform: engines")
    assert engines["engine"].tolist() == ["local", "simulation", "deployment"]
    assert engines["hash"].nunique() == engines[metric].nunique() == 1
    scores = frozen.table(f"{study}: scores").query("arm == 'FedAvg' and seed == 0")
    assert engines[metric].iloc[0] == scores[metric].iloc[0]


def test_frozen_settings_are_the_best_of_their_validation():
    frozen = load(results.folder() / "mds-survival.json")
    for study in ("registry", "centres", "thirds"):
        tried = frozen.table(f"{study}: settings")
        best = tried.groupby(["arm", "seed"])["validation C"].transform("max")
        chosen = tried[tried["chosen"]]
        assert (chosen["validation C"] == best[tried["chosen"]]).all()
        assert len(chosen) == len(tried.groupby(["arm", "seed"]))


@pytest.mark.real
def test_the_frozen_survival_was_computed_on_these_files(real_data):
    frozen = load(results.folder() / "mds-survival.json")
    found = [data.load(name, root=real_data).provenance.checksum for name in ("ipssm", "amlsg")]
    assert [source["checksum"] for source in frozen.data] == found


@pytest.mark.real
def test_the_caps_of_one_disease_are_not_those_of_another(real_data, monkeypatch):
    monkeypatch.undo()
    registry, centres, _ = mds_survival.protocol("paper", "real").studies
    for study, capped in ((registry, True), (centres, False)):
        cohort = mds_survival.patients(study, real_data)
        blasts = cohort.features[:, cohort.feature_names.index("marrow_blasts")]
        assert bool(blasts[~blasts.isnan()].max() <= 20) == capped


@pytest.mark.real
def test_hospitals_of_their_own_are_large_enough(real_data, monkeypatch):
    monkeypatch.undo()
    study = mds_survival.protocol("paper", "real").studies[1]
    cohort = mds_survival.patients(study, real_data)
    sites = mds_survival.hospitals(cohort, study, 0)
    assert len(sites) == 25
    assert min(len(site.train) + len(site.validation) + len(site.test) for site in sites) >= study.smallest


@pytest.mark.real
def test_the_published_score_orders_its_own_patients_as_the_chapter_says(real_data):
    patients = pd.read_csv(real_data / "ipssm" / "df_clinical.tsv", sep="\t")
    known = patients.dropna(subset=["IPSSM_SCORE", "OS_YEARS", "OS_STATUS"])
    known = known[known["OS_YEARS"] > 0]
    c_index = evaluation.harrell_c(known[["OS_YEARS", "OS_STATUS"]], known["IPSSM_SCORE"])
    assert (len(known), round(c_index, 3)) == (2558, 0.748)
    study = mds_survival.protocol("paper", "real").studies[0]
    published = mds_survival.published_scores(study, real_data)
    both = known.dropna(subset=["IPSSR_SCORE"])
    assert len(both) == len(known) - 40, "of 40 patients IPSS-R is not known; nobody compares scores on them"
    named = [f"ipssm/{name}" for name in both["ID"]]
    assert published["IPSS-M"][named].tolist() == both["IPSSM_SCORE"].tolist()
    assert not set(published.index) & {f"ipssm/{name}" for name in set(known["ID"]) - set(both["ID"])}
