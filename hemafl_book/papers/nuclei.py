"""Does a network look at the nucleus? Its maps inside drawn nuclei, beside a map that knows no network.

A federation of two hospitals whose cells have masks trains the network: the two sources of
segmentation_WBC (Zheng et al. 2018), or two simulated hospitals. Its answers on their test cells are
explained by every method.
"""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from hemafl_book.papers.where import Where
from hemafl_lib import data, federation, partition
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.errors import DataError
from hemafl_lib.evaluation import accuracy
from hemafl_lib.explain import METHODS, centred_gaussian, saliency, share_inside
from hemafl_lib.models import AttentionCNN
from hemafl_lib.training import Recipe, predict

SEED = 0
CELLS = 400
"""Number of cells where they are simulated."""


def masked_cells(source: str, size: int, root: Path | None = None) -> ImageCohort:
    """Return white cells of two hospitals with masks, ``source`` "real" or "smear"."""
    if source == "real":
        parts = [
            data.harmonise(data.load_images(name, size=size, root=root), "four")
            for name in ("tecom", "cellavision")
        ]
        return data.join(parts, "cells with drawn nuclei")
    return smear.simulate(CELLS, size=size, sites=("north", "south"))


def table(cells: ImageCohort, recipe: Recipe, rounds: int, where: Where, *, seed: int = SEED) -> pd.DataFrame:
    """Train the attention CNN over the two hospitals of ``cells``; return what its maps hold.

    One row a method: ``nucleus`` and ``cell`` are the shares of positive relevance for the class that the
    network names inside the masks, means over the test cells. ``centred Gaussian`` and ``area`` are rows
    for comparison. ``accuracy`` is the network's on the ``cells`` test cells.
    """
    sites = partition.natural(cells, validation=0, test=0.25, seed=seed)
    run = federation.run(
        sites,
        model=AttentionCNN(len(cells.classes)),
        recipe=recipe,
        rounds=rounds,
        seed=seed,
        evaluate=False,
        progress=False,
    )
    test = federation.pooled(sites).test
    answer = predict(run.model, test).argmax(dim=1)
    maps = {method: saliency(run.model, test.images, answer, method) for method in METHODS}
    size = test.images.shape[-1]
    maps |= {"centred Gaussian": centred_gaussian(len(test), size), "area": torch.ones(len(test), size, size)}
    shares = pd.DataFrame({name: shares_inside(relevance, test) for name, relevance in maps.items()}).T
    right = accuracy(test.labels.numpy(), answer.numpy())
    return shares.rename_axis("map").reset_index().assign(cells=len(test), accuracy=right)


def shares_inside(maps: Tensor, cells: ImageCohort) -> dict[str, float]:
    """Return the mean shares of positive relevance in nuclei and in cells; maps without any are left out.

    Raises `DataError` if nobody drew the cells' masks.
    """
    masks = cells.masks
    if masks is None:
        raise DataError(f"'{cells.provenance.name}' has no masks; take cells that have.")
    inside = {"nucleus": masks == 2, "cell": masks > 0}
    return {part: float(share_inside(maps, mask).nanmean()) for part, mask in inside.items()}
