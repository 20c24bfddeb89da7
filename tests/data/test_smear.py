"""The simulated smear: what a user may rely on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import f_oneway
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from hemafl_lib.data import harmonise, load
from hemafl_lib.data.cohort import same
from hemafl_lib.data.smear import (
    ELEVEN,
    FOUR,
    LEUKAEMIA,
    SITE_STYLES,
    SiteStyle,
    between,
    random_style,
    simulate,
)
from hemafl_lib.errors import DataError
from hemafl_lib.models.backbones import backbone
from hemafl_lib.models.prefix import activations


def mean_colour(cohort):
    return cohort.images.float().mean((0, 2, 3)).numpy()


@pytest.fixture(scope="module")
def cohort():
    return simulate(120, size=64, seed=3)


def test_what_a_cohort_holds(cohort):
    assert cohort.images.dtype == torch.uint8
    assert cohort.images.shape == (120, 3, 64, 64)
    assert cohort.masks.dtype == torch.uint8
    assert cohort.masks.shape == (120, 64, 64)
    assert cohort.labels.dtype == torch.int64
    assert cohort.classes == FOUR
    assert cohort.sites == ("east", "north", "south")
    assert cohort.provenance.simulated
    assert "SIMULATED" in cohort.provenance.banner()


def test_patients_belong_to_their_site_and_number_no_more_than_asked(cohort):
    for site, patient in zip(cohort.site, cohort.patient, strict=True):
        name, number = patient.split("-")
        assert name == site
        assert 0 <= int(number) < 20
    assert len(set(simulate(60, size=16, patients=2).patient.tolist())) == 6


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(cohort):
    again = simulate(120, size=64, seed=3)
    assert same(cohort, again)
    other = simulate(120, size=64, seed=4)
    assert not torch.equal(cohort.images, other.images)
    assert other.provenance.checksum != cohort.provenance.checksum


def test_the_number_of_threads_does_not_matter():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = simulate(6, size=32)
        torch.set_num_threads(2)
        two = simulate(6, size=32)
    finally:
        torch.set_num_threads(before)
    assert same(one, two)


def test_a_smaller_cohort_is_the_beginning_of_a_larger_one(cohort):
    small = simulate(30, size=64, seed=3)
    assert torch.equal(small.images, cohort.images[:30])
    assert torch.equal(small.masks, cohort.masks[:30])
    assert small.patient.tolist() == cohort.patient[:30].tolist()


def test_no_global_random_state_is_read_or_changed():
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    before = (np.random.get_state()[1].copy(), torch.get_rng_state())  # noqa: NPY002
    simulate(3, size=16)
    assert np.array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(16, 80),
    cells=st.integers(1, 4),
    seed=st.integers(0, 2**40),
    name=st.sampled_from((*ELEVEN, *FOUR, *LEUKAEMIA)),
    site=st.sampled_from(sorted(SITE_STYLES)),
)
def test_any_size_class_and_site_can_be_drawn(size, cells, seed, name, site):
    drawn = simulate(cells, size=size, classes=(name,), sites=(site,), seed=seed, patients=4)
    assert drawn.images.shape == (cells, 3, size, size)
    assert drawn.masks.shape == (cells, size, size)
    assert set(drawn.masks.unique().tolist()) <= {0, 1, 2}
    assert int(drawn.images.max()) > int(drawn.images.min())


@settings(max_examples=8, deadline=None)
@given(weights=st.lists(st.integers(0, 5), min_size=4, max_size=4).filter(any), seed=st.integers(0, 1000))
def test_every_site_keeps_to_the_balance(weights, seed):
    drawn = simulate(60, size=16, classes=FOUR, balance=weights, seed=seed, masks=False)
    for site in drawn.sites:
        counts = drawn.of_site(site).counts()
        expected = 20 * np.array(weights) / sum(weights)
        assert np.abs(counts - expected).max() <= 3
        assert counts[np.array(weights) == 0].sum() == 0


def test_balance_by_name_is_balance_by_order():
    by_name = simulate(20, size=16, balance=dict(zip(FOUR, (1, 2, 3, 4), strict=True)))
    by_order = simulate(20, size=16, balance=[0.1, 0.2, 0.3, 0.4])
    assert same(by_name, by_order)


def test_masks_outline_a_cell_around_the_nucleus(cohort):
    masks = cohort.masks.numpy()
    for image, mask in zip(cohort.images.numpy(), masks, strict=True):
        nucleus, cell = mask == 2, mask > 0
        assert 0.03 < cell.mean() < 0.9
        assert 0.1 < nucleus.sum() / cell.sum() < 0.98
        assert image[:, nucleus].mean() < image[:, ~cell].mean() - 30
        assert image[1, nucleus].mean() < image[1, mask == 1].mean()


def test_the_nucleus_touches_the_background_nowhere():
    masks = simulate(12, size=96, sites=("harbour",)).masks.numpy()
    for mask in masks:
        padded = np.pad(mask, 1, mode="edge")
        around = [np.roll(padded, step, axis)[1:-1, 1:-1] for axis in (0, 1) for step in (-1, 1)]
        nucleus = mask == 2
        assert sum((nucleus & (shifted == 0)).sum() for shifted in around) < 0.02 * nucleus.sum()


def test_masks_can_be_left_out():
    with_masks, without = simulate(4, size=16), simulate(4, size=16, masks=False)
    assert without.masks is None
    assert torch.equal(with_masks.images, without.images)


def test_platelets_have_no_nucleus_and_are_the_smallest():
    drawn = simulate(44, size=64, classes=ELEVEN, sites=("north",))
    area = {name: (drawn.masks[drawn.labels == k] > 0).float().mean().item() for k, name in enumerate(ELEVEN)}
    assert min(area, key=area.get) == "platelet"
    assert max(area, key=area.get) in {"promyelocyte", "monocyte"}
    platelets = drawn.masks[drawn.labels == ELEVEN.index("platelet")]
    assert (platelets == 1).any()
    assert not (platelets == 2).any()


def test_a_segmented_nucleus_is_less_compact_than_a_round_one():
    def compactness(name):
        nuclei = (simulate(16, size=64, classes=(name,), sites=("harbour",)).masks == 2).numpy()
        y, x = np.mgrid[:64, :64]
        spread = [x[n].var() + y[n].var() for n in nuclei]
        return np.mean([n.sum() / (2 * np.pi * s) for n, s in zip(nuclei, spread, strict=True)])

    assert compactness("segmented_neutrophil") < 0.8 * compactness("lymphocyte")
    assert compactness("band_neutrophil") < compactness("metamyelocyte") < compactness("promyelocyte")


def test_a_leukaemia_patient_has_one_diagnosis():
    drawn = simulate(120, size=16, classes=LEUKAEMIA, sites=("valley", "north"), patients=9)
    diagnoses = {}
    for patient, label in zip(drawn.patient, drawn.labels.tolist(), strict=True):
        assert diagnoses.setdefault(patient, label) == label
    assert set(diagnoses.values()) == {0, 1, 2, 3}


def test_every_pair_of_hospitals_looks_different_and_one_hospital_looks_like_itself():
    colours = {
        name: mean_colour(simulate(24, size=32, sites=(name,), classes=("lymphocyte",), masks=False))
        for name in SITE_STYLES
    }
    assert len(SITE_STYLES) >= 5
    names = sorted(colours)
    apart = [np.abs(colours[a] - colours[b]).max() for a in names for b in names if a < b]
    assert min(apart) > 5
    again = mean_colour(simulate(24, size=32, sites=("north",), classes=("lymphocyte",), seed=1, masks=False))
    assert np.abs(again - colours["north"]).max() < 8


def test_patients_of_one_hospital_differ_in_stain():
    drawn = simulate(120, size=32, sites=("north",), classes=("lymphocyte",), patients=8)
    nuclei = (drawn.masks == 2).numpy()
    red = np.array(
        [image[0][nucleus].mean() for image, nucleus in zip(drawn.images.numpy(), nuclei, strict=True)]
    )
    groups = [red[drawn.patient == patient] for patient in set(drawn.patient.tolist())]
    assert f_oneway(*groups).pvalue < 1e-3


def test_between_starts_at_one_style_and_ends_at_the_other():
    start, end = SITE_STYLES["north"], SITE_STYLES["valley"]
    assert between(start, end, 0) == start
    assert between(start, end, 1) == end
    middle = between(start, end, 0.5)
    assert middle.field == (start.field + end.field) / 2
    assert between(start, start, 0.3).purple == pytest.approx(start.purple)


def test_a_stain_shift_grows_as_it_is_dialled():
    start = SITE_STYLES["north"]
    end = replace(start, white=SITE_STYLES["east"].white, purple=SITE_STYLES["east"].purple)
    colours = [
        mean_colour(simulate(12, size=32, sites={"here": between(start, end, amount)}, masks=False))
        for amount in (0, 0.5, 1)
    ]
    blue = [colour[2] for colour in colours]
    assert blue[0] > blue[1] + 5 > blue[2] + 10


def test_a_new_stain_is_put_on_the_same_cells():
    north = SITE_STYLES["north"]
    other = simulate(6, size=32, sites={"north": replace(north, purple=SITE_STYLES["east"].purple)})
    assert torch.equal(other.masks, simulate(6, size=32, sites=("north",)).masks)


def test_random_styles_are_valid_different_and_repeatable():
    styles = [random_style(np.random.default_rng(k)) for k in range(50)]
    assert len(set(styles)) == 50
    assert styles[0] == random_style(np.random.default_rng(0))
    assert len(simulate(3, size=16, sites={"new": styles[0]})) == 3


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"cells": 0}, "cells"),
        ({"size": 8}, "size"),
        ({"size": 4096}, "size"),
        ({"classes": ()}, "classes"),
        ({"classes": ("lymphocyte", "lymphocyte")}, "classes"),
        ({"classes": ("thrombocyte",)}, "thrombocyte"),
        ({"sites": ()}, "sites"),
        ({"sites": "north"}, "sites"),
        ({"sites": ("atlantis",)}, "atlantis"),
        ({"sites": ("north", "north")}, "different"),
        ({"patients": 0}, "patients"),
        ({"patients": 3, "classes": LEUKAEMIA}, "diagnosis"),
        ({"balance": [1, 1]}, "balance"),
        ({"balance": [1, -1, 1, 1]}, "balance"),
        ({"balance": [0, 0, 0, 0]}, "balance"),
        ({"balance": [1, 1, 1, float("nan")]}, "balance"),
        ({"balance": {"lymphocyte": 1.0}}, "balance"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(arguments, word):
    with pytest.raises(DataError, match=word):
        simulate(**{"cells": 2, "size": 16, **arguments})


@pytest.mark.parametrize(
    "change",
    [{"field": 0}, {"white": (300, 0, 0)}, {"white": (1, 2)}, {"alkalinity": 2}, {"blur": float("nan")}],
)
def test_impossible_styles_are_refused_with_a_sentence(change):
    with pytest.raises(DataError, match=f"'{next(iter(change))}'"):
        SiteStyle(**change)


@pytest.mark.parametrize("amount", [-0.1, 1.1, float("nan")])
def test_between_refuses_what_lies_outside(amount):
    with pytest.raises(DataError, match="amount"):
        between(SITE_STYLES["north"], SITE_STYLES["east"], amount)


@pytest.mark.real
def test_a_model_trained_on_drawings_recognises_real_cells(real_data):
    """Frozen ImageNet features and a logistic regression; chance is 0.25."""
    drawn = simulate(720, size=128, sites=tuple(SITE_STYLES), masks=False)
    network = backbone("efficientnet_lite0", len(FOUR), trainable="head", size=128)

    def features(cohort):
        return activations(network, cohort, progress=False).variants.flatten(1).numpy()

    model = LogisticRegression(max_iter=300).fit(features(drawn), drawn.labels.numpy())
    cellavision = harmonise(load("cellavision", size=128, root=real_data), "four")
    barcelona = harmonise(load("barcelona", size=128, root=real_data).of_site("barcelona"), "four")
    for real in (cellavision, barcelona.take(np.arange(0, len(barcelona), 15))):
        assert real.classes == drawn.classes
        assert balanced_accuracy_score(real.labels, model.predict(features(real))) >= 0.45
