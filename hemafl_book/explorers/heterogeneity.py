"""What the federation explorer of chapter 2 varies: clients, label skew, stain shift and the aggregator.

The cells are simulated leukaemia smears. What is trained is a small head on the features of a frozen
EfficientNet-Lite0. The chapter's attention CNN needs far more than the two seconds that a reader waits
before it tells one setting from another.
"""

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from hemafl_book.results import FrozenResult, freeze
from hemafl_lib import federation, partition
from hemafl_lib.aggregation import Aggregator, FedAvg, FedAvgM, FedMedian
from hemafl_lib.augmentation import UNCHANGED
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import ImageCohort, LabelledCohort, TableCohort, VariantCohort, join
from hemafl_lib.models import SplitModel, activations, backbone
from hemafl_lib.parallel import cores
from hemafl_lib.partition import Site, draw_stain, restain_images
from hemafl_lib.progress import bar
from hemafl_lib.seeds import initialised, numpy_generator
from hemafl_lib.training import Recipe

AGGREGATORS: dict[str, Aggregator] = {
    "FedAvg": FedAvg(),
    "FedMedian": FedMedian(),
    "FedAvgM": FedAvgM(momentum=0.7),
}
BACKBONE, FROZEN_BELOW = "efficientnet_lite0", "blocks.4"
"""The network, and the layer from which on it is replaced by a small head: its 80 input maps are averaged."""

SIZE, CELLS, PATIENTS, TEST_SHARE = 64, 1080, 40, 0.45
LABORATORIES, CLIENT_TEST = 5, 400
ROUNDS = 8
RECIPE = Recipe(learning_rate=0.01, batch_size=16, local_epochs=2, augmentation=UNCHANGED)
TEST = "shared test"

CONTROLS = {
    "clients": (2, 3, 5, 10, 20),
    "alpha": (0.1, 0.3, 1.0, 10.0),
    "stain": (0.0, 0.5, 1.0),
    "aggregator": tuple(AGGREGATORS),
}
"""The settings that `record` computes, by the argument of `exploration`."""

Report = Callable[[pd.DataFrame], object]


@dataclass(frozen=True)
class Exploration:
    """What a setting gives.

    ``curves`` holds accuracies, one row per round from 0: "shared test", "worst client", "mean of clients",
    and each client under its name. ``bytes_sent`` counts the arrays in both directions, ``steps`` the
    optimiser steps of all clients, ``refused`` the replies that the server did not use.
    """

    curves: pd.DataFrame
    bytes_sent: int
    steps: int
    refused: int


def exploration(
    clients: int,
    alpha: float,
    stain: float,
    aggregator: str,
    *,
    seed: int = 0,
    report: Report = lambda curves: None,
    stop: threading.Event | None = None,
) -> Exploration:
    """Train a federation of one setting and follow its accuracies.

    All settings share the same training cells, so that more clients means fewer cells for each.

    Parameters
    ----------
    clients
        Number of clients.
    alpha
        Of the Dirichlet distribution that deals the classes: small is much label skew.
    stain
        How far the five laboratories' stains lie apart (see `hemafl_lib.partition.draw_stain`): 0 not at
        all, 1 as far as five public collections. The clients take turns with the laboratories.
    aggregator
        A key of `AGGREGATORS`.
    seed
        Of the deal, of the initial head and of the training.
    report
        Called before the first round and after each, with the curves so far.
    stop
        Set it from another thread to end with `hemafl_lib.training.Stopped`.

    Returns
    -------
    Exploration
        The shared test holds every test cell in the stain of every client's laboratory. A client's own
        curve is for cells in its stain and with its mix of classes, of the same test patients.
    """
    sites = deal(clients, alpha, stain, seed)
    run = federation.run(
        sites,
        model=head(seed),
        aggregator=AGGREGATORS[aggregator],
        recipe=RECIPE,
        rounds=ROUNDS,
        seed=seed,
        evaluate=False,
        monitor={TEST: shared_test(clients, stain), **{site.name: site.test for site in sites}},
        progress=False,
        report=lambda history: report(summarised(history, [site.name for site in sites])),
        stop=stop,
    )
    curves = summarised(run.history, [site.name for site in sites])
    return Exploration(curves, run.bytes_sent, run.total_steps(), len(run.refused))


def summarised(history: pd.DataFrame, clients: list[str]) -> pd.DataFrame:
    """Return the curves of `Exploration` from the history of a run that monitors the clients' tests."""
    rows = history.query("metric == 'accuracy' and phase == 'monitor'")
    accuracy = rows.pivot(index="round", columns="site", values="value")
    return with_summary(accuracy[[TEST, *clients]])


def with_summary(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Return the shared test's and the clients' curves with those of the worst and the mean client."""
    clients = accuracy.drop(columns=TEST)
    summary = pd.DataFrame({"worst client": clients.min(axis=1), "mean of clients": clients.mean(axis=1)})
    return pd.concat([accuracy[[TEST]], summary, clients], axis=1).rename_axis(columns=None)


# What the clients hold


def deal(clients: int, alpha: float, stain: float, seed: int) -> list[Site]:
    """Return the clients: their training cells, and test cells with their own stain and mix of classes."""
    train, _ = patient_split()
    dealt = partition.dirichlet(
        row_numbers(train), sites=clients, alpha=alpha, seed=seed, minimum=2, validation=0, test=0
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


def shared_test(clients: int, stain: float) -> VariantCohort:
    """Return every test cell in the stain of every laboratory that a client has."""
    return join([features(stain, number)[1] for number in range(min(clients, LABORATORIES))], TEST)


@functools.cache
def cells() -> ImageCohort:
    """Return the simulated leukaemia smears of all settings; the first call takes about ten seconds."""
    return smear.simulate(
        CELLS,
        size=SIZE,
        classes=smear.LEUKAEMIA,
        sites=("north",),
        patients=PATIENTS,
        seed=3,
        masks=False,
    )


@functools.cache
def patient_split() -> tuple[ImageCohort, ImageCohort]:
    """Return the training and the test cells; no patient is among both."""
    train, _, test = partition.split(cells(), validation=0, test=TEST_SHARE, seed=0)
    return train, test


def features(stain: float, laboratory: int) -> tuple[VariantCohort, VariantCohort]:
    """Return the features float32[N, 1, 80] of the training and the test cells in a laboratory's stain."""
    return _features(stain, laboratory if stain else 0)


@functools.cache
def _features(stain: float, laboratory: int) -> tuple[VariantCohort, VariantCohort]:
    colours = draw_stain(stain, numpy_generator(0, "laboratory", laboratory))
    return tuple(
        averaged(replace(cohort, images=restain_images(cohort.images, colours))) for cohort in patient_split()
    )


def averaged(cohort: ImageCohort) -> VariantCohort:
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


# The recording


def setup() -> dict:
    """Return what all explorers on these features share, as plain JSON values."""
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
    }


def protocol() -> dict:
    """Return what decides the recorded curves, as plain JSON values."""
    return {
        **setup(),
        "controls": {name: list(values) for name, values in CONTROLS.items()},
        "aggregators": {name: repr(aggregator) for name, aggregator in AGGREGATORS.items()},
    }


def record(out: Path, say: Callable[[str], object]) -> None:
    """Compute every setting in `CONTROLS` and write all to ``out`` as a frozen result."""
    record_settings(out, say, CONTROLS, protocol(), exploration)


def record_settings(
    out: Path,
    say: Callable[[str], object],
    controls: Mapping[str, Sequence],
    protocol: Mapping[str, Any],
    explore: Callable[..., Exploration],
) -> None:
    """Call ``explore`` with every combination of the controls and freeze what it returns in ``out``."""
    began = time.monotonic()
    settings = [dict(zip(controls, values, strict=True)) for values in itertools.product(*controls.values())]
    rows = [{**setting, **packed(explore(**setting))} for setting in bar(settings, desc="sweep")]
    freeze(
        out,
        protocol=protocol,
        data=[cells().provenance],
        seeds=[0],
        seconds=time.monotonic() - began,
        device=f"{cores()} CPU cores",
        tables={"settings": pd.DataFrame(rows)},
    )
    say(f"{len(rows)} settings are in {out}.")


def packed(found: Exploration) -> dict:
    """Return one row of a recording; a line is a name and the accuracies by round, in thousandths."""
    accuracy = found.curves.drop(columns=["worst client", "mean of clients"])
    lines = [f"{name}: {_thousandths(accuracy[name])}" for name in accuracy]
    return {
        "curves": "\n".join(lines),
        "bytes": found.bytes_sent,
        "steps": found.steps,
        "refused": found.refused,
    }


def recorded(result: FrozenResult, controls: Iterable[str] = tuple(CONTROLS)) -> dict[tuple, Exploration]:
    """Return the explorations of a recording by the values of ``controls``, rounded to thousandths."""
    names = list(controls)
    rows = result.table("settings").to_dict("records")
    return {tuple(row[name] for name in names): _unpacked(row) for row in rows}


def _unpacked(row: dict) -> Exploration:
    lines = [line.split(": ") for line in row["curves"].split("\n")]
    accuracy = pd.DataFrame({name: np.array(text.split(), dtype=float) / 1000 for name, text in lines})
    return Exploration(
        with_summary(accuracy.rename_axis("round")), row["bytes"], row["steps"], row["refused"]
    )


def _thousandths(curve: pd.Series) -> str:
    return " ".join(str(round(1000 * value)) for value in curve)
