"""Progress bars for whoever waits: in a terminal and in a notebook, never in a stored output."""

import os
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm


def bar(iterable: Iterable | None = None, *, show: bool | None = None, **options: Any) -> tqdm:
    """Return a tqdm progress bar.

    Parameters
    ----------
    iterable
        What to go through; leave it out to call ``update`` by hand.
    show
        Whether to show the bar; by default only where somebody may watch (a terminal or a notebook).
        The environment variable ``HEMAFL_PROGRESS=off`` hides every bar: notebooks whose outputs are
        stored or compared run under it, because a bar holds times.
    **options
        What else tqdm takes, for example ``total``, ``desc`` and ``unit``.
    """
    if os.environ.get("HEMAFL_PROGRESS") == "off":
        show = False
    return tqdm(iterable, disable=None if show is None else not show, **options)
