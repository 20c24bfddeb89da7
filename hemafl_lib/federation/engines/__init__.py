"""Where clients run: threads of this process, Flower's Ray engine, SuperNodes over TLS.

`run_app` is the one way to run an app on any of them. What a site runs is a `SiteApp`; what the server
does is any Flower server app of this process.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flwr.serverapp import ServerApp

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.local import run_local
from hemafl_lib.federation.quiet import quiet_flower
from hemafl_lib.federation.site_app import SiteApp
from hemafl_lib.federation.stored_sites import store_sites
from hemafl_lib.partition import Site


def run_app(
    engine: str,
    server_app: ServerApp,
    site_app: SiteApp,
    sites: Sequence[Site],
    *,
    workers: int | None = None,
    progress: bool | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Run a server app in this process and a site app at every site; return when the server app has ended.

    Parameters
    ----------
    engine
        A name in `ENGINES`.
    server_app, site_app, sites
        The sites' order is that of their "partition-id".
    workers
        Clients that work at the same time (default: the number of cores); on the deployment engine all do.
    progress
        Whether to show a bar, on the local engine; None shows it where somebody may watch.
    stop
        Set it to end the run early; on the local engine and on Ray, Ctrl-C sets it too.

    Raises
    ------
    FederationError
        If the engine is unknown, or a program of the deployment engine does not come up.
    Exception
        Whatever the server app raises.
    """
    check_engine(engine)
    wishes = Wishes(workers, progress, stop or threading.Event())
    with quiet_flower:
        ENGINES[engine](server_app, site_app, sites, wishes)


def check_engine(name: str) -> None:
    """Raise `FederationError` if there is no engine of that name."""
    if name not in ENGINES:
        raise FederationError(f"engine='{name}' is unknown; choose one of {', '.join(ENGINES)}.")


@dataclass(frozen=True)
class Wishes:
    """How to run an app, as far as an engine can: the last arguments of `run_app`."""

    workers: int | None
    progress: bool | None
    stop: threading.Event


def run_on_threads(server_app: ServerApp, site_app: SiteApp, sites: Sequence[Site], wishes: Wishes) -> None:
    """Run the sites in threads of this process; they share its memory."""
    run_local(
        server_app,
        site_app.make_app(sites.__getitem__, wishes.stop.is_set),
        len(sites),
        workers=wishes.workers,
        progress=wishes.progress,
        interrupt=wishes.stop.set,
    )


def run_on_ray(server_app: ServerApp, site_app: SiteApp, sites: Sequence[Site], wishes: Wishes) -> None:
    """Run the sites in Ray's processes, which read their data from a folder."""
    from hemafl_lib.federation.engines.kept_folder import KeptFolder  # not on every system
    from hemafl_lib.federation.engines.ray import run_simulation

    with KeptFolder() as folder:
        run_simulation(
            server_app,
            site_app.make_app(store_sites(sites, folder.path)),
            len(sites),
            workers=wishes.workers,
            stop=wishes.stop,
        )


def run_on_supernodes(
    server_app: ServerApp, site_app: SiteApp, sites: Sequence[Site], wishes: Wishes
) -> None:
    """Run the sites as SuperNodes that speak to a SuperLink over TLS, each a program of its own."""
    from hemafl_lib.federation.engines.deployment.deployment import run_deployment  # a second, for few runs

    run_deployment(server_app, site_app, sites, wishes.stop)


ENGINES: dict[str, Callable[[ServerApp, SiteApp, Sequence[Site], Wishes], None]] = {
    "local": run_on_threads,
    "simulation": run_on_ray,
    "deployment": run_on_supernodes,
}
"""The engines by the names by which users ask for them."""
