"""Decoded cohorts kept on disk: trusted only if the content of the files is unchanged and every byte agrees.

A cached cohort is a safetensors file with a seal beside it. The seal names what was read (the key)
and the BLAKE2 digest of the safetensors file. A missing, stale or damaged pair reads as "not cached".
The files hold images of patients: they lie in a folder of their own that only its owner can enter.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import pooch

from hemafl_lib.data import store
from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.data.digests import digests
from hemafl_lib.data.layouts import READER_VERSION, Listing
from hemafl_lib.errors import DataError
from hemafl_lib.files import read_json, write_json

FOLDER_MODE, FILE_MODE = 0o700, 0o600


def directory() -> Path:
    """Return the folder of the cache: ``decoded`` in ``HEMAFL_CACHE``, or in the user's cache folder."""
    return Path(os.environ.get("HEMAFL_CACHE") or pooch.os_cache("hemafl")) / "decoded"


def place(name: str, size: int, folder: Path) -> Path:
    """Return where the cohort read from ``folder`` is kept."""
    where = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:8]
    return directory() / f"{name}-{size}px-{where}.safetensors"


def key(name: str, size: int, listing: Listing) -> str:
    """Return a text that changes with the reader, the size, the findings, or any byte that is read.

    BLAKE2 takes half the time of the SHA-256 of the provenance, and a cohort is loaded more often than read.

    Raises
    ------
    DataError
        If a file is missing or cannot be read.
    """
    files = digests(listing.folder, listing.files, "blake2b")
    read = [READER_VERSION, name, size, listing.files, files, listing.findings, listing.known]
    return hashlib.blake2b(json.dumps(read).encode()).hexdigest()


def read(path: Path, expected: str) -> ImageCohort | None:
    """Return the cohort at ``path`` if its seal holds the ``expected`` key and fits its bytes."""
    try:
        if not _is_own(path.parent):
            return None
        seal = read_json(_seal(path))
        if seal == _contents(path, expected):
            cohort = store.read_cohort(path)
            return cohort if isinstance(cohort, ImageCohort) else None
    except (DataError, OSError):
        return None
    return None


def write(path: Path, key: str, cohort: ImageCohort) -> None:
    """Keep ``cohort`` at ``path``; the seal is written last, and nothing is left of a half-written pair.

    Raises
    ------
    DataError
        If the folder cannot be written, or belongs to another user.
    """
    folder = path.parent
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        if not _is_own(folder):
            raise PermissionError(0, "it belongs to another user")
        folder.chmod(FOLDER_MODE)
        store.save_cohort(cohort, path, FILE_MODE)
        write_json(_seal(path), _contents(path, key), FILE_MODE)
    except (OSError, DataError) as error:
        for file in (path, _seal(path)):
            _remove(file)
        cause = error if isinstance(error, OSError) else error.__cause__
        reason = getattr(cause, "strerror", None) or cause
        raise DataError(
            f"{folder} cannot be written ({reason}), so the decoded images are not kept; free space there, "
            "or set HEMAFL_CACHE to another folder."
        ) from error


def clear() -> Path:
    """Delete all decoded images; return the folder that held them.

    Raises
    ------
    DataError
        If they cannot be deleted.
    """
    folder = directory()
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be deleted ({error.strerror}); delete it by hand.") from None
    return folder


def _is_own(folder: Path) -> bool:
    """Return whether ``folder`` is a folder, no link to one, and belongs to the user of this program."""
    about = folder.lstat()
    me = os.geteuid() if hasattr(os, "geteuid") else about.st_uid
    return stat.S_ISDIR(about.st_mode) and about.st_uid == me


def _remove(file: Path) -> None:
    """Delete a file if it is there and can be deleted."""
    # A folder that cannot be written holds no half-written file.
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)


def _contents(path: Path, key: str) -> dict[str, str]:
    """Return what the seal of ``path`` should hold."""
    return {"key": key, "blake2b": digests(path.parent, [path.name], "blake2b")[0]}


def _seal(path: Path) -> Path:
    return path.with_suffix(".json")
