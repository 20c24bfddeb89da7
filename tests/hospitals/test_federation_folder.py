"""A federation's folder, bundles and commands, without a process of Flower's."""

import dataclasses
import json
import os
import shlex
import socket
import stat
import zipfile
from types import SimpleNamespace

import pytest
from builders import own_data
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from flwr.app import Context, Message, RecordDict
from typer.testing import CliRunner

from hemafl_book import hospitals as following
from hemafl_book.cli import app
from hemafl_lib import hospitals
from hemafl_lib.errors import HemaflError
from hemafl_lib.federation.engines.deployment.deployment import flower_environment
from hemafl_lib.federation.engines.deployment.node import reply_or_failure
from hemafl_lib.federation.engines.deployment.programs import Programs, free_ports
from hemafl_lib.federation.flower_private import identify_process, number_message
from hemafl_lib.hospitals import joining, serving
from hemafl_lib.hospitals.folder import Bundle


def hemafl(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def made(tmp_path):
    done = hemafl("federation", "init", tmp_path / "fed", "--hospitals", "north,south")
    assert done.exit_code == 0, done.output
    return tmp_path / "fed"


def test_init_makes_a_bundle_for_each_hospital(made, tmp_path):
    federation = hospitals.open_federation(made)
    assert (federation.hospitals, federation.port, federation.secure) == (("north", "south"), 9092, False)
    for number, name in enumerate(federation.hospitals):
        (tmp_path / name).mkdir()
        bundle = hospitals.open_bundle(made / "bundles" / f"{name}.zip", tmp_path / name)
        assert bundle == Bundle("fed", "localhost:9092", name, number, 2, False)
        private = serialization.load_ssh_private_key((tmp_path / name / "hospital.key").read_bytes(), None)
        public = serialization.load_pem_public_key(federation.public_key(name))
        assert private.public_key() == public


@pytest.mark.survives(
    "Other users of the server's or a hospital's machine read a federation's keys or bundles",
    "they may not: only the owner can",
)
def test_keys_and_bundles_are_for_their_owner_only(made, tmp_path):
    hospitals.open_bundle(made / "bundles" / "north.zip", tmp_path)
    files = ["server.key", "server.secret", "bundles/north.zip", "bundles/south.zip"]
    for path in [made, made / "bundles", *(made / name for name in files), tmp_path / "hospital.key"]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert not list(made.rglob("authority.key"))
    assert not list(made.rglob("*.key.zip"))


def test_the_certificate_is_for_the_address(tmp_path):
    hospitals.create(tmp_path / "fed", ["north"], "fl.example.org:443", secure=False)
    certificate = x509.load_pem_x509_certificate((tmp_path / "fed" / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"fl.example.org", "localhost"}


@pytest.mark.survives(
    "A federation is made with a hospital twice, a name that is a path, or where one is already",
    "one sentence; nothing is written over",
)
@pytest.mark.parametrize(
    ("names", "address", "secure", "sentence"),
    [
        (["north", "North"], "a:1", False, "must be names, each once"),
        (["../north"], "a:1", False, "'../north' will not do"),
        ([""], "a:1", False, "'' will not do"),
        (["north"], "a", False, "address='a' is no HOST:PORT"),
        (["north"], "https://a:1", False, "is no HOST:PORT"),
        (["north"], "a:99999", False, "is no HOST:PORT"),
        (["north"], "a:²", False, "is no HOST:PORT"),
        (["north"], "a\x1b[2J:1", False, "is no HOST:PORT"),
        (["north", "south"], "a:1", True, "needs at least 3 sites and has 2"),
    ],
)
def test_what_is_no_federation_is_refused(tmp_path, names, address, secure, sentence):
    with pytest.raises(HemaflError, match=sentence):
        hospitals.create(tmp_path / "fed", names, address, secure=secure)
    assert not (tmp_path / "fed").exists()


def test_a_federation_is_not_made_twice(made):
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    done = hemafl("federation", "init", made, "--hospitals", "east")
    assert (done.exit_code, "name a new folder" in done.output) == (1, True)
    assert before == {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}


@pytest.mark.parametrize("content", [b"", b"no archive", "zip"])
def test_what_is_no_bundle_is_refused(tmp_path, content):
    path = tmp_path / "bundle.zip"
    if content == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("bundle.json", "{}")
    else:
        path.write_bytes(content)
    with pytest.raises(HemaflError, match="is no bundle of a federation"):
        hospitals.open_bundle(path, tmp_path)
    with pytest.raises(HemaflError, match="cannot be read"):
        hospitals.open_bundle(tmp_path / "nowhere.zip", tmp_path)


TOLD = {"federation": "fed", "address": "a:1", "name": "north", "number": 0, "hospitals": 1, "secure": False}


def write_zip(path, content, packing=zipfile.ZIP_DEFLATED, **changes):
    """A bundle with the files that one has, but for what a test changes in what it tells."""
    files = {"authority.crt": b"", "hospital.key": b"", "bundle.json": json.dumps({**TOLD, **changes})}
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, text in {**files, **content}.items():
            archive.writestr(name, text)
    return path


def encrypted(path):
    """Mark all files of a ZIP file as encrypted."""
    raw = path.read_bytes().replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    path.write_bytes(raw)


def spoiled(path):
    """Damage the compressed bytes of the first file of a ZIP file."""
    raw = bytearray(path.read_bytes())
    start = 30 + len("authority.crt")
    raw[start : start + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)


def unknown(path):
    """Say that the files of a ZIP file are packed in a way that nobody knows."""
    path.write_bytes(path.read_bytes().replace(b"\x00\x00\x08\x00", b"\x00\x00\x63\x00"))


@pytest.mark.parametrize("damage", [encrypted, spoiled, unknown])
def test_a_bundle_that_cannot_be_unpacked_is_refused_in_one_sentence(tmp_path, damage):
    path = write_zip(tmp_path / "bundle.zip", {"authority.crt": b"a certificate"})
    (tmp_path / "whole").mkdir()
    assert hospitals.open_bundle(path, tmp_path / "whole") == Bundle(**TOLD)
    before = path.read_bytes()
    damage(path)
    assert path.read_bytes() != before
    with pytest.raises(HemaflError, match="is no bundle of a federation"):
        hospitals.open_bundle(path, tmp_path)


@pytest.mark.parametrize(
    ("content", "packing"),
    [
        ({"hospital.key": b"0" * 100_001}, zipfile.ZIP_DEFLATED),
        ({"authority.crt": b"0" * 100_001}, zipfile.ZIP_DEFLATED),
        ({}, zipfile.ZIP_LZMA),
        ({"bundle.json": "[" * 90_000}, zipfile.ZIP_DEFLATED),
    ],
)
def test_a_bundle_fills_neither_the_memory_nor_the_disk(tmp_path, content, packing):
    """A ZIP file of some kilobytes can hold a file of gigabytes."""
    path = write_zip(tmp_path / "bundle.zip", content, packing)
    with pytest.raises(HemaflError, match="is no bundle of a federation"):
        hospitals.open_bundle(path, tmp_path)
    assert not (tmp_path / "hospital.key").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "north\x1b[2J"},
        {"name": "../north"},
        {"address": "a\x1b]0;title\x07:1"},
        {"address": "a"},
        {"number": 77},
        {"number": 1},
        {"number": -1},
    ],
)
def test_a_bundle_tells_what_a_federation_could_be(tmp_path, change):
    path = write_zip(tmp_path / "bundle.zip", {}, **change)
    with pytest.raises(HemaflError, match="is no bundle of a federation"):
        hospitals.open_bundle(path, tmp_path)


def test_the_server_registers_whom_it_does_not_know(made):
    federation = hospitals.open_federation(made)
    known, said = {federation.public_key("north"): 7}, []
    link = SimpleNamespace(registered=lambda: dict(known), register=lambda key: 9)
    assert serving.register(link, federation, said.append) == {7: "north", 9: "south"}
    assert said == [f"flwr supernode register {made.absolute() / 'public' / 'south.pub'} server"]
    assert serving.nodes_of(federation) == {"north": 7, "south": 9}
    assert 'address = "127.0.0.1:9092"' in (made / "flower" / "config.toml").read_text()


def test_who_comes_and_goes_is_said_though_it_was_away_between_two_looks():
    names = {7: "north", 9: "south"}
    assert serving.changes({}, {7: "1 o'clock"}, names) == ["north is here."]
    assert serving.changes({7: "1 o'clock"}, {7: "1 o'clock"}, names) == []
    assert serving.changes({7: "1 o'clock", 9: "1 o'clock"}, {9: "1 o'clock"}, names) == ["north has gone."]
    again = serving.changes({7: "1 o'clock", 9: "1 o'clock"}, {7: "1 o'clock", 9: "2 o'clock"}, names)
    assert again == ["south has gone.", "south is here."]
    assert serving.changes({}, {11: "1 o'clock"}, names) == ["11 is here."]


def test_the_hospitals_node_is_told_where_its_data_lie_and_shows_its_key(tmp_path):
    told = Bundle("fed", "fl.example.org:443", "north", 0, 3, True)
    known = joining.node_config(told, tmp_path / "data", tmp_path / "mapping.toml")
    supernode = joining.supernode_command(told, tmp_path, known, 7)
    config = supernode[supernode.index("--node-config") + 1]
    values = dict(part.split("=", 1) for part in shlex.split(config))
    assert values["data-folder"] == str(tmp_path / "data")
    assert (values["site"], values["partition-id"], values["num-partitions"]) == ("north", "0", "3")
    assert values["secure"] == "true"
    assert "--host 127.0.0.1 --port 7" in " ".join(supernode)
    assert "--isolation process" in " ".join(supernode)


@pytest.mark.survives(
    "A hospital joins with data that its mapping does not fit",
    "its programs are not started; the first problem is named with its row",
)
def test_join_looks_at_the_data_first(made, tmp_path):
    mapping = own_data.north(tmp_path / "data")
    rows = own_data.north_table()
    rows[3][4] = "hoch"
    own_data.write_table(tmp_path / "data" / "patienten.csv", rows, ";")
    done = hemafl("hospital", "join", made / "bundles" / "north.zip", "--data", mapping.parent)
    assert done.exit_code == 1
    assert "row 4, column Hb: 'hoch' is no number" in done.output
    assert "flower-supernode" not in done.output


class Ends(Exception):
    """Ends a program that would go on for ever."""


@pytest.mark.survives(
    "A hospital's SuperNode ends, its messages cannot be read, or the server does not let it in",
    "it is started again at another port, and why is said once",
)
def test_a_supernode_that_ends_is_started_again_and_why_is_said(tmp_path, monkeypatch):
    (tmp_path / joining.SECRET).write_bytes(b"0" * 32)
    logs = iter(["[code: 2004] Failed to activate SuperNode.", "[code: 2004] Again.", "killed"])
    ports, said = [], []

    def start(name, command, environment):
        log, codes = next(logs, None), iter([None, 1, 1])
        if log is None:
            raise Ends
        return SimpleNamespace(
            name=name,
            last_lines=lambda count: log,
            exit_code=lambda: next(codes, 1),
            end=lambda: None,
            listens_at=lambda port: True,
        )

    def command(port):
        ports.append(port)
        return ["flower-supernode", str(port)]

    def broken(tasks, app):
        raise RuntimeError("no message\nfor you")

    monkeypatch.setattr(joining, "answer_one", broken)
    monkeypatch.setattr(joining, "RETRY", 0.0)
    told = Bundle("fed", "fl.example.org:443", "north", 0, 3, True)
    with pytest.raises(Ends):
        joining.keep_running(
            SimpleNamespace(folder=tmp_path, start=start), command, joining.answer, told, said.append
        )
    assert said[0] == f"flower-supernode {ports[0]}"
    assert [line for line in said if "counts as present" in line] == [said[3]]
    assert said[2] == said[4] == "a message was not answered (RuntimeError: no message for you); going on."
    assert said[-1] == "SuperNode ended (exit code 1); starting it again."
    assert len(set(ports)) > 1


def test_a_program_that_has_taken_the_supernodes_port_is_told_nothing(tmp_path, monkeypatch):
    """It could ask for anything: the hospital answers the program that it has started, and no other."""
    told, said = Bundle("fed", "fl.example.org:443", "north", 0, 3, True), []
    with socket.create_server(("127.0.0.1", 0)) as impostor, Programs() as programs:
        port = impostor.getsockname()[1]
        (programs.folder / joining.SECRET).write_bytes(b"0" * 32)

        def start(name, command, environment):
            if said[2:]:
                raise Ends
            return programs.start(name, command, os.environ)

        monkeypatch.setattr(joining, "free_ports", lambda count: [port])
        monkeypatch.setattr(joining, "RETRY", 0.0)
        with pytest.raises(Ends):
            joining.keep_running(
                SimpleNamespace(folder=programs.folder, start=start),
                lambda port: ["sh", "-c", "sleep 0.5; echo address already in use"],
                joining.answer,
                told,
                said.append,
            )
        asked, _ = impostor.accept()
        with asked:
            assert asked.recv(1000) == b""
    taken = "Another program has taken the port that SuperNode was to have; starting it at another."
    assert said[2:] == [taken]


def test_what_a_hospital_knows_of_itself_comes_from_its_own_command(made, tmp_path, monkeypatch):
    """A message brings a folder, a mapping and `secure` with it, which are not asked."""
    own_data.north(tmp_path / "data")
    kept, seen = [], []
    monkeypatch.setattr(joining, "keep_running", lambda *given: kept.extend(given))
    monkeypatch.setattr(joining, "answer", lambda message, context: seen.append(context.node_config))
    joining.join(made / "bundles" / "north.zip", tmp_path / "data", None, print)
    lies = {"data-folder": str(tmp_path / "other"), "mapping": str(tmp_path / "other.toml")}
    elsewhere = {**lies, "secure": True, "site": "south"}
    kept[2](None, Context(1, 7, elsewhere, RecordDict(), {}))
    assert seen == [
        {
            "partition-id": 0,
            "num-partitions": 2,
            "site": "north",
            "data-folder": str(tmp_path / "data"),
            "mapping": str(tmp_path / "data" / "mapping.toml"),
            "secure": False,
        }
    ]


@pytest.mark.parametrize("kind", ["train.other", "query.x", "train.default"])
def test_a_message_of_an_unknown_kind_is_refused_in_one_sentence(kind):
    identify_process(1, 1)
    message = Message(RecordDict(), 7, kind)
    number_message(message, "1")
    reply, _ = reply_or_failure(joining.answer, message, Context(1, 7, {}, RecordDict(), {}))
    assert reply.error.reason.startswith(f"the server asks for '{kind}', and this site answers to train")
    assert "\n" not in reply.error.reason


def test_a_server_that_is_another_ends_the_hospital():
    program = SimpleNamespace(last_lines=lambda count: "CERTIFICATE_VERIFY_FAILED", exit_code=lambda: 1)
    with pytest.raises(HemaflError, match="ask the coordinator for a new bundle"):
        joining.why_it_ended(program)


STARTED = (
    "Loading project configuration...\nSuccessfully started run 7\n"
    "INFO :      round 1 of 1, train: north, 24 patients: loss 0.7\nINFO :      Starting stream\n"
)


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """Run an app with a ``flwr`` that says what it is told to."""
    (made / "nodes.json").write_text(json.dumps({"north": 7, "south": 9}))
    flwr = tmp_path / "flwr"
    (tmp_path / "list").write_text(
        json.dumps({"runs": [{"status": "finished:completed", "status-details": ""}]})
    )
    (tmp_path / "run").write_text(STARTED)
    flwr.write_text(f'#!/bin/sh\necho "$FLWR_HOME $@" >> "{tmp_path}/asked"\ncat "{tmp_path}/$1"\n')
    flwr.chmod(0o755)
    monkeypatch.setattr(following, "find_program", lambda name: str(flwr))

    def start(text, *arguments):
        (tmp_path / "run.toml").write_text(text)
        return hemafl("federation", "run", made, "--config", tmp_path / "run.toml", *arguments)

    return start


def test_run_shows_the_lines_of_the_run_and_where_the_outcome_lies(run, made, tmp_path):
    done = run("features = 'age'", "--app", "cox")
    assert done.exit_code == 0, done.output
    assert "\nround 1 of 1, train: north, 24 patients: loss 0.7\n" in done.output
    assert "Starting stream" not in done.output
    folder = made.absolute() / "runs" / "cox-1"
    assert done.output.splitlines()[-1] == f"The outcome, its card and report.html lie in {folder}"
    described = (made / "app" / "pyproject.toml").read_text()
    assert 'names = "north,south"\nnodes = "7,9"\nsecure = false' in described
    assert f'out = "{folder}"' in described
    asked = (tmp_path / "asked").read_text().splitlines()[0]
    assert asked == f"{made.absolute() / 'flower'} run {made.absolute() / 'app'} server --stream"
    folder.mkdir(parents=True)
    assert f"lie in {folder.with_name('cox-2')}" in run("features = 'age'", "--app", "cox").output


def test_a_setting_that_will_not_do_starts_nothing(run, tmp_path):
    done = run("rounds = 0", "--app", "images")
    assert (done.exit_code, "rounds=0 is not allowed" in done.output) == (1, True)
    assert not (tmp_path / "asked").exists()


def test_a_server_that_was_never_started_is_said(made):
    (made.parent / "run.toml").write_text("features = 'age'")
    done = hemafl("federation", "run", made, "--app", "cox", "--config", made.parent / "run.toml")
    assert (done.exit_code, "run 'hemafl federation serve' first" in done.output) == (1, True)
    assert "holds no federation" in hemafl("federation", "serve", made.parent).output


@pytest.mark.survives(
    "The server's port is taken, for example by the same federation's server",
    "one sentence with the port; no program is started",
)
def test_a_port_in_use_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        hospitals.create(tmp_path / "fed", ["north"], f"localhost:{port}", secure=False)
        done = hemafl("federation", "serve", tmp_path / "fed")
    assert (done.exit_code, f"cannot listen at 127.0.0.1:{port} (" in done.output) == (1, True)
    assert "flower-superlink" not in done.output


@pytest.mark.deployment
@pytest.mark.slow
def test_the_node_asks_the_proxy_for_the_way(made, tmp_path):
    """The page says that `HTTPS_PROXY` is heeded; nobody resolves the server's name at the hospital."""
    told = hospitals.open_bundle(made / "bundles" / "north.zip", tmp_path)
    elsewhere = dataclasses.replace(told, address="fl.example.org:443")
    (tmp_path / joining.SECRET).write_bytes(b"0" * 32)
    (port,) = free_ports(1)
    config = joining.node_config(elsewhere, tmp_path, tmp_path / "mapping.toml")
    command = joining.supernode_command(elsewhere, tmp_path, config, port)
    with socket.create_server(("127.0.0.1", 0)) as proxy, Programs() as programs:
        proxy.settimeout(300)
        way = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        environment = {**flower_environment(programs.folder), "HTTPS_PROXY": way, "https_proxy": way}
        programs.start("SuperNode", command, environment)
        asked, _ = proxy.accept()
        with asked:
            assert asked.recv(100).startswith(b"CONNECT fl.example.org:443 ")
