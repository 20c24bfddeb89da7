"""The bytes of many small files, summed up in parallel."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hemafl_lib.data.findings import shown
from hemafl_lib.errors import DataError

CHUNK = 1 << 20


def digests(folder: Path, files: Sequence[str], algorithm: str) -> list[str]:
    """Return the hexadecimal digest of each of ``files`` in ``folder``, by a name that `hashlib` knows.

    Raises
    ------
    DataError
        If a file is missing or cannot be read.
    """
    workers = os.cpu_count() or 1

    def share(first: int) -> list[str]:
        return [_digest(f"{folder}/{file}", algorithm) for file in files[first::workers]]

    found = [""] * len(files)
    with ThreadPoolExecutor(workers) as pool:
        for first, part in enumerate(pool.map(share, range(workers))):
            found[first::workers] = part
    return found


def _digest(path: str, algorithm: str) -> str:
    """Return the digest of one file."""
    total = hashlib.new(algorithm)
    try:
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                total.update(chunk)
    except FileNotFoundError:
        raise DataError(
            f"{shown(path)} does not exist; restore the file or remove what refers to it."
        ) from None
    except OSError as error:
        raise DataError(
            f"{shown(path)} cannot be read ({error.strerror}); give the user of this program the right to."
        ) from None
    return total.hexdigest()
