"""Tables of scores: what predictions are worth, over places, seeds and classes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hemafl_book.papers.arms import Prediction, Tables
from hemafl_book.results import Results
from hemafl_lib import evaluation
from hemafl_lib.data.cohort import LabelledCohort


def restrict(prediction: Prediction, classes: Sequence[str], common: Sequence[str]) -> Prediction:
    """Return a prediction on the rows of the ``common`` classes, choosing among these only."""
    kept = evaluation.restrict(prediction.labels, prediction.probabilities, classes, common)
    where = f"{prediction.where}, {len(common)} classes"
    return Prediction(prediction.arm, prediction.seed, where, kept.labels, kept.scores)


def study_tables(
    predictions: Sequence[Prediction],
    costs: pd.DataFrame,
    classes: Sequence[str],
    unseen: Sequence[str],
    common: Sequence[str] = (),
) -> Tables:
    """Return the tables of arms that are judged on clients' test rows and on unseen hospitals, by title.

    ``costs`` are rows of `arms.cost_rows`. With ``common`` classes the scores are repeated on these only.
    What is compared with centralised training, class by class and in differences, needs an arm of that name;
    differences, too, that all seeds judge the same cells.
    """
    wide = [p for p in predictions if p.where in ("joint", *unseen)]
    narrow = [restrict(p, classes, common) for p in wide] if common else []
    tables = {
        "scores": score_table([*predictions, *narrow]),
        "cost": cost_table(costs),
    }
    if any(p.arm == "centralised" for p in predictions):
        tables["per class"] = per_class(wide, classes)
        fixed = [place for place in unseen if judge_same_rows(predictions, place)]
        if fixed:
            parts = [differences(predictions, "centralised", place) for place in fixed]
            tables["differences"] = pd.concat(parts)
    return tables


def judge_same_rows(predictions: Sequence[Prediction], where: str) -> bool:
    """Tell whether the cells at a place are the same for every seed."""
    labels = [p.labels for p in predictions if p.where == where]
    return all(np.array_equal(labels[0], other) for other in labels)


def report_studies(results: Results, about: Callable[[Any, pd.DataFrame], str]) -> str:
    """Return as text what is told ``about(study, scores)`` each study of a protocol."""
    studies = results.protocol.studies
    return "\n\n".join(about(study, results.tables[f"{study.title}: scores"]) for study in studies)


def count_table(images: LabelledCohort) -> pd.DataFrame:
    """Return the number of cells of each class at each site."""
    counts = {site: images.of_site(site).counts() for site in images.sites}
    return pd.DataFrame(counts, index=list(images.classes)).T.rename_axis("site").reset_index()


def score_table(predictions: Sequence[Prediction]) -> pd.DataFrame:
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
    """Return each arm's mean of a metric in [0, 1] over the seeds at each place, with its 95 % interval.

    The interval is that of `seed_interval`; a single seed has none. Rows keep the order of the arms; columns
    are arm, where, mean, low and high.
    """
    rows = []
    for (arm, where), group in table.groupby(["arm", "where"], sort=False):
        interval = mean_interval(group[metric])
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


def interval_table(table: pd.DataFrame, metric: str, digits: int = 2) -> pd.DataFrame:
    """Return arms by places as text: a metric's mean over the seeds, with its interval if it has one."""
    means = summary(table, metric)
    numbers = means[["mean", "low", "high"]].to_numpy()
    means["text"] = [as_text(mean, low, high, digits) for mean, low, high in numbers]
    wide = means.pivot(index="arm", columns="where", values="text")
    return wide.loc[list(dict.fromkeys(means["arm"])), list(dict.fromkeys(means["where"]))]


def as_text(mean: float, low: float, high: float, digits: int = 2) -> str:
    """Return "0.71 [0.66, 0.76]", or "0.71" without an interval."""
    parts = [f"{value:.{digits}f}" for value in (mean, low, high)]
    return parts[0] if np.isnan(low) else f"{parts[0]} [{parts[1]}, {parts[2]}]"


def per_class(predictions: Sequence[Prediction], classes: Sequence[str]) -> pd.DataFrame:
    """Return recall, precision, prior-adjusted precision and F1 of each class, one row a seed."""
    parts = []
    for p in predictions:
        predicted = p.probabilities.argmax(axis=1)
        table = evaluation.per_class(p.labels, predicted, classes).rename_axis("class").reset_index()
        adjusted = evaluation.prior_adjusted_precision(p.labels, predicted, classes)
        table["prior-adjusted precision"] = np.asarray(adjusted)
        parts.append(table.assign(arm=p.arm, where=p.where, seed=p.seed))
    return pd.concat(parts, ignore_index=True)


def differences(
    predictions: Sequence[Prediction], reference: str, where: str, *, seed: int = 0
) -> pd.DataFrame:
    """Compare every arm with a reference arm in balanced accuracy at one place.

    ``low`` and ``high`` are a t-interval over the seeds; ``bootstrap low`` and ``bootstrap high`` come
    from a paired bootstrap over the cells, with the probabilities averaged over the seeds.
    """
    at = [p for p in predictions if p.where == where]
    means = {arm: mean_probabilities(at, arm) for arm in dict.fromkeys(p.arm for p in at)}
    table = score_table(at).pivot(index="seed", columns="arm", values="balanced accuracy")
    rows = []
    for arm in (arm for arm in means if arm != reference):
        over_seeds = mean_interval(table[arm] - table[reference], evaluation.difference_interval)
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


def mean_interval(
    values: pd.Series, interval: Callable[..., evaluation.Interval] = evaluation.seed_interval
) -> evaluation.Interval:
    """Return the mean over seeds with its interval; of a single seed, without one (NaN)."""
    if len(values) == 1:
        return evaluation.Interval(float(values.iloc[0]), np.nan, np.nan)
    return interval(values)


def mean_probabilities(predictions: Sequence[Prediction], arm: str) -> np.ndarray:
    """Return the probabilities of one arm averaged over its seeds; all must have the same rows."""
    return np.mean([p.probabilities for p in predictions if p.arm == arm], axis=0)


def cost_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each arm's optimiser steps and bytes sent, averaged over the seeds; see `arms.cost_rows`."""
    return rows.drop(columns="seed").groupby("arm", sort=False).mean().reset_index()
