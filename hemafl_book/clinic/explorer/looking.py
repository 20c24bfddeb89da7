"""What is asked of a cell, and what up to four models or methods say of it, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from hemafl_book.clinic.explorer.cells import Cell, picture
from hemafl_book.clinic.explorer.models import Asked, relevance
from hemafl_lib.clinic import SavedModel
from hemafl_lib.clinic.tables import OUT_OF_SCOPE, rows_of
from hemafl_lib.errors import ExplanationError

MOST = 4
"""Maps side by side."""


@dataclass(frozen=True)
class View:
    """One of the maps side by side: a model and a method, by their names."""

    model: str
    method: str = "grad_cam"


@dataclass(frozen=True)
class Question:
    """What is asked of a cell.

    Attributes
    ----------
    views
        One to `MOST` maps.
    target
        The class that is explained; None explains what each model answers.
    against
        The class that it is held against: what speaks for the one and not for the other. None for no class.
    layer
        The layer whose feature maps are read, by the methods that read such; None for the last.
    """

    views: tuple[View, ...]
    target: str | None = None
    against: str | None = None
    layer: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.views) <= MOST:
            raise ExplanationError(f"{len(self.views)} maps are asked for; compare 1 to {MOST}.")


@dataclass(frozen=True, eq=False)
class Seen:
    """What one model says of a cell, and where it looked.

    Attributes
    ----------
    view, model
        What was asked whom.
    row
        The answer, as `hemafl_lib.clinic.predict` gives it.
    explained
        The class that the map explains; empty where there is none.
    relevance
        float32[h, w]; None out of scope, or where the method cannot give a map.
    refused
        The sentence that says why there is no map though the cell is in scope; else empty.
    """

    view: View
    model: SavedModel
    row: pd.Series
    explained: str
    relevance: Tensor | None
    refused: str = ""

    @property
    def in_scope(self) -> bool:
        """Whether the model gives an answer."""
        return not self.row["scope"].startswith(OUT_OF_SCOPE)


def look(models: Mapping[str, SavedModel], cell: Cell, question: Question) -> list[Seen]:
    """Return what each view of a question shows of a cell."""
    return [look_once(models[view.model], view, cell, question) for view in question.views]


def look_once(model: SavedModel, view: View, cell: Cell, question: Question) -> Seen:
    """Return what one model says of a cell, and where it looked by one method."""
    taken = picture(cell, model.size)
    row = rows_of(model, [taken]).iloc[0]
    answered = Seen(view, model, row, "", None)
    if not answered.in_scope:
        return answered
    explained = question.target or row["class"]
    try:
        against = None if question.against is None else number_of(model, question.against)
        asked, target = Asked(model, against), number_of(model, explained)
        found = relevance(asked, taken.pixels[None], target, view.method, question.layer)
    except ExplanationError as error:
        return Seen(view, model, row, "", None, str(error))
    return Seen(view, model, row, explained, found[0])


def number_of(model: SavedModel, name: str) -> int:
    """Return the number of a class; raise `ExplanationError` if the model does not know it."""
    if name not in model.card.classes:
        raise ExplanationError(
            f"{model.card.name} knows no class '{name}'; choose one of: {', '.join(model.card.classes)}."
        )
    return model.card.classes.index(name)


def largest(seen: Sequence[Seen], together: bool) -> list[float]:
    """Return for each map the relevance that is drawn in full colour; 0 where there is no map.

    It is the largest of the map itself or, ``together``, of all maps of its method: numbers of two methods
    have no common unit, those of one method and of calibrated models have.
    """
    own = [0.0 if each.relevance is None else float(each.relevance.abs().max()) for each in seen]
    if not together:
        return own
    return [
        max(value for other, value in zip(seen, own, strict=True) if other.view.method == each.view.method)
        for each in seen
    ]
