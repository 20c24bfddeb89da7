"""Maps from feature maps and gradients are what their formulas say, and contrasts ask for a difference."""

import pytest
import torch

from hemafl_lib.errors import ExplanationError
from hemafl_lib.explain import CLASS_MAPS, cam, class_map
from hemafl_lib.models import AttentionCNN
from hemafl_lib.seeds import torch_generator

IMAGES = torch.rand(3, 3, 32, 32, generator=torch_generator(0, "class maps"))
TARGET, OTHER = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])


@pytest.fixture(scope="module")
def model():
    return AttentionCNN(3, width=8).eval()


def maps_and_gradient(model, score):
    """Feature maps of the images, and the gradient of a function of logits at them, by autograd."""
    maps = model.features(IMAGES).detach().requires_grad_()
    logits = model.head(maps.mean(dim=(2, 3)))
    return maps.detach(), torch.autograd.grad(score(logits), maps)[0]


def of(classes):
    return lambda logits: logits.gather(1, classes[:, None]).sum()


def test_hires_cam_is_the_gradient_times_the_maps(model):
    maps, gradient = maps_and_gradient(model, of(TARGET))
    expected = (maps * gradient).sum(dim=1)
    torch.testing.assert_close(class_map(model, IMAGES, TARGET, "hires_cam"), expected, atol=1e-6, rtol=0)


def test_hires_cam_of_an_attention_cnn_adds_up_to_the_score_but_for_the_bias(model):
    with torch.no_grad():
        score = (model(IMAGES) - model.head.bias).gather(1, TARGET[:, None])[:, 0]
    found = class_map(model, IMAGES, TARGET, "hires_cam")
    torch.testing.assert_close(found.sum(dim=(1, 2)), score, atol=1e-5, rtol=0)
    places = found.shape[1] * found.shape[2]
    torch.testing.assert_close(found * places, cam(model, IMAGES, TARGET), atol=1e-5, rtol=0)


def test_layer_cam_weighs_each_place_by_its_own_positive_gradient(model):
    maps, gradient = maps_and_gradient(model, of(TARGET))
    expected = (maps * gradient.clamp_min(0)).sum(dim=1).clamp_min(0)
    torch.testing.assert_close(class_map(model, IMAGES, TARGET, "layer_cam"), expected, atol=1e-6, rtol=0)


def test_grad_cam_plus_plus_takes_its_weights_from_derivatives_of_the_exponential_score(model):
    maps = model.features(IMAGES).detach().double().requires_grad_()
    head = torch.nn.Linear(64, 3).double()
    head.load_state_dict({name: value.double() for name, value in model.head.state_dict().items()})
    scores = head(maps.mean(dim=(2, 3))).gather(1, TARGET[:, None])
    (first,) = torch.autograd.grad(scores.sum(), maps, create_graph=True)
    # Y = exp(score), and the score is linear in the maps: derivatives of Y are Y times powers of the first.
    y = scores.exp()[:, :, None, None]
    alpha = y * first**2 / (2 * y * first**2 + (maps * y * first**3).sum(dim=(2, 3), keepdim=True))
    weights = (alpha * first.clamp_min(0)).sum(dim=(2, 3), keepdim=True)
    expected = (weights * maps).sum(dim=1).clamp_min(0).detach().float()
    found = class_map(model, IMAGES, TARGET, "grad_cam_plus_plus")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_places_without_any_gradient_have_no_relevance():
    maps, gradient = torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    for weigh in CLASS_MAPS.values():
        assert weigh(maps, gradient).abs().max() == 0


@pytest.mark.parametrize("kind", CLASS_MAPS)
def test_a_contrast_explains_the_difference_of_two_scores(kind, model):
    maps, gradient = maps_and_gradient(model, lambda logits: of(TARGET)(logits) - of(OTHER)(logits))
    expected = CLASS_MAPS[kind](maps, gradient)
    found = class_map(model, IMAGES, TARGET, kind, against=OTHER)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_signed_contrast_turns_its_sign_with_the_classes(model):
    there = class_map(model, IMAGES, 0, "hires_cam", against=1)
    back = class_map(model, IMAGES, 1, "hires_cam", against=0)
    torch.testing.assert_close(there, -back)


def test_a_class_against_itself_or_an_unknown_kind_is_refused(model):
    with pytest.raises(ExplanationError, match="name another class"):
        class_map(model, IMAGES, 1, "layer_cam", against=TARGET)
    with pytest.raises(ExplanationError, match="grad_cam_plus_plus, layer_cam, hires_cam"):
        class_map(model, IMAGES, 1, "magic")
