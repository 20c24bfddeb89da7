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

REMEDY = "name another layer, or choose a method that needs none: 'integrated_gradients' or 'occlusion'"


def default_layer(model: nn.Module, images: Tensor) -> int:
    """Return which of the tensors that a `Listener` hears is what the head reads.

    That is the last with more than one place such that the scores depend on the image through it alone:
    after all concatenations, shortcuts and activations, and before the mean over places. The picture itself,
    before any weight, does not count.

    Parameters
    ----------
    model, images
        The network, and an image [1, 3, S, S] to evaluate, which requires a gradient.

    Raises
    ------
    ExplanationError
        If that tensor is no grid of places (a vision transformer ends in tokens), or there is none.
    """
    listener = Listener()
    scores = listener.evaluate(model, images)
    refuse_without_gradient(model, scores)
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
    return grid


def named_layer(model: nn.Module, images: Tensor, name: str) -> int:
    """Return which of the tensors that a `Listener` of that layer hears is its last.

    Parameters as in `default_layer`. Raises `ExplanationError` if there is no such layer, or it gives no
    feature maps.
    """
    kind = type(model).__name__
    if name not in dict(model.named_modules()):
        raise ExplanationError(f"{kind} has no layer '{name}'; choose one of model.named_modules().")
    listener = Listener(name)
    refuse_without_gradient(model, listener.evaluate(model, images))
    if not listener.heard:
        raise ExplanationError(f"{kind} evaluates no layer '{name}' to one tensor; {REMEDY}.")
    last = listener.heard[-1]
    if last.ndim != 4 or not has_places(last):
        raise ExplanationError(
            f"layer '{name}' of {kind} gives {list(last.shape)}, not feature maps [N, D, h, w] of several "
            f"places; {REMEDY}, or give larger images."
        )
    return len(listener.heard) - 1


def feature_maps(
    model: nn.Module, images: Tensor, target: Tensor, layer: str | None
) -> tuple[Tensor, Tensor]:
    """Return feature maps and the gradient of each image's score at them, float32[N, D, h, w] each.

    They are the output of the layer of that name, of its last evaluation if there are several, or by default
    what the head reads (see `default_layer`). Only the layers after them are differentiated.
    """
    one = images[:1].detach().clone().requires_grad_()
    number = default_layer(model, one) if layer is None else named_layer(model, one, layer)
    listener = Listener(layer, cut=number)
    scores = listener.evaluate(model, images.detach()).gather(1, target[:, None]).sum()
    maps = listener.heard[-1]
    return maps.detach(), torch.autograd.grad(scores, maps)[0]


class Listener(TorchFunctionMode):
    """Hears what the functions of a network return.

    Parameters
    ----------
    layer
        Name of the one layer to hear; by default every function that returns more than one place, from the
        first on that uses a weight.
    cut
        Which of the tensors to keep alone, as the start of what is differentiated.

    Attributes
    ----------
    heard
        The tensors, in the order of evaluation.
    weights
        How often a weight had been used before each of them.
    """

    def __init__(self, layer: str | None = None, cut: int | None = None) -> None:
        super().__init__()
        self.layer, self.cut = layer, cut
        self.heard: list[Tensor] = []
        self.weights: list[int] = []
        self.used = self.count = 0

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
        return self.hear(result) if self.used else result

    def hear(self, result: Any) -> Any:
        """Note a tensor; return it, or, at the cut, one that starts anew."""
        if not isinstance(result, Tensor) or (self.layer is None and not has_places(result)):
            return result
        self.count += 1
        if self.cut is None:
            self.heard.append(result)
            self.weights.append(self.used)
        elif self.count == self.cut + 1:
            start = result.detach().requires_grad_()
            self.heard.append(start)
            return start.clone()  # what follows may overwrite it
        return result


def has_places(tensor: Tensor) -> bool:
    """Return whether a tensor holds numbers in more than one place: a grid, or a row of tokens."""
    return tensor.ndim > 2 and tensor.is_floating_point() and min(tensor.shape[-2:]) > 1


def is_grid(tensor: Tensor) -> bool:
    """Return whether a tensor has the shape of a square image's feature maps."""
    return tensor.ndim == 4 and tensor.shape[2] == tensor.shape[3]


def refuse_without_gradient(model: nn.Module, scores: Tensor) -> None:
    """Raise `ExplanationError` if the scores cannot be differentiated by the image."""
    if not scores.requires_grad:
        raise ExplanationError(
            f"{type(model).__name__} gives no gradient at its images, as within torch.no_grad(); change its "
            "forward method, or use 'occlusion'."
        )


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
