"""The class scores that a map explains: one finite number a class, and the class asked for is among them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hemafl_lib.errors import ExplanationError, quote

Evaluate = Callable[[nn.Module, Tensor], Tensor]
"""How a model is evaluated."""


def just_call(model: nn.Module, images: Tensor) -> Tensor:
    """Return the scores of ``images``."""
    return model(images)


def scores_of(model: nn.Module, images: Tensor, target: Tensor, evaluate: Evaluate = just_call) -> Tensor:
    """Return the class scores float32[N, C] of ``images``.

    Parameters
    ----------
    model, images
        The network, and what it is given, float32[N, 3, S, S].
    target
        Classes, int64[K], all of which must be among the C.
    evaluate
        How the model is evaluated.

    Raises
    ------
    ExplanationError
        If the model cannot evaluate such images, gives no finite logits, or has no such class.
    """
    kind, side = type(model).__name__, images.shape[-1]
    try:
        scores = evaluate(model, images.clone())  # a network may overwrite what it is given
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = quote(str(error)).split(". ")[0]
        raise ExplanationError(
            f"{kind} cannot evaluate an image of {side} pixels a side ({reason}); give images of the size "
            "and kind that it was made for."
        ) from error
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(images) or not scores.numel():
        given = f"shape {list(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        count = "one image" if len(images) == 1 else f"{len(images)} images"
        raise ExplanationError(f"{kind} gives {given} for {count}; give a model of logits [N, C].")
    if not scores.isfinite().all():
        raise ExplanationError(f"{kind} gives scores that are not finite; give a model of finite weights.")
    classes = scores.shape[1]
    if target.min() < 0 or target.max() >= classes:
        raise ExplanationError(
            f"target holds {int(target.min())} to {int(target.max())}; give class numbers from 0 to "
            f"{classes - 1}."
        )
    return scores


def refuse_without_gradient(model: nn.Module, scores: Tensor) -> None:
    """Raise `ExplanationError` if the scores cannot be differentiated by the image."""
    if not scores.requires_grad:
        raise no_gradient(model)


def no_gradient(model: nn.Module) -> ExplanationError:
    """Return what is to be said of a model that cuts the way from its scores to its images."""
    return ExplanationError(
        f"{type(model).__name__} gives no gradient at its images, as within torch.no_grad(); change its "
        "forward method, or use 'occlusion'."
    )
