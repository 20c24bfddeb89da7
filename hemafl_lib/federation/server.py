"""The server of a run: the loop over the rounds, and what happens after each."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from hemafl_lib.aggregation import Parameters, begin
from hemafl_lib.data.cohort import Cohort
from hemafl_lib.errors import Stopped
from hemafl_lib.federation.checkpoint import Checkpoint, find_checkpoint, write_checkpoint
from hemafl_lib.federation.client import Job
from hemafl_lib.federation.engines.local import LocalGrid
from hemafl_lib.federation.exchange import set_arrays
from hemafl_lib.federation.fingerprint import Parts
from hemafl_lib.federation.model_copy import copy_model
from hemafl_lib.federation.strategy import AggregatorStrategy
from hemafl_lib.training import score

HISTORY_COLUMNS = ["round", "phase", "site", "metric", "value"]


@dataclass
class Server:
    """The server of one run; `serve` is all that it does.

    Attributes
    ----------
    job, strategy
        What the sites are asked to do, and how they are asked and aggregated.
    arrays
        The global arrays: the initial ones, then those of the last finished round.
    rounds, done
        Rounds in all, and those finished.
    monitor
        Cohorts on which the global model is evaluated before the first round and after each, by name.
    report
        Called before the first round and after each, with the history so far.
    watch
        Called with a round's number and its phase, "train" or "evaluate", once the replies of that phase are
        in. What it raises ends the run; the round is then not kept.
    stop
        Once it is set, the run ends with `Stopped` after the round.
    checkpoint, parts
        File that is replaced after each round, or None, and what tells it from other runs' files: `keep`.
    saved
        What such a file held when the run began, or None.
    """

    job: Job
    strategy: AggregatorStrategy
    arrays: Parameters
    rounds: int
    done: int = 0
    monitor: Mapping[str, Cohort] = field(default_factory=dict)
    report: Callable[[pd.DataFrame], object] | None = None
    watch: Callable[[int, str], object] = lambda number, phase: None
    stop: threading.Event = field(default_factory=threading.Event)
    checkpoint: Path | None = None
    parts: Parts = field(default_factory=dict)
    saved: Checkpoint | None = None

    def serve(self, grid: Grid, context: Context) -> None:
        """Have the sites behind ``grid`` train and evaluate, round by round."""
        self.begin(grid)
        for round_number in range(self.done + 1, self.rounds + 1):
            self.arrays = self.strategy.train_round(round_number, self.arrays, grid)
            self.watch(round_number, "train")
            self.strategy.evaluate_round(round_number, self.arrays, grid)
            self.watch(round_number, "evaluate")
            self.done = round_number
            self.end_if_stopped()
            self.look()
            self.save(grid)
            self.tell()

    def keep(self, checkpoint: Path, parts: Parts) -> None:
        """Replace a file after each round, and go on from what it holds already.

        Raises `DataError` if it could not be written, and `FederationError` if it holds anything but a
        checkpoint of the run that consists of these ``parts``.
        """
        state = begin(self.strategy.aggregator, self.arrays, self.strategy.trained)
        start = Checkpoint(parts, self.rounds, self.arrays, state)
        self.checkpoint, self.parts, self.saved = checkpoint, parts, find_checkpoint(checkpoint, start)

    def app(self) -> ServerApp:
        """Return `serve` as the Flower app of the server."""
        app = ServerApp()
        app.main()(self.serve)
        return app

    def begin(self, grid: Grid) -> None:
        """Look at the initial model, or go on where a checkpoint ended.

        The checkpoint is first written before the first message, so that a place for which there is no room
        or no right is found out before anybody works.
        """
        self.end_if_stopped()
        if self.saved:
            self.resume(self.saved, grid)
        else:
            self.look()
            self.save(grid)
            self.tell()

    def end_if_stopped(self) -> None:
        """Raise `Stopped` if somebody has asked for it: clients that stopped early have no good reply."""
        if self.stop.is_set():
            raise Stopped

    def look(self) -> None:
        """Evaluate the global model on the monitored cohorts."""
        for name, cohort in self.monitor.items():
            model = copy_model(self.job.model)
            set_arrays(model, self.arrays)
            for metric, value in score(model, cohort, self.job.recipe, device=self.job.device).items():
                row = {"round": self.done, "phase": "monitor", "site": name, "metric": metric, "value": value}
                self.strategy.history.append(row)

    def tell(self) -> None:
        """Report the history so far."""
        if self.report:
            self.report(pd.DataFrame(self.strategy.history, columns=HISTORY_COLUMNS))

    def save(self, grid: Grid) -> None:
        """Write all that the run needs to go on; what the sites keep can be read on the local engine only."""
        if self.checkpoint is None:
            return
        contexts = grid.contexts.values() if isinstance(grid, LocalGrid) else ()
        strategy = self.strategy
        snapshot = Checkpoint(
            parts=self.parts,
            round=self.done,
            arrays=self.arrays,
            server_state=strategy.state,
            site_states={int(context.node_config["partition-id"]): context.state for context in contexts},
            history=strategy.history,
            refused=strategy.refused,
            bytes_sent=strategy.bytes_sent,
            aggregated_rounds=strategy.aggregated_rounds,
        )
        write_checkpoint(snapshot, self.checkpoint)

    def resume(self, saved: Checkpoint, grid: Grid) -> None:
        """Take over what `save` wrote, and give the nodes of the local engine back what they kept."""
        self.arrays, self.done, strategy = saved.arrays, saved.round, self.strategy
        strategy.state, strategy.history, strategy.refused = saved.server_state, saved.history, saved.refused
        strategy.bytes_sent, strategy.aggregated_rounds = saved.bytes_sent, saved.aggregated_rounds
        if isinstance(grid, LocalGrid):
            grid.restore_states(saved.site_states)
