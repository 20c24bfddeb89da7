"""Files that are never half-written: write beside the target, then rename.

Budget: 90 lines.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hemafl_lib.errors import DataError


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; rename it to ``path`` if the block succeeds.

    The file gets the rights ``mode``. Raises `DataError` naming ``path`` if the system does not let it be
    written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(mode)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path} cannot be written ({reason}); name another file.") from error


def check_target(path: Path) -> None:
    """Raise `DataError` if ``path`` is a folder or could not be written, before anything is computed for it.

    Its folder may be missing, and is then made when the file is written; the folder above must be there.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file in it.")
    folder = path.absolute().parent
    if not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise DataError(f"{path} cannot be written because {folder} is no folder; make it or name another.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataError(f"{path} cannot be written because {folder} may not be; name another folder.")


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Write ``value`` as JSON with sorted keys; NaN and infinity are refused."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with replacing(path, mode) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON; raise `DataError` naming the file if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path or compute the file first.") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, no JSON, a number too long, nested too deep
        raise DataError(f"{path} is not valid JSON ({error}); delete it and compute it again.") from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
