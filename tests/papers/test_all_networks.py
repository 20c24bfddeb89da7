"""The paper's pipeline: chosen on validation images, the test opened last; copies of training images only."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hemafl_book.papers import all_networks, copies
from hemafl_book.papers.all_networks import CHOSEN, ENSEMBLE, LONGER, NONE
from hemafl_book.papers.arms import Prediction
from hemafl_book.papers.copies import FLIPS, ROTATIONS, SCALINGS
from hemafl_book.papers.macro_scores import MEASURES, differences
from hemafl_book.papers.where import Where
from hemafl_book.results import Results, load
from hemafl_book.show import results
from hemafl_lib import evaluation, partition
from hemafl_lib.augmentation import with_variants
from hemafl_lib.data import smear
from hemafl_lib.errors import HemaflError

QUIET = Where(progress=False)
NETWORKS = all_networks.NETWORKS[:2]


def tiny_protocol(bar: float = 0.0) -> all_networks.Protocol:
    """Both studies on a few small smears, one round of one epoch."""
    asked = all_networks.protocol("quick", "smear")
    studies = tuple(replace(study, size=32, seeds=(0, 1)) for study in asked.studies)
    return replace(asked, cells=120, patients=30, studies=studies, bar=bar, rounds=1, local_epochs=1)


@pytest.fixture(scope="module")
def tiny_results() -> Results:
    return all_networks.run(tiny_protocol(), QUIET)


@pytest.fixture(scope="module")
def images():
    drawn = smear.simulate(40, size=32, classes=smear.LEUKAEMIA, sites=("north",), patients=40, masks=False)
    return partition.grouped(drawn, np.arange(len(drawn)))


def rows_of(found: Results, title: str):
    return found.tables["scores"].query("study == @title and where == 'test'")


# Copies


def test_quarter_turns_and_other_sizes_begin_with_the_image_itself(images):
    for made in (FLIPS, ROTATIONS, SCALINGS):
        found = [change(images.images) for change in made.values()]
        assert torch.equal(found[0], images.images)
        assert len(found) == 4
        assert all(copy.shape == images.images.shape and copy.dtype == torch.uint8 for copy in found)
        assert all(not torch.equal(found[0], copy) for copy in found[1:])


def test_two_quarter_turns_are_both_flips(images):
    assert torch.equal(ROTATIONS["180 degrees"](images.images), FLIPS["both"](images.images))


@pytest.mark.parametrize(("factor", "side"), [(2.0, 24), (0.75, 9)])
def test_scaling_is_about_the_centre_and_by_its_factor(factor, side):
    square = torch.zeros(1, 3, 48, 48, dtype=torch.uint8)
    square[:, :, 18:30, 18:30] = 255
    found = copies.scaled(square, factor)[0, 0] > 127
    rows = found.any(dim=1).nonzero()[:, 0]
    middle = found[20:28].any(dim=0).nonzero()[:, 0]
    assert len(middle) == pytest.approx(side, abs=1)
    assert float(rows.float().mean()) == pytest.approx(23.5, abs=0.6)


def test_copies_are_of_training_images_only(images, monkeypatch):
    seen = {}

    def spy(self, arm, seed, sites, judged):
        (test,) = judged.values()
        seen[arm.name] = (sum(len(site.train) for site in sites), len(test), arm.recipe.local_epochs)
        return [Prediction(arm.name, seed, "test", test.labels.numpy(), np.eye(4)[test.labels])]

    monkeypatch.setattr(all_networks.Inputs, "fit", spy)
    study = tiny_protocol().studies[1]
    inputs = all_networks.Inputs(tiny_protocol(), QUIET)
    numbers = torch.arange(len(images) * 4).view(-1, 4, 1).float()
    copied = {name: with_variants(images, numbers) for name in study.copies}
    all_networks.compare_copies(study, inputs, copied, 0)
    once, tested, _ = seen[NONE]
    assert all(seen[name][0] == 4 * once for name in study.copies)
    assert {test for _, test, _ in seen.values()} == {tested}
    assert seen[LONGER] == (once, tested, 4)


# The pipeline


def test_every_network_stands_beside_the_ensemble_and_the_baselines(tiny_results):
    table = rows_of(tiny_results, "networks")
    ways = {f"{way}: {name}" for way in ("centralised", "FedAvg") for name in (*NETWORKS, CHOSEN, ENSEMBLE)}
    colour = {"colour alone, logistic regression", "colour alone, random forest", "commonest class"}
    assert set(table["arm"]) == ways | colour
    assert table.groupby("arm")["seed"].nunique().eq(2).all()
    assert table[list(MEASURES)].apply(lambda column: column.between(0, 1).all()).all()
    trained = table[table["arm"].isin(ways)]
    assert trained.groupby("seed")["rows"].nunique().eq(1).all()


def test_the_best_rate_and_the_best_network_are_those_of_the_validation_images(tiny_results):
    choice = tiny_results.tables["choice"]
    assert len(choice) == 2 * 2 * 3, "seeds, networks, rates"
    for _, tried in choice.groupby(["seed", "network"]):
        assert tried["kept"].sum() == 1
        assert tried.loc[tried["kept"], "validation accuracy"].item() == tried["validation accuracy"].max()
    scores = tiny_results.tables["scores"]
    for seed, kept in choice[choice["kept"]].groupby("seed"):
        best = kept.loc[kept["validation accuracy"].idxmax(), "network"]
        for way in ("centralised", "FedAvg"):
            of_seed = scores[(scores["seed"] == seed) & (scores["where"] == "test")].set_index("arm")
            assert of_seed.loc[f"{way}: {CHOSEN}", "accuracy"] == of_seed.loc[f"{way}: {best}", "accuracy"]


def test_no_test_row_is_looked_at_before_the_choice(monkeypatch):
    looked, honest = [], all_networks.Inputs.fit

    def spy(self, arm, seed, sites, judged):
        looked.append((arm.name, tuple(judged)))
        return honest(self, arm, seed, sites, judged)

    monkeypatch.setattr(all_networks.Inputs, "fit", spy)
    asked = tiny_protocol()
    all_networks.run(replace(asked, studies=(replace(asked.studies[0], seeds=(0,)),)), QUIET)
    opened = [place for place, (_, judged) in enumerate(looked) if "test" in judged]
    assert opened == list(range(2 * 3, 2 * 3 + 4)), "after all rates of both networks"


def test_below_the_bar_nothing_is_federated():
    asked = tiny_protocol(bar=1.01)
    found = all_networks.run(replace(asked, studies=(replace(asked.studies[0], seeds=(0,)),)), QUIET)
    arms = set(found.tables["scores"]["arm"])
    assert not any(arm.startswith("FedAvg") for arm in arms)
    assert {f"centralised: {name}" for name in NETWORKS} <= arms
    assert not found.tables["choice"]["passed"].any()


def test_an_ensemble_is_the_mean_of_probabilities():
    labels = np.array([0, 1])
    one = Prediction("a", 0, "test", labels, np.array([[0.9, 0.1], [0.8, 0.2]]))
    other = replace(one, arm="b", probabilities=np.array([[0.2, 0.8], [0.1, 0.9]]))
    (found,) = all_networks.ensemble([[one], [other]], "both")
    np.testing.assert_allclose(found.probabilities, [[0.55, 0.45], [0.45, 0.55]])
    assert found.arm == "both"


def test_a_seed_draws_the_initial_weights():
    inputs = all_networks.Inputs(tiny_protocol(), QUIET)
    heads = [inputs.network(NETWORKS[0], seed).suffix.classifier.weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_differences_are_paired_by_seed_and_widened_by_the_overlap(tiny_results):
    table = rows_of(tiny_results, "copies")
    found = differences(table, NONE, overlap=2 / 7)
    assert list(found.index) == [LONGER, *all_networks.COPIES]
    wide = table.pivot(index="seed", columns="arm", values="accuracy")
    expected = evaluation.difference_interval(wide[LONGER] - wide[NONE], overlap=2 / 7)
    assert tuple(found.loc[LONGER]) == pytest.approx(tuple(expected))


# Protocol and frozen result


def test_the_protocol_is_plain_json_and_says_everything():
    described = json.loads(json.dumps(all_networks.protocol("paper", "real").describe()))
    assert described["bar"] == 0.9
    assert described["studies"][0]["rates"] == list(all_networks.RATES)
    assert described["copied"]["four flips"] == list(FLIPS)
    assert described["recipe"]["local_epochs"] == 5
    assert described != json.loads(json.dumps(all_networks.protocol("quick", "real").describe()))


@pytest.mark.parametrize("arguments", [("hasty",), ("quick", "imagined")])
def test_unknown_presets_and_sources_are_refused(arguments):
    with pytest.raises(HemaflError, match="choose"):
        all_networks.protocol(*arguments)


def test_the_report_names_every_arm(tiny_results):
    said = all_networks.report(tiny_results)
    assert all(arm in said for arm in tiny_results.tables["scores"]["arm"])


def test_the_frozen_networks_were_chosen_without_the_test():
    frozen = load(results.folder() / "all-networks.json")
    choice = frozen.table("choice")
    kept = choice[choice["kept"]]
    assert set(kept["network"]) == set(all_networks.NETWORKS)
    assert (kept["passed"] == (kept["validation accuracy"] >= all_networks.BAR)).all()
    assert frozen.seeds == [0, 1, 2, 3, 4]
