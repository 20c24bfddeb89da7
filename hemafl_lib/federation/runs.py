"""`run`, `isolated` and `centralised`: the three lines of every experiment."""

import copy
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from torch import nn

from hemafl_lib.aggregation import Aggregator, FedAvg, Parameters
from hemafl_lib.data.cohort import Cohort, CohortKind, join
from hemafl_lib.errors import FederationError, quote
from hemafl_lib.federation.client import Job
from hemafl_lib.federation.engines import check_engine, run_app
from hemafl_lib.federation.exchange import (
    exchanged_names,
    get_arrays,
    parameter_hash,
    set_arrays,
    trained_names,
)
from hemafl_lib.federation.fingerprint import run_parts
from hemafl_lib.federation.flower_private import Mod
from hemafl_lib.federation.mods import check_mods
from hemafl_lib.federation.server import HISTORY_COLUMNS, Server
from hemafl_lib.federation.strategy import AggregatorStrategy
from hemafl_lib.federation.trainer import Trainer
from hemafl_lib.parallel import for_each
from hemafl_lib.partition import Site
from hemafl_lib.training import Recipe

Engine = Literal["local", "simulation", "deployment"]
REFUSED_COLUMNS = ["round", "phase", "site", "reason"]


@dataclass(frozen=True)
class Run:
    """What a federated run leaves behind.

    ``history`` is tidy: one row per round, phase ("train", "evaluate" or "monitor"), site and metric.
    ``refused`` lists the replies that were not used, with the reason; in ``missed_rounds`` none was, and the
    model stayed as it was. ``bytes_sent`` counts the arrays in both directions.
    """

    model: nn.Module
    parameters: Parameters
    history: pd.DataFrame
    refused: pd.DataFrame
    bytes_sent: int
    seconds: float
    engine: str
    missed_rounds: tuple[int, ...] = ()

    @property
    def hash(self) -> str:
        """SHA-256 of the final parameters: two runs with the same hash agree to the bit."""
        return parameter_hash(self.parameters)

    def curve(self, metric: str, phase: str = "evaluate") -> pd.DataFrame:
        """Return one metric by round (rows) and site (columns); NaN where a site could not measure it."""
        rows = self.history.query("phase == @phase")
        values = rows.query("metric == @metric").pivot(index="round", columns="site", values="value")
        return values.reindex(columns=sorted(set(rows["site"])))

    def total_steps(self) -> int:
        """Return the optimiser steps of all sites and rounds together."""
        return int(self.history.query("metric == 'steps'")["value"].sum())


def run(
    sites: Sequence[Site],
    *,
    model: nn.Module,
    aggregator: Aggregator | None = None,
    recipe: Recipe | None = None,
    trainer: Trainer | None = None,
    mods: Sequence[Mod] = (),
    rounds: int = 5,
    seed: int = 0,
    engine: Engine = "local",
    workers: int | None = None,
    keep_local: str | None = None,
    optimise_buffers: bool = False,
    evaluate: bool = True,
    monitor: Mapping[str, Cohort] | None = None,
    checkpoint: Path | str | None = None,
    device: str | None = None,
    progress: bool | None = None,
    report: Callable[[pd.DataFrame], object] | None = None,
    stop: threading.Event | None = None,
) -> Run:
    """Train ``model`` over the sites and return the `Run`.

    Parameters
    ----------
    sites
        Each becomes one node; their order is the order of all sums.
    model
        The initial model; it is not changed.
    aggregator, recipe
        How the server combines (default `FedAvg`) and how a site trains (default `Recipe`).
    trainer
        What carries the recipe out at a site (default: `hemafl_lib.training.fit`), for example
        `hemafl_lib.privacy.RecordPrivacy`.
    mods
        Flower client mods around every site's client app, the first outermost, for example those of
        `hemafl_lib.federation.mods`. For the deployment engine they must be dataclasses of the library, and
        for a checkpoint dataclasses.
    rounds, seed
        Rounds of training, and the seed of every random draw.
    engine
        "local" (threads of this process), "simulation" (Flower on Ray) or "deployment" (Flower's
        SuperLink and SuperNodes over TLS, each a program of its own); the app is the same.
    workers
        Clients that train at the same time (default: the number of cores). On the deployment engine
        each trains on its own, all at the same time.
    keep_local
        Regular expression for the arrays that stay at the site; see `exchanged_names`.
    optimise_buffers
        Let a server optimiser step on batch norm's statistics too, as Flower does (chapter 1 shows
        what goes wrong).
    evaluate
        Whether each site evaluates the new global model on its validation rows.
    monitor
        Cohorts on which the server evaluates the global model after each round, by name.
    checkpoint
        File that is replaced after each round and from which an interrupted run goes on. A file of a run
        with other data or settings is refused.
    device
        Where models are trained and evaluated, "cpu" or "cuda"; None leaves it to ``HEMAFL_DEVICE``, see
        `hemafl_lib.device.choose`.
    progress
        Whether to show a bar; None shows it on a terminal only.
    report
        Called before the first round and after each, with the history so far.
    stop
        Set it from another thread to end the run with `Stopped`, in the midst of a round.

    Raises
    ------
    FederationError
        If a site or a mod cannot take part, if a checkpoint does not fit, if a program of the deployment
        engine does not come up, or if no round had a usable reply.
    ModelError
        If the deployment engine cannot write the model to a file, see `save_model`.
    DataError
        If the checkpoint cannot be written; where it could not after a round, the sentence names where it is.
    Stopped
        If ``stop`` was set.
    PrivacyError
        If the trainer cannot train this model, by this recipe, on these sites.
    BudgetSpent
        If another round would cost more privacy than the trainer or the aggregator may spend; a
        checkpoint stays as the last round left it.
    """
    aggregator, recipe, trainer = aggregator or FedAvg(), recipe or Recipe(), trainer or Trainer()
    check_request(sites, rounds, engine, evaluate, keep_local, checkpoint, trainer, mods)
    for site in sites:
        trainer.check(model, site.train, recipe)
    began = time.monotonic()
    job = Job(copy.deepcopy(model), recipe, seed, keep_local, device, trainer, tuple(mods))
    strategy = AggregatorStrategy(
        aggregator,
        names=[site.name for site in sites],
        nodes=len(sites),
        rounds=rounds,
        trained=None if optimise_buffers else trained_names(model),
        evaluate=evaluate,
    )
    server = Server(
        job,
        strategy,
        get_arrays(model, exchanged_names(model, keep_local)),
        rounds,
        monitor=dict(monitor or {}),
        report=report,
        stop=stop or threading.Event(),
    )
    if checkpoint is not None:
        settings = {"rounds": rounds, "optimise_buffers": optimise_buffers, "evaluate": evaluate}
        server.keep(Path(checkpoint), run_parts(sites, job, aggregator, server.monitor, **settings))
    run_app(engine, server.app(), job, sites, workers=workers, progress=progress, stop=server.stop)
    missed = missed_rounds(strategy, rounds)
    final = copy.deepcopy(model)
    set_arrays(final, server.arrays)
    return Run(
        model=final,
        parameters=server.arrays,
        history=pd.DataFrame(strategy.history, columns=HISTORY_COLUMNS),
        refused=pd.DataFrame(strategy.refused, columns=REFUSED_COLUMNS),
        bytes_sent=strategy.bytes_sent,
        seconds=time.monotonic() - began,
        engine=engine,
        missed_rounds=missed,
    )


def missed_rounds(strategy: AggregatorStrategy, rounds: int) -> tuple[int, ...]:
    """Return the rounds without any usable reply, and warn of them; raise `FederationError` if all are."""
    if strategy.aggregated_rounds == rounds:
        return ()
    trained = {row["round"] for row in strategy.history if row["phase"] == "train"}
    missed = tuple(number for number in range(1, rounds + 1) if number not in trained)
    first: dict[str, str] = {}
    for row in strategy.refused:
        if row["phase"] == "train" and row["round"] in missed:
            first.setdefault(row["site"], f"{row['site']} was refused because {quote(row['reason'])}")
    said = "; ".join(first.values()) or "no reply came"
    if not trained:
        raise FederationError(f"no round had a usable reply: {said}.")
    if missed:
        warnings.warn(
            f"{len(missed)} of {rounds} rounds had no usable reply, so the model is that of round "
            f"{max(trained)}: {said}.",
            stacklevel=3,
        )
    return missed


def isolated(sites: Sequence[Site], **settings: Any) -> dict[str, Run]:
    """Train one model per site on its own rows, with the settings of `run`; return the runs by site.

    There is nothing to aggregate, so ``aggregator`` makes no difference.
    """
    settings = {"stop": threading.Event(), **settings, "aggregator": FedAvg()}
    runs = for_each(
        lambda site: run([site], **settings),
        sites,
        engine=settings.get("engine", "local"),
        workers=settings.get("workers"),
        interrupt=settings["stop"].set,
    )
    return dict(zip([site.name for site in sites], runs, strict=True))


def centralised(sites: Sequence[Site], **settings: Any) -> Run:
    """Train on the rows of all sites together, with the settings of `run`."""
    return run([pooled(sites)], **(settings | {"aggregator": FedAvg()}))


def pooled(sites: Sequence[Site[CohortKind]], name: str = "pooled") -> Site[CohortKind]:
    """Return one site that holds the rows of all."""
    parts = ("train", "validation", "test")
    return Site(name=name, **{part: join([getattr(site, part) for site in sites], name) for part in parts})


def check_request(
    sites: Sequence[Site],
    rounds: int,
    engine: str,
    evaluate: bool,
    keep_local: str | None,
    checkpoint: Path | str | None,
    trainer: Trainer,
    mods: Sequence[Mod],
) -> None:
    """Raise `FederationError` if a run cannot start."""
    check_engine(engine)
    if not sites:
        raise FederationError("sites is empty; give at least one site.")
    if rounds < 0:
        raise FederationError(f"rounds={rounds} is negative; give at least 0.")
    if len({site.name for site in sites}) < len(sites):
        raise FederationError("two sites have the same name; give each its own.")
    for site in sites:
        if len(site.train) == 0:
            raise FederationError(f"site '{site.name}' has no training rows; leave it out.")
        if evaluate and len(site.validation) == 0:
            raise FederationError(
                f"site '{site.name}' has no validation rows; give it some or pass evaluate=False."
            )
    if engine != "local" and checkpoint and keep_local:
        raise FederationError(
            "checkpoint with keep_local needs engine='local': on other engines the sites' own arrays "
            "cannot be read back."
        )
    if engine != "local" and checkpoint and trainer.keeps_state:
        raise FederationError(
            f"checkpoint with {type(trainer).__name__} needs engine='local': on other engines what the sites "
            "have spent cannot be read back."
        )
    if engine != "local" and checkpoint and mods:
        raise FederationError(
            "checkpoint with mods needs engine='local': on other engines what a mod keeps at its site cannot "
            "be read back."
        )
    check_mods(mods, len(sites))
