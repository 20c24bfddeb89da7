"""What the attack explorer of chapter 2 varies: what corrupted clients do, and who withstands them.

The cells and the head are those of the federation explorer, with little label skew and no stain shift, so
that what is to be seen comes from the corruption. One seed each.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from torch import nn

from hemafl_book.explorers.corruption import CORRUPTIONS
from hemafl_book.explorers.drawn_cells import (
    BACKBONE,
    FEATURES,
    FEWEST,
    FROZEN_BELOW,
    HOSPITAL,
    LABORATORIES,
    OWN_TEST,
    SIZE,
    SPLIT_SEED,
    STAIN_SEED,
    laboratories_of,
)
from hemafl_book.explorers.leukaemia import CELLS
from hemafl_book.explorers.sweep import Sweep
from hemafl_lib import federation
from hemafl_lib.aggregation import by_name
from hemafl_lib.augmentation import UNCHANGED
from hemafl_lib.data import smear
from hemafl_lib.seeds import initialised
from hemafl_lib.training import Recipe

ALPHA, HIDDEN = 10.0, 32
ROUNDS = 8
RECIPE = Recipe(learning_rate=0.01, batch_size=16, local_epochs=2, augmentation=UNCHANGED)
SHARED_TEST, WORST, MEAN = "shared test", "worst client", "mean of clients"
TABLE = "settings"
"""The title of the recording's table."""

Report = Callable[[pd.DataFrame], object]

CHOICES = {
    each.name: each
    for each in (
        by_name("FedAvg"),
        by_name("FedMedian"),
        by_name("FedTrimmedMean", trim=0.2),
        by_name("Krum", malicious=1),
    )
}
"""The aggregators to choose from."""

CONTROLS = {
    "clients": (5, 10),
    "corrupted": (0, 1, 2),
    "corruption": tuple(CORRUPTIONS),
    "aggregator": tuple(CHOICES),
}
"""The settings that are recorded, by the argument of `explore`."""


@dataclass(frozen=True)
class FederationOutcome:
    """What becomes of a federation.

    ``curves`` holds accuracies, one row per round from 0: "shared test", "worst client", "mean of clients",
    and each client under its name. ``bytes_sent`` counts the arrays in both directions, ``steps`` the
    optimiser steps of all clients, ``refused`` the replies that the server did not use.
    """

    curves: pd.DataFrame
    bytes_sent: int
    steps: int
    refused: int


def explore(
    clients: int,
    corrupted: int,
    corruption: str,
    aggregator: str,
    *,
    seed: int = 0,
    report: Report = lambda curves: None,
    stop: threading.Event | None = None,
) -> FederationOutcome:
    """Train a federation some of whose clients are corrupted, and follow its accuracies.

    Parameters
    ----------
    clients
        Number of clients.
    corrupted
        How many of them are corrupted, from the first on.
    corruption
        A key of `hemafl_book.explorers.corruption.CORRUPTIONS`.
    aggregator
        A key of `CHOICES`. Krum is told to expect one corrupted client.
    seed
        Of the deal, of the first head and of the training.
    report
        Called before the first round and after each, with the curves so far.
    stop
        Set it from another thread to end with `hemafl_lib.errors.Stopped`.

    Returns
    -------
    FederationOutcome
        Its curves leave the corrupted clients out. The test cells carry the right labels.
    """
    kind, dealt = CORRUPTIONS[corruption], CELLS.deal(clients, ALPHA, seed)
    sites = CELLS.sites(dealt, 0.0)
    honest = sites[corrupted:]
    names = [site.name for site in honest]
    run = federation.run(
        [*map(kind.site, sites[:corrupted]), *honest],
        model=new_head(seed),
        aggregator=CHOICES[aggregator],
        recipe=RECIPE,
        mods=kind.mods(tuple(range(corrupted)), seed),
        rounds=ROUNDS,
        seed=seed,
        evaluate=False,
        monitor={
            SHARED_TEST: CELLS.tests(laboratories_of(dealt), 0.0, SHARED_TEST),
            **{site.name: site.test for site in honest},
        },
        progress=False,
        report=lambda history: report(curves(history, names)),
        stop=stop,
    )
    return FederationOutcome(curves(run.history, names), run.bytes_sent, run.total_steps(), len(run.refused))


def new_head(seed: int) -> nn.Module:
    """Return what the clients train: from features float32[B, 80] to logits [B, 4]."""
    with initialised(seed, "heterogeneity head"):
        return nn.Sequential(
            nn.LayerNorm(FEATURES),
            nn.Linear(FEATURES, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, len(CELLS.classes)),
        )


def curves(history: pd.DataFrame, clients: Sequence[str]) -> pd.DataFrame:
    """Return the curves of `FederationOutcome` from the history of a run."""
    rows = history.query("metric == 'accuracy' and phase == 'monitor'")
    accuracy = rows.pivot(index="round", columns="site", values="value")
    return add_summary(accuracy[[SHARED_TEST, *clients]])


def add_summary(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Return the shared test's and the clients' curves with those of the worst and the mean client."""
    clients = accuracy.drop(columns=SHARED_TEST)
    summary = pd.DataFrame({WORST: clients.min(axis=1), MEAN: clients.mean(axis=1)})
    return pd.concat([accuracy[[SHARED_TEST]], summary, clients], axis=1).rename_axis(columns=None)


def to_rows(found: FederationOutcome) -> dict[str, pd.DataFrame]:
    """Return one row of a recording; a line is a name and the accuracies by round, in thousandths."""
    accuracy = found.curves.drop(columns=[WORST, MEAN])
    row = {
        "curves": "\n".join(f"{name}: {_thousandths(accuracy[name])}" for name in accuracy),
        "bytes": found.bytes_sent,
        "steps": found.steps,
        "refused": found.refused,
    }
    return {TABLE: pd.DataFrame([row])}


def from_rows(rows: Mapping[str, pd.DataFrame]) -> FederationOutcome:
    """Return the outcome that a row holds, rounded to thousandths."""
    (row,) = rows[TABLE].to_dict("records")
    lines = [line.split(": ") for line in row["curves"].split("\n")]
    accuracy = pd.DataFrame({name: np.array(text.split(), dtype=float) / 1000 for name, text in lines})
    return FederationOutcome(
        add_summary(accuracy.rename_axis("round")), row["bytes"], row["steps"], row["refused"]
    )


def _thousandths(curve: pd.Series) -> str:
    return " ".join(str(round(1000 * value)) for value in curve)


def protocol() -> dict:
    """Return what decides the recorded numbers, as plain JSON values."""
    return {
        "recipe": asdict(RECIPE),
        "rounds": ROUNDS,
        "size": SIZE,
        "cells": CELLS.count,
        "patients": CELLS.patients,
        "share of test cells": CELLS.test_share,
        "laboratories": LABORATORIES,
        "cells of a client's test": OWN_TEST,
        "network": f"{BACKBONE} up to {FROZEN_BELOW}",
        "head": repr(new_head(0)),
        "smear": smear.VERSION,
        "hospital": HOSPITAL,
        "fewest cells of a client": FEWEST,
        "seeds": {"cells": CELLS.seed, "split": SPLIT_SEED, "stains": STAIN_SEED},
        "alpha": ALPHA,
        "controls": {name: list(values) for name, values in CONTROLS.items()},
        "aggregators": {name: repr(aggregator) for name, aggregator in CHOICES.items()},
    }


SWEEP = Sweep(
    title="What corrupted clients do, and which aggregator withstands them",
    controls=CONTROLS,
    explore=explore,
    tables={TABLE: tuple(CONTROLS)},
    to_rows=to_rows,
    from_rows=from_rows,
    protocol=protocol,
    data=lambda: [CELLS.provenance],
)
