"""Experiments: protocols as data, tables with intervals and baselines, frozen results that are not stale."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from builders.command import run_by_command

from hemafl_book.papers import arms, blood_morphology, scores
from hemafl_book.papers.arms import Arm, Prediction, Trial
from hemafl_book.papers.baselines import colour_probabilities, colour_statistics
from hemafl_book.papers.where import Where
from hemafl_book.results import Results, load, stale
from hemafl_book.show import results
from hemafl_lib import evaluation
from hemafl_lib.data import smear
from hemafl_lib.errors import HemaflError
from hemafl_lib.models import AttentionCNN

PROTOCOL = blood_morphology.protocol
QUIET = Where(progress=False)


def tiny_protocol(*_: object, **__: object) -> blood_morphology.Protocol:
    """Two arms of the quick preset on a few small cells."""
    asked = PROTOCOL("quick", "smear")
    study = asked.studies[0]
    chosen = tuple(
        replace(arm, recipe=replace(arm.recipe, local_epochs=1))
        for arm in study.arms
        if arm.name in ("isolated", "FedAvg", "centralised")
    )
    return replace(asked, size=32, cells=40, rounds=1, studies=(replace(study, arms=chosen),))


@pytest.fixture(scope="module")
def tiny_results() -> Results:
    return blood_morphology.run(tiny_protocol(), QUIET)


def test_every_arm_is_scored_everywhere_beside_the_baseline(tiny_results):
    table = tiny_results.tables["group norm: scores"]
    names = {
        *(f"isolated: {site}" for site in blood_morphology.DRAWN_CLIENTS),
        "FedAvg",
        "centralised",
        "colour alone",
    }
    assert set(table["arm"]) == names
    assert set(table["where"]) == {*blood_morphology.DRAWN_CLIENTS, "joint", *blood_morphology.DRAWN_UNSEEN}
    assert len(table) == len(names) * 6
    assert table["balanced accuracy"].between(0, 1).all()


def test_all_arms_see_the_same_test_rows(tiny_results):
    table = tiny_results.tables["group norm: scores"]
    assert (table.groupby("where")["cells"].nunique() == 1).all()


def test_what_a_network_reads_is_computed_once_for_all_studies(tiny_results, monkeypatch):
    """Frozen layers took a minute a study; shared, they give the same bits."""
    asked, read = tiny_protocol(), blood_morphology.network_inputs
    (study,) = asked.studies
    calls = []
    monkeypatch.setattr(
        blood_morphology, "network_inputs", lambda *given: calls.append(given) or read(*given)
    )
    twice = replace(asked, studies=(study, replace(study, title="again")))
    found = blood_morphology.run(twice, QUIET)
    assert len(calls) == 1
    for title in ("group norm", "again"):
        pd.testing.assert_frame_equal(
            found.tables[f"{title}: scores"], tiny_results.tables["group norm: scores"], check_exact=True
        )


def test_the_protocol_is_plain_json_and_says_everything():
    described = blood_morphology.protocol("paper", "real").describe()
    assert json.loads(json.dumps(described))["studies"][0]["arms"][0]["recipe"]["gamma"] == 2.0
    other = blood_morphology.protocol("paper", "smear").describe()
    assert json.dumps(other) != json.dumps(described)


@pytest.mark.parametrize("arguments", [("hasty", "real"), ("quick", "imagined")])
def test_unknown_presets_and_sources_are_refused(arguments):
    with pytest.raises(HemaflError, match="choose"):
        blood_morphology.protocol(*arguments)


def test_the_frozen_result_is_not_stale():
    """Whoever changes the protocol has to compute the results again (`make results`)."""
    result = load(results.folder() / "blood-morphology.json")
    described = blood_morphology.protocol("paper", "real").describe()
    assert not stale(result, json.loads(json.dumps(described)))
    assert result.seeds == list(range(10))


@pytest.mark.real
def test_the_frozen_result_was_computed_on_these_files(real_data):
    result = load(results.folder() / "blood-morphology.json")
    asked = blood_morphology.protocol("paper", "real")
    found = [blood_morphology.COHORTS[name](asked, real_data).provenance for name in ("hospitals", "eleven")]
    assert [source["checksum"] for source in result.data] == [provenance.checksum for provenance in found]


@pytest.mark.real
def test_real_hospitals_hold_what_the_protocol_names(real_data):
    asked = replace(blood_morphology.protocol("quick", "real"), size=16)
    cohort = blood_morphology.hospitals(asked, real_data)
    assert set(cohort.sites) == {
        *blood_morphology.REAL_CLIENTS,
        *blood_morphology.SECOND_BATCHES,
        *blood_morphology.REAL_UNSEEN,
    }
    assert max(np.unique(cohort.site, return_counts=True)[1]) <= asked.cells


def test_a_seed_deals_and_stains_the_eleven_classes_anew():
    asked = replace(PROTOCOL("paper", "smear"), size=32, cells=60)
    study = next(study for study in asked.studies if study.cohort == "eleven")
    whole = blood_morphology.eleven(asked)
    first, again, other = (blood_morphology.made_into_three(whole, study, seed) for seed in (0, 0, 1))
    assert first.sites == other.sites == ("first", "second", "third")
    assert len(first) == len(other) == 300
    assert len(first.classes) == 11
    assert torch.equal(first.images, again.images)
    assert not np.array_equal(first.of_site("third").labels, other.of_site("third").labels)
    third = [cohort.of_site("third").images.float().mean(dim=(0, 2, 3)) for cohort in (first, other)]
    assert (third[0] - third[1]).abs().max() > 2, "another stain"


def test_a_seed_decides_the_initial_weights_and_no_arm_trains_on_a_second_batch():
    asked = replace(PROTOCOL("paper", "smear"), size=32, cells=40)
    images = blood_morphology.hospitals(asked)
    study = replace(asked.studies[0], unseen=("west",), second=("harbour",))
    read = partial(blood_morphology.read_images, asked, QUIET, images)
    pieces = [blood_morphology.prepare(study, asked, images, read, QUIET)(seed) for seed in (0, 1)]
    first, other = (piece.trials[0] for piece in pieces)
    heads = [trial.model.suffix.classifier.weight for trial in (first, other)]
    assert not torch.equal(*heads)
    assert set(first.judged) == {*blood_morphology.DRAWN_CLIENTS, "joint", "harbour", "west"}
    assert {site.name for site in first.sites} == set(blood_morphology.DRAWN_CLIENTS)


def test_isolated_and_centralised_arms_name_their_runs():
    sites = blood_morphology.partition.natural(smear.simulate(120, size=32, sites=("north", "south")), seed=0)
    model = AttentionCNN(4)
    trial = Trial(arm=Arm("isolated", kind="isolated"), seed=0, rounds=1, sites=sites, model=model)
    runs = arms.train(trial, QUIET)
    assert list(runs) == ["isolated: north", "isolated: south"]


# --- tables ----------------------------------------------------------------------------------------


def prediction(arm: str, seed: int, right: float, where: str = "unseen") -> Prediction:
    """Random labels of three classes, guessed right with a given chance."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=90)
    noise = np.random.default_rng([seed, int(100 * right)])
    guess = np.where(noise.random(90) < right, labels, (labels + 1) % 3)
    return Prediction(arm, seed, where, labels, np.eye(3)[guess] * 0.9 + 0.1 / 3)


def test_summary_is_the_mean_with_its_interval():
    found = [prediction("a", seed, 0.7) for seed in range(5)]
    table = scores.score_table(found)
    row = scores.summary(table).iloc[0]
    assert row["mean"] == pytest.approx(table["balanced accuracy"].mean())
    expected = evaluation.seed_interval(table["balanced accuracy"])
    assert (row["low"], row["high"]) == (expected.low, expected.high)


def test_one_seed_has_no_interval():
    row = scores.summary(scores.score_table([prediction("a", 0, 0.7)])).iloc[0]
    assert np.isnan(row["low"])
    assert scores.as_text(row["mean"], row["low"], row["high"]).count("[") == 0


def test_differences_tell_a_better_arm_from_an_equal_one():
    found = [
        prediction(arm, seed, p) for seed in range(4) for arm, p in (("reference", 0.5), ("better", 0.9))
    ]
    row = scores.differences(found, "reference", "unseen").iloc[0]
    assert row["arm"] == "better"
    assert 0 < row["low"] < row["difference"] < row["high"]
    assert row["bootstrap low"] > 0


def test_restrict_drops_rows_and_columns():
    p = prediction("a", 0, 0.7)
    narrow = scores.restrict(p, ("x", "y", "z"), ("x", "z"))
    assert len(narrow.labels) == np.isin(p.labels, [0, 2]).sum()
    assert narrow.probabilities.shape[1] == 2
    assert narrow.where == "unseen, 2 classes"


def test_a_model_without_finite_scores_says_nothing():
    cohort = smear.simulate(8, size=32)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 4))
    model[1].weight.data.fill_(float("nan"))
    assert np.allclose(arms.probabilities(model, cohort), 0.25)


# --- the colour baseline ---------------------------------------------------------------------------


def test_colour_statistics_are_those_of_numpy():
    images = smear.simulate(4, size=32).images
    pixels = images.numpy().reshape(4, 3, -1).astype(float)
    expected = np.concatenate(
        [pixels.mean(-1), pixels.std(-1, ddof=1), *np.percentile(pixels, [5, 50, 95], axis=-1)], axis=1
    )
    np.testing.assert_allclose(colour_statistics(images), expected, rtol=1e-4, atol=1e-3)


def test_colour_statistics_know_nothing_of_shape():
    images = smear.simulate(2, size=32).images
    order = torch.randperm(32 * 32, generator=torch.Generator().manual_seed(0))
    shuffled = images.flatten(2)[:, :, order].reshape_as(images)
    np.testing.assert_allclose(colour_statistics(images), colour_statistics(shuffled), rtol=1e-5)


def test_colour_probabilities_of_a_missing_class_are_zero():
    cohort = smear.simulate(60, size=32)
    train = cohort.take(np.flatnonzero(cohort.labels.numpy() != 2))
    found = colour_probabilities(train, cohort)
    assert np.all(found[:, 2] == 0)
    np.testing.assert_allclose(found.sum(axis=1), 1)


# --- the command -----------------------------------------------------------------------------------


def test_hemafl_run_gives_the_same_tables_says_that_data_are_simulated_and_writes(
    tiny_results, tmp_path, monkeypatch
):
    out = tmp_path / "out.json"
    output, again = run_by_command("blood-morphology", tiny_protocol(), out, monkeypatch)
    for title, table in tiny_results.tables.items():
        pd.testing.assert_frame_equal(table, again.tables[title], check_exact=True)
    assert "SIMULATED" in output
    assert "FedAvg" in output
    assert "chance 0.25" in output
    assert load(out).table("group norm: scores")["arm"].nunique() == 6
