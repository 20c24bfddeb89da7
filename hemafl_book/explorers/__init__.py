"""What the explorers of the chapters vary and compute, one module an explorer, and the registry of them.

To add an explorer, write its module and give it a line in `EXPLORERS`. `hemafl sweep NAME` then computes its
recording, book/results/explorer-NAME.json, which a notebook shows.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from hemafl_lib.errors import HemaflError

EXPLORERS: dict[str, str] = {
    "blood-morphology": "morphology",
    "heterogeneity": "heterogeneity",
    "attack": "attack",
    "partition": "partition",
    "saliency": "saliency",
    "privacy": "privacy",
    "survival": "survival",
}
"""The module of each explorer in this package. It is imported when it is asked for: some need packages that
nothing else here does."""


def record(explorer: str, out: Path, say: Callable[[str], object]) -> None:
    """Compute all settings of an explorer into ``out``; raise `HemaflError` if there is no such explorer."""
    if explorer not in EXPLORERS:
        raise HemaflError(f"explorer '{explorer}' is unknown; choose one of {', '.join(EXPLORERS)}.")
    import_module(f"{__name__}.{EXPLORERS[explorer]}").record(out, say)
