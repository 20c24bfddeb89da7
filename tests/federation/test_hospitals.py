"""The app for hospitals: a run ends well only if somebody trained, and nothing good is ever overwritten."""

import logging
import math
import threading
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders.federated import pictures

from hemafl_lib.data.classes import CLASS_SCHEMES
from hemafl_lib.errors import FederationError
from hemafl_lib.federation import hospital, run_folder
from hemafl_lib.federation.engines.local import run_local
from hemafl_lib.files import read_json
from hemafl_lib.models import load_model
from hemafl_lib.partition import Site

SITES = ("north", "south")
FOUR = tuple(CLASS_SCHEMES["four"])


@pytest.fixture(scope="module")
def defaults(repository) -> dict:
    described = tomllib.loads((repository / "hospitals" / "pyproject.toml").read_text())
    return {**described["tool"]["flwr"]["app"]["config"], "rounds": 2, "size": 16, "width": 4}


def own_site(name: str, size: int) -> Site:
    """A few pictures in four classes."""
    cohorts = [
        replace(cohort, labels=cohort.labels + 2 * (torch.arange(len(cohort)) % 2), classes=FOUR)
        for cohort in (pictures(24, SITES.index(name), size), pictures(12, 9, size), pictures(4, 8, size))
    ]
    return Site(name, *cohorts)


@pytest.fixture
def start(defaults, tmp_path, monkeypatch):
    """Start the app over two hospitals; those of the cohort "smear" have a few pictures instead."""
    read = hospital.own_site

    def has_pictures(context, run) -> Site:
        node = context.node_config
        return own_site(node["site"], run.size) if node["cohort"] == "smear" else read(context, run)

    monkeypatch.setattr(hospital, "own_site", has_pictures)

    def begin(node: dict | None = None, app=hospital.node_app, **changes):
        settings = {**defaults, "out": str(tmp_path / "out")}
        settings |= {name.replace("_", "-"): value for name, value in changes.items()}

        def serve(grid, context):
            for node_id, site in zip(grid.get_node_ids(), SITES, strict=True):
                grid.context(node_id).node_config.update({"cohort": "smear", "site": site} | (node or {}))
            hospital.server_app(grid, context)

        run_local(serve, app, 2, run_config=settings)

    return begin


def failing(monkeypatch, fails) -> None:
    """Let hospitals change or refuse their answers: ``fails(site, message, reply)`` returns the reply."""
    answer = hospital.client_app

    def client_app(job, load_site):
        app = answer(job, load_site)

        def call(message, context):
            return fails(context.node_config["site"], message, app(message, context))

        return call

    monkeypatch.setattr(hospital, "client_app", client_app)


# --- nobody trained --------------------------------------------------------------------------------


@pytest.mark.survives(
    "A mistyped data folder at every hospital",
    "the run fails after its first round and gives each hospital's reason; no model is written",
)
def test_a_run_in_which_nobody_trained_fails_with_every_reason(start, tmp_path, caplog):
    with (
        caplog.at_level(logging.INFO, "flwr"),
        pytest.raises(
            FederationError, match=r"no hospital trained in round 1; .*north: .*; south: "
        ) as caught,
    ):
        start({"cohort": "tecom", "data-folder": str(tmp_path / "nowhere")})
    assert str(caught.value).count("nowhere") == 2
    for site in SITES:
        assert any(f"round 1, train: {site} was not used: " in line for line in caplog.messages)
    assert not (tmp_path / "out" / run_folder.MODEL_FILE).exists()
    refused = read_json(tmp_path / "out" / run_folder.HISTORY_FILE)["refused"]
    assert [(row["site"], row["phase"]) for row in refused] == [("north", "train"), ("south", "train")]


@pytest.mark.survives(
    "Every hospital mends its data folder and the same run is started again",
    "it begins where it stopped, in the same folder",
)
def test_a_failed_run_can_be_started_again_once_mended(start, tmp_path):
    with pytest.raises(FederationError, match="no hospital trained in round 1"):
        start({"cohort": "tecom", "data-folder": str(tmp_path / "nowhere")})
    start()
    history = read_json(tmp_path / "out" / run_folder.HISTORY_FILE)
    assert {row["round"] for row in history["history"]} == {1, 2}
    assert history["settings"]["rounds"] == 2


@pytest.mark.survives(
    "A learning rate at which the model diverges at every hospital",
    "the run fails, names the loss that each hospital found, and writes no model",
)
@pytest.mark.parametrize("rate", [1e6, 1e30])
def test_a_diverged_model_is_an_error(start, tmp_path, rate):
    with pytest.raises(
        FederationError, match=r"diverged in round 1; lower learning-rate|no hospital trained"
    ):
        start(learning_rate=rate, rounds=1)
    assert not (tmp_path / "out" / run_folder.MODEL_FILE).exists()


@pytest.mark.survives(
    "One hospital reports an absurd loss, or none",
    "the others' word counts: the run goes on, and the history shows what that hospital said",
)
@pytest.mark.parametrize("liar", ["north", "south"])
@pytest.mark.parametrize("loss", [1e30, math.inf, None])
def test_one_hospital_alone_cannot_call_the_model_diverged(start, monkeypatch, tmp_path, liar, loss):
    def lie(site, message, reply):
        if site == liar and message.metadata.message_type == "evaluate":
            del reply.content["metrics"]["loss"]
            if loss is not None:
                reply.content["metrics"]["loss"] = loss
        return reply

    failing(monkeypatch, lie)
    start(rounds=1)
    assert load_model(tmp_path / "out" / run_folder.MODEL_FILE)


@pytest.mark.survives(
    "An unexpected error at a hospital whose text quotes a patient's row",
    "the server learns the kind of error only; the text stays in that hospital's log",
)
def test_the_text_of_an_unexpected_error_stays_at_its_hospital(start, monkeypatch, tmp_path):
    def fail(site, message, reply):
        if site == "south":
            raise KeyError("Schmidt, Erika")
        return reply

    failing(monkeypatch, fail)
    start(rounds=1)
    told = (tmp_path / "out" / run_folder.HISTORY_FILE).read_text()
    assert "Schmidt" not in told
    assert "an unexpected KeyError, which is in its node's log" in told


# --- settings and the folder -----------------------------------------------------------------------


@pytest.mark.survives(
    "A setting of the hospitals' app that cannot work, such as no rounds or images of 4 pixels",
    "one sentence that names the setting, before any hospital is asked",
)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rounds": 0}, "rounds=0 is not allowed"),
        ({"size": 4}, "size=4 is not allowed"),
        ({"size": 100_000}, "size=100000 is not allowed"),
        ({"width": 10**9}, "width=1000000000 is not allowed"),
        ({"deadline": float("inf")}, "deadline=inf is not allowed"),
        ({"learning_rate": float("nan")}, "learning_rate=nan is not allowed"),
        ({"loss": "cox"}, "loss='cox' is unknown"),
        ({"out": " "}, "out=' ' is no name of a folder"),
        ({"out": "a\0b"}, "is no name of a folder"),
        ({"out": "a" * 300}, "cannot be used"),
        ({"hospitals": 0}, "hospitals=0 is not allowed"),
        ({"aggregator": "Fed"}, "'Fed' is unknown"),
    ],
)
def test_settings_are_checked_before_the_first_message(start, change, match, tmp_path):
    with pytest.raises(FederationError, match=match):
        start(app=None, **change)
    assert not (tmp_path / "out").exists()


def spoil_with_model(folder: Path) -> None:
    folder.mkdir()
    (folder / run_folder.MODEL_FILE).write_bytes(b"a good model")


def spoil_with_file(folder: Path) -> None:
    folder.write_text("no folder")


def spoil_with_stranger(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.docx").write_text("two years of work")


def spoil_with_checkpoint(folder: Path) -> None:
    folder.mkdir()
    (folder / run_folder.CHECKPOINT_FILE).write_bytes(b"no checkpoint")


def spoil_above(folder: Path) -> None:
    folder.symlink_to("/proc/1/nothing")


@pytest.mark.survives(
    "The output folder holds an earlier model, other files, or cannot be written",
    "refused before the first message; every file stays as it was",
)
@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (spoil_with_model, "holds the model of a run that is finished; name another folder"),
        (spoil_with_file, "is a file"),
        (spoil_with_stranger, "holds other files, such as 'thesis.docx'"),
        (spoil_with_checkpoint, "checkpoint"),
        (spoil_above, "name another"),
    ],
)
def test_nothing_is_overwritten(start, spoil, match, tmp_path):
    spoil(tmp_path / "out")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=match):
        start(app=None)
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p.name != run_folder.LOCK_FILE}
    assert after == before


@pytest.mark.survives(
    "A run is started twice with the same output folder", "the second is refused while the first goes on"
)
def test_a_folder_is_for_one_run_at_a_time(tmp_path):
    with (
        run_folder.claim(tmp_path / "out"),
        pytest.raises(FederationError, match="in use by another run"),
        run_folder.claim(tmp_path / "out"),
    ):
        pass
    with run_folder.claim(tmp_path / "out"):
        pass


@pytest.mark.survives(
    "A finished run is started again", "refused; the model of the first run stays, to the byte"
)
def test_a_finished_run_is_not_repeated_over_its_model(start, tmp_path):
    start(rounds=1)
    model = (tmp_path / "out" / run_folder.MODEL_FILE).read_bytes()
    with pytest.raises(FederationError, match="holds the model of a run that is finished"):
        start(rounds=1)
    assert (tmp_path / "out" / run_folder.MODEL_FILE).read_bytes() == model
    assert not (tmp_path / "out" / run_folder.CHECKPOINT_FILE).exists()


# --- a server that dies ----------------------------------------------------------------------------


class Died(Exception):
    """The server's process ends at once."""


@pytest.mark.survives(
    "The server dies in the middle of a run over hospitals",
    "started again, the run goes on after its last finished round, to the same bits",
)
def test_a_run_goes_on_after_the_server_has_died(start, monkeypatch, tmp_path, caplog):
    start(out=str(tmp_path / "whole"))
    evaluate = hospital.AggregatorStrategy.evaluate_round

    def die(self, number, arrays, grid):
        if number == 2:
            raise Died
        evaluate(self, number, arrays, grid)

    with monkeypatch.context() as patch:
        patch.setattr(hospital.AggregatorStrategy, "evaluate_round", die)
        with pytest.raises(Died):
            start()
    assert {row["round"] for row in read_json(tmp_path / "out" / run_folder.HISTORY_FILE)["history"]} <= {
        1,
        2,
    }
    with caplog.at_level(logging.INFO, "flwr"):
        start()
    assert any("holds 1 of 2 rounds; going on." in line for line in caplog.messages)
    for name in (run_folder.MODEL_FILE, run_folder.HISTORY_FILE):
        assert (tmp_path / "out" / name).read_bytes().replace(b"/out", b"/whole") == (
            tmp_path / "whole" / name
        ).read_bytes()


@pytest.mark.survives(
    "An interrupted run over hospitals is started again with other settings",
    "refused with the settings that differ; a longer deadline may be given",
)
def test_another_runs_checkpoint_is_refused(start, monkeypatch):
    def die(*_):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(hospital.AggregatorStrategy, "train_round", die)
        with pytest.raises(Died):
            start()
    with pytest.raises(
        FederationError, match="belongs to another run, which differs in width, learning_rate"
    ):
        start(learning_rate=0.1, width=5)
    start(deadline=900.0, rounds=2)


# --- the deadline ----------------------------------------------------------------------------------


@pytest.mark.survives(
    "A hospital answers after the deadline of a round",
    "the round goes on without it, its name is noted, and its late reply counts in no later round",
)
def test_a_late_hospital_is_named_and_its_late_reply_is_not_counted(start, monkeypatch, tmp_path):
    """South trains in round 1 for as long as that round lasts; then there is time enough."""
    round_1_is_over = threading.Event()
    check = hospital.RoundCheck.__call__

    def check_and_release(self, number, phase):
        check(self, number, phase)
        if (number, phase) == (1, "evaluate"):
            self.strategy.patience = 60.0
            round_1_is_over.set()

    def first_training(site, message) -> bool:
        asked = message.metadata.message_type, message.content["config"]["server-round"]
        return site == "south" and asked == ("train", 1)

    def dawdle(site, message, reply):
        if first_training(site, message):
            round_1_is_over.wait(60)
        return reply

    def fail(site, message, reply):
        if first_training(site, message):
            raise FederationError("the scanner is on fire")
        return reply

    with monkeypatch.context() as patch:
        patch.setattr(hospital.RoundCheck, "__call__", check_and_release)
        failing(patch, dawdle)
        start(deadline=2.0, out=str(tmp_path / "late"))
    with monkeypatch.context() as patch:
        failing(patch, fail)
        start(out=str(tmp_path / "failed"))
    late = read_json(tmp_path / "late" / run_folder.HISTORY_FILE)["refused"]
    assert [(row["round"], row["phase"]) for row in late] == [(1, "train"), (1, "evaluate")]
    assert all("it did not answer within 2 s" in row["reason"] for row in late)
    models = [(tmp_path / name / run_folder.MODEL_FILE).read_bytes() for name in ("late", "failed")]
    assert models[0] == models[1]


def test_the_guide_quotes_what_the_operator_reads(start, repository, tmp_path):
    page = (repository / "book" / "start" / "two_machines.md").read_text(encoding="utf-8")
    for sentence in (
        "no hospital trained in round 1; mend what each says and start the same run again: north: ",
        "the model diverged in round 1; lower learning-rate and name another folder for out",
        "holds the model of a run that is finished; name another folder.",
        "belongs to another run, which differs in",
        "holds other files",
        "rounds=0 is not allowed",
        "size=4 is not allowed",
        "loss='cox' is unknown",
    ):
        assert sentence in page
    with pytest.raises(
        FederationError, match="no hospital trained in round 1; mend what each says and start"
    ):
        start({"cohort": "tecom", "data-folder": str(tmp_path / "tecmo")})
