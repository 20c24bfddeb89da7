"""Federated runs: one Flower app, one strategy around any aggregator, several engines.

The way of a round: the loop of `server.Server.serve` asks the strategy for it (`train_round`); the engine's
grid carries the messages; at a site the client app (`client_app`) lets the `Trainer` train, as a rule by
`hemafl_lib.training.fit`; the strategy reads the replies and aggregates them. `run` puts these together, and
`by_hand` does all of it on one page.

Budget: 5,500 lines.
"""

from hemafl_lib.federation import by_hand, mods
from hemafl_lib.federation.client import Job, client_app, partition_of
from hemafl_lib.federation.compression import Quantise, TopK
from hemafl_lib.federation.engines import ENGINES, run_app
from hemafl_lib.federation.engines.local import LocalGrid, run_local
from hemafl_lib.federation.exchange import (
    exchanged_names,
    from_record,
    get_arrays,
    parameter_hash,
    set_arrays,
    to_record,
    trained_names,
)
from hemafl_lib.federation.quiet import quiet_flower
from hemafl_lib.federation.runs import Run, centralised, isolated, pooled, run
from hemafl_lib.federation.site_app import SiteApp
from hemafl_lib.federation.strategy import AggregatorStrategy
from hemafl_lib.federation.trainer import Trainer
from hemafl_lib.federation.wire import Wire, WireGrid, run_over

__all__ = [
    "ENGINES",
    "AggregatorStrategy",
    "Job",
    "LocalGrid",
    "Quantise",
    "Run",
    "SiteApp",
    "TopK",
    "Trainer",
    "Wire",
    "WireGrid",
    "by_hand",
    "centralised",
    "client_app",
    "exchanged_names",
    "from_record",
    "get_arrays",
    "isolated",
    "mods",
    "parameter_hash",
    "partition_of",
    "pooled",
    "quiet_flower",
    "run",
    "run_app",
    "run_local",
    "run_over",
    "set_arrays",
    "to_record",
    "trained_names",
]
