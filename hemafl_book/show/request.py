"""What a computation knows of the reader who waits for it: whom to tell, and whether to go on."""

import inspect
import threading
from collections.abc import Callable
from typing import Any

from hemafl_book.show.pictures import Picture


class Request:
    """One setting that the reader asks for, as its computation sees it.

    ``cancelled`` is set as soon as the reader asks for something else. It fits the ``stop`` of
    `hemafl_lib.federation.run`. What an outdated request shows, says, returns or raises is ignored.
    """

    def __init__(
        self,
        show: Callable[[Picture], None] = lambda picture: None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.cancelled = threading.Event()
        self._show, self._say = show, say
        self._lock = threading.Lock()

    def show(self, picture: Picture) -> None:
        """Show what there is so far, for example the rounds up to now."""
        self._unless_cancelled(self._show, picture)

    def say(self, text: str) -> None:
        """Tell how far the computation is, for example "Round 3 of 8."."""
        self._unless_cancelled(self._say, text)

    def cancel(self) -> None:
        """Declare the request outdated; once this returns, it shows and says nothing more."""
        with self._lock:
            self.cancelled.set()

    def _unless_cancelled(self, action: Callable[[Any], None], content: Any) -> None:
        with self._lock:
            if not self.cancelled.is_set():
                action(content)


Compute = Callable[..., Picture]
"""``compute(setting)`` or ``compute(setting, request)``, where ``setting`` is ``{key: value}``.

A long computation takes the `Request`: it may show what it has so far, and should end when the request
is cancelled.
"""


def picture_of(compute: Compute, values: dict[str, Any], request: Request) -> Picture:
    """Return the picture of a setting; ``compute`` gets the request if it has a parameter of that name."""
    if "request" in inspect.signature(compute).parameters:
        return compute(values, request=request)
    return compute(values)
