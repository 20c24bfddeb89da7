"""Chapter 4's experiments: who is compared with whom, on which patients, and that nothing is stale."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from builders.command import run_by_command
from sklearn.linear_model import LogisticRegression
from sksurv.linear_model.coxph import BreslowEstimator

from hemafl_book.papers import arms, mds_survival, scd_infarct
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
def sites():
    study = tiny_protocol().studies[0]
    cohort = data.load("flchain").take(FEW)
    dealt = mds_survival.hospitals(cohort, study, 0)
    return statistics.standardise(dealt, minimum=1).apply(dealt)


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
    assert set(scores["where"]) == {*clients, "joint"}
    joint = scores[scores["where"] == "joint"]
    assert joint["Uno's C"].between(0, 1).all()
    assert joint["Brier"].between(0, 0.5).all()


def test_the_three_clients_are_unequal_and_share_no_patient(sites):
    sizes = [len(site.train) for site in sites]
    assert sizes[0] > 1.5 * sizes[1] > 3 * sizes[2]
    patients = [name for site in sites for part in (site.train, site.test) for name in part.patient]
    assert len(patients) == len(set(patients)) == len(FEW)


def test_the_exact_federated_model_is_the_pooled_one(sites):
    fitted, exact = mds_survival.without_networks(sites, seed=0)
    train = federation.pooled(sites).train
    pooled = ridge_cox(
        train.features.double().numpy(), train.time.numpy(), train.event.numpy(), mds_survival.TOGETHER
    )
    np.testing.assert_allclose(exact.coefficients, pooled, atol=1e-6)
    assert exact.account.rounds <= 10
    risk = next(model for model in fitted if model.arm == "exact federated Cox").test["site-1"]
    np.testing.assert_allclose(risk, sites[0].test.features.double().numpy() @ pooled, atol=1e-4)


def test_a_model_of_age_and_sex_uses_nothing_else():
    cohort = data.load("flchain").take(FEW)
    study = tiny_protocol().studies[0]
    dealt = mds_survival.hospitals(cohort, study, 0)
    train = federation.pooled(statistics.standardise(dealt, minimum=1).apply(dealt)).train
    found = mds_survival.ridge_of(train, 1.0, mds_survival.SIMPLE)
    used = {name for name, value in zip(cohort.feature_names, found, strict=True) if value}
    assert used <= set(mds_survival.SIMPLE)
    assert "age" in used


def test_pairs_within_and_across_hospitals_add_up_to_all(tiny_results):
    pairs = tiny_results.tables["registry: pairs"].query("arm == 'FedAvg' and seed == 0")
    counts = pairs.set_index("where")["comparable"]
    assert counts[["site-1", "site-2", "site-3"]].sum() == counts["within sites"]
    assert counts["within sites"] + counts["across sites"] == counts["all"]


def test_the_baseline_hazard_of_the_sums_is_that_of_the_pooled_patients(sites):
    model = next(m for m in mds_survival.without_networks(sites, 0)[0] if m.arm == "exact federated Cox")
    found = mds_survival.predicted_survival(model, sites)
    train = federation.pooled(sites).train
    risk = np.concatenate([model.train[site.name] for site in sites])
    baseline = BreslowEstimator().fit(risk, train.event.numpy(), train.time.numpy())
    test = np.concatenate([model.test[site.name] for site in sites])
    expected = [curve(mds_survival.TIMES) for curve in baseline.get_survival_function(test)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


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


def test_an_experiment_runs_on_the_engine_that_is_asked_for(monkeypatch):
    """The engines' own tests hold that they agree; here Ray's name stands for threads that are counted."""
    used = []

    def counted(*given):
        used.append(given)
        ENGINES["local"](*given)

    monkeypatch.setitem(ENGINES, "simulation", counted)
    study = replace(tiny_protocol().studies[0], arms=(mds_survival.FEDERATED,), seeds=(0,), rounds=1)
    asked = replace(tiny_protocol(), studies=(study,))
    local = mds_survival.run(asked, QUIET)
    assert not used
    named = mds_survival.run(asked, Where(engine="simulation", progress=False))
    assert len(used) == 1
    for title, table in local.tables.items():
        pd.testing.assert_frame_equal(table, named.tables[title])


@pytest.mark.parametrize("arguments", [("fast", "real"), ("quick", "drawn")])
@pytest.mark.parametrize("module", [mds_survival, scd_infarct])
def test_unknown_protocols_are_refused_in_one_sentence(module, arguments):
    with pytest.raises(HemaflError, match="is unknown; choose one of"):
        module.protocol(*arguments)


# --- who scales ---------------------------------------------------------------------------------------


def test_sums_scale_as_scikit_learn_does_on_one_table(dealt):
    assert furthest(by_sums(dealt), SCALINGS["one table"](dealt)) < 1e-4


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


def test_the_frozen_federation_is_within_a_hundredth_of_centralised_training():
    frozen = load(results.folder() / "mds-survival.json")
    for study in ("registry", "centres", "thirds"):
        scores = frozen.table(f"{study}: scores")
        means = scores[scores["where"] == "joint"].groupby("arm")["C"].mean()
        assert means["FedAvg"] >= means["centralised"] - 0.01
        assert frozen.table(f"{study}: exact")["rounds"].max() <= 10
        if study == "registry":
            assert means["centralised"] >= 0.74


def test_twenty_cohorts_and_ten_deals_decide_about_the_children():
    frozen = load(results.folder() / "scd-infarct.json")
    for study, seeds in (("one cohort", 10), ("other cohorts", 20)):
        assert frozen.table(f"{study}: scores")["seed"].nunique() == seeds


def test_every_aggregator_of_the_registry_is_an_arm_for_the_children():
    other = scd_infarct.protocol("paper").studies[1]
    federated = [arm for arm in other.arms if arm.kind == "federated"]
    assert {arm.aggregator.name for arm in federated} == set(AGGREGATORS)
    assert "FedProx" in {arm.name for arm in federated}


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
    assert min(len(site.train) + len(site.test) for site in sites) >= study.smallest


@pytest.mark.real
def test_the_published_score_orders_its_own_patients_as_the_chapter_says(real_data):
    patients = pd.read_csv(real_data / "ipssm" / "df_clinical.tsv", sep="\t")
    known = patients.dropna(subset=["IPSSM_SCORE", "OS_YEARS", "OS_STATUS"])
    known = known[known["OS_YEARS"] > 0]
    c_index = evaluation.harrell_c(known[["OS_YEARS", "OS_STATUS"]], known["IPSSM_SCORE"])
    assert (len(known), round(c_index, 3)) == (2558, 0.748)
