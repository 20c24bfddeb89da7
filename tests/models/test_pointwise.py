"""A convolution of one pixel as a product of matrices: the same numbers, the same names."""

import pytest
import torch
from torch import nn

from hemafl_lib.models import backbone
from hemafl_lib.models.pointwise import Pointwise, with_pointwise
from hemafl_lib.seeds import initialised, torch_generator


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "pointwise"))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_the_convolution(bias, memory):
    with initialised(0, "pointwise"):
        plain = nn.Conv2d(5, 7, 1, bias=bias)
    images = noise(3, 5, 4, 2).contiguous(memory_format=memory)
    made = with_pointwise(nn.Sequential(nn.Conv2d(5, 7, 1, bias=bias)))
    made[0].load_state_dict(plain.state_dict())
    found = []
    for layer in (plain, made[0]):
        read = images.clone().requires_grad_()
        layer(read).square().sum().backward()
        found.append([layer(images), read.grad, *(p.grad for p in layer.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_only_plain_convolutions_of_one_pixel_are_replaced_and_keep_their_parameters():
    layers = [
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 1, stride=2),
        nn.Conv2d(4, 4, 1, groups=2),
    ]
    model = nn.Sequential(nn.Sequential(*layers), nn.Linear(4, 2))
    before = dict(model.named_parameters())
    made = with_pointwise(model)
    assert [type(layer) is Pointwise for layer in made[0]] == [True, False, False, False]
    assert all(value is before[name] for name, value in made.named_parameters())


def test_what_is_trained_of_a_backbone_has_them_and_what_is_frozen_has_not():
    network = backbone("efficientnet_lite0", 4, pretrained=False)
    assert isinstance(network.suffix.conv_head, Pointwise)
    assert not any(isinstance(module, Pointwise) for module in network.prefix.modules())
