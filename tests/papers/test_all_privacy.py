"""The experiment on what privacy costs: who is protected, what was spent, and a frozen result not stale."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from builders.command import run_by_command

from hemafl_book.papers import all_privacy
from hemafl_book.papers.all_privacy import Task
from hemafl_book.papers.where import Where
from hemafl_book.results import FrozenResult, Results, load, stale
from hemafl_book.show import results
from hemafl_lib import evaluation, partition
from hemafl_lib.data import smear
from hemafl_lib.errors import HemaflError
from hemafl_lib.privacy import ClientPrivacy, RecordPrivacy, Steps, epsilon, round_steps

PROTOCOL = all_privacy.protocol
QUIET = Where(progress=False)
PLAIN = PROTOCOL("quick").plain_recipe()
RECORD, FEW, MANY = (study.title for study in PROTOCOL("quick").studies)
BLOCK = f"{RECORD}, last block"


def tiny_protocol(*_: object, **__: object) -> all_privacy.Protocol:
    """Every kind of study of the paper preset, on a few small smears, two rounds."""
    asked = PROTOCOL("paper", "smear")
    studies = tuple(
        replace(study, proportions=study.proportions[:4], noises=(0.0, 2.0)) for study in asked.studies
    )
    return replace(
        asked, size=32, cells=120, patients=40, studies=studies, seeds=(0, 1), clips=(1.0, 5.0), rounds=2
    )


@pytest.fixture(scope="module")
def tiny_results() -> Results:
    return all_privacy.run(tiny_protocol(), QUIET)


@pytest.fixture(scope="module")
def images():
    return smear.simulate(120, size=16, classes=smear.LEUKAEMIA, sites=("north",), patients=40, masks=False)


def unclipped(title: str) -> list[str]:
    """The names of a study's arms that follow the private recipe and do not clip."""
    rate = next(study.recipe.learning_rate for study in PROTOCOL("paper").studies if study.title == title)
    return [f"federated, {all_privacy.UNCLIPPED}, rate {times * rate:g}" for times in all_privacy.TIMES]


def both(found: Results) -> pd.DataFrame:
    """The scores of both levels."""
    return pd.concat([found.tables[f"{level} level: scores"] for level in ("record", "client")])


# Whom privacy protects


def test_each_level_clips_where_it_says():
    record, client = (PROTOCOL("paper").studies[number] for number in (0, 3))
    task = Task(record, 5, 2.0)
    assert task.trainer() == RecordPrivacy(noise=2.0, clip=record.clip, delta=all_privacy.DELTA)
    assert not isinstance(task.arm(PLAIN).aggregator, ClientPrivacy)
    task = Task(client, 5, 2.0)
    assert task.trainer() is None
    expected = ClientPrivacy(noise=2.0, clip=client.clip, sampling=0.5, delta=all_privacy.DELTA, seed=5)
    assert task.arm(PLAIN).aggregator == expected


@pytest.mark.parametrize("number", [0, 1])
def test_without_noise_given_nothing_is_clipped(number):
    task = Task(PROTOCOL("quick").studies[number], 0, None)
    assert task.trainer() is None
    assert not isinstance(task.arm(PLAIN).aggregator, ClientPrivacy)
    assert "without privacy" in task.arm(PLAIN).name


@pytest.mark.parametrize("number", [0, 1])
def test_the_private_recipe_is_also_trained_without_clipping_at_three_rates(number):
    study = PROTOCOL("quick").studies[number]
    found = [task for task in all_privacy.tasks(study, 0) if task.times is not None]
    assert all(task.trainer() is None and task.noise is None for task in found)
    arms = [task.arm(PLAIN) for task in found]
    assert all(not isinstance(arm.aggregator, ClientPrivacy) for arm in arms)
    rates = [arm.recipe.learning_rate for arm in arms]
    assert np.allclose(rates, np.multiply((0.1, 1.0, 10.0), study.recipe.learning_rate))
    assert {replace(arm.recipe, learning_rate=1.0) for arm in arms} == {
        replace(study.recipe, learning_rate=1.0)
    }


def test_a_seed_draws_the_initial_weights_and_what_is_read_stays():
    inputs = all_privacy.Inputs(tiny_protocol(), QUIET)
    networks = [inputs.network("head", seed) for seed in (0, 0, 1)]
    heads = [network.suffix.classifier.weight for network in networks]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    stems = [network.prefix.conv_stem.weight for network in networks]
    assert torch.equal(stems[0], stems[2])
    study = tiny_protocol().studies[0]
    pieces = [all_privacy.piece(study, inputs, seed) for seed in (0, 1)]
    trained = [piece.trials[0].model.suffix.classifier.weight for piece in pieces]
    assert not torch.equal(*trained)


def test_only_at_the_record_level_clients_also_train_alone():
    kinds = {
        study.title: {task.kind for task in all_privacy.tasks(study, 0)}
        for study in PROTOCOL("paper").studies
    }
    assert kinds.pop(RECORD) == {"federated", "isolated"}
    assert len(kinds) == 4
    assert all(kind == {"federated"} for kind in kinds.values())


def test_all_studies_share_the_test_images_and_no_patient_is_on_two_sides(images):
    parts = all_privacy.split_images(images, 3)
    sides = [set(getattr(parts, part).patient) for part in partition.PARTS]
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]
    for study in PROTOCOL("paper").studies:
        study = replace(study, proportions=study.proportions[:5])
        dealt = all_privacy.clients(parts.train, study, 3)
        assert sum(len(site.train) for site in dealt) == len(parts.train)
        assert all(len(site.test) == 0 for site in dealt)


def test_other_clips_come_with_a_learning_rate_to_match():
    record, client, *_ = PROTOCOL("paper").studies
    found = [(one.clip, one.recipe.learning_rate) for one in all_privacy.candidates(record, (0.1, 1.0, 10.0))]
    assert np.allclose(found, [(0.1, 2.0), (1.0, 2.0), (10.0, 2.0), (0.1, 20.0), (10.0, 0.2)])
    assert [one.clip for one in all_privacy.candidates(client, (0.1, 1.0))] == [0.1, 1.0]


# The tables


def test_every_way_of_training_is_scored_with_every_seed(tiny_results):
    sites = [f"site-{number}" for number in (1, 2, 3)]
    alone = [f"isolated{kind}: {site}" for kind in ("", " without privacy") for site in sites]
    record, block = (
        tiny_results.tables["record level: scores"].query("study == @title") for title in (RECORD, BLOCK)
    )
    assert set(block["arm"]) == {"federated", "federated without privacy", unclipped(RECORD)[1]}
    assert set(record["arm"]) == {"federated", "federated without privacy", *alone, *unclipped(RECORD)}
    assert len(record) == (4 * (1 + 2) + 3) * 2, "runs, noises and none, rates without clipping, seeds"
    client = tiny_results.tables["client level: scores"]
    assert set(client["arm"]) == {"federated", "federated without privacy", *unclipped(FEW)}
    assert client["study"].nunique() == 3
    for table in (record, client, tiny_results.tables["baselines"], tiny_results.tables["choice of clip"]):
        assert table[list(all_privacy.MEASURES)].apply(lambda column: column.between(0, 1).all()).all()
    assert both(tiny_results).groupby("seed")["cells"].nunique().eq(1).all()


def test_every_site_pays_for_its_own_size(tiny_results):
    spent = tiny_results.tables["epsilon"].query("study == @RECORD and noise == 2 and seed == 0")
    sizes = tiny_results.tables["sites"].query("study == @RECORD and seed == 0").set_index("site")["images"]
    recipe = all_privacy.record_recipe()
    assert len(spent) == 3 * 2, "sites and rounds"
    for row in spent.itertuples():
        steps = round_steps(int(sizes[row.site]), recipe, 2.0, rounds=row.round)
        assert row.epsilon == pytest.approx(epsilon([steps], all_privacy.DELTA))


def test_alone_a_client_spends_what_it_spends_in_the_federation(tiny_results):
    scores = tiny_results.tables["record level: scores"].query(
        "study == @RECORD and noise == 2 and seed == 0"
    )
    scores = scores.set_index("arm")
    spent = tiny_results.tables["epsilon"].query("study == @RECORD and noise == 2 and seed == 0")
    last = spent[spent["round"] == 2].set_index("site")["epsilon"]
    for site, value in last.items():
        assert scores.loc[f"isolated: {site}", "epsilon"] == value
    assert scores.loc["federated", "epsilon"] == last.max()


def test_the_server_spends_less_where_it_samples(tiny_results):
    spent = tiny_results.tables["client level: scores"].query("noise == 2").groupby("study")["epsilon"].max()
    halved = next(study.title for study in tiny_protocol().studies if study.sampling == 0.5)
    assert spent[halved] < spent[MANY] == spent[FEW]
    assert spent[MANY] == pytest.approx(epsilon([Steps(2.0, 1.0, 2)], all_privacy.DELTA))


def test_clipping_alone_bounds_nothing_and_no_privacy_has_no_epsilon(tiny_results):
    scores = both(tiny_results)
    assert np.isinf(scores.loc[scores["noise"] == 0, "epsilon"]).all()
    assert scores.loc[scores["noise"].isna(), "epsilon"].isna().all()


def test_the_clip_is_compared_on_validation_images(tiny_results):
    table = tiny_results.tables["choice of clip"]
    assert set(table["study"]) == {study.title for study in tiny_protocol().studies} - {BLOCK}
    assert len(table) == 3 + 3 * 2
    assert tiny_results.protocol.clips == (1.0, 5.0)


def test_utility_is_the_mean_over_the_seeds(tiny_results):
    scores = tiny_results.tables["record level: scores"]
    found = all_privacy.utility(scores, "accuracy")
    row = found.query("study == @RECORD and arm == 'federated' and noise == 2").iloc[0]
    values = scores.query("study == @RECORD and arm == 'federated' and noise == 2")["accuracy"]
    assert row["mean"] == pytest.approx(values.mean())
    assert (row["low"], row["high"]) == evaluation.seed_interval(values)[1:]
    assert len(found) == scores.groupby(["study", "arm", "noise"], dropna=False).ngroups


def test_costs_are_means_over_the_seeds(tiny_results):
    cost = tiny_results.tables["cost"].set_index(["study", "arm", "noise"])
    alone = cost.loc[RECORD].loc[[f"isolated: site-{n}" for n in (1, 2, 3)]].xs(2.0, level="noise")
    assert cost.loc[(RECORD, "federated", 2.0), "optimiser steps"] == alone["optimiser steps"].sum()


# Protocol, command and frozen result


def test_the_protocol_is_plain_json_and_says_everything():
    described = json.loads(json.dumps(PROTOCOL("paper", "real").describe()))
    assert described["studies"][0]["clip"] == 1.0
    assert described["delta"] == 1e-5
    others = (PROTOCOL("paper", "smear"), PROTOCOL("quick", "real"))
    assert all(other.describe() != PROTOCOL("paper", "real").describe() for other in others)


@pytest.mark.parametrize("arguments", [("hasty",), ("quick", "imagined")])
def test_unknown_presets_and_sources_are_refused(arguments):
    with pytest.raises(HemaflError, match="choose"):
        PROTOCOL(*arguments)


def test_hemafl_run_gives_the_same_tables_and_says_that_data_are_simulated(
    tiny_results, tmp_path, monkeypatch
):
    """Of one study a level; the others are made of the same parts."""
    asked, out = tiny_protocol(), tmp_path / "out.json"
    few = replace(asked, studies=asked.studies[:2], seeds=(1,), clips=())
    output, again = run_by_command("all-privacy", few, out, monkeypatch)
    for title, table in again.tables.items():
        before = tiny_results.tables[title]
        if "study" in before:
            before = before[before["study"].isin([study.title for study in few.studies])]
        if "seed" in before:
            before = before[before["seed"] == 1]
            pd.testing.assert_frame_equal(
                table.reset_index(drop=True), before.reset_index(drop=True), check_exact=True
            )
    assert "SIMULATED" in output
    assert "commonest class" in output
    scores = load(out).table("record level: scores")
    assert scores.loc[scores["noise"] == 0, "epsilon"].isna().all(), "infinity is no JSON number"


@pytest.fixture(scope="module")
def frozen() -> FrozenResult:
    return load(results.folder() / "all-privacy.json")


def test_the_frozen_result_is_not_stale(frozen):
    """Whoever changes the protocol has to compute the results again (`make results`)."""
    assert not stale(frozen, json.loads(json.dumps(PROTOCOL("paper", "real").describe())))
    assert frozen.seeds == [0, 1, 2, 3, 4]


@pytest.mark.real
def test_the_frozen_result_was_computed_on_these_files(frozen, real_data):
    cohort = all_privacy.smears(replace(PROTOCOL("paper", "real"), size=16), real_data)
    assert len(cohort) == 3256
    assert [source["checksum"] for source in frozen.data] == [cohort.provenance.checksum]


def test_the_frozen_curves_say_what_the_chapter_does(frozen):
    record, client = (frozen.table(f"{level} level: scores") for level in ("record", "client"))
    record = record.query("study == @RECORD")
    curve = all_privacy.utility(record).query("noise >= 1").pivot(index="noise", columns="arm", values="mean")
    assert curve["federated"].is_monotonic_decreasing
    alone = curve[[f"isolated: site-{number}" for number in (1, 2, 3)]]
    assert (curve["federated"] > alone.max(axis=1)).all()
    curve = (
        all_privacy.utility(client).query("noise >= 1").pivot(index="noise", columns="study", values="mean")
    )
    assert (curve[MANY] > curve[FEW] + 0.1).all()
