"""Which cells to look at first: those of which the models are unsure, or over which they disagree."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from hemafl_book.clinic.explorer.cells import Cell, batch
from hemafl_lib.clinic import SavedModel, answer
from hemafl_lib.errors import ExplanationError

ORDERS: Mapping[str, str] = {
    "as given": "as they come",
    "uncertainty": "unsure first",
    "disagreement": "disagreement of the models first",
}
"""The orders, and how they are read."""


def in_order(cells: Sequence[Cell], models: Sequence[SavedModel], order: str) -> list[int]:
    """Return the places of the cells in an order of `ORDERS`; equal ones stay as they come.

    Raises `ExplanationError` if the order is unknown, or if the models tell different classes apart.
    """
    if order not in ORDERS:
        raise ExplanationError(f"order '{order}' is unknown; choose one of: {', '.join(ORDERS)}.")
    if order == "as given":
        return list(range(len(cells)))
    if len({model.card.classes for model in models}) != 1:
        raise ExplanationError(f"'{ORDERS[order]}' needs models of the same classes; choose one family.")
    said = np.stack([answer(model, batch(cells, model.size)).probabilities for model in models])
    values = uncertainty(said) if order == "uncertainty" else disagreement(said)
    return np.argsort(-values, kind="stable").tolist()


def uncertainty(said: np.ndarray) -> np.ndarray:
    """Return the entropy, float64[N] in nats, of the mean of M models' probabilities, float64[M, N, C]."""
    mean = said.mean(axis=0)
    return -(mean * np.log(np.where(mean > 0, mean, 1))).sum(axis=1)


def disagreement(said: np.ndarray) -> np.ndarray:
    """Return how far M models' probabilities, float64[M, N, C], lie apart on average, float64[N] in [0, 1].

    That is the mean total variation between two of them; one model does not disagree with itself.
    """
    apart = [np.abs(a - b).sum(axis=1) / 2 for a, b in combinations(said, 2)]
    return np.mean(apart, axis=0) if apart else np.zeros(said.shape[1])
