"""A convolution of one pixel is a product of matrices, and computed as one it takes less than half the time.

PyTorch's convolution is made for large images; what the last layers of a pretrained network read are few
pixels of many channels.
"""

from typing import TypeGuard

from torch import Tensor, nn


class Pointwise(nn.Conv2d):
    """A convolution with a kernel of one pixel: the same sums as `torch.nn.Conv2d`, in another order."""

    def forward(self, images: Tensor) -> Tensor:
        """Return float[B, out, H, W] of float[B, in, H, W]; in memory channel by channel within a pixel."""
        batch, channels, height, width = images.shape
        pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
        found = nn.functional.linear(pixels, self.weight.flatten(1), self.bias)
        return found.view(batch, height, width, -1).permute(0, 3, 1, 2)


def with_pointwise(model: nn.Module) -> nn.Module:
    """Return ``model`` with a `Pointwise` in the place of every convolution of one pixel, of the same name.

    The parameters are the same objects; ``model`` is changed.
    """
    for name, child in model.named_children():
        setattr(model, name, pointwise(child) if is_pointwise(child) else with_pointwise(child))
    return model


def is_pointwise(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Tell whether a module is a plain convolution that reads one pixel for one pixel."""
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == module.stride == (1, 1)
        and module.padding in ((0, 0), 0, "valid", "same")
        and module.groups == 1
    )


def pointwise(module: nn.Conv2d) -> Pointwise:
    """Return the same convolution as a product of matrices."""
    made = Pointwise(module.in_channels, module.out_channels, 1, bias=module.bias is not None)
    made.weight, made.bias = module.weight, module.bias
    return made.train(module.training)
