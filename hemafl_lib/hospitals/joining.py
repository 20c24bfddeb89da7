"""A hospital's programs: a SuperNode that calls the server, and the app of the installed library beside it.

The app is the one of this library, whatever a server sends. What the programs write, keys included, lies in a
folder that goes when they end, however they end; images are decoded in memory only.
"""

import json
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hemafl_lib.data import own
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.deployment import keys
from hemafl_lib.federation.engines.deployment.deployment import NODE, flower_environment
from hemafl_lib.federation.engines.deployment.programs import Program, Programs, free_ports
from hemafl_lib.hospitals.folder import PRIVATE, Bundle, open_bundle
from hemafl_lib.hospitals.serving import HERE, shown

APP = "hemafl_lib.hospitals.node:app"
SECRET = "hospital.secret"
RETRY = 5.0
"""Seconds before a program that has ended is started again."""

POLL = 0.5
"""Seconds between two looks at the programs."""

NOT_YET = "[code: 2004]"
"""What Flower says where the server does not let a node in."""

NO_TRUST = "CERTIFICATE_VERIFY_FAILED"


def join(bundle: Path, data: Path, mapping: Path | None, say: Callable[[str], object]) -> None:
    """Take part with the data of a folder until interrupted; ``say`` the commands and what happens.

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
    check_data(data, mapping)
    with Programs() as programs:
        told = open_bundle(bundle, programs.folder)
        keys.write_secret(programs.folder / SECRET, secrets.token_bytes(32))
        commands = commands_of(told, programs.folder, data, mapping)
        for command in commands.values():
            say(shown(command))
        say(f"{told.name} calls the server at {told.address}; Ctrl-C ends it.")
        keep_running(programs, commands, say)


def check_data(data: Path, mapping: Path) -> None:
    """Raise `DataError` unless the data can be used as the mapping says."""
    known = own.read_mapping(mapping)
    if known.table is not None:
        own.load_own_table(data, known, "")
    if known.images is not None:
        own.check_folders(data, known)


def commands_of(told: Bundle, folder: Path, data: Path, mapping: Path) -> dict[str, list[str]]:
    """Return what starts the hospital's two programs, by their names."""
    (port,) = free_ports(1)
    config = {
        "partition-id": told.number,
        "num-partitions": told.hospitals,
        "site": told.name,
        "data-folder": str(data.absolute()),
        "mapping": str(mapping.absolute()),
        "secure": told.secure,
    }
    supernode = [
        *("flower-supernode", "--superlink", told.address, "--host", HERE, "--port", str(port)),
        *("--root-certificates", str(folder / keys.AUTHORITY)),
        *("--auth-supernode-private-key", str(folder / PRIVATE)),
        *("--isolation", "process", "--superexec-auth-secret-file", str(folder / SECRET)),
        *("--node-config", " ".join(f"{name}={json.dumps(value)}" for name, value in config.items())),
    ]
    beside = [*(sys.executable, "-m", NODE), f"{HERE}:{port}", str(folder / SECRET), APP]
    return {"SuperNode": supernode, "client app": beside}


def keep_running(programs: Programs, commands: dict[str, list[str]], say: Callable[[str], object]) -> None:
    """Start the programs, and again whenever one has ended; return never, but for an error."""
    environment = flower_environment(programs.folder)
    running: dict[str, Program] = {}
    said = ""
    try:
        while True:
            for name, command in commands.items():
                program = running.get(name)
                if program is not None and program.exit_code() is None:
                    continue
                if program is not None:
                    reason = why_it_ended(program)
                    if reason != said:
                        say(reason)
                        said = reason
                    time.sleep(RETRY)
                running[name] = programs.start(name, command, environment)
            time.sleep(POLL)
    finally:
        for program in running.values():
            program.end()


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
    return f"{program.name} ended (exit code {program.exit_code()}); starting it again."
