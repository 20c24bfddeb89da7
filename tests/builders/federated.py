"""Small sites and models that several federation tests share."""

import numpy as np
import torch
from torch import nn

from hemafl_lib.data.cohort import ImageCohort, Provenance, TableCohort
from hemafl_lib.partition import Site
from hemafl_lib.seeds import initialised, torch_generator

PROVENANCE = Provenance(name="test", source="Drawn for a test.", licence="none", simulated=True, checksum="0")


def table(rows: int, seed: int, features: int = 6) -> TableCohort:
    """Two classes that a linear model can tell apart."""
    generator = torch_generator(seed, "table")
    label = torch.randint(2, (rows,), generator=generator)
    values = torch.randn(rows, features, generator=generator) + 2.0 * label[:, None]
    return TableCohort(
        features=values,
        feature_names=tuple(f"x{k}" for k in range(features)),
        label=label,
        site=np.full(rows, "a"),
        patient=np.arange(rows).astype(str),
        provenance=PROVENANCE,
    )


def pictures(rows: int, seed: int, size: int = 16) -> ImageCohort:
    """Noise that is brighter in class 1."""
    generator = torch_generator(seed, "pictures")
    labels = torch.randint(2, (rows,), generator=generator)
    images = (
        torch.randint(0, 150, (rows, 3, size, size), generator=generator) + 60 * labels[:, None, None, None]
    )
    return ImageCohort(
        images=images.to(torch.uint8),
        labels=labels,
        classes=("dark", "bright"),
        site=np.full(rows, "a"),
        patient=np.arange(rows).astype(str),
        provenance=PROVENANCE,
    )


def sites(count: int = 3, make=table, rows: int = 24) -> list[Site]:
    """Sites of unequal sizes."""
    return [
        Site(
            name=f"site {k}",
            train=make(rows + 5 * k, k),
            validation=make(10, 100 + k),
            test=make(10, 200 + k),
        )
        for k in range(count)
    ]


def linear(seed: int = 0) -> nn.Module:
    """Logistic regression with batch norm, so that buffers travel too."""
    with initialised(seed):
        return nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2))


def small_cnn(seed: int = 0) -> nn.Module:
    """A convolution, batch norm and a head."""
    with initialised(seed):
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 2),
        )


def same_parameters(left: nn.Module, right: nn.Module) -> bool:
    """Whether two models agree to the bit."""
    a, b = left.state_dict(), right.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
