"""Files that are never half-written: write beside the target, then rename. And a result is never lost.

Budget: 180 lines.
"""

import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from hemafl_lib.errors import DataError

FAILURES = (OSError, SafetensorError)
"""What a write raises that the system does not allow; safetensors has an error of its own for that."""


def replace_file(
    path: Path, write: Callable[[Path], object], mode: int | None = None, *, rescue: bool = False
) -> None:
    """Replace ``path`` by what ``write`` writes to the path that it is given.

    The file gets the rights ``mode``; by default one that is there keeps its own, and a new one has what the
    umask leaves. A link keeps its target. Where the system does not let the file be
    written, a result that took long to compute can be ``rescue``-d: it goes into the folder of temporary
    files or the current folder instead.

    Raises
    ------
    DataError
        If ``path`` could not be written; it names where the result is instead.
    """
    path = Path(path)
    try:
        replace(path, write, mode)
    except FAILURES as error:
        remedy = "name another file"
        if rescue:
            saved = write_elsewhere(path, write)
            remedy = f"the result is in {saved} instead, move it" if saved else "and the result is lost"
        raise DataError(f"{path} cannot be written ({reason(error)}); {remedy}.") from None


def replace(path: Path, write: Callable[[Path], object], mode: int | None = None) -> None:
    """Write beside a file, then rename."""
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name[:50]}.{secrets.token_hex(4)}")
    try:
        temporary.touch(0o666 if mode is None else mode, exist_ok=False)
        if mode is None:
            mode = stat.S_IMODE((target if target.exists() else temporary).stat().st_mode)
        write(temporary)
        temporary.chmod(mode)
        temporary.replace(target)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_elsewhere(path: Path, write: Callable[[Path], object]) -> Path | None:
    """Write a file that could not be written where it should be; return where it is, or None."""
    for folder in places_to_rescue():
        elsewhere = folder / f"{path.stem[:50]}-{secrets.token_hex(4)}{path.suffix[:50]}"
        with suppress(*FAILURES):
            replace(elsewhere, write, 0o600)
            return elsewhere
    return None


def places_to_rescue() -> Iterator[Path]:
    """Yield the folder of temporary files and the current one, as far as there are such."""
    for find in (tempfile.gettempdir, os.getcwd):
        with suppress(OSError):
            yield Path(find())


def reason(error: Exception) -> str:
    """Return in the system's words why a file cannot be written."""
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    quoted = re.search(r"I/O error: (.*?) \(os error", said)
    return quoted[1] if quoted else said


def check_target(path: Path) -> None:
    """Raise `DataError` if ``path`` could not be written, before anything is computed for it.

    Its folder may be missing, and is then made when the file is written; the folder above must be there.
    Nothing but an ordinary file is replaced.
    """
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder; name a file in it.")
        if path.is_symlink() and not path.exists():
            raise DataError(f"{path} is a link to nothing; remove it or name another file.")
        if path.exists():
            if not path.is_file():
                raise DataError(f"{path} is no ordinary file; name another one.")
            os.close(os.open(path, os.O_WRONLY))
        probe(path)
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be written ({reason(error)}); name another file.") from None


def check_folder(folder: Path) -> None:
    """Raise `DataError` if no file could be written into ``folder``, which may be missing: `check_target`."""
    check_target(folder / "file")


def probe(path: Path) -> None:
    """Write a little beside a file that is to be, so that a full or read-only disk is met now."""
    folder = Path(os.path.realpath(path)).parent
    if not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise DataError(f"{path} cannot be written because {folder} is no folder; make it or name another.")
    with tempfile.NamedTemporaryFile(prefix=".", dir=folder) as file:
        file.write(bytes(4096))


def write_json(path: Path, value: Any, mode: int | None = None, *, rescue: bool = False) -> None:
    """Write ``value`` as JSON with sorted keys; NaN and infinity are refused. As `replace_file`."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n", mode, rescue=rescue)


def write_text(path: Path, text: str, mode: int | None = None, *, rescue: bool = False) -> None:
    """Write a text; as `replace_file`."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), mode, rescue=rescue)


def read_json(path: Path) -> Any:
    """Read JSON; raise `DataError` naming the file if it is missing, damaged or cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path or compute the file first.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({reason(error)}); check the path.") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, no JSON, a number too long, nested too deep
        raise DataError(f"{path} is not valid JSON ({error}); delete it and compute it again.") from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal; raise `DataError` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({reason(error)}); check the path.") from None
