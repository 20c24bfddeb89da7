"""Fixtures and options that several test modules share."""

import copy
import functools
import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

SLOW = ("slow", "browser", "real", "ray", "deployment")
"""The marks of tests that `--fast` leaves out."""

WAITING = ("browser", "ray", "deployment")
"""The marks of tests that mostly wait for other programs."""

FAST_SECONDS = 75
"""After these `--fast` begins no further test, so that `make quick` answers within two minutes."""

BEGAN = time.monotonic()

# Tests that promise equal bits promise them for the CPU; those of the GPU name it.
os.environ.setdefault("HEMAFL_DEVICE", "cpu")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help=f"leave out the tests marked {', '.join(SLOW)}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling | None:
    """Deal whole modules to the workers as `Dealer` does, if that is what ``--dist loadscope`` asks for."""
    return Dealer(config, log) if config.getoption("dist") == "loadscope" else None


class Dealer(LoadScopeScheduling):
    """Let half of the workers, rounded up, take modules that wait while the others compute.

    Else all workers would wait at once, and compete for the cores afterwards.
    """

    def _assign_work_unit(self, node: WorkerController) -> None:
        others = [units for worker, units in self.assigned_work.items() if worker is not node]
        taken = sum(any(waits(module) for module in unfinished(units)) for units in others)
        wanted = 2 * taken < len(self.nodes)
        module = next((name for name in self.workqueue if waits(name) == wanted), None)
        if module is not None:
            self.workqueue.move_to_end(module, last=False)
        super()._assign_work_unit(node)


def unfinished(units: dict[str, dict[str, bool]]) -> list[str]:
    """Return the modules of which a worker has tests left."""
    return [module for module, tests in units.items() if not all(tests.values())]


@functools.cache
def waits(module: str) -> bool:
    """Return whether a test of a module is marked as one that waits: it takes most of the module's time."""
    path = Path(__file__).resolve().parent.parent / module.partition("::")[0]
    if path.suffix != ".py" or not path.is_file():
        return False
    text = path.read_text(encoding="utf-8")
    return any(f"mark.{mark}" in text for mark in WAITING)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.config.getoption("--fast") and time.monotonic() - BEGAN > FAST_SECONDS:
        pytest.skip(f"the {FAST_SECONDS} seconds of --fast are over; `make test` runs it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out slow tests for `--fast`; else put their modules and the notebooks first.

    So no worker ends long after the others.
    """
    slow = [item for item in items if any(item.get_closest_marker(mark) for mark in SLOW)]
    if config.getoption("--fast"):
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
        return
    first = {item.path for item in slow} | {item.path for item in items if item.path.suffix == ".ipynb"}
    items.sort(key=lambda item: item.path not in first)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from what has been imported: to look through it takes a second each time."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def smears_drawn_once() -> Iterator[None]:
    """Draw a simulated smear once a process: its arguments decide it, and each test gets a copy of its own.

    To draw a cell takes a thirtieth of a second. A module that imports `simulate` itself draws anew.
    """
    smear = sys.modules.get("hemafl_lib.data.smear")
    if smear is None:  # no test of this session draws one
        yield
        return
    draw, drawn = smear.simulate, {}

    @functools.wraps(draw)
    def simulate(*arguments: object, **settings: object) -> object:
        key = repr((arguments, sorted(settings.items())))
        if key not in drawn:
            drawn[key] = draw(*arguments, **settings)
        return copy.deepcopy(drawn[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smear, "simulate", simulate)
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that ask for it are skipped without one."""
    folder = os.environ.get("HEMAFL_DATA")
    if not folder:
        pytest.skip("needs real data: HEMAFL_DATA is not set")
    return Path(folder)
