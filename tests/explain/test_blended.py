"""Gradient SHAP and Score-CAM are what their papers say, and what Captum and pytorch-grad-cam compute."""

from unittest import mock

import pytest
import torch
from captum.attr import GradientShap
from torch import nn

from hemafl_lib.errors import ExplanationError
from hemafl_lib.explain import ALL_METHODS, BLENDED, METHODS, blended_map, relevance, saliency
from hemafl_lib.explain.blended import DRAWS
from hemafl_lib.explain.saliency import mean_colour
from hemafl_lib.models import AttentionCNN
from hemafl_lib.seeds import torch_generator

IMAGES = torch.rand(3, 3, 32, 32, generator=torch_generator(0, "blended"))
TARGET = torch.tensor([0, 1, 2])


@pytest.fixture(scope="module")
def model():
    return AttentionCNN(3, width=8).eval()


def score(model, images, target):
    with torch.no_grad():
        return model(images)[:, int(target)]


def test_gradient_shap_is_that_of_captum_for_the_same_draws(model):
    generator = torch_generator(0, "gradient shap")
    chosen = torch.randint(32 * 32, (DRAWS,), generator=generator)
    shares = (torch.arange(DRAWS) + torch.rand(DRAWS, generator=generator)) / DRAWS
    expected = []
    for image, target in zip(IMAGES, TARGET, strict=True):
        colours = image.flatten(1)[:, chosen].T[:, :, None, None].expand(-1, -1, 32, 32)
        # Captum draws the baselines and the shares from NumPy's global generator: here it draws these.
        with (
            mock.patch("numpy.random.choice", return_value=torch.arange(DRAWS).numpy()),
            mock.patch("numpy.random.uniform", return_value=shares.numpy()),
        ):
            found = GradientShap(model).attribute(
                image[None], colours, target=int(target), n_samples=DRAWS, stdevs=0.0
            )
        expected.append(found.sum(dim=1))
    mine = blended_map(model, IMAGES, TARGET, "gradient_shap")
    assert mine.abs().max() > 0
    torch.testing.assert_close(mine, torch.cat(expected).detach().float(), atol=1e-5, rtol=1e-5)


def test_gradient_shap_adds_up_to_the_score_less_that_of_the_colours(model):
    maps = blended_map(model, IMAGES, TARGET, "gradient_shap")
    for image, target, found in zip(IMAGES, TARGET, maps, strict=True):
        chosen = torch.randint(1024, (DRAWS,), generator=torch_generator(0, "gradient shap"))
        colours = image.flatten(1)[:, chosen].T[:, :, None, None].expand(-1, -1, 32, 32)
        rise = score(model, image[None], target)[0] - score(model, colours, target).mean()
        assert float(found.sum()) == pytest.approx(float(rise), rel=0.1, abs=0.02)


def test_score_cam_weighs_each_feature_map_by_the_score_of_what_it_leaves_to_see(model):
    found = blended_map(model, IMAGES, TARGET, "score_cam")
    for image, target, mine in zip(IMAGES.split(1), TARGET, found, strict=True):
        with torch.no_grad():
            maps = model.features(image)[0]
        empty = mean_colour(image)
        scores = []
        for each in maps:
            wide = nn.UpsamplingBilinear2d(size=32)(each[None, None])
            seen = (wide - wide.min()) / (wide.max() - wide.min()) if wide.max() > wide.min() else 0 * wide
            scores.append(score(model, seen * image + (1 - seen) * empty, target)[0])
        weights = torch.stack(scores).softmax(dim=0)
        expected = (weights[:, None, None] * maps).sum(dim=0).clamp_min(0)
        assert mine.max() > 0
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", BLENDED)
def test_maps_repeat_and_pictures_are_explained_one_by_one(kind, model):
    together = blended_map(model, IMAGES, TARGET, kind)
    assert torch.equal(together, blended_map(model, IMAGES, TARGET, kind))
    assert together.dtype == torch.float32
    alone = blended_map(model, (255 * IMAGES[1:2]).round() / 255, 1, kind)
    again = blended_map(model, (255 * IMAGES[1:2]).round().to(torch.uint8), 1, kind)
    torch.testing.assert_close(alone, again, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(blended_map(model, IMAGES[1:2], 1, kind), together[1:2], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", BLENDED)
def test_the_model_and_the_global_generator_stay_as_they_were(kind, model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    with torch.inference_mode():
        blended_map(model, IMAGES, 1, kind)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.grad is None and value.requires_grad for value in model.parameters())


def test_the_grids_are_those_of_pixels_and_of_feature_maps(model):
    assert blended_map(model, IMAGES, 0, "gradient_shap").shape == (3, 32, 32)
    assert blended_map(model, IMAGES, 0, "score_cam").shape == (3, 4, 4)
    assert blended_map(model, IMAGES, 0, "score_cam", layer="blocks.0").shape[1:] == (16, 16)


def test_a_picture_of_one_colour_has_a_flat_map_and_no_division_by_zero(model):
    plain = torch.full((1, 3, 32, 32), 0.5)
    assert blended_map(model, plain, 0, "gradient_shap").abs().max() == 0
    assert blended_map(model, plain, 0, "score_cam").isfinite().all()


def test_any_method_can_be_asked_for_by_its_name(model):
    for method in METHODS:
        assert torch.equal(relevance(model, IMAGES, 0, method), saliency(model, IMAGES, 0, method))
    for kind in BLENDED:
        assert torch.equal(relevance(model, IMAGES, 0, kind), blended_map(model, IMAGES, 0, kind))


def test_an_unknown_method_is_answered_with_those_that_are_known(model):
    with pytest.raises(ExplanationError, match="gradient_shap, score_cam"):
        blended_map(model, IMAGES, 0, "magic")
    with pytest.raises(ExplanationError, match=", ".join(ALL_METHODS)):
        relevance(model, IMAGES, 0, "magic")


@pytest.mark.parametrize("kind", BLENDED)
def test_a_class_that_the_model_does_not_know_is_refused(kind, model):
    with pytest.raises(ExplanationError, match="from 0 to 2"):
        blended_map(model, IMAGES, 3, kind)
