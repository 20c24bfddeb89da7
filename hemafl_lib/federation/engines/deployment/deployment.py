"""The deployment engine: the same app over a real SuperLink and SuperNodes, on this machine.

Each is a program of its own. They speak HTTPS with a certificate made for the run, and each SuperNode
proves by its own key that it is one of those that were registered. What hospitals would set up on
their own machines is here set up, used and removed by one call.
"""

import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
from flwr.serverapp import ServerApp

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.deployment.certificates import (
    make_certificates,
    make_node_key,
    write_secret,
)
from hemafl_lib.federation.engines.deployment.processes import (
    Program,
    Programs,
    find_program,
    free_ports,
    wait_until,
)
from hemafl_lib.federation.engines.deployment.superlink import SuperLink

HOST = "127.0.0.1"
WORKER = "hemafl_lib.federation.engines.deployment.worker"

SUPERLINK_DEADLINE = 60.0
"""Seconds for the SuperLink to come up; on an idle machine it takes two."""

NODES_DEADLINE = 120.0
"""Seconds for all SuperNodes to connect; on an idle machine three of them take five."""

SILENCE_DEADLINE = 90.0
"""Seconds after which the SuperLink has noticed that a SuperNode fell silent; Flower's limit is 60."""

FLOWER = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "NO_PROXY": HOST,
    "no_proxy": HOST,
}
"""Nothing is reported, looked up or installed over the network, and no proxy stands between."""


@dataclass
class Node:
    """A SuperNode and the program beside it that answers its messages.

    ``node_id`` is its ID at the SuperLink. ``commands`` start the two, and ``programs`` are those that
    were started last.
    """

    number: int
    node_id: int
    commands: dict[str, list[str]]
    programs: list[Program] = field(default_factory=list)

    def gone(self) -> str | None:
        """Return why the node will not answer, or None if it may."""
        for program in self.programs:
            if (code := program.exit_code()) is not None:
                return f"{program.name} ended with exit code {code}"
        return None

    def end(self) -> None:
        """End the node's programs; the SuperNode says goodbye to the SuperLink."""
        for program in self.programs:
            program.end()


class Deployment:
    """A SuperLink and its SuperNodes: use it as a context manager, and nothing stays behind.

    Attributes
    ----------
    folder
        For the keys, the logs and whatever the nodes shall find; only its owner may read it.
    nodes
        In the order of the sites; one that has ended may be started again by `start_node`.
    """

    def __init__(self) -> None:
        self._programs = Programs()
        self.folder = self._programs.folder
        self.nodes: list[Node] = []
        self.superlink: SuperLink | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.superlink:
            self.superlink.close()
        self._programs.close()

    def start(self, client_app: str, node_configs: Sequence[Mapping[str, Any]]) -> None:
        """Start the SuperLink and one SuperNode for each node config; return when all are connected.

        Parameters
        ----------
        client_app
            "module:attribute" of a Flower client app in a module that this process could import.
        node_configs
            Flower's: plain values by name, which the client app finds in its context.

        Raises
        ------
        FederationError
            If a program does not come up in time.
        """
        port, *node_ports = free_ports(1 + len(node_configs))
        self._secret = self.folder / "shared.secret"
        write_secret(self._secret, secrets.token_bytes(32))
        self._start_superlink(port)
        for number, (config, node_port) in enumerate(zip(node_configs, node_ports, strict=True)):
            key = self.folder / f"node-{number}.key"
            node_id = self.superlink.register(make_node_key(key))
            commands = {
                f"SuperNode {number}": self.supernode_command(key, node_port, config),
                f"client app {number}": self.worker_command(client_app, node_port),
            }
            self.nodes.append(Node(number, node_id, commands))
        for node in self.nodes:
            self.start_node(node)
        for node in self.nodes:
            self.wait_for(node)

    def _start_superlink(self, port: int) -> None:
        files = make_certificates(self.folder)
        command = [
            find_program("flower-superlink"),
            *("--host", HOST, "--port", str(port)),
            *("--ssl-ca-certfile", str(files.authority)),
            *("--ssl-certfile", str(files.certificate), "--ssl-keyfile", str(files.key)),
            *("--isolation", "process", "--superexec-auth-secret-file", str(self._secret)),
            "--enable-supernode-auth",
            "--disable-runtime-dependency-installation",
        ]
        self.address, self.authority = f"{HOST}:{port}", files.authority
        self._program = self._programs.start("SuperLink", command, self.environment())
        self.superlink = SuperLink(self.address, files.authority, self._secret.read_bytes())
        wait_until(self.superlink.is_up, self._program, "it answered", SUPERLINK_DEADLINE)

    def supernode_command(self, key: Path, port: int, config: Mapping[str, Any]) -> list[str]:
        """Return what starts a SuperNode with a private key; the program beside it finds it at ``port``."""
        return [
            find_program("flower-supernode"),
            *("--superlink", self.address, "--root-certificates", str(self.authority)),
            *("--auth-supernode-private-key", str(key)),
            *("--host", HOST, "--port", str(port)),
            *("--isolation", "process", "--superexec-auth-secret-file", str(self._secret)),
            *("--node-config", " ".join(f"{name}={json.dumps(value)}" for name, value in config.items())),
        ]

    def worker_command(self, client_app: str, port: int) -> list[str]:
        """Return what starts the program that answers the messages of the SuperNode at ``port``."""
        return [
            *(sys.executable, "-m", WORKER),
            *("--address", f"{HOST}:{port}", "--secret", str(self._secret), "--app", client_app),
        ]

    def start_node(self, node: Node) -> None:
        """Start a node's programs, for the first time or again.

        A SuperLink takes a node back only when it knows that it was away: at once if the node said so,
        and after `SILENCE_DEADLINE` if it fell silent.
        """
        node.end()
        wait_until(lambda: not self.online(node), self._program, "the node was away", SILENCE_DEADLINE)
        node.programs = [
            self._programs.start(name, command, self.environment()) for name, command in node.commands.items()
        ]

    def wait_for(self, node: Node) -> None:
        """Return when a node that was started is connected."""
        wait_until(lambda: self.online(node), node.programs[0], "it connected", NODES_DEADLINE)

    def online(self, node: Node) -> bool:
        """Return whether the SuperLink takes the node for connected."""
        return node.node_id in self.superlink.online()

    def environment(self) -> dict[str, str]:
        """Return the environment of the programs: this process's modules, Flower's files in the folder."""
        modules = [os.path.abspath(path) for path in sys.path if not path.endswith(".zip")]
        home, path = str(self.folder / "flower"), os.pathsep.join(modules)
        return {**os.environ, **FLOWER, "FLWR_HOME": home, "PYTHONPATH": path}

    def run(self, server_app: ServerApp) -> None:
        """Run a Flower app: the server app in this process, the client app at the nodes.

        Raises
        ------
        FederationError
            If the SuperLink cannot be reached any more.
        """
        by_id = {node.node_id: node for node in self.nodes}
        try:
            with self.superlink.serve(list(by_id), lambda node_id: by_id[node_id].gone()) as served:
                server_app(*served)
        except httpx.HTTPError as error:
            log = self._program.last_lines()
            raise FederationError(f"the SuperLink failed ({error}); the end of its log is: {log}") from error
