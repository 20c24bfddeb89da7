"""The privacy explorer of chapter 3: its simulated patients, its curves, its recording."""

import threading

import numpy as np
import pandas as pd
import pytest

from hemafl_book.explorers import privacy as explorer
from hemafl_book.show import results
from hemafl_lib.errors import Stopped
from hemafl_lib.models import ridge_logistic
from hemafl_lib.privacy import RecordPrivacy
from hemafl_lib.seeds import numpy_generator

PRIVATE, PLAIN = explorer.PRIVATE, explorer.PLAIN


@pytest.fixture(scope="module")
def found():
    return explorer.SWEEP.read(results.get("explorer-privacy"))


# --- the recording ---------------------------------------------------------------------------------


def test_a_recorded_setting_is_the_computed_one(found):
    """A shorter run is the beginning of a longer one."""
    again, stored = explorer.explore(2.0, 1.0, 5), found[2.0, 1.0, 5]
    pd.testing.assert_frame_equal(stored.curves, again.curves, atol=2e-3, rtol=0, check_names=False)
    assert stored.epsilon == pytest.approx(again.epsilon, rel=1e-3)


# --- the lesson ------------------------------------------------------------------------------------


def test_more_noise_costs_less_epsilon_and_more_accuracy(found):
    for clip in explorer.CONTROLS["clip"]:
        chosen = [found[noise, clip, 20] for noise in explorer.CONTROLS["noise"]]
        assert np.all(np.diff([one.epsilon["small"] for one in chosen]) < 0)
        last = [one.curves[PRIVATE].iloc[-1] for one in chosen]
        assert last[0] >= last[-1] - 0.01
    assert found[0.3, 3.0, 20].curves[PRIVATE].iloc[-1] - found[4.0, 3.0, 20].curves[PRIVATE].iloc[-1] > 0.05


def test_a_clip_too_small_learns_slowly_and_one_too_large_drowns_in_noise(found):
    last = {clip: found[4.0, clip, 20].curves[PRIVATE].iloc[-1] for clip in explorer.CONTROLS["clip"]}
    assert max(last[0.3], last[1.0]) > max(last[0.1], last[3.0]) + 0.01
    quiet = {clip: found[0.3, clip, 5].curves[PRIVATE].iloc[-1] for clip in explorer.CONTROLS["clip"]}
    assert quiet[0.1] < quiet[0.3] < quiet[1.0]


def test_the_smallest_hospital_pays_most_and_every_round_costs(found):
    for (noise, _, _), one in found.items():
        assert noise < 1 or one.epsilon["large"] < one.epsilon["middle"] < one.epsilon["small"]
    for noise in explorer.CONTROLS["noise"]:
        costs = [found[noise, 1.0, rounds].epsilon["large"] for rounds in explorer.CONTROLS["rounds"]]
        assert np.all(np.diff(costs) > 0)


def test_the_clip_does_not_change_what_is_spent(found):
    for noise in explorer.CONTROLS["noise"]:
        assert (
            len({tuple(found[noise, clip, 10].epsilon.values()) for clip in explorer.CONTROLS["clip"]}) == 1
        )


# --- the patients and their training ---------------------------------------------------------------


def test_simulated_patients_have_the_effects_that_are_written_down():
    cohort = explorer.simulate(20_000, numpy_generator(0), "a")
    fitted = ridge_logistic(cohort.features.double().numpy(), cohort.label.numpy(), 1e-6)
    np.testing.assert_allclose(fitted.coefficients, explorer.EFFECTS, atol=0.12)
    assert cohort.provenance.simulated


def test_no_model_beats_the_true_rule(found):
    best = explorer.best_accuracy()
    assert 0.8 < best < 0.86
    assert all(one.curves.to_numpy().max() < best for one in found.values())


def test_hospitals_and_test_are_different_patients():
    cohorts = [*(site.train for site in explorer.hospitals()), explorer.test_patients()]
    features = np.concatenate([cohort.features.numpy() for cohort in cohorts])
    assert len(np.unique(features[:, :3], axis=0)) == len(features)
    assert [len(cohort) for cohort in cohorts[:-1]] == list(explorer.PATIENTS.values())


def test_the_later_account_is_the_one_of_the_rounds():
    run = explorer.train(3, trainer=RecordPrivacy(noise=2.0, clip=1.0, delta=explorer.DELTA))
    one = explorer.explore(2.0, 1.0, 3)
    assert one.curves[PRIVATE].tolist() == explorer.accuracies(run.history).tolist()
    reported = run.curve("epsilon", phase="train").iloc[-1]
    assert one.epsilon == pytest.approx(reported.to_dict())


def test_an_exploration_reports_every_round():
    seen = []
    one = explorer.explore(2.0, 1.0, 2, report=lambda curves: seen.append(len(curves)))
    assert seen == [1, 2, 3]
    assert list(one.curves) == [PRIVATE, PLAIN]
    assert one.curves.loc[0, PRIVATE] == one.curves.loc[0, PLAIN]


def test_an_exploration_ends_when_it_is_outdated():
    stop = threading.Event()
    with pytest.raises(Stopped):
        explorer.explore(2.0, 1.0, 5, report=lambda curves: stop.set(), stop=stop)


def test_words_hold_the_numbers_of_a_setting(found):
    one = found[1.0, 0.3, 10]
    said = explorer.describe(1.0, 0.3, one)
    for number in (*one.curves.iloc[-1], explorer.best_accuracy()):
        assert f"{number:.2f}" in said
    for hospital in ("large", "small"):
        assert f"{one.epsilon[hospital]:.3g} at the {hospital}" in said
    assert "1 round," in explorer.describe(1.0, 0.3, found[1.0, 0.3, 1])
