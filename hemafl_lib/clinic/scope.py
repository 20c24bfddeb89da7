"""Is this an image of the kind that the model knows? Two distances that are not the model's own confidence.

A softmax is as sure of a flower as of a cell. How far fifteen numbers of an image's colours, or the means of
a network's feature maps, lie from those of the images that it was trained on tells far more (Lee et al., "A
simple unified framework for detecting out-of-distribution samples", NeurIPS 2018, without the classes). The
distance is Mahalanobis', along the directions in which the training images vary most.
"""

from collections.abc import Mapping
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from hemafl_lib.clinic.card import Scope
from hemafl_lib.errors import ModelError
from hemafl_lib.models import AttentionCNN
from hemafl_lib.training import as_input

Of = Literal["colours", "features"]
"""What a distance is taken on."""

DIRECTIONS: Mapping[Of, int] = {"colours": 15, "features": 8}
"""Most directions of a distance: all those of 128 features would make a card larger than its model."""

DIGITS = 4
"""Significant digits of the numbers in a card, rounded before the threshold is chosen."""

BATCH = 128
"""Images evaluated at a time, to keep memory small."""


def colour_statistics(images: Tensor) -> np.ndarray:
    """Return fifteen numbers of each image's colours, float64[N, 15], which know nothing of shape.

    ``images`` is uint8[N, 3, H, W]. In this order, each of red, green and blue in 0..1: mean, standard
    deviation (of the pixels, divided by their number), 5th, 50th and 95th percentile (interpolated).
    """
    pixels = images.flatten(2).numpy().astype(np.float64) / 255
    percentiles = np.percentile(pixels, [5, 50, 95], axis=2)
    return np.concatenate([pixels.mean(axis=2), pixels.std(axis=2), *percentiles], axis=1)


@torch.no_grad()
def feature_means(network: nn.Module, images: Tensor) -> np.ndarray:
    """Return what the head of an `AttentionCNN` reads of uint8[N, 3, H, W]: float64[N, 8 * width]."""
    if not isinstance(network, AttentionCNN):
        raise ModelError(
            f"a {type(network).__name__} has no feature maps here; leave the scope 'features' out."
        )
    parts = [network.eval().features(as_input(rows)).mean(dim=(2, 3)) for rows in images.split(BATCH)]
    return torch.cat(parts).double().numpy()


def numbers_of(of: Of, network: nn.Module, images: Tensor) -> np.ndarray:
    """Return the numbers, float64[N, d], that a distance of this kind is taken on."""
    return colour_statistics(images) if of == "colours" else feature_means(network, images)


def distances(scope: Scope, values: ArrayLike) -> np.ndarray:
    """Return the squared distances, float64[N], of numbers float[N, d], not finite where they are too large.

    Raises `ModelError` if the scope is of other numbers.
    """
    if np.shape(values)[-1] != len(scope.mean):
        raise ModelError(
            f"the scope '{scope.of}' of the card is of {len(scope.mean)} numbers and there are "
            f"{np.shape(values)[-1]}; save the model again."
        )
    return squared_lengths(scope.mean, scope.matrix, values)


def squared_lengths(mean: ArrayLike, matrix: ArrayLike, values: ArrayLike) -> np.ndarray:
    """Return |matrix (x - mean)|^2, float64[N], of numbers x, float[N, d]."""
    centred = np.asarray(values, dtype=np.float64) - np.asarray(mean)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.square(centred @ np.asarray(matrix).T).sum(axis=1)


def fit_scope(
    of: Of,
    training: ArrayLike,
    held_out: ArrayLike,
    judged: ArrayLike,
    beyond: Mapping[str, ArrayLike],
    *,
    flagged: float = 0.01,
) -> Scope:
    """Return the Gaussian of ``training`` numbers, with a threshold that few ``held_out`` ones pass.

    Parameters
    ----------
    of
        What the numbers are.
    training, held_out
        Numbers of home's images, float[N, d]; a share ``flagged`` of the second is beyond the threshold.
    judged
        Numbers of home's images that had no part in either: how many of them are flagged is written down.
    beyond
        Numbers of images that are out of scope, by their kind.

    Raises
    ------
    ModelError
        If fewer than ten images are given, or their numbers do not vary.
    """
    values = np.asarray(training, dtype=np.float64)
    if len(values) < 10 or len(np.asarray(held_out)) < 10:
        raise ModelError(
            "a scope needs at least ten images to fit and ten to choose its threshold; give more."
        )
    mean = values.mean(axis=0)
    _, spread, directions = np.linalg.svd(values - mean, full_matrices=False)
    kept = min(DIRECTIONS[of], int((spread > 1e-6 * spread[0]).sum())) if spread[0] > 0 else 0
    if kept == 0:
        raise ModelError("the images for a scope do not vary; give different ones.")
    whitening = directions[:kept] / (spread[:kept, None] / np.sqrt(len(values)))
    kept_mean, matrix = short(mean), tuple(short(row) for row in whitening)
    away = partial(squared_lengths, kept_mean, matrix)
    threshold = float(np.quantile(away(held_out), 1 - flagged))
    detected = {name: away(kind) > threshold for name, kind in beyond.items()}
    return Scope(
        of=of,
        mean=kept_mean,
        matrix=matrix,
        threshold=threshold,
        in_scope_flagged=float((away(judged) > threshold).mean()),
        out_of_scope_flagged=float(np.concatenate(list(detected.values())).mean()),
        detected={name: float(kind.mean()) for name, kind in detected.items()},
    )


def short(values: np.ndarray) -> tuple[float, ...]:
    """Return numbers with `DIGITS` significant digits."""
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)
