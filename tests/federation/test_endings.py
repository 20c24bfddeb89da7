"""However a run ends, it ends soon, and nothing of a hospital stays behind."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from builders.federated import linear, sites
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from hemafl_lib import federation
from hemafl_lib.errors import FederationError, Stopped
from hemafl_lib.federation.engines import ray as ray_engine
from hemafl_lib.federation.engines.kept_folder import LOCK, PREFIX, KeptFolder

SECONDS = 10
"""Within which a run has ended once it was told to."""


# --- the folder of a run ---------------------------------------------------------------------------


def test_a_kept_folder_is_its_owners_and_goes_with_its_block(tmp_path):
    with KeptFolder(tmp_path) as folder:
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        (folder.path / "images").write_text("of patients")
    assert not list(tmp_path.iterdir())


@pytest.mark.survives(
    "A run and all that watched over it are killed, as by the out-of-memory killer or a power cut",
    "The next run removes the images and keys that they left in the temporary folder, and nobody else's",
)
def test_what_a_killed_run_left_goes_with_the_next(tmp_path):
    left, alive = KeptFolder(tmp_path), KeptFolder(tmp_path)
    (left.path / "images").write_text("of patients")
    left._keeper.kill()
    left._keeper.wait()
    (tmp_path / f"{PREFIX}without-a-lock").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path)
    with KeptFolder(tmp_path):
        assert not left.path.exists()
        assert (alive.path / LOCK).exists()
    alive.__exit__()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PREFIX}link", f"{PREFIX}without-a-lock"]
    left._groups.close()


def test_no_folder_can_be_made_is_one_sentence(tmp_path):
    with pytest.raises(FederationError, match="set TMPDIR to a folder with room"):
        KeptFolder(tmp_path / "missing")


# --- Ray -------------------------------------------------------------------------------------------


def waiting_app(begun: threading.Event) -> ServerApp:
    """A server app that waits for nodes that never come."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        begun.set()
        while True:
            list(grid.get_node_ids())
            time.sleep(0.01)

    return app


class NoNodes:
    """As much of Flower's grid as `waiting_app` needs."""

    class run:
        """Flower's description of the run."""

        run_id = 1

    def get_node_ids(self):
        return []


def engine_of(server_app: ServerApp):
    """An engine that waits for its server app, which runs in a thread, as Flower's does."""

    def engine() -> None:
        thread = threading.Thread(target=server_app, args=(NoNodes(), None))
        thread.start()
        thread.join()

    return engine


def test_a_server_app_on_ray_ends_when_it_is_told_to():
    begun, ended, failures = threading.Event(), threading.Event(), []
    engine = engine_of(ray_engine.watch(waiting_app(begun), ended.is_set, failures))
    threading.Thread(target=lambda: (begun.wait(), ended.set())).start()
    ray_engine.wait_for(engine, ended, failures)
    assert [type(failure) for failure in failures] == [Stopped]


@pytest.mark.survives(
    "Ray cannot start, for example because the machine is overloaded",
    "The run ends with one sentence that says so; nothing goes on waiting for clients",
)
def test_an_engine_that_fails_is_one_sentence_and_ends_its_server_app():
    begun, ended, failures = threading.Event(), threading.Event(), []
    server_app = ray_engine.watch(waiting_app(begun), ended.is_set, failures)

    def engine() -> None:
        threading.Thread(target=server_app, args=(NoNodes(), None), daemon=True).start()
        begun.wait()
        try:
            raise ValueError("the control store is overloaded.\nIt has no room.")
        except ValueError as error:
            raise RuntimeError("An error was encountered. Ending simulation.") from error

    ray_engine.wait_for(engine, ended, failures)
    assert isinstance(failures[0], FederationError)
    assert str(failures[0]).startswith("Flower's engine on Ray ended because It has no room; run again, or")


STANDING_STILL = """
import ctypes
from hemafl_lib.federation.engines import ray
ray.PATIENCE = 0.5
with ray.ended_hard():
    ctypes.PyDLL(None).sleep(60)  # holds the interpreter, as Ray does while it starts
"""


def test_a_start_of_ray_that_stands_still_is_ended_hard():
    assert subprocess.run([sys.executable, "-c", STANDING_STILL], timeout=50).returncode == 1


class InThisProcess:
    """What Flower's engine needs of Ray, without Ray."""

    num_workers = 2

    def __init__(self, config):
        pass

    def build(self, make_app):
        self.app = make_app()

    def process_message(self, message, context):
        return self.app(message, context), context

    def terminate(self):
        pass


@pytest.fixture
def without_ray(monkeypatch):
    monkeypatch.setattr("flwr.server.superlink.fleet.vce.backend.raybackend.RayBackend", InThisProcess)
    monkeypatch.setattr(ray_engine, "start_ray", lambda workers, folder, over: None)


def test_flowers_engine_gives_the_same_bits_through_our_grid(without_ray):
    local, simulated = (
        federation.run(sites(3), model=linear(), rounds=2, engine=engine)
        for engine in ("local", "simulation")
    )
    assert simulated.hash == local.hash
    assert simulated.history.equals(local.history)
    assert simulated.bytes_sent == local.bytes_sent
    assert simulated.refused.empty


@pytest.mark.parametrize("seconds", [0.01, 0.4, 1.3])
def test_ctrl_c_ends_flowers_engine_at_any_moment(without_ray, tmp_path, monkeypatch, seconds):
    """Its server app would go on waiting for an hour in a thread that no interruption reaches."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before, handler = threading.active_count(), signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            federation.run(sites(2), model=linear(), rounds=100_000, engine="simulation")
    finally:
        timer.join()
        signal.signal(signal.SIGINT, handler)
    end = time.monotonic() + SECONDS
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert threading.active_count() <= before
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_the_engines_thread_begins_ends_it(monkeypatch):
    begin, ended = threading.Thread.start, threading.Event()

    def start(thread):
        begin(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        ray_engine.wait_for(lambda: ended.wait(SECONDS), ended, [])
    assert ended.is_set()


SCRIPT = """
import signal
from builders.federated import linear, sites
from hemafl_lib import federation
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
seen = lambda history: print("round", len(history), flush=True)
federation.run(sites(2), model=linear(), rounds=100_000, engine="simulation", report=seen, workers=1)
"""


def lines_until_trained(process) -> None:
    """Return when the first round is over."""
    for line in process.stdout:
        if line.startswith("round") and line != "round 0\n":
            return
    pytest.fail(f"the run ended too early: {process.stderr.read()[-500:]}")


def still_running(processes) -> list[str]:
    return [str(each) for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.ray
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes")
@pytest.mark.parametrize(
    ("number", "seconds", "last"),
    [
        pytest.param(
            signal.SIGINT,
            SECONDS,
            "KeyboardInterrupt",
            marks=pytest.mark.survives(
                "Ctrl-C while Ray trains",
                "The run ends within ten seconds; no process, folder or shared memory of it stays",
            ),
        ),
        pytest.param(
            signal.SIGKILL,
            3 * SECONDS,  # two agents of Ray's notice by themselves that it has gone
            "",
            marks=pytest.mark.survives(
                "A run on Ray is killed (kill -9)",
                "The hospitals' images are removed and Ray's processes end, within half a minute",
            ),
        ),
    ],
)
def test_a_run_on_ray_ends_soon_and_leaves_nothing(number, seconds, last):
    temporary = Path(tempfile.mkdtemp(prefix="ends-", dir="/tmp"))  # Ray's sockets need a short name
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": paths}
    shared = set(Path("/dev/shm").glob("plasma*"))
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines_until_trained(process)
        started = psutil.Process(process.pid).children(recursive=True)
        assert list(temporary.rglob("*.safetensors"))
        process.send_signal(number)
        end = time.monotonic() + seconds
        process.wait(SECONDS)
        while (still_running(started) or list(temporary.iterdir())) and time.monotonic() < end:
            time.sleep(0.1)
    finally:
        process.kill()
        _, said = process.communicate()
    assert process.returncode != 0
    assert last in said
    assert still_running(started) == []
    assert list(temporary.iterdir()) == []
    assert set(Path("/dev/shm").glob("plasma*")) <= shared
    temporary.rmdir()
