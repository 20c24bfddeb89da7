"""The server's end of secure aggregation: every message becomes a session, every reply holds the mean."""

import math
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid

from hemafl_lib.aggregation import Parameters
from hemafl_lib.errors import FederationError, HemaflError, PrivacyError
from hemafl_lib.federation.exchange import from_record, get_record
from hemafl_lib.federation.flower_private import node_absence
from hemafl_lib.federation.replies import EXAMPLES, FAILURE
from hemafl_lib.federation.wire import WireGrid, stand_in, with_records
from hemafl_lib.secure.bundle import bundled
from hemafl_lib.secure.fixed_point import Vector
from hemafl_lib.secure.keys import KEY, PublicKeys, digest
from hemafl_lib.secure.packing import unpack_mean, unpack_sums, update_size
from hemafl_lib.secure.session import SEALED, threshold_of, unmask

SECURE, MASKED = "secure", "masked"
"""The record of a session's steps, and the array that holds a masked vector."""

SUMMED = (MessageType.TRAIN, MessageType.QUERY)
"""The kinds of messages whose replies are summed."""

NUMBERED = re.compile(r"\bsite number (\d{1,6})\b")
"""How a site calls another, of which it knows nothing but the keys."""


class SecureGrid(WireGrid):
    """Flower's `Grid` that brings back the sum of the replies and no single one.

    To each message whose site is in the sum there is a reply that holds the mean of the updates, or the sum
    of a statistic; the mean of equal replies is what they hold, so a strategy that takes their mean takes
    this one. A site that was lost has its own error as the reply. Should the sum be lost, all replies say
    why.

    Parameters
    ----------
    grid
        What carries the messages.
    threshold, bits, limit
        As in `SecureAggregation`.
    """

    def __init__(self, grid: Grid, threshold: int | None, bits: int, limit: float = math.inf) -> None:
        super().__init__(grid)
        self.threshold, self.bits, self.limit = threshold, bits, limit

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Return the replies as far as they came; each step of the session waits ``timeout`` seconds."""
        messages = list(messages)
        if not messages or messages[0].metadata.message_type not in SUMMED:
            return self.carry(messages, timeout).values()
        session = Session(self, messages, timeout)
        try:
            total, form = session.sum()
            found = self._stand_ins(session, total, form)
        except PrivacyError as error:
            reason = session.named(str(error))
            return [session.lost.get(node) or session.failure(node, reason) for node in session.messages]
        return [*session.lost.values(), *found]

    def _stand_ins(self, session: "Session", total: Vector, form: str) -> list[Message]:
        if form:
            sums = unpack_sums(total, form)
            return [stand_in(session.messages[node], reply, sums) for node, reply in session.masked.items()]
        mean, examples = unpack_mean(
            total, session.received, self.bits, limit=self.limit, parties=len(session.masked)
        )
        average = max(1, round(examples / len(session.masked)))
        return [
            stand_in(session.messages[node], reply, mean, {EXAMPLES: average, **metrics_of(reply)})
            for node, reply in session.masked.items()
        ]


class Session:
    """One sum: the messages of its four steps, or five where a site was lost after it had dealt shares.

    Attributes
    ----------
    messages
        What the sites are asked, by node.
    received
        The arrays that these messages hold.
    lost
        Why nodes are not in the sum, as their replies.
    masked
        The replies with masked vectors, by node.
    nodes
        The nodes that have shown keys, in the order in which sites number each other.
    """

    def __init__(self, grid: SecureGrid, messages: Sequence[Message], timeout: float | None) -> None:
        self.grid, self.timeout = grid, timeout
        self.messages = {message.metadata.dst_node_id: message for message in messages}
        self.received: Parameters = from_record(get_record(messages[0].content, "arrays", ArrayRecord))
        self.training = messages[0].metadata.message_type == MessageType.TRAIN
        self.id = secrets.token_bytes(KEY)
        self.lost: dict[int, Message] = {}
        self.masked: dict[int, Message] = {}
        self.nodes: list[int] = []

    def sum(self) -> tuple[Vector, str]:
        """Return the sum of the sites' vectors, and of a statistic which arrays it holds.

        Raises `PrivacyError` if too few sites were there at some step, or they are not asked the same.
        """
        self._check_same()
        threshold_of(self.grid.threshold, len(self.messages))
        keys = self._keys()
        self.nodes = nodes = list(keys)
        members = list(keys.values())
        threshold = threshold_of(self.grid.threshold, len(members))

        columns = {name: [vars(each)[name] for each in members] for name in vars(members[0])}
        dealt = self._usable(
            self._ask("deal", dict.fromkeys(nodes, columns)),
            lambda reply: sealed_of(reply, nodes.index(reply.metadata.src_node_id), len(members)),
        )
        present = [number for number, node in enumerate(nodes) if node in dealt]
        forwarded = {
            node: {
                "present": present,
                "sealed": [dealt[nodes[sender]][nodes.index(node)] for sender in present],
            }
            for node in dealt
        }
        self.masked = self._ask("mask", forwarded, bundled(next(iter(self.messages.values())).content))
        vectors = self._usable(self.masked, self._vector)
        self.masked = {node: self.masked[node] for node in vectors}
        survivors = [number for number in present if nodes[number] in vectors]
        form, question = self._form(vectors.values()), self._question()

        asked = self._agreed(survivors, present, list(vectors))
        shares = self._usable(
            self._ask("reveal", asked), lambda reply: shares_of(reply, len(present)), lose=False
        )
        total = unmask(
            self.id,
            members,
            threshold,
            present,
            {number: vectors[nodes[number]] for number in survivors},
            {number: shares[nodes[number]] for number in survivors if nodes[number] in shares},
            question,
        )
        return total, form

    def _keys(self) -> dict[int, PublicKeys]:
        """Return the keys of the sites, without those that would make every other site leave the session."""
        replies = self._ask("keys", {node: {} for node in self.messages})
        shown = self._usable(replies, keys_of)
        return self._usable(
            {node: replies[node] for node in shown},
            lambda reply: own_keys(reply.metadata.src_node_id, shown),
        )

    def _check_same(self) -> None:
        """Raise `PrivacyError` unless all sites are to be sent the same."""
        first, *others = [asked_of(message.content) for message in self.messages.values()]
        if any(other != first for other in others):
            raise PrivacyError(
                "the sites are not all sent the same arrays and config, so there is no sum; let the server "
                "send one message to all."
            )

    def _question(self) -> bytes:
        """Return the digest of what the sites were told, in their words; "" if none has sent a vector.

        It is no secret. Raises `PrivacyError` if they were not all told the same: their masks do not cancel.
        """
        records = [get_record(reply.content, SECURE, ConfigRecord) for reply in self.masked.values()]
        told = {record.get("question") for record in records if isinstance(record.get("question"), bytes)}
        if len(told) > 1:
            raise PrivacyError(
                "the sites say that they were not all told the same, so there is no sum; let each run this "
                "library, and ask who runs the server."
            )
        return cast(bytes, told.pop()) if told else b""

    def _agreed(
        self, survivors: Sequence[int], present: Sequence[int], nodes: Sequence[int]
    ) -> dict[int, dict[str, Any]]:
        """Return what the survivors are told for their last step: who they are, and that others agree."""
        if survivors == present:
            return {node: {"survivors": survivors} for node in nodes}
        replies = self._ask("agree", {node: {"survivors": survivors} for node in nodes})
        tags = self._usable(replies, lambda reply: tags_of(reply, len(nodes)), lose=False)
        none = [b""] * len(nodes)
        return {
            node: {"survivors": survivors, "tags": [tags.get(other, none)[place] for other in nodes]}
            for place, node in enumerate(nodes)
            if node in tags
        }

    def _ask(
        self, step: str, told: Mapping[int, Mapping[str, Any]], content: RecordDict | None = None
    ) -> dict[int, Message]:
        """Return the replies to one step, by node in the order of the messages; all get ``content``, too."""
        asked = []
        for node, more in told.items():
            record = ConfigRecord({"step": step, "session": self.id, **more})
            message = like(self.messages[node], content or RecordDict())
            asked.append(with_records(message, **{SECURE: record}))
        replies = self.grid.carry(asked, self.timeout)
        return {node: replies[node] for node in told if node in replies}

    def _usable(self, replies: Mapping[int, Message], read: Any, *, lose: bool = True) -> dict[int, Any]:
        """Return what ``read`` finds in each reply, and note as lost those that cannot be used."""
        found = {}
        for node, reply in replies.items():
            try:
                if reply.has_error() or SECURE not in reply.content:
                    raise PrivacyError("it left the session")
                found[node] = read(reply)
            except HemaflError as error:
                if lose:
                    self.lost[node] = self._loss(node, reply, str(error))
        if self.lost and not self.training:
            raise PrivacyError("a statistic is summed over all sites or none.")
        return found

    def failure(self, node: int, reason: str) -> Message:
        """Return the reply of a node that was not lost, where there is no sum.

        Of a statistic that is an empty one, so that whoever reads them all finds the site that was lost.
        """
        original = self.messages[node]
        if self.lost and not self.training:
            return Message(RecordDict({"arrays": ArrayRecord()}), reply_to=original)
        return node_absence(original, reason)

    def _loss(self, node: int, reply: Message, reason: str) -> Message:
        """Return the reply of a node that is not in the sum: what it says itself, or else the reason."""
        original = self.messages[node]
        if reply.has_error():
            said = Error(reply.error.code, self.named(reply.error.reason or ""))
            return Message(said, reply_to=original)
        if SECURE not in reply.content:
            said_so = reply.content.config_records.get(FAILURE, ConfigRecord())
            if isinstance(told := said_so.get("reason"), str):
                said_so["reason"] = self.named(told)
            return Message(reply.content, reply_to=original)
        return node_absence(original, reason)

    def named(self, text: str) -> str:
        """Return a sentence on "site number 3" with the node that this is: a session has its own numbers."""

        def with_node(found: re.Match[str]) -> str:
            number = int(found[1])
            return f"{found[0]} (node {self.nodes[number]})" if number < len(self.nodes) else found[0]

        return NUMBERED.sub(with_node, text)

    def _vector(self, reply: Message) -> Vector:
        """Return a masked vector; raise `FederationError` if the reply is none, or of a wrong size."""
        metrics_of(reply)
        vector = from_record(get_record(reply.content, "arrays", ArrayRecord)).get(MASKED, np.zeros(0))
        size = (1, update_size(self.received)) if self.training else (2, *vector.shape[-1:])
        if vector.dtype != np.uint64 or vector.shape != size:
            raise FederationError(
                "its masked vector has another size than its arrays; let it run this library"
            )
        return vector

    def _form(self, vectors: Iterable[Vector]) -> str:
        """Return which arrays of a statistic the sites have summed; "" after training.

        Raises `PrivacyError` if they are not the same for all.
        """
        records = [get_record(reply.content, SECURE, ConfigRecord) for reply in self.masked.values()]
        forms = {"" if self.training else str(record.get("form")) for record in records}
        if len(forms) > 1 or len({vector.shape for vector in vectors}) > 1:
            raise PrivacyError("the sites have summed different arrays; let each run this library.")
        return forms.pop() if forms else ""


def like(message: Message, content: RecordDict) -> Message:
    """Return a message of the same kind to the same node with another content."""
    kind, node = message.metadata.message_type, message.metadata.dst_node_id
    return Message(content, dst_node_id=node, message_type=kind)


def asked_of(content: RecordDict) -> dict[str, dict[str, Any]]:
    """Return what a site is asked, by record and name: arrays as they travel, and plain values."""
    return {
        name: {
            key: (value.dtype, tuple(value.shape), value.data) if isinstance(value, Array) else value
            for key, value in record.items()
        }
        for name, record in content.items()
        if name != SECURE
    }


def digest_of(asked: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return a digest of what `asked_of` returned, whatever its order."""
    return digest(
        *(
            part
            for name, record in sorted(asked.items())
            for key, value in sorted(record.items())
            for part in (name.encode(), key.encode(), *parts_of(value))
        )
    )


def parts_of(value: Any) -> tuple[bytes, ...]:
    """Return the bytes of an array after what they are, or those of a plain value in Python's words."""
    if isinstance(value, tuple):
        dtype, shape, data = value
        return f"{dtype} {shape}".encode(), data
    return b"", repr(value).encode()


def tags_of(reply: Message, count: int) -> list[bytes]:
    """Return the tags of a site that agrees; raise `HemaflError` if they are not so many."""
    return list_of_bytes(reply, "tags", count)


def keys_of(reply: Message) -> PublicKeys:
    """Return the keys that a site shows; raise `HemaflError` if they are none."""
    record = get_record(reply.content, SECURE, ConfigRecord)
    return PublicKeys(*(cast(bytes, record.get(name)) for name in ("mask", "seal", "commitment")))


def own_keys(node: int, shown: Mapping[int, PublicKeys]) -> PublicKeys:
    """Return the keys of a node; raise `PrivacyError` if one is shown twice, by it or by another node too.

    Keys are passed on after all have come, so that no site can show another's by what the server tells it:
    who does shows its own under two names, or has listened. Which of the two, the server cannot tell, and
    both are left out, as no other site would stay with them.
    """
    keys = shown[node]
    if keys.mask == keys.seal:
        raise PrivacyError("its mask key is its seal key too; let it run this library.")
    twins = [n for n, other in shown.items() if {keys.mask, keys.seal} & {other.mask, other.seal}]
    if twins != [node]:
        others = ", ".join(f"node {twin}" for twin in twins if twin != node)
        raise PrivacyError(
            f"it shows a key that {others} shows too, and whose it is cannot be told; ask both, and let each "
            "run this library."
        )
    return keys


def sealed_of(reply: Message, number: int, count: int) -> list[bytes]:
    """Return the shares that a site sealed; raise `HemaflError` unless there is one for each other site."""
    sealed = list_of_bytes(reply, "sealed", count)
    if [len(each) for each in sealed] != [0 if place == number else SEALED for place in range(count)]:
        raise FederationError(f"its 'sealed' are not {SEALED} bytes for each site; let it run this library")
    return sealed


def shares_of(reply: Message, count: int) -> list[bytes]:
    """Return the shares that a site reveals; raise `HemaflError` if they are not so many."""
    return list_of_bytes(reply, "shares", count)


def list_of_bytes(reply: Message, name: str, count: int) -> list[bytes]:
    """Return a list of a session's record; raise `FederationError` if it is not so many bytes objects."""
    found = get_record(reply.content, SECURE, ConfigRecord).get(name)
    if not isinstance(found, list) or len(found) != count or not all(isinstance(x, bytes) for x in found):
        raise FederationError(f"its '{name}' are not one for each of {count} sites; let it run this library")
    return cast(list[bytes], found)


def metrics_of(reply: Message) -> dict[str, Any]:
    """Return the metrics that a site tells."""
    return dict(get_record(reply.content, "metrics", MetricRecord))
