"""Sample cells of made-up hospitals, for the families of models that the book ships."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from hemafl_lib.clinic import SavedModel, answer
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import ImageCohort

WHITE_CELLS, FIELDS = "white cells", "leukaemia fields"
"""The families of the book, as their cards name them."""

CELLS = (
    "segmented_neutrophil",
    "eosinophil",
    "basophil",
    "lymphocyte",
    "monocyte",
    "myelocyte",
    "erythroblast",
    "platelet",
)
"""Whose drawings are samples of white cells."""

SAMPLES: Mapping[str, tuple[Sequence[str], int]] = {WHITE_CELLS: (CELLS, 96), FIELDS: (smear.LEUKAEMIA, 64)}
"""For each family the classes that are drawn, and the pixels a side."""

HOSPITALS, SEED = ("north", "south", "east"), 11
"""Where samples come from, and the seed of all of them."""


def draw(classes: Sequence[str], side: int, each: int, *, masks: bool = False) -> ImageCohort:
    """Return ``each`` cells of every class, one class after the other in turn."""
    return smear.simulate(
        each * len(classes), size=side, classes=classes, sites=HOSPITALS, seed=SEED, masks=masks
    )


def silences(models: Sequence[SavedModel], count: int, read: Callable[[int], Tensor]) -> np.ndarray:
    """Return how many of the models call each of ``count`` cells out of scope, int64[N].

    ``read`` gives all cells as a model of so many pixels a side reads them, uint8[N, 3, S, S].
    """
    silent = np.zeros(count, np.int64)
    for model in models:
        silent += answer(model, read(model.size)).out_of_scope
    return silent


def in_words(kind: str) -> str:
    """Return a class as it is read."""
    return kind.replace("_", " ")
