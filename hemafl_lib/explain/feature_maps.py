"""What a network's head reads: the last feature maps that everything passes on its way to the scores.

A layer's output need not be it: an Inception block ends in a concatenation, a residual block in a sum and an
activation, a DenseNet in an activation that is a plain function. So the functions that a network calls are
listened to, whether layers call them or not, and what one of them returns is taken as the feature maps.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hemafl_lib.errors import ExplanationError
from hemafl_lib.explain.scores import no_gradient, refuse_without_gradient, scores_of

REMEDY = "name another layer, or choose a method that needs none: 'integrated_gradients' or 'occlusion'"


def feature_maps(
    model: nn.Module, images: Tensor, target: Tensor, layer: str | None, against: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return feature maps and the gradient of each image's score at them, float32[N, D, h, w] each.

    They are the output of the layer of that name, of its last evaluation if there are several, or by default
    what the head reads (see `read_by_head`). The model is evaluated once, and only the layers after the maps
    are differentiated; what it computes on the way is kept until then.

    Parameters
    ----------
    model, images, target
        The network in evaluation mode, float32[N, 3, S, S] and int64[N].
    layer
        A name of ``model.named_modules()``, or None. To hear a layer, a hook hangs in it for the evaluation.
    against
        Classes whose scores are taken off, int64[N], or None.

    Raises
    ------
    ExplanationError
        If there is no such layer, or no feature maps, or the model does not fit the images.
    """
    if layer is not None and layer not in dict(model.named_modules()):
        raise ExplanationError(
            f"{type(model).__name__} has no layer '{layer}'; choose one of model.named_modules()."
        )
    listener, inputs = Listener(layer), images.detach().requires_grad_()
    asked = target if against is None else torch.cat([target, against])
    scores = scores_of(model, inputs, asked, listener.evaluate)
    refuse_without_gradient(model, scores)
    find = read_by_head if layer is None else last_of_layer
    maps = find(model, listener, scores, inputs)
    chosen = scores.gather(1, target[:, None])
    if against is not None:
        chosen = chosen - scores.gather(1, against[:, None])
    differentiated = maps.requires_grad and torch.autograd.grad(chosen.sum(), maps, allow_unused=True)[0]
    if not isinstance(differentiated, Tensor):
        raise no_gradient(model)
    return maps.detach(), differentiated


class Listener(TorchFunctionMode):
    """Hears what the functions of a network return.

    Parameters
    ----------
    layer
        Name of the one layer to hear; by default every function that returns more than one place, from the
        first on that uses a weight.

    Attributes
    ----------
    heard
        The tensors, in the order of evaluation.
    weights
        How often a weight had been used before each of them.
    """

    def __init__(self, layer: str | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.heard: list[Tensor] = []
        self.weights: list[int] = []
        self.used = 0

    def evaluate(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the scores of ``images``, having listened."""
        if self.layer is None:
            with self:
                return model(images)
        hook = model.get_submodule(self.layer).register_forward_hook(lambda _l, _i, out: self.hear(out))
        try:
            return model(images)
        finally:
            hook.remove()

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, as PyTorch asks for, and hear what it returns."""
        settings = kwargs or {}
        self.used += any(isinstance(value, nn.Parameter) for value in (*args, *settings.values()))
        result = function(*args, **settings)
        if self.used and isinstance(result, Tensor) and has_places(result):
            self.heard.append(result)
            self.weights.append(self.used)
        return result

    def hear(self, result: Any) -> Any:
        """Note what a layer returns; what follows gets a copy, which it may overwrite."""
        if not isinstance(result, Tensor):
            return result
        self.heard.append(result)
        return result.clone()


def read_by_head(model: nn.Module, listener: Listener, scores: Tensor, images: Tensor) -> Tensor:
    """Return which of the tensors that were heard is what the head reads.

    That is the last with more than one place such that the scores depend on the images through it alone:
    after all concatenations, shortcuts and activations, and before the mean over places. The picture itself,
    before any weight, does not count.

    Raises `ExplanationError` if that tensor is no grid of places (a vision transformer ends in tokens), or
    there is none.
    """
    heard = range(len(listener.heard))
    last = next((n for n in reversed(heard) if passes_all(listener.heard[n], scores, images)), None)
    kind = type(model).__name__
    if last is None:
        raise ExplanationError(f"{kind} has no feature maps that all of the image passes; {REMEDY}.")
    # A grid may be laid out in a row before its mean is taken, but no weight may come between.
    same = [n for n in heard[: last + 1] if listener.weights[n] == listener.weights[last]]
    grid = next((n for n in reversed(same) if is_grid(listener.heard[n])), None)
    if grid is None:
        shape = list(listener.heard[last].shape)
        raise ExplanationError(f"the head of {kind} reads {shape}, not feature maps [N, D, h, w]; {REMEDY}.")
    return listener.heard[grid]


def last_of_layer(model: nn.Module, listener: Listener, scores: Tensor, images: Tensor) -> Tensor:
    """Return the last tensor that was heard of a layer; `ExplanationError` if it is no feature maps."""
    kind, layer = type(model).__name__, listener.layer
    if not listener.heard:
        raise ExplanationError(f"{kind} evaluates no layer '{layer}' to one tensor; {REMEDY}.")
    last = listener.heard[-1]
    if last.ndim != 4 or not has_places(last):
        raise ExplanationError(
            f"layer '{layer}' of {kind} gives {list(last.shape)}, not feature maps [N, D, h, w] of several "
            f"places; {REMEDY}, or give larger images."
        )
    return last


def has_places(tensor: Tensor) -> bool:
    """Return whether a tensor holds numbers in more than one place: a grid, or a row of tokens."""
    return tensor.ndim > 2 and tensor.is_floating_point() and min(tensor.shape[-2:]) > 1


def is_grid(tensor: Tensor) -> bool:
    """Return whether a tensor has the shape of a square image's feature maps."""
    return tensor.ndim == 4 and tensor.shape[2] == tensor.shape[3]


def passes_all(tensor: Tensor, scores: Tensor, images: Tensor) -> bool:
    """Return whether PyTorch's graph leads from the scores to the images through ``tensor`` alone."""
    gate = (tensor.grad_fn, tensor.output_nr)
    paths: list[tuple[Any, int]] = [(scores.grad_fn, scores.output_nr)]
    visited = set()
    while paths:
        path = paths.pop()
        step = path[0]
        if step is None or path == gate or step in visited:
            continue
        if getattr(step, "variable", None) is images:
            return False
        visited.add(step)
        paths.extend(cast("tuple[tuple[Any, int], ...]", step.next_functions))
    return True
