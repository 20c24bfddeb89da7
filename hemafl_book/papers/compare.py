"""Arms of an experiment: the same sites and the same budget, trained in different ways."""

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn

from hemafl_lib import evaluation, federation
from hemafl_lib.aggregation import Aggregator, FedAvg
from hemafl_lib.data.cohort import LabelledCohort
from hemafl_lib.models.norms import Norm
from hemafl_lib.parallel import for_each
from hemafl_lib.partition import Site
from hemafl_lib.progress import bar
from hemafl_lib.training import Recipe, predict

Kind = Literal["federated", "isolated", "centralised"]


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

    def described(self) -> dict[str, Any]:
        """Return the arm as plain JSON values, for the protocol of a frozen result."""
        return {**asdict(self), "aggregator": {"name": self.aggregator.name, **asdict(self.aggregator)}}


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


@dataclass(frozen=True)
class Cost:
    """What one arm took: optimiser steps at all sites, and bytes sent both ways."""

    arm: str
    seed: int
    steps: int
    bytes_sent: int


def train_arm(
    arm: Arm, sites: Sequence[Site], model: nn.Module, **settings: Any
) -> dict[str, federation.Run]:
    """Train one arm; return its runs by the name that the tables show.

    An isolated arm has one run a site, named "isolated: SITE". ``settings`` go to `federation.run`.
    """
    settings = {"model": model, "recipe": arm.recipe, **settings}
    if arm.kind == "isolated":
        runs = federation.isolated(sites, **settings)
        return {f"{arm.name}: {site}": run for site, run in runs.items()}
    if arm.kind == "centralised":
        return {arm.name: federation.centralised(sites, **settings)}
    run = federation.run(sites, aggregator=arm.aggregator, optimise_buffers=arm.optimise_buffers, **settings)
    return {arm.name: run}


def compare(
    arms: Sequence[Arm],
    seeds: Sequence[int],
    *,
    sites_for: Callable[[int, str], Sequence[Site]],
    model_for: Callable[[Arm], nn.Module],
    cohorts_for: Callable[[int, str], Mapping[str, LabelledCohort]],
    rounds: int,
    engine: str = "local",
    device: str = "cpu",
    progress: bool | None = None,
) -> tuple[list[Prediction], list[Cost]]:
    """Train every arm with every seed and let it predict the cohorts that it is judged on.

    Parameters
    ----------
    arms, seeds
        What is compared, and the seeds of split and training.
    sites_for, model_for, cohorts_for
        Give the sites of a seed and network, an arm's initial model, and by name the cohorts of a seed
        and network that are predicted (see `test_cohorts`).
    rounds, engine, device
        See `federation.run`. On the local engine as many arms run at a time as there are cores, each
        on one; the numbers do not depend on it.
    progress
        Whether to show a bar; None shows it on a terminal only.
    """
    stop = threading.Event()

    def job(task: tuple[int, Arm]) -> tuple[list[Prediction], list[Cost]]:
        seed, arm = task
        sites, model = sites_for(seed, arm.network), copy.deepcopy(model_for(arm))
        runs = train_arm(
            arm,
            sites,
            model,
            rounds=rounds,
            seed=seed,
            engine=engine,
            device=device,
            workers=1 if engine == "local" else None,
            evaluate=False,
            progress=False,
            stop=stop,
        )
        predictions = [
            Prediction(name, seed, where, cohort.labels.numpy(), probabilities(run.model, cohort, device))
            for name, run in runs.items()
            for where, cohort in cohorts_for(seed, arm.network).items()
        ]
        return predictions, [
            Cost(name, seed, run.total_steps(), run.bytes_sent) for name, run in runs.items()
        ]

    tasks = [(seed, arm) for seed in seeds for arm in arms]
    results = for_each(job, tasks, engine=engine, interrupt=stop.set)
    done = list(bar(results, total=len(tasks), desc="arms", show=progress))
    return [p for result in done for p in result[0]], [c for result in done for c in result[1]]


def test_cohorts(sites: Sequence[Site]) -> dict[str, LabelledCohort]:
    """Return the test rows of each site, and of all together as "joint"."""
    return {**{site.name: site.test for site in sites}, "joint": federation.pooled(sites).test}


def probabilities(model: nn.Module, cohort: LabelledCohort, device: str = "cpu") -> np.ndarray:
    """Return the model's class probabilities, float64[N, C].

    A model whose scores are not finite (batch norm with a negative variance, for example) says
    nothing: its probabilities are equal.
    """
    scores = predict(model, cohort, device=device).double()
    scores[~torch.isfinite(scores).all(dim=1)] = 0.0
    return torch.softmax(scores, dim=1).numpy()


def restricted(prediction: Prediction, classes: Sequence[str], common: Sequence[str]) -> Prediction:
    """Return the prediction on the rows of the ``common`` classes, choosing among these only."""
    kept = evaluation.restrict(prediction.labels, prediction.probabilities, classes, common)
    where = f"{prediction.where}, {len(common)} classes"
    return Prediction(prediction.arm, prediction.seed, where, kept.labels, kept.scores)


def scores(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """Return one row per arm, seed and place: balanced accuracy, macro F1, accuracy and calibration."""
    rows = []
    for p in predictions:
        predicted = p.probabilities.argmax(axis=1)
        rows.append(
            {
                "arm": p.arm,
                "seed": p.seed,
                "where": p.where,
                "cells": len(p.labels),
                "balanced accuracy": evaluation.balanced_accuracy(p.labels, predicted),
                "macro F1": evaluation.macro_f1(p.labels, predicted),
                "accuracy": evaluation.accuracy(p.labels, predicted),
                "ECE": evaluation.expected_calibration_error(p.labels, p.probabilities),
                "Brier": evaluation.brier(p.labels, p.probabilities),
            }
        )
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame, metric: str = "balanced accuracy") -> pd.DataFrame:
    """Return each arm's mean of a metric over the seeds at each place, with its 95 % t-interval.

    Rows keep the order of the arms; columns are arm, where, mean, low and high.
    """
    rows = []
    for (arm, where), group in table.groupby(["arm", "where"], sort=False):
        interval = over(group[metric])
        rows.append(
            {
                "arm": arm,
                "where": where,
                "mean": interval.estimate,
                "low": interval.low,
                "high": interval.high,
            }
        )
    return pd.DataFrame(rows)


def shown(table: pd.DataFrame, metric: str, digits: int = 2) -> pd.DataFrame:
    """Return arms by places as text: a metric's mean over the seeds, with its interval if it has one."""
    means = summary(table, metric)
    numbers = means[["mean", "low", "high"]].itertuples(index=False)
    means["shown"] = [as_text(*row, digits=digits) for row in numbers]
    wide = means.pivot(index="arm", columns="where", values="shown")
    return wide.loc[list(dict.fromkeys(means["arm"])), list(dict.fromkeys(means["where"]))]


def as_text(mean: float, low: float, high: float, digits: int = 2) -> str:
    """Return "0.71 [0.66, 0.76]", or "0.71" without an interval."""
    parts = [f"{value:.{digits}f}" for value in (mean, low, high)]
    return parts[0] if np.isnan(low) else f"{parts[0]} [{parts[1]}, {parts[2]}]"


def per_class(predictions: Sequence[Prediction], classes: Sequence[str]) -> pd.DataFrame:
    """Return recall, precision, prior-adjusted precision and F1 of each class, averaged over the seeds."""
    parts = []
    for p in predictions:
        predicted = p.probabilities.argmax(axis=1)
        table = evaluation.per_class(p.labels, predicted, classes).rename_axis("class").reset_index()
        adjusted = evaluation.prior_adjusted_precision(p.labels, predicted, classes)
        table["prior-adjusted precision"] = np.asarray(adjusted)
        parts.append(table.assign(arm=p.arm, where=p.where))
    joined = pd.concat(parts)
    return joined.groupby(["arm", "where", "class"], sort=False).mean(numeric_only=True).reset_index()


def differences(
    predictions: Sequence[Prediction], reference: str, where: str, *, seed: int = 0
) -> pd.DataFrame:
    """Compare every arm with a reference arm in balanced accuracy at one place.

    ``low`` and ``high`` are a t-interval over the seeds; ``bootstrap low`` and ``bootstrap high`` come
    from a paired bootstrap over the cells, with the probabilities averaged over the seeds.
    """
    at = [p for p in predictions if p.where == where]
    means = {arm: mean_probabilities(at, arm) for arm in dict.fromkeys(p.arm for p in at)}
    table = scores(at).pivot(index="seed", columns="arm", values="balanced accuracy")
    rows = []
    for arm in (arm for arm in means if arm != reference):
        over_seeds = over(table[arm] - table[reference])
        labels = next(p.labels for p in at if p.arm == arm)
        over_cells = evaluation.paired_bootstrap(
            evaluation.balanced_accuracy,
            labels,
            means[arm].argmax(axis=1),
            means[reference].argmax(axis=1),
            seed=seed,
        )
        rows.append(
            {
                "arm": arm,
                "reference": reference,
                "where": where,
                "difference": over_seeds.estimate,
                "low": over_seeds.low,
                "high": over_seeds.high,
                "bootstrap difference": over_cells.estimate,
                "bootstrap low": over_cells.low,
                "bootstrap high": over_cells.high,
            }
        )
    return pd.DataFrame(rows)


def over(values: pd.Series) -> evaluation.Interval:
    """Return the mean over seeds with its t-interval; of a single seed, without one (NaN)."""
    if len(values) == 1:
        return evaluation.Interval(float(values.iloc[0]), np.nan, np.nan)
    return evaluation.seed_interval(values)


def mean_probabilities(predictions: Sequence[Prediction], arm: str) -> np.ndarray:
    """Return the probabilities of one arm averaged over its seeds; all must have the same rows."""
    return np.mean([p.probabilities for p in predictions if p.arm == arm], axis=0)


def costs(table: Sequence[Cost]) -> pd.DataFrame:
    """Return each arm's optimiser steps and bytes sent, averaged over the seeds."""
    rows = pd.DataFrame([asdict(cost) for cost in table])
    means = rows.groupby("arm", sort=False)[["steps", "bytes_sent"]].mean().reset_index()
    return means.rename(columns={"steps": "optimiser steps", "bytes_sent": "bytes sent"})
