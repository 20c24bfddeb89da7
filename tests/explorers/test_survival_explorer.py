"""The explorers of chapter 4: their simulated hospitals, what is estimated, its recording."""

import threading

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemafl_book.explorers import survival as explorer
from hemafl_book.show import results
from hemafl_lib.errors import Stopped
from hemafl_lib.models import ridge_cox
from hemafl_lib.seeds import numpy_generator

TRUTH = explorer.EFFECTS["drug"]


@pytest.fixture(scope="module")
def found():
    return explorer.SWEEP.read(results.get("explorer-survival"))


# --- the recording ---------------------------------------------------------------------------------


def test_a_recorded_setting_is_the_computed_one(found):
    again = explorer.explore(0.05, 4, 0.6)
    for name in ("hospitals", "effects"):
        stored = getattr(found[0.05, 4, 0.6], name)
        pd.testing.assert_frame_equal(stored, getattr(again, name), atol=1e-3, rtol=0)


# --- the lesson ------------------------------------------------------------------------------------


@pytest.mark.parametrize("smallest", explorer.CONTROLS["smallest"])
def test_unequal_hazards_bias_the_pooled_model_and_not_the_stratified(found, smallest):
    table = {u: explorer.effects_by_shift(found, smallest, u) for u in explorer.CONTROLS["uneven"]}
    mean = {u: t.pivot(index="shift", columns="estimate", values="mean") for u, t in table.items()}
    for estimates in mean.values():
        assert (estimates["stratified Cox"] - TRUTH).abs().max() < 0.06
        assert abs(estimates.loc[1, "pooled Cox"] - TRUTH) < 0.06
        assert (estimates["mean of local fits"] > estimates["stratified Cox"]).all()
    assert mean[0.6].loc[8, "pooled Cox"] > 0.2
    assert mean[0.6]["pooled Cox"].is_monotonic_increasing
    assert mean[0.3].loc[8, "pooled Cox"] < mean[0.6].loc[8, "pooled Cox"]


def test_with_equal_hazards_the_pooled_model_is_tighter(found):
    for smallest in explorer.CONTROLS["smallest"]:
        effects = found[smallest, 1, 0.6].effects.set_index("estimate")
        width = effects["high"] - effects["low"]
        assert width["pooled Cox"] < 0.9 * width["stratified Cox"]


def test_the_smallest_hospital_gains_most(found):
    for (smallest, shift, uneven), one in found.items():
        table = one.hospitals.pivot(index="hospital", columns="model", values="mean")
        gain = table["federated, stratified"] - table["isolated"]
        assert gain.min() > -0.002, (smallest, shift, uneven)
        assert gain["small"] > 0.005
        assert smallest > 0.15 or gain.idxmax() == "small"
    gains = [found[s, 1, 0.0].hospitals["mean"].to_numpy() for s in explorer.CONTROLS["smallest"]]
    assert np.all(np.diff([mean[1] - mean[0] for mean in gains]) > 0)


# --- the hospitals ---------------------------------------------------------------------------------


@given(st.floats(0.01, 0.25))
def test_three_hospitals_share_the_patients(smallest):
    large, middle, small = explorer.sizes(smallest)
    assert large + middle + small == explorer.PATIENTS
    assert abs(small / explorer.PATIENTS - smallest) <= 0.5 / explorer.PATIENTS + 1e-9
    assert large >= middle >= small > 0
    assert abs(large - 2 * middle) <= 2


def test_simulated_patients_have_the_effects_that_are_written_down():
    cohort = explorer.simulate(6000, numpy_generator(0), name="a", hazard=2.0, treated=0.3)
    features, time, event = cohort.features.numpy(), cohort.time.numpy(), cohort.event.numpy()
    fitted = ridge_cox(features, time, event, 0.0)
    np.testing.assert_allclose(fitted, list(explorer.EFFECTS.values()), atol=0.1)
    assert cohort.features[:, 0].mean() == pytest.approx(0.3, abs=0.03)
    assert set(cohort.features[:, 0].tolist()) == {0.0, 1.0}
    lived = explorer.SURVIVAL / 2 * np.exp(-features @ np.array(list(explorer.EFFECTS.values())))
    assert event.sum() == pytest.approx((time / lived).sum(), rel=0.05)
    assert time[~event].min() >= explorer.FOLLOW_UP[0]
    assert time.max() <= explorer.FOLLOW_UP[1]


def test_a_setting_changes_only_what_it_says():
    plain = explorer.deal(0.1, 1, 0.0, seed=0)
    shifted = explorer.deal(0.1, 4, 0.0, seed=0)
    uneven = explorer.deal(0.1, 1, 0.6, seed=0)
    for before, faster, other in zip(plain, shifted, uneven, strict=True):
        assert before.train.features.equal(faster.train.features)
        assert before.train.features[:, 1:].equal(other.train.features[:, 1:])
        assert before.train.time.equal(faster.train.time) == (before.name != "middle")
        assert len(before.test) == explorer.TESTED
    treated = {site.name: site.train.features[:, 0].mean().item() for site in uneven}
    assert treated["middle"] - treated["large"] == pytest.approx(0.6, abs=0.15)
    assert all(site.train.provenance.simulated for site in plain)


# --- what they learn -------------------------------------------------------------------------------


def test_a_hospital_alone_fits_the_ridge_cox_model():
    sites = explorer.deal(0.05, 2, 0.3, seed=3)
    fits = explorer.fit(sites)
    for site, coefficients in zip(sites, fits.local, strict=True):
        train = site.train
        expected = ridge_cox(train.features.numpy(), train.time.numpy(), train.event.numpy(), explorer.RIDGE)
        np.testing.assert_allclose(coefficients, expected, atol=1e-6)
    mean = explorer.drug_effects(sites, fits).set_index("estimate")["value"]["mean of local fits"]
    patients = np.array([len(site) for site in sites])
    assert mean == pytest.approx(patients @ [b[0] for b in fits.local] / patients.sum())


def test_an_exploration_reports_every_repetition_and_summarises_them():
    seen = []
    found = explorer.explore(0.1, 2, 0.6, repetitions=3, report=seen.append)
    assert seen == [1, 2, 3]
    assert list(found.hospitals["hospital"].unique()) == ["small", "middle", "large"]
    assert list(found.hospitals["model"].unique()) == list(explorer.ARMS)
    assert list(found.effects["estimate"]) == list(explorer.ESTIMATES)
    for table in (found.hospitals, found.effects):
        assert ((table["low"] <= table["mean"]) & (table["mean"] <= table["high"])).all()
    single = explorer.explore(0.1, 2, 0.6, repetitions=1).effects
    assert (single["low"] == single["high"]).all()


def test_an_exploration_ends_when_it_is_outdated():
    stop, seen = threading.Event(), []

    def outdate(done: int) -> None:
        seen.append(done)
        stop.set()

    with pytest.raises(Stopped):
        explorer.explore(0.1, 2, 0.6, report=outdate, stop=stop)
    assert seen == [1]


def test_words_hold_the_numbers_of_the_tables(found):
    one = found[0.02, 8, 0.6]
    said = explorer.describe_hospitals(one)
    for value in one.hospitals["mean"]:
        assert f"{value:.2f}" in said
    assert "small (12 patients)" in said
    effects = explorer.effects_by_shift(found, 0.02, 0.6)
    assert set(effects["estimate"]) == {*explorer.ESTIMATES, "true value"}
    assert effects.groupby("estimate")["shift"].apply(list).map(tuple).unique().tolist() == [(1, 2, 4, 8)]
    said = explorer.describe_effects(effects)
    for name in explorer.ESTIMATES:
        first, last = effects.query("estimate == @name and shift in (1, 8)")["mean"]
        assert f"{name} from {first:.2f} to {last:.2f}" in said
    assert f"{TRUTH:.2f}" in said
