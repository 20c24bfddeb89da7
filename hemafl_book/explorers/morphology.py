"""What the explorer of chapter 1 varies: hospitals, their stains, the aggregator, and one that mislabels."""

import functools
from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np
import pandas as pd

from hemafl_book.explorers.corruption import mislabel
from hemafl_book.explorers.sweep import Sweep
from hemafl_book.papers.blood_morphology import BACKBONE, recipe
from hemafl_lib import federation, partition
from hemafl_lib.aggregation import by_name
from hemafl_lib.augmentation import UNCHANGED
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import VariantCohort
from hemafl_lib.models import SplitModel, activations, backbone, with_norm

HOSPITALS = ("north", "south", "east", "harbour", "west")
UNSEEN = "unseen"
CHOICES = {
    **{name: by_name(name) for name in ("FedAvg", "FedMedian", "Krum")},
    "FedOpt": by_name("FedAdam", learning_rate=0.01),  # the paper's word: Adam as the server's optimiser
}
"""The aggregators to choose from, by what the page calls them."""

TABLE = "curves"
"""The title of the recording's table."""

SIZE, CELLS, ROUNDS, LOCAL_EPOCHS = 64, 100, 4, 3

CONTROLS = {
    "hospitals": (2, 3, 5),
    "stain": (0.0, 0.5, 1.0),
    "aggregator": tuple(CHOICES),
    "mislabelled": (0, 1),
}
"""The settings that are recorded, by the argument of `explore`."""


def protocol() -> dict:
    """Return what decides the recorded curves, as plain JSON values."""
    return {
        "controls": {name: list(values) for name, values in CONTROLS.items()},
        "aggregators": {name: repr(aggregator) for name, aggregator in CHOICES.items()},
        "recipe": asdict(recipe(local_epochs=LOCAL_EPOCHS)),
        "rounds": ROUNDS,
        "size": SIZE,
        "cells of a hospital": CELLS,
        "network": BACKBONE,
        "smear": smear.VERSION,
    }


def explore(hospitals: int, stain: float, aggregator: str, mislabelled: int) -> pd.DataFrame:
    """Return balanced accuracies by round, for one setting of the explorer.

    Parameters
    ----------
    hospitals
        Number of clients, 1 to 5; each has 100 simulated cells.
    stain
        How far the hospitals' stains and scanners differ: 0 all like the first, 1 each its own.
    aggregator
        A key of `CHOICES`.
    mislabelled
        Number of clients (from the first) that call every class by the name of the next.

    Returns
    -------
    DataFrame
        Columns "unseen hospital", "worst client" and "mean of clients"; one row per round from 0. The
        clients' test cells carry the right labels.
    """
    network, cohort = _network(), _activations(stain)
    rows = np.flatnonzero(np.isin(cohort.site, HOSPITALS[:hospitals]))
    honest = partition.natural(cohort.take(rows), seed=0)
    sites = [mislabel(site) if k < mislabelled else site for k, site in enumerate(honest)]
    monitor = {UNSEEN: cohort.of_site(UNSEEN), **{site.name: site.test for site in honest}}
    run = federation.run(
        sites,
        model=with_norm(network.suffix, "group"),
        aggregator=CHOICES[aggregator],
        recipe=recipe(local_epochs=LOCAL_EPOCHS),
        rounds=ROUNDS,
        evaluate=False,
        monitor=monitor,
        progress=False,
    )
    curve = run.curve("balanced-accuracy", "monitor")
    clients = curve[[site.name for site in honest]]
    return pd.DataFrame(
        {
            "unseen hospital": curve[UNSEEN],
            "worst client": clients.min(axis=1),
            "mean of clients": clients.mean(axis=1),
        }
    )


@functools.cache
def _network() -> SplitModel:
    return backbone(BACKBONE, len(smear.FOUR), size=SIZE)


@functools.cache
def _activations(stain: float) -> VariantCohort:
    first = smear.SITE_STYLES[HOSPITALS[0]]
    styles = {name: smear.between(first, smear.SITE_STYLES[name], stain) for name in HOSPITALS}
    strange = replace(
        first, strength=0.7, alkalinity=0.7, field=1.15 * first.field, white=(240.0, 240.0, 244.0)
    )
    cells = smear.simulate(
        (len(HOSPITALS) + 1) * CELLS, size=SIZE, sites={**styles, UNSEEN: strange}, seed=3, masks=False
    )
    return activations(_network(), cells, augmentation=UNCHANGED, progress=False)


def to_rows(curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of a recording, one a round, rounded to thousandths."""
    return {TABLE: curves.reset_index().round(3)}


def from_rows(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the curves that these rows hold."""
    return rows[TABLE].set_index("round").drop(columns=list(CONTROLS))


SWEEP = Sweep(
    title="Hospitals, their stains, the aggregator, and a hospital that mislabels",
    controls=CONTROLS,
    explore=explore,
    tables={TABLE: tuple(CONTROLS)},
    to_rows=to_rows,
    from_rows=from_rows,
    protocol=protocol,
    data=lambda: [_activations(stain).provenance for stain in CONTROLS["stain"]],
)
