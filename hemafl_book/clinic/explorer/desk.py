"""What lies on the reader's desk: models, cells, and the question that is asked. Nothing here knows a widget.

A `Desk` is a value; whatever the reader does makes another one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hemafl_book.clinic.explorer.cells import Cell, collections, drawn, real
from hemafl_book.clinic.explorer.looking import Question, Seen, View, look
from hemafl_book.clinic.explorer.models import name_of, shipped
from hemafl_book.clinic.explorer.sorting import in_order
from hemafl_lib.clinic import SavedModel, load
from hemafl_lib.errors import ModelError

DRAWN_CELLS = "drawn cells"
"""The source of cells that is always there."""


@dataclass(frozen=True, eq=False)
class Desk:
    """Models by name, the family whose cells are shown, the open cells in order, and the question.

    ``place`` is that of the cell that is looked at; ``examples`` are cells of known classes, to hold it
    against.
    """

    models: Mapping[str, SavedModel]
    family: str
    cells: tuple[Cell, ...]
    question: Question
    place: int = 0
    examples: tuple[Cell, ...] = ()

    @property
    def cell(self) -> Cell:
        """The cell that is looked at."""
        return self.cells[self.place]

    @property
    def asked(self) -> dict[str, SavedModel]:
        """The models of the question, each once."""
        return {view.model: self.models[view.model] for view in self.question.views}

    @property
    def classes(self) -> list[str]:
        """The classes that the models of the question know, in their order."""
        return list(dict.fromkeys(name for model in self.asked.values() for name in model.card.classes))

    @property
    def families(self) -> list[str]:
        """The families of the models, in order."""
        return list(dict.fromkeys(model.card.family for model in self.models.values()))

    @property
    def sources(self) -> list[str]:
        """Where cells of the family can be taken from."""
        return [DRAWN_CELLS, *collections(self.family)]

    def look(self) -> list[Seen]:
        """Return what the models say of the cell, and where they looked."""
        return look(self.models, self.cell, self.question)

    def ask(self, question: Question) -> "Desk":
        """Return the desk with another question."""
        return replace(self, question=question)

    def turn_to(self, place: int) -> "Desk":
        """Return the desk with the cell of that place; before the first comes the last."""
        return replace(self, place=place % len(self.cells))

    def show(self, cells: Sequence[Cell]) -> "Desk":
        """Return the desk with other cells."""
        return replace(self, cells=tuple(cells), place=0)

    def open(self, source: str) -> "Desk":
        """Return the desk with the cells of one of its `sources`."""
        cells = (
            drawn(self.family, arms(self.models, self.family))
            if source == DRAWN_CELLS
            else real(self.family, source)
        )
        return replace(self.show(cells), examples=tuple(cells))

    def sort(self, order: str) -> "Desk":
        """Return the desk with its cells in an order of `ORDERS`, the first of them looked at."""
        places = in_order(self.cells, list(self.asked.values()), order)
        return self.show([self.cells[place] for place in places])

    def change_family(self, family: str) -> "Desk":
        """Return the desk with the models of a family, its drawn cells, and the first question."""
        return replace(self, family=family, question=first_question(self.models, family)).open(DRAWN_CELLS)

    def add_model(self, folder: Path) -> "Desk":
        """Return the desk with a saved model more, as the first that is asked.

        Raises `ModelError` if the folder holds no saved model, or another model has its name.
        """
        model = load(folder)
        name = name_of(model)
        if name in self.models:
            raise ModelError(f"a model '{name}' is open already; change 'family' or 'arm' in its card.")
        views = (View(name), *self.question.views[1:])
        question = replace(self.question, views=views, target=None, against=None, layer=None)
        return replace(self, models={**self.models, name: model}, question=question)


def first_desk() -> Desk:
    """Return the desk as the reader finds it: the book's first family, and a cell that it was drawn for."""
    models = shipped()
    family = next(iter(models.values())).card.family
    return Desk(models, family, (), first_question(models, family)).open(DRAWN_CELLS)


def arms(models: Mapping[str, SavedModel], family: str) -> list[SavedModel]:
    """Return the models of a family."""
    return [model for model in models.values() if model.card.family == family]


def first_question(models: Mapping[str, SavedModel], family: str) -> Question:
    """Return what is asked first: where one hospital's, the federated and the centralised model looked."""
    return Question(tuple(View(name_of(model)) for model in arms(models, family)[:3]))
