"""A temporary folder that does not outlive its run, however that ends: hospitals' data lie in it.

A small program beside this process, the keeper, removes it once it is let go of, and also when this process
is killed. Should the keeper be killed too, as when the machine runs out of memory, the next run removes it:
while either of them lives, it holds a lock.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Self, cast

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines import keeper

PREFIX, LOCK = "hemafl-run-", ".lock"
"""How such folders are called, and the file in each that is locked as long as it is needed."""


class KeptFolder:
    """A new folder that only its owner may read, and programs that end before it goes.

    Use it as a context manager. It is made in ``where``, by default where temporary files go. Raises
    `FederationError` if it cannot be.
    """

    def __init__(self, where: Path | None = None) -> None:
        where = where or Path(tempfile.gettempdir())
        remove_forsaken(where)
        try:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))
        except OSError as error:
            raise FederationError(
                f"no folder for the run can be made in {where} ({error.strerror}); set TMPDIR to a folder "
                "with room for the sites' data."
            ) from None
        try:
            self._keeper = start_keeper(self.path)
        except BaseException:  # Ctrl-C, too
            shutil.rmtree(self.path, ignore_errors=True)
            raise
        self._groups = cast(IO[str], self._keeper.stdin)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Kill what is left of the programs and remove the folder; return when both has happened."""
        self._groups.close()
        self._keeper.wait()

    def kill_at_the_end(self, number: int) -> None:
        """Have a process, or by its negative number a process group, killed when the folder goes."""
        self._groups.write(f"{number}\n")
        self._groups.flush()


def start_keeper(folder: Path) -> subprocess.Popen:
    """Start the program that removes a folder once its standard input ends, and that holds the lock."""
    lock = lock_folder(folder)
    try:
        return subprocess.Popen(
            [sys.executable, "-I", keeper.__file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
            pass_fds=[lock],
        )
    finally:
        os.close(lock)


def lock_folder(folder: Path) -> int:
    """Lock a folder; return the handle that holds the lock until it and all its copies are closed."""
    # The lock is held before it has its name, so that nobody finds it open.
    handle, name = tempfile.mkstemp(dir=folder)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.rename(name, folder / LOCK)
    return handle


def remove_forsaken(where: Path) -> None:
    """Remove this user's kept folders that nobody holds any more."""
    for folder in where.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid == os.geteuid() and is_forsaken(folder / LOCK):
                shutil.rmtree(folder, ignore_errors=True)


def is_forsaken(lock: Path) -> bool:
    """Return whether nobody holds a lock; raise `OSError` if there is none."""
    handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
