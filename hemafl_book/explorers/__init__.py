"""What the explorers of the chapters vary and compute, one module an explorer, and the registry of them.

To add an explorer, write its module, whose ``SWEEP`` is a `hemafl_book.explorers.sweep.Sweep`, and give it
a line in `EXPLORERS`: two files. `hemafl sweep NAME --out FILE` then computes its recording, kept as
book/results/explorer-NAME.json, which a cell of a notebook reads by ``SWEEP.read`` and shows as a widget.

No explorer imports another: what several need has a module of its own.

Budget: 3550 lines.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from hemafl_book.explorers.sweep import Sweep, at_root
from hemafl_book.fingerprint import Fingerprint, fingerprint
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import check_place
from hemafl_lib.errors import HemaflError
from hemafl_lib.files import check_target

EXPLORERS: dict[str, str] = {
    "federated-from-scratch": "from_scratch",
    "blood-morphology": "morphology",
    "left-out": "left_out",
    "heterogeneity": "heterogeneity",
    "attack": "attack",
    "partition": "partition",
    "saliency": "saliency",
    "transfer": "transfer",
    "privacy": "privacy",
    "survival": "survival",
    "survival-drug": "survival_drug",
    "sickle-cell": "sickle_cell",
}
"""The module of each explorer in this package. It is imported when it is asked for: some need packages that
nothing else here does."""


def find(name: str) -> Sweep[Any]:
    """Return an explorer; raise `HemaflError` if there is none of this name."""
    if name not in EXPLORERS:
        raise HemaflError(f"explorer '{name}' is unknown; choose one of {', '.join(EXPLORERS)}.")
    found: Sweep[Any] = import_module(f"{__name__}.{EXPLORERS[name]}").SWEEP
    return found


def code_of(name: str) -> Fingerprint:
    """Return the fingerprint of the code that decides what an explorer records."""
    return fingerprint(f"{__name__}.{EXPLORERS[name]}", ("SWEEP",))


def record(
    name: str, out: Path, say: Callable[[str], object], where: Where = HERE, renew: bool = False
) -> None:
    """Compute all settings of an explorer into ``out``.

    Finished settings are kept in the checkpoint of ``where``, if it names one. Raises `HemaflError` if there
    is no explorer of this name, ``out`` cannot be written, or it holds another result and is not to be
    ``renew``-ed.
    """
    sweep = at_root(find(name), where.root)
    check_target(out) if renew else check_place(out, sweep.protocol())
    sweep.record(out, say, where, code_of(name))
