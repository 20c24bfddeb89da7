"""Programs of their own beside this process: started with a log each, waited for, and always ended."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.kept_folder import KeptFolder


@dataclass(frozen=True)
class Program:
    """A program that was started, and the file that holds what it says."""

    name: str
    process: subprocess.Popen
    log: Path

    def exit_code(self) -> int | None:
        """Return its exit code, or None while it runs."""
        return self.process.poll()

    def listens_at(self, port: int) -> bool:
        """Return whether it is this program that listens at a port of 127.0.0.1."""
        return listens(self.process.pid, port)

    def end(self, patience: float = 10.0) -> None:
        """Ask it to end; kill it, and what it has started, after ``patience`` seconds."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def last_lines(self, count: int = 5) -> str:
        """Return the last lines of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()][-count:]
        return " | ".join(said) or "empty"


class Programs:
    """Programs and the folder they share: use it as a context manager, and nothing stays behind.

    Every program leads a process group of its own, which ends with the folder (see `KeptFolder`).

    Attributes
    ----------
    folder
        A new folder that only its owner may read.
    """

    def __init__(self) -> None:
        self._kept = KeptFolder()
        self.folder = self._kept.path
        self._started: list[subprocess.Popen] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End all programs and remove the folder; return when both has happened."""
        self._kept.__exit__()
        for process in self._started:
            process.wait()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Program:
        """Start a program in the folder; ``name`` is what errors call it.

        Raises `FederationError` if it is not installed.
        """
        log = self.folder / f"{name.replace(' ', '-').lower()}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [find_program(command[0]), *command[1:]],
                env=dict(environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._kept.kill_at_the_end(-process.pid)
        self._started.append(process)
        return Program(name, process, log)


def wait_until(condition: Callable[[], bool], program: Program, what: str, deadline: float) -> None:
    """Return when ``condition()`` is true.

    Raises
    ------
    FederationError
        If the program ends before, or ``deadline`` seconds pass.
    """
    end = time.monotonic() + deadline
    while not condition():
        code = program.exit_code()
        if code is not None or time.monotonic() > end:
            fate = f"did not come up in {deadline:.0f} s" if code is None else f"ended with exit code {code}"
            log = program.last_lines()
            raise FederationError(f"{program.name} {fate} before {what}; the end of its log is: {log}")
        time.sleep(0.1)


def places_of_programs() -> str:
    """Return the PATH of the programs, Python's folder first: Flower's programs start each other."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def find_program(name: str) -> str:
    """Return the path of a program that stands beside Python or on the PATH."""
    found = shutil.which(name, path=places_of_programs())
    if found is None:
        raise FederationError(f"the program {name} is not installed; run pip install flwr.")
    return found


def listens(program: int, port: int) -> bool:
    """Return whether the program with this process number itself listens at a port of 127.0.0.1."""
    try:
        sockets = psutil.Process(program).net_connections("tcp4")
    except psutil.NoSuchProcess:
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr == ("127.0.0.1", port) for each in sockets)


def free_ports(count: int) -> list[int]:
    """Return numbers of different ports of this machine that nobody listens on: for now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
