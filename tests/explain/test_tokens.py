"""Grad-CAM and class maps of vision transformers: equal to the formula, on the grid of the patches."""

import pytest
import timm
import torch
from torch import nn

from hemafl_lib import explain
from hemafl_lib.errors import ExplanationError
from hemafl_lib.models import AttentionCNN

NAMES = ("vit_tiny_patch16_224", "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2")
PATCHES = 4


@pytest.fixture(scope="module", params=NAMES)
def transformer(request):
    """A transformer of that shape with drawn weights, for images of `PATCHES` patches a side."""
    torch.manual_seed(0)
    side = PATCHES * (16 if "patch16" in request.param else 14)
    return timm.create_model(request.param, pretrained=False, img_size=side, num_classes=3).eval(), side


def pictures(side):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def formula(model, images, target):
    """Tokens of patches before the last attention, and the gradient of the scores by them, by hand."""
    kept = []
    handle = model.blocks[-1].norm1.register_forward_hook(lambda _m, _i, out: kept.append(out))
    scores = model(images)[:, target].sum()
    handle.remove()
    gradient = torch.autograd.grad(scores, kept[0])[0]
    return kept[0][:, model.num_prefix_tokens :].detach(), gradient[:, model.num_prefix_tokens :]


def test_grad_cam_is_the_formula_on_the_grid_of_the_patches(transformer):
    model, side = transformer
    images = pictures(side)
    tokens, gradient = formula(model, images, 1)
    expected = (tokens * gradient.mean(dim=1, keepdim=True)).sum(dim=2).relu().reshape(2, PATCHES, PATCHES)
    copied, layer = explain.with_grid(model)
    found = explain.saliency(copied, images, 1, "grad_cam", layer=layer, device="cpu")
    assert found.shape == (2, PATCHES, PATCHES)
    assert found.max() > 0
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.max()), rtol=1e-4)


def test_a_class_map_of_one_class_against_another_is_the_formula(transformer):
    model, side = transformer
    images = pictures(side)
    (tokens, one), (_, other) = formula(model, images, 1), formula(model, images, 2)
    expected = (tokens * (one - other)).sum(dim=2).reshape(2, PATCHES, PATCHES)
    copied, layer = explain.with_grid(model)
    found = explain.class_map(copied, images, 1, "hires_cam", against=2, layer=layer, device="cpu")
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-4)


def test_the_copy_answers_as_the_model_and_the_model_stays(transformer):
    model, side = transformer
    kind = type(model.blocks[-1].norm1)
    copied, _ = explain.with_grid(model)
    with torch.no_grad():
        assert torch.equal(copied(pictures(side)), model(pictures(side)))
    assert type(model.blocks[-1].norm1) is kind


def test_a_transformer_inside_a_network_is_found(transformer):
    model, side = transformer
    whole = nn.Sequential(model)
    copied, layer = explain.with_grid(whole)
    assert layer.startswith("0.blocks.")
    assert explain.saliency(copied, pictures(side), 0, "grad_cam", layer=layer, device="cpu").shape[1:] == (
        4,
        4,
    )


def test_a_network_without_a_transformer_is_refused_with_the_remedy():
    with pytest.raises(ExplanationError, match="leave 'layer' out"):
        explain.with_grid(AttentionCNN(3))
