"""What the explorer of the first page varies: hospitals, how alike they are, and how long each trains.

The page builds all of it by hand: the cells and their 14 measurements, the linear model, the three ways of
training. Here it is again for the recording, with the same settings.
"""

import functools
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from hemafl_book.explorers.sweep import Sweep
from hemafl_lib import federation, partition
from hemafl_lib.data import TableCohort, smear
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.seeds import initialised
from hemafl_lib.training import Recipe

CLASSES = ("neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil")
MEASUREMENTS, ROUNDS, SEEDS = 14, 10, range(3)
CELLS, SIZE, PATIENTS, TEST_SHARE, CELL_SEED = 1500, 48, 60, 0.4, 0
HOSPITAL = "north"
SGD: dict[str, Any] = {"optimiser": "sgd", "learning_rate": 0.3, "momentum": 0, "weight_decay": 0}
ARMS = ("isolated", "federated", "centralised")

TABLE = "curves"
"""The title of the recording's table."""

CONTROLS = {"clients": (2, 3, 5, 8), "alpha": (0.1, 0.3, 1.0, 10.0), "epochs": (1, 5, 20)}
"""The settings that are recorded, by the argument of `explore`."""


def explore(clients: int, alpha: float, epochs: int) -> pd.DataFrame:
    """Train in three ways and follow the balanced accuracy on the cells of other patients.

    Parameters
    ----------
    clients
        Number of hospitals.
    alpha
        Of the Dirichlet distribution that deals the classes: small is much label skew.
    epochs
        Local epochs in a round.

    Returns
    -------
    DataFrame
        Columns `ARMS`, one row a round from 0. Means over `SEEDS`: each has its own deal and its own
        initial model. "isolated" is also a mean over the hospitals.
    """
    curves = [compare_ways(clients, alpha, epochs, seed) for seed in SEEDS]
    return sum(curves[1:], curves[0]) / len(curves)


def compare_ways(clients: int, alpha: float, epochs: int, seed: int) -> pd.DataFrame:
    """Return the curves of `explore` for one seed."""
    train, test = split_table()
    sites = partition.dirichlet(train, sites=clients, alpha=alpha, seed=seed, validation=0, test=0)
    how: dict[str, Any] = {
        "model": new_model(seed),
        "recipe": Recipe(**SGD, local_epochs=epochs),
        "rounds": ROUNDS,
        "seed": seed,
        "evaluate": False,
        "monitor": {"test": test},
        "progress": False,
    }
    alone = [curve(run) for run in federation.isolated(sites, **how).values()]
    return pd.DataFrame(
        {
            "isolated": sum(alone[1:], alone[0]) / clients,
            "federated": curve(federation.run(sites, **how)),
            "centralised": curve(federation.centralised(sites, **how)),
        }
    )


def curve(run: federation.Run) -> pd.Series:
    """Return the balanced accuracy on the test cells by round."""
    return run.curve("balanced-accuracy", "monitor")["test"]


def new_model(seed: int) -> nn.Module:
    """Return the model: 14 measurements in, one score a class out."""
    with initialised(seed):
        return nn.Linear(MEASUREMENTS, len(CLASSES))


@functools.cache
def cells() -> ImageCohort:
    """Return the simulated cells of one hospital, with masks."""
    return smear.simulate(
        CELLS, size=SIZE, classes=CLASSES, sites=[HOSPITAL], patients=PATIENTS, seed=CELL_SEED
    )


@functools.cache
def split_table() -> tuple[TableCohort, TableCohort]:
    """Return the measured training and test cells; no patient is among both."""
    drawn = cells()
    measured = torch.cat([measure(drawn, part) for part in (1, 2)], dim=1)
    table = TableCohort(
        features=4 * (measured - 0.5),
        feature_names=tuple(f"x{k}" for k in range(MEASUREMENTS)),
        label=drawn.labels,
        site=drawn.site,
        patient=drawn.patient,
        provenance=drawn.provenance,
    )
    train, _, test = partition.split(table, validation=0, test=TEST_SHARE, by="patient", seed=CELL_SEED)
    return train, test


def measure(cohort: ImageCohort, part: int) -> Tensor:
    """Return area, mean colour and spread of colour of one part of each cell, float32[N, 7]."""
    inside = torch.as_tensor(cohort.masks == part)[:, None].float()
    light, pixels = cohort.images.float() / 255, inside.sum((2, 3)).clamp_min(1)
    mean = (light * inside).sum((2, 3)) / pixels
    variance = ((light - mean[:, :, None, None]) ** 2 * inside).sum((2, 3)) / pixels
    return torch.cat([inside.mean((2, 3)), mean, variance.sqrt()], dim=1)


def protocol() -> dict:
    """Return what decides the recorded curves, as plain JSON values."""
    return {
        "model": f"linear, {MEASUREMENTS} measurements, {len(CLASSES)} classes",
        "rounds": ROUNDS,
        "optimiser": "SGD 0.3, batches of 32",
        "recipe": asdict(Recipe(**SGD)),
        "controls": {name: list(values) for name, values in CONTROLS.items()},
        "classes": list(CLASSES),
        "hospital": HOSPITAL,
        "cells": CELLS,
        "size": SIZE,
        "patients": PATIENTS,
        "share of test cells": TEST_SHARE,
        "seed of the cells and of the split": CELL_SEED,
        "smear": smear.VERSION,
    }


def to_rows(curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of a recording, one a round, rounded to thousandths."""
    return {TABLE: curves.reset_index().round(3)}


def from_rows(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the curves that these rows hold."""
    return rows[TABLE].set_index("round")[list(ARMS)]


SWEEP = Sweep(
    title="Hospitals alone, federated or pooled: how many, how alike, how long each trains",
    controls=CONTROLS,
    explore=explore,
    tables={TABLE: tuple(CONTROLS)},
    to_rows=to_rows,
    from_rows=from_rows,
    protocol=protocol,
    data=lambda: [cells().provenance],
    seeds=SEEDS,
)
