"""The page "Join with your own data": its commands, in programs of their own over TLS, from empty folders."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import own_data
from typer.testing import CliRunner

from hemafl_book.cli import app
from hemafl_lib import federation, statistics
from hemafl_lib.data import own
from hemafl_lib.federation.engines.deployment.programs import find_program, free_ports
from hemafl_lib.hospitals.settings import DeepSurvRun
from hemafl_lib.partition import Site, split

PATIENCE = 600.0
"""Seconds until a test gives up; on an idle machine every wait takes less than a minute."""

RUNS = (
    "federation init",
    "federation serve",
    "federation run",
    "hospital join",
    "data check",
    "data mapping",
)


@pytest.fixture(scope="module")
def page(repository) -> str:
    return (repository / "book" / "start" / "own_data.md").read_text(encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    """Return the words of every ``hemafl`` command that the page prints, in order."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("hemafl ")]


def command(page: str, words: str, containing: str = "") -> list[str]:
    """Return the page's one command that begins with ``words`` and holds another word."""
    start = words.split()
    found = [line for line in commands(page) if line[: len(start)] == start and containing in " ".join(line)]
    assert len(found) == 1, (words, found)
    return found[0]


def files(page: str) -> dict[str, str]:
    """Return the files that the page shows, by the name in the comment of their first line."""
    blocks = re.findall(r"^```toml\n# (\S+\.toml)[^\n]*\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    return dict(blocks)


@pytest.mark.parametrize("words", RUNS)
def test_the_commands_know_the_options_of_the_page(page, words):
    shown = CliRunner().invoke(app, [*words.split(), "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    used = {
        word for line in commands(page) if line[:2] == words.split() for word in line if word.startswith("--")
    }
    assert used or words == "federation serve"
    assert used <= set(re.findall(r"--[a-z-]+", shown.output))


def test_the_mappings_of_the_page_can_be_read(page):
    shown = files(page)
    assert {"mapping.toml", "survival.toml", "network.toml", "images.toml"} <= set(shown)
    mapping = own.parse_mapping(shown["mapping.toml"], "mapping.toml")
    assert mapping.table is not None
    assert mapping.images is not None


class Programs:
    """Commands of the page as programs in one folder, each with a log; all ended at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tmp").mkdir()
        self.running: list[subprocess.Popen] = []

    def start(self, name: str, words: list[str]) -> tuple[subprocess.Popen, Path]:
        log = self.folder / f"{name}.log"
        environment = {**os.environ, "TMPDIR": str(self.folder / "tmp"), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [find_program("hemafl"), *words],
            cwd=self.folder,
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        self.running.append(process)
        return process, log

    def run(self, name: str, words: list[str]) -> str:
        process, log = self.start(name, words)
        assert process.wait(PATIENCE) == 0, log.read_text()
        return log.read_text()

    def end(self) -> None:
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(log: Path, text: str, process: subprocess.Popen) -> None:
    """Return once a log holds a text."""
    end = time.monotonic() + PATIENCE
    while text not in log.read_text(errors="replace"):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, (text, log.read_text())
        time.sleep(0.2)


@pytest.fixture
def programs(tmp_path):
    running = Programs(tmp_path)
    yield running
    running.end()


@pytest.mark.deployment
@pytest.mark.slow
@pytest.mark.survives(
    "Two hospitals with other columns, units and folders join; one is late, is killed and joins again",
    "the runs wait for it, the Cox model has the bits of the simulation, and nothing stays behind",
)
def test_two_hospitals_train_by_the_commands_of_the_page(page, programs, tmp_path):
    own_data.north(tmp_path / "north", pictures=16)
    own_data.south(tmp_path / "south", pictures=16)
    shown = files(page)
    for name in ("survival.toml", "network.toml", "images.toml"):
        (tmp_path / name).write_text(shown[name])
    (port,) = free_ports(1)
    created = programs.run("init", [*command(page, "federation init"), "--address", f"localhost:{port}"])
    assert "as you would a key" in created
    for name in ("north", "south"):
        (tmp_path / f"{name}.zip").write_bytes((tmp_path / "study" / "bundles" / f"{name}.zip").read_bytes())
    server, log = programs.start("serve", command(page, "federation serve"))
    programs.start("north", command(page, "hospital join", "north"))
    wait_for(log, "The server is ready", server)
    for program in ("flower-superlink --host 127.0.0.1", "flower-superexec --runtime-api-address"):
        assert program in log.read_text()

    late, told = programs.start("cox", command(page, "federation run", "cox"))
    wait_for(told, "waiting for", late)
    south, heard = programs.start("south", command(page, "hospital join", "south"))
    assert late.wait(PATIENCE) == 0, told.read_text()
    outcome = folder_in(told.read_text())
    names = tuple(shown["survival.toml"].partition("[")[2].partition("]")[0].replace('"', "").split(", "))
    sites = []
    for name in ("north", "south"):
        mapping = own.read_mapping(tmp_path / name / "mapping.toml")
        sites.append(site_of(own.load_own_table(tmp_path / name, mapping, name), names))
    filled = statistics.standardise(sites, minimum=1).apply(sites, scale=False)
    expected = statistics.cox(filled, grid=np.arange(1, 11) * 12.0, minimum=1).table
    assert np.array_equal(pd.read_csv(outcome / "result.csv", index_col=0).to_numpy(), expected.to_numpy())

    os.kill(south.pid, signal.SIGKILL)
    programs.start("south-again", command(page, "hospital join", "south"))
    wait_for(log, "south has gone.\nsouth is here.", server)
    said = programs.run("images", command(page, "federation run", "images"))
    assert re.search(r"round 1 of \d+, train: north, \d+ images: ", said)
    assert re.search(r"round 1 of \d+, train: south, \d+ images: ", said)
    trained = folder_in(programs.run("network", command(page, "federation run", "deepsurv")))
    card = json.loads((trained / "card.json").read_text())
    assert card["parameters"] == simulated_network(sites, card["settings"]).hash
    asked = CliRunner().invoke(
        app, ["predict", str(folder_in(said)), str(tmp_path / "north" / "Lymphozyten")]
    )
    assert asked.exit_code == 0, asked.output
    assert "flower-supernode" in heard.read_text()
    programs.end()
    assert not list((tmp_path / "tmp").glob("hemafl-run-*"))


def folder_in(said: str) -> Path:
    """Return the folder that the last line of a run names."""
    return Path(said.splitlines()[-1].rpartition(" lie in ")[2])


def simulated_network(sites: list[Site], settings: dict) -> federation.Run:
    """Train the same network over the same tables in one process."""
    run = DeepSurvRun(**settings)
    parts = [Site(site.name, *split(site.train, seed=run.seed)) for site in sites]
    ready = statistics.standardise(parts, minimum=1).apply(parts)
    return federation.run(ready, model=run.model(), recipe=run.recipe(), rounds=run.rounds)


def site_of(cohort, names) -> Site:
    """Return all rows of a table as training rows, with these features in this order."""
    places = [cohort.feature_names.index(name) for name in names]
    chosen = replace(cohort, features=cohort.features[:, places], feature_names=names)
    return Site(str(cohort.site[0]), chosen, chosen.take([]), chosen.take([]))
