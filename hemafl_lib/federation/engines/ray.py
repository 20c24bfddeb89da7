"""The simulation engine: the same app on Flower's own engine, which runs clients in Ray's processes."""

from typing import Any

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from hemafl_lib.federation.quiet import without_tips
from hemafl_lib.parallel import cores


def run_simulation(
    server_app: ServerApp, client_app: ClientApp, nodes: int, *, workers: int | None = None
) -> None:
    """Run any Flower app on ``nodes`` virtual nodes of Flower's Ray engine, and end Ray afterwards.

    What the server app raises is raised again once Ray has ended.
    """
    import ray
    from flwr.simulation import run_simulation as flower_run_simulation

    backend: Any = {
        "init_args": {"num_cpus": workers or cores(), "include_dashboard": False, "log_to_driver": False},
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
    }
    failures: list[Exception] = []
    try:
        with without_tips():
            flower_run_simulation(
                keep_failure(server_app, failures), client_app, nodes, backend_config=backend
            )
    finally:
        ray.shutdown()
    if failures:
        raise failures[0]


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
