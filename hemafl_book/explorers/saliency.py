"""What the saliency explorer of chapter 2 shows: where three models look at four cells, by four methods.

The attention CNN is trained at one simulated hospital alone, by a federation of three, and on the cells of
all three together. Four test smears of the hospital that trained alone, one of each class, are explained.
"""

import base64
import functools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch.nn.functional as F
from torch import Tensor, nn

from hemafl_book.explorers.heterogeneity import row_numbers
from hemafl_book.results import FrozenResult, freeze
from hemafl_lib import federation, partition
from hemafl_lib.augmentation import Augmentation
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.errors import DataError
from hemafl_lib.explain import METHODS, area_share, centred_gaussian, saliency, share_inside
from hemafl_lib.models import AttentionCNN
from hemafl_lib.parallel import cores
from hemafl_lib.partition import Site
from hemafl_lib.training import Recipe, predict, score

HOSPITALS, ALONE = ("north", "south", "east"), "north"
MODELS = (f"{ALONE} alone", "federated", "centralised")
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

CONTROLS = {"cell": smear.LEUKAEMIA, "model": MODELS, "method": tuple(METHODS)}
"""The settings that `record` computes."""

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


def explanations(model: nn.Module, cells: ImageCohort, method: str) -> list[Explanation]:
    """Explain what ``model`` predicts for each cell by a key of `hemafl_lib.explain.METHODS`."""
    probabilities = predict(model, cells).softmax(dim=1)
    predicted = probabilities.argmax(dim=1)
    maps = saliency(model, cells.images, predicted, method)
    nucleus, cell = share_inside(maps, cells.masks == 2), share_inside(maps, cells.masks > 0)
    return [
        Explanation(
            relevance=relevance.numpy().astype(np.float64),
            predicted=cells.classes[predicted[i]],
            probability=float(probabilities[i, predicted[i]]),
            in_nucleus=float(nucleus[i]),
            in_cell=float(cell[i]),
        )
        for i, relevance in enumerate(shown(maps))
    ]


def shown(maps: Tensor) -> Tensor:
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
    return simulated(CELLS)


def simulated(count: int) -> ImageCohort:
    """Return the first ``count`` of the smears: a smaller cohort is the beginning of a larger one."""
    return smear.simulate(
        count, size=SIZE, classes=smear.LEUKAEMIA, sites=HOSPITALS, patients=PATIENTS, seed=SEED
    )


def sites() -> list[Site]:
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
    settings = {
        "model": AttentionCNN(len(smear.LEUKAEMIA), norm="group"),
        "recipe": RECIPE,
        "rounds": ROUNDS,
        "evaluate": False,
        "progress": False,
    }
    runs = (
        federation.run(alone, **settings),
        federation.run(hospitals, **settings),
        federation.centralised(hospitals, **settings),
    )
    return {name: run.model for name, run in zip(MODELS, runs, strict=True)}


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


def record(out: Path, say: Callable[[str], object]) -> None:
    """Train the models, explain the cells and write everything to ``out`` as a frozen result."""
    began = time.monotonic()
    rows = explained_rows()
    cells = cohort().take(rows)
    maps = [
        {"cell": cell, "model": name, "method": method, **packed(found)}
        for name, model in networks().items()
        for method in METHODS
        for cell, found in zip(smear.LEUKAEMIA, explanations(model, cells, method), strict=True)
    ]
    freeze(
        out,
        protocol=protocol(),
        data=[cohort().provenance],
        seeds=[0],
        seconds=time.monotonic() - began,
        device=f"{cores()} CPU cores",
        tables={
            MAPS: pd.DataFrame(maps),
            PLACES: places(cells).assign(row=rows),
            ACCURACIES: accuracies().round(3),
        },
    )
    say(f"{len(maps)} maps are in {out}.")


def places(cells: ImageCohort) -> pd.DataFrame:
    """Return what masks alone give away of each cell: shares of the area, and of a centred Gaussian."""
    gaussian = centred_gaussian(len(cells), cells.size)
    inside = {"nucleus": cells.masks == 2, "cell": cells.masks > 0}
    shares = {f"area of {name}": area_share(mask) for name, mask in inside.items()}
    shares |= {f"Gaussian in {name}": share_inside(gaussian, mask) for name, mask in inside.items()}
    table = pd.DataFrame({name: share.double().numpy().round(3) for name, share in shares.items()})
    return table.assign(cell=[cells.classes[label] for label in cells.labels])


def packed(found: Explanation) -> dict:
    """Return one row of a recording; the map is the base64 text of uint8[h, w]."""
    levels = np.rint(LEVELS * found.relevance).astype(np.uint8)
    return {
        "map": base64.b64encode(levels.tobytes()).decode(),
        "height": levels.shape[0],
        "width": levels.shape[1],
        "predicted": found.predicted,
        "probability": round(found.probability, 3),
        "in nucleus": round(found.in_nucleus, 3),
        "in cell": round(found.in_cell, 3),
    }


def recorded(result: FrozenResult) -> dict[tuple[str, str, str], Explanation]:
    """Return the explanations of a recording by cell, model and method, rounded as they are stored."""
    rows = result.table(MAPS).to_dict("records")
    return {(row["cell"], row["model"], row["method"]): _unpacked(row) for row in rows}


def recorded_cells(result: FrozenResult) -> ImageCohort:
    """Draw the four cells of a recording again, in the order of the classes.

    Raises `DataError` if the smear that is drawn now is not the one that was explained.
    """
    if result.protocol["smear"] != smear.VERSION:
        raise DataError("the recording explains cells of another version of the smear; record it again.")
    rows = result.table(PLACES)["row"].to_list()
    return simulated(max(rows) + 1).take(rows)


def _unpacked(row: dict) -> Explanation:
    levels = np.frombuffer(base64.b64decode(row["map"]), np.uint8).reshape(row["height"], row["width"])
    return Explanation(
        levels / LEVELS, row["predicted"], row["probability"], row["in nucleus"], row["in cell"]
    )
