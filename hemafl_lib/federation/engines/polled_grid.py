"""The server app's view of nodes in other programs: every message gets a reply, or a reason for none."""

import time
from collections.abc import Callable, Iterable, Mapping

from flwr.app import Message
from flwr.serverapp import Grid

from hemafl_lib.federation.engines.pauses import Pauses
from hemafl_lib.federation.flower_private import RunGrid, node_absence

LONGEST = 0.5
"""Seconds of the longest pause between two questions for replies; Flower's own SuperNode looks every 3 s."""


class PolledGrid(RunGrid):
    """One of Flower's own grids, which knows when a node will not answer and gives every message a reply.

    Parameters
    ----------
    flower
        Flower's grid, which carries the messages.
    nodes
        Returns the IDs of all nodes that take part, whether they are connected or not. It may raise an error
        to end the server app.
    gone
        Returns why a node will not answer any more, or None as long as it may. It is asked again and again,
        and may raise an error to end the server app.
    numbers
        Which of the sites each node is, where that is known before it says so.
    """

    def __init__(
        self,
        flower: Grid,
        nodes: Callable[[], Iterable[int]],
        gone: Callable[[int], str | None],
        numbers: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(flower.run.run_id)
        self.flower, self.nodes, self.gone, self.numbers = flower, nodes, gone, dict(numbers or {})

    def get_node_ids(self) -> Iterable[int]:
        """Return the IDs of all nodes that take part."""
        return list(self.nodes())

    def site_numbers(self) -> dict[int, int]:
        """Return which of the sites each node is."""
        return self.numbers

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand messages to Flower; return their IDs."""
        return self.flower.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that have come, each once."""
        return self.flower.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Return one reply to each message; for a node that does not give any, an error that says why.

        ``timeout`` is in seconds; None waits for as long as the nodes are there.
        """
        messages = list(messages)
        waiting = dict(zip(self.push_messages(messages), messages, strict=True)) if messages else {}
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        replies: list[Message] = []
        pauses = Pauses(LONGEST)
        while waiting:
            for reply in self.pull_messages(waiting):
                pauses.answered()
                message = waiting.pop(reply.metadata.reply_to_message_id)
                # The SuperLink answers for a node that is away, and in its own name.
                replies.append(Message(reply.error, reply_to=message) if reply.has_error() else reply)
            late = f"it did not answer within {timeout:g} s" if time.monotonic() > end else None
            for number, message in list(waiting.items()):
                reason = late or self.gone(message.metadata.dst_node_id)
                if reason is not None:
                    replies.append(node_absence(waiting.pop(number), reason))
            if waiting:
                pauses.pause()
        return replies
