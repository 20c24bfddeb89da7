"""What stands beside a SuperNode: a program that stays, and the client app that it runs for a site.

By default a SuperNode starts a new program for every message, which costs seconds to load PyTorch. One
that was started with ``--isolation process`` leaves its messages to a program beside it. This one takes
them in turn, and runs the app that it was started with, not what a server sends:
``python -m hemafl_lib.federation.engines.deployment.node``.

The library's own app finds in a folder what its site is told: models and cohorts as safetensors, the rest
as JSON. Layers that are no library's are imported only if the node config, which whoever starts the node
writes, names them. This program is told the node config when it is started, and believes no other.
"""

import functools
import importlib
import json
import logging
import operator
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import httpx
from flwr.app import Context, Message, UserConfig
from flwr.clientapp import ClientApp

from hemafl_lib.errors import FederationError, HemaflError, quote
from hemafl_lib.federation.engines.deployment.programs import listens
from hemafl_lib.federation.engines.pauses import Pauses
from hemafl_lib.federation.flower_private import PATIENCE, ClientAppCallable, Tasks, client_failure
from hemafl_lib.federation.mods import check_kind
from hemafl_lib.federation.site_app import load_app
from hemafl_lib.federation.stored_sites import StoredSites

LOGGER = logging.getLogger("flwr")

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


def main(address: str, secret: str, name: str, config: str, supernode: str) -> None:
    """Answer messages until the SuperNode at "HOST:PORT" is there no more.

    ``secret`` is the file of the secret shared with it, ``name`` the client app's, "module:attribute",
    ``config`` the node config as JSON, and ``supernode`` the number of the SuperNode's process.
    """
    client_app = in_words(with_config(find_named(name), json.loads(config)))
    genuine = functools.partial(listens, int(supernode), int(address.rpartition(":")[2]))
    with Tasks(f"http://{address}", Path(secret).read_bytes(), genuine=genuine) as tasks:
        answer_messages(client_app, tasks)


def with_config(client_app: ClientAppCallable, config: UserConfig) -> ClientAppCallable:
    """Return the app with this node config, whatever comes with a message."""

    def answer(message: Message, context: Context) -> Message:
        context.node_config = dict(config)
        return client_app(message, context)

    return answer


def in_words(client_app: ClientAppCallable) -> ClientAppCallable:
    """Return the app with every error as a `FederationError` that quotes it.

    For nodes on the server's own machine only, whose logs go with the run: nobody else reads the words.
    """

    def answer(message: Message, context: Context) -> Message:
        try:
            return client_app(message, context)
        except Exception as error:
            raise FederationError(quote("".join(traceback.format_exception_only(error)))) from error

    return answer


def answer_messages(client_app: ClientAppCallable, tasks: Tasks) -> None:
    """Answer the messages of a SuperNode until it has been silent for `PATIENCE` seconds."""
    last_heard, pauses = time.monotonic(), Pauses(LONGEST)
    while time.monotonic() < last_heard + PATIENCE:
        answered = answer_one(tasks, client_app)
        if answered is not None:
            last_heard = time.monotonic()
        pauses.answered() if answered else pauses.pause()


def answer_one(tasks: Tasks, client_app: ClientAppCallable) -> bool | None:
    """Answer a message, if there is any; return whether there was, and None if nobody could be asked."""
    try:
        return tasks.answer(functools.partial(reply_or_failure, client_app))
    except httpx.TransportError:
        return None


def reply_or_failure(
    client_app: ClientAppCallable, message: Message, context: Context
) -> tuple[Message, bool]:
    """Return what the app replies and True, or why it does not and False.

    Of an error that is not the library's the server is told the type only: it may quote a patient's row, and
    names folders of this machine.
    """
    try:
        check_kind(message)
        return client_app(message, context), True
    except HemaflError as error:
        reason = str(error)
    except Exception as error:
        LOGGER.exception("this node could not %s", message.metadata.message_type)
        reason = f"an unexpected {type(error).__name__}, which is in its node's log"
    return client_failure(message, reason), False


if __name__ == "__main__":
    main(*sys.argv[1:])
