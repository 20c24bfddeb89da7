"""What the explorer of the first page varies: hospitals, how alike they are, and how long each trains.

The page builds all of it by hand: the cells and their 14 measurements, the linear model, the three ways of
training. Here it is again for the recording, with the same settings, and over ten seeds. A test holds its
curves to those of `hemafl_lib.federation.run`.
"""

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from hemafl_book.explorers.repetitions import BETWEEN, repeated, summarise
from hemafl_book.explorers.softmax import scores, step, with_one
from hemafl_book.explorers.sweep import Sweep
from hemafl_lib import evaluation, partition
from hemafl_lib.aggregation import weighted_mean
from hemafl_lib.data import TableCohort, smear
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.federation.by_hand import batches
from hemafl_lib.partition import Site
from hemafl_lib.seeds import initialised, torch_generator
from hemafl_lib.training import Recipe

CLASSES = ("neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil")
MEASUREMENTS, ROUNDS, SEEDS, BATCH = 14, 10, range(10), 32
CELLS, SIZE, PATIENTS, TEST_SHARE, CELL_SEED = 1500, 48, 60, 0.4, 0
HOSPITAL = "north"
SGD: dict[str, Any] = {"optimiser": "sgd", "learning_rate": 0.3, "momentum": 0, "weight_decay": 0}
ARMS = ("isolated", "federated", "centralised")

TABLE = "curves"
"""The title of the recording's table."""

CONTROLS = {"clients": (2, 3, 8), "alpha": (0.1, 0.3, 10.0), "epochs": (1, 5)}
"""The settings that are recorded, by the argument of `explore`."""


def explore(
    clients: int,
    alpha: float,
    epochs: int,
    *,
    report: Callable[[int], object] = lambda done: None,
    stop: threading.Event | None = None,
) -> pd.DataFrame:
    """Train in three ways and follow the balanced accuracy on the cells of other patients.

    Parameters
    ----------
    clients
        Number of hospitals.
    alpha
        Of the Dirichlet distribution that deals the classes: small is much label skew.
    epochs
        Local epochs in a round.
    report
        Called after every seed with the number of those that are done.
    stop
        Set it from another thread to end with `hemafl_lib.errors.Stopped`.

    Returns
    -------
    DataFrame
        One row for each ``way`` (`ARMS`) and ``round`` from 0: ``mean``, ``low`` and ``high`` over `SEEDS`,
        of which each has its own deal and its own initial model. "isolated" is a mean over the hospitals.
    """

    def once(seed: int) -> pd.DataFrame:
        return compare_ways(clients, alpha, epochs, seed).reset_index().melt("round", var_name="way")

    done = list(repeated(len(SEEDS), once, report, lambda: stop is not None and stop.is_set()))
    return summarise(pd.concat(done), ["way", "round"])


def compare_ways(clients: int, alpha: float, epochs: int, seed: int) -> pd.DataFrame:
    """Return the curves of one seed: columns `ARMS`, one row a round from 0."""
    train, _ = split_table()
    sites = partition.dirichlet(train, sites=clients, alpha=alpha, seed=seed, validation=0, test=0)
    alone = [curve([site], epochs, seed) for site in sites]
    curves = {
        "isolated": np.mean(alone, axis=0),
        "federated": curve(sites, epochs, seed),
        "centralised": in_one_place(epochs, seed),
    }
    return pd.DataFrame(curves).rename_axis("round")


@functools.cache
def in_one_place(epochs: int, seed: int) -> list[float]:
    """Return the curve of one model on all training cells, which no deal changes."""
    train, _ = split_table()
    return curve([Site("pooled", train, train.take([]), train.take([]))], epochs, seed)


def curve(sites: Sequence[Site[TableCohort]], epochs: int, seed: int) -> list[float]:
    """Return the balanced accuracy on the test cells by round of federated averaging.

    The page's model, batches and mean, written out in NumPy: nobody waits for ten seeds of PyTorch.
    """
    model = new_model(seed)
    weights = np.vstack([model.weight.detach().numpy().T, model.bias.detach().numpy()])
    seen = [judge(weights)]
    for number in range(1, ROUNDS + 1):
        replies = [{"weights": descend(weights, site, epochs, seed, number)} for site in sites]
        weights = weighted_mean(replies, [len(site.train) for site in sites])["weights"]
        seen.append(judge(weights))
    return seen


def descend(weights: np.ndarray, site: Site[TableCohort], epochs: int, seed: int, number: int) -> np.ndarray:
    """Return the weights float32[15, 5] that a hospital answers in a round; its batches are the library's."""
    inputs = with_one(site.train.features.numpy())
    wanted = np.eye(len(CLASSES), dtype=np.float32)[site.train.targets.numpy()]
    generator = torch_generator(seed, "fit", site.name, number)
    for _ in range(epochs):
        for rows in batches(len(inputs), BATCH, generator):
            batch = rows.numpy()
            weights = step(weights, inputs[batch], wanted[batch], SGD["learning_rate"])
    return weights


def judge(weights: np.ndarray) -> float:
    """Return the balanced accuracy on the test cells."""
    _, test = split_table()
    named = scores(weights, test.features.numpy()).argmax(axis=1)
    return evaluation.balanced_accuracy(test.targets.numpy(), named)


def new_model(seed: int) -> nn.Linear:
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
        "optimiser": f"SGD 0.3, batches of {BATCH}",
        "recipe": asdict(Recipe(**SGD, batch_size=BATCH)),
        "quantiles": list(BETWEEN),
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


def last(curves: pd.DataFrame) -> pd.Series:
    """Return the means after the last round by way."""
    return curves[curves["round"] == ROUNDS].set_index("way")["mean"]


SWEEP = Sweep(
    title="Hospitals alone, federated or pooled: how many, how alike, how long each trains",
    controls=CONTROLS,
    explore=explore,
    tables={TABLE: tuple(CONTROLS)},
    to_rows=lambda curves: {TABLE: curves.round(3)},
    from_rows=lambda rows: rows[TABLE].drop(columns=list(CONTROLS)),
    protocol=protocol,
    data=lambda: [cells().provenance],
    seeds=SEEDS,
)
