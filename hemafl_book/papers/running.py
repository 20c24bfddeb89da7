"""`hemafl run`: an experiment by name, from choosing the data to the file of frozen results."""

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from types import ModuleType

import torch

from hemafl_book.papers import (
    all_privacy,
    all_transfer,
    attention_cnn,
    blood_morphology,
    mds_survival,
    scd_infarct,
)
from hemafl_book.results import freeze
from hemafl_lib.errors import HemaflError
from hemafl_lib.parallel import cores

EXPERIMENTS: dict[str, ModuleType] = {
    module.NAME: module
    for module in (blood_morphology, attention_cnn, all_transfer, all_privacy, mds_survival, scd_infarct)
}
"""Each has `protocol(preset, source, ...)`, `run(protocol, ...)` and `report(results)`.

``SOURCES`` names its sources, the real one first and the one that needs no files last, and ``EMBEDDED``
says in words what the last one is.
"""


def run_and_report(
    experiment: str,
    *,
    preset: str,
    engine: str,
    seed: int | None,
    device: str,
    network: str | None,
    out: Path | None,
    root: Path | None,
    say: Callable[[str], object],
) -> None:
    """Run an experiment, say what it found, and write ``out`` if given.

    ``root`` is the folder of real data; without one the experiment runs on what it embeds, and says so.
    Raises `HemaflError` if the experiment or the device is not to be had.
    """
    if experiment not in EXPERIMENTS:
        raise HemaflError(f"experiment '{experiment}' is unknown; choose one of {', '.join(EXPERIMENTS)}.")
    module, chosen = EXPERIMENTS[experiment], choose_device(device)
    source = module.SOURCES[-1] if root is None else module.SOURCES[0]
    if network is not None and "network" not in signature(module.protocol).parameters:
        raise HemaflError(f"experiment '{experiment}' has one network only; leave --network out.")
    asked = module.protocol(preset, source, **({} if network is None else {"network": network}))
    if root is None:
        say(f"HEMAFL_DATA is not set: this run uses {module.EMBEDDED}.")
    results = module.run(asked, seed=seed, root=root, engine=engine, device=chosen)
    for source in results.data:
        say(source.banner())
    say(module.report(results))
    say(f"{results.seconds:.0f} s on {describe(chosen)}, engine {engine}, seeds {list(results.seeds)}.")
    if out is not None:
        freeze(
            out,
            protocol=asked.described(),
            data=results.data,
            seeds=results.seeds,
            seconds=results.seconds,
            device=describe(chosen),
            tables=results.tables,
        )
        say(f"All tables are in {out}.")


def choose_device(device: str) -> str:
    """Return "cuda" or "cpu"; raise `HemaflError` if "cuda" is asked for and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise HemaflError("device 'cuda' is not available on this machine; choose 'cpu' or 'auto'.")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def describe(device: str) -> str:
    """Return a device in words."""
    return torch.cuda.get_device_name() if device == "cuda" else f"{cores()} CPU cores"
