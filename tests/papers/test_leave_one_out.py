"""A hospital that nobody trained on is left out with every batch, and a seed decides all that chance does."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hemafl_book.papers import leave_one_out as study
from hemafl_book.papers.where import Where
from hemafl_book.results import Results
from hemafl_lib import partition
from hemafl_lib.errors import PartitionError

QUIET = Where(progress=False)
ARMS = ("isolated", "FedAvg", "centralised", "own statistics", "drawn hospitals only, own statistics")


def tiny_protocol() -> study.Protocol:
    """Some arms of the quick preset on a few small cells."""
    asked = study.protocol("quick", "smear")
    head = asked.studies[0]
    arms = tuple(way for way in head.arms if way.name in ARMS)
    recipe = replace(head.recipe, local_epochs=1)
    few = replace(head, arms=arms, recipe=recipe)
    return replace(asked, size=32, cells=24, drawn=study.Drawn(3, 12, 4), rounds=1, studies=(few,))


@pytest.fixture(scope="module")
def tiny_results() -> Results:
    return study.run(tiny_protocol(), QUIET)


@pytest.fixture(scope="module")
def cells():
    return study.hospitals(tiny_protocol())


def rows_of(cohort) -> set[bytes]:
    return {image.numpy().tobytes() for image in cohort.images}


@pytest.mark.parametrize("left_out", study.SIMULATED)
def test_no_image_of_the_left_out_hospital_is_trained_on(cells, left_out):
    sites, unseen = study.split_hospitals(cells, left_out, study.SIMULATED, test=0.2, seed=0)
    held = set().union(*(rows_of(cohort) for cohort in unseen.values()))
    assert sorted(unseen) == sorted(study.SIMULATED[left_out])
    assert len(held) == 24 * len(unseen)
    assert [site.name for site in sites] == [name for name in study.SIMULATED if name != left_out]
    for site in sites:
        assert not held & (rows_of(site.train) | rows_of(site.test))


def test_every_arm_trains_on_the_other_hospitals_and_on_nothing_else(monkeypatch):
    """What reaches a training is looked at: with one batch of a hospital comes the other, or neither."""
    seen = []
    honest = study.train

    def spy(way, recipe, rounds, sites, *rest):
        seen.append((way, {patient.rpartition("-")[0] for site in sites for patient in site.train.patient}))
        return honest(way, recipe, rounds, sites, *rest)

    monkeypatch.setattr(study, "train", spy)
    study.run(tiny_protocol(), QUIET)
    assert {way.name for way, _ in seen} == set(ARMS)
    everybody = {batch for own in study.SIMULATED.values() for batch in own}
    for left_out, own in study.SIMULATED.items():
        fitting = [way.name for way, held in seen if held == everybody - set(own)]
        assert fitting.count("FedAvg") == fitting.count("centralised") == 1, left_out
    for way, held in seen:
        assert ("north" in held) == ("harbour" in held)
        if way.clients == "drawn":
            assert not held & everybody


def test_batches_of_one_hospital_are_one_client(cells):
    sites, _ = study.split_hospitals(cells, "west", study.SIMULATED, test=0.2, seed=0)
    north = next(site for site in sites if site.name == "north")
    assert {patient.rpartition("-")[0] for patient in north.train.patient} == {"north", "harbour"}


def test_a_seed_decides_the_split_the_initial_weights_and_the_drawn_cells(cells):
    asked = tiny_protocol()
    splits = [study.split_hospitals(cells, "west", study.SIMULATED, test=0.2, seed=s)[0] for s in (0, 1, 0)]
    assert rows_of(splits[0][0].train) != rows_of(splits[1][0].train)
    assert rows_of(splits[0][0].train) == rows_of(splits[2][0].train)
    drawn = [study.drawn_cells(asked, seed) for seed in (0, 1, 0)]
    assert not rows_of(drawn[0]) & rows_of(drawn[1])
    assert rows_of(drawn[0]) == rows_of(drawn[2])
    heads = [study.start(8, seed).weight for seed in (0, 1, 0)]
    assert not torch.equal(heads[0], heads[1])
    assert torch.equal(heads[0], heads[2])


def test_the_reference_of_several_hospitals_is_that_of_one_with_all_images(cells):
    parts = [cells.of_site(name) for name in ("east", "west", "north")]
    parts[0] = parts[0].take(np.arange(7))
    for measure, _ in study.NORMALISATIONS.values():
        means = [measure(part.images).mean(axis=0) for part in parts]
        found = partition.federated_reference(means, [len(part) for part in parts])
        whole = measure(torch.cat([part.images for part in parts])).mean(axis=0)
        np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("images", [[], [3, 0], [3]])
def test_a_reference_needs_images_of_every_hospital(images):
    with pytest.raises(PartitionError, match="at least 1"):
        partition.federated_reference([np.ones((2, 3))] * 2, images)


def test_every_arm_is_judged_at_every_batch_of_every_hospital(tiny_results):
    rows = tiny_results.tables["frozen layers: scores"]
    unseen = rows[rows["patients"] == "unseen"]
    batches = {(name, batch) for name, own in study.SIMULATED.items() for batch in own}
    for arm in (*ARMS, study.COLOUR):
        found = unseen[unseen["arm"] == arm]
        assert set(zip(found["left out"], found["where"], strict=True)) == batches
    own = rows[rows["patients"] == "own"]
    assert (own["where"] != own["left out"]).all()
    alone = own[own["arm"] == "isolated"]
    assert (alone["where"] == alone["model"]).all()


def test_means_and_differences_are_those_of_the_rows(tiny_results):
    rows = tiny_results.tables["frozen layers: scores"]
    unseen = rows[(rows["patients"] == "unseen") & (rows["arm"] == "FedAvg")]
    means = tiny_results.tables["frozen layers: unseen"].set_index(["arm", "where"])["mean"]
    of_hospitals = unseen.groupby("left out")["balanced accuracy"].mean()
    assert len(of_hospitals) == len(study.SIMULATED), "a hospital of two batches counts once"
    assert means["FedAvg", study.MEAN] == pytest.approx(of_hospitals.mean())
    apart = tiny_results.tables["frozen layers: differences"].set_index(["arm", "reference", "where"])
    expected = means["own statistics", "west"] - means["FedAvg", "west"]
    assert apart.loc[("own statistics", "FedAvg", "west"), "difference"] == pytest.approx(expected)


def test_own_statistics_take_a_shift_of_every_feature_away(cells):
    """A hospital whose features are all stretched and moved is judged as if they were not."""
    network = study.backbone(study.BACKBONE, 4, size=32)
    sites, unseen = study.split_hospitals(
        study.features_of(network, cells, QUIET), "west", study.SIMULATED, test=0.2, seed=0
    )
    moved = {name: replace(c, variants=3 * c.variants + 5) for name, c in unseen.items()}
    for statistics, same in (("own", True), ("pooled", False)):
        way = study.Way("any", statistics=statistics)
        first, second = (
            study.fold(way, sites, each, None).unseen["west"].variants for each in (unseen, moved)
        )
        wide = first[:, 0].std(dim=0) > 0.1
        assert torch.allclose(first[:, 0, wide], second[:, 0, wide], atol=1e-2) == same


def test_uneven_drawn_cells_are_the_most_that_have_the_shares(cells):
    kept = study.with_shares(cells, study.UNEVEN, seed=0)
    counts, before = kept.counts(), cells.counts()
    assert counts / len(kept) == pytest.approx(study.UNEVEN, abs=0.03)
    assert (counts <= before).all()
    assert (counts == before).any(), "of one class all are kept"
    assert rows_of(kept) <= rows_of(cells)
    assert rows_of(kept) != rows_of(study.with_shares(cells, study.UNEVEN, seed=1))
    assert study.with_shares(cells, None, seed=0) is cells


def test_the_twin_of_the_drawn_arm_makes_at_least_as_many_steps_as_it():
    """So that no lead of drawn hospitals is one of longer training."""
    asked = study.protocol("paper", "real")
    recipe, drawn = asked.studies[0].recipe, asked.drawn.hospitals * asked.drawn.cells
    twin = next(way for way in study.TWINS if way.name == study.REFERENCES[2])
    fewest = int((1 - asked.test) * (150 + 150 + 97))
    steps, of_drawn = (math.ceil(cells / recipe.batch_size) for cells in (fewest, drawn))
    assert steps * twin.passes >= of_drawn
