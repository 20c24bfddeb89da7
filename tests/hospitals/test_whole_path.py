"""The page "Join with your own data": its commands, in programs of their own over TLS, from empty folders."""

import contextlib
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
from hemafl_lib import clinic, data, federation, statistics
from hemafl_lib.data import own
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.deployment.programs import find_program, free_ports
from hemafl_lib.federation.exchange import exchanged_names, get_arrays
from hemafl_lib.federation.hospital import RunSettings
from hemafl_lib.hospitals.settings import SurvivalRun, read_run_file
from hemafl_lib.partition import Site, split

PATIENCE = 600.0
"""Seconds until a test gives up; on an idle machine every wait takes less than two minutes."""

NAMES = ("north", "south", "west")

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


def transcripts(page: str) -> dict[str, list[str]]:
    """Return the lines of each transcript of the page by its caption."""
    blocks = re.findall(
        r"^```\{code-block\} text\n:caption: (.*?)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE
    )
    return {caption: text.splitlines() for caption, text in blocks}


def is_said(line: str, said: str) -> bool:
    """Return whether a line of a transcript was said, whatever its numbers; "..." stands for anything."""
    number = r"-?\d+(\.\d+)?(e-?\d+)?"
    parts = [re.sub(r"\d+(\\\.\d+)?", lambda _: number, re.escape(part)) for part in line.split("...")]
    return re.search(f"^{'.*'.join(parts)}$", said, re.MULTILINE) is not None


def test_what_the_page_shows_of_a_check_is_what_the_command_says(page, tmp_path, monkeypatch):
    own_data.north(tmp_path / "north", pictures=16)
    (tmp_path / "north" / "mapping.toml").write_text(files(page)["mapping.toml"])
    monkeypatch.chdir(tmp_path)
    shown = transcripts(page)["What the north sees, of forty drawn patients"]
    assert here(command(page, "data check")).splitlines() == shown


def test_a_hospital_as_small_as_the_one_of_the_page_refuses_its_grid(page, tmp_path):
    own_data.north(tmp_path / "north", pictures=1)
    (tmp_path / "survival.toml").write_text(files(page)["survival.toml"])
    mapping = own.parse_mapping(files(page)["mapping.toml"], "mapping.toml")
    north = own.load_own_table(tmp_path / "north", mapping, "north")
    asked = SurvivalRun(**read_run_file("cox", tmp_path / "survival.toml"), out="")
    hospitals = [Site(name, north, north.take([]), north.take([])) for name in NAMES]
    with pytest.raises(FederationError, match="8 of 20 numbers of deaths or withdrawals"):
        statistics.kaplan_meier(hospitals, grid=asked.grid, minimum=mapping.smallest_count)
    assert statistics.kaplan_meier(hospitals, grid=asked.grid, minimum=1).table.shape[0] == 10


def test_a_line_is_said_whatever_its_numbers():
    assert is_said("round 1 of 2: loss 1.41", "x\nround 1 of 3: loss 0.7e-5\ny")
    assert is_said("flower --port 7 ...", "flower --port 9092 --more")
    assert not is_said("south is here.", "south is here. not")
    assert not is_said("round 1: loss 1.41", "round 1: loss many")


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
    "Three hospitals with other columns, units and folders join over TLS with secure aggregation; one is "
    "late, is killed and joins again",
    "the runs wait for it, each ends where the simulation does to the digits of a fixed point, and nothing "
    "stays behind",
)
def test_three_hospitals_train_by_the_commands_of_the_page(page, programs, tmp_path, monkeypatch):
    """One federation for several apps: starting its programs costs more than what they compute."""
    for name in NAMES:
        getattr(own_data, name)(tmp_path / name, pictures=16)
    shown = files(page)
    for name in ("survival.toml", "images.toml"):
        (tmp_path / name).write_text(shown[name].replace("rounds = 2", "rounds = 1"))
    (port,) = free_ports(1)
    monkeypatch.chdir(tmp_path)
    created = here([*command(page, "federation init"), "--address", f"localhost:{port}"])
    assert "as you would a key, and delete it here" in created
    for name in NAMES:
        (tmp_path / f"{name}.zip").write_bytes((tmp_path / "study" / "bundles" / f"{name}.zip").read_bytes())
    server, log = programs.start("serve", command(page, "federation serve"))
    _, heard = programs.start("north", command(page, "hospital join", "north"))
    programs.start("west", command(page, "hospital join", "west"))
    wait_for(log, "The server is ready", server)
    for program in ("flower-superlink --host 127.0.0.1", "flower-superexec --runtime-api-address"):
        assert program in log.read_text()

    late, told = programs.start("cox", command(page, "federation run", "cox"))
    wait_for(told, "waiting for", late)
    south, _ = programs.start("south", command(page, "hospital join", "south"))
    assert late.wait(PATIENCE) == 0, told.read_text()
    sites = tables(tmp_path, SurvivalRun(**read_run_file("cox", tmp_path / "survival.toml"), out="").columns)
    filled = statistics.standardise(sites, minimum=1).apply(sites, scale=False)
    expected = statistics.cox(filled, grid=np.arange(1, 11) * 12.0, minimum=1).table
    np.testing.assert_allclose(result(told.read_text()), expected.to_numpy(), rtol=1e-6)

    os.kill(south.pid, signal.SIGKILL)
    programs.start("south-again", command(page, "hospital join", "south"))
    wait_for(log, "south has gone.\nsouth is here.", server)
    curve = here(command(page, "federation run", "kaplan-meier"))
    expected = statistics.kaplan_meier(sites, grid=np.arange(1, 11) * 12.0, minimum=1).table
    np.testing.assert_allclose(result(curve), expected.to_numpy(), rtol=1e-12)

    said = here(command(page, "federation run", "images"))
    assert re.search(r"round 1 of 1, evaluate: south, \d+ images: ", said)
    assert "round 1 of 1, train: south is in the sum\n" in said, "and no loss of this one hospital"
    assert "The server has read the sum" in (folder_in(said) / "report.html").read_text()
    trained = clinic.load(folder_in(said)).network
    simulated = simulated_images(tmp_path, read_run_file("images", tmp_path / "images.toml"))
    for name, value in get_arrays(trained, exchanged_names(trained)).items():
        np.testing.assert_allclose(value, simulated.parameters[name], rtol=0, atol=1e-6)
    asked = here(["predict", str(folder_in(said)), str(tmp_path / "north" / "Lymphozyten")])
    assert asked.count(".png") == 8
    seen = {"What the north sees": heard.read_text(), "What the coordinator sees, ": log.read_text()}
    seen["What the coordinator sees of images"] = told.read_text() + said
    for caption, lines in transcripts(page).items():
        for beginning, text in seen.items():
            if caption.startswith(beginning) and "patients" not in caption:
                assert [line for line in lines if not is_said(line, text)] == []
    programs.end()
    assert not list((tmp_path / "tmp").glob("hemafl-run-*"))


def here(words: list[str]) -> str:
    """Return what a command says, called in this process, which has loaded what it needs already."""
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.output


def folder_in(said: str) -> Path:
    """Return the folder that the last line of a run names."""
    return Path(said.splitlines()[-1].rpartition(" lie in ")[2])


def result(said: str) -> np.ndarray:
    """Return the table that a run has left."""
    return pd.read_csv(folder_in(said) / "result.csv", index_col=0).to_numpy()


def tables(folder: Path, names: tuple[str, ...]) -> list[Site]:
    """Return the hospitals' tables for the simulation, with the same features in the same order."""
    mappings = {name: own.read_mapping(folder / name / "mapping.toml") for name in NAMES}
    return [
        site_of(own.load_own_table(folder / name, mapping, name), names) for name, mapping in mappings.items()
    ]


def site_of(cohort, names) -> Site:
    """Return all rows of a table as training rows, with these features in this order."""
    places = [cohort.feature_names.index(name) for name in names]
    chosen = replace(cohort, features=cohort.features[:, places], feature_names=names)
    return Site(str(cohort.site[0]), chosen, chosen.take([]), chosen.take([]))


def simulated_images(folder: Path, settings: dict) -> federation.Run:
    """Train the same network over the same pictures in one process, without secure aggregation."""
    run = RunSettings(hospitals=len(NAMES), **settings)
    sites = []
    for name in NAMES:
        mapping = own.read_mapping(folder / name / "mapping.toml")
        cohort = own.load_own_images(folder / name, mapping, name, size=run.size)
        sites.append(Site(name, *split(data.harmonise(cohort, run.classes), seed=run.seed)))
    job = run.job()
    return federation.run(sites, model=job.model, recipe=job.recipe, rounds=run.rounds, progress=False)
