"""The server's programs: a SuperLink that knows its hospitals, and what starts the apps beside it."""

import json
import shlex
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.deployment import keys
from hemafl_lib.federation.engines.deployment.deployment import flower_environment
from hemafl_lib.federation.engines.deployment.programs import Program, Programs, wait_until
from hemafl_lib.federation.flower_private import SuperLink
from hemafl_lib.files import write_json, write_text
from hemafl_lib.hospitals.folder import SECRET, Federation

HERE = "127.0.0.1"

NODES, FLOWER_HOME, LINK = "nodes.json", "flower", "server"
"""The hospitals' numbers at the server, the folder of ``flwr``, and the server's name in it."""

DEADLINE = 120.0
"""Seconds for the SuperLink to come up."""

POLL = 2.0
"""Seconds between two looks at who is there."""


def serve(federation: Federation, host: str, say: Callable[[str], object]) -> None:
    """Run the server until it is interrupted; ``say`` the commands, and who comes and goes.

    ``host`` is the address of this machine on which it listens. Raises `FederationError` if a program ends.
    """
    check_port(host, federation.port)
    with Programs() as programs:
        environment = flower_environment(programs.folder)
        command = superlink_command(federation, host)
        say(shown(command))
        superlink = programs.start("SuperLink", command, environment)
        address = f"{HERE}:{federation.port}"
        with closing(SuperLink(address, federation.folder / keys.AUTHORITY)) as link:
            wait_until(link.is_up, superlink, "it answered", DEADLINE)
            hospitals = register(link, federation, say)
            helper = superexec_command(federation)
            say(shown(helper))
            beside = programs.start("SuperExec", helper, environment)
            say(f"The server is ready at {federation.address}; Ctrl-C ends it.")
            try:
                watch(link, hospitals, [superlink, beside], say)
            finally:
                for program in (beside, superlink):
                    program.end()


def check_port(host: str, port: int) -> None:
    """Raise `FederationError` unless this machine can listen there."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise FederationError(
            f"this machine cannot listen at {host}:{port} ({error.strerror}); end what listens there, give "
            "another --host, or make a federation with another --address."
        ) from None


def superlink_command(federation: Federation, host: str) -> list[str]:
    """Return what starts the SuperLink."""
    folder = federation.folder
    return [
        *("flower-superlink", "--host", host, "--port", str(federation.port)),
        *("--database", str(folder / "server.db"), "--enable-supernode-auth"),
        *("--ssl-ca-certfile", str(folder / keys.AUTHORITY)),
        *("--ssl-certfile", str(folder / keys.CERTIFICATE), "--ssl-keyfile", str(folder / keys.KEY)),
        "--disable-runtime-dependency-installation",
        *("--isolation", "process", "--superexec-auth-secret-file", str(folder / SECRET)),
    ]


def superexec_command(federation: Federation) -> list[str]:
    """Return what starts the server's apps."""
    return [
        *("flower-superexec", "--runtime-api-address", f"{HERE}:{federation.port}"),
        *("--root-certificates", str(federation.folder / keys.AUTHORITY)),
        *("--superexec-auth-secret-file", str(federation.folder / SECRET)),
    ]


def register(link: SuperLink, federation: Federation, say: Callable[[str], object]) -> dict[int, str]:
    """Let every hospital of the federation take part; return their names by the numbers of their nodes.

    The server remembers whom it knows. What ``flwr`` needs to find the server is written too.
    """
    known = link.registered()
    nodes = {}
    for name in federation.hospitals:
        key = federation.public_key(name)
        if key not in known:
            say(f"flwr supernode register {federation.folder / 'public' / f'{name}.pub'} {LINK}")
            known[key] = link.register(key)
        nodes[name] = known[key]
    write_json(federation.folder / NODES, nodes)
    authority = json.dumps(str(federation.folder / keys.AUTHORITY))
    write_text(
        federation.folder / FLOWER_HOME / "config.toml",
        f'[superlink]\ndefault = "{LINK}"\n\n[superlink.{LINK}]\naddress = "{HERE}:{federation.port}"\n'
        f"root-certificates = {authority}\n",
    )
    return {node: name for name, node in nodes.items()}


def watch(
    link: SuperLink, hospitals: dict[int, str], programs: list[Program], say: Callable[[str], object]
) -> None:
    """Say who comes and goes, however shortly, until a program ends, which raises `FederationError`."""
    here: dict[int, str] = {}
    while True:
        for program in programs:
            if (code := program.exit_code()) is not None:
                raise FederationError(
                    f"{program.name} ended with exit code {code}; the end of its log is: "
                    f"{program.last_lines()}"
                )
        arrived = link.arrivals()
        for change in changes(here, arrived, hospitals):
            say(change)
        here = arrived
        time.sleep(POLL)


def changes(before: dict[int, str], now: dict[int, str], hospitals: dict[int, str]) -> list[str]:
    """Return who has gone and who is here, from when each node came; one that came again has done both."""
    names = {node: hospitals.get(node, str(node)) for node in sorted({*before, *now})}
    changed = {node: name for node, name in names.items() if before.get(node) != now.get(node)}
    return [
        *(f"{name} has gone." for node, name in changed.items() if node in before),
        *(f"{name} is here." for node, name in changed.items() if node in now),
    ]


def shown(command: list[str]) -> str:
    """Return a command as a person would type it."""
    return shlex.join("python" if part == sys.executable else part for part in command)


def nodes_of(federation: Federation) -> dict[str, int]:
    """Return the hospitals' numbers at the server; raise `FederationError` if it has never been started."""
    path: Path = federation.folder / NODES
    if not path.is_file():
        raise FederationError(
            f"the server of {federation.folder} was never started; run 'hemafl federation serve' first."
        )
    return {str(name): int(node) for name, node in json.loads(path.read_text()).items()}
