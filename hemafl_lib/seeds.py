"""Random generators derived from a seed and a path of names.

Every random choice in the library draws from a generator made here, for example
``torch_generator(seed, "fit", "barcelona", 3)`` for one site's third round. Two clients can then
train at the same time, in any order and on any engine, and still draw the same numbers.

Budget: 60 lines.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *path: str | int) -> int:
    """Return a 63-bit seed that depends on ``seed`` and on every element of ``path``."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *path: str | int) -> torch.Generator:
    """Return a CPU generator of its own for ``path``."""
    return torch.Generator().manual_seed(derive(seed, *path))


def numpy_generator(seed: int, *path: str | int) -> np.random.Generator:
    """Return a NumPy generator of its own for ``path``."""
    return np.random.default_rng(derive(seed, *path))


_global_generator = threading.RLock()


@contextmanager
def initialised(seed: int, *path: str | int) -> Iterator[None]:
    """Draw torch's layer initialisation from ``seed``, and leave the global generator as it was.

    PyTorch's layers initialise themselves from the global generator and take no other; this is the
    one place that touches it, one thread at a time: ``with initialised(0): model = Net()``.
    """
    with _global_generator, torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, *path))
        yield
