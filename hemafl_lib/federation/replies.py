"""Nodes and their replies: who is there, in which order replies count, and why one cannot be used.

A site's reply is a Flower message. It holds "metrics", after training "arrays", and the "site" that sent it;
a client that failed sends an error instead. `read_reply` reads it once, so that nothing after it deals with
Flower's records.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from hemafl_lib.aggregation import Parameters
from hemafl_lib.errors import BudgetSpent, FederationError, quote
from hemafl_lib.federation.exchange import byte_count, from_record

EXAMPLES, NUMBER = "num-examples", "partition-id"
"""Names of two metrics of every reply: the rows that it rests on, and which of the sites has sent it."""


@dataclass(frozen=True)
class Reply:
    """What one site sent.

    Attributes
    ----------
    node
        Flower's number of the node.
    site
        The name that the site gave, else its node's number.
    metrics
        Its numbers by name.
    arrays, byte_count
        The arrays after training and their bytes as they travelled; None and 0 without any.
    failure
        Why there is nothing else, or None.
    spent
        Why the site must not train any more, or None.
    """

    node: int
    site: str
    metrics: dict[str, int | float]
    arrays: Parameters | None = None
    byte_count: int = 0
    failure: str | None = None
    spent: str | None = None

    @property
    def examples(self) -> float:
        """Rows that the reply rests on: its weight."""
        return float(self.metrics[EXAMPLES])


def read_reply(message: Message) -> Reply:
    """Return what a site sent; arrays that cannot be read are a failure."""
    node, site = message.metadata.src_node_id, site_name(message)
    if message.has_error():
        return Reply(node, site, {}, failure=f"the client failed: {quote(message.error.reason)}")
    content = message.content
    record, metrics, spent = content.get("arrays"), content.get("metrics"), content.get("spent")
    failed = content.get("failure")
    if isinstance(failed, ConfigRecord):
        return Reply(node, site, {}, failure=f"the client failed: {quote(str(failed.get('reason')))}")
    arrays, size = None, 0
    if isinstance(record, ArrayRecord):
        try:
            arrays, size = from_record(record), byte_count(record)
        except ValueError as error:
            return Reply(node, site, {}, failure=f"its arrays cannot be read: {quote(str(error))}")
    numbers = metrics.items() if isinstance(metrics, MetricRecord) else ()
    return Reply(
        node,
        site,
        metrics={name: value for name, value in numbers if isinstance(value, int | float)},
        arrays=arrays,
        byte_count=size,
        spent=str(spent["reason"]) if isinstance(spent, ConfigRecord) else None,
    )


def wait_for_nodes(grid: Grid, nodes: int, deadline: float) -> list[int]:
    """Return the sorted IDs of all nodes once there are ``nodes``; raise after ``deadline`` seconds."""
    end = time.monotonic() + deadline
    while len(found := sorted(grid.get_node_ids())) < nodes:
        if time.monotonic() > end:
            raise FederationError(
                f"only {len(found)} of {nodes} nodes came up within {deadline:.0f} s; start the others first."
            )
        time.sleep(0.1)
    return found


def site_number(content: RecordDict) -> int | None:
    """Return which of the sites has sent this, or None if it does not say."""
    metrics = content.get("metrics")
    number = metrics.get(NUMBER) if isinstance(metrics, MetricRecord) else None
    return int(number) if isinstance(number, int | float) else None


def site_name(message: Message) -> str:
    """Return the name that a site gave with its reply, else its node's number."""
    site = message.content.get("site") if message.has_content() else None
    if isinstance(site, ConfigRecord) and "name" in site:
        return str(site["name"])
    return f"node {message.metadata.src_node_id}"


def reply_order(message: Message) -> tuple[int, int]:
    """Order replies by site, so that sums do not depend on who answers first or on node IDs."""
    number = site_number(message.content) if message.has_content() else None
    return (1, message.metadata.src_node_id) if number is None else (0, number)


def end_if_spent(round_number: int, replies: Sequence[Reply]) -> None:
    """Raise `BudgetSpent` if a site answered in this round that it must not train any more."""
    for reply in replies:
        if reply.spent is not None:
            raise BudgetSpent(
                f"site '{reply.site}' ends the run after round {round_number - 1}: {reply.spent}"
            )


def refusal(reply: Reply, current: Parameters | None) -> str | None:
    """Return why a reply cannot be used, or None if it can.

    ``current`` holds the global arrays that the reply's must match; None for an evaluation.
    """
    if reply.failure is not None:
        return reply.failure
    examples = reply.metrics.get(EXAMPLES)
    if examples is None or not np.isfinite(examples) or examples <= 0:
        return f"its number of examples is {examples}"
    if current is None:
        return None
    if reply.arrays is None:
        return "it holds no arrays"
    return arrays_refusal(reply.arrays, current)


def arrays_refusal(arrays: Parameters, current: Parameters) -> str | None:
    """Return why arrays do not match the global ones, or None if they do."""
    if missing := sorted(set(current) - set(arrays)):
        return f"array '{missing[0]}' is missing"
    if unknown := sorted(set(arrays) - set(current)):
        return f"array '{unknown[0]}' is unknown"
    for name, value in arrays.items():
        if value.shape != current[name].shape:
            return f"array '{name}' has shape {value.shape} instead of {current[name].shape}"
        if not np.isfinite(value).all():
            return f"array '{name}' is not finite"
    return None


def update_norm(arrays: Parameters, current: Parameters) -> float:
    """Return the Euclidean norm of a reply's difference from the global arrays (counters left out)."""
    squares = (
        float(np.square(np.subtract(arrays[k], current[k], dtype=np.float64)).sum())
        for k in current
        if not np.issubdtype(current[k].dtype, np.integer)
    )
    return float(np.sqrt(sum(squares)))


def weighted_metrics(replies: Sequence[Reply]) -> dict[str, float]:
    """Return each metric's mean over the replies, weighted by their examples."""
    total = sum(reply.examples for reply in replies)
    names = [name for name in replies[0].metrics if name not in (EXAMPLES, NUMBER)]
    return {name: sum(reply.metrics[name] * reply.examples for reply in replies) / total for name in names}
