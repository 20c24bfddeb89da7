"""The deployment engine: real programs over TLS, the same bits, deadlines, and nothing left behind."""

import contextlib
import functools
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import plain_app
from builders.federated import linear, pictures, same_parameters, sites, small_cnn
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from torch import nn

from hemafl_lib import federation
from hemafl_lib.aggregation import FedAvg
from hemafl_lib.augmentation import Augmentation
from hemafl_lib.errors import FederationError, ModelError
from hemafl_lib.federation import hospital
from hemafl_lib.federation.client import Job
from hemafl_lib.federation.engines.deployment import deployment, node, programs
from hemafl_lib.federation.engines.deployment.deployment import deploy, flower_environment
from hemafl_lib.federation.engines.deployment.keys import (
    AUTHORITY,
    CERTIFICATE,
    KEY,
    make_certificates,
    make_node_key,
)
from hemafl_lib.federation.engines.deployment.programs import (
    Programs,
    find_program,
    free_ports,
    listens,
    wait_until,
)
from hemafl_lib.federation.engines.local import run_local
from hemafl_lib.federation.exchange import to_record
from hemafl_lib.federation.flower_private import identify_process, number_message
from hemafl_lib.federation.mods import AddNoise, ClipUpdate
from hemafl_lib.federation.site_app import SiteApp, load_app, store_app
from hemafl_lib.federation.stored_sites import store_sites
from hemafl_lib.federation.strategy import AggregatorStrategy
from hemafl_lib.files import read_json, write_json
from hemafl_lib.models import AttentionCNN, backbone, load_model, save_model, trained_part, with_norm
from hemafl_lib.training import Recipe

RECIPE = Recipe(learning_rate=0.05, batch_size=8)
linux = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")


def processes_that_name(text: str) -> list[str]:
    """The command lines of the processes that name ``text``, apart from zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found


def eventually(condition, seconds: float) -> bool:
    """Whether ``condition()`` becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


# --- a model as a file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        *(AttentionCNN(3, width=8, attention=kind) for kind in ("se", "eca", "cbam", "none")),
        *(
            with_norm(trained_part(backbone("efficientnet_lite0", 4, pretrained=False)), norm)
            for norm in ("batch", "frozen", "group", "none")
        ),
        small_cnn().to(memory_format=torch.channels_last).eval(),
        linear().double().requires_grad_(False),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_model_comes_back_from_its_file_as_it_was(model, tmp_path):
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert repr(again) == repr(model)
    here, there = (dict([*m.named_parameters(), *m.named_buffers()]) for m in (model, again))
    assert list(again.state_dict()) == list(model.state_dict())
    assert here.keys() == there.keys()
    for name, value in here.items():
        assert torch.equal(value, there[name])
        assert value.stride() == there[name].stride()
        assert value.requires_grad == there[name].requires_grad
    assert [layer.training for layer in again.modules()] == [layer.training for layer in model.modules()]


def with_local_class() -> nn.Module:
    class Local(nn.Module):
        pass

    return Local()


def with_hook() -> nn.Module:
    model = linear()
    model.register_forward_hook(lambda *_: None)
    return model


def with_shared_tensor() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    return model


def with_odd_value() -> nn.Module:
    model = linear()
    model.temperature = np.float64(2.0) * np.ones(3)
    return model


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (with_local_class, "put it in a module"),
        (with_hook, "has hooks"),
        (with_shared_tensor, "share a tensor"),
        (with_odd_value, "'temperature' is a ndarray"),
    ],
)
def test_a_model_that_no_file_can_hold_is_refused(make, match, tmp_path):
    with pytest.raises(ModelError, match=match):
        save_model(make(), tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.survives("A model's file is damaged", "one sentence that names it")
def test_a_model_file_that_cannot_be_read_is_one_sentence(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(ModelError, match="does not exist"):
        load_model(path)
    save_model(linear(), path)
    written = path.read_bytes()
    path.write_bytes(written[:100])
    with pytest.raises(ModelError, match="save it again"):
        load_model(path)
    path.write_bytes(written.replace(b"torch.nn.modules.linear:Linear", b"subprocess:Popen".ljust(30)))
    with pytest.raises(ModelError, match=r"Popen\s*', which is none of PyTorch"):
        load_model(path)


def test_a_job_and_its_sites_come_back_from_their_folder(tmp_path):
    recipe = Recipe(loss="focal", clip=0.1, augmentation=Augmentation(rotate=5.0), schedule="cosine")
    mods = (AddNoise(deviation=0.5, seed=3), ClipUpdate(limit=2.0, sites=(0, 1)))
    store_app(Job(linear(), recipe, 7, keep_local=r"^0\.", device="cpu", mods=mods), tmp_path)
    job, stored = load_app(tmp_path), store_sites(sites(2), tmp_path)
    assert (job.recipe, job.seed, job.keep_local, job.mods) == (recipe, 7, r"^0\.", mods)
    assert same_parameters(job.model, linear())
    assert [stored(k).name for k in range(2)] == ["site 0", "site 1"]
    assert torch.equal(stored(1).train.features, sites(2)[1].train.features)


@dataclass(frozen=True)
class Stranger(SiteApp):
    """A class that is not the library's."""

    def make_app(self, load_site, stop):
        return None


@pytest.mark.survives("A job for a node names something that is not the library's own", "it is refused")
def test_only_the_librarys_own_settings_are_written_and_read(tmp_path):
    with pytest.raises(FederationError, match="'site-app' is a Stranger"):
        store_app(Stranger(), tmp_path)
    for name in ("subprocess:Popen", "hemafl_lib.files:read_json", "hemafl_lib.training:Unknown", "odd"):
        write_json(tmp_path / "site-app.json", {"class": name, "settings": {}})
        with pytest.raises(FederationError, match=f"'{name}' is none of the library's settings"):
            load_app(tmp_path)
    write_json(tmp_path / "site-app.json", {"class": "hemafl_lib.training:Recipe", "settings": {}})
    with pytest.raises(FederationError, match="describes no site app"):
        load_app(tmp_path)


# --- keys, programs, deadlines ---------------------------------------------------------------------


def shake_hands(folder: Path, name: str) -> None:
    """A client that trusts the authority calls the server ``name``, over TLS and without a network."""
    trusting = ssl.create_default_context(cafile=folder / AUTHORITY)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(down, up, server_hostname=name)
    server = serving.wrap_bio(up, down, server_side=True)
    for side in (client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()


def test_the_authority_vouches_for_this_machine_only(tmp_path):
    make_certificates(tmp_path)
    for name in ("localhost", "127.0.0.1"):
        shake_hands(tmp_path, name)
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        shake_hands(tmp_path, "hospital.example")
    make_node_key(tmp_path / "node.key")
    for secret in (KEY, "node.key"):
        assert stat.S_IMODE((tmp_path / secret).stat().st_mode) == 0o600


def test_programs_end_with_their_folder():
    with Programs() as programs:
        shell = programs.start("shell", ["sh", "-c", "sleep 600 & sleep 600"], os.environ)
        assert shell.exit_code() is None
        assert stat.S_IMODE(programs.folder.stat().st_mode) == 0o700
    assert shell.exit_code() == -signal.SIGKILL
    assert not programs.folder.exists()


@pytest.mark.survives(
    "The program that started a federation on one machine is killed", "server and nodes end by themselves"
)
@linux
@pytest.mark.survives(
    "A run on the deployment engine is killed (kill -9)",
    "Its programs end, and the folder with the hospitals' images and the keys is removed, within seconds",
)
def test_programs_end_when_their_parent_is_killed(tmp_path):
    script = """
import os, signal
from hemafl_lib.federation.engines.deployment.programs import Programs
programs = Programs()
programs.start("shell", ["sh", "-c", f"sleep 600 & sleep 600; echo {programs.folder}"], os.environ)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", script], env=environment).returncode == -signal.SIGKILL
    assert eventually(lambda: not list(tmp_path.iterdir()), 20)
    assert eventually(lambda: not processes_that_name(str(tmp_path)), 20)


@linux
def test_a_program_that_was_started_while_the_run_was_interrupted_ends_too():
    """Ctrl-C may come after the program has started and before its number is known."""
    with Programs() as programs, (programs.folder / "log").open("wb") as log:
        stray = subprocess.Popen(["sleep", "600"], stdout=log, start_new_session=True)
    assert stray.wait(10) == -signal.SIGKILL


def test_a_program_that_ends_too_early_is_quoted():
    with Programs() as programs:
        broken = programs.start("SuperLink", ["sh", "-c", "echo the port is taken; exit 3"], os.environ)
        with pytest.raises(FederationError, match=r"exit code 3 before it answered.*the port is taken"):
            wait_until(lambda: False, broken, "it answered", 20)


def test_a_program_listens_where_it_has_opened_a_port_itself():
    with socket.create_server(("127.0.0.1", 0)) as opened, Programs() as programs:
        port = opened.getsockname()[1]
        assert listens(os.getpid(), port)
        other = programs.start("shell", ["sleep", "600"], os.environ)
        assert not other.listens_at(port)
    assert not listens(os.getpid(), port)
    assert not other.listens_at(port)


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "secret").write_bytes(b"0" * 32)
    return str(tmp_path / "secret")


def test_a_node_tells_nothing_to_a_program_at_its_supernodes_port(secret, monkeypatch):
    """It could send a node config that names any folder, and any module to import."""
    monkeypatch.setattr(node, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as impostor, Programs() as programs:
        supernode = programs.start("SuperNode 0", ["sleep", "600"], os.environ)
        address = f"127.0.0.1:{impostor.getsockname()[1]}"
        node.main(address, secret, "builders.plain_app:app", "{}", str(supernode.process.pid))
        asked, _ = impostor.accept()
        with asked:
            assert asked.recv(1000) == b""


def asking(kind: str = "train", number: int = 1) -> Message:
    """A message that asks a node for its part of a round."""
    identify_process(1, 1)
    content = {"arrays": to_record({"w": np.zeros(1)}), "config": ConfigRecord({"server-round": number})}
    message = Message(RecordDict(content), 7, kind)
    number_message(message, "1")
    return message


def on_node(number: int) -> Context:
    return Context(1, 7, {"partition-id": number}, RecordDict(), {})


def test_a_node_believes_the_node_config_that_it_was_started_with(secret, monkeypatch):
    started = []
    monkeypatch.setattr(node, "answer_messages", lambda app, tasks: started.append(app))
    node.main("127.0.0.1:1", secret, "builders.plain_app:app", '{"partition-id": 3}', str(os.getpid()))
    reply = started[0](asking(), on_node(5))
    assert reply.content["metrics"]["partition-id"] == 3


def test_the_engine_says_in_words_why_an_app_failed(secret, monkeypatch):
    started = []
    monkeypatch.setattr(node, "answer_messages", lambda app, tasks: started.append(app))
    node.main("127.0.0.1:1", secret, "builders.plain_app:app", '{"partition-id": 0}', str(os.getpid()))
    reply, success = node.reply_or_failure(started[0], asking(number=3), on_node(0))
    assert (reply.error.reason, success) == ("RuntimeError: the scanner is on fire", False)


def test_of_an_unexpected_error_the_server_is_told_the_type_only(caplog):
    reply, success = node.reply_or_failure(plain_app.app, asking(number=3), on_node(0))
    assert (reply.error.reason, success) == ("an unexpected RuntimeError, which is in its node's log", False)
    assert "the scanner is on fire" in caplog.text


@pytest.mark.parametrize("kind", ["train.other", "query.x", "train.default"])
def test_a_kind_of_message_that_no_node_answers_is_refused_before_any_app(kind):
    reply, success = node.reply_or_failure(lambda *_: pytest.fail("asked"), asking(kind), on_node(0))
    assert reply.error.reason.startswith(f"the server asks for '{kind}', and this site answers to train")
    assert not success


@pytest.mark.survives("The server's program does not come up", "the run ends at its deadline with a sentence")
def test_a_superlink_that_does_not_come_up_has_a_deadline(monkeypatch, tmp_path):
    silent = tmp_path / "superlink"
    silent.write_text("#!/bin/sh\necho waiting for the database\nexec sleep 600\n")
    silent.chmod(0o755)
    monkeypatch.setattr(programs, "find_program", lambda name: str(silent))
    monkeypatch.setattr(deployment, "DEADLINE", 1.0)
    with pytest.raises(FederationError, match=r"did not come up in 1 s.*waiting for the database"):
        federation.run(sites(1), model=linear(), recipe=RECIPE, rounds=1, engine="deployment")


# --- the whole -------------------------------------------------------------------------------------


@pytest.mark.deployment
def test_deployment_agrees_with_local_to_the_bit():
    arguments = {"model": small_cnn(), "recipe": RECIPE, "rounds": 2}
    local = federation.run(sites(3, pictures), **arguments)
    deployed = federation.run(sites(3, pictures), engine="deployment", **arguments)
    assert deployed.hash == local.hash
    assert deployed.history.equals(local.history)
    assert deployed.bytes_sent == local.bytes_sent
    assert deployed.refused.empty


@pytest.mark.survives(
    "A node without a registered key calls, and a hospital's node is lost and comes back",
    "the stranger gets no work; the lost node is named until it is back",
)
@pytest.mark.deployment
def test_strangers_are_refused_and_a_lost_node_is_missed_until_it_is_back():
    """One federation of two nodes over four rounds of any Flower app.

    Node 1 is ended after round 1, started again after round 2 and killed after round 3. The app of
    node 0 fails in round 3.
    """
    strategy = AggregatorStrategy(FedAvg(), nodes=2, rounds=4, evaluate=False)
    seen = {}

    def between(number, arrays):
        seen[number] = float(arrays["w"].numpy()[0])
        if number == 1:
            deployed.nodes[1].end()
        if number == 2:
            # A SuperNode that ends says goodbye, so that the SuperLink takes it back.
            assert eventually(lambda: deployed.nodes[1].node_id not in deployed.superlink.online(), 90)
            deployed.start_node(deployed.nodes[1])
            deployed.wait_for(deployed.nodes[1])
        if number == 3:
            os.killpg(deployed.nodes[1].programs[0].process.pid, signal.SIGKILL)

    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy.start(grid, to_record({"w": np.zeros(1)}), num_rounds=4, timeout=90, evaluate_fn=between)

    with deploy() as deployed:
        configs = [{"partition-id": number, "note": "of no use"} for number in range(2)]
        deployed.start_nodes("builders.plain_app:app", configs)
        make_node_key(deployed.folder / "stranger.key")
        name, *rest = deployed.supernode_command(deployed.folder / "stranger.key", free_ports(1)[0], {})
        command = [find_program(name), *rest]
        with (deployed.folder / "stranger.log").open("wb") as log:
            stranger = subprocess.Popen(
                command, env=flower_environment(deployed.folder), cwd=deployed.folder, stdout=log, stderr=log
            )
        deployed.run(server)
        assert stranger.wait(30) != 0
        assert "2004" in (deployed.folder / "stranger.log").read_text()
    assert seen == {0: 0.0, 1: 0.5, 2: 0.5, 3: 1.5, 4: 1.5}
    reasons = {row["round"]: row["reason"] for row in strategy.refused}
    assert list(reasons) == [2, 3, 4]
    assert "Node Unavailable" in reasons[2]
    assert "the scanner is on fire" in reasons[3]
    assert "SuperNode 1 ended with exit code -9" in reasons[4]
    names = [f"node {node.node_id}" for node in deployed.nodes]
    assert [row["site"] for row in strategy.refused] == [names[1], names[0], names[1]]
    calls = [(row["round"], row["value"]) for row in strategy.history if row["metric"] == "calls"]
    assert calls == [(1, 1), (1, 1), (2, 2), (3, 1), (4, 3)]


@pytest.mark.survives("Ctrl-C while nodes train over TLS", "no process, no port and no folder is left")
@linux
@pytest.mark.deployment
@pytest.mark.survives(
    "Ctrl-C while SuperLink and SuperNodes run", "All programs end, their port is free, and no folder stays"
)
def test_ctrl_c_leaves_no_process_no_port_and_no_folder(tmp_path):
    script = """
import signal
from builders.federated import linear, sites
from hemafl_lib import federation
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
federation.run(sites(1), model=linear(), rounds=1000, engine="deployment")
"""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": paths}
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        # A program's log is there before its command line, and a child may show its parent's for a moment.
        named = functools.partial(processes_that_name, str(tmp_path))
        assert eventually(lambda: any("supernode.py --superlink" in command for command in named()), 90)
        superlink = next(command for command in named() if "--enable-supernode-auth" in command)
        port = int(superlink.split("--port ")[1].split()[0])
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert processes_that_name(str(tmp_path)) == []
    assert not list(tmp_path.glob("hemafl-*"))
    with socket.create_server(("127.0.0.1", port)):
        pass


# --- the app for hospitals -------------------------------------------------------------------------


def hospital_settings(repository) -> dict:
    described = tomllib.loads((repository / "hospitals" / "pyproject.toml").read_text())
    return described["tool"]["flwr"]["app"]["config"]


def test_the_app_for_hospitals_trains_on_what_each_node_holds(repository, tmp_path):
    """Its own settings, on the local engine: two nodes that stand for two sites of the smear."""
    settings = {**hospital_settings(repository), "rounds": 1, "size": 16, "width": 4, "out": str(tmp_path)}

    def serve(grid, context):
        for node_id, site in zip(grid.get_node_ids(), ("north", "south"), strict=True):
            grid.context(node_id).node_config.update({"cohort": "smear", "site": site})
        hospital.server_app(grid, context)

    run_local(serve, hospital.node_app, 2, run_config=settings)
    model = load_model(tmp_path / "model.safetensors")
    assert not same_parameters(model, hospital.read_settings(hospital.RunSettings, settings).job().model)
    outcome = read_json(tmp_path / "history.json")
    assert {row["site"] for row in outcome["history"]} == {"north", "south"}
    assert outcome["refused"] == []


def test_flowers_programs_find_each_other_where_python_is_not_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    path = flower_environment(tmp_path)["PATH"]
    assert all(shutil.which(name, path=path) for name in ("flwr-serverapp", "flwr-clientapp"))


def test_the_bundle_for_hospitals_holds_settings_only(repository, tmp_path):
    """What ``flwr build`` packs is what ``flwr run`` sends."""
    shutil.copytree(repository / "hospitals", tmp_path / "hospitals")
    environment = {**os.environ, **deployment.FLOWER, "FLWR_HOME": str(tmp_path)}
    command = [find_program("flwr"), "build", "--app", "hospitals"]
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    (bundle,) = tmp_path.rglob("*.fab")
    assert sorted(zipfile.ZipFile(bundle).namelist()) == [".info/CONTENT", "pyproject.toml"]


@pytest.mark.survives(
    "A setting of the hospitals' app is mistyped", "one sentence that names the setting and what is allowed"
)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"aggregator": "FedWizard"}, "'FedWizard' is unknown"),
        ({"classes": "all"}, "classes='all' is unknown"),
        ({"loss": "cox"}, "loss='cox' is unknown; choose one of"),
        ({"rounds": 0}, "rounds=0 is not allowed"),
        ({"learning-rate": 0.0}, "learning_rate=0.0 is not allowed"),
        ({"size": "64"}, "size='64' is not allowed"),
    ],
)
def test_a_wrong_setting_for_hospitals_is_one_sentence(change, match, repository):
    settings = {**hospital_settings(repository), **change}
    settings = {name: value for name, value in settings.items() if value is not None}
    with pytest.raises(FederationError, match=match):
        run_local(hospital.server_app, hospital.node_app, 2, run_config=settings)
