"""Batch norms stay at home or travel, and hold the statistics of whoever asks, but nobody's labels."""

from dataclasses import replace

import pytest
import torch

from hemafl_book.papers import left_out_tuned as study
from hemafl_book.papers.where import Where
from hemafl_lib.partition import Site

QUIET = Where(progress=False)


def tiny_protocol() -> study.Protocol:
    """The quick preset on a few small cells."""
    asked = study.protocol("quick", "smear")
    (one,) = asked.studies
    few = replace(one, recipe=replace(one.recipe, local_epochs=1))
    return replace(asked, size=32, cells=16, drawn=study.Drawn(2, 12, 4), rounds=1, studies=(few,))


@pytest.fixture(scope="module")
def inputs() -> study.Inputs:
    return study.Inputs(tiny_protocol(), QUIET)


@pytest.fixture(scope="module")
def cohort(inputs):
    return inputs.read(inputs.images)


@pytest.fixture(scope="module")
def sites(cohort):
    return study.left_out.split_hospitals(cohort, "west", study.HOSPITALS["smear"], test=0.2, seed=1)[0]


def test_every_arm_is_judged_as_trained_and_with_own_statistics_at_every_place():
    results = study.run(tiny_protocol(), QUIET)
    rows = results.tables["last layers: scores"]
    trained = {way.name for way in study.ARMS}
    assert set(rows["arm"]) == trained | {f"{arm}, {study.OWN}" for arm in trained} | {study.COLOUR}
    unseen = rows[rows["patients"] == "unseen"]
    assert set(unseen["where"]) == set(rows["where"]) | {"harbour"}
    assert (unseen["where"].replace("harbour", "north") == unseen["left out"]).all()
    own = rows[rows["patients"] == "own"]
    assert (own["where"] != own["left out"]).all()
    assert "FedBN" in study.report(results)


def test_norms_stay_at_the_hospitals_and_a_stranger_has_their_mean(inputs, sites):
    (asked,) = tiny_protocol().studies
    found = study.train(study.ARMS[1], asked.recipe, 1, inputs.start(1).suffix, sites, 1, QUIET)
    assert study.ARMS[1].stays
    means = [found.at(site.name).bn2.running_mean for site in sites]
    assert not torch.equal(means[0], means[1])
    weights = torch.tensor([float(len(site.train)) for site in sites])
    expected = (torch.stack(means) * (weights / weights.sum())[:, None]).sum(dim=0)
    torch.testing.assert_close(found.shared.bn2.running_mean, expected)
    assert all(
        torch.equal(found.at(site.name).classifier.weight, found.shared.classifier.weight) for site in sites
    )


def test_own_statistics_are_those_of_the_images_and_leave_the_model_as_it_was(inputs, cohort):
    model = inputs.start(1).suffix
    before = model.bn2.running_mean.clone()
    found = study.with_statistics_of(model, cohort)
    maps = model.conv_head(cohort.variants[:, 0]).detach()
    torch.testing.assert_close(found.bn2.running_mean, maps.mean(dim=(0, 2, 3)), atol=1e-4, rtol=1e-3)
    assert torch.equal(model.bn2.running_mean, before)
    assert torch.equal(found.classifier.weight, model.classifier.weight)


def test_drawn_hospitals_join_as_one_client_or_train_alone(cohort):
    sites = [Site("north", cohort, cohort.take([]), cohort.take([]))]
    named = {
        clients: [site.name for site in study.with_drawn(study.Way("x", clients), sites, cohort)]
        for clients in ("real", "both", "drawn")
    }
    assert named == {"real": ["north"], "both": ["north", "drawn"], "drawn": ["drawn"]}
