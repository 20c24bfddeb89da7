"""`hemafl hospitals` and `federation run`: start a run, show its log, and end as the run ends.

``flwr run --stream`` shows the log too, but ends with exit status 0 whatever became of the run.

Budget: 180 lines.
"""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.deployment.deployment import FLOWER
from hemafl_lib.federation.engines.deployment.programs import find_program
from hemafl_lib.files import write_text
from hemafl_lib.hospitals.folder import Federation
from hemafl_lib.hospitals.serving import FLOWER_HOME, LINK, nodes_of
from hemafl_lib.hospitals.settings import Place, read_run_file, run_config

STARTED = re.compile(r"Successfully started run (\d+)")


def run_and_follow(
    app: Path,
    superlink: str,
    run_config: str,
    say: Callable[[str], object],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Start a run, ``say`` its log line by line, and return once it has ended well.

    Parameters
    ----------
    app
        Folder of the app's settings.
    superlink
        The server's name in Flower's ``config.toml``.
    run_config
        The settings that are not those of ``app``, as ``flwr run`` takes them; may be empty.
    environment
        Variables for ``flwr`` beside those of this process.

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
    with flwr(*command, environment=environment) as process:
        for line in process.stdout or ():
            say(line.rstrip("\n"))
            last = line.strip() or last
            number = number or next(iter(STARTED.findall(line)), None)
    if number is None:
        raise FederationError(f"no run was started; flwr says: {last or 'nothing'}")
    check_end(number, superlink, environment)
    say(f"Run {number} has ended well.")


def check_end(number: str, superlink: str, environment: Mapping[str, str] | None = None) -> None:
    """Raise `FederationError` unless a run has ended well."""
    command = ["list", superlink, "--run-id", number, "--format", "json"]
    with flwr(*command, environment=environment) as process:
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


def flwr(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start Flower's command; what it says comes from its standard output, errors too."""
    command = [find_program("flwr"), *arguments]
    variables = {**os.environ, **(environment or {})}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables
    )


# --- a federation's apps ---------------------------------------------------------------------------

DESCRIPTION = """[project]
name = "hemafl-federation"
version = "0.1.0"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "hemafl"

[tool.flwr.app.components]
serverapp = "hemafl_lib.hospitals.server:app"
clientapp = "hemafl_lib.hospitals.node:app"

[tool.flwr.app.config]
"""
"""Flower's description of the app, to which a run adds its settings; the apps are the installed library's."""

TOLD = re.compile(r"round \d|waiting for|finished|going on|Successfully started|WARNING|ERROR|Error")
"""Lines of Flower's log that say something of this run."""

LEVEL = re.compile(r"^(\x1b\[\d+m)?(INFO|DEBUG)\s*(\x1b\[0m)?\s*:\s*")


def run_app(
    federation: Federation, app: str, settings: Path | None, out: Path | None, say: Callable[[str], object]
) -> Path:
    """Run an app over a federation and return the folder of its outcome; ``say`` the command and the log.

    Raises `HemaflError` before anything is started for a setting that will not do, and if the run failed.
    """
    given = read_run_file(app, settings)
    folder = (out or new_folder(federation.folder / "runs", app)).absolute()
    nodes = nodes_of(federation)
    place = Place(
        app,
        ",".join(federation.hospitals),
        ",".join(str(nodes[name]) for name in federation.hospitals),
        federation.secure,
    )
    config = run_config(app, place, given, folder)
    described = federation.folder / "app"
    write_text(described / "pyproject.toml", DESCRIPTION + toml_of(config))
    home = str(federation.folder / FLOWER_HOME)
    say(f"FLWR_HOME={shlex.quote(home)} " + shlex.join(["flwr", "run", str(described), LINK, "--stream"]))
    environment = {**FLOWER, "FLWR_HOME": home}
    run_and_follow(described, LINK, "", lambda line: say_told(line, say), environment)
    return folder


def say_told(line: str, say: Callable[[str], object]) -> None:
    """Say a line of Flower's log, without its level, if it is of this run."""
    if TOLD.search(line):
        say(LEVEL.sub("", line))


def new_folder(runs: Path, app: str) -> Path:
    """Return the first folder of a run of an app that is not there yet."""
    number = 1
    while (runs / f"{app}-{number}").exists():
        number += 1
    return runs / f"{app}-{number}"


def toml_of(config: Mapping[str, Any]) -> str:
    """Return settings as lines of TOML; texts, numbers and booleans are written as in JSON."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in config.items())
