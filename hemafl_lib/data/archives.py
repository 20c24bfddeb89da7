"""Archives are judged before a byte of them is written, and unpacked whole or not at all."""

from __future__ import annotations

import lzma
import shutil
import stat
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from hemafl_lib.errors import DataError

MOST_ENTRIES = 200_000
"""The largest layout has 41,621 images."""

MOST_GROWTH = 100
"""An archive may grow so many times: images hardly shrink when they are packed, bombs a thousandfold."""

SMALL = 1 << 24
"""An archive may hold so many bytes whatever its growth."""


def unpack(file: Path, folder: Path) -> None:
    """Unpack a zip archive into ``folder``, which its caller throws away if this fails.

    Raises
    ------
    DataError
        If the archive is damaged, encrypted or larger than it should be, or holds links or names that
        lead out of the folder or meet on some system.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            reason = _objection(entries, file.stat().st_size, shutil.disk_usage(folder).free)
            if reason is not None:
                raise DataError(f"{file} is not unpacked, because {reason}; delete it, and ask who sent it.")
            archive.extractall(folder)
    # NotImplementedError and RuntimeError are zipfile's words for a compression that it does not know.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError) as error:
        raise DataError(f"{file} cannot be unpacked ({error}); delete it and fetch it again.") from None


def _objection(entries: list[zipfile.ZipInfo], packed: int, free: int) -> str | None:
    """Return why an archive of ``packed`` bytes is not to be unpacked where so many are ``free``, or None."""
    if len(entries) > MOST_ENTRIES:
        return f"it holds {len(entries):,} entries, more than {MOST_ENTRIES:,}"
    size = sum(entry.file_size for entry in entries)
    if size > max(SMALL, MOST_GROWTH * packed):
        return f"{packed:,} bytes would grow to {size:,}, more than {MOST_GROWTH} times as many"
    if size > free:
        return f"it needs {size:,} bytes and {free:,} are free"
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        if entry.flag_bits & 1:
            return f"{name!r} in it is encrypted"
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            return f"{name!r} in it is a link or a device"
        if "\\" in name or ":" in name or PurePosixPath(name).is_absolute() or ".." in name.split("/"):
            return f"{name!r} in it could lead out of the folder"
        same = unicodedata.normalize("NFC", name.rstrip("/")).casefold()
        if same in seen:
            return f"it holds {name!r} twice, perhaps in another case"
        seen.add(same)
    return None
