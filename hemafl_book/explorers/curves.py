"""Accuracies of a federation by round: a shared test, every client, the worst and the mean of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hemafl_book.explorers import leukaemia
from hemafl_book.explorers.leukaemia import SHARED_TEST
from hemafl_book.explorers.sweep import Sweep
from hemafl_lib import federation
from hemafl_lib.aggregation import Aggregator
from hemafl_lib.data.cohort import VariantCohort
from hemafl_lib.partition import Site

WORST, MEAN = "worst client", "mean of clients"
TABLE = "settings"
"""The title of a recording's table."""

Report = Callable[[pd.DataFrame], object]


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


def follow(
    sites: Sequence[Site[VariantCohort]],
    *,
    followed: Sequence[Site[VariantCohort]],
    shared_test: VariantCohort,
    report: Report,
    **how: Any,
) -> FederationOutcome:
    """Train a federation and follow its accuracy on a shared test and on the tests of the ``followed`` sites.

    ``report`` is called before the first round and after each, with the curves so far; ``how`` goes to
    `hemafl_lib.federation.run`.
    """
    names = [site.name for site in followed]
    run = federation.run(
        sites,
        evaluate=False,
        monitor={SHARED_TEST: shared_test, **{site.name: site.test for site in followed}},
        progress=False,
        report=lambda history: report(curves(history, names)),
        **how,
    )
    return FederationOutcome(curves(run.history, names), run.bytes_sent, run.total_steps(), len(run.refused))


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


def sweep(
    title: str,
    controls: Mapping[str, Sequence[Any]],
    explore: Callable[..., FederationOutcome],
    aggregators: Mapping[str, Aggregator],
    **fixed: Any,
) -> Sweep[FederationOutcome]:
    """Return all settings of an explorer on the cells of `hemafl_book.explorers.leukaemia`.

    Its protocol holds what they share, what is ``fixed``, the controls and the aggregators.
    """
    return Sweep(
        title=title,
        controls=controls,
        explore=explore,
        tables={TABLE: tuple(controls)},
        to_rows=to_rows,
        from_rows=from_rows,
        protocol=lambda: {
            **leukaemia.setup(),
            **fixed,
            "controls": {name: list(values) for name, values in controls.items()},
            "aggregators": {name: repr(aggregator) for name, aggregator in aggregators.items()},
        },
        data=lambda: [leukaemia.cells().provenance],
    )


def _thousandths(curve: pd.Series) -> str:
    return " ".join(str(round(1000 * value)) for value in curve)
