"""The folder deploy and a node's installation: what they name is there, and no more is needed."""

import ast
import configparser
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
import typer
import yaml
from packaging.requirements import Requirement

from hemafl_book.cli import app

WITH_OTHERS = {"hemafl_lib", "huggingface_hub", "pydantic_core"}
"""The library itself, and what comes with timm and pydantic."""

IMPORTED_AS = {"pillow": "PIL", "scikit-learn": "sklearn"}
"""Packages whose modules have another name."""


def parses(words: list[str]) -> None:
    """Raise click's error unless the command ``hemafl`` takes these words; nothing is run."""
    found, context = typer.main.get_command(app), None
    while words and hasattr(found, "commands"):
        context = typer.Context(found, info_name=words[0], parent=context)
        found, words = found.commands[words[0]], words[1:]
    found.make_context("hemafl", list(words), parent=context)


@pytest.fixture(scope="module")
def compose(repository):
    return yaml.safe_load((repository / "deploy" / "compose.yaml").read_text())


def test_the_compose_file_is_one(repository):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, repository / "deploy" / "compose.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_each_container_runs_a_command_of_the_library(compose):
    for service in compose["services"].values():
        parses(shlex.split(service["command"]))
    with pytest.raises(typer.main.click.ClickException):
        parses(["federation", "serve", "study", "--nonsense"])


@pytest.mark.survives(
    "A hospital's container is broken into",
    "it holds its own bundle and data, which it cannot change, and nothing of others or of the server",
)
def test_a_hospitals_container_sees_its_own_bundle_and_data_only(compose):
    services = compose["services"]
    init = shlex.split(services["init"]["command"])
    names = init[init.index("--hospitals") + 1].split(",")
    assert len(names) == 10
    assert set(services) == {"init", "server", *names}
    assert init[init.index("--address") + 1].split(":")[0] == "server"
    for name in names:
        service = services[name]
        mounts = [mount.split(":") for mount in service["volumes"]]
        assert [source for source, *_ in mounts] == [
            f"./federation/study/bundles/{name}.zip",
            f"./data/{name}",
        ]
        assert all(mode == "ro" for *_, mode in mounts)
        words = shlex.split(service["command"])
        assert [words[2], words[words.index("--data") + 1]] == [target for _, target, _ in mounts]
    assert compose["networks"]["federation"] == {"internal": True}


def test_the_servers_container_does_not_see_the_bundles(compose):
    """They hold the hospitals' private keys; an empty folder in memory lies over them."""
    server = compose["services"]["server"]
    assert server["tmpfs"] == [*compose["x-program"]["tmpfs"], "/federation/study/bundles"]
    assert "./federation:/federation" in server["volumes"]
    assert "/federation/study" in server["command"]


def test_the_image_is_built_from_what_is_there(repository):
    recipe = (repository / "deploy" / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (.*) \S+$", recipe, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (repository / name).exists(), name
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert {project["readme"], project["license"]["file"]} <= set(" ".join(copied).split())
    assert "[node]" in recipe
    assert 'ENTRYPOINT ["hemafl"]' in recipe


@pytest.mark.parametrize("name", ["hemafl-hospital.service", "hemafl-federation.service"])
def test_a_service_runs_a_command_of_the_library(repository, name):
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str
    unit.read_string((repository / "deploy" / name).read_text())
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert program.endswith("/bin/hemafl")
    parses(words)
    assert unit["Service"]["ProtectSystem"] == "strict"
    if "serve" in words:
        assert words[-1].startswith(f"{unit['Service']['ReadWritePaths']}/"), (
            "the server writes to its folder"
        )


def test_a_node_needs_no_package_of_an_extra(repository):
    """What the library imports when it is loaded is among the dependencies that every installation has."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    needed = [Requirement(item) for item in project["dependencies"]]
    assert project["optional-dependencies"]["node"] == []
    assert not any(each.extras for each in needed), "Ray comes with an extra"
    here = {IMPORTED_AS.get(each.name, each.name).replace("-", "_") for each in needed}
    assert not here & {"ipywidgets", "anywidget", "jupyterlab", "matplotlib", "plotly", "ray"}
    extras = {"captum", "dp_accounting", "onnx", "opacus", "rdata", "sksurv"}
    for path in (repository / "hemafl_lib").rglob("*.py"):
        found = imported(ast.parse(path.read_text(encoding="utf-8")))
        others = found - here - extras - set(sys.stdlib_module_names) - WITH_OTHERS
        assert not others, (path, others)


def imported(tree: ast.Module) -> set[str]:
    """Return the packages that a module imports when it is loaded."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
    return names
