"""Clients of the services by which Flower's programs speak to each other.

A SuperLink and a SuperNode both hand out tasks: whoever knows their secret may take one, and gets a
token with which to work on it. Flower keeps these classes to itself, so they are used in few places:
here, in `superlink` and in `worker`, the modules beside this one.
"""

import ssl
from collections.abc import Sequence
from typing import TypeVar

import httpx
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufClient, ProtobufClientInterceptor
from flwr.supercore.retry import RetryInvoker, exponential
from flwr.supercore.runtime import RuntimeHttpClient

Client = TypeVar("Client", bound=ProtobufClient)

ACQUIRE_TASK = "/flwr.proto.Runtime/AcquireTask"

PATIENCE = 30.0
"""Seconds for which a service that cannot be reached is tried again."""


def connect(
    kind: type[Client],
    url: str,
    interceptors: Sequence[ProtobufClientInterceptor] = (),
    tls: ssl.SSLContext | None = None,
) -> Client:
    """Return a client of the service at ``url``, which is reached directly, whatever proxy is set."""
    version = RuntimeVersionHttpInterceptor(component_name="hemafl")
    client = kind(url, interceptors=[version, *interceptors], verify=False)
    client._client.close()
    client._client = httpx.Client(verify=tls or True, timeout=PATIENCE, trust_env=False)
    return client


def runtime_client(url: str, token: str, tls: ssl.SSLContext | None = None) -> RuntimeHttpClient:
    """Return a client that works on the task of ``token``.

    Flower's own clients try for ever, and interrupt their process where they are rejected.
    """
    client = connect(RuntimeHttpClient, url, [RuntimeTokenHttpInterceptor(token=token)], tls)
    client._retry_invoker = RetryInvoker(
        lambda: exponential(max_delay=2), httpx.TransportError, max_tries=None, max_time=PATIENCE
    )
    return client


def task_client(url: str, secret: bytes, tls: ssl.SSLContext | None = None) -> RuntimeHttpClient:
    """Return a client that proves by the secret that it may take tasks."""
    proof = SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=[ACQUIRE_TASK])
    return connect(RuntimeHttpClient, url, [proof], tls)


def take_task(client: RuntimeHttpClient, kind: TaskType) -> str | None:
    """Take a task of this kind; return its token, or None if there is none to take."""
    return client.AcquireTask(AcquireTaskRequest(supported_task_types=[kind])).token or None
