"""Features of a few cells, drawn from one Gaussian a class, in the place of those of simulated smears."""

import numpy as np
import torch

from hemafl_book.explorers import drawn_cells
from hemafl_book.explorers.drawn_cells import DrawnCells
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import Provenance, VariantCohort

CELLS = DrawnCells(smear.LEUKAEMIA, count=200, patients=8, test_share=0.4, seed=0)


def draw_features(monkeypatch):
    """Let every `DrawnCells` see these 120 training and 80 test cells, of which no image exists."""
    monkeypatch.setattr(
        drawn_cells, "_features", lambda cells, stain, laboratory: gaussian(stain, laboratory)
    )
    monkeypatch.setattr(drawn_cells, "_split", lambda cells: gaussian(0.0, 0))
    monkeypatch.setattr(drawn_cells, "_draw", lambda cells: gaussian(0.0, 0)[0])
    monkeypatch.setattr(drawn_cells, "_colours", lambda cells, stain, laboratory: colours(stain, laboratory))
    drawn_cells._scaled.cache_clear()


def gaussian(stain: float, laboratory: int) -> tuple[VariantCohort, VariantCohort]:
    """Return training and test cells, 80 features each, which a laboratory's stain shifts."""
    rng = np.random.default_rng(laboratory)
    centres = np.random.default_rng(9).normal(size=(4, 80))
    shift = stain * rng.normal(size=80)
    cohorts = []
    for count in (120, 80):
        labels = np.arange(count) % 4
        values = centres[labels] + 3 * np.random.default_rng(count).normal(size=(count, 80)) + shift
        cohorts.append(
            VariantCohort(
                site=np.full(count, "north"),
                patient=np.array([f"{count}-{row}" for row in range(count)]),
                provenance=Provenance("points", "drawn", "none", True, "0"),
                labels=torch.from_numpy(labels),
                classes=smear.LEUKAEMIA,
                variants=torch.from_numpy(values.astype(np.float32))[:, None],
            )
        )
    train, test = cohorts
    return train, test


def colours(stain: float, laboratory: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of these features as if they were colours."""
    train, test = (part.variants[:, 0, :15].numpy() for part in gaussian(stain, laboratory))
    return train, test
