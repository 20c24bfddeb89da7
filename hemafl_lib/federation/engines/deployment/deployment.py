"""The deployment engine: the same app over a real SuperLink and SuperNodes, on this machine.

Each is a program of its own. They speak HTTPS with a certificate made for the run, and each SuperNode
proves by its own key that it is one of those that were registered. What hospitals would set up on
their own machines is here set up, used and removed by one call.

Flower's stock programs start a new process for the server app, and one for every message. Both are told to
leave that to others (``--isolation process``): the server app runs in this process, so that its strategy,
its monitored cohorts and its checkpoint stay what they are on the other engines, and beside each SuperNode
stays one program (`node`) that has loaded PyTorch once.
"""

import json
import os
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from flwr.serverapp import ServerApp

from hemafl_lib.errors import FederationError, Stopped
from hemafl_lib.federation.engines.deployment import keys
from hemafl_lib.federation.engines.deployment.programs import (
    Program,
    Programs,
    free_ports,
    places_of_programs,
    wait_until,
)
from hemafl_lib.federation.engines.polled_grid import PolledGrid
from hemafl_lib.federation.flower_private import SuperLink, Tasks
from hemafl_lib.federation.site_app import SiteApp, store_app
from hemafl_lib.federation.stored_sites import store_sites
from hemafl_lib.partition import Site

HOST = "127.0.0.1"
NODE = "hemafl_lib.federation.engines.deployment.node"
"""The program beside a SuperNode, and the module of the library's own client app."""

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

SECRET = "shared.secret"
"""File of what proves to a SuperLink or SuperNode that a program beside it may do its tasks."""

SUPERNODE = (sys.executable, "-P", str(Path(__file__).with_name("supernode.py")))
"""What stands for ``flower-supernode`` where the library starts one: the same with shorter pauses."""

DEADLINE = 120.0
"""Seconds for a program to come up; on an idle machine the SuperLink takes two, three SuperNodes five."""

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

    ``node_id`` is its ID at the SuperLink. ``commands`` start the two, the second with the number of the
    first's process as one more word, and ``programs`` are those that were started last.
    """

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


@dataclass
class Deployment:
    """A running SuperLink and its SuperNodes, as `deploy` makes them.

    ``nodes`` are in the order of the sites; one that has ended may be started again by `start_node`.
    """

    programs: Programs
    address: str
    program: Program
    superlink: SuperLink
    nodes: list[Node] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The folder of the keys, the logs and whatever the nodes shall find; only its owner may read it."""
        return self.programs.folder

    def start_nodes(self, client_app: str, node_configs: Sequence[Mapping[str, Any]]) -> None:
        """Start one SuperNode for each node config; return when all are connected.

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
        ports = free_ports(len(node_configs))
        for number, (config, port) in enumerate(zip(node_configs, ports, strict=True)):
            key = self.folder / f"node-{number}.key"
            node_id = self.superlink.register(keys.make_node_key(key))
            commands = {
                f"SuperNode {number}": self.supernode_command(key, port, config),
                f"client app {number}": [
                    *(sys.executable, "-m", NODE),
                    *(f"{HOST}:{port}", str(self.folder / SECRET), client_app, json.dumps(dict(config))),
                ],
            }
            self.nodes.append(Node(node_id, commands))
        for node in self.nodes:
            self.start_node(node)
        for node in self.nodes:
            self.wait_for(node)

    def supernode_command(self, key: Path, port: int, config: Mapping[str, Any]) -> list[str]:
        """Return what starts a SuperNode with a private key; the program beside it finds it at ``port``."""
        return [
            *("flower-supernode", "--superlink", self.address, "--host", HOST, "--port", str(port)),
            *("--root-certificates", str(self.folder / keys.AUTHORITY)),
            *("--auth-supernode-private-key", str(key)),
            *("--isolation", "process", "--superexec-auth-secret-file", str(self.folder / SECRET)),
            *("--node-config", " ".join(f"{name}={json.dumps(value)}" for name, value in config.items())),
        ]

    def start_node(self, node: Node) -> None:
        """Start a node's programs, again once the SuperLink knows that the node was away."""
        environment = flower_environment(self.folder)
        (name, command), (name_beside, command_beside) = node.commands.items()
        supernode = self.programs.start(name, swift(command), environment)
        number = str(supernode.process.pid)  # so that the program beside it answers nobody else
        beside = self.programs.start(name_beside, [*command_beside, number], environment)
        node.programs = [supernode, beside]

    def wait_for(self, node: Node) -> None:
        """Return when a node that was started is connected."""
        wait_until(
            lambda: node.node_id in self.superlink.online(), node.programs[0], "it connected", DEADLINE
        )

    def run(self, server_app: ServerApp, stop: threading.Event | None = None) -> None:
        """Run a Flower app: the server app in this process, the client app at the nodes.

        Raises
        ------
        FederationError
            If the SuperLink cannot be reached any more.
        Stopped
            If ``stop`` was set.
        """

        def gone(node: int) -> str | None:
            if stop is not None and stop.is_set():
                raise Stopped
            return nodes[node].gone()

        nodes = {node.node_id: node for node in self.nodes}
        numbers = {node: number for number, node in enumerate(nodes)}
        secret = (self.folder / SECRET).read_bytes()
        try:
            self.superlink.start_run(BUNDLE)
            with Tasks(self.superlink.url, secret, self.superlink.tls) as tasks, tasks.serve() as served:
                flower, context = served
                server_app(PolledGrid(flower, lambda: nodes, gone, numbers), context)
        except httpx.HTTPError as error:
            log = self.program.last_lines()
            raise FederationError(f"the SuperLink failed ({error}); the end of its log is: {log}") from error


@contextmanager
def deploy() -> Iterator[Deployment]:
    """Start a SuperLink and yield the deployment; nothing of it stays behind.

    Raises
    ------
    FederationError
        If it does not come up in time.
    """
    with Programs() as programs:
        folder, (port,) = programs.folder, free_ports(1)
        keys.make_certificates(folder)
        keys.write_secret(folder / SECRET, secrets.token_bytes(32))
        command = [
            *("flower-superlink", "--host", HOST, "--port", str(port), "--enable-supernode-auth"),
            *("--ssl-ca-certfile", str(folder / keys.AUTHORITY)),
            *("--ssl-certfile", str(folder / keys.CERTIFICATE), "--ssl-keyfile", str(folder / keys.KEY)),
            *("--isolation", "process", "--superexec-auth-secret-file", str(folder / SECRET)),
            "--disable-runtime-dependency-installation",
        ]
        program = programs.start("SuperLink", command, flower_environment(folder))
        with closing(SuperLink(f"{HOST}:{port}", folder / keys.AUTHORITY)) as superlink:
            wait_until(superlink.is_up, program, "it answered", DEADLINE)
            yield Deployment(programs, f"{HOST}:{port}", program, superlink)


def swift(command: Sequence[str]) -> list[str]:
    """Return a command with `SUPERNODE` in the place of Flower's own program for it."""
    program, *options = command
    return [*(SUPERNODE if program == "flower-supernode" else [program]), *options]


def flower_environment(folder: Path) -> dict[str, str]:
    """Return the environment of the programs: this one's modules and PATH, Flower's files in ``folder``."""
    modules = [os.path.abspath(path) for path in sys.path if not path.endswith(".zip")]
    home, path = str(folder / "flower"), os.pathsep.join(modules)
    return {**os.environ, **FLOWER, "FLWR_HOME": home, "PYTHONPATH": path, "PATH": places_of_programs()}


def run_deployment(
    server_app: ServerApp, site_app: SiteApp, sites: Sequence[Site], stop: threading.Event | None = None
) -> None:
    """Run a site app on one SuperNode a site, and the server app in this process."""
    with deploy() as deployment:
        folder, count = deployment.folder, len(sites)
        store_app(site_app, folder)
        store_sites(sites, folder)
        told = {"folder": str(folder), "layers": ",".join(site_app.own_layers())}
        configs = [{**told, "partition-id": number, "num-partitions": count} for number in range(count)]
        deployment.start_nodes(f"{NODE}:app", configs)
        deployment.run(server_app, stop)
