"""Progress bars for a person who waits, and for nobody else: never in a stored output.

Budget: 60 lines.
"""

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm

DELAY = 1.0
"""Seconds before a bar appears: what is done by then needs none."""


def bar(iterable: Iterable | None = None, *, show: bool | None = None, **options: Any) -> tqdm:
    """Return a tqdm progress bar, which appears after a second.

    Parameters
    ----------
    iterable
        What to go through; leave it out to call ``update`` by hand.
    show
        Whether to show the bar; by default where a person looks, see `is_watched`. The environment variable
        ``HEMAFL_PROGRESS=off`` hides every bar.
    **options
        What else tqdm takes, for example ``total``, ``desc`` and ``unit``.
    """
    if show is None or os.environ.get("HEMAFL_PROGRESS") == "off":
        show = is_watched()
    return tqdm(iterable, disable=not show, **{"delay": DELAY, "leave": not in_kernel(), **options})


def is_watched() -> bool:
    """Return whether a person looks: at a terminal, or at a notebook that is open in Jupyter.

    A kernel that a Jupyter server opened for a page has ``JPY_SESSION_NAME``; one that runs a notebook to
    store or to compare its outputs (nbclient, nbval) has not. Where neither tells, as in other editors,
    ``HEMAFL_PROGRESS=on`` does; ``HEMAFL_PROGRESS=off`` says that nobody looks.
    """
    told = os.environ.get("HEMAFL_PROGRESS")
    if told is not None:
        return told == "on"
    return "JPY_SESSION_NAME" in os.environ if in_kernel() else sys.stderr.isatty()


def in_kernel() -> bool:
    """Return whether this process is a kernel, whose outputs a notebook keeps."""
    return "ipykernel.zmqshell" in sys.modules
