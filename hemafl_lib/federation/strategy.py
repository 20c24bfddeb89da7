"""The one Flower strategy of the library: it puts any `Aggregator` to work and refuses bad replies."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from hemafl_lib.aggregation import Aggregator, Parameters, State, aggregate, begin
from hemafl_lib.errors import BudgetSpent, FederationError
from hemafl_lib.federation.exchange import byte_count, from_record, to_record


class AggregatorStrategy(Strategy):
    """Ask every node, check what comes back, and aggregate it in the order of the sites.

    Parameters
    ----------
    aggregator
        The rule that combines the replies.
    nodes
        How many nodes to wait for before the first round. Later rounds go on with those that are online, one
        at least, and ``refused`` names the others.
    rounds
        How many rounds the whole run has, for learning-rate schedules.
    trained
        Names on which a server optimiser may step; None for all floating-point arrays.
    evaluate
        Whether the sites evaluate the new global model after each round.
    done
        Rounds that an earlier, interrupted run has finished.
    implausible
        An update is refused if its norm exceeds this many times the median norm of the round.
    deadline
        Seconds to wait for the nodes.
    """

    def __init__(
        self,
        aggregator: Aggregator,
        *,
        nodes: int,
        rounds: int,
        trained: frozenset[str] | None = None,
        evaluate: bool = True,
        done: int = 0,
        implausible: float = 1000.0,
        deadline: float = 120.0,
    ) -> None:
        self.aggregator, self.nodes, self.rounds, self.trained = aggregator, nodes, rounds, trained
        self.evaluate, self.done, self.implausible, self.deadline = evaluate, done, implausible, deadline
        self.asked: dict[int, str] = {}
        self.current: Parameters = {}
        self.state: State | None = None
        self.history: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        self.bytes_sent = 0
        self.aggregated_rounds = 0

    def summary(self) -> None:
        """Say nothing: the settings stand in the `Run`."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the global arrays to every node."""
        self.current = from_record(arrays)
        return self._messages(server_round, arrays, MessageType.TRAIN, grid)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the new global arrays to every node, or to none if nobody evaluates."""
        return self._messages(server_round, arrays, MessageType.EVALUATE, grid) if self.evaluate else []

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the good replies; without any, the global arrays stay as they are.

        Raises `BudgetSpent` if a site must not train any more.
        """
        number = self.done + server_round
        replies = sorted(replies, key=reply_order)
        end_if_spent(number, replies)
        good = self._good_replies(number, "train", replies)
        good = self._plausible(number, good)
        if not good:
            return None, None
        self.bytes_sent += sum(byte_count(reply.content["arrays"]) for reply in good)
        if self.state is None:
            self.state = begin(self.aggregator, self.current, self.trained)
        self.current, self.state = aggregate(
            self.aggregator,
            self.current,
            [from_record(reply.content["arrays"]) for reply in good],
            [float(reply.content["metrics"]["num-examples"]) for reply in good],
            self.state,
            self.trained,
        )
        self.aggregated_rounds += 1
        self._record(number, "train", good)
        return to_record(self.current), weighted_metrics(good)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Keep every site's metrics, and their mean weighted by examples."""
        number = self.done + server_round
        good = self._good_replies(number, "evaluate", replies)
        self._record(number, "evaluate", good)
        return weighted_metrics(good) if good else None

    def _messages(self, server_round: int, arrays: ArrayRecord, kind: str, grid: Grid) -> list[Message]:
        number = self.done + server_round
        nodes = self._online(number, kind, grid)
        self.bytes_sent += byte_count(arrays) * len(nodes)
        config = ConfigRecord({"server-round": number, "num-rounds": self.rounds})
        content = RecordDict({"arrays": arrays, "config": config})
        return [Message(content=content, message_type=kind, dst_node_id=node) for node in nodes]

    def _online(self, number: int, phase: str, grid: Grid) -> list[int]:
        """Return the nodes to ask, and note which of those asked before are gone."""
        nodes = wait_for_nodes(grid, 1 if self.asked else self.nodes, self.deadline)
        for node, site in self.asked.items():
            if node not in nodes:
                reason = "its node was not online when the server asked"
                self.refused.append({"round": number, "phase": phase, "site": site, "reason": reason})
        self.asked = {node: f"node {node}" for node in nodes} | self.asked
        return nodes

    def _good_replies(self, number: int, phase: str, replies: Iterable[Message]) -> list[Message]:
        good = []
        for reply in sorted(replies, key=reply_order):
            self.asked[reply.metadata.src_node_id] = site_name(reply)
            reason = refusal(reply, self.current if phase == "train" else None)
            if reason is None:
                good.append(reply)
            else:
                self._refuse(number, phase, reply, reason)
        return good

    def _plausible(self, number: int, replies: list[Message]) -> list[Message]:
        if len(replies) < 3:
            return replies
        norms = [update_norm(from_record(reply.content["arrays"]), self.current) for reply in replies]
        good, median = [], float(np.median(norms))
        for reply, norm in zip(replies, norms, strict=True):
            if norm > self.implausible * median > 0:
                reason = f"its update's norm {norm:.3g} is implausible beside the median {median:.3g}"
                self._refuse(number, "train", reply, reason)
            else:
                good.append(reply)
        return good

    def _refuse(self, number: int, phase: str, reply: Message, reason: str) -> None:
        self.refused.append({"round": number, "phase": phase, "site": site_name(reply), "reason": reason})

    def _record(self, number: int, phase: str, replies: Sequence[Message]) -> None:
        for reply in replies:
            row = {"round": number, "phase": phase, "site": site_name(reply)}
            for metric, value in reply.content["metrics"].items():
                if metric != "partition-id":
                    self.history.append({**row, "metric": metric, "value": value})


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


def reply_order(reply: Message) -> tuple[int, int]:
    """Order replies by site, so that sums do not depend on who answers first or on node IDs."""
    if reply.has_content() and "partition-id" in reply.content.get("metrics", {}):
        return 0, int(reply.content["metrics"]["partition-id"])
    return 1, reply.metadata.src_node_id


def end_if_spent(number: int, replies: Iterable[Message]) -> None:
    """Raise `BudgetSpent` if a site answered in round ``number`` that it must not train any more."""
    for reply in replies:
        if reply.has_content() and "spent" in reply.content:
            reason = reply.content["spent"]["reason"]
            raise BudgetSpent(f"site '{site_name(reply)}' ends the run after round {number - 1}: {reason}")


def site_name(reply: Message) -> str:
    """Return the name that a site gave with its reply, else its node's number."""
    if reply.has_content() and "name" in reply.content.get("site", {}):
        return str(reply.content["site"]["name"])
    return f"node {reply.metadata.src_node_id}"


def refusal(reply: Message, current: Parameters | None) -> str | None:
    """Return why a reply cannot be used, or None if it can.

    ``current`` holds the global arrays that the reply's must match; None for an evaluation.
    """
    if reply.has_error():
        return f"the client failed: {last_line(reply.error.reason)}"
    metrics = reply.content.get("metrics", {})
    examples = metrics.get("num-examples")
    if not isinstance(examples, int | float) or not np.isfinite(examples) or examples <= 0:
        return f"its number of examples is {examples}"
    if current is None:
        return None
    if "arrays" not in reply.content:
        return "it holds no arrays"
    return arrays_refusal(from_record(reply.content["arrays"]), current)


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


def last_line(text: str | None) -> str:
    """Return the last line of an error's text that says anything."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def update_norm(arrays: Parameters, current: Parameters) -> float:
    """Return the Euclidean norm of a reply's difference from the global arrays (counters left out)."""
    squares = (
        float(np.square(np.subtract(arrays[k], current[k], dtype=np.float64)).sum())
        for k in current
        if not np.issubdtype(current[k].dtype, np.integer)
    )
    return float(np.sqrt(sum(squares)))


def weighted_metrics(replies: Sequence[Message]) -> MetricRecord:
    """Return each metric's mean over the replies, weighted by their examples."""
    metrics = [dict(reply.content["metrics"].items()) for reply in replies]
    total = float(sum(m["num-examples"] for m in metrics))
    names = [k for k in metrics[0] if k not in ("num-examples", "partition-id")]
    return MetricRecord({k: sum(m[k] * m["num-examples"] for m in metrics) / total for k in names})
