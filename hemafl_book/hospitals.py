"""`hemafl hospitals`: start a run over hospitals, show its log, and end as the run ends.

``flwr run --stream`` shows the log too, but ends with exit status 0 whatever became of the run.

Budget: 100 lines.
"""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.deployment.programs import find_program

STARTED = re.compile(r"Successfully started run (\d+)")


def run_and_follow(app: Path, superlink: str, run_config: str, say: Callable[[str], object]) -> None:
    """Start a run, ``say`` its log line by line, and return once it has ended well.

    Parameters
    ----------
    app
        Folder of the app's settings.
    superlink
        The server's name in Flower's ``config.toml``.
    run_config
        The settings that are not those of ``app``, as ``flwr run`` takes them; may be empty.

    Raises
    ------
    FederationError
        If the run was not started, failed, was stopped, or goes on without its log being shown.
    """
    if not (app / "pyproject.toml").is_file():
        raise FederationError(f"{app} holds no Flower app; name the folder 'hospitals' of the book.")
    command = ["run", str(app), superlink, "--stream"]
    if run_config:
        command += ["--run-config", run_config]
    number = last = None
    with flwr(*command) as process:
        for line in process.stdout or ():
            say(line.rstrip("\n"))
            last = line.strip() or last
            number = number or next(iter(STARTED.findall(line)), None)
    if number is None:
        raise FederationError(f"no run was started; flwr says: {last or 'nothing'}")
    check_end(number, superlink)
    say(f"Run {number} has ended well.")


def check_end(number: str, superlink: str) -> None:
    """Raise `FederationError` unless a run has ended well."""
    with flwr("list", superlink, "--run-id", number, "--format", "json") as process:
        said = process.communicate()[0]
    try:
        (found,) = json.loads(said[said.index("{") :])["runs"]
    except (ValueError, KeyError):
        raise FederationError(
            f"the server '{superlink}' does not answer, so nobody knows how run {number} ended; once it is "
            "there again, start the same run: it goes on after its last finished round."
        ) from None
    status, details = found["status"], found["status-details"]
    if status == "finished:completed":
        return
    if status.startswith("finished"):
        reason = details.removeprefix("ServerApp failed with exception: ")
        raise FederationError(f"run {number} ended without a model ({status}): {reason}")
    raise FederationError(
        f"run {number} is still {status}; 'flwr log {number} {superlink}' shows it, and "
        f"'flwr stop {number} {superlink}' ends it."
    )


def flwr(*arguments: str) -> subprocess.Popen[str]:
    """Start Flower's command; what it says comes from its standard output, errors too."""
    command = [find_program("flwr"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
