"""A hospital's programs: a SuperNode that calls the server, and this one, which answers its messages.

The app is the one of this library, whatever a server sends, and what it knows of the hospital is what this
program was told: it answers the SuperNode that it has started, and no other program. What the programs write,
keys included, lies in a folder that goes when they end, however they end; images are decoded in memory only.
"""

import itertools
import json
import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flwr.app import UserConfig

from hemafl_lib.data import own
from hemafl_lib.errors import FederationError, one_line
from hemafl_lib.federation.engines.deployment import keys
from hemafl_lib.federation.engines.deployment.deployment import flower_environment, swift
from hemafl_lib.federation.engines.deployment.node import LONGEST, answer_one, with_config
from hemafl_lib.federation.engines.deployment.programs import Program, Programs, free_ports
from hemafl_lib.federation.engines.pauses import Pauses
from hemafl_lib.federation.flower_private import ClientAppCallable, Tasks
from hemafl_lib.hospitals.folder import PRIVATE, Bundle, open_bundle
from hemafl_lib.hospitals.node import answer
from hemafl_lib.hospitals.serving import HERE, shown

SECRET = "hospital.secret"
RETRY = 5.0
"""Seconds before a SuperNode that has ended is started again."""

NOT_YET = "[code: 2004]"
"""What Flower says where the server does not let a node in."""

NO_PORT = "address already in use"
"""What it says where another program has its port."""

NO_TRUST = "CERTIFICATE_VERIFY_FAILED"


def join(bundle: Path, data: Path, mapping: Path | None, say: Callable[[str], object]) -> None:
    """Take part with the data of a folder until interrupted; ``say`` the command and what happens.

    Parameters
    ----------
    bundle
        The hospital's own, from `create`.
    data, mapping
        The folder, and the mapping file that says what is in it; by default ``mapping.toml`` in it.

    Raises
    ------
    HemaflError
        If the bundle or the data will not do, or the server cannot prove who it is.
    """
    mapping = mapping or data / "mapping.toml"
    with Programs() as programs:
        told = open_bundle(bundle, programs.folder)
        check_data(data, mapping)
        keys.write_secret(programs.folder / SECRET, secrets.token_bytes(32))
        config = node_config(told, data, mapping)
        command = partial(supernode_command, told, programs.folder, config)
        keep_running(programs, command, with_config(answer, config), told, say)


def check_data(data: Path, mapping: Path) -> None:
    """Raise `DataError` unless the data can be used as the mapping says."""
    known = own.read_mapping(mapping)
    if known.table is not None:
        own.load_own_table(data, known, "")
    if known.images is not None:
        own.check_folders(data, known)


def node_config(told: Bundle, data: Path, mapping: Path) -> UserConfig:
    """Return what the hospital's node knows about itself, see `hemafl_lib.hospitals.node.NodeConfig`."""
    return {
        "partition-id": told.number,
        "num-partitions": told.hospitals,
        "site": told.name,
        "data-folder": str(data.absolute()),
        "mapping": str(mapping.absolute()),
        "secure": told.secure,
    }


def supernode_command(told: Bundle, folder: Path, config: UserConfig, port: int) -> list[str]:
    """Return what starts the hospital's SuperNode; this program finds it at a port of this machine."""
    return [
        *("flower-supernode", "--superlink", told.address, "--host", HERE, "--port", str(port)),
        *("--root-certificates", str(folder / keys.AUTHORITY)),
        *("--auth-supernode-private-key", str(folder / PRIVATE)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(folder / SECRET)),
        *("--node-config", " ".join(f"{name}={json.dumps(value)}" for name, value in config.items())),
    ]


def keep_running(
    programs: Programs,
    command: Callable[[int], list[str]],
    app: ClientAppCallable,
    told: Bundle,
    say: Callable[[str], object],
) -> None:
    """Start a SuperNode and answer its messages, and again whenever it has ended; return never."""
    environment, secret = flower_environment(programs.folder), (programs.folder / SECRET).read_bytes()
    said = ""
    for start in itertools.count():
        (port,) = free_ports(1)
        if start == 0:
            say(shown(command(port)))
            say(f"{told.name} calls the server at {told.address}; Ctrl-C ends it.")
        supernode = programs.start("SuperNode", swift(command(port)), environment)
        try:
            genuine = partial(supernode.listens_at, port)
            with Tasks(f"http://{HERE}:{port}", secret, genuine=genuine) as tasks:
                answer_messages_of(supernode, tasks, app, say)
        finally:
            supernode.end()
        reason = why_it_ended(supernode)
        if reason != said:
            say(reason)
            said = reason
        time.sleep(RETRY)


def answer_messages_of(
    supernode: Program, tasks: Tasks, app: ClientAppCallable, say: Callable[[str], object]
) -> None:
    """Answer the messages of a SuperNode until it has ended."""
    pauses = Pauses(LONGEST)
    while supernode.exit_code() is None:
        try:
            answered = answer_one(tasks, app)
        except Exception as error:  # the SuperNode ended meanwhile, or gave up the message: the next may do
            say(f"a message was not answered ({type(error).__name__}: {one_line(error)}); going on.")
            answered = None
        pauses.answered() if answered else pauses.pause()


def why_it_ended(program: Program) -> str:
    """Return what to say of a program that has ended; raise `FederationError` if a retry cannot help."""
    log = program.last_lines(30)
    if NO_TRUST in log:
        raise FederationError(
            "the server's certificate is not for the address in this bundle, or of another federation; ask "
            "the coordinator for a new bundle."
        )
    if NOT_YET in log:
        return (
            "The server does not let this hospital in: it was not registered, or another program runs with "
            "this bundle, or it ended a moment ago and counts as present for a minute; trying again."
        )
    if NO_PORT in log:
        return f"Another program has taken the port that {program.name} was to have; starting it at another."
    return f"{program.name} ended (exit code {program.exit_code()}); starting it again."
