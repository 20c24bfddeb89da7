"""Every private name of Flower that the library uses stands here, but for those of one program.

That program is `hemafl_lib.federation.engines.deployment.supernode`, which is run by itself.

Flower promises to keep what ``flwr.app``, ``flwr.clientapp``, ``flwr.serverapp`` and ``flwr.simulation``
export. Three things need more: the type of a client mod, messages in a process that Flower did not start, and
tasks that Flower would give to a program of its own. With a new Flower this file changes, and no other; its
test names each name and says what to do when it is gone.

What only the deployment engine needs is imported where it is used: loading it takes a second.
"""

import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable as ClientAppCallable
from flwr.clientapp.typing import Mod as Mod
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.quiet import without_tips

if TYPE_CHECKING:
    from flwr.supercore.runtime import RuntimeHttpClient

PATIENCE = 30.0
"""Seconds to wait for the answer of a service."""

ONE_AT_A_TIME = threading.Lock()
"""Flower keeps the identity of the task at hand in one place for the whole process."""


# --- messages in this process ----------------------------------------------------------------------


def identify_process(run_id: int, node_id: int) -> None:
    """Let this process create Flower messages; an identity that an engine of Flower has set stays."""
    if vars(TaskIdentity)["_run_id"] is None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, node_id


@contextmanager
def identity(task_id: int, run_id: int, node_id: int) -> Iterator[None]:
    """Let messages that this process makes be those of a task, and of the one before afterwards."""
    before = TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id
    TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = task_id, run_id, node_id
    try:
        yield
    finally:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before


def number_message(message: Message, number: str) -> None:
    """Give a message its ID, as sending it would."""
    message.metadata.__dict__["_message_id"] = number


def client_failure(message: Message, reason: str) -> Message:
    """Return the reply of a node whose client app has raised an error."""
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)


def node_absence(message: Message, reason: str) -> Message:
    """Return the reply for a node that will not give any."""
    return Message(Error(ErrorCode.NODE_UNAVAILABLE, reason), reply_to=message)


class RunGrid(Grid):
    """A `Grid` that knows its run and how to make a message; what it does with messages is left open."""

    def __init__(self, run_id: int) -> None:
        self._run = Run.create_empty(run_id)

    def set_run(self, run: Run) -> None:
        """Set Flower's description of the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Flower's description of the run."""
        return self._run

    def site_numbers(self) -> dict[int, int]:
        """Return which of the sites each node is, as far as the engine knows it beforehand."""
        return {}

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a new message from the server."""
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)


# --- tasks of a SuperLink and its SuperNodes -------------------------------------------------------


def connect(
    kind: Callable[..., Any],
    url: str,
    tls: ssl.SSLContext | None,
    *interceptors: Any,
    genuine: Callable[[], bool] | None = None,
) -> Any:
    """Return a client of the service at ``url``, which is reached directly, whatever proxy is set.

    It asks once. Flower's own clients try for ever, and interrupt their process where they are rejected.
    Where ``genuine()`` is false of a new connection, another program than the one meant listens there: it is
    told nothing, and `httpx.ConnectError` is raised.
    """
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

    version = RuntimeVersionHttpInterceptor(component_name="hemafl")
    client = kind(url, interceptors=[version, *interceptors], verify=False)
    client._client.close()
    # Without TLS there is no certificate to verify, and to read all authorities takes 20 ms for each message.
    verify = tls or url.startswith("https:")
    seen: list[Callable[..., Any]] = [partial(watch_connections, genuine)] if genuine else []
    client._client = httpx.Client(
        verify=verify, timeout=PATIENCE, trust_env=False, event_hooks={"request": seen}
    )
    return client


def watch_connections(genuine: Callable[[], bool], request: httpx.Request) -> None:
    """Have a request end before it is sent, if it makes a connection and ``genuine()`` is false then.

    To ask before it connects would leave time in which another program could take the place.
    """

    def notice(event: str, told: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete" and not genuine():
            told["return_value"].close()
            raise httpx.ConnectError(f"another program than the one meant listens at {request.url}")

    request.extensions["trace"] = notice


class Tasks:
    """The tasks that a SuperLink or a SuperNode gives away: use it as a context manager.

    Parameters
    ----------
    url
        "http://HOST:PORT" or "https://HOST:PORT".
    secret
        Whoever knows it may take tasks; the service has it in a file.
    tls
        Whom to trust; None without TLS.
    genuine
        Whether the service is the one that is meant, where no certificate says so: see `connect`.
    """

    def __init__(
        self,
        url: str,
        secret: bytes,
        tls: ssl.SSLContext | None = None,
        genuine: Callable[[], bool] | None = None,
    ) -> None:
        from flwr.supercore.interceptors import SuperExecAuthHttpInterceptor
        from flwr.supercore.runtime import RuntimeHttpClient

        methods = ["/flwr.proto.Runtime/AcquireTask"]
        proof = SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=methods)
        self.url, self.tls, self.genuine = url, tls, genuine
        self._client = connect(RuntimeHttpClient, url, tls, proof, genuine=genuine)

    def __enter__(self) -> "Tasks":
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def take(self, kind: Literal["server", "client"]) -> str | None:
        """Take a task of this kind; return the token with which to work on it, or None without a task.

        Raises `httpx.TransportError` if the service cannot be reached.
        """
        from flwr.proto.runtime_pb2 import AcquireTaskRequest
        from flwr.supercore.constant import TaskType

        wanted = TaskType.SERVER_APP if kind == "server" else TaskType.CLIENT_APP
        return self._client.AcquireTask(AcquireTaskRequest(supported_task_types=[wanted])).token or None

    @contextmanager
    def work(self, token: str) -> Iterator["RuntimeHttpClient"]:
        """Keep a task alive: yield the client that works on it."""
        from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
        from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor
        from flwr.supercore.runtime import RuntimeHttpClient

        proof = RuntimeTokenHttpInterceptor(token=token)
        client = connect(RuntimeHttpClient, self.url, self.tls, proof, genuine=self.genuine)
        heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
        try:
            heartbeat.start()
            yield client
        finally:
            if heartbeat.is_running:
                heartbeat.stop()
            client.close()

    def answer(self, reply_to: Callable[[Message, Context], tuple[Message, bool]]) -> bool:
        """Answer one message of a client app, if there is any; return whether there was.

        ``reply_to(message, context)`` returns the reply, and whether it is one of success.
        """
        from flwr.common.constant import SubStatus
        from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

        token = self.take("client")
        if token is None:
            return False
        with self.work(token) as client:
            message, context, _, _ = pull_task_input(client)
            reply, success = reply_to(message, context)
            push_message(client, reply, context)
            push_task_output(client, context, SubStatus.COMPLETED if success else SubStatus.FAILED, "")
        return True

    @contextmanager
    def serve(self) -> Iterator[tuple[Grid, Context]]:
        """Do the task of a run's server app: yield its grid and its context. The run ends with the block.

        Raises `FederationError` if there is no such task.
        """
        from flwr.common.constant import SubStatus
        from flwr.proto.runtime_pb2 import PullTaskInputRequest, PushTaskOutputRequest
        from flwr.superlink.grid import HttpGrid

        token = self.take("server")
        if token is None:
            raise FederationError("the SuperLink did not accept the run; look into its log.")
        with ONE_AT_A_TIME, self.work(token) as client:
            task = client.PullTaskInput(PullTaskInputRequest())
            run_id, node_id = task.run.run_id, task.context.node_id
            grid = HttpGrid(self.url, token=token)
            grid._client = client
            grid.set_run(Run.create_empty(run_id))
            outcome = SubStatus.FAILED
            try:
                with identity(task.task_id, run_id, node_id):
                    yield grid, Context(run_id, node_id, {}, RecordDict(), {})
                outcome = SubStatus.COMPLETED
            finally:
                # The run is over either way; a SuperLink that has ended need not be told.
                with suppress(httpx.HTTPError):
                    client.PushTaskOutput(PushTaskOutputRequest(sub_status=outcome))


class SuperLink:
    """A running SuperLink, as the one who administers it sees it.

    Parameters
    ----------
    address
        "HOST:PORT".
    authority
        File of the certificate that has signed the SuperLink's.
    """

    def __init__(self, address: str, authority: Path) -> None:
        from flwr.supercore.control.control_http_client import ControlHttpClient

        self.url, self.tls = f"https://{address}", ssl.create_default_context(cafile=authority)
        self._client = connect(ControlHttpClient, self.url, self.tls)

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def is_up(self) -> bool:
        """Return whether it answers."""
        try:
            self.online()
        except httpx.TransportError:
            return False
        return True

    def register(self, public_key: bytes) -> int:
        """Let the node with this public key (PEM) take part; return the node's ID."""
        from flwr.proto.control_pb2 import RegisterNodeRequest

        return self._client.RegisterNode(RegisterNodeRequest(public_key=public_key)).node_id

    def registered(self) -> dict[bytes, int]:
        """Return the IDs of all nodes that may take part, by their public keys (PEM)."""
        from flwr.proto.control_pb2 import ListNodesRequest

        nodes = self._client.ListNodes(ListNodesRequest()).nodes_info
        return {node.public_key: node.node_id for node in nodes}

    def online(self) -> set[int]:
        """Return the IDs of the nodes that are connected."""
        from flwr.proto.control_pb2 import ListNodesRequest

        nodes = self._client.ListNodes(ListNodesRequest()).nodes_info
        return {node.node_id for node in nodes if node.status == "online"}

    def arrivals(self) -> dict[int, str]:
        """Return when each node that is connected came, as the SuperLink's clock said it."""
        from flwr.proto.control_pb2 import ListNodesRequest

        nodes = self._client.ListNodes(ListNodesRequest()).nodes_info
        return {node.node_id: node.last_activated_at for node in nodes if node.status == "online"}

    def start_run(self, bundle: bytes) -> None:
        """Begin a run of the app whose ``pyproject.toml`` is given; its server app's task can be taken."""
        from flwr.cli.build import build_fab_from_files
        from flwr.proto.control_pb2 import StartRunRequest
        from flwr.proto.fab_pb2 import Fab

        with without_tips():
            content, _ = build_fab_from_files({"pyproject.toml": bundle})
        fab = Fab(hash_str=hashlib.sha256(content).hexdigest(), content=content)
        self._client.StartRun(StartRunRequest(fab=fab))
