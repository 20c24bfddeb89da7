"""Arms of an experiment: the same sites and the same budget, trained in different ways."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from hemafl_book.papers.where import Where
from hemafl_lib import federation
from hemafl_lib.aggregation import Aggregator, FedAvg
from hemafl_lib.data.cohort import Cohort, CohortKind, LabelledCohort
from hemafl_lib.federation import Run
from hemafl_lib.federation.trainer import Trainer
from hemafl_lib.models import trained_part, with_norm
from hemafl_lib.models.norms import Norm
from hemafl_lib.partition import Site
from hemafl_lib.training import Recipe, predict

Kind = Literal["federated", "isolated", "centralised"]

Tables = dict[str, pd.DataFrame]
"""Tables by title."""


@dataclass(frozen=True)
class Arm:
    """One way of training.

    ``network`` names the model, ``norm`` what becomes of its batch norms. ``aggregator`` and
    ``optimise_buffers`` (see `federation.run`) matter to federated arms only.
    """

    name: str
    kind: Kind = "federated"
    aggregator: Aggregator = field(default_factory=FedAvg)
    recipe: Recipe = field(default_factory=Recipe)
    network: str = "attention_cnn"
    norm: Norm = "batch"
    optimise_buffers: bool = False

    def describe(self) -> dict[str, Any]:
        """Return the arm as plain JSON values, for the protocol of a frozen result."""
        return {**asdict(self), "aggregator": {"name": self.aggregator.name, **asdict(self.aggregator)}}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One arm with one seed: what is trained, on which sites, and what it is judged on.

    Attributes
    ----------
    arm, seed, rounds
        How it is trained.
    sites
        The clients.
    model
        The initial network, of which the trained part is trained, with the arm's norm; it is not changed.
    judged
        The cohorts that the trained models answer for, by the name that the tables show.
    trainer
        What carries the recipe out at a site, see `federation.run`.
    monitor
        Cohorts on which the global model is evaluated after each round, by name.
    labels
        Columns that tell a trial's rows from others in a table.
    """

    arm: Arm
    seed: int
    rounds: int
    sites: Sequence[Site[Any]]
    model: nn.Module
    judged: Mapping[str, Any] = field(default_factory=dict)
    trainer: Trainer | None = None
    monitor: Mapping[str, Cohort] | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """What one trained model says about one cohort.

    ``where`` names the cohort, ``labels`` is int[N], ``probabilities`` float[N, C].
    """

    arm: str
    seed: int
    where: str
    labels: np.ndarray
    probabilities: np.ndarray


def train(trial: Trial, where: Where, stop: threading.Event | None = None) -> dict[str, Run]:
    """Train one arm; return its runs by the name that the tables show.

    An isolated arm has one run a site, named "isolated: SITE". On the local engine one core is used.
    ``stop`` ends the training, see `federation.run`.
    """
    arm = trial.arm
    settings: dict[str, Any] = {
        "model": with_norm(trained_part(trial.model), arm.norm),
        "recipe": arm.recipe,
        "rounds": trial.rounds,
        "seed": trial.seed,
        "trainer": trial.trainer,
        "monitor": trial.monitor,
        "engine": where.engine,
        "device": where.device,
        "workers": 1 if where.engine == "local" else None,
        "evaluate": False,
        "progress": False,
        "stop": stop or threading.Event(),
    }
    if arm.kind == "isolated":
        runs = federation.isolated(trial.sites, **settings)
        return {f"{arm.name}: {site}": run for site, run in runs.items()}
    if arm.kind == "centralised":
        return {arm.name: federation.centralised(trial.sites, **settings)}
    settings |= {"aggregator": arm.aggregator, "optimise_buffers": arm.optimise_buffers}
    return {arm.name: federation.run(trial.sites, **settings)}


def on_one_core(where: Where) -> dict[str, Any]:
    """Return the settings of a training beside others: one core on the local engine, quiet, not evaluated."""
    return {
        "engine": where.engine,
        "device": where.device,
        "workers": 1 if where.engine == "local" else None,
        "evaluate": False,
        "progress": False,
    }


def answers(trial: Trial, runs: Mapping[str, Run], where: Where) -> Tables:
    """Return a trial's "answers" about what it is judged on, and the "cost" of its runs."""
    return {"answers": answer_table(predictions(trial, runs, where)), "cost": cost_rows(trial, runs)}


def predictions(trial: Trial, runs: Mapping[str, Run], where: Where) -> list[Prediction]:
    """Return what the models of a trial say about what it is judged on."""
    return [
        Prediction(
            name, trial.seed, place, cohort.labels.numpy(), probabilities(run.model, cohort, where.device)
        )
        for name, run in runs.items()
        for place, cohort in trial.judged.items()
    ]


def cost_rows(trial: Trial, runs: Mapping[str, Run]) -> pd.DataFrame:
    """Return what each run took: optimiser steps at all sites, and bytes sent both ways."""
    columns = ["arm", "seed", "optimiser steps", "bytes sent"]
    rows = [(name, trial.seed, run.total_steps(), run.bytes_sent) for name, run in runs.items()]
    return pd.DataFrame(rows, columns=columns)


def answer_table(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """Return one row an answer: arm, seed, where, label, and the probability of each class by its number."""
    return pd.concat(
        [
            pd.DataFrame(
                {"arm": p.arm, "seed": p.seed, "where": p.where, "label": p.labels}
                | {str(number): column for number, column in enumerate(p.probabilities.T)}
            )
            for p in predictions
        ],
        ignore_index=True,
    )


def read_answers(*tables: pd.DataFrame) -> list[Prediction]:
    """Return the predictions of each `answer_table`."""
    return [
        as_prediction(rows)
        for table in tables
        for _, rows in table.groupby(["arm", "seed", "where"], sort=False)
    ]


def as_prediction(rows: pd.DataFrame) -> Prediction:
    """Return one prediction of an `answer_table`, its probabilities row by row in memory."""
    arm, seed, where, _ = rows.iloc[0, :4]
    return Prediction(
        arm, seed, where, rows["label"].to_numpy(), np.ascontiguousarray(rows.iloc[:, 4:].to_numpy())
    )


def test_cohorts(sites: Sequence[Site[CohortKind]]) -> dict[str, CohortKind]:
    """Return the test rows of each site, and of all together as "joint"."""
    return {**{site.name: site.test for site in sites}, "joint": federation.pooled(sites).test}


def probabilities(model: nn.Module, cohort: LabelledCohort, device: str | None = None) -> np.ndarray:
    """Return the model's class probabilities, float64[N, C].

    A model whose scores are not finite (batch norm with a negative variance, for example) says
    nothing: its probabilities are equal.
    """
    scores = predict(model, cohort, device=device).double()
    scores[~torch.isfinite(scores).all(dim=1)] = 0.0
    return torch.softmax(scores, dim=1).numpy()


def federated_name(arms: Sequence[Arm]) -> str:
    """Return the name of the first federated arm, of which the tables show more than of others."""
    return next(arm.name for arm in arms if arm.kind == "federated")
