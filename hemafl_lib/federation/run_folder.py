"""The server's folder of a run over hospitals: it goes on from there, and no other run writes into it.

While the run goes on it holds the last finished round (`CHECKPOINT_FILE`) and the history so far
(`HISTORY_FILE`); at the end the model (`MODEL_FILE`) takes the place of the checkpoint.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import nn

from hemafl_lib.errors import FederationError
from hemafl_lib.files import write_json
from hemafl_lib.models import save_model

CHECKPOINT_FILE, HISTORY_FILE, MODEL_FILE = "checkpoint.safetensors", "history.json", "model.safetensors"
LOCK_FILE = ".lock"


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Keep a folder, made if need be, for one run while the block lasts.

    Raises `FederationError` if it cannot be made or written, if another run is using it, or if it holds
    anything but a run that was interrupted.
    """
    lock = FileLock(folder / LOCK_FILE, blocking=False)
    try:
        check_new_or_interrupted(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise FederationError(
            f"out='{folder}' is in use by another run; wait until it has ended, or name another folder."
        ) from None
    except OSError as error:
        reason = error.strerror or error
        raise FederationError(f"out='{folder}' cannot be used ({reason}); name another folder.") from None
    try:
        check_new_or_interrupted(folder)  # again: the run that had it may just have ended
        yield
    finally:
        lock.release()


def check_new_or_interrupted(folder: Path) -> None:
    """Raise `FederationError` if a folder is there and holds anything but a run that was interrupted."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FederationError(f"out='{folder}' is a file; name a folder that is new or holds this run.")
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    if MODEL_FILE in names:
        raise FederationError(
            f"out='{folder}' holds the model of a run that is finished; name another folder."
        )
    if names and CHECKPOINT_FILE not in names:
        raise FederationError(
            f"out='{folder}' holds other files, such as '{min(names)}'; name a folder that is new or holds "
            "this run."
        )


def write_history(
    folder: Path, settings: Mapping[str, Any], history: list[dict], refused: list[dict]
) -> None:
    """Write what has happened so far; a number that is not finite becomes null."""
    rows = [{**row, "value": row["value"] if math.isfinite(row["value"]) else None} for row in history]
    write_json(folder / HISTORY_FILE, {"settings": dict(settings), "history": rows, "refused": refused})


def finish(folder: Path, model: nn.Module) -> None:
    """Write the model of a finished run in the place of its checkpoint."""
    save_model(model, folder / MODEL_FILE)
    (folder / CHECKPOINT_FILE).unlink()
