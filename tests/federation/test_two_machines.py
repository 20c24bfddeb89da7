"""The page "Two hospitals, two machines": its commands are those that the installed programs understand."""

import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import tomllib
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner

from hemafl_book.cli import app
from hemafl_lib.data import smear
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.deployment.deployment import FLOWER, deploy, flower_environment
from hemafl_lib.federation.engines.deployment.programs import find_program, free_ports, wait_until
from hemafl_lib.federation.flower_private import Tasks
from hemafl_lib.federation.replies import wait_for_nodes

PROGRAMS = (
    "flower-superlink",
    "flower-supernode",
    "flower-superexec",
    "flwr supernode register",
    "flwr supernode list",
    "flwr run",
)


@pytest.fixture(scope="module")
def page(repository) -> str:
    return (repository / "book" / "start" / "two_machines.md").read_text(encoding="utf-8")


def blocks(page: str) -> list[str]:
    """Return the shell commands of the page, block by block."""
    return re.findall(r"^```bash\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)


def block_with(page: str, text: str) -> str:
    (found,) = (block for block in blocks(page) if text in block)
    return found


def calls(page: str, program: str) -> list[list[str]]:
    """Return the arguments of every call of a program."""
    lines = "\n".join(blocks(page)).replace("\\\n", " ").split("\n")
    words = [shlex.split(line, comments=True) for line in lines if line.startswith(program + " ")]
    return [line[len(program.split()) :] for line in words]


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def settings(text: str) -> dict:
    """Return settings as Flower reads them: TOML values, one after the other."""
    return tomllib.loads("\n".join(shlex.split(text.replace('"', "'\"'"))))


def run_bash(script: str, folder: Path, **environment: str) -> None:
    variables = {"PATH": os.environ["PATH"], "HOME": str(folder), **environment}
    done = subprocess.run(["bash", "-euc", script], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_programs_know_the_options_of_the_page(page, program):
    name, *rest = program.split()
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    command = [find_program(name), *rest, "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    known = set(re.findall(r"--[a-z][a-z-]+", done.stdout))
    used = {word for arguments in calls(page, program) for word in arguments if word.startswith("--")}
    assert calls(page, program)
    assert used <= known


def test_every_command_of_the_page_is_checked(page):
    """Whoever adds another program to the page adds it here."""
    known = (
        "source",
        "export",
        "mkdir",
        "openssl",
        "printf",
        "cd",
        "ssh-keygen",
        "cat",
        "rm",
        "hemafl data clear",
        "umask",
        "head",
    )
    plain = re.sub(r"<<EOF\n.*?^EOF$", "", "\n".join(blocks(page)), flags=re.DOTALL | re.MULTILINE)
    for line in filter(None, plain.replace("\\\n", " ").split("\n")):
        assert line.startswith((*known, *PROGRAMS)), line


@pytest.fixture(scope="module")
def keys(page, tmp_path_factory) -> Path:
    """The folder in which the page's own commands have made all keys."""
    if not (shutil.which("openssl") and shutil.which("ssh-keygen")):
        pytest.skip("openssl or ssh-keygen is not installed")
    folder = tmp_path_factory.mktemp("machines")
    run_bash(block_with(page, "openssl"), folder)
    run_bash(block_with(page, "ssh-keygen"), folder)
    run_bash(block_with(page, "/dev/urandom"), folder)
    return folder / "keys"


@pytest.mark.parametrize("name", ["-verify_hostname localhost", "-verify_ip 127.0.0.1"])
def test_the_authority_vouches_for_the_server(keys, name):
    run_bash(f"openssl verify -x509_strict {name} -CAfile authority.crt server.crt", keys)


def test_the_authority_does_not_vouch_for_another_name(keys):
    command = ["openssl", "verify", "-verify_ip", "127.0.0.2", "-CAfile", "authority.crt", "server.crt"]
    assert subprocess.run(command, cwd=keys, capture_output=True).returncode != 0


@pytest.mark.parametrize("hospital", ["north", "south"])
def test_a_hospital_has_a_key_pair_of_a_kind_that_flower_takes(keys, hospital):
    private = serialization.load_ssh_private_key((keys / hospital).read_bytes(), password=None)
    public = serialization.load_ssh_public_key((keys / f"{hospital}.pub").read_bytes())
    assert private.public_key() == public
    assert public.curve.name == "secp384r1"


@pytest.mark.survives(
    "Other users of the machine read the keys that the guide makes", "they may not: only the owner can"
)
def test_private_keys_are_for_their_owner_only(keys):
    secrets = ("server.secret", "north.secret", "south.secret")
    for name in ("authority.key", "server.key", "north", "south", *secrets):
        assert (keys / name).stat().st_mode & 0o077 == 0, name


def test_flwr_finds_the_server_and_registers_the_keys(page, keys, repository, tmp_path):
    """The page's block is run with a ``flwr`` that only notes what it is told."""
    noted = tmp_path / "noted"
    flwr = tmp_path / "flwr"
    flwr.write_text(f'#!/bin/sh\necho "$@" >> "{noted}"\n')
    flwr.chmod(0o755)
    run_bash(block_with(page, "config.toml"), keys.parent, PATH=f"{tmp_path}:{os.environ['PATH']}")
    links = tomllib.loads((keys.parent / "flwr-home" / "config.toml").read_text())["superlink"]
    name = links["default"]
    assert Path(links[name]["root-certificates"]) == keys / "authority.crt"
    expected = [f"supernode register keys/{hospital}.pub {name}" for hospital in ("north", "south")]
    assert noted.read_text().splitlines() == expected
    assert not (repository / name).exists(), "flwr takes the name of a folder for that of an app"
    (superlink,) = calls(page, "flower-superlink")
    address = f"{option(superlink, '--host')}:{option(superlink, '--port')}"
    assert links[name]["address"] == address
    nodes = calls(page, "flower-supernode")
    assert [option(node, "--superlink") for node in nodes] == [address] * 2
    ports = {option(node, "--port") for node in (superlink, *nodes)}
    assert len(ports) == 3
    assert calls(page, "flwr supernode list") == [[name]]
    assert calls(page, "flwr run")[0][:2] == ["hospitals", name]


def test_programs_are_given_files_that_the_page_makes(page, keys):
    files = [
        word
        for program in PROGRAMS
        for arguments in calls(page, program)
        for word in arguments
        if word.startswith("keys/")
    ]
    assert len(files) == 16
    assert all((keys.parent / file).is_file() for file in files)


@pytest.mark.survives(
    "Another program of the machine polls the port of a server or node for its messages",
    "Started as the guide says, they give work only to a program that knows their secret",
)
def test_a_server_and_its_nodes_work_only_for_who_knows_their_secret(page, keys):
    services = [*calls(page, "flower-superlink"), *calls(page, "flower-supernode")]
    helpers = calls(page, "flower-superexec")
    assert len(services) == len(helpers) == 3
    secret = "--superexec-auth-secret-file"
    for service, helper in zip(services, helpers, strict=True):
        assert option(service, "--isolation") == "process"
        assert option(service, secret) == option(helper, secret)
        assert option(helper, "--runtime-api-address") == f"127.0.0.1:{option(service, '--port')}"
        assert option(service, "--host") == "127.0.0.1" if "--host" in service else True
        assert ("--insecure" in helper) != ("--root-certificates" in helper)
    made = [(keys / f"{name}.secret").read_bytes() for name in ("server", "north", "south")]
    assert len(set(made)) == 3
    assert {len(each) for each in made} == {32}


def test_settings_are_those_of_the_app_and_its_nodes(page, repository):
    described = tomllib.loads((repository / "hospitals" / "pyproject.toml").read_text())
    known = described["tool"]["flwr"]["app"]["config"]
    (run,) = calls(page, "flwr run")
    given = settings(option(run, "--run-config"))
    assert {name: type(value) for name, value in given.items()} == {n: type(known[n]) for n in given}
    for number, node in enumerate(calls(page, "flower-supernode")):
        config = settings(option(node, "--node-config"))
        assert config["partition-id"] == number
        assert config["num-partitions"] == given["hospitals"] == 2
        assert config["cohort"] == "smear"
        assert config["site"] in signature(smear.simulate).parameters["sites"].default
    assert f"within {known['deadline']:.0f} s" in page


def test_the_page_quotes_the_server_that_waits_in_vain(page):
    grid = SimpleNamespace(get_node_ids=lambda: [7])
    with pytest.raises(FederationError) as caught:
        wait_for_nodes(grid, 2, 0.0)
    assert str(caught.value).replace("within 0 s", "within 600 s") in page


def run_flwr(folder: Path, link: str, *arguments: str) -> str:
    """Return all that ``flwr`` says of a server that the page's configuration would name, on one line."""
    home = folder / "flwr-home"
    home.mkdir(exist_ok=True)
    name = link.split("]")[0].removeprefix("[superlink.")
    (home / "config.toml").write_text(f'[superlink]\ndefault = "{name}"\n\n{link}')
    environment = {**os.environ, **FLOWER, "FLWR_HOME": str(home), "COLUMNS": "500", "TERM": "dumb"}
    command = [find_program("flwr"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("hospitals", "Cannot migrate configuration"),
        ("server", "Connection to the SuperLink is unavailable."),
    ],
)
def test_the_page_quotes_flwr_of_a_name_and_of_a_server_that_will_not_do(
    name, sentence, page, repository, tmp_path
):
    shutil.copytree(repository / "hospitals", tmp_path / "hospitals")
    (port,) = free_ports(1)
    link = f'[superlink.{name}]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    assert f"`{sentence}`" in page
    assert sentence in run_flwr(tmp_path, link, "supernode", "list", name)


def listens(port: int) -> bool:
    """Whether a program of this machine listens on a port."""
    with socket.socket() as called:
        return called.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.deployment
@pytest.mark.survives(
    "A program without the secret, or with a guess, asks a running server and node for their tasks",
    "Both refuse it: it gets no model, no settings and no node config",
)
def test_the_page_quotes_a_server_that_meets_a_hospital(page, tmp_path):
    """The page's commands against a server that runs: a hospital calls, is registered, and is listed."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", tmp_path / "north"], check=True
    )
    with deploy() as deployed:
        authority = deployed.folder / "authority.crt"
        link = f'[superlink.server]\naddress = "{deployed.address}"\nroot-certificates = "{authority}"\n'
        name, *rest = deployed.supernode_command(tmp_path / "north", free_ports(1)[0], {})
        stranger = subprocess.run(
            [find_program(name), *rest],
            env=flower_environment(deployed.folder),
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert stranger.returncode != 0
        assert "[code: 2004] Failed to activate SuperNode." in page
        assert "[code: 2004] Failed to activate SuperNode." in stranger.stdout + stranger.stderr
        said = run_flwr(tmp_path, link, "supernode", "register", "north.pub", "server")
        assert "registered successfully" in page
        assert "registered successfully" in said
        assert "registered" in run_flwr(tmp_path, link, "supernode", "list", "server")
        port = free_ports(1)[0]
        command = deployed.supernode_command(tmp_path / "north", port, {})
        node = deployed.programs.start("SuperNode north", command, flower_environment(deployed.folder))
        wait_until(lambda: listens(port), node, "it listened", 60)
        tls = ssl.create_default_context(cafile=authority)
        for url, kind in ((f"https://{deployed.address}", "server"), (f"http://127.0.0.1:{port}", "client")):
            probe = Tasks(url, b"a guess", tls if kind == "server" else None)
            with probe, pytest.raises(httpx.HTTPStatusError, match="401 Unauthorized"):
                probe.take(kind)
            unsigned = httpx.post(f"{url}/v1/runtime/acquire-task", verify=tls, trust_env=False)
            assert unsigned.status_code in (400, 401, 415)  # nothing was signed, nothing was asked for


def test_the_example_on_one_machine_exists(page):
    (command,) = re.findall(r"`hemafl (run [^`]+)`", page)
    words = command.split()
    shown = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--[a-z]+", shown.output))
