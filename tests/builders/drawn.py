"""Features of a few cells, drawn from one Gaussian a class, in the place of those of simulated smears."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from hemafl_book.explorers import drawn_cells, heads
from hemafl_book.explorers.drawn_cells import DrawnCells
from hemafl_lib import federation
from hemafl_lib.augmentation import UNCHANGED
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import Provenance, TableCohort, VariantCohort
from hemafl_lib.partition import Site
from hemafl_lib.training import Recipe

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


def run_of_parts(parts, rule, names: Sequence[str] = (), **further) -> federation.Run:
    """Train a head by the library as `heads.play` does; ``further`` goes to `federation.run`."""
    model = nn.Linear(80, 4)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    named = names or [f"site-{number}" for number in range(1, len(parts) + 1)]
    return federation.run(
        [site_of(name, *part) for name, part in zip(named, parts, strict=True)],
        model=model,
        aggregator=rule,
        recipe=Recipe(
            optimiser="sgd", learning_rate=heads.RATE, momentum=0.0, weight_decay=0.0, batch_size=10_000,
            local_epochs=heads.STEPS, augmentation=UNCHANGED,
        ),
        rounds=heads.ROUNDS,
        evaluate=False,
        progress=False,
        **further,
    )  # fmt: skip


def site_of(name: str, features: np.ndarray, labels: np.ndarray) -> Site[TableCohort]:
    """Return a hospital that trains on these cells."""
    names = np.full(len(labels), name)
    train = TableCohort(
        site=names,
        patient=names,
        provenance=CELLS.provenance,
        features=torch.from_numpy(features),
        feature_names=tuple(map(str, range(80))),
        label=torch.from_numpy(labels),
    )
    return Site(name, train, train.take([]), train.take([]))
