"""Where does a model look? A relevance map per image, by four methods of the Captum library.

A map says which places a class score (the logit) depends on. It does not say that the answer is right.
Every method evaluates the model in evaluation mode; the model itself stays as it is, see `prepare`.
"""

import copy
import math
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop, IntegratedGradients, Occlusion
from torch import Tensor, nn

from hemafl_lib.device import choose
from hemafl_lib.errors import ExplanationError
from hemafl_lib.explain.feature_maps import feature_maps
from hemafl_lib.explain.scores import refuse_without_gradient, scores_of
from hemafl_lib.models import AttentionCNN
from hemafl_lib.training import as_input

STEPS = 50
"""Points on the way from the reference to the image at which integrated gradients are taken."""

OCCLUSION_GRID = 16
"""Most steps of the occluding window across an image; the window is two steps wide."""

ROUNDING = 1e-5
"""By how much a float may lie outside of [0, 1]."""

BATCH, PIXELS = 32, 2**19
"""Images explained at a time, and how many pixels at most these have together, to keep memory small."""


def at_a_time(images: Tensor) -> int:
    """Return how many images of this size are explained at a time."""
    return max(1, min(BATCH, PIXELS // images.shape[-1] ** 2))


def mean_colour(images: Tensor) -> Tensor:
    """Return images of one colour each, the mean of the image, float32[N, 3, S, S]: a cell taken away.

    Black would be the strongest stain there is, and white an empty slide.
    """
    return images.mean(dim=(2, 3), keepdim=True).expand_as(images).contiguous()


def grad_cam(model: nn.Module, images: Tensor, target: Tensor, layer: str | None) -> Tensor:
    """Return the feature maps weighted by their mean gradient, where positive (Selvaraju et al. 2017, eq. 2).

    The grid is that of the feature maps, for example 8 x 8: by default those that the head reads, see
    `hemafl_lib.explain.feature_maps.read_by_head`.
    """
    maps, gradient = feature_maps(model, images, target, layer)
    return (gradient.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1).relu()


def integrated_gradients(model: nn.Module, images: Tensor, target: Tensor, layer: str | None) -> Tensor:
    """Return the gradient, averaged from mean colour to image, times their difference.

    Sundararajan et al. 2017, equation 1; summed over colour. The grid is that of the pixels. A map sums to
    the score of the image less the score of its mean colour.
    """
    refuse_without_gradient(model, scores_of(model, images[:1], target))
    method = IntegratedGradients(model)
    baselines, rows = mean_colour(images), 4 * at_a_time(images)
    maps = method.attribute(images, baselines, target, n_steps=STEPS, internal_batch_size=rows)
    return maps.sum(dim=1)


def occlusion(model: nn.Module, images: Tensor, target: Tensor, layer: str | None) -> Tensor:
    """Return by how much the score falls if a square of mean colour covers a place (Zeiler and Fergus 2014).

    The grid is that of the steps by which the square moves; a place has the mean of all squares over it.
    """
    scores_of(model, images[:1].detach(), target)
    step = math.ceil(images.shape[-1] / OCCLUSION_GRID)
    maps = Occlusion(lambda rows: model(rows.clone())).attribute(  # a network may overwrite what it is given
        images,
        sliding_window_shapes=(3, 2 * step, 2 * step),
        strides=(3, step, step),
        baselines=mean_colour(images),
        target=target,
        perturbations_per_eval=4,
    )
    return maps[:, 0, ::step, ::step]


def guided_grad_cam(model: nn.Module, images: Tensor, target: Tensor, layer: str | None) -> Tensor:
    """Return guided backpropagation times Grad-CAM (Selvaraju et al. 2017, section 3.2), summed over colour.

    The grid is that of the pixels. Guided backpropagation passes only positive gradients on through each
    `torch.nn.ReLU`, but not through a ReLU that is called as a plain function; it follows edges of the image
    even in an untrained model (Adebayo et al. 2018).
    """
    if not any(isinstance(module, nn.ReLU) for module in model.modules()):
        raise ExplanationError(
            f"guided_grad_cam changes nn.ReLU layers and {type(model).__name__} has none; use another method."
        )
    coarse = grad_cam(model, images, target, layer)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        fine = GuidedBackprop(model).attribute(images, target)
    return (fine * F.interpolate(coarse[:, None], images.shape[2:])).sum(dim=1)


Network = TypeVar("Network", bound=nn.Module)
Method = Callable[[nn.Module, Tensor, Tensor, str | None], Tensor]

METHODS: dict[str, Method] = {
    "grad_cam": grad_cam,
    "integrated_gradients": integrated_gradients,
    "occlusion": occlusion,
    "guided_grad_cam": guided_grad_cam,
}
"""The methods by name: from a model, images, targets and a layer's name to maps."""


def saliency(
    model: nn.Module,
    images: Tensor,
    target: int | Tensor,
    method: str,
    *,
    layer: str | None = None,
    device: str | None = None,
) -> Tensor:
    """Return one relevance map per image, on the method's own grid.

    Parameters
    ----------
    model
        From float32[N, 3, S, S] in [0, 1] to logits [N, C]. Its parameters, mode and hooks stay as they are.
    images
        uint8[N, 3, S, S], or float32 in [0, 1].
    target
        The class whose logit is explained: one for all images, or int64[N].
    method
        A key of `METHODS`.
    layer
        Name of the layer whose output is taken as feature maps (by the two methods that need them), as in
        ``model.get_submodule(layer)``; by default they are what the head reads, see
        `hemafl_lib.explain.feature_maps.read_by_head`.
    device
        Where it is computed: "cpu", "cuda" or, by default, as ``HEMAFL_DEVICE`` says.

    Returns
    -------
    Tensor
        float32[N, h, w] on the CPU. See the method for h and w, and `hemafl_lib.explain.upsample` for
        maps of the images' size.

    Raises
    ------
    ExplanationError
        If an argument is unknown or does not fit, if the model lacks what the method needs, or if it gives
        numbers that are not finite.
    """
    if method not in METHODS:
        raise ExplanationError(f"method '{method}' is unknown; choose one of: {', '.join(METHODS)}.")
    with torch.inference_mode(False), torch.enable_grad():
        hooked = method != "grad_cam" or layer is not None
        network, inputs, targets = prepare(model, images, target, device, hooked=hooked)
        count = at_a_time(inputs)
        parts = [
            METHODS[method](network, rows.requires_grad_(), classes, layer).detach().float().cpu()
            for rows, classes in zip(inputs.split(count), targets.split(count), strict=True)
        ]
    maps = torch.cat(parts)
    if not maps.isfinite().all():
        raise ExplanationError(
            f"the {method} maps of {type(model).__name__} are not finite; give a model of finite weights."
        )
    return maps


def cam(model: AttentionCNN, images: Tensor, target: int | Tensor, *, device: str | None = None) -> Tensor:
    """Return the class activation map: the feature maps weighted by the head (Zhou et al. 2016, equation 2).

    Its mean over places, plus the head's bias, is the logit: nothing is approximated. ``images``, ``target``
    and ``device`` as in `saliency`; the result is float32[N, h, w].
    """
    if not isinstance(model, AttentionCNN):
        raise ExplanationError(
            f"'cam' reads the head of an AttentionCNN, and the model is a {type(model).__name__}; use the "
            "method 'grad_cam'."
        )
    network, inputs, targets = prepare(model, images, target, device, hooked=False)
    with torch.no_grad():
        scores_of(network, inputs[:1], targets)
        weights = network.head.weight[targets]
        return torch.einsum("nd,ndhw->nhw", weights, network.features(inputs)).cpu()


def prepare(
    model: Network, images: Tensor, target: int | Tensor, device: str | None, *, hooked: bool = True
) -> tuple[Network, Tensor, Tensor]:
    """Return a network to evaluate, its inputs float32[N, 3, S, S] and targets int64[N], all on ``device``.

    The network is a copy in evaluation mode, in which no layer overwrites its input, which gradients at that
    layer would need. Where nothing hangs ``hooked`` into its layers, a model that is in evaluation mode and
    on the device already is taken as it is: to copy a large one takes as long as to evaluate an image.
    """
    check_images(images)
    chosen = choose(device)
    inputs = as_input(images.detach().clone(), chosen).float()
    targets = as_targets(target, len(images)).to(chosen)
    if not hooked and stands_ready(model, chosen):
        return model, inputs, targets
    copied = copy.deepcopy(model).to(chosen).eval()
    for module in copied.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]  # a setting, neither tensor nor layer
    return copied, inputs, targets


def stands_ready(model: nn.Module, device: str) -> bool:
    """Return whether all of a model is in evaluation mode, on ``device``, and knows gradients."""
    parts = (*model.parameters(), *model.buffers())
    there = all(part.device.type == device and not part.is_inference() for part in parts)
    return there and not any(module.training for module in model.modules())


def check_images(images: Tensor) -> None:
    """Raise `ExplanationError` for what are no square RGB images, uint8 or floats in [0, 1]."""
    shape = list(images.shape)
    if len(shape) != 4 or shape[0] == 0 or shape[1] != 3 or shape[2] != shape[3] or shape[2] < 2:
        raise ExplanationError(f"images have shape {shape}; give square RGB images [N, 3, S, S].")
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise ExplanationError(f"images are {images.dtype}; give uint8, or finite floats in [0, 1].")
    low, high = (float(end) for end in images.detach().aminmax())
    if not math.isfinite(high - low):
        raise ExplanationError(f"images are {images.dtype}; give uint8, or finite floats in [0, 1].")
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ExplanationError(
            f"images are floats from {low:g} to {high:g}; give floats in [0, 1] (divide 0 to 255 by 255), or "
            "uint8."
        )


def as_targets(target: int | Tensor, count: int) -> Tensor:
    """Return the class of each of ``count`` images, int64[count]."""
    targets = torch.as_tensor(target)
    whole = not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
    if not whole or targets.ndim > 1 or (targets.ndim == 1 and len(targets) != count):
        raise ExplanationError(
            f"target has shape {list(targets.shape)} and type {targets.dtype}; give one class number, or one "
            f"for each of the {count} images."
        )
    return targets.long().expand(count)
