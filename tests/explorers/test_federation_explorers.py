"""The federation explorers of chapters 1, 2 and 3: what they recorded, and what the chapters say of it."""

import numpy as np
import pytest

from hemafl_book.explorers import heads, heterogeneity, morphology, transfer
from hemafl_book.show import federations, results

ALONE, CENTRALISED, COLOUR = heads.ALONE, heads.CENTRALISED, heads.COLOUR
COMMONEST, FEDERATED = heads.COMMONEST, heads.FEDERATED

FILES = {
    morphology: "explorer-blood-morphology",
    heterogeneity: "explorer-heterogeneity",
    transfer: "explorer-transfer",
}


@pytest.fixture(scope="module")
def found():
    return {module: module.SWEEP.read(results.get(file)) for module, file in FILES.items()}


# --- the recordings --------------------------------------------------------------------------------


@pytest.mark.parametrize("module", FILES)
def test_a_recording_has_ten_seeds_and_the_trivial_models(found, module):
    assert len(results.get(FILES[module]).seeds) >= 10
    for one in found[module].values():
        assert set(one.curves["place"]) == set(module.PLACES)
        assert set(one.curves["model"]) == {FEDERATED, ALONE, CENTRALISED, COLOUR, COMMONEST}
        assert (one.curves["low"] <= one.curves["high"]).all()
        assert one.curves[["mean", "low", "high"]].stack().between(0, 1).all()


@pytest.mark.slow
def test_a_recorded_setting_is_the_computed_one(found):
    stored, again = found[morphology][5, 10.0, 0.0, "FedAvg"], morphology.explore(5, 10.0, 0.0, "FedAvg")
    for place in morphology.PLACES:
        difference = stored.last(place) - again.last(place)
        assert difference.abs().max(axis=None) < 0.02
    assert stored.unlike == pytest.approx(again.unlike, abs=1e-3)


@pytest.mark.parametrize("module", [morphology, heterogeneity])
def test_hospitals_are_less_alike_at_a_smaller_alpha(found, module):
    for hospitals in module.CONTROLS["hospitals"]:
        apart = [found[module][hospitals, alpha, 0.0, "FedAvg"].unlike for alpha in module.CONTROLS["alpha"]]
        assert np.all(np.diff(apart) < -0.1)


# --- the lessons -----------------------------------------------------------------------------------


def last(found, module, place, *setting):
    return found[module][setting].last(place)["mean"]


def test_chapter_1_its_explorer_opens_on_a_federation_that_pays_and_stains_take_it_away(found):
    before, after = (last(found, morphology, heads.UNSEEN, 5, 10.0, stain, "FedAvg") for stain in (0.0, 1.0))
    assert before[FEDERATED] > before[ALONE] + 0.1
    assert before[FEDERATED] > before[COLOUR] + 0.03
    assert before[FEDERATED] - 0.1 > after[FEDERATED] > after[ALONE] + 0.05


def test_chapter_1_who_gains_depends_on_who_is_judged(found):
    own, strangers = (
        last(found, morphology, place, 5, 0.1, 0.0, "FedAvg") for place in (heads.OWN, heads.UNSEEN)
    )
    assert own[ALONE] > own[FEDERATED]
    assert own[ALONE] - own[COMMONEST] < 0.1
    assert strangers[FEDERATED] > strangers[ALONE] + 0.2


def test_chapter_1_strangers_gain_by_every_stain_and_lose_by_the_median(found):
    two, ten = (last(found, morphology, heads.UNSEEN, n, 10.0, 1.0, "FedAvg") for n in (2, 10))
    assert ten[FEDERATED] > two[FEDERATED]
    assert ten[ALONE] < two[ALONE]
    mean, median = (
        last(found, morphology, heads.UNSEEN, 10, 0.1, 1.0, rule) for rule in ("FedAvg", "FedMedian")
    )
    assert mean[FEDERATED] > median[FEDERATED] + 0.02


def test_chapter_2_skew_hurts_one_hospital_alone_and_the_median(found):
    shared = {
        alpha: last(found, heterogeneity, heads.SHARED, 5, alpha, 0.0, "FedAvg") for alpha in (0.1, 1.0, 10.0)
    }
    assert shared[0.1][ALONE] < shared[1.0][ALONE] < shared[10.0][ALONE]
    assert shared[0.1][FEDERATED] > shared[0.1][ALONE] + 0.2
    own = last(found, heterogeneity, heads.OWN, 5, 0.1, 0.0, "FedAvg")
    assert own[ALONE] > own[FEDERATED]
    assert own[ALONE] - own[COMMONEST] < 0.1
    median = last(found, heterogeneity, heads.SHARED, 5, 0.1, 0.0, "FedMedian")
    assert shared[0.1][FEDERATED] > median[FEDERATED] + 0.03
    worst = [
        last(found, heterogeneity, heads.WORST, 5, 0.1, 0.0, rule)[FEDERATED]
        for rule in ("FedAvg", "FedMedian")
    ]
    assert worst[0] > worst[1] + 0.1


def test_chapter_3_a_small_hospital_gains_unless_its_stain_has_no_say(found):
    small, large = (
        last(found, transfer, place, 3, 0.02, 0.0, "FedAvg") for place in (heads.SMALLEST, heads.LARGEST)
    )
    assert small[FEDERATED] > small[ALONE] + 0.1
    assert abs(large[FEDERATED] - large[ALONE]) < 0.03
    weighed, equal = (
        {rule: last(found, transfer, place, 3, 0.02, 1.0, rule) for rule in transfer.CHOICES}
        for place in (heads.SMALLEST, heads.LARGEST)
    )
    by_images, alike = (weighed[rule] for rule in ("FedAvg", "FedAvg, equal weights"))
    assert by_images[FEDERATED] < by_images[ALONE] + 0.02
    assert by_images[COLOUR] > by_images[FEDERATED]
    assert alike[FEDERATED] > by_images[FEDERATED] + 0.1
    assert equal["FedAvg, equal weights"][FEDERATED] < equal["FedAvg"][FEDERATED] - 0.02
    six = last(found, transfer, heads.SMALLEST, 6, 0.02, 1.0, "FedAvg")
    assert six[FEDERATED] > by_images[FEDERATED] + 0.1


# --- the picture -----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", FILES)
def test_a_picture_holds_the_recorded_curves_of_its_place(found, module):
    one, place = next(iter(found[module].values())), module.PLACES[-1]
    shown = federations.picture(one, place)
    assert [series.name for series in shown.series] == [FEDERATED, ALONE, CENTRALISED, COLOUR, COMMONEST]
    federated = shown.series[0]
    rows = one.curves.query("place == @place and model == 'federated'").sort_values("round")
    assert federated.y == rows["mean"].tolist()
    assert federated.band == (rows["low"].tolist(), rows["high"].tolist())
    assert [series.quiet for series in shown.series] == [False] * 4 + [True]
    assert f"federated {rows['mean'].iloc[-1]:.2f}" in shown.summary


def test_an_explorer_asks_python_for_what_is_not_recorded_and_tells_the_seeds(found):
    told = []

    class Waiting:
        cancelled = None
        say = staticmethod(told.append)

    def explore(*, hospitals, report, stop, **others):
        report(3)
        return found[morphology][(hospitals, *others.values())]

    compute = federations.computed(explore)
    setting = {"hospitals": 5, "alpha": 10.0, "stain": 0.0, "aggregator": "FedAvg", "judged": heads.OWN}
    shown = compute(setting, Waiting())
    assert told == ["Seed 3 of 10."]
    assert shown == federations.picture(found[morphology][5, 10.0, 0.0, "FedAvg"], heads.OWN)
