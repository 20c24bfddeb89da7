"""What the attack explorer of chapter 2 varies: what corrupted clients do, and who withstands them.

The honest clients, their cells and the network are those of `hemafl_book.explorers.leukaemia`,
with little label skew and no stain shift, so that what is to be seen comes from the corruption.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from flwr.app import Context, Message, MessageType
from flwr.clientapp import ClientApp

from hemafl_book.explorers import curves, leukaemia
from hemafl_book.explorers.corruption import mislabel
from hemafl_book.explorers.curves import FederationOutcome, Report
from hemafl_book.explorers.sweep import Sweep
from hemafl_lib.aggregation import Aggregator, FedAvg, FedMedian, FedTrimmedMean, Krum, Parameters
from hemafl_lib.federation import AggregatorStrategy, run_local
from hemafl_lib.federation.client import Job, client_app, partition_of
from hemafl_lib.federation.exchange import from_record, get_arrays, to_record
from hemafl_lib.federation.quiet import quiet_flower
from hemafl_lib.federation.runs import HISTORY_COLUMNS, Session
from hemafl_lib.partition import Site
from hemafl_lib.seeds import numpy_generator

Update = Parameters
"""What a client sends less what it received, by array."""

ALPHA = 10.0
AGGREGATORS: dict[str, Aggregator] = {
    "FedAvg": FedAvg(),
    "FedMedian": FedMedian(),
    "FedTrimmedMean": FedTrimmedMean(trim=0.2),
    "Krum": Krum(malicious=1),
}


def unchanged(update: Update, generator: np.random.Generator) -> Update:
    """Return the update as it is."""
    return update


def noise(update: Update, generator: np.random.Generator) -> Update:
    """Return noise of the same norm as each array of the update."""
    drawn = {name: generator.standard_normal(value.shape) for name, value in update.items()}
    return {
        name: drawn[name] * (np.linalg.norm(value) / np.linalg.norm(drawn[name]))
        for name, value in update.items()
    }


def flipped(update: Update, generator: np.random.Generator) -> Update:
    """Return ten times the step in the opposite direction."""
    return {name: -10 * value for name, value in update.items()}


def enormous(update: Update, generator: np.random.Generator) -> Update:
    """Return a million times the step in the opposite direction."""
    return {name: -1e6 * value for name, value in update.items()}


@dataclass(frozen=True)
class Corruption:
    """What a corrupted client changes: its training cells before, its update after training."""

    site: Callable[[Site], Site] = lambda site: site
    update: Callable[[Update, np.random.Generator], Update] = unchanged


CORRUPTIONS: dict[str, Corruption] = {
    "wrong labels": Corruption(site=mislabel),
    "noise": Corruption(update=noise),
    "opposite step x 10": Corruption(update=flipped),
    "opposite step x 1,000,000": Corruption(update=enormous),
}
"""Ways to be corrupted; the server refuses the last as implausibly large."""

CONTROLS = {
    "clients": (5, 10),
    "corrupted": (0, 1, 2),
    "corruption": tuple(CORRUPTIONS),
    "aggregator": tuple(AGGREGATORS),
}
"""The settings that are recorded, by the argument of `explore`."""


class CorruptedApp(ClientApp):
    """A client app of which the first ``corrupted`` nodes change what they send back after training."""

    def __init__(
        self,
        honest: ClientApp,
        corrupted: int,
        change: Callable[[Update, np.random.Generator], Update],
        seed: int,
    ) -> None:
        super().__init__()
        self.honest, self.corrupted, self.change, self.seed = honest, corrupted, change, seed

    def __call__(self, message: Message, context: Context) -> Message:
        """Return the honest reply, changed if this node is corrupted."""
        reply = self.honest(message, context)
        number = partition_of(context)
        if message.metadata.message_type == MessageType.TRAIN and number < self.corrupted:
            generator = numpy_generator(
                self.seed, "corruption", number, int(message.content["config"]["server-round"])
            )
            received, sent = (from_record(m.content["arrays"]) for m in (message, reply))
            update = {name: sent[name].astype(np.float64) - received[name] for name in sent}
            changed = self.change(update, generator)
            reply.content["arrays"] = to_record(
                {name: (received[name] + changed[name]).astype(sent[name].dtype) for name in sent}
            )
        return reply


def explore(
    clients: int,
    corrupted: int,
    corruption: str,
    aggregator: str,
    *,
    seed: int = 0,
    report: Report = lambda curves: None,
    stop: threading.Event | None = None,
) -> FederationOutcome:
    """Train a federation some of whose clients are corrupted, and follow its accuracies.

    Parameters
    ----------
    clients
        Number of clients.
    corrupted
        How many of them are corrupted, from the first on.
    corruption
        A key of `CORRUPTIONS`.
    aggregator
        A key of `AGGREGATORS`. Krum is told to expect one corrupted client.
    seed, report, stop
        As in `hemafl_book.explorers.heterogeneity.explore`.

    Returns
    -------
    FederationOutcome
        Its curves leave the corrupted clients out. The test cells carry the right labels.
    """
    kind = CORRUPTIONS[corruption]
    dealt = leukaemia.deal(clients, ALPHA, 0.0, seed)
    honest = dealt[corrupted:]
    sites = [*map(kind.site, dealt[:corrupted]), *honest]
    names = [site.name for site in honest]
    strategy = AggregatorStrategy(
        AGGREGATORS[aggregator], nodes=clients, rounds=leukaemia.ROUNDS, evaluate=False
    )
    session = Session(
        Job(leukaemia.head(seed), leukaemia.RECIPE, seed),
        strategy,
        leukaemia.ROUNDS,
        monitor={
            leukaemia.SHARED_TEST: leukaemia.join_tests(clients, 0.0),
            **{site.name: site.test for site in honest},
        },
        checkpoint=None,
        fingerprint="",
        stop=stop or threading.Event(),
        report=lambda history: report(curves.curves(history, names)),
    )
    session.restore(None, get_arrays(session.job.model, session.job.model.state_dict()))
    app = client_app(session.job, sites.__getitem__, session.stop.is_set)
    with quiet_flower:
        run_local(
            session.server_app(),
            CorruptedApp(app, corrupted, kind.update, seed),
            clients,
            progress=False,
            interrupt=session.stop.set,
        )
    history = pd.DataFrame(strategy.history, columns=HISTORY_COLUMNS)
    steps = int(history.query("metric == 'steps'")["value"].sum())
    return FederationOutcome(curves.curves(history, names), strategy.bytes_sent, steps, len(strategy.refused))


def protocol() -> dict:
    """Return what decides the recorded curves, as plain JSON values."""
    return {
        **leukaemia.setup(),
        "alpha": ALPHA,
        "controls": {name: list(values) for name, values in CONTROLS.items()},
        "aggregators": {name: repr(aggregator) for name, aggregator in AGGREGATORS.items()},
    }


SWEEP = Sweep(
    controls=CONTROLS,
    explore=explore,
    tables={curves.TABLE: tuple(CONTROLS)},
    to_rows=curves.to_rows,
    from_rows=curves.from_rows,
    protocol=protocol,
    data=lambda: [leukaemia.cells().provenance],
)
