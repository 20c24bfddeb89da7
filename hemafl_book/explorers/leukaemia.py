"""Simulated leukaemia smears that a small head learns to name, in the hands of several clients.

What is trained is a head on the features of a frozen EfficientNet-Lite0. The chapter's attention CNN needs
far more than the two seconds that a reader waits before it tells one setting from another.
"""

import functools
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import nn

from hemafl_lib import partition
from hemafl_lib.augmentation import UNCHANGED
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import ImageCohort, LabelledCohort, TableCohort, VariantCohort, join
from hemafl_lib.models import SplitModel, activations, backbone
from hemafl_lib.partition import Site, draw_stain, restain_images
from hemafl_lib.seeds import initialised, numpy_generator
from hemafl_lib.training import Recipe

BACKBONE, FROZEN_BELOW = "efficientnet_lite0", "blocks.4"
"""The network, and the layer from which on it is replaced by a small head: its 80 input maps are averaged."""

SIZE, CELLS, PATIENTS, TEST_SHARE = 64, 1080, 40, 0.45
LABORATORIES, CLIENT_TEST, FEWEST = 5, 400, 2
HOSPITAL, CELL_SEED, SPLIT_SEED, STAIN_SEED = "north", 3, 0, 0
ROUNDS = 8
RECIPE = Recipe(learning_rate=0.01, batch_size=16, local_epochs=2, augmentation=UNCHANGED)
SHARED_TEST = "shared test"


def deal(clients: int, alpha: float, stain: float, seed: int) -> list[Site[VariantCohort]]:
    """Return the clients: their training cells, and test cells with their own stain and mix of classes."""
    train, _ = split_patients()
    dealt = partition.dirichlet(
        row_numbers(train), sites=clients, alpha=alpha, seed=seed, minimum=FEWEST, validation=0, test=0
    )
    sites = []
    for number, site in enumerate(dealt):
        training, test = features(stain, number % LABORATORIES)
        own = training.take(site.train.features[:, 0])
        own_mix = rows_of_mix(test, own.counts(), numpy_generator(seed, "test", site.name))
        sites.append(Site(site.name, own, own.take([]), test.take(own_mix)))
    return sites


def row_numbers(cohort: LabelledCohort) -> TableCohort:
    """Return the row numbers int64[N, 1] of ``cohort`` with its labels, to be dealt in its stead."""
    return TableCohort(
        site=cohort.site,
        patient=cohort.patient,
        provenance=cohort.provenance,
        features=torch.arange(len(cohort))[:, None],
        feature_names=("row",),
        label=cohort.labels,
    )


def rows_of_mix(cohort: VariantCohort, counts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return about `CLIENT_TEST` row numbers int64, with the mix of classes of ``counts`` int64[C].

    Where a class has too few rows, each of them occurs about equally often.
    """
    wanted = np.rint(CLIENT_TEST * counts / counts.sum()).astype(int)
    labels = cohort.labels.numpy()
    of_class = [generator.permutation(np.flatnonzero(labels == label)) for label in range(len(counts))]
    return np.concatenate([np.resize(rows, number) for rows, number in zip(of_class, wanted, strict=True)])


def join_tests(clients: int, stain: float) -> VariantCohort:
    """Return every test cell in the stain of every laboratory that a client has."""
    return join([features(stain, number)[1] for number in range(min(clients, LABORATORIES))], SHARED_TEST)


@functools.cache
def cells() -> ImageCohort:
    """Return the simulated leukaemia smears of all settings; the first call takes about ten seconds."""
    return smear.simulate(
        CELLS,
        size=SIZE,
        classes=smear.LEUKAEMIA,
        sites=(HOSPITAL,),
        patients=PATIENTS,
        seed=CELL_SEED,
        masks=False,
    )


@functools.cache
def split_patients() -> tuple[ImageCohort, ImageCohort]:
    """Return the training and the test cells; no patient is among both."""
    train, _, test = partition.split(cells(), validation=0, test=TEST_SHARE, seed=SPLIT_SEED)
    return train, test


def features(stain: float, laboratory: int) -> tuple[VariantCohort, VariantCohort]:
    """Return the features float32[N, 1, 80] of the training and the test cells in a laboratory's stain."""
    return _features(stain, laboratory if stain else 0)


@functools.cache
def _features(stain: float, laboratory: int) -> tuple[VariantCohort, VariantCohort]:
    colours = draw_stain(stain, numpy_generator(STAIN_SEED, "laboratory", laboratory))
    train, test = (
        average_maps(replace(cohort, images=restain_images(cohort.images, colours)))
        for cohort in split_patients()
    )
    return train, test


def average_maps(cohort: ImageCohort) -> VariantCohort:
    """Return the means over places of the frozen network's feature maps."""
    maps = activations(_network(), cohort, augmentation=UNCHANGED, progress=False)
    return replace(maps, variants=maps.variants.mean(dim=(3, 4)))


@functools.cache
def _network() -> SplitModel:
    return backbone(BACKBONE, len(smear.LEUKAEMIA), size=SIZE, trainable=FROZEN_BELOW)


def head(seed: int) -> nn.Module:
    """Return what the clients train: from features float32[B, 80] to logits [B, 4]."""
    with initialised(seed, "heterogeneity head"):
        return nn.Sequential(
            nn.LayerNorm(80), nn.Linear(80, 32), nn.ReLU(), nn.Linear(32, len(smear.LEUKAEMIA))
        )


def setup() -> dict:
    """Return what all explorers on these cells share, as plain JSON values."""
    return {
        "recipe": asdict(RECIPE),
        "rounds": ROUNDS,
        "size": SIZE,
        "cells": CELLS,
        "patients": PATIENTS,
        "share of test cells": TEST_SHARE,
        "laboratories": LABORATORIES,
        "cells of a client's test": CLIENT_TEST,
        "network": f"{BACKBONE} up to {FROZEN_BELOW}",
        "head": repr(head(0)),
        "smear": smear.VERSION,
        "hospital": HOSPITAL,
        "fewest cells of a client": FEWEST,
        "seeds": {"cells": CELL_SEED, "split": SPLIT_SEED, "stains": STAIN_SEED},
    }
