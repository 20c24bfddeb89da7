"""Where networks are evaluated and trained: on the CPU, or on a GPU.

``HEMAFL_DEVICE`` decides wherever the caller names no device: "cpu", "cuda", or "auto" (what counts if it is
not set), which takes the GPU if there is one. No notebook and no function of the library decides by itself.

Budget: 60 lines.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn

from hemafl_lib.errors import HemaflError

DEVICES = ("auto", "cpu", "cuda")


def choose(device: str | None = None) -> str:
    """Return "cpu" or "cuda": the ``device`` that a caller names, or as ``HEMAFL_DEVICE`` says.

    Raises
    ------
    HemaflError
        If the device is unknown, or there is no GPU and "cuda" is asked for.
    """
    asked = device or os.environ.get("HEMAFL_DEVICE") or "auto"
    by = "device" if device else "HEMAFL_DEVICE"
    if asked not in DEVICES:
        raise HemaflError(f"{by}='{asked}' is unknown; choose one of: {', '.join(DEVICES)}.")
    if asked == "cuda" and not torch.cuda.is_available():
        raise HemaflError(f"{by}='cuda' is not available on this machine; choose 'cpu' or 'auto'.")
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return asked


@contextmanager
def place(model: nn.Module, device: str | None) -> Iterator[str]:
    """Have ``model`` on a device, as `choose` says, for the time of a ``with``; then back where it was.

    So a caller's model stays usable beside the caller's own tensors, whatever the device. Gives the device.
    """
    chosen = choose(device)
    held = next(chain(model.parameters(), model.buffers()), None)
    away = held is not None and held.device.type != chosen
    home = held.device if held is not None else chosen
    try:
        if away:
            model.to(chosen)
        yield chosen
    finally:
        if away:
            model.to(home)
