"""Keep Flower's log silent while a run is under way: failures are raised, refusals stand in the `Run`."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

LOGGER = logging.getLogger("flwr")
STARTING_RAY = logging.getLogger("ray._private.worker")


class QuietFlower:
    """A context manager that several threads may have entered at the same time.

    The first to enter remembers the log level, the last to leave restores it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._level = logging.NOTSET

    def __enter__(self) -> Self:
        with self._lock:
            if self._inside == 0:
                self._level = LOGGER.level
                LOGGER.setLevel(logging.CRITICAL)
            self._inside += 1
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                LOGGER.setLevel(self._level)


quiet_flower = QuietFlower()


@contextmanager
def without_tips() -> Iterator[None]:
    """Leave out what Ray and pathspec warn of and no user of a run can change.

    That is their own future, and that Ray leaves SIGTERM alone where it does not start in the main thread.
    """
    level = STARTING_RAY.level
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"ray\.")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"pathspec\.")
        STARTING_RAY.setLevel(logging.ERROR)
        try:
            yield
        finally:
            STARTING_RAY.setLevel(level)
