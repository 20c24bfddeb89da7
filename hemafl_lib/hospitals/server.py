"""The server's app: it asks all hospitals of a federation, and leaves the outcome in a new folder."""

import dataclasses
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from hemafl_lib import aggregation, statistics
from hemafl_lib.errors import FederationError
from hemafl_lib.federation import run_folder
from hemafl_lib.federation.client import Job
from hemafl_lib.federation.engines.polled_grid import PolledGrid
from hemafl_lib.federation.exchange import to_record, trained_names
from hemafl_lib.federation.hospital import RunSettings, Training, loss_of_guessing, read_settings
from hemafl_lib.federation.strategy import AggregatorStrategy
from hemafl_lib.federation.wire import WireGrid, WireStrategy, with_records
from hemafl_lib.hospitals import outcome
from hemafl_lib.hospitals.node import STANDARD
from hemafl_lib.hospitals.settings import (
    APPS,
    CoxRun,
    DeepSurvRun,
    KaplanMeierRun,
    LogisticRun,
    Place,
    TableRun,
)
from hemafl_lib.secure import SecureAggregation, hospitals_together
from hemafl_lib.settings import Settings
from hemafl_lib.statistics import Hospitals, Standardisation, hospitals_behind

LOGGER = logging.getLogger("flwr")

POLL = 1.0
"""Seconds between two looks at which hospitals are there."""


def serve(grid: Grid, context: Context) -> None:
    """Run the app that the settings name.

    Raises
    ------
    HemaflError
        Before the first message if a setting or ``out`` will not do or a hospital does not come; later as the
        app does.
    """
    place = read_settings(Place, context.run_config)
    run = read_settings(APPS[place.app], context.run_config)
    here = PolledGrid(grid, grid.get_node_ids, lambda node: None, place.numbers)
    if isinstance(run, RunSettings):
        train_images(here, context, place, run)
    elif isinstance(run, DeepSurvRun):
        train_survival(here, context, place, run)
    else:
        assert isinstance(run, TableRun)
        estimate(here, place, run)


app = ServerApp()
app.main()(serve)


def wait_for(grid: PolledGrid, place: Place, deadline: float) -> None:
    """Return once all hospitals are there; raise `FederationError`, which names who is late."""
    end, said = time.monotonic() + deadline, ""
    while absent := [
        place.hospitals[k] for node, k in place.numbers.items() if node not in set(grid.get_node_ids())
    ]:
        if time.monotonic() > end:
            raise FederationError(
                f"{', '.join(absent)} did not come within {deadline:.0f} s; start 'hemafl hospital join' "
                "there and run this again."
            )
        if said != str(absent):
            LOGGER.info("waiting for %s", ", ".join(absent))
            said = str(absent)
        time.sleep(POLL)


def folder_of(run: RunSettings | TableRun) -> Path:
    """Return the folder of the outcome."""
    return Path(os.path.expanduser(run.out)).absolute()


# --- training --------------------------------------------------------------------------------------


def train_images(grid: PolledGrid, context: Context, place: Place, run: RunSettings) -> None:
    """Train a network on the hospitals' images."""
    job, folder = run.job(), folder_of(run)
    training = Training(
        job,
        strategy_of(place, job, run.aggregator, run.rounds, run.deadline),
        folder,
        dataclasses.asdict(run),
        loss_of_guessing(job, run),
        summed=place.secure,
    )
    with run_folder.claim(folder):
        wait_for(grid, place, run.deadline)
        training.run(grid, context)
        outcome.write_images(folder, place, run, training)


def train_survival(grid: PolledGrid, context: Context, place: Place, run: DeepSurvRun) -> None:
    """Train DeepSurv on the hospitals' tables, standardised over all of them."""
    job, folder = Job(run.model(), run.recipe(), run.seed), folder_of(run)
    training = Training(
        job,
        strategy_of(place, job, run.aggregator, run.rounds, run.deadline),
        folder,
        dataclasses.asdict(run),
        rows="patients",
        summed=place.secure,
    )
    with run_folder.claim(folder):
        wait_for(grid, place, run.deadline)
        standard = statistics.standardise(ask(grid, place, run))
        training.run(StandardGrid(grid, standard, scale=True), context)
        outcome.write_survival(folder, place, run, training, standard)


def strategy_of(place: Place, job: Job, aggregator: str, rounds: int, deadline: float) -> AggregatorStrategy:
    """Return the strategy: with secure aggregation one that is told updates as sums only."""
    rule = aggregation.by_name(aggregator)
    settings: dict[str, Any] = {
        "names": place.hospitals,
        "nodes": len(place.hospitals),
        "rounds": rounds,
        "trained": trained_names(job.model),
        "deadline": deadline,
        "patience": deadline,
    }
    if not place.secure:
        return AggregatorStrategy(rule, **settings)
    secure = SecureAggregation()
    secure.check_rule(rule)
    return WireStrategy(secure, rule, **settings)


class StandardGrid(WireGrid):
    """Flower's `Grid` that tells every hospital the means and deviations over all.

    ``scale`` says whether features are to be scaled; unknown values are filled in any case. With secure
    aggregation, what is ``told`` is part of what the hospitals' masks are made from.
    """

    def __init__(self, grid: Grid, standard: Standardisation, *, scale: bool) -> None:
        super().__init__(grid)
        values = {name: standard.table[name].to_numpy(np.float64) for name in ("mean", "sd")}
        record = to_record({**values, "scale": np.array(int(scale), dtype=np.int64)})
        self.told = {STANDARD: record}

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send the messages with ``told`` beside their arrays, where there are any; return the replies."""
        more = [
            with_records(message, **self.told) if message.content.array_records else message
            for message in messages
        ]
        return self.carry(more, timeout).values()


# --- statistics ------------------------------------------------------------------------------------


def ask(grid: Grid, place: Place, run: TableRun) -> Hospitals:
    """Return the hospitals as the statistics ask them; with secure aggregation as one that tells sums."""
    if place.secure:
        return hospitals_together(grid, place.hospitals, run.columns, SecureAggregation())
    return hospitals_behind(grid, place.hospitals, run.columns)


def estimate(grid: PolledGrid, place: Place, run: TableRun) -> None:
    """Compute an exact statistic over all hospitals."""
    folder = folder_of(run)
    with run_folder.claim(folder):
        wait_for(grid, place, run.deadline)
        if run.columns:
            standard = statistics.standardise(ask(grid, place, run))
            LOGGER.info("round 1: the means of %s over %s", run.features, place.names)
            hospitals = ask(StandardGrid(grid, standard, scale=False), place, run)
        else:
            standard, hospitals = None, ask(grid, place, run)
        found = fit(hospitals, run)
        outcome.write_estimate(folder, place, run, found, standard)
    LOGGER.info("finished after %d questions; the result is in %s.", found.account.rounds, folder)


def fit(
    hospitals: Hospitals, run: Settings
) -> statistics.CoxFit | statistics.FederatedLogisticFit | statistics.SurvivalCurve:
    """Return the estimate that the settings ask for."""
    if isinstance(run, CoxRun):
        return statistics.cox(hospitals, ties=run.ties, grid=run.grid, ridge=run.ridge)
    if isinstance(run, LogisticRun):
        return statistics.logistic(hospitals, ridge=run.ridge)
    if isinstance(run, KaplanMeierRun):
        return statistics.kaplan_meier(hospitals, grid=run.grid, small=run.small)
    raise FederationError(f"{type(run).__name__} is no estimate; choose one of: {', '.join(APPS)}.")
