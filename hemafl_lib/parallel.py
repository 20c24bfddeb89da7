"""Work on several things at the same time, on the cores that this process may use.

Budget: 60 lines.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from hemafl_lib.errors import Stopped

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(
    task: Callable[[Item], Outcome],
    items: Sequence[Item],
    *,
    engine: str,
    workers: int | None = None,
    interrupt: Callable[[], None] = lambda: None,
) -> Iterator[Outcome]:
    """Yield the result of every item, in order.

    On the local engine, as many runs go on at a time as there are ``workers`` (default: cores). Other
    engines own the process, so there they follow each other. ``interrupt`` is called on Ctrl-C, so that
    what has begun can stop.
    """
    if engine != "local":
        yield from map(task, items)
        return
    with ThreadPoolExecutor(min(len(items), workers or cores())) as pool:
        running = [pool.submit(task, item) for item in items]
        try:
            for outcome in running:
                yield outcome.result()
        except BaseException as error:
            interrupt()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, Stopped) and (reason := first_failure(running)):
                raise reason from None
            raise


def first_failure(running: Sequence[Future]) -> BaseException | None:
    """Return the first error that is not a mere `Stopped`: a run that fails stops those beside it."""
    failures = (None if each.cancelled() else each.exception() for each in running)
    return next((each for each in failures if each and not isinstance(each, Stopped)), None)
