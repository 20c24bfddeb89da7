"""Where an experiment runs: the folder of its data, the engine, the device, and who watches."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Where:
    """What decides how fast an experiment is computed, and none of its numbers.

    Attributes
    ----------
    root
        Folder of the real data; None where the experiment needs none.
    engine, device
        See `hemafl_lib.federation.run`.
    progress
        Whether to show bars; None shows them on a terminal only.
    checkpoint
        Folder in which finished pieces are kept, and from which an interrupted run goes on; None keeps
        nothing.
    """

    root: Path | None = None
    engine: str = "local"
    device: str | None = None
    progress: bool | None = None
    checkpoint: Path | None = None


HERE = Where()
"""This process, on the device that HEMAFL_DEVICE says."""
