"""Keep Flower's log to errors while a run is under way: refused replies stand in the `Run`."""

import logging
import threading
from typing import Self

LOGGER = logging.getLogger("flwr")


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
                LOGGER.setLevel(logging.ERROR)
            self._inside += 1
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                LOGGER.setLevel(self._level)


quiet_flower = QuietFlower()
