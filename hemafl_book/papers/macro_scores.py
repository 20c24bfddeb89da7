"""The measures of the paper on leukaemia by transfer learning: accuracy, and means over the classes."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from hemafl_book.papers import scores
from hemafl_book.papers.arms import Prediction
from hemafl_lib import evaluation

MEASURES = ("accuracy", "precision", "recall", "F1", "AUC micro", "AUC macro")


def paper_scores(p: Prediction) -> dict[str, object]:
    """Return the paper's measures of one model: precision, recall and F1 are means over the classes."""
    predicted = p.probabilities.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        p.labels, predicted, labels=np.unique(p.labels), average="macro", zero_division=0
    )
    return {
        "arm": p.arm,
        "seed": p.seed,
        "where": p.where,
        "rows": len(p.labels),
        "accuracy": evaluation.accuracy(p.labels, predicted),
        "precision": precision,
        "recall": recall,
        "F1": f1,
        "AUC micro": evaluation.area_under_roc(p.labels, p.probabilities, "micro"),
        "AUC macro": evaluation.area_under_roc(p.labels, p.probabilities, "macro"),
    }


def score_rows(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """Return the paper's measures, one row a model."""
    return pd.DataFrame([paper_scores(p) for p in predictions])


def measures(table: pd.DataFrame) -> pd.DataFrame:
    """Return arms by measures on the test images: the mean over the seeds, with its interval if several."""
    columns = {name: scores.interval_table(table, name, digits=3)["test"] for name in MEASURES}
    return pd.DataFrame(columns)


def differences(
    table: pd.DataFrame, reference: str, *, overlap: float, measure: str = "accuracy"
) -> pd.DataFrame:
    """Return every arm less a reference arm, paired by seed, with a 95 % interval: one row an arm.

    Parameters
    ----------
    table
        Rows of `score_rows`, those of one study and place.
    reference
        An arm of the table.
    overlap
        Test rows for each training row, where all seeds split the same rows; see `evaluation.seed_interval`.
    measure
        The column that is compared.

    Returns
    -------
    pd.DataFrame
        By arm, in the order of the table: ``difference``, ``low`` and ``high``.
    """
    wide = table.pivot(index="seed", columns="arm", values=measure)
    interval = partial(evaluation.difference_interval, overlap=overlap)
    others = [arm for arm in dict.fromkeys(table["arm"]) if arm != reference]
    found = [scores.mean_interval((wide[arm] - wide[reference]).dropna(), interval) for arm in others]
    columns = ["difference", "low", "high"]
    return pd.DataFrame(found, index=pd.Index(others, name="arm")).set_axis(columns, axis=1)
