"""The explorer of left-out hospitals: its recording is the study's, and what its picture says it is of."""

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest

from hemafl_book.explorers import left_out as explorer
from hemafl_book.explorers.left_out import COLOUR, EVERYBODY, NOBODY, ONE_PLACE, TOGETHER
from hemafl_book.frozen import subjects
from hemafl_book.papers import leave_one_out as study
from hemafl_book.papers.leave_one_out import MEAN
from hemafl_book.papers.where import HERE
from hemafl_book.show import left_out as shown
from hemafl_book.show import results
from hemafl_book.show.request import Request
from hemafl_lib.errors import DataError, HemaflError, Stopped

TINY = replace(study.protocol("quick", "smear"), size=32, cells=24, drawn=study.Drawn(3, 12, 4), rounds=1)
"""Few small cells of simulated hospitals."""

PAGE = Path(__file__).resolve().parents[2] / "book" / "papers" / "blood_morphology.ipynb"


@pytest.fixture(scope="module")
def found():
    return explorer.SWEEP.read(results.get("explorer-left-out"))


def mean(found, *setting, place=MEAN, model=TOGETHER):
    return explorer.at(found[setting], place).loc[model, "mean"]


# --- the recording ---------------------------------------------------------------------------------

ARMS = {
    (0, EVERYBODY, "pooled", TOGETHER): "FedAvg",
    (0, EVERYBODY, "pooled", ONE_PLACE): "centralised",
    (0, EVERYBODY, "pooled", COLOUR): "colour alone",
    (0, EVERYBODY, "own", TOGETHER): "own statistics",
    (0, EVERYBODY, "own", ONE_PLACE): "own statistics, centralised",
    (20, EVERYBODY, "pooled", TOGETHER): "with drawn hospitals",
    (20, EVERYBODY, "own", TOGETHER): "with drawn hospitals, own statistics",
    (20, NOBODY, "pooled", TOGETHER): "drawn hospitals only",
    (20, NOBODY, "own", TOGETHER): "drawn hospitals only, own statistics",
}
"""The arms of the frozen study by the setting and the model of the explorer that are the same."""


@pytest.mark.parametrize("setting", ARMS, ids=lambda setting: ARMS[setting])
def test_the_recording_agrees_with_the_frozen_study(found, setting):
    frozen = results.table("leave-one-out", "frozen layers: unseen").set_index(["arm", "where"])["mean"]
    *values, model = setting
    for place in explorer.PLACES:
        recorded = mean(found, *values, place=place, model=model)
        assert recorded == pytest.approx(frozen[ARMS[setting], place], abs=6e-4), place


def test_the_recording_is_of_the_real_hospitals_of_the_study_with_ten_seeds():
    recorded, frozen = (results.get(name) for name in ("explorer-left-out", "leave-one-out"))
    assert recorded.data == frozen.data
    assert recorded.seeds == frozen.seeds
    assert len(recorded.seeds) >= 10
    (subject,) = subjects.find(["explorer-left-out"])
    assert set(subject.reads()) == set(study.REAL)


def test_every_setting_has_every_place_bands_and_what_it_is_compared_with(found):
    for (drawn, others, _), one in found.items():
        assert set(one["place"]) == set(explorer.PLACES)
        nobody, alone = not drawn and others == NOBODY, others == NOBODY
        models = {TOGETHER} if nobody else {TOGETHER, COLOUR} if alone else {TOGETHER, COLOUR, ONE_PLACE}
        assert set(one["model"]) == models
        assert (one["low"] <= one["high"]).all()
        assert one[["mean", "low", "high"]].stack().between(0, 1).all()


def test_where_nobody_trains_nothing_is_learnt(found):
    for statistics in explorer.CONTROLS["statistics"]:
        one = found[0, NOBODY, statistics]
        first, last = (one[one["round"] == number].set_index("place")["mean"] for number in (0, 5))
        assert (first == last).all()
        assert mean(found, 0, NOBODY, statistics) == pytest.approx(study.CHANCE, abs=0.06)


# --- what the chapter says of it -------------------------------------------------------------------


def test_the_prediction_of_the_chapter_is_right(found):
    (asked,) = [
        cell.source
        for cell in nbformat.read(PAGE, as_version=4).cells
        if "asked_of_strangers =" in cell.source
    ]
    assert 'right="It gets half as much again, or more."' in asked
    opens, shows = mean(found, 0, EVERYBODY, "pooled"), mean(found, 20, NOBODY, "own")
    assert study.CHANCE < opens < study.CHANCE + 0.1, "little above chance"
    assert shows > 1.5 * opens


def test_either_change_helps_and_both_together_help_most(found):
    as_it_is, both = mean(found, 0, EVERYBODY, "pooled"), mean(found, 20, NOBODY, "own")
    for one in (mean(found, 0, EVERYBODY, "own"), mean(found, 20, NOBODY, "pooled")):
        assert as_it_is + 0.1 < one < both - 0.1


def test_five_drawn_hospitals_do_by_own_statistics_what_they_cannot_by_pooled_ones(found):
    as_it_is, twenty = mean(found, 0, EVERYBODY, "pooled"), mean(found, 20, NOBODY, "own")
    assert mean(found, 5, NOBODY, "own") > as_it_is + 0.75 * (twenty - as_it_is)
    assert mean(found, 5, NOBODY, "pooled") == pytest.approx(as_it_is, abs=0.02)


def test_real_hospitals_beside_drawn_ones_add_nothing(found):
    for drawn in (5, 20):
        with_real, without = (mean(found, drawn, others, "own") for others in (EVERYBODY, NOBODY))
        assert with_real < without + 0.02


def test_colour_alone_is_near_the_classifier_at_barcelona_and_below_chance_at_bccd(found):
    setting = (20, NOBODY, "own")
    at_barcelona = mean(found, *setting, place="barcelona", model=COLOUR)
    assert 0 < mean(found, *setting, place="barcelona") - at_barcelona < 0.1
    assert mean(found, *setting, place="bccd", model=COLOUR) < study.CHANCE
    assert mean(found, *setting, place="bccd") > study.CHANCE + 0.2


# --- a setting, computed on simulated hospitals ------------------------------------------------------


def test_a_setting_is_computed_as_the_study_computes_its_arm():
    """Here without one of its results: the study's own functions, by hand."""
    one = explorer.explore(3, EVERYBODY, "own", asked=TINY, seeds=(1,))
    real, drawn = explorer._real(TINY, None).features, explorer._drawn(TINY, 1).features
    for name, batches in study.SIMULATED.items():
        sites, unseen = study.split_hospitals(real, name, study.SIMULATED, test=TINY.test, seed=1)
        way = study.Way("", clients="both", statistics="own")
        ready = study.fold(way, sites, unseen, drawn)
        model = study.train(way, TINY.studies[0].recipe, TINY.rounds, ready.sites, 1, HERE)
        rows = {row["where"]: row["balanced accuracy"] for row in study.judge(way, "", model, ready)}
        for batch in batches:
            assert explorer.at(one, batch).loc[TOGETHER, "mean"] == pytest.approx(rows[batch], abs=1e-6)


def test_fewer_drawn_hospitals_are_the_first_of_all():
    drawn = explorer._drawn(TINY, 1)
    two = drawn.of_first(2)
    assert sorted(two.features.sites) == sorted(drawn.features.sites)[:2]
    assert len(two.features) == len(two.colours) == 24
    rows = np.isin(drawn.features.site, two.features.sites)
    assert (two.features.variants == drawn.features.variants[rows]).all()
    with pytest.raises(HemaflError, match="drawn=4 is not possible; give 0 to 3"):
        explorer.explore(4, NOBODY, "own", asked=TINY)


@pytest.mark.parametrize("others", [NOBODY, EVERYBODY])
def test_no_cell_of_the_hospital_that_is_judged_is_trained_on(others):
    setting = explorer.Setting(1, others, "pooled", TINY)
    real, drawn = explorer._real(TINY, None).features, explorer._drawn(TINY, 1).of_first(1).features
    for ready in explorer.folds(setting, real, drawn, 1):
        trained = {cell for site in ready.sites for cell in site.train.patient}
        judged = {cell for cohort in ready.unseen.values() for cell in cohort.patient}
        assert trained
        assert judged
        assert not trained & judged


def test_an_exploration_reports_every_seed_and_ends_when_it_is_outdated():
    seen, stop = [], threading.Event()
    explorer.explore(0, NOBODY, "own", asked=TINY, seeds=(1, 2), report=seen.append)
    assert seen == [1, 2]
    with pytest.raises(Stopped):
        explorer.explore(0, NOBODY, "own", asked=TINY, report=lambda done: stop.set(), stop=stop)


def test_without_real_images_nothing_is_recorded(monkeypatch, tmp_path):
    monkeypatch.delenv("HEMAFL_DATA", raising=False)
    explorer._real.cache_clear()
    with pytest.raises(DataError, match="HEMAFL_DATA"):
        explorer.SWEEP.record(tmp_path / "x.json", print)
    with pytest.raises(DataError, match="does not exist"):
        explorer.SWEEP.at(tmp_path / "nowhere").record(tmp_path / "x.json", print)
    assert not list(tmp_path.iterdir())


# --- the picture -----------------------------------------------------------------------------------


def test_what_jupyter_computes_without_real_images_says_that_it_is_simulated(monkeypatch):
    monkeypatch.delenv("HEMAFL_DATA", raising=False)
    monkeypatch.setattr(explorer, "EMBEDDED", TINY)
    monkeypatch.setattr(explorer, "explore", partial(explorer.explore, seeds=(1,)))
    said = []
    asked = {"drawn": 2, "others": NOBODY, "statistics": shown.WHOSE["own"], "place": "Tecom"}
    live = shown.Live()
    picture = live.compute(asked, Request(say=said.append))
    assert picture.summary.startswith("No real images are here: SIMULATED hospitals, east for this. Tecom")
    assert "SIMULATED" in picture.y_title
    assert said == ["Seed 1 of 10."]
    elsewhere = live.compute({**asked, "place": "Barcelona, second batch"}, Request(say=said.append))
    assert "SIMULATED hospitals, harbour for this" in elsewhere.summary
    assert len(said) == 1, "what was found of one place is found of all"


def test_a_recorded_picture_has_bands_colour_and_chance_and_says_who_trained(found):
    setting = (5, EVERYBODY, "own")
    picture = shown.picture(found[setting], setting, "bccd")
    assert [series.name for series in picture.series] == [TOGETHER, COLOUR, ONE_PLACE, "chance"]
    assert [series.band is not None for series in picture.series] == [True, False, True, False]
    assert picture.series[-1].y == [0.25, 0.25]
    assert "5 drawn, SIMULATED hospitals train, each by its own statistics" in picture.summary
    assert picture.summary.startswith("BCCD, left out: all other hospitals and")
    assert set(shown.PLACE_NAMES) == set(shown.STANDS_FOR) == set(explorer.PLACES)
