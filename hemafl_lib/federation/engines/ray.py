"""The simulation engine: the same app on Flower's own engine, which runs clients in Ray's processes.

Flower's engine does not end when it is interrupted: the server app goes on waiting for replies in a thread of
its own, and so does Ray. So the engine runs in a thread beside the caller's, which is free to notice Ctrl-C;
the server app sees the nodes through a grid that lets it end; and the processes are ended by their numbers.
"""

import faulthandler
import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from hemafl_lib.errors import FederationError, Stopped, quote
from hemafl_lib.federation.engines.kept_folder import KeptFolder
from hemafl_lib.federation.engines.polled_grid import PolledGrid
from hemafl_lib.federation.quiet import without_tips
from hemafl_lib.parallel import cores

PATIENCE = 3.0
"""Seconds in which what belongs to Ray may end by itself, before it is killed or left alone."""

STARTS = 3
"""How often Ray is started before the machine counts as too busy.

Ray gives up when its parts have not come up within 30 s, which cannot be set. What was read from the disk by
then is at hand the next time.
"""

SHORT = 30
"""Characters that the name of a temporary folder may have, so that Ray's sockets in it have 107 at most."""

POLL = 0.1
"""Seconds between two looks at whether the engine has ended."""


def run_simulation(
    server_app: ServerApp,
    client_app: ClientApp,
    nodes: int,
    *,
    workers: int | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Run any Flower app on ``nodes`` virtual nodes of Flower's Ray engine, and end Ray afterwards.

    What the server app raises is raised again once Ray has ended. Once ``stop`` is set, that is `Stopped`.
    Raises `FederationError` if Ray cannot do its work.
    """
    if importlib.util.find_spec("ray") is None:
        raise FederationError("engine='simulation' needs Ray; run pip install 'hemafl_lib[ray]'.")
    from flwr.simulation import run_simulation as flower_run_simulation

    backend: Any = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    # Not ``stop`` itself, by which the runs of `isolated` are all stopped.
    ended, failures = threading.Event(), list[BaseException]()
    watched = watch(server_app, lambda: ended.is_set() or bool(stop and stop.is_set()), failures)
    with KeptFolder(place_for_sockets()) as folder, without_tips():

        def engine() -> None:
            with ray_ended():
                start_ray(workers or cores(), folder.path, ended.is_set)
                for process in ray_processes():
                    folder.kill_at_the_end(process.pid)
                if ended.is_set():
                    return
                flower_run_simulation(watched, client_app, nodes, backend_config=backend)

        wait_for(engine, ended, failures)
    if failures:
        raise failures[0]


def start_ray(workers: int, folder: Path | None = None, over: Callable[[], bool] = lambda: False) -> None:
    """Start Ray, unless it runs already; it writes what it needs into ``folder``.

    Flower would start it after the server app, which would then wait for ever for a Ray that does not come.
    A start that fails is tried again, unless all is ``over`` by then. Ray's processes find the modules that
    this process finds. Raises `FederationError` if Ray does not start.
    """
    import ray

    if ray.is_initialized():
        return
    modules = {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}
    before = ray_processes()
    for start in range(1, STARTS + 1):
        try:
            ray.init(
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                runtime_env={"env_vars": modules},
                _temp_dir=None if folder is None else str(folder),
            )
            return
        except Exception as error:
            end_all_but(before)
            if start == STARTS or over():
                raise FederationError(
                    f"Ray does not start ({' '.join(str(error).split())}); wait until the machine is less "
                    "busy, or choose engine='local'."
                ) from error


def place_for_sockets() -> Path | None:
    """Return where Ray's folder goes: its sockets have short names, for which not every place has room."""
    return None if len(tempfile.gettempdir()) <= SHORT else Path("/tmp")


def watch(server_app: ServerApp, over: Callable[[], bool], failures: list[BaseException]) -> ServerApp:
    """Return the same app, which ends with `Stopped` once it is ``over``.

    What it raises goes into ``failures``: Flower would report it as its own.
    """
    watched = ServerApp()

    def end_if_over() -> None:
        if over():
            raise Stopped

    @watched.main()
    def main(grid: Grid, context: Context) -> None:
        def nodes() -> Any:
            end_if_over()
            return grid.get_node_ids()

        try:
            server_app(PolledGrid(grid, nodes, lambda node: end_if_over()), context)
        except BaseException as error:
            failures.append(error)

    return watched


def wait_for(engine: Callable[[], object], ended: threading.Event, failures: list[BaseException]) -> None:
    """Run the engine in a thread and return when it has ended; set ``ended`` if it fails or on Ctrl-C.

    Its failure goes into ``failures``.
    """
    # An event, since a thread whose ``join`` was interrupted counts as ended.
    done = threading.Event()

    def run() -> None:
        try:
            engine()
        except BaseException as error:
            failures.append(ray_failure(error))
        finally:
            ended.set()
            done.set()

    # Flower's threads are made by this one, and are like it no reason for the process to go on.
    thread = threading.Thread(target=run, name="ray engine", daemon=True)
    try:
        # On a busy machine the thread runs long before this returns, and Ctrl-C may come meanwhile.
        thread.start()
        while not done.wait(POLL):
            pass
    except BaseException:
        ended.set()
        # What clients compute is of no use any more; Ray itself ends better by its own means.
        for process in clients():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if not done.wait(PATIENCE):
            with ended_hard():
                end(ray_processes(), psutil.Process.kill)
                done.wait(PATIENCE / 2)
        raise


@contextmanager
def ended_hard() -> Iterator[None]:
    """End this process, exit status 1, should the block stand still for longer than `PATIENCE`.

    While Ray starts it may hold the interpreter, for minutes if what it waits for has gone: no Python of this
    process runs any more, and nothing but a timer outside it helps.
    """
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(PATIENCE, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def ray_failure(error: BaseException) -> FederationError:
    """Return the one sentence for what made Flower's engine end, which is at the root of its own errors."""
    if isinstance(error, FederationError):
        return error
    while error.__cause__ is not None:
        error = error.__cause__
    return FederationError(
        f"Flower's engine on Ray ended because {quote(str(error) or type(error).__name__)}; run again, or "
        "choose engine='local'."
    )


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
            end_all_but(before)


def end_all_but(before: list[psutil.Process]) -> None:
    """End every process of Ray's that this process has started, but for those that ran ``before``."""
    mine = [process for process in ray_processes() if process not in before]
    end(mine, psutil.Process.terminate)
    end(mine, psutil.Process.kill)


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


def clients() -> list[psutil.Process]:
    """Return the processes in which Ray runs clients; they bear its name in place of their command's."""
    found = []
    for process in ray_processes():
        with suppress(psutil.Error):
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::"):
                found.append(process)
    return found


def end(processes: list[psutil.Process], how: Callable[[psutil.Process], None]) -> None:
    """Tell processes to end and wait for them, at most `PATIENCE`."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            how(process)
    psutil.wait_procs(processes, timeout=PATIENCE / 2)
