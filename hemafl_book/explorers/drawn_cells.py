"""Simulated cells, seen through a frozen network, in the hands of hospitals that stain differently.

What hospitals train is a small head on 80 features of each cell. The networks of the chapters need far more
than the two seconds that a reader waits before one setting can be told from another.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from hemafl_book.papers.baselines import colour_statistics
from hemafl_lib import partition
from hemafl_lib.augmentation import UNCHANGED
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import ImageCohort, LabelledCohort, Provenance, TableCohort, VariantCohort, join
from hemafl_lib.models import SplitModel, activations, backbone
from hemafl_lib.partition import Site, draw_stain, restain_images
from hemafl_lib.seeds import numpy_generator

BACKBONE, FROZEN_BELOW, FEATURES = "efficientnet_lite0", "blocks.4", 80
"""The network, and the layer from which on it is replaced by a small head: its 80 input maps are averaged."""

SIZE = 64
LABORATORIES, STRANGE = 5, (5, 6, 7)
"""Laboratories among whom hospitals take turns, and the numbers of those that no hospital works with."""

HOSPITAL, OWN_TEST, FEWEST = "north", 400, 2
SPLIT_SEED, STAIN_SEED = 0, 0


@dataclass(frozen=True)
class Hospital:
    """The cells of one hospital, as row numbers int64 of the training and of the test cells."""

    name: str
    laboratory: int
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class DrawnCells:
    """Simulated cells of one smear, stained anew by every laboratory.

    Parameters
    ----------
    classes
        Names that `hemafl_lib.data.smear.simulate` knows.
    count, patients
        How many cells, of how many patients.
    test_share
        Share of the cells for testing; no patient is on both sides.
    seed
        Decides the cells.
    """

    classes: tuple[str, ...]
    count: int
    patients: int
    test_share: float
    seed: int

    @property
    def provenance(self) -> Provenance:
        """Where the cells come from."""
        return _draw(self).provenance

    def split(self) -> tuple[ImageCohort, ImageCohort]:
        """Return the training and the test cells in their first colours."""
        return _split(self)

    def features(self, stain: float, laboratory: int) -> tuple[VariantCohort, VariantCohort]:
        """Return features float32[N, 1, 80] of the training and the test cells in a laboratory's stain."""
        return _features(self, stain, laboratory if stain else 0)

    def scaled(self, stain: float, laboratory: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the same features float32[N, 80], scaled alike for everybody.

        The constants are the mean and the deviation of the training cells in their first colours.
        """
        return _scaled(self, stain, laboratory if stain else 0)

    def colours(self, stain: float, laboratory: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the `colour_statistics` float32[N, 15] of the training and the test cells in that stain."""
        return _colours(self, stain, laboratory if stain else 0)

    def deal(self, hospitals: int, alpha: float, seed: int) -> list[Hospital]:
        """Deal the classes in shares drawn from a Dirichlet distribution; a test has its hospital's mix."""
        train, _ = self.split()
        dealt = partition.dirichlet(
            row_numbers(train), sites=hospitals, alpha=alpha, seed=seed, minimum=FEWEST, validation=0, test=0
        )
        return self.hospitals(dealt, seed)

    def hospitals(self, dealt: Sequence[Site[TableCohort]], seed: int) -> list[Hospital]:
        """Return hospitals from dealt `row_numbers` of the training cells; laboratories take turns."""
        train, test = self.split()
        found = []
        for number, site in enumerate(dealt):
            rows = site.train.features[:, 0].numpy().astype(np.int64)
            own = rows_of_mix(test, train.take(rows).counts(), numpy_generator(seed, "test", site.name))
            found.append(Hospital(site.name, number % LABORATORIES, rows, own))
        return found

    def sites(self, hospitals: Sequence[Hospital], stain: float) -> list[Site[VariantCohort]]:
        """Return the features of each hospital's cells in its laboratory's stain, to be trained on."""
        found = []
        for one in hospitals:
            train, test = self.features(stain, one.laboratory)
            found.append(Site(one.name, train.take(one.train), train.take([]), test.take(one.test)))
        return found

    def tests(self, laboratories: Sequence[int], stain: float, name: str) -> VariantCohort:
        """Return every test cell in the stain of each of these laboratories."""
        return join([self.features(stain, number)[1] for number in laboratories], name)

    def setup(self) -> dict:
        """Return what decides cells and stains, as plain JSON values."""
        return {
            "classes": list(self.classes),
            "cells": self.count,
            "patients": self.patients,
            "share of test cells": self.test_share,
            "size": SIZE,
            "laboratories": LABORATORIES,
            "strange laboratories": list(STRANGE),
            "cells of a hospital's test": OWN_TEST,
            "fewest cells of a hospital": FEWEST,
            "network": f"{BACKBONE} up to {FROZEN_BELOW}",
            "smear": smear.VERSION,
            "seeds of cells, split and stains": [self.seed, SPLIT_SEED, STAIN_SEED],
        }


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


def rows_of_mix(cohort: LabelledCohort, counts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return about `OWN_TEST` row numbers int64, with the mix of classes of ``counts`` int64[C].

    Where a class has too few rows, each of them occurs about equally often.
    """
    wanted = np.rint(OWN_TEST * counts / counts.sum()).astype(int)
    labels = cohort.labels.numpy()
    of_class = [generator.permutation(np.flatnonzero(labels == label)) for label in range(len(counts))]
    return np.concatenate([np.resize(rows, number) for rows, number in zip(of_class, wanted, strict=True)])


def average_maps(cohort: ImageCohort) -> VariantCohort:
    """Return the means over places of the frozen network's feature maps."""
    maps = activations(_network(), cohort, augmentation=UNCHANGED, progress=False)
    return replace(maps, variants=maps.variants.mean(dim=(3, 4)))


# Computed once: cells, their colours, what the network makes of them


@functools.cache
def _draw(cells: DrawnCells) -> ImageCohort:
    return smear.simulate(
        cells.count,
        size=SIZE,
        classes=cells.classes,
        sites=(HOSPITAL,),
        patients=cells.patients,
        seed=cells.seed,
        masks=False,
    )


@functools.cache
def _split(cells: DrawnCells) -> tuple[ImageCohort, ImageCohort]:
    train, _, test = partition.split(_draw(cells), validation=0, test=cells.test_share, seed=SPLIT_SEED)
    return train, test


def _stained(cells: DrawnCells, stain: float, laboratory: int) -> tuple[ImageCohort, ImageCohort]:
    colours = draw_stain(stain, numpy_generator(STAIN_SEED, "laboratory", laboratory))
    train, test = (replace(part, images=restain_images(part.images, colours)) for part in _split(cells))
    return train, test


@functools.cache
def _features(cells: DrawnCells, stain: float, laboratory: int) -> tuple[VariantCohort, VariantCohort]:
    train, test = map(average_maps, _stained(cells, stain, laboratory))
    return train, test


@functools.cache
def _scaled(cells: DrawnCells, stain: float, laboratory: int) -> tuple[np.ndarray, np.ndarray]:
    first = cells.features(0.0, 0)[0].variants[:, 0].numpy()
    mean, deviation = first.mean(axis=0), first.std(axis=0)
    train, test = (
        (part.variants[:, 0].numpy() - mean) / deviation for part in cells.features(stain, laboratory)
    )
    return train, test


@functools.cache
def _colours(cells: DrawnCells, stain: float, laboratory: int) -> tuple[np.ndarray, np.ndarray]:
    train, test = (colour_statistics(part.images) for part in _stained(cells, stain, laboratory))
    return train, test


@functools.cache
def _network() -> SplitModel:
    return backbone(BACKBONE, 2, size=SIZE, trainable=FROZEN_BELOW)  # its own last layer is not used
