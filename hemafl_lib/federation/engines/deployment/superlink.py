"""The calling process as the server app of a SuperLink.

Flower usually starts the server app in a program of its own. A SuperLink that was started with
``--isolation process`` leaves that to others: whoever takes the run's task speaks for the server. Here
it is the process that called `hemafl_lib.federation.run`, so that its strategy, its monitored cohorts
and its checkpoint stay what they are on the other engines. The classes by which Flower's own server
program does this are private to Flower; the module `runtime` says where they are used.
"""

import contextlib
import hashlib
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import httpx
from flwr.app import Context, Error, Message
from flwr.cli.build import build_fab_from_files
from flwr.common.constant import ErrorCode, SubStatus
from flwr.common.serde import context_from_proto, fab_to_proto, run_from_proto
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, StartRunRequest
from flwr.proto.runtime_pb2 import PullTaskInputRequest, PushTaskOutputRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.deployment.runtime import connect, runtime_client, take_task, task_client
from hemafl_lib.federation.quiet import without_tips

BUNDLE = b"""
[project]
name = "hemafl-deployment"
version = "0.1.0"
license = "MIT"
[tool.flwr.app]
publisher = "hemafl"
[tool.flwr.app.components]
serverapp = "hemafl_lib.federation.engines.deployment.node:app"
clientapp = "hemafl_lib.federation.engines.deployment.node:app"
"""
"""Flower's app bundle, which every run has; here all programs run the apps that they hold already."""

POLL = 0.2
"""Seconds between two questions for replies."""

ONE_AT_A_TIME = threading.Lock()
"""Flower keeps the identity of the task at hand in one place for the whole process."""


class SuperLink:
    """A running SuperLink, as the one who administers it and serves its runs sees it.

    Parameters
    ----------
    address
        "127.0.0.1:PORT".
    authority
        File of the certificate that has signed the SuperLink's.
    secret
        What proves that this process may take tasks; the SuperLink has it in a file.
    """

    def __init__(self, address: str, authority: Path, secret: bytes) -> None:
        self.url, self.secret = f"https://{address}", secret
        self.tls = ssl.create_default_context(cafile=authority)
        self._control = connect(ControlHttpClient, self.url, tls=self.tls)

    def close(self) -> None:
        """End the connection."""
        self._control.close()

    def is_up(self) -> bool:
        """Return whether it answers."""
        try:
            self._control.ListNodes(ListNodesRequest())
        except httpx.TransportError:
            return False
        return True

    def register(self, public_key: bytes) -> int:
        """Let the node with this public key (PEM) take part; return the node's ID."""
        return self._control.RegisterNode(RegisterNodeRequest(public_key=public_key)).node_id

    def online(self) -> set[int]:
        """Return the IDs of the nodes that are connected."""
        nodes = self._control.ListNodes(ListNodesRequest()).nodes_info
        return {node.node_id for node in nodes if node.status == "online"}

    @contextlib.contextmanager
    def serve(
        self, nodes: Sequence[int], gone: Callable[[int], str | None]
    ) -> Iterator[tuple["DeploymentGrid", Context]]:
        """Begin a run and yield what its server app needs; the run is finished afterwards.

        ``nodes`` and ``gone`` are those of `DeploymentGrid`.
        """
        with ONE_AT_A_TIME:
            with without_tips():
                content, _ = build_fab_from_files({"pyproject.toml": BUNDLE})
            bundle = fab_to_proto(Fab(hashlib.sha256(content).hexdigest(), content, {}))
            self._control.StartRun(StartRunRequest(fab=bundle))
            with task_client(self.url, self.secret, self.tls) as client:
                token = take_task(client, TaskType.SERVER_APP)
            if token is None:
                raise FederationError("the SuperLink did not accept the run; look into its log.")
            with DeploymentGrid(self, token, nodes, gone).taken() as (grid, context):
                yield grid, context


class DeploymentGrid(HttpGrid):
    """Flower's grid over HTTPS, which knows its nodes and gives every message a reply.

    Parameters
    ----------
    superlink
        The SuperLink that hands messages on.
    token
        Of the task of which this process is in charge.
    nodes
        IDs of the nodes that take part, in the order of the sites, whether they are connected or not.
    gone
        Returns why a node will not answer any more, or None as long as it may.
    """

    def __init__(
        self, superlink: SuperLink, token: str, nodes: Sequence[int], gone: Callable[[int], str | None]
    ) -> None:
        super().__init__(superlink.url, token=token)
        self.nodes, self.gone = list(nodes), gone
        self._client = runtime_client(superlink.url, token, superlink.tls)

    @contextlib.contextmanager
    def taken(self) -> Iterator[tuple["DeploymentGrid", Context]]:
        """Take the task and keep it alive: yield this grid and the server app's context."""
        task = self._runtime_client.PullTaskInput(PullTaskInputRequest())
        context = context_from_proto(task.context)
        self.set_run(run_from_proto(task.run))
        heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(self._runtime_client))
        outcome = SubStatus.FAILED
        try:
            heartbeat.start()
            with identity(task.task_id, task.run.run_id, context.node_id):
                yield self, context
            outcome = SubStatus.COMPLETED
        finally:
            if heartbeat.is_running:
                heartbeat.stop()
            # The run is over either way; a SuperLink that has ended need not be told.
            self._runtime_client._retry_invoker.max_tries = 1
            with contextlib.suppress(httpx.HTTPError):
                self._runtime_client.PushTaskOutput(PushTaskOutputRequest(sub_status=outcome))
            self.close()

    def get_node_ids(self) -> Iterable[int]:
        """Return the IDs of all nodes that take part, in the order of the sites."""
        return list(self.nodes)

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
        while waiting:
            for reply in self.pull_messages(waiting):
                message = waiting.pop(reply.metadata.reply_to_message_id)
                # The SuperLink answers for a node that is away, and in its own name.
                away = reply.has_error()
                replies.append(Message(reply.error, reply_to=message) if away else reply)
            late = f"it did not answer within {timeout} s" if time.monotonic() > end else None
            for number, message in list(waiting.items()):
                reason = late or self.gone(message.metadata.dst_node_id)
                if reason is not None:
                    error = Error(ErrorCode.NODE_UNAVAILABLE, reason)
                    replies.append(Message(error, reply_to=waiting.pop(number)))
            if waiting:
                time.sleep(POLL)
        return replies


@contextlib.contextmanager
def identity(task: int, run: int, node: int) -> Iterator[None]:
    """Let messages that this process makes be those of a task, and of the one before afterwards."""
    before = TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id
    TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = task, run, node
    try:
        yield
    finally:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before
