"""What changes a site's reply on its way and undoes it at the server: a `Wire` has an end at each.

At the site it is a client mod, like those of `hemafl_lib.federation.mods`. At the server it stands between
the strategy and Flower's grid, so that the strategy reads replies as if nothing had happened on the way: any
strategy can have one, Flower's own too. `run_over` is `run` with a wire; `hemafl_lib.federation.compression`
and `hemafl_lib.secure` hold some.
"""

import copy
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from torch import nn

from hemafl_lib.aggregation import Aggregator, FedAvg, Parameters
from hemafl_lib.data.cohort import Cohort
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.casting import fitted
from hemafl_lib.federation.client import Job
from hemafl_lib.federation.engines import run_app
from hemafl_lib.federation.exchange import (
    byte_count,
    exchanged_names,
    from_record,
    get_arrays,
    get_record,
    set_arrays,
    to_record,
    trained_names,
)
from hemafl_lib.federation.flower_private import ClientAppCallable, Mod, RunGrid
from hemafl_lib.federation.runs import REFUSED_COLUMNS, Engine, Run, check_request, missed_rounds
from hemafl_lib.federation.server import HISTORY_COLUMNS, Server
from hemafl_lib.federation.strategy import AggregatorStrategy
from hemafl_lib.federation.trainer import Trainer
from hemafl_lib.partition import Site
from hemafl_lib.training import Recipe


class Wire(ABC):
    """Both ends of what happens to replies on their way; a frozen dataclass of plain values."""

    @abstractmethod
    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Return a site's reply as it travels: the end at the site, a client mod."""

    @abstractmethod
    def behind(self, grid: Grid) -> "WireGrid":
        """Return a grid whose replies read as if nothing had happened on the way: the end at the server."""

    def check(self, aggregator: Aggregator, sites: Sequence[Site]) -> None:  # noqa: B027 (many serve all)
        """Raise `HemaflError` if the wire cannot serve an aggregator over these sites."""


class WireGrid(RunGrid):
    """The server's end: Flower's `Grid` with a wire before it; a subclass says what `send_and_receive` does.

    Attributes
    ----------
    grid
        What carries the messages.
    bytes_sent
        Bytes of arrays, keys and shares that have travelled, both ways.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid.run.run_id)
        self.grid, self.bytes_sent = grid, 0

    def get_node_ids(self) -> Iterable[int]:
        """Return the IDs of all nodes."""
        return self.grid.get_node_ids()

    def site_numbers(self) -> dict[int, int]:
        """Return which of the sites each node is, as far as the engine knows it."""
        return self.grid.site_numbers() if isinstance(self.grid, RunGrid) else {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand messages on as they are; return their IDs."""
        return self.grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to messages that were pushed, as they are."""
        return self.grid.pull_messages(message_ids)

    def carry(self, messages: Sequence[Message], timeout: float | None) -> dict[int, Message]:
        """Send messages and return the replies that came, by node; count the bytes of both."""
        self.bytes_sent += sum(bytes_of(message) for message in messages)
        replies = list(self.grid.send_and_receive(messages, timeout=timeout))
        self.bytes_sent += sum(bytes_of(reply) for reply in replies)
        return {reply.metadata.src_node_id: reply for reply in replies}


def bytes_of(message: Message) -> int:
    """Return the bytes of a message's arrays and of the keys and shares in its configs."""
    if message.has_error():
        return 0
    arrays = sum(byte_count(record) for record in message.content.array_records.values())
    values = [value for record in message.content.config_records.values() for value in record.values()]
    flat = [part for value in values for part in (value if isinstance(value, list) else [value])]
    return arrays + sum(len(part) for part in flat if isinstance(part, bytes))


def stand_in(
    message: Message, reply: Message, arrays: Parameters, metrics: Mapping[str, Any] | None = None
) -> Message:
    """Return a reply to ``message`` with the records of ``reply``, but with these arrays and metrics."""
    content = RecordDict({name: record for name, record in reply.content.items()})
    for name in list(content.array_records):
        del content[name]
    content["arrays"] = to_record(arrays)
    if metrics is not None:
        content["metrics"] = MetricRecord(dict(metrics))
    return Message(content, reply_to=message)


def trained_arrays(message: Message, reply: Message) -> tuple[Parameters, Parameters]:
    """Return a site's arrays after training and before.

    Raises `FederationError` if they are not of the same names and shapes, or not finite.
    """
    sent, received = (
        from_record(get_record(each.content, "arrays", ArrayRecord)) for each in (reply, message)
    )
    try:
        return fitted(sent, received), received
    except FederationError as error:
        raise FederationError(str(error)) from None  # of this class, whose name a reply's reason leaves out


def with_records(message: Message, **records: ArrayRecord | ConfigRecord | MetricRecord) -> Message:
    """Return a new message to the same node with these records beside those of ``message``."""
    content = RecordDict({**dict(message.content.items()), **records})
    return Message(
        content, dst_node_id=message.metadata.dst_node_id, message_type=message.metadata.message_type
    )


def flat(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return all arrays end to end in the order of their names, float64[N]."""
    parts = [arrays[name].astype(np.float64).ravel() for name in sorted(arrays)]
    return np.concatenate([np.zeros(0), *parts])


def unflat(values: np.ndarray, like: Mapping[str, np.ndarray]) -> Parameters:
    """Return the arrays that `flat` put end to end, float64, in the shapes of ``like``."""
    parts = np.split(values, np.cumsum([like[name].size for name in sorted(like)]))
    return {name: part.reshape(like[name].shape) for name, part in zip(sorted(like), parts, strict=False)}


class WireStrategy(AggregatorStrategy):
    """`AggregatorStrategy` with a wire between it and the sites while they train.

    Evaluations, which bring no arrays back, do not pass it.
    """

    def __init__(self, wire: Wire, aggregator: Aggregator, **settings: Any) -> None:
        super().__init__(aggregator, **settings)
        self.wire = wire

    def train_round(self, number: int, arrays: Parameters, grid: Grid) -> Parameters:
        """As in `AggregatorStrategy`; ``bytes_sent`` counts what has travelled on the wire."""
        behind, before = self.wire.behind(grid), self.bytes_sent
        try:
            return super().train_round(number, arrays, behind)
        finally:
            self.bytes_sent = before + behind.bytes_sent


def run_over(
    wire: Wire,
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
    evaluate: bool = True,
    monitor: Mapping[str, Cohort] | None = None,
    device: str | None = None,
    progress: bool | None = None,
    report: Callable[[pd.DataFrame], object] | None = None,
    stop: threading.Event | None = None,
) -> Run:
    """Train ``model`` over the sites as `run` does, with a wire on the way of the replies.

    The settings are those of `run`; ``mods`` stand between the wire and the client app, so that they change
    an update before it is coded. There is no checkpoint: what a wire keeps at a site is written to no file.

    Raises
    ------
    HemaflError
        As `run`, and if the wire cannot serve these sites or this aggregator.
    """
    aggregator, recipe, trainer = aggregator or FedAvg(), recipe or Recipe(), trainer or Trainer()
    check_request(sites, rounds, engine, evaluate, keep_local, None, trainer, [wire, *mods])
    wire.check(aggregator, sites)
    for site in sites:
        trainer.check(model, site.train, recipe)
    began = time.monotonic()
    job = Job(copy.deepcopy(model), recipe, seed, keep_local, device, trainer, (wire, *mods))
    strategy = WireStrategy(
        wire,
        aggregator,
        names=[site.name for site in sites],
        nodes=len(sites),
        rounds=rounds,
        trained=trained_names(model),
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
