"""The simulation engine: the same app on Flower's own engine, which runs clients in Ray's processes."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.quiet import without_tips
from hemafl_lib.parallel import cores

PATIENCE = 5.0
"""Seconds in which a process of Ray's may end by itself before it is killed."""


def run_simulation(
    server_app: ServerApp, client_app: ClientApp, nodes: int, *, workers: int | None = None
) -> None:
    """Run any Flower app on ``nodes`` virtual nodes of Flower's Ray engine, and end Ray afterwards.

    What the server app raises is raised again once Ray has ended. Raises `FederationError` if Ray does not
    start.
    """
    from flwr.simulation import run_simulation as flower_run_simulation

    backend: Any = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    failures: list[Exception] = []
    with without_tips(), ray_ended():
        start_ray(workers or cores())
        flower_run_simulation(keep_failure(server_app, failures), client_app, nodes, backend_config=backend)
    if failures:
        raise failures[0]


def start_ray(workers: int) -> None:
    """Start Ray, unless it runs already.

    Flower would start it after the server app, which would then wait for ever for a Ray that does not come.
    Ray's processes find the modules that this process finds. Raises `FederationError` if Ray does not start.
    """
    import ray

    if ray.is_initialized():
        return
    modules = {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}
    try:
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": modules},
        )
    except Exception as error:
        raise FederationError(
            f"Ray does not start ({' '.join(str(error).split())}); wait until the machine is less busy, "
            "or choose engine='local'."
        ) from error


def keep_failure(server_app: ServerApp, failures: list[Exception]) -> ServerApp:
    """Return the same app, which puts what it raises into a list: Flower would report it as its own."""
    keeping = ServerApp()

    @keeping.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            server_app(grid, context)
        except Exception as error:
            failures.append(error)

    return keeping


@contextmanager
def ray_ended() -> Iterator[None]:
    """End Ray afterwards, with every process that it started meanwhile.

    Ray knows of its processes only once its start has succeeded: what a start that fails has begun, such as
    its control store and its monitor, would live as long as this process.
    """
    import ray

    before = ray_processes()
    try:
        yield
    finally:
        try:
            ray.shutdown()
        finally:
            end([process for process in ray_processes() if process not in before])


def ray_processes() -> list[psutil.Process]:
    """Return the programs of the installed Ray that this process has started, and all below them."""
    import ray

    programs = str(Path(ray.__file__).parent)
    found = []
    for child in psutil.Process().children():
        try:
            if any(programs in word for word in child.cmdline()):
                found += [child, *child.children(recursive=True)]
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


def end(processes: list[psutil.Process]) -> None:
    """End processes and wait for them; who does not end in time is killed."""
    for stop in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                stop(process)
        _, processes = psutil.wait_procs(processes, timeout=PATIENCE)
