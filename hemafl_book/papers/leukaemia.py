"""The images of leukaemia that two chapters study, and the pretrained network that reads them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hemafl_lib import data
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.training import Recipe

HOSPITAL = "taleqani"
"""The public cohort: 3,256 images of one hospital, four classes."""

BACKBONE = "efficientnet_lite0"

SHARES = np.array([504, 985, 963, 804]) / 3256
"""Shares of the hospital's classes."""


def recipe(**changes: Any) -> Recipe:
    """Return how a client trains the last layer of a pretrained network; the paper says nothing about it."""
    ours = Recipe(optimiser="adamw", learning_rate=1e-2, schedule="cosine", batch_size=64, local_epochs=5)
    return replace(ours, **changes)


def real_images(name: str | None, size: int, root: Path | None) -> ImageCohort:
    """Return the images of a cohort, by default the hospital's, of classes that it has images of."""
    cohort = data.load_images(name or HOSPITAL, size=size, root=root)
    return cohort if name is None else without_empty_classes(cohort)


def without_empty_classes(cohort: ImageCohort) -> ImageCohort:
    """Return the cohort without classes that have no image."""
    held = np.flatnonzero(cohort.counts())
    labels = torch.from_numpy(np.searchsorted(held, cohort.labels.numpy()))
    return replace(cohort, labels=labels, classes=tuple(cohort.classes[index] for index in held))


def drawn_images(count: int, size: int, patients: int, balance: np.ndarray | None = None) -> ImageCohort:
    """Return simulated images of one hospital, of patients that are known."""
    return smear.simulate(
        count,
        size=size,
        classes=smear.LEUKAEMIA,
        sites=("north",),
        patients=patients,
        balance=balance,
        masks=False,
    )
