"""The simulation engine: the same app on Flower's own engine, which runs clients in Ray's processes."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from hemafl_lib.data import store
from hemafl_lib.federation.local import cores
from hemafl_lib.federation.quiet import without_tips
from hemafl_lib.partition import Site

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class StoredSites:
    """Sites in a folder, each read by the process that needs it; stands in for `list[Site]`."""

    folder: str
    names: tuple[str, ...]

    def __call__(self, number: int) -> Site:
        """Return site ``number``, from memory if this process has read it before."""
        return _read_site(self.folder, number, self.names[number])


def store_sites(sites: Sequence[Site], folder: Path) -> StoredSites:
    """Write every site's cohorts into ``folder``."""
    for number, site in enumerate(sites):
        for part in PARTS:
            store.save(getattr(site, part), folder / f"{number}-{part}.safetensors")
    return StoredSites(str(folder), tuple(site.name for site in sites))


@functools.lru_cache(maxsize=64)
def _read_site(folder: str, number: int, name: str) -> Site:
    parts = {part: store.load(Path(folder) / f"{number}-{part}.safetensors") for part in PARTS}
    return Site(name=name, **parts)


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
