"""What a saved model answers: a class with a probability, what it cannot rule out, and a warning."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from hemafl_lib.clinic.card import Card
from hemafl_lib.clinic.saved import SavedModel
from hemafl_lib.clinic.scope import BATCH, distances, numbers_of
from hemafl_lib.errors import ModelError, quote
from hemafl_lib.training import as_input


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of N images, with C classes.

    Attributes
    ----------
    logits
        Its scores, float32[N, C].
    probabilities
        float64[N, C], at the card's temperature.
    sets
        bool[N, C]: the classes that cannot be ruled out; None if the card has no threshold. A set may be
        empty: no class fits as well as nine in ten of home's cells fit theirs.
    beyond
        For each scope of the card the images that lie beyond its threshold, bool[N].
    """

    logits: Tensor
    probabilities: np.ndarray
    sets: np.ndarray | None
    beyond: Mapping[str, np.ndarray]

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each image, int64[N]."""
        return self.probabilities.argmax(axis=1)

    @property
    def out_of_scope(self) -> np.ndarray:
        """Whether any scope warns, bool[N]; False everywhere if the card has none."""
        return np.any([np.zeros(len(self.logits), bool), *self.beyond.values()], axis=0)


def answer(model: SavedModel, images: Tensor) -> Answers:
    """Return what a model says of images, uint8[N, 3, S, S] of the size that it was trained on.

    Raises `ModelError` if they are of another size or type, or there are none, or if the network gives no
    finite logits of the card's classes. What a distance cannot be told of is out of scope.
    """
    side = model.size
    if (
        images.dtype != torch.uint8
        or images.ndim != 4
        or images.shape[1:] != (3, side, side)
        or not len(images)
    ):
        raise ModelError(
            f"images are {images.dtype} of shape {list(images.shape)}; give uint8[N, 3, {side}, {side}], the "
            "size that the model was trained on."
        )
    beyond: dict[str, np.ndarray] = {
        scope.of: ~(distances(scope, numbers_of(scope.of, model.network, images)) <= scope.threshold)
        for scope in model.card.scope
    }
    return from_logits(model.card, logits_of(model, images), beyond)


def from_logits(card: Card, logits: Tensor, beyond: Mapping[str, np.ndarray]) -> Answers:
    """Return the answers that a card makes of logits, float32[N, C], and of what lies beyond its scopes."""
    probabilities = softmax(logits.double().numpy() / card.temperature, axis=1)
    sets = None if card.sets is None else 1 - probabilities <= card.sets.threshold
    return Answers(logits, probabilities, sets, beyond)


@torch.no_grad()
def logits_of(model: SavedModel, images: Tensor) -> Tensor:
    """Return the logits, float32[N, C], of images uint8[N, 3, S, S]; raises as `answer`."""
    name, shape = model.card.name, (len(images), len(model.card.classes))
    try:
        logits = torch.cat([model.network(as_input(rows)) for rows in images.split(BATCH)])
    except Exception as error:  # layers from a file that do not fit together fail in any way
        raise ModelError(
            f"the network of '{name}' does not work ({quote(str(error))}); train it anew."
        ) from None
    if logits.shape != shape or not logits.isfinite().all():
        raise ModelError(
            f"the network of '{name}' gives no finite logits of the {shape[1]} classes of its card, so it "
            "answers nothing; train it anew."
        )
    return logits
