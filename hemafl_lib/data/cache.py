"""Decoded cohorts kept on disk: trusted only if the files are unchanged and every byte agrees.

A cached cohort is a safetensors file with a seal beside it. The seal names what was read (the key)
and the SHA-256 of the safetensors file. A missing, stale or damaged pair reads as "not cached".
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pooch

from hemafl_lib.data import store
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.data.layouts import READER_VERSION, Listing
from hemafl_lib.errors import DataError
from hemafl_lib.files import read_json, sha256, write_json


def directory() -> Path:
    """Return the folder of the cache: ``HEMAFL_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("HEMAFL_CACHE") or pooch.os_cache("hemafl"))


def place(name: str, size: int, folder: Path) -> Path:
    """Return where the cohort read from ``folder`` is kept."""
    where = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    return directory() / f"{name}-{size}px-{where}.safetensors"


def key(name: str, size: int, listing: Listing) -> str:
    """Return a SHA-256 that changes with the reader, the size, or any file's name, length or date."""
    stats = [(file, (listing.folder / file).stat()) for file in listing.files if _exists(listing, file)]
    read = [READER_VERSION, name, size, [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]]
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()


def read(path: Path, expected: str) -> ImageCohort | None:
    """Return the cohort at ``path`` if its seal holds the ``expected`` key and fits its bytes."""
    try:
        seal = read_json(_seal(path))
        if seal == {"key": expected, "sha256": sha256(path)}:
            cohort = store.read_cohort(path)
            return cohort if isinstance(cohort, ImageCohort) else None
    except (DataError, OSError):
        return None
    return None


def write(path: Path, key: str, cohort: ImageCohort) -> None:
    """Keep ``cohort`` at ``path``; the seal is written last.

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    try:
        store.save_cohort(cohort, path)
        write_json(_seal(path), {"key": key, "sha256": sha256(path)})
    except (OSError, DataError) as error:
        raise DataError(f"{path.parent} cannot be written; set HEMAFL_CACHE to a folder that can.") from error


def _seal(path: Path) -> Path:
    return path.with_suffix(".json")


def _exists(listing: Listing, file: str) -> bool:
    return (listing.folder / file).is_file()
