"""A program that outlives its parent by a moment, to end what the parent has started.

It reads numbers from its standard input, one a line: of process groups, negative, and of processes. When
that input ends, because the parent closed it, ended, crashed or was killed, it kills all of them and removes
the folder that its first argument names. A process is killed only if it has a file of the folder open, since
its number may be another's by then; one whose number is not known, because it was started as the parent
ended, if its output goes there (both on Linux). It is run as a file of its own and imports nothing but the
standard library, so that it is there within milliseconds.
"""

import contextlib
import glob
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable


def keep(lines: Iterable[str], folder: str) -> None:
    """Wait until ``lines`` ends, kill what it numbers and what writes into ``folder``, and remove that."""
    numbers = [int(line) for line in lines]
    for number in numbers:
        if number < 0 or has_open(str(number), "*", folder):
            kill(number)
    # What has just been killed may still finish a write or start a program, so once may not be enough.
    end = time.monotonic() + 10
    while time.monotonic() < end:
        strays = [name for name in glob.glob("[0-9]*", root_dir="/proc") if has_open(name, "[12]", folder)]
        for name in strays:
            kill(int(name))
        shutil.rmtree(folder, ignore_errors=True)
        if not strays and not os.path.exists(folder):
            break
        time.sleep(0.02)


def kill(number: int) -> None:
    """Kill a process, or a group of them by its negative number, if it is there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(number, signal.SIGKILL)


def has_open(process: str, handles: str, folder: str) -> bool:
    """Return whether a process has a file of the folder open, by one of its handles."""
    for path in glob.glob(f"/proc/{process}/fd/{handles}"):
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith(folder + os.sep):
                return True
    return False


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    keep(sys.stdin, sys.argv[1])
