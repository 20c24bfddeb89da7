"""The maps are those of pytorch-grad-cam, where that package is installed (pip install grad-cam)."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hemafl_lib import explain
from hemafl_lib.explain.saliency import mean_colour
from hemafl_lib.models import AttentionCNN
from hemafl_lib.seeds import torch_generator

package = pytest.importorskip("pytorch_grad_cam")

NAMES = {
    "grad_cam": "GradCAM",
    "grad_cam_plus_plus": "GradCAMPlusPlus",
    "layer_cam": "LayerCAM",
    "hires_cam": "HiResCAM",
    "score_cam": "ScoreCAM",
}
IMAGES = torch.rand(3, 3, 32, 32, generator=torch_generator(0, "pytorch-grad-cam"))
TARGET = torch.tensor([0, 1, 2])


@pytest.fixture(scope="module")
def model():
    return AttentionCNN(3, width=8).eval()


@pytest.fixture(scope="module")
def steep(model):
    """The network with scores so large that what pytorch-grad-cam adds to a denominator does not count."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.head.weight.mul_(1000)
    return copied


class FromMeanColour(nn.Module):
    """The network of what a picture adds to its mean colour: pytorch-grad-cam covers with zeros."""

    def __init__(self, network, colour):
        super().__init__()
        self.network, self.colour = network, colour

    def forward(self, change):
        return self.network(self.colour + change)


def theirs(name, model, image, target):
    """The map before pytorch-grad-cam scales and enlarges it, float32[h, w]."""
    colour = mean_colour(image)
    asked = [package.utils.model_targets.ClassifierOutputTarget(int(target))]
    with getattr(package, name)(FromMeanColour(model, colour), [model.embed]) as method:
        method(image - colour, asked)
        held = method.activations_and_grads
        gradients = held.gradients[0].numpy() if held.gradients else None
        found = method.get_cam_image(
            image - colour, model.embed, asked, held.activations[0].numpy(), gradients, False
        )
    return torch.from_numpy(np.asarray(found)[0])


@pytest.mark.parametrize("method", NAMES)
def test_maps_equal_those_of_pytorch_grad_cam(method, model, steep):
    network = steep if method == "grad_cam_plus_plus" else model
    mine = explain.relevance(network, IMAGES, TARGET, method)
    expected = torch.stack(
        [theirs(NAMES[method], network, *each) for each in zip(IMAGES.split(1), TARGET, strict=True)]
    )
    signed = expected if method == "hires_cam" else expected.clamp_min(0)
    assert signed.abs().max() > 0
    torch.testing.assert_close(mine, signed, atol=1e-5, rtol=1e-5)
