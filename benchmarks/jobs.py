"""The jobs that every variant does: one that computes, and one in which an engine's own time shows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from hemafl_lib import federation
from hemafl_lib.aggregation import Parameters
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import Cohort, Provenance, TableCohort
from hemafl_lib.models import AttentionCNN
from hemafl_lib.partition import Site
from hemafl_lib.seeds import initialised, torch_generator
from hemafl_lib.training import Recipe

DRAWN = 1024
"""Most images drawn for a job; where it needs more, they are used again."""


@dataclass(frozen=True)
class Work:
    """One federated job, so that every variant does the same.

    ``rounds_took`` collects the seconds of each round, one list a run, where ``run`` is asked to watch.
    """

    sites: Sequence[Site]
    model: nn.Module
    rounds: int
    evaluate: bool = False
    recipe: Recipe = field(default_factory=Recipe)
    rounds_took: dict[str, list[list[float]]] = field(default_factory=dict)

    def run(self, watch: str = "", **settings: Any) -> Parameters:
        """Do the job with the library; return the global arrays.

        ``watch`` is the name under which the seconds of each round are kept. It costs some milliseconds.
        """
        ends = [time.perf_counter()]
        if watch:
            settings["report"] = lambda history: ends.append(time.perf_counter())
        done = federation.run(
            self.sites,
            model=self.model,
            recipe=self.recipe,
            rounds=self.rounds,
            evaluate=self.evaluate,
            progress=False,
            **settings,
        )
        if watch:
            self.rounds_took.setdefault(watch, []).append(np.diff(ends[-self.rounds - 1 :]).tolist())
        return done.parameters


def image_work(clients: int, images: int, size: int, rounds: int) -> Work:
    """Return ``rounds`` rounds of the attention CNN over clients with ``images`` drawn images each."""
    cohort = smear.simulate(min(clients * images, DRAWN), size=size, masks=False)
    rows = np.arange(clients * images).reshape(clients, images) % len(cohort)
    sites = [training_site(f"client {k}", cohort.take(rows[k])) for k in range(clients)]
    return Work(sites, AttentionCNN(len(cohort.classes)), rounds)


def trivial_work(clients: int, rounds: int, rows: int = 20, features: int = 8) -> Work:
    """Return rounds of training and evaluating a linear model."""
    with initialised(0, "bench linear"):
        model = nn.Linear(features, 2)
    tables = [noise_table(rows, features, seed) for seed in range(clients)]
    sites = [Site(f"client {k}", train=t, validation=t, test=t) for k, t in enumerate(tables)]
    return Work(sites, model, rounds, evaluate=True)


def training_site(name: str, cohort: Cohort) -> Site:
    """Return a site that only trains."""
    return Site(name, train=cohort, validation=cohort.take([]), test=cohort.take([]))


def noise_table(rows: int, features: int, seed: int) -> TableCohort:
    """Return a table of noise with two labels."""
    generator = torch_generator(seed, "bench table")
    return TableCohort(
        features=torch.randn(rows, features, generator=generator),
        feature_names=tuple(f"x{k}" for k in range(features)),
        label=torch.randint(2, (rows,), generator=generator),
        site=np.full(rows, "noise"),
        patient=np.arange(rows).astype(str),
        provenance=Provenance("noise", "Drawn for timing.", "none", simulated=True, checksum="0"),
    )
