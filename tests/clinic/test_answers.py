"""Answers are calibrated, say what they cannot rule out, and warn of what is no such image."""

import numpy as np
import pytest
import torch
from builders.clinic import CLASSES, SIZE, a_card, a_model, a_scope, images
from builders.federated import PROVENANCE
from torch import nn

from hemafl_lib import clinic
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.errors import ModelError
from hemafl_lib.models import AttentionCNN
from hemafl_lib.seeds import torch_generator
from hemafl_lib.training import Recipe, fit


class Overflow(nn.Module):
    """Multiplies by what float32 cannot hold the products of."""

    def forward(self, values):
        return values * 3e38 * 3e38


def test_probabilities_are_the_softmax_of_the_logits_over_the_temperature():
    model = a_model(a_card(temperature=2.0))
    said = clinic.answer(model, images(4))
    np.testing.assert_allclose(
        said.probabilities, (said.logits.double() / 2).softmax(dim=1).numpy(), atol=1e-12
    )
    assert said.predicted.tolist() == said.logits.argmax(dim=1).tolist()


def test_a_set_holds_every_class_that_fits_well_enough():
    model = a_model(a_card(sets=clinic.Sets(level=0.9, threshold=0.7)))
    said = clinic.answer(model, images(4))
    assert (said.sets == (said.probabilities >= 1 - 0.7)).all()


def test_logits_are_those_of_the_network_on_floats():
    model = a_model()
    with torch.no_grad():
        expected = model.network(images(3).float() / 255)
    torch.testing.assert_close(clinic.answer(model, images(3)).logits, expected, atol=1e-6, rtol=0)


def test_an_image_far_from_those_known_is_out_of_scope():
    model = a_model(a_card(scope=(a_scope(0.04),)))
    red = torch.zeros(3, 3, SIZE, SIZE, dtype=torch.uint8)
    red[0, 0], red[1, 0], red[2, 0] = 128, 200, 10  # mean red 0.50, 0.78, 0.04
    said = clinic.answer(model, red)
    assert said.beyond["colours"].tolist() == [False, True, True]
    assert said.out_of_scope.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5)),
            "no finite logits of the 3 classes",
        ),
        (nn.Sequential(nn.Conv2d(3, 3, 1)), "no finite logits of the 3 classes"),
        (nn.Sequential(nn.Linear(7, 7)), "does not work"),
        (
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3), Overflow()),
            "no finite logits",
        ),
    ],
    ids=["more classes", "a picture", "layers that do not fit", "numbers too large"],
)
def test_a_network_that_answers_nothing_is_given_no_class(network, says):
    model = clinic.SavedModel(network.eval(), a_model().settings, a_card())
    with pytest.raises(ModelError, match=says) as error:
        clinic.answer(model, images(2))
    assert "\n" not in str(error.value)


def test_a_distance_that_is_no_number_is_out_of_scope():
    scope = a_scope(0.04)
    wild = scope.model_copy(update={"mean": (1e308,) * 15, "matrix": ((1e308, *[-1e308] * 14),)})
    assert clinic.answer(a_model(a_card(scope=(wild,))), images(2)).out_of_scope.all()


def test_a_scope_of_other_numbers_is_refused():
    scope = a_scope(0.04).model_copy(update={"mean": (0.0,) * 3, "matrix": ((1.0,) * 3,)})
    with pytest.raises(ModelError, match="scope 'colours' of the card is of 3 numbers and there are 15"):
        clinic.answer(a_model(a_card(scope=(scope,))), images(2))


def test_without_a_scope_nothing_is_warned_of_and_without_a_threshold_there_are_no_sets():
    said = clinic.answer(a_model(a_card(sets=None)), images(2))
    assert said.sets is None
    assert not said.out_of_scope.any()


@pytest.mark.parametrize(
    "wrong",
    [
        images(2).float(),
        images(2)[:, :1],
        torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
        images(1)[0],
        images(0),
    ],
)
def test_images_of_another_kind_or_size_are_refused(wrong):
    with pytest.raises(ModelError, match=r"give uint8\[N, 3, 32, 32\]"):
        clinic.answer(a_model(), wrong)


# Colours


def test_colours_are_fifteen_numbers_by_statistic_and_then_by_channel():
    shown = images(3)
    pixels = shown.double().flatten(2).numpy() / 255
    found = clinic.colour_statistics(shown)
    assert found.shape == (3, 15)
    np.testing.assert_allclose(found[:, :3], pixels.mean(axis=2))
    np.testing.assert_allclose(found[:, 3:6], pixels.std(axis=2))
    for place, share in ((6, 5), (9, 50), (12, 95)):
        np.testing.assert_allclose(found[:, place : place + 3], np.percentile(pixels, share, axis=2))


def test_feature_means_are_what_the_head_reads():
    network = a_model().network
    means = torch.from_numpy(clinic.feature_means(network, images(3))).float()
    with torch.no_grad():
        torch.testing.assert_close(network.head(means), network(images(3).float() / 255), atol=1e-5, rtol=0)


# A scope


def test_the_distance_is_mahalanobis_where_all_directions_are_kept():
    rows = np.random.default_rng(0).normal(size=(500, 4)) @ np.diag([1.0, 2.0, 3.0, 4.0])
    scope = clinic.fit_scope("colours", rows, rows, rows, {"far": rows + 100})
    centred = rows - rows.mean(axis=0)
    inverse = np.linalg.inv(np.cov(rows.T, bias=True))
    np.testing.assert_allclose(
        clinic.distances(scope, rows), np.einsum("ni,ij,nj->n", centred, inverse, centred), rtol=0.02
    )


def test_the_threshold_flags_the_share_of_held_out_images_that_was_asked_for():
    rows = np.random.default_rng(0).normal(size=(3000, 5))
    scope = clinic.fit_scope(
        "colours", rows[:1000], rows[1000:2000], rows[2000:], {"far": rows + 100, "same": rows}, flagged=0.05
    )
    assert 0.02 < scope.in_scope_flagged < 0.09
    assert scope.detected["far"] == 1
    assert scope.detected["same"] < 0.09
    assert scope.out_of_scope_flagged == pytest.approx((1 + scope.detected["same"]) / 2)


@pytest.mark.parametrize("rows", [np.zeros((100, 3)), np.ones((5, 3))])
def test_images_that_do_not_vary_or_are_too_few_make_no_scope(rows):
    with pytest.raises(ModelError, match=r"do not vary|at least ten"):
        clinic.fit_scope("colours", rows, rows, rows, {"far": rows})


# Measuring a card


@pytest.fixture(scope="module")
def grey_levels():
    """Three classes that differ in brightness, with noise."""
    generator = torch_generator(0, "grey")
    labels = torch.arange(240) % len(CLASSES)
    levels = (
        60 + 60 * labels[:, None, None, None] + torch.randint(-55, 56, (240, 1, 1, 1), generator=generator)
    )
    noisy = levels + torch.randint(-20, 21, (240, 3, SIZE, SIZE), generator=generator)
    return ImageCohort(
        images=noisy.clamp(0, 255).to(torch.uint8),
        labels=labels,
        classes=CLASSES,
        site=np.full(240, "home"),
        patient=np.arange(240).astype(str),
        provenance=PROVENANCE,
    )


@pytest.fixture(scope="module")
def measured(grey_levels):
    """A small network trained on 120 of them, its card measured on the rest."""
    network = AttentionCNN(len(CLASSES), width=8, norm="group")
    training, held_out, home = (grey_levels.take(range(*part)) for part in ((0, 120), (120, 180), (180, 240)))
    for _ in range(4):
        fit(network, training, Recipe(batch_size=20), generator=torch_generator(0, "fit"))
    few = home.take([i for i in range(60) if home.labels[i] != 2 or i < 20])
    return clinic.measured(
        network,
        a_card(sets=None),
        size=SIZE,
        held_out=held_out,
        judged=[clinic.Place("home", "own", home), clinic.Place("elsewhere", "unseen", few)],
        views=clinic.Views(training.images, held_out.images, home.images, {"noise": images(40)}),
    )


def test_a_measured_card_says_how_good_the_rounded_model_is_where(measured, grey_levels):
    own, elsewhere = measured.card.scores
    home = grey_levels.take(range(180, 240))
    right = clinic.answer(measured, home.images).predicted == home.labels.numpy()
    assert own.balanced_accuracy == pytest.approx(np.mean([right[k::3].mean() for k in range(3)]))
    assert own.low <= own.balanced_accuracy <= own.high
    assert (own.classes, own.chance) == (3, pytest.approx(1 / 3))
    # A class with fewer than ten cells is not judged.
    assert (elsewhere.classes, elsewhere.chance) == (2, 0.5)


def test_a_measured_card_has_sets_that_cover_home_and_scopes_of_both_kinds(measured):
    own = measured.card.scores[0]
    assert measured.card.sets.level == 0.9
    assert own.coverage > 0.75
    assert 0 < own.set_size <= 3
    assert [scope.of for scope in measured.card.scope] == ["colours", "features"]
    assert measured.card.scope[0].detected["noise"] > 0.9


def test_cells_of_other_classes_than_the_cards_are_refused(grey_levels):
    with pytest.raises(ModelError, match="give cells of these classes"):
        clinic.measured(
            AttentionCNN(2),
            a_card(classes=("a", "b")),
            size=SIZE,
            held_out=grey_levels,
            judged=[],
        )
