"""The same federation on every engine: are the parameters equal to the bit, and is the paper's outcome?

"local" are threads of one process and "simulation" is Flower on Ray's processes; "deployment" is a server
and one program a hospital, which speak over TLS on this machine.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from hemafl_book.papers.arms import Trial, train
from hemafl_book.papers.where import Where
from hemafl_lib.federation import Run
from hemafl_lib.federation.engines import ENGINES

Outcome = Callable[[Sequence[Run]], float]
"""From the runs of all trials to the number that the paper judges by."""


def on_every_engine(trials: Sequence[Trial], outcome: Outcome, where: Where, metric: str) -> pd.DataFrame:
    """Train federated trials on every engine, one after the other.

    Returns
    -------
    DataFrame
        One row an engine: ``engine``, ``federations`` (trials), ``parameters`` (of all of them), ``hash``
        (SHA-256 over all final parameters) and the outcome under the name ``metric``.
    """
    rows = []
    for engine in ENGINES:
        runs = [run for trial in trials for run in train(trial, replace(where, engine=engine)).values()]
        row = {"engine": engine, "federations": len(runs), "parameters": sum(map(parameters, runs))}
        rows.append({**row, "hash": joint_hash(runs), metric: outcome(runs)})
    return pd.DataFrame(rows)


def parameters(run: Run) -> int:
    """Return how many numbers a run's final parameters are."""
    return sum(value.size for value in run.parameters.values())


def joint_hash(runs: Sequence[Run]) -> str:
    """Return the SHA-256 of the hashes of all runs, in their order."""
    return hashlib.sha256("".join(run.hash for run in runs).encode()).hexdigest()
