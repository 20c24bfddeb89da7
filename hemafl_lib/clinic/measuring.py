"""What a card says of a trained network: measured on the rounded weights that are saved.

Home's held-out cells choose the temperature, the threshold of the sets and those of the scopes; cells that
had no part in any of it judge. At other hospitals none of the promises need hold, and the card says by how
much they do not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from torch import Tensor, nn

from hemafl_lib.clinic.answers import Answers, answer, from_logits, logits_of
from hemafl_lib.clinic.card import Card, Kind, Refused, Scope, Score, Sets
from hemafl_lib.clinic.saved import SavedModel, as_saved
from hemafl_lib.clinic.scope import Of, fit_scope, numbers_of
from hemafl_lib.data.cohort import ImageCohort, LabelledCohort
from hemafl_lib.errors import ModelError
from hemafl_lib.evaluation import (
    balanced_accuracy,
    bootstrap_interval,
    conformal_threshold,
    expected_calibration_error,
    fit_temperature,
)
from hemafl_lib.models import AttentionCNN

LEVEL = 0.9
"""Share of home's cells whose set is to hold the true class."""

FEWEST = 10
"""A class with fewer cells than this at a hospital is not judged there: one cell would decide its recall."""


Labelled = TypeVar("Labelled", bound=LabelledCohort)


@dataclass(frozen=True, eq=False)
class Place:
    """Cells that judge a model: whose they are, of what kind (see `Score`), and the cells themselves."""

    where: str
    kind: Kind
    cells: LabelledCohort


@dataclass(frozen=True, eq=False)
class Views:
    """Images that a scope is made of, uint8[N, 3, S, S] each.

    Attributes
    ----------
    training, held_out
        Images that the model was trained on, and images of the same hospitals that it was not.
    home
        Images of the same hospitals that had no part in either: how often are they flagged?
    beyond
        Images that are none of these cells, by their kind.
    tried
        More such images, or badly taken ones, by their kind: how many of them get no answer?
    """

    training: Tensor
    held_out: Tensor
    home: Tensor
    beyond: Mapping[str, Tensor]
    tried: Mapping[str, Tensor] = field(default_factory=dict)


def measured(
    network: nn.Module,
    card: Card,
    *,
    size: int,
    held_out: LabelledCohort,
    judged: Sequence[Place],
    views: Views | None = None,
    logits: Callable[[LabelledCohort], Tensor] | None = None,
    seed: int = 0,
) -> SavedModel:
    """Return a trained network as it is saved, with a card that says what was measured.

    Parameters
    ----------
    network
        A classifier of the classes that ``card`` names, from float32[N, 3, S, S] in [0, 1] to logits [N, C].
    card
        What is to be said besides; its scores, temperature, sets and scopes are replaced.
    size
        Side S of the images in pixels.
    held_out
        Cells of home that the network was not trained on; without any the card has no sets.
    judged
        Where its answers are judged.
    views
        What scopes are made of; by default there are none.
    logits
        Gives the network's logits, float32[N, C], of the cells of a cohort that are no images but, say, the
        activations of its frozen layers. By default the network reads the images of the cohorts.
    seed
        Of the intervals.

    Raises
    ------
    ModelError
        If the cohorts have other classes than the card.
    """
    if any(cells.classes != card.classes for cells in (held_out, *(place.cells for place in judged))):
        raise ModelError(
            f"the card names {', '.join(card.classes)}; give cells of these classes, in this order."
        )
    model = as_saved(network, size, replace_in(card, temperature=1.0, sets=None, scope=(), scores=()))
    read = logits or (lambda cells: logits_of(model, cells.inputs))
    if len(held_out):
        model = with_confidence(model, held_out.labels.numpy(), read(held_out))
    if views is not None:
        scopes = tuple(scope_of(of, model, views) for of in scopes_for(network))
        model = replace(model, card=replace_in(model.card, scope=scopes))
        model = replace(model, card=replace_in(model.card, refused=refused(model, views.tried)))
    scores = tuple(score(model, place.where, place.kind, enough(place.cells), read, seed) for place in judged)
    return replace(model, card=replace_in(model.card, scores=scores))


def replace_in(card: Card, **changes: object) -> Card:
    """Return a card with changes, checked anew."""
    return Card.model_validate({**card.model_dump(), **changes})


def with_confidence(model: SavedModel, labels: np.ndarray, logits: Tensor) -> SavedModel:
    """Return a model with the temperature and the sets that suit held-out cells.

    No temperature below 1 is used: it would make a model surer of itself on the strength of cells that were
    few or easy.
    """
    temperature = max(1.0, fit_temperature(labels, from_logits(model.card, logits, {}).probabilities))
    model = replace(model, card=replace_in(model.card, temperature=temperature))
    probabilities = from_logits(model.card, logits, {}).probabilities
    threshold = float(conformal_threshold(labels, probabilities, 1 - LEVEL)[0])
    sets = Sets(level=LEVEL, threshold=min(threshold, 1.0))  # so few cells that no class can be ruled out
    return replace(model, card=replace_in(model.card, sets=sets))


def scopes_for(network: nn.Module) -> tuple[Of, ...]:
    """Return which scopes a network can have: feature maps are known of an `AttentionCNN` only."""
    return ("colours", "features") if isinstance(network, AttentionCNN) else ("colours",)


def scope_of(of: Of, model: SavedModel, views: Views) -> Scope:
    """Return one scope of a model."""
    training, held_out, home = (
        numbers_of(of, model.network, images) for images in (views.training, views.held_out, views.home)
    )
    beyond = {name: numbers_of(of, model.network, images) for name, images in views.beyond.items()}
    return fit_scope(of, training, held_out, home, beyond)


def refused(model: SavedModel, tried: Mapping[str, Tensor]) -> tuple[Refused, ...]:
    """Return how many of each kind of images, uint8[N, 3, S, S], get no answer of a model."""
    return tuple(
        Refused(of=kind, pictures=len(images), share=float(answer(model, images).out_of_scope.mean()))
        for kind, images in tried.items()
    )


def score(
    model: SavedModel,
    where: str,
    kind: Kind,
    cells: LabelledCohort,
    read: Callable[[LabelledCohort], Tensor],
    seed: int,
) -> Score:
    """Return how good a model is at one place."""
    labels = cells.labels.numpy()
    is_view = isinstance(cells, ImageCohort)
    said = answer(model, cells.inputs) if is_view else from_logits(model.card, read(cells), {})
    interval = bootstrap_interval(balanced_accuracy, [labels, said.predicted], seed=seed, stratify=labels)
    present = len(np.unique(labels))
    return Score(
        where=where,
        kind=kind,
        cells=len(cells),
        classes=present,
        balanced_accuracy=interval.estimate,
        low=interval.low,
        high=interval.high,
        chance=1 / present,
        calibration_error=expected_calibration_error(labels, said.probabilities),
        flagged=float(said.out_of_scope.mean()) if model.card.scope else None,
        **confidence_of(said, labels),
    )


def confidence_of(said: Answers, labels: np.ndarray) -> dict[str, float]:
    """Return how often the sets hold the true class, and how large they are; nothing without sets."""
    if said.sets is None:
        return {}
    held = said.sets[np.arange(len(labels)), labels]
    return {"coverage": float(held.mean()), "set_size": float(said.sets.sum(axis=1).mean())}


def enough(cells: Labelled) -> Labelled:
    """Return the cells of classes with at least `FEWEST` of them; all of them if there is no such class."""
    kept = np.flatnonzero(cells.counts() >= FEWEST)
    return cells.take(np.flatnonzero(np.isin(cells.labels.numpy(), kept))) if len(kept) else cells
