"""`hemafl hospitals`: what `flwr` shows, and an exit code that says how the run ended."""

import json

import pytest
from typer.testing import CliRunner

from hemafl_book import hospitals
from hemafl_book.cli import app

STARTED = "Successfully started run 7\nINFO : round 1 of 1\n"


@pytest.fixture
def call(monkeypatch, tmp_path, repository):
    """Call the command with a ``flwr`` that says what it is told to say."""

    def with_flwr(said: str, listed: str, folder=None):
        (tmp_path / "run").write_text(said)
        (tmp_path / "list").write_text(listed)
        flwr = tmp_path / "flwr"
        flwr.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\ncat "{tmp_path}/$1"\n')
        flwr.chmod(0o755)
        monkeypatch.setattr(hospitals, "find_program", lambda name: str(flwr))
        arguments = ["hospitals", "server", "--run-config", "rounds=1", "--app"]
        return CliRunner().invoke(app, [*arguments, str(folder or repository / "hospitals")])

    return with_flwr


def listing(status: str, details: str = "N/A") -> str:
    """What ``flwr list --format json`` says of one run."""
    return json.dumps({"success": True, "runs": [{"status": status, "status-details": details}]})


def test_a_run_that_ended_well_is_exit_code_0(call, tmp_path, repository):
    done = call(STARTED, listing("finished:completed"))
    assert (done.exit_code, done.stdout) == (0, f"{STARTED}Run 7 has ended well.\n")
    assert (tmp_path / "asked").read_text().splitlines() == [
        f"run {repository / 'hospitals'} server --stream --run-config rounds=1",
        "list server --run-id 7 --format json",
    ]


@pytest.mark.survives(
    "A script starts a run over hospitals that fails",
    "'hemafl hospitals' ends with exit code 1 and the reason, where 'flwr run --stream' ends with 0",
)
@pytest.mark.parametrize(
    ("said", "listed", "told"),
    [
        (
            STARTED,
            listing("finished:failed", "ServerApp failed with exception: no hospital trained."),
            "run 7 ended without a model (finished:failed): no hospital trained.",
        ),
        (STARTED, listing("finished:stopped", "by hand"), "(finished:stopped): by hand"),
        (STARTED, listing("running"), "run 7 is still running; 'flwr log 7 server' shows it"),
        (
            STARTED,
            "Error: Connection to the SuperLink is unavailable.",
            "the server 'server' does not answer",
        ),
        (STARTED, listing("finished")[:-9], "the server 'server' does not answer"),
        ("Error: no such connection\n", "", "no run was started; flwr says: Error: no such connection"),
    ],
)
def test_a_run_that_did_not_end_well_is_exit_code_1(call, said, listed, told):
    done = call(said, listed)
    assert done.exit_code == 1
    assert told in done.stderr
    assert done.stderr.startswith("hemafl: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_without_the_app_is_one_sentence(call, tmp_path):
    done = call(STARTED, "", folder=tmp_path)
    assert done.exit_code == 1
    assert f"{tmp_path} holds no Flower app" in done.stderr
