"""Federated runs: one Flower app, one strategy around any aggregator, several engines."""

from hemafl_lib.federation.engines.local import LocalGrid, run_local
from hemafl_lib.federation.quiet import quiet_flower
from hemafl_lib.federation.runs import Run, centralised, isolated, pooled, run
from hemafl_lib.federation.strategy import AggregatorStrategy

__all__ = [
    "AggregatorStrategy",
    "LocalGrid",
    "Run",
    "centralised",
    "isolated",
    "pooled",
    "quiet_flower",
    "run",
    "run_local",
]
