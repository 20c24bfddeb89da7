"""Does the answer depend on the places that a map calls relevant? Deletion and insertion curves.

Petsiuk, Das and Saenko, "RISE", BMVC 2018, section 4.1. Pixels leave the image, or enter it, the most
relevant first, and the probability of the class is followed.

What stands in for a pixel that is away is a reference, float32[N, 3, S, S] in [0, 1]. None says "nothing was
here": the mean colour keeps what colour gives away, a blurred image its coarse shapes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hemafl_lib.errors import ExplanationError
from hemafl_lib.explain.maps import as_maps, upsample
from hemafl_lib.explain.saliency import mean_colour, prepare
from hemafl_lib.explain.scores import scores_of


def blur(images: Tensor) -> Tensor:
    """Return images without edges: a Gaussian blur with a standard deviation of an eighth of the side."""
    from torchvision.transforms.functional import gaussian_blur  # slow to load, see `hemafl_lib.models`

    side = images.shape[-1]
    return gaussian_blur(images, kernel_size=2 * (side // 4) + 1, sigma=side / 8)


REFERENCES: dict[str, Callable[[Tensor], Tensor]] = {"mean": mean_colour, "blur": blur}
"""The references by name."""


@dataclass(frozen=True)
class Curves:
    """The class's probability while an image changes.

    ``shares`` is float32[K + 1], the share of pixels changed, from 0 to 1; ``probabilities`` is
    float32[N, K + 1], one curve an image.
    """

    shares: Tensor
    probabilities: Tensor

    @property
    def areas(self) -> Tensor:
        """The area under each curve, float32[N], in [0, 1]."""
        return torch.trapezoid(self.probabilities, self.shares, dim=1)


def deletion(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    maps: Tensor,
    *,
    reference: str = "mean",
    steps: int = 32,
    device: str | None = None,
) -> Curves:
    """Replace pixels by a reference, the most relevant first; a good map has a small area.

    Parameters
    ----------
    model, images, target, device
        As in `hemafl_lib.explain.saliency`.
    maps
        float32[N, h, w] on any grid, of any method or baseline. A coarse map is laid over the pixels in
        blocks; pixels of equal relevance go row by row.
    reference
        A key of `hemafl_lib.explain.REFERENCES`.
    steps
        Number K of equal portions in which the pixels change.

    Raises
    ------
    ExplanationError
        If an argument is unknown or does not fit.
    """
    network, inputs, targets = prepare(model, images, target, device, hooked=False)
    return _curves(network, inputs, _reference(inputs, reference), targets, maps, steps)


def insertion(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    maps: Tensor,
    *,
    reference: str = "blur",
    steps: int = 32,
    device: str | None = None,
) -> Curves:
    """Put pixels back into a reference, the most relevant first; a good map has a large area.

    Parameters and errors as in `deletion`.
    """
    network, inputs, targets = prepare(model, images, target, device, hooked=False)
    return _curves(network, _reference(inputs, reference), inputs, targets, maps, steps)


def _reference(images: Tensor, name: str) -> Tensor:
    if name not in REFERENCES:
        raise ExplanationError(f"reference '{name}' is unknown; choose one of: {', '.join(REFERENCES)}.")
    return REFERENCES[name](images)


@torch.no_grad()
def _curves(model: nn.Module, start: Tensor, end: Tensor, target: Tensor, maps: Tensor, steps: int) -> Curves:
    """Follow the probability of ``target`` while pixels of ``start`` become those of ``end``."""
    if steps < 1:
        raise ExplanationError(f"steps is {steps}; change the pixels in at least 1 step.")
    scores_of(model, start[:1], target)
    rank = order(maps, len(start), start.shape[-1]).to(start.device)
    pixels = rank[0].numel()
    probabilities = []
    for step in range(steps + 1):
        # In whole numbers: a share such as 4 / 24, rounded, would take a pixel too many.
        changed = (rank * steps < step * pixels)[:, None]
        chances = model(torch.where(changed, end, start)).softmax(dim=1)
        probabilities.append(chances.gather(1, target[:, None])[:, 0].cpu())
    return Curves(torch.linspace(0, 1, steps + 1), torch.stack(probabilities, dim=1))


def order(maps: Tensor, count: int, size: int) -> Tensor:
    """Return the rank of each pixel, int64[count, size, size]: 0 for the most relevant of its image."""
    pixels = upsample(as_maps(maps, count), size).flatten(1)
    ranking = pixels.argsort(dim=1, descending=True, stable=True)
    return ranking.argsort(dim=1).reshape(count, size, size)
