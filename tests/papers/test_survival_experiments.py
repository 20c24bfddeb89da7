"""Chapter 4's experiments: who is compared with whom, on which patients, and that nothing is stale."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from builders.command import run_by_command
from sksurv.linear_model.coxph import BreslowEstimator

from hemafl_book.papers import arms, mds_survival, scd_infarct
from hemafl_book.papers.where import Where
from hemafl_book.results import Results, load, stale
from hemafl_book.show import results
from hemafl_lib import data, evaluation, federation, statistics
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
    models = scores.drop(index="all positive")
    assert (models["low"] <= models["F1"]).all()
    assert (models["F1"] <= models["high"]).all()
    assert (models["one patient"] > 0).all()


def test_nobody_is_predicted_by_a_model_that_knew_them():
    cohort = data.load_table("sickle-cell")
    seen = []
    for fold in scd_infarct.cross_validation(cohort, seed=0):
        trained = {name for site in fold.sites for name in site.train.patient}
        assert not trained & set(fold.test.patient)
        assert len(trained) + len(fold.test) == scd_infarct.PATIENTS
        assert (cohort.patient[fold.rows] == fold.test.patient).all()
        for trial in scd_infarct.trials(fold, scd_infarct.protocol("quick")):
            assert trial.sites == fold.sites
            assert trial.judged["held out"] is fold.test
        seen.extend(fold.test.patient)
    assert len(seen) == len(set(seen)) == scd_infarct.PATIENTS


def test_a_hospital_alone_chooses_its_threshold_on_its_own_patients(monkeypatch):
    chosen = []
    whole = scd_infarct.answer

    def note(probability, train, test):
        chosen.append(set(train.patient))
        return whole(probability, train, test)

    monkeypatch.setattr(scd_infarct, "answer", note)
    fold = scd_infarct.cross_validation(data.load_table("sickle-cell"), seed=0)[0]
    trials = scd_infarct.trials(fold, scd_infarct.protocol("quick"))
    names = [
        name for trial in trials for name in scd_infarct.network_answers(trial, arms.train(trial, QUIET))
    ]
    names += list(scd_infarct.answers_without_networks(fold))
    own = {site.name: set(site.train.patient) for site in fold.sites}
    everybody = set.union(*own.values())
    assert len(chosen) == len(names) == 3 + 2 + 3 + 2
    for name, patients in zip(names, chosen, strict=True):
        assert patients == own.get(name.split(": ")[-1], everybody)


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


def test_twenty_seeds_decide_about_the_small_cohort():
    frozen = load(results.folder() / "scd-infarct.json")
    for study in ("one cohort", "other cohorts"):
        assert frozen.table(f"{study}: scores")["seed"].nunique() == 20


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
