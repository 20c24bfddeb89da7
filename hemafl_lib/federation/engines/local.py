"""The local engine: any Flower Message-API app in the notebook's own process.

Flower's `Grid` is the server app's view of the nodes. `LocalGrid` answers its calls with a pool of
threads, one message per thread and one torch thread each, so that nothing is serialised twice, no
process starts, and a round of a small model costs milliseconds.
"""

import copy
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.flower_private import RunGrid, client_failure, identify_process, number_message
from hemafl_lib.parallel import cores
from hemafl_lib.progress import bar

Record = ArrayRecord | ConfigRecord | MetricRecord

RUN_ID = 1
SERVER_NODE_ID = 1
FIRST_NODE_ID = 1000


def own_copy(message: Message, number: int) -> Message:
    """Return the message as one node receives it: its own records, the same immutable bytes.

    Strategies put one `RecordDict` into all messages, and some take arrays out of the replies.
    """
    received = copy.copy(message)
    received.content = message.content.copy()
    for name, record in message.content.items():
        received.content[name] = own_record(record)
    number_message(received, str(number))
    return received


def own_record(record: Record) -> Record:
    """Return a copy of a record; its arrays are its own, their bytes are shared."""
    copied = record.copy()
    if isinstance(copied, ArrayRecord):
        for name, array in copied.items():
            copied[name] = copy.copy(array)
    return copied


def check_reply(reply: object, message: Message) -> None:
    """Raise `FederationError` if a client app's answer is not a reply to ``message``."""
    if not isinstance(reply, Message):
        raise FederationError(
            f"the client app returned {type(reply).__name__}, not a Message; let it, and each mod around it, "
            "return the reply."
        )
    sent, got = reply.metadata, message.metadata
    if sent.reply_to_message_id != got.message_id or sent.src_node_id != got.dst_node_id:
        raise FederationError(
            "the client app returned a message that is no reply to the one it got; make it with "
            "Message(content, reply_to=message)."
        )


class LocalGrid(RunGrid):
    """Flower's `Grid` over threads of this process.

    Parameters
    ----------
    client_app
        What every node runs.
    nodes
        Number of nodes; node k has the node config ``{"partition-id": k, "num-partitions": nodes}``.
    workers
        Number of messages that are worked on at the same time.
    run_config
        The run's settings, as in `Context.run_config`.
    """

    def __init__(
        self,
        client_app: ClientApp,
        nodes: int,
        *,
        workers: int | None = None,
        run_config: UserConfig | None = None,
        progress: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(RUN_ID)
        identify_process(RUN_ID, SERVER_NODE_ID)
        self.client_app, self.nodes, self.progress = client_app, nodes, progress
        self.workers = min(nodes, workers or cores())
        self.run_config = dict(run_config or {})
        self.contexts: dict[int, Context] = {}
        self._locks = {FIRST_NODE_ID + k: threading.Lock() for k in range(nodes)}
        self._futures: dict[str, Future[Message]] = {}
        self._count = 0
        self._pool = ThreadPoolExecutor(
            self.workers, "client", initializer=torch.set_num_threads, initargs=(1,)
        )

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def get_node_ids(self) -> Iterable[int]:
        """Return the IDs of all nodes, in the order of the sites."""
        return list(self._locks)

    def site_numbers(self) -> dict[int, int]:
        """Return which of the sites each node is."""
        return {node: number for number, node in enumerate(self._locks)}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand messages to the pool; return their IDs."""
        identifiers = []
        for message in messages:
            if message.metadata.dst_node_id not in self._locks:
                raise FederationError(
                    f"node {message.metadata.dst_node_id} is not one of the {self.nodes} nodes."
                )
            self._count += 1
            identifier = str(self._count)
            received = own_copy(message, self._count)
            self._futures[identifier] = self._pool.submit(self._answer, received)
            self._futures[identifier].add_done_callback(lambda _: self.progress())
            identifiers.append(identifier)
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are ready, each once, in the order of ``message_ids``."""
        ready = [i for i in message_ids if i in self._futures and self._futures[i].done()]
        return [self._futures.pop(i).result() for i in ready]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Return the replies that come within ``timeout`` seconds, in the order of ``messages``."""
        identifiers = list(self.push_messages(messages))
        wait([self._futures[identifier] for identifier in identifiers], timeout)
        replies = self.pull_messages(identifiers)
        for late in identifiers:
            self._futures.pop(late, None)
        return replies

    def context(self, node_id: int) -> Context:
        """Return a node's context, which lasts for the whole run."""
        if node_id not in self.contexts:
            config: UserConfig = {"partition-id": node_id - FIRST_NODE_ID, "num-partitions": self.nodes}
            self.contexts[node_id] = Context(RUN_ID, node_id, config, RecordDict(), dict(self.run_config))
        return self.contexts[node_id]

    def restore_states(self, states: Mapping[int, RecordDict]) -> None:
        """Give nodes, by their "partition-id", the state that they had in an earlier run."""
        for number, state in states.items():
            self.context(FIRST_NODE_ID + number).state = state

    def _answer(self, message: Message) -> Message:
        node_id = message.metadata.dst_node_id
        with self._locks[node_id]:
            try:
                reply = self.client_app(message, self.context(node_id))
                check_reply(reply, message)
            except Exception:
                reply = client_failure(message, traceback.format_exc())
        number_message(reply, f"{message.metadata.message_id}-reply")
        return reply


def run_local(
    server_app: ServerApp,
    client_app: ClientApp,
    nodes: int,
    *,
    workers: int | None = None,
    run_config: UserConfig | None = None,
    progress: bool | None = None,
    interrupt: Callable[[], None] = lambda: None,
) -> Context:
    """Run any Flower app on ``nodes`` nodes in this process; return the server app's context.

    ``progress`` shows a bar (None: only on a terminal). On Ctrl-C, ``interrupt`` is called so that
    running clients can stop, nothing new begins, and `KeyboardInterrupt` goes on once all have ended.
    """
    threads = torch.get_num_threads()
    with bar(unit="message", desc="federation", show=progress) as shown:
        grid = LocalGrid(client_app, nodes, workers=workers, run_config=run_config, progress=shown.update)
        context = Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), dict(run_config or {}))
        try:
            torch.set_num_threads(1)
            server_app(grid, context)
        except BaseException:
            interrupt()
            raise
        finally:
            grid.close()
            torch.set_num_threads(threads)
    return context
