"""A vision transformer's tokens as a grid of feature maps, so that Grad-CAM and its kin can read them.

A transformer ends in tokens, and often its head reads the class token alone, to which the last layer's other
tokens no longer speak. What they said is found one attention earlier: what enters the last block, after its
first norm, one token a patch of the image. There the Grad-CAM of a transformer is taken.
"""

import copy

import torch
from torch import Tensor, nn

from hemafl_lib.errors import ExplanationError


class GridNorm(nn.Module):
    """A norm of tokens [N, T, D] whose tokens of patches pass `grid` as feature maps [N, D, h, w]."""

    def __init__(self, norm: nn.Module, prefix: int) -> None:
        super().__init__()
        self.norm, self.prefix, self.grid = norm, prefix, nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the normed tokens, as the norm alone does."""
        normed = self.norm(tokens)
        first, patches = normed[:, : self.prefix], normed[:, self.prefix :]
        side = round(patches.shape[1] ** 0.5)
        if side * side != patches.shape[1]:
            raise ExplanationError(
                f"{patches.shape[1]} tokens are no square grid; give square images that the patches divide."
            )
        maps = self.grid(patches.mT.unflatten(2, (side, side)))
        return torch.cat([first, maps.flatten(2).mT], dim=1)


def with_grid(model: nn.Module) -> tuple[nn.Module, str]:
    """Return a copy of a vision transformer and the layer that `saliency` and `class_map` can read in it.

    Parameters
    ----------
    model
        A vision transformer of `timm` (ViT, DeiT, DINOv2) or a network that holds one; it stays as it is.

    Returns
    -------
    tuple
        A copy with the same scores, and the layer's name, for ``layer=``; its feature maps are float32[N, D,
        h, w] with one place a patch.

    Raises
    ------
    ExplanationError
        If there is no such transformer in the model.
    """
    copied = copy.deepcopy(model)
    for name, part in copied.named_modules():
        blocks = getattr(part, "blocks", None)
        if hasattr(part, "num_prefix_tokens") and isinstance(blocks, nn.Sequential) and len(blocks):
            last = blocks[-1]
            last.norm1 = GridNorm(last.get_submodule("norm1"), part.num_prefix_tokens)
            return copied, ".".join(filter(None, [name, f"blocks.{len(blocks) - 1}.norm1.grid"]))
    raise ExplanationError(
        f"{type(model).__name__} holds no vision transformer of timm; leave 'layer' out for a convolutional "
        "network, or use 'integrated_gradients' or 'occlusion'."
    )
