"""Folds share no cell, and a hospital that goes on alone begins with what was shared."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from hemafl_book.papers import own_patients as study
from hemafl_book.papers.where import Where

QUIET = Where(progress=False)


def tiny_protocol() -> study.Protocol:
    """The quick preset on a few small cells."""
    asked = study.protocol("quick", "smear")
    studies = tuple(replace(one, recipe=replace(one.recipe, local_epochs=1)) for one in asked.studies)
    return replace(asked, size=32, cells=16, rounds=1, studies=studies)


@pytest.fixture(scope="module")
def results():
    return study.run(tiny_protocol(), QUIET)


@pytest.fixture(scope="module")
def cohort():
    images = study.left_out.hospitals(tiny_protocol())
    network = study.backbone(study.BACKBONE, len(images.classes), size=32)
    return study.left_out.features_of(network, images, QUIET)


def test_every_arm_is_judged_at_every_hospital_and_in_every_fold(results):
    rows = results.tables["at home: scores"]
    assert set(rows["arm"]) == {way.name for way in study.AT_HOME} | {study.COLOUR}
    assert (rows.groupby("arm")["where"].nunique() == len(study.HOSPITALS["smear"])).all()
    folded = results.tables["four folds: scores"]
    assert (folded.groupby("arm")["fold"].nunique() == study.FOLDS).all()
    assert (folded.groupby("arm")["cells"].sum() == 5 * 16).all()
    assert "at home" in study.report(results)


def test_folds_share_no_cell_and_hold_each_once(cohort):
    parts = study.folds(cohort, "smear", seed=1)
    assert sorted(np.concatenate([test for _, test in parts])) == list(range(len(cohort)))
    for train, test in parts:
        assert not set(train) & set(test)
        sites = study.fold_sites(cohort, "smear", (train, test))
        assert [site.name for site in sites] == sorted(study.HOSPITALS["smear"])
        assert sum(len(site.test) for site in sites) == len(test)


def test_a_hospital_goes_on_from_what_was_shared(cohort):
    asked = tiny_protocol().studies[0]
    batches = {**study.HOSPITALS["smear"], study.NOBODY: ()}
    sites, _ = study.left_out.split_hospitals(cohort, study.NOBODY, batches, test=0.2, seed=1)
    fixed = study.Way("FedAvg")
    shared, home, alone, longer = (
        study.train(way, asked, 1, sites, 1, QUIET)
        for way in (
            fixed,
            replace(fixed, home=1),
            study.Way("isolated", "isolated"),
            study.Way("x", "isolated", home=1),
        )
    )
    assert len({id(model) for model in shared.values()}) == 1
    for site in shared:
        found = [models[site].weight for models in (shared, home, alone, longer)]
        assert all(not torch.equal(one, two) for one, two in pairwise(found))
