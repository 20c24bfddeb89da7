"""The one Flower strategy of the library: it puts any `Aggregator` to work and refuses bad replies.

`AggregatorStrategy.train_round` and `evaluate_round` are one round, for the loop in
`hemafl_lib.federation.server`. The four functions that Flower asks of a strategy do the same in steps, so
that Flower's own loop, `start`, can drive it too.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from hemafl_lib.aggregation import Aggregator, Parameters, State, aggregate, begin
from hemafl_lib.errors import one_line
from hemafl_lib.federation.exchange import byte_count, from_record, to_record
from hemafl_lib.federation.replies import (
    Reply,
    accepted,
    end_if_spent,
    norm_limit,
    read_replies,
    update_norm,
    wait_for_nodes,
    weighted_metrics,
)
from hemafl_lib.federation.roster import Roster

PATIENCE = 3600.0
"""Seconds to wait for replies where nobody says otherwise, as Flower does."""


class AggregatorStrategy(Strategy):
    """Ask every node, check what comes back, and aggregate it in the order of the sites.

    Parameters
    ----------
    aggregator
        The rule that combines the replies.
    names
        Names of the sites by their "partition-id", where they are known beforehand.
    nodes
        How many nodes to wait for before the first round. Later rounds go on with those that are online, one
        at least, and ``refused`` names the others.
    rounds
        How many rounds the whole run has, for learning-rate schedules.
    trained
        Names on which a server optimiser may step; None for all floating-point arrays.
    evaluate
        Whether the sites evaluate the new global model after each round.
    implausible
        An update is refused if its norm exceeds this many times the usual one, see `norm_limit`.
    deadline
        Seconds to wait for the nodes.
    patience
        Seconds to wait for the replies to each question.

    Attributes
    ----------
    roster
        Which node is which site.
    current
        The global arrays.
    state
        The aggregator's state.
    history, refused
        Rows of the tables of a `hemafl_lib.federation.Run`.
    bytes_sent
        Bytes of the arrays in both directions.
    aggregated_rounds
        Rounds with a usable reply.
    """

    def __init__(
        self,
        aggregator: Aggregator,
        *,
        nodes: int,
        rounds: int,
        names: Sequence[str] = (),
        trained: frozenset[str] | None = None,
        evaluate: bool = True,
        implausible: float = 1000.0,
        deadline: float = 120.0,
        patience: float = PATIENCE,
    ) -> None:
        self.aggregator, self.nodes, self.rounds, self.trained = aggregator, nodes, rounds, trained
        self.evaluate, self.implausible, self.deadline = evaluate, implausible, deadline
        self.patience = patience
        self.roster, self.warned = Roster(names), False
        self.current: Parameters = {}
        self.state: State | None = None
        self.history: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        self.bytes_sent = 0
        self.aggregated_rounds = 0
        self._warn_of_weakness(nodes)

    # --- one round -----------------------------------------------------------------------------------

    def train_round(self, number: int, arrays: Parameters, grid: Grid) -> Parameters:
        """Have every site train from ``arrays``; return the new global arrays.

        Without any good reply they stay as they are. Raises `BudgetSpent` if a site must not train any more.
        """
        self.current = arrays
        messages = self._messages(number, to_record(arrays), MessageType.TRAIN, grid)
        self._aggregate(number, grid.send_and_receive(messages=messages, timeout=self.patience))
        return self.current

    def evaluate_round(self, number: int, arrays: Parameters, grid: Grid) -> None:
        """Have every site evaluate ``arrays`` and keep its metrics, or do nothing if nobody evaluates."""
        if self.evaluate:
            messages = self._messages(number, to_record(arrays), MessageType.EVALUATE, grid)
            self._keep_metrics(number, grid.send_and_receive(messages=messages, timeout=self.patience))

    # --- the same in Flower's steps ------------------------------------------------------------------

    def summary(self) -> None:
        """Say nothing: the settings stand in the `Run`."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord | None, grid: Grid
    ) -> Iterable[Message]:
        """Send the global arrays to every node."""
        self.current = from_record(arrays)
        return self._messages(server_round, arrays, MessageType.TRAIN, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the good replies; without any, the global arrays stay as they are.

        Raises `BudgetSpent` if a site must not train any more.
        """
        good = self._aggregate(server_round, replies)
        return (to_record(self.current), MetricRecord({**weighted_metrics(good)})) if good else (None, None)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord | None, grid: Grid
    ) -> Iterable[Message]:
        """Send the new global arrays to every node, or to none if nobody evaluates."""
        return self._messages(server_round, arrays, MessageType.EVALUATE, grid) if self.evaluate else []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Keep every site's metrics, and return their mean weighted by examples."""
        good = self._keep_metrics(server_round, replies)
        return MetricRecord({**weighted_metrics(good)}) if good else None

    # --- asking --------------------------------------------------------------------------------------

    def _messages(self, number: int, arrays: ArrayRecord, kind: str, grid: Grid) -> list[Message]:
        nodes = self._online(number, kind, grid)
        self.bytes_sent += byte_count(arrays) * len(nodes)
        config = ConfigRecord({"server-round": number, "num-rounds": self.rounds})
        content = RecordDict({"arrays": arrays, "config": config})
        return [Message(content=content, message_type=kind, dst_node_id=node) for node in nodes]

    def _online(self, number: int, phase: str, grid: Grid) -> list[int]:
        """Return the nodes to ask, and note which of those asked before are gone."""
        nodes = wait_for_nodes(grid, 1 if self.roster.asked else self.nodes, self.deadline)
        for node in self.roster.call(nodes, grid):
            reason = "its node was not online when the server asked"
            self._refuse(number, phase, self.roster.name(node), reason)
        return nodes

    def _warn_of_weakness(self, sites: int) -> None:
        """Say once if the aggregator cannot do at this number of sites what it is chosen for."""
        caveat = self.aggregator.caveat(sites)
        if caveat and not self.warned:
            warnings.warn(caveat, stacklevel=2)
            self.warned = True

    # --- what comes back -----------------------------------------------------------------------------

    def _aggregate(self, number: int, messages: Iterable[Message]) -> list[Reply]:
        replies = self._read(messages)
        end_if_spent(number, replies)
        good = self._plausible(number, self._usable(number, "train", replies, self.current))
        if not good:
            return []
        self._warn_of_weakness(len(good))
        self.bytes_sent += sum(reply.byte_count for reply in good)
        if self.state is None:
            self.state = begin(self.aggregator, self.current, self.trained)
        self.current, self.state = aggregate(
            self.aggregator,
            self.current,
            [reply.arrays for reply in good if reply.arrays is not None],
            [reply.examples for reply in good],
            self.state,
            self.trained,
        )
        self.aggregated_rounds += 1
        self._record(number, "train", good)
        return good

    def _keep_metrics(self, number: int, messages: Iterable[Message]) -> list[Reply]:
        good = self._usable(number, "evaluate", self._read(messages), None)
        self._record(number, "evaluate", good)
        return good

    def _read(self, messages: Iterable[Message]) -> list[Reply]:
        return read_replies(messages, self.roster, max(self.nodes, len(self.roster.asked)))

    def _usable(
        self, number: int, phase: str, replies: Sequence[Reply], current: Parameters | None
    ) -> list[Reply]:
        judged = [accepted(reply, current) for reply in replies]
        for reply in judged:
            if reply.failure is not None:
                self._refuse(number, phase, reply.site, reply.failure)
        return [reply for reply in judged if reply.failure is None]

    def _plausible(self, number: int, replies: list[Reply]) -> list[Reply]:
        if len(replies) < 2:
            return replies
        norms = [update_norm(reply.arrays or {}, self.current) for reply in replies]
        limit = norm_limit([norm for norm in norms if norm < math.inf], self.current, self.implausible)
        good = []
        for reply, norm in zip(replies, norms, strict=True):
            if norm <= limit:
                good.append(reply)
            else:
                reason = f"its update's norm {norm:.3g} is implausible; those of the others allow {limit:.3g}"
                self._refuse(number, "train", reply.site, reason)
        return good

    def _refuse(self, number: int, phase: str, site: str, reason: str) -> None:
        self.refused.append({"round": number, "phase": phase, "site": site, "reason": one_line(reason, 800)})

    def _record(self, number: int, phase: str, replies: Sequence[Reply]) -> None:
        for reply in replies:
            row = {"round": number, "phase": phase, "site": reply.site}
            for metric, value in reply.metrics.items():
                self.history.append({**row, "metric": metric, "value": value})
