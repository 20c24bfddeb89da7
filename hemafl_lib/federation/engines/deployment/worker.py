"""The client app of one SuperNode, as a program that stays: ``python -m`` and the name of this module.

By default a SuperNode starts a new program for every message, which costs seconds to load PyTorch.
One that was started with ``--isolation process`` leaves its messages to a program beside it. This one
takes them in turn, and runs the app that it was started with, not what a server sends.
"""

import argparse
import importlib
import time
import traceback
from pathlib import Path

import httpx
from flwr.app import Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode, SubStatus
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from hemafl_lib.federation.engines.deployment.runtime import PATIENCE, runtime_client, take_task, task_client

POLL = 0.1
"""Seconds between two questions for a message."""


def main() -> None:
    """Answer messages until the SuperNode is there no more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="of the SuperNode, 127.0.0.1:PORT")
    parser.add_argument("--secret", required=True, type=Path, help="file of the secret shared with it")
    parser.add_argument("--app", required=True, help="module:attribute of the client app")
    asked = parser.parse_args()
    work(load_app(asked.app), f"http://{asked.address}", asked.secret.read_bytes())


def load_app(name: str) -> ClientApp:
    """Return the client app that "module:attribute" names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def work(app: ClientApp, url: str, secret: bytes) -> None:
    """Answer the messages of the SuperNode at ``url`` until it has been silent for `PATIENCE` seconds."""
    last_heard = time.monotonic()
    with task_client(url, secret) as client:
        while time.monotonic() < last_heard + PATIENCE:
            try:
                token = take_task(client, TaskType.CLIENT_APP)
                last_heard = time.monotonic()
            except httpx.TransportError:
                token = None
            if token:
                answer(app, url, token)
                last_heard = time.monotonic()
            else:
                time.sleep(POLL)


def answer(app: ClientApp, url: str, token: str) -> None:
    """Answer one message: with what the app returns, or with the error that it raised."""
    with runtime_client(url, token) as client:
        heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
        heartbeat.start()
        try:
            message, context, _, _ = pull_task_input(client)
            try:
                reply, outcome = app(message, context), SubStatus.COMPLETED
            except Exception:
                error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, traceback.format_exc())
                reply, outcome = Message(error, reply_to=message), SubStatus.FAILED
            push_message(client, reply, context)
            push_task_output(client, context, outcome, "")
        finally:
            if heartbeat.is_running:
                heartbeat.stop()


if __name__ == "__main__":
    main()
