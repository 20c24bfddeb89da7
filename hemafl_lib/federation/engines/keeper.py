"""A program that outlives its parent by a moment, to end what the parent has started.

It reads the numbers of process groups from its standard input, one a line. When that input ends,
because the parent closed it, ended, crashed or was killed, it kills all the groups and removes the
folder that its first argument names. A program that was started in the moment in which the parent ended
bears the folder's name in its environment, and is killed too (on Linux). It is run as a file of its own
and imports nothing but the standard library, so that it is there within milliseconds.
"""

import contextlib
import glob
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator

MARK = "HEMAFL_RUN_FOLDER"
"""The variable in the environment of what ends with the folder that it names."""


def keep(groups: Iterable[str], folder: str) -> None:
    """Wait until ``groups`` ends, kill every process group in it, and remove ``folder``."""
    numbers = [int(line) for line in groups]
    for number in numbers:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(number, signal.SIGKILL)
    # What has just been killed may still finish a write or start a program, so once may not be enough.
    end = time.monotonic() + 10
    while time.monotonic() < end:
        strays = list(marked(folder))
        for number in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        if not strays and not os.path.exists(folder):
            break
        time.sleep(0.02)


def marked(folder: str) -> Iterator[int]:
    """Yield the processes whose environment names the folder."""
    for path in glob.glob("/proc/[0-9]*/environ"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if f"{MARK}={folder}".encode() in file.read().split(b"\0"):
                yield int(path.split("/")[2])


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    keep(sys.stdin, sys.argv[1])
