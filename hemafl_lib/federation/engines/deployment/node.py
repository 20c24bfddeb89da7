"""What stands beside a SuperNode: a program that stays, and the client app that it runs for a site.

By default a SuperNode starts a new program for every message, which costs seconds to load PyTorch. One
that was started with ``--isolation process`` leaves its messages to a program beside it. This one takes
them in turn, and runs the app that it was started with, not what a server sends:
``python -m hemafl_lib.federation.engines.deployment.node``.

The library's own app finds in a folder what its site is told: models and cohorts as safetensors, the rest
as JSON. Layers that are no library's are imported only if the node config, which whoever starts the node
writes, names them.
"""

import functools
import importlib
import operator
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import httpx
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from hemafl_lib.federation.engines.pauses import Pauses
from hemafl_lib.federation.flower_private import PATIENCE, Tasks, client_failure
from hemafl_lib.federation.mods import check_kind
from hemafl_lib.federation.site_app import load_app
from hemafl_lib.federation.stored_sites import StoredSites

LONGEST = 1.0
"""Seconds of the longest pause between two questions for a message."""


@functools.lru_cache(maxsize=1)
def stored_app(folder: str, layers: str = "") -> ClientApp:
    """Return the client app of what lies in a folder, the same if it was the last to be asked for.

    ``layers`` names the classes that its model may have beside the libraries', as "module:class" with commas.
    """
    allow = [find_named(name) for name in layers.split(",") if name]
    return load_app(Path(folder), allow).make_app(StoredSites(folder))


def find_named(name: str) -> Any:
    """Return what is called "module:attribute"."""
    module, _, attribute = name.partition(":")
    return operator.attrgetter(attribute)(importlib.import_module(module))


def answer_from_folder(message: Message, context: Context) -> Message:
    """Answer a message as the site app in the node's folder does; `FederationError` for an odd one."""
    check_kind(message)
    config = context.node_config
    return stored_app(str(config["folder"]), str(config.get("layers", "")))(message, context)


app = ClientApp()
app.train()(answer_from_folder)
app.evaluate()(answer_from_folder)
app.query()(answer_from_folder)


def main(address: str, secret: str, name: str) -> None:
    """Answer messages until the SuperNode at "HOST:PORT" is there no more.

    ``secret`` is the file of the secret shared with it, ``name`` the client app's, "module:attribute".
    """
    answer_messages(find_named(name), f"http://{address}", Path(secret).read_bytes())


def answer_messages(client_app: ClientApp, url: str, secret: bytes) -> None:
    """Answer the messages of the SuperNode at ``url`` until it has been silent for `PATIENCE` seconds."""
    last_heard, pauses = time.monotonic(), Pauses(LONGEST)
    with Tasks(url, secret) as tasks:
        while time.monotonic() < last_heard + PATIENCE:
            answered = answer_one(tasks, client_app)
            if answered is not None:
                last_heard = time.monotonic()
            pauses.answered() if answered else pauses.pause()


def answer_one(tasks: Tasks, client_app: ClientApp) -> bool | None:
    """Answer a message, if there is any; return whether there was, and None if nobody could be asked."""
    try:
        return tasks.answer(functools.partial(reply_or_failure, client_app))
    except httpx.TransportError:
        return None


def reply_or_failure(client_app: ClientApp, message: Message, context: Context) -> tuple[Message, bool]:
    """Return what the app replies and True, or the error that it raised and False."""
    try:
        return client_app(message, context), True
    except Exception:
        return client_failure(message, traceback.format_exc()), False


if __name__ == "__main__":
    main(*sys.argv[1:])
