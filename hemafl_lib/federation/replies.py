"""Nodes and their replies: who is there, what a reply holds, and why one cannot be used.

A site's reply is a Flower message. It holds "metrics", after training "arrays", and the "site" that sent it;
a client that failed sends an error instead. `read_replies` reads each once, so that nothing after it deals
with Flower's records, and whatever is wrong with one becomes its `Reply.failure`: it never raises.
"""

import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from hemafl_lib.aggregation import Parameters
from hemafl_lib.errors import BudgetSpent, FederationError, quote
from hemafl_lib.federation.casting import fitted
from hemafl_lib.federation.exchange import byte_count, from_record
from hemafl_lib.federation.roster import LONGEST, NOTHING, Roster, Seat, shown

EXAMPLES, NUMBER = "num-examples", "partition-id"
"""Names of two metrics of every reply: the rows that it rests on, and which of the sites has sent it."""

MOST_EXAMPLES = 10**9
"""More rows than a site can have."""

MOST_STEPS = 10**9
"""More than a counter can grow in a round."""

MOST_METRICS = 1000

FAILURE, REFUSAL, SPENT = "failure", "refusal", "spent"
"""Records with a "reason": why a site could not answer, why it will not, why it must not train any more."""


@dataclass(frozen=True)
class Reply:
    """What one site sent.

    Attributes
    ----------
    node
        Flower's number of the node.
    site
        The name of the site that the node is, see `Roster`.
    claim
        Which site the reply says it is from.
    metrics
        Its numbers by name, without the partition-id.
    arrays, byte_count
        The arrays after training and their bytes as they travelled; None and 0 without any.
    failure
        Why it cannot be used, or None.
    spent
        Why the site must not train any more, or None.
    refusal
        Why the site does not answer, in its own words, or None.
    """

    node: int
    site: str = ""
    claim: Seat = NOTHING
    metrics: dict[str, int | float] = field(default_factory=dict)
    arrays: Parameters | None = None
    byte_count: int = 0
    failure: str | None = None
    spent: str | None = None
    refusal: str | None = None

    @property
    def examples(self) -> float:
        """Rows that the reply rests on: its weight."""
        return float(self.metrics[EXAMPLES])


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


# --- reading ---------------------------------------------------------------------------------------


def read_replies(messages: Iterable[Message], roster: Roster, places: int) -> list[Reply]:
    """Return what the sites sent, in their order, each named as the roster knows its node.

    ``places`` is how many sites there can be. A node that was asked and did not reply has a failure too.
    """
    replies: dict[int, Reply] = {}
    for reply in map(read_reply, messages):
        twice = replace(reply, failure="it sent two replies to one message")
        replies[reply.node] = twice if reply.node in replies else reply
    for node in roster.awaited - replies.keys():
        replies[node] = Reply(node, failure="no reply came in time")
    roster.awaited = set()
    wrong = roster.admit({node: reply.claim for node, reply in replies.items()}, places)
    return [
        replace(reply, site=roster.name(node), failure=wrong.get(node, reply.failure))
        for node, reply in sorted(replies.items(), key=lambda item: roster.order(item[0]))
    ]


def read_reply(message: Message) -> Reply:
    """Return what a node sent, or why it cannot be read."""
    reply = Reply(message.metadata.src_node_id)
    if message.has_error():
        return replace(reply, failure=f"the client failed: {quote(message.error.reason)}")
    records = dict(message.content.items())
    try:
        reply = replace(reply, claim=read_claim(records))
        if failure := read_reason(records, FAILURE):
            return replace(reply, failure=f"the client failed: {failure}")
        arrays = records.get("arrays")
        return replace(
            reply,
            spent=read_reason(records, SPENT),
            refusal=read_reason(records, REFUSAL),
            metrics=read_metrics(records),
            arrays=from_record(arrays) if isinstance(arrays, ArrayRecord) else None,
            byte_count=byte_count(arrays) if isinstance(arrays, ArrayRecord) else 0,
        )
    except FederationError as error:
        return replace(reply, failure=quote(str(error)))


def read_claim(records: Mapping[str, Any]) -> Seat:
    """Return which site a reply says it is from; raise `FederationError` for what no site can be."""
    metrics, site = records.get("metrics"), records.get("site")
    return Seat(
        metrics.get(NUMBER) if isinstance(metrics, MetricRecord) else None,  # type: ignore[arg-type]
        site.get("name") if isinstance(site, ConfigRecord) else None,  # type: ignore[arg-type]
    )


def read_reason(records: Mapping[str, Any], name: str) -> str | None:
    """Return the reason in a record, or None without the record; raise `FederationError` if it has none."""
    if name not in records:
        return None
    record = records[name]
    reason = record.get("reason") if isinstance(record, ConfigRecord) else None
    if not isinstance(reason, str) or not reason.strip():
        raise FederationError(f"it says '{name}', and gives no reason")
    return quote(reason)


def read_metrics(records: Mapping[str, Any]) -> dict[str, int | float]:
    """Return a reply's numbers; raise `FederationError`, which names the metric, if one is no number."""
    record = records.get("metrics")
    metrics = dict(record.items()) if isinstance(record, MetricRecord) else {}
    metrics.pop(NUMBER, None)
    if len(metrics) > MOST_METRICS:
        raise FederationError(f"it has {len(metrics)} metrics; send at most {MOST_METRICS}")
    numbers: dict[str, int | float] = {}
    for name, value in metrics.items():
        if not name.isprintable() or len(name) > LONGEST:
            raise FederationError(f"the name of its metric {shown(name)} is no short line of text")
        if not is_number(value):
            raise FederationError(f"its metric '{name}' is {shown(value)}, not one number")
        numbers[name] = value
    return numbers


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is one number, which a float can hold; epsilon is infinite without noise."""
    if isinstance(value, float):
        return value > -math.inf
    return type(value) is int and abs(value) < sys.float_info.max


# --- judging ---------------------------------------------------------------------------------------


def accepted(reply: Reply, current: Parameters | None) -> Reply:
    """Return the reply with its arrays in the types of the global ones, or with why it cannot be used.

    ``current`` holds the global arrays; None for an evaluation, which brings none.
    """
    if reply.failure is not None:
        return reply
    try:
        if reply.refusal is not None:
            raise FederationError(reply.refusal)
        check_examples(reply.metrics.get(EXAMPLES))
        if current is None:
            return reply
        if reply.arrays is None:
            raise FederationError("it holds no arrays")
        arrays = fitted(reply.arrays, current)
        check_counters(arrays, current)
    except FederationError as error:
        return replace(reply, failure=quote(str(error)))
    return replace(reply, arrays=arrays)


def check_examples(count: int | float | None) -> None:
    """Raise `FederationError` unless a site can have so many rows."""
    if count is None:
        raise FederationError("it does not say its number of examples")
    if not 0 < count <= MOST_EXAMPLES or count != int(count):
        raise FederationError(
            f"its number of examples is {shown(count)}, not a whole number from 1 to {MOST_EXAMPLES:,}"
        )


def check_counters(arrays: Parameters, current: Parameters) -> None:
    """Raise `FederationError` if an integer array, which is a counter, has changed as no counter does.

    The largest of the sites' counters is kept, so that one site could set it.
    """
    for name, value in arrays.items():
        if value.dtype.kind in "iu":
            growth = value.astype(np.float64) - current[name]
            odd = (growth != 0) & ((value < 0) | (growth > MOST_STEPS))
            if odd.any():
                raise FederationError(f"array '{name}' is a counter, and holds {value[odd][0]}")


def update_norm(arrays: Parameters, current: Parameters) -> float:
    """Return the Euclidean norm of a reply's difference from the global arrays (counters left out)."""
    with np.errstate(over="ignore"):
        squares = (
            float(np.square(np.subtract(arrays[k], current[k], dtype=np.float64)).sum())
            for k in current
            if current[k].dtype.kind not in "iu"
        )
        return float(np.sqrt(sum(squares)))


def norm_limit(norms: Sequence[float], current: Parameters, factor: float) -> float:
    """Return how large the norm of an update can plausibly be, given the finite ones of a round.

    That is ``factor`` times their median. Of two it is ``factor`` times the smaller, but not less than the
    norm of the global arrays: it may be the smaller that is odd. One alone may be any float64.
    """
    if len(norms) < 2:
        return sys.float_info.max
    if len(norms) > 2:
        return factor * float(np.median(norms)) or sys.float_info.max
    if not min(norms):
        return sys.float_info.max
    return max(factor * min(norms), update_norm(current, dict.fromkeys(current, np.zeros(()))))


def end_if_spent(round_number: int, replies: Sequence[Reply]) -> None:
    """Raise `BudgetSpent` if a site answered in this round that it must not train any more."""
    for reply in replies:
        if reply.spent is not None and reply.failure is None:
            raise BudgetSpent(
                f"site '{reply.site}' ends the run after round {round_number - 1}: {reply.spent}"
            )


def weighted_metrics(replies: Sequence[Reply]) -> dict[str, float]:
    """Return the mean of each metric that every reply has, weighted by their examples."""
    total = sum(reply.examples for reply in replies)
    shared = [name for name in replies[0].metrics if all(name in reply.metrics for reply in replies)]
    return {
        name: sum(reply.metrics[name] * (reply.examples / total) for reply in replies)
        for name in shared
        if name != EXAMPLES
    }
