"""Where does a model look? A relevance map per image, by four methods of the Captum library.

A map says which places a class score (the logit) depends on. It does not say that the answer is right.
Every method works on a copy of the model in evaluation mode; the model itself stays as it is.
"""

import copy
import math
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from captum.attr import GuidedGradCam, IntegratedGradients, LayerGradCam, Occlusion
from torch import Tensor, nn

from hemafl_lib.device import choose
from hemafl_lib.errors import ExplanationError
from hemafl_lib.models import AttentionCNN
from hemafl_lib.training import as_input

STEPS = 50
"""Points on the way from the reference to the image at which integrated gradients are taken."""

OCCLUSION_GRID = 16
"""Most steps of the occluding window across an image; the window is two steps wide."""

BATCH = 32
"""Images explained at a time, to keep memory small."""


def mean_colour(images: Tensor) -> Tensor:
    """Return images of one colour each, the mean of the image, float32[N, 3, S, S]: a cell taken away.

    Black would be the strongest stain there is, and white an empty slide.
    """
    return images.mean(dim=(2, 3), keepdim=True).expand_as(images).contiguous()


def grad_cam(model: nn.Module, images: Tensor, target: Tensor, layer: str | None) -> Tensor:
    """Return the feature maps weighted by their mean gradient, where positive (Selvaraju et al. 2017, eq. 2).

    The grid is that of the feature maps, for example 8 x 8.
    """
    method = LayerGradCam(model, feature_layer(model, images, layer))
    return method.attribute(images, target, relu_attributions=True)[:, 0]


def integrated_gradients(model: nn.Module, images: Tensor, target: Tensor, layer: str | None) -> Tensor:
    """Return the gradient, averaged from mean colour to image, times their difference.

    Sundararajan et al. 2017, equation 1; summed over colour. The grid is that of the pixels. A map sums to
    the score of the image less the score of its mean colour.
    """
    method = IntegratedGradients(model)
    baselines = mean_colour(images)
    maps = method.attribute(images, baselines, target, n_steps=STEPS, internal_batch_size=4 * BATCH)
    return maps.sum(dim=1)


def occlusion(model: nn.Module, images: Tensor, target: Tensor, layer: str | None) -> Tensor:
    """Return by how much the score falls if a square of mean colour covers a place (Zeiler and Fergus 2014).

    The grid is that of the steps by which the square moves; a place has the mean of all squares over it.
    """
    step = math.ceil(images.shape[-1] / OCCLUSION_GRID)
    maps = Occlusion(model).attribute(
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
    `torch.nn.ReLU`; it follows edges of the image even in an untrained model (Adebayo et al. 2018).
    """
    if not any(isinstance(module, nn.ReLU) for module in model.modules()):
        raise ExplanationError(
            f"guided_grad_cam changes nn.ReLU layers and {type(model).__name__} has none; use 'grad_cam'."
        )
    method = GuidedGradCam(model, feature_layer(model, images, layer))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        return method.attribute(images, target).sum(dim=1)


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
        ``model.get_submodule(layer)``; by default the last that gives feature maps, see `feature_layer`.
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
        If an argument is unknown or does not fit, or if the model lacks what the method needs.
    """
    if method not in METHODS:
        raise ExplanationError(f"method '{method}' is unknown; choose one of: {', '.join(METHODS)}.")
    copied, inputs, targets = prepare(model, images, target, device)
    maps = [
        METHODS[method](copied, rows.requires_grad_(), classes, layer).detach().float().cpu()
        for rows, classes in zip(inputs.split(BATCH), targets.split(BATCH), strict=True)
    ]
    return torch.cat(maps)


def cam(model: AttentionCNN, images: Tensor, target: int | Tensor, *, device: str | None = None) -> Tensor:
    """Return the class activation map: the feature maps weighted by the head (Zhou et al. 2016, equation 2).

    Its mean over places, plus the head's bias, is the logit: nothing is approximated. ``images``, ``target``
    and ``device`` as in `saliency`; the result is float32[N, h, w].
    """
    copied, inputs, targets = prepare(model, images, target, device)
    with torch.no_grad():
        weights = copied.head.weight[targets]
        return torch.einsum("nd,ndhw->nhw", weights, copied.features(inputs)).cpu()


def prepare(
    model: Network, images: Tensor, target: int | Tensor, device: str | None
) -> tuple[Network, Tensor, Tensor]:
    """Return a copy of the model to compute gradients with, its inputs float32[N, 3, S, S], targets int64[N].

    All three are on ``device``. In the copy no layer overwrites its input, which gradients at that layer
    would need.
    """
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0 or images.shape[2] != images.shape[3]:
        raise ExplanationError(
            f"images have shape {list(images.shape)}; give square RGB images [N, 3, S, S]."
        )
    if images.dtype != torch.uint8 and not (images.is_floating_point() and images.isfinite().all()):
        raise ExplanationError(f"images are {images.dtype}; give uint8, or finite floats in [0, 1].")
    chosen = choose(device)
    copied = copy.deepcopy(model).to(chosen).eval()
    for module in copied.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]  # a setting, neither tensor nor layer
    inputs = as_input(images.detach(), chosen).float()
    with torch.no_grad():
        classes = copied(inputs[:1]).shape[1]
    return copied, inputs, as_targets(target, len(images), classes).to(chosen)


def as_targets(target: int | Tensor, count: int, classes: int) -> Tensor:
    """Return the class of each of ``count`` images, int64[count]."""
    targets = torch.as_tensor(target)
    if targets.is_floating_point() or targets.ndim > 1 or (targets.ndim == 1 and len(targets) != count):
        raise ExplanationError(
            f"target has shape {list(targets.shape)} and type {targets.dtype}; give one class number, or one "
            f"for each of the {count} images."
        )
    if targets.min() < 0 or targets.max() >= classes:
        raise ExplanationError(
            f"target holds {int(targets.min())} to {int(targets.max())}; give class numbers from 0 to "
            f"{classes - 1}."
        )
    return targets.long().expand(count)


def feature_layer(model: nn.Module, images: Tensor, name: str | None = None) -> nn.Module:
    """Return the layer called ``name``, or the last one that gives feature maps [N, D, h, w].

    The last one is found by evaluating an image: of all layers whose output has more than one place, the
    last. If that output is no grid (a vision transformer ends in tokens), the model is refused.

    Raises
    ------
    ExplanationError
        If there is no such layer, or it gives no feature maps.
    """
    shapes = output_shapes(model, images[:1])
    kind = type(model).__name__
    if name is not None and name not in shapes:
        raise ExplanationError(f"{kind} evaluates no layer '{name}'; choose one of model.named_modules().")
    if name is None:
        simple = (key for key in shapes if not list(model.get_submodule(key).children()))
        name = next((key for key in reversed(list(simple)) if math.prod(shapes[key][2:]) > 1), "")
    if len(shapes[name]) != 4:
        raise ExplanationError(
            f"layer '{name}' of {kind} gives {list(shapes[name])}, not feature maps [N, D, h, w]; name "
            "another layer, or choose a method that needs none: 'integrated_gradients' or 'occlusion'."
        )
    return model.get_submodule(name)


def output_shapes(model: nn.Module, images: Tensor) -> dict[str, torch.Size]:
    """Return the shape of what each layer gives for ``images``, by name, in the order of evaluation."""
    shapes: dict[str, torch.Size] = {}

    def note(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_layer: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                shapes[name] = output.shape

        return hook

    hooks = [layer.register_forward_hook(note(name)) for name, layer in model.named_modules()]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes
