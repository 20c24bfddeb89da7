"""What the saliency explorer of chapter 2 shows: where three models look at four cells, by four methods.

The attention CNN is trained at one simulated hospital alone, by a federation of three, and on the cells of
all three together. Four test smears of the hospital that trained alone, one of each class, are explained.
"""

import base64
import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch.nn.functional as F
from torch import Tensor, nn

from hemafl_book.explorers.drawn_cells import row_numbers
from hemafl_book.explorers.sweep import Sweep
from hemafl_book.results import FrozenResult
from hemafl_lib import federation, partition
from hemafl_lib.augmentation import Augmentation
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.errors import DataError
from hemafl_lib.explain import METHODS, area_share, centred_gaussian, saliency, share_inside
from hemafl_lib.models import AttentionCNN
from hemafl_lib.partition import Site
from hemafl_lib.training import Recipe, predict, score

HOSPITALS, ALONE = ("north", "south", "east"), "north"
ARMS = (f"{ALONE} alone", "federated", "centralised")
SIZE, CELLS, PATIENTS, SEED, TEST_SHARE = 64, 900, 24, 4, 0.25
ROUNDS = 12
RECIPE = Recipe(
    learning_rate=8e-3,
    batch_size=16,
    local_epochs=3,
    schedule="cosine",
    augmentation=Augmentation(flips=True),
)
GRID = 32
"""Maps on a finer grid are averaged to this one before they are stored."""

LEVELS = 255
"""A stored map's places have whole numbers from 0 to this."""

CONTROLS = {"cell": smear.LEUKAEMIA, "model": ARMS, "method": tuple(METHODS)}
"""The settings that are recorded, by the argument of `explore`."""

MAPS, PLACES, ACCURACIES = "maps", "cells", "accuracies"
"""The titles of a recording's tables."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a setting shows.

    Parameters
    ----------
    relevance
        float64[h, w] in 0..1: the positive relevance for the predicted class, the largest value 1 (or all 0).
    predicted, probability
        What the model says, and its softmax.
    in_nucleus, in_cell
        Shares of the positive relevance, before averaging, inside all nuclei and all white cells in view; NaN
        without positive relevance.
    """

    relevance: np.ndarray
    predicted: str
    probability: float
    in_nucleus: float
    in_cell: float


def explore(cell: str, model: str, method: str) -> Explanation:
    """Explain what a model of `networks` says of one of the four cells, by a key of `explain.METHODS`."""
    return _explanations(model, method)[smear.LEUKAEMIA.index(cell)]


@functools.cache
def _explanations(model: str, method: str) -> list[Explanation]:
    return explain_cells(networks()[model], cohort().take(explained_rows()), method)


def explain_cells(model: nn.Module, cells: ImageCohort, method: str) -> list[Explanation]:
    """Explain what ``model`` predicts for each cell by a key of `hemafl_lib.explain.METHODS`."""
    probabilities = predict(model, cells).softmax(dim=1)
    predicted = probabilities.argmax(dim=1)
    maps = saliency(model, cells.images, predicted, method)
    nucleus, cell = (share_inside(maps, inside) for inside in parts_of(cells).values())
    return [
        Explanation(
            relevance=relevance.numpy().astype(np.float64),
            predicted=cells.classes[predicted[i]],
            probability=float(probabilities[i, predicted[i]]),
            in_nucleus=float(nucleus[i]),
            in_cell=float(cell[i]),
        )
        for i, relevance in enumerate(scale(maps))
    ]


def parts_of(cells: ImageCohort) -> dict[str, Tensor]:
    """Return where all nuclei and all white cells lie, each bool[N, h, w]."""
    if cells.masks is None:
        raise DataError("the cells have no masks; draw them with masks=True.")
    return {"nucleus": cells.masks == 2, "cell": cells.masks > 0}


def scale(maps: Tensor) -> Tensor:
    """Return the positive part of maps float32[N, h, w], at most `GRID` wide, each divided by its largest."""
    positive = maps.clamp_min(0)
    if positive.shape[-1] > GRID:
        positive = F.adaptive_avg_pool2d(positive, GRID)
    largest = positive.amax(dim=(1, 2), keepdim=True)
    return positive / largest.where(largest > 0, 1)


# Cells and models


@functools.cache
def cohort() -> ImageCohort:
    """Return the simulated leukaemia smears of the three hospitals."""
    return simulate(CELLS)


def simulate(count: int) -> ImageCohort:
    """Return the first ``count`` of the smears: a smaller cohort is the beginning of a larger one."""
    return smear.simulate(
        count, size=SIZE, classes=smear.LEUKAEMIA, sites=HOSPITALS, patients=PATIENTS, seed=SEED
    )


def sites() -> list[Site[ImageCohort]]:
    """Return the three hospitals; no patient is on both sides of the split."""
    return partition.natural(cohort(), validation=0, test=TEST_SHARE, seed=0)


def explained_rows() -> list[int]:
    """Return the first test row of each class at the hospital that trained alone."""
    rows = partition.natural(row_numbers(cohort()), validation=0, test=TEST_SHARE, seed=0)
    test = next(site.test for site in rows if site.name == ALONE)
    return [int(test.features[test.label == label].min()) for label in range(len(smear.LEUKAEMIA))]


@functools.cache
def networks() -> dict[str, nn.Module]:
    """Return the trained models by name; the first call takes a minute or two."""
    hospitals = sites()
    alone = [site for site in hospitals if site.name == ALONE]
    how: dict[str, Any] = {
        "model": AttentionCNN(len(smear.LEUKAEMIA), norm="group"),
        "recipe": RECIPE,
        "rounds": ROUNDS,
        "evaluate": False,
        "progress": False,
    }
    runs = (
        federation.run(alone, **how),
        federation.run(hospitals, **how),
        federation.centralised(hospitals, **how),
    )
    return {name: run.model for name, run in zip(ARMS, runs, strict=True)}


def accuracies() -> pd.DataFrame:
    """Return the accuracy of each model on each hospital's test smears, one row a model."""
    rows = [
        {"model": name, **{site.name: score(model, site.test, RECIPE)["accuracy"] for site in sites()}}
        for name, model in networks().items()
    ]
    return pd.DataFrame(rows)


# The recording


def protocol() -> dict:
    """Return what decides the recorded maps, as plain JSON values."""
    return {
        "controls": {name: list(values) for name, values in CONTROLS.items()},
        "recipe": asdict(RECIPE),
        "rounds": ROUNDS,
        "hospitals": list(HOSPITALS),
        "size": SIZE,
        "cells": CELLS,
        "patients": PATIENTS,
        "seed of the cells": SEED,
        "share of test cells": TEST_SHARE,
        "largest grid": GRID,
        "network": "attention_cnn, group norm",
        "smear": smear.VERSION,
    }


def places(cells: ImageCohort) -> pd.DataFrame:
    """Return what masks alone give away of each cell: shares of the area, and of a centred Gaussian."""
    gaussian = centred_gaussian(len(cells), cells.size)
    inside = parts_of(cells)
    shares = {f"area of {name}": area_share(mask) for name, mask in inside.items()}
    shares |= {f"Gaussian in {name}": share_inside(gaussian, mask) for name, mask in inside.items()}
    table = pd.DataFrame({name: share.double().numpy().round(3) for name, share in shares.items()})
    return table.assign(cell=[cells.classes[label] for label in cells.labels])


def to_rows(found: Explanation) -> dict[str, pd.DataFrame]:
    """Return one row of a recording; the map is the base64 text of uint8[h, w]."""
    levels = np.rint(LEVELS * found.relevance).astype(np.uint8)
    row = {
        "map": base64.b64encode(levels.tobytes()).decode(),
        "height": levels.shape[0],
        "width": levels.shape[1],
        "predicted": found.predicted,
        "probability": round(found.probability, 3),
        "in nucleus": round(found.in_nucleus, 3),
        "in cell": round(found.in_cell, 3),
    }
    return {MAPS: pd.DataFrame([row])}


def from_rows(rows: Mapping[str, pd.DataFrame]) -> Explanation:
    """Return the explanation that a row holds, rounded as it is stored."""
    (row,) = rows[MAPS].to_dict("records")
    levels = np.frombuffer(base64.b64decode(row["map"]), np.uint8).reshape(row["height"], row["width"])
    return Explanation(
        levels / LEVELS, row["predicted"], row["probability"], row["in nucleus"], row["in cell"]
    )


def extra_tables() -> dict[str, pd.DataFrame]:
    """Return what a recording tells of the four cells and of the models."""
    rows = explained_rows()
    return {PLACES: places(cohort().take(rows)).assign(row=rows), ACCURACIES: accuracies().round(3)}


def draw_recorded_cells(result: FrozenResult) -> ImageCohort:
    """Draw the four cells of a recording again, in the order of the classes.

    Raises `DataError` if the smear that is drawn now is not the one that was explained.
    """
    if result.protocol["smear"] != smear.VERSION:
        raise DataError("the recording explains cells of another version of the smear; record it again.")
    rows = result.table(PLACES)["row"].to_list()
    return simulate(max(rows) + 1).take(rows)


SWEEP = Sweep(
    title="Where three models look at four cells, by four methods",
    controls=CONTROLS,
    explore=explore,
    tables={MAPS: tuple(CONTROLS)},
    to_rows=to_rows,
    from_rows=from_rows,
    protocol=protocol,
    data=lambda: [cohort().provenance],
    extra=extra_tables,
)
