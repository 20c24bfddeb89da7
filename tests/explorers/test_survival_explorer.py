"""The explorers of chapter 4: their simulated hospitals, what is learnt and estimated, their recordings."""

import threading

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemafl_book.explorers import survival as explorer
from hemafl_book.explorers import survival_drug as drug
from hemafl_book.explorers import survival_patients as drawn
from hemafl_book.show import results
from hemafl_lib.errors import Stopped
from hemafl_lib.models import ridge_cox
from hemafl_lib.seeds import numpy_generator

TRUTH = drawn.EFFECTS["drug"]


@pytest.fixture(scope="module")
def found():
    return explorer.SWEEP.read(results.get("explorer-survival"))


@pytest.fixture(scope="module")
def effects():
    return drug.SWEEP.read(results.get("explorer-survival-drug"))


# --- the recordings --------------------------------------------------------------------------------


def test_a_recorded_setting_is_the_computed_one(found, effects):
    again = explorer.explore(3, 0.02, 0.3, "FedAvg")
    pd.testing.assert_frame_equal(found[3, 0.02, 0.3, "FedAvg"], again, atol=2e-3, rtol=0)
    pd.testing.assert_frame_equal(effects[4, 0.6], drug.explore(4, 0.6), atol=1e-3, rtol=0)


def test_recordings_have_at_least_ten_repetitions():
    assert explorer.REPETITIONS >= 10
    assert drug.REPETITIONS >= 10
    for name in ("explorer-survival", "explorer-survival-drug"):
        assert len(results.get(name).seeds) >= 10


# --- the lesson ------------------------------------------------------------------------------------


def gain(found, *setting) -> pd.Series:
    """What federation adds to each hospital's own model on its own patients, by its training patients."""
    mean = found[setting].pivot(index="patients", columns="model", values="mean").sort_index()
    return mean["federated"] - mean["alone"]


def test_where_hospitals_are_alike_the_smallest_gains_most(found):
    for hospitals in explorer.CONTROLS["hospitals"]:
        gains = gain(found, hospitals, 0.02, 0.0, "FedAvg")
        assert gains.idxmax() == gains.index[0] == 12
        assert gains.iloc[0] > 0.02
        assert gains.min() > -0.01


def test_where_hospitals_differ_the_largest_loses(found):
    for hospitals in explorer.CONTROLS["hospitals"]:
        alike, unlike = (gain(found, hospitals, 0.02, h, "FedAvg") for h in (0.0, 0.6))
        assert unlike.iloc[-1] < -0.01
        assert unlike.iloc[-1] < alike.iloc[-1]
        one = found[hospitals, 0.02, 0.6, "FedAvg"]
        assert one.loc[one["patients"].idxmax(), "loses"] > 0.5


def test_every_setting_stands_beside_the_trivial_model_and_the_truth(found):
    for one in found.values():
        mean = one.pivot(index="patients", columns="model", values="mean")
        assert set(mean) == set(explorer.CURVES)
        assert (mean["true risk"] > mean["age alone"]).all()
        assert (one["low"] <= one["mean"] + 1e-9).all()
        assert one[["low", "mean", "high", "loses"]].stack().between(0, 1).all()


def test_unequal_hazards_bias_the_pooled_model_and_not_the_stratified(effects):
    table = {u: drug.by_shift(effects, u) for u in drug.CONTROLS["uneven"]}
    mean = {u: t.pivot(index="shift", columns="estimate", values="mean") for u, t in table.items()}
    for estimates in mean.values():
        assert (estimates["stratified Cox"] - TRUTH).abs().max() < 0.06
        assert abs(estimates.loc[1, "pooled Cox"] - TRUTH) < 0.06
        assert (estimates["mean of local fits"] > estimates["stratified Cox"]).all()
    assert mean[0.6].loc[8, "pooled Cox"] > 0.2
    assert mean[0.6]["pooled Cox"].is_monotonic_increasing
    assert mean[0.3].loc[8, "pooled Cox"] < mean[0.6].loc[8, "pooled Cox"]


def test_with_equal_hazards_the_pooled_model_is_tighter(effects):
    one = effects[1, 0.6].set_index("estimate")
    width = one["high"] - one["low"]
    assert width["pooled Cox"] < 0.9 * width["stratified Cox"]


# --- the hospitals ---------------------------------------------------------------------------------


@given(st.integers(3, 9), st.floats(0.01, 0.07))
def test_hospitals_share_the_patients(hospitals, smallest):
    sizes = explorer.sizes(hospitals, smallest)
    assert len(sizes) == hospitals
    assert sum(sizes) == drawn.PATIENTS
    assert abs(sizes[-1] / drawn.PATIENTS - smallest) <= 0.5 / drawn.PATIENTS + 1e-9
    assert sizes == sorted(sizes, reverse=True)
    assert abs(sizes[0] - 2 * sizes[-2]) <= 3


def test_simulated_patients_have_the_effects_that_are_written_down():
    cohort = drawn.simulate(6000, numpy_generator(0), name="a", hazard=2.0, treated=0.3)
    features, time, event = cohort.features.numpy(), cohort.time.numpy(), cohort.event.numpy()
    fitted = ridge_cox(features, time, event, 0.0)
    np.testing.assert_allclose(fitted, list(drawn.EFFECTS.values()), atol=0.1)
    assert cohort.features[:, 0].mean() == pytest.approx(0.3, abs=0.03)
    assert set(cohort.features[:, 0].tolist()) == {0.0, 1.0}
    lived = drawn.SURVIVAL / 2 * np.exp(-features @ np.array(list(drawn.EFFECTS.values())))
    assert event.sum() == pytest.approx((time / lived).sum(), rel=0.05)
    assert time[~event].min() >= drawn.FOLLOW_UP[0]
    assert time.max() <= drawn.FOLLOW_UP[1]
    assert cohort.provenance.simulated


def test_heterogeneity_changes_the_effects_and_nothing_else():
    alike, unlike = (explorer.draw(3, 0.05, h, 0).sites for h in (0.0, 0.6))
    for before, other in zip(alike, unlike, strict=True):
        assert before.train.features.equal(other.train.features)
        assert not before.train.time.equal(other.train.time)
        assert len(before.test) == explorer.TESTED


def test_a_shift_and_an_uneven_drug_change_only_what_they_say():
    plain, shifted, uneven = (drug.deal(*setting, seed=0) for setting in ((1, 0.0), (4, 0.0), (1, 0.6)))
    for before, faster, other in zip(plain, shifted, uneven, strict=True):
        assert before.train.features.equal(faster.train.features)
        assert before.train.features[:, 1:].equal(other.train.features[:, 1:])
        assert before.train.time.equal(faster.train.time) == (before.name != "middle")
    treated = {site.name: site.train.features[:, 0].mean().item() for site in uneven}
    assert treated["middle"] - treated["large"] == pytest.approx(0.6, abs=0.15)


# --- what they learn -------------------------------------------------------------------------------


def test_federated_averaging_comes_to_the_effects_of_one_table():
    sites = explorer.draw(3, 0.07, 0.0, 0).sites
    found = explorer.federated(sites, "FedAvg", 0)
    assert np.corrcoef(found, list(drawn.EFFECTS.values()))[0, 1] > 0.95


def test_explorations_report_every_repetition_and_repeat():
    seen = []
    one = explorer.explore(3, 0.02, 0.3, "FedMedian", repetitions=2, report=seen.append)
    assert seen == [1, 2]
    pd.testing.assert_frame_equal(one, explorer.explore(3, 0.02, 0.3, "FedMedian", repetitions=2))
    assert one["patients"].unique().tolist() == [12, 196, 392]
    single = drug.explore(2, 0.6, repetitions=1)
    assert list(single["estimate"]) == list(drug.ESTIMATES)
    assert (single["low"] == single["high"]).all()


@pytest.mark.parametrize("one", [(explorer, (3, 0.02, 0.3, "FedAvg")), (drug, (2, 0.6))])
def test_an_exploration_ends_when_it_is_outdated(one):
    module, setting = one
    stop, seen = threading.Event(), []

    def outdate(done: int) -> None:
        seen.append(done)
        stop.set()

    with pytest.raises(Stopped):
        module.explore(*setting, report=outdate, stop=stop)
    assert seen == [1]


def test_words_hold_the_numbers_of_the_tables(found, effects):
    one = found[5, 0.02, 0.6, "FedAvg"]
    said = explorer.describe(one)
    mean = one.pivot(index="patients", columns="model", values="mean")
    for patients in (mean.index.min(), mean.index.max()):
        assert f"with {patients} patients {mean.loc[patients, 'alone']:.2f} alone" in said
    table = drug.by_shift(effects, 0.6)
    said = drug.describe(table)
    for name in drug.ESTIMATES:
        first, last = table.query("estimate == @name and shift in (1, 8)")["mean"]
        assert f"{name} from {first:.2f} to {last:.2f}" in said
    assert f"{TRUTH:.2f}" in said
