"""Other ways to weigh a network's feature maps, and maps that ask "why this class and not that one?"

All of them take the feature maps A and the gradient G of a class score at them, as Grad-CAM does; they differ
in how they put the two together. Where the score is the mean of the maps weighted by the head, as in an
`AttentionCNN`, HiResCAM's map adds up to the score, but for the bias.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hemafl_lib.errors import ExplanationError
from hemafl_lib.explain.feature_maps import feature_maps
from hemafl_lib.explain.saliency import as_targets, at_a_time, prepare


def grad_cam_plus_plus(maps: Tensor, gradient: Tensor) -> Tensor:
    """Return the positive part of maps weighted by their positive gradients, few places as much as many.

    Chattopadhyay et al. 2018, equations 10 and 19, for the exponential of the score, whose second and third
    derivatives are powers of the first.
    """
    square, cube = gradient.square(), gradient**3
    below = 2 * square + maps.sum(dim=(2, 3), keepdim=True) * cube
    share = torch.where(below != 0, square / below.where(below != 0, 1), 0)
    weights = (share * gradient.relu()).sum(dim=(2, 3), keepdim=True)
    return (weights * maps).sum(dim=1).relu()


def layer_cam(maps: Tensor, gradient: Tensor) -> Tensor:
    """Return the maps, each place weighted by its own positive gradient (Jiang et al. 2021, equation 6)."""
    return (gradient.relu() * maps).sum(dim=1).relu()


def hires_cam(maps: Tensor, gradient: Tensor) -> Tensor:
    """Return the maps times their gradient, summed: signed (Draelos and Carin 2020, equation 5)."""
    return (gradient * maps).sum(dim=1)


CLASS_MAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "layer_cam": layer_cam,
    "hires_cam": hires_cam,
}
"""The ways by name: from feature maps and gradient, float32[N, D, h, w] each, to maps float32[N, h, w]."""


def class_map(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    kind: str,
    *,
    against: int | Tensor | None = None,
    layer: str | None = None,
    device: str | None = None,
) -> Tensor:
    """Return one map per image, on the grid of the feature maps.

    Parameters
    ----------
    model, images, target, layer, device
        As in `hemafl_lib.explain.saliency`.
    kind
        A key of `CLASS_MAPS`.
    against
        A class that the target is held against, as ``target``: the map then explains the difference of the
        two scores, and its places speak for the one and not for the other. None explains the score alone.

    Returns
    -------
    Tensor
        float32[N, h, w] on the CPU; of "hires_cam" signed, else not negative.

    Raises
    ------
    ExplanationError
        If an argument is unknown or does not fit, if target and ``against`` are the same, or if the model
        lacks feature maps.
    """
    if kind not in CLASS_MAPS:
        raise ExplanationError(f"kind '{kind}' is unknown; choose one of: {', '.join(CLASS_MAPS)}.")
    with torch.inference_mode(False), torch.enable_grad():
        hooked = layer is not None
        network, inputs, targets = prepare(model, images, target, device, hooked=hooked)
        others = None if against is None else as_targets(against, len(images)).to(inputs.device)
        if others is not None and (others == targets).any():
            raise ExplanationError("'against' is the target itself for some image; name another class.")
        parts, count = [], at_a_time(inputs)
        for start in range(0, len(inputs), count):
            rows = slice(start, start + count)
            than = None if others is None else others[rows]
            maps, gradient = feature_maps(network, inputs[rows], targets[rows], layer, than)
            parts.append(CLASS_MAPS[kind](maps, gradient).detach().float().cpu())
    return torch.cat(parts)
