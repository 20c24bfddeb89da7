"""The simulation engine: the same app on Flower's own engine, which runs clients in Ray's processes."""

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from hemafl_lib.federation.quiet import without_tips
from hemafl_lib.parallel import cores


def run_simulation(
    server_app: ServerApp, client_app: ClientApp, nodes: int, *, workers: int | None = None
) -> None:
    """Run any Flower app on ``nodes`` virtual nodes of Flower's Ray engine, and end Ray afterwards."""
    import ray
    from flwr.simulation import run_simulation as flower_run_simulation

    backend = {
        "init_args": {"num_cpus": workers or cores(), "include_dashboard": False, "log_to_driver": False},
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
    }
    try:
        with without_tips():
            flower_run_simulation(server_app, client_app, nodes, backend_config=backend)
    finally:
        ray.shutdown()
