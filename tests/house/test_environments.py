"""The ways to install: an active environment, without CUDA, Binder; all of them have what the lock names."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from hemafl_book.build import locked

FAKE = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/asked"
case "$*" in *locked.py*) exit {has};; *) exit 0;; esac
"""


@pytest.fixture(scope="module")
def lock(repository):
    return (repository / "requirements.lock").read_text()


def names(lock):
    return {pin["name"] for pin, _ in locked.pins(lock)}


def test_this_environment_has_what_the_lock_names(lock, capsys):
    assert len(names(lock)) == len(re.findall(r"^[\w.-]+==", lock, re.MULTILINE)) > 250
    assert locked.missing(lock) == []
    assert locked.main(["check"]) == 0


def test_a_package_that_is_missing_or_older_is_named(lock, monkeypatch, capsys):
    have = locked.installed
    monkeypatch.setattr(locked, "installed", lambda name: {"flwr": "1.0", "timm": None}.get(name, have(name)))
    version = next(pin["version"] for pin, _ in locked.pins(lock) if pin["name"] == "flwr")
    assert f"flwr=={version}" in locked.missing(lock)
    assert locked.main(["check"]) == 1
    assert re.search(r" lacks flwr==\S+, timm==\S+ of requirements\.lock\.$", capsys.readouterr().err)


def test_a_build_without_cuda_is_the_version_that_the_lock_names(monkeypatch):
    monkeypatch.setattr(locked, "version", lambda name: "2.14.1+cpu")
    assert locked.installed("torch") == "2.14.1"


def test_without_cuda_what_is_left_out_serves_nothing_that_is_left(lock):
    left_out = names(lock) - names(locked.without_cuda(lock))
    assert {"torch", "torchvision", "triton", "nvidia-cudnn-cu13"} <= left_out
    for pin, block in locked.pins(lock):
        if pin["name"] in left_out - set(locked.TORCH):
            via = block.partition("# via")[2]
            assert set(re.findall(r"[\w-]{2,}", via)) <= left_out, pin["name"]


def test_without_cuda_each_other_package_keeps_its_hashes(lock):
    for pin, block in locked.pins(locked.without_cuda(lock)):
        assert "--hash=sha256:" in block
        assert block in lock, pin["name"]


@pytest.fixture
def project(repository, tmp_path):
    """The files that `make install` reads, and an active environment that only notes what is asked of it."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        (tmp_path / name).write_text((repository / name).read_text())

    def make(has_all, *arguments):
        python = tmp_path / "active" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(FAKE.format(has=int(not has_all)))
        python.chmod(0o755)
        environment = {"PATH": os.environ["PATH"], "CONDA_PREFIX": str(tmp_path / "active")}
        command = ["make", "PYTHON=false", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done, (python.parent / "asked").read_text()

    return make


def test_an_active_environment_that_has_the_packages_is_used(project, tmp_path):
    done, asked = project(True, "install")
    assert done.returncode == 0, done.stderr
    assert "has the packages; .venv is a link to it" in done.stdout
    assert (tmp_path / ".venv").readlink() == tmp_path / "active"
    assert "uv" not in asked
    assert re.search(r"pip install .*--no-deps --no-build-isolation --editable \.", asked)


def test_an_active_environment_without_them_is_left_alone(project, tmp_path):
    done, asked = project(False, "install")
    assert done.returncode != 0, "there is no Python to make another"
    assert "Set-up: the virtual environment .venv" in done.stdout
    assert "Python 3.11 or 3.12 is needed" in done.stdout
    assert asked.split() == ["hemafl_book/build/locked.py", "check"]
    assert not (tmp_path / ".venv").exists()


def test_without_cuda_pytorch_comes_from_its_own_index_and_the_rest_with_hashes(repository):
    command = ["make", "--dry-run", "packages", "CPU=1"]
    said = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout
    installs = [line for line in said.splitlines() if "pip install" in line and ".txt" in line]
    assert len(installs) == 3
    assert all("--require-hashes" in line and "--no-deps" in line for line in installs[:2])
    assert f"--index-url {INDEX}" in installs[2]


INDEX = "https://download.pytorch.org/whl/cpu"


def test_binder_installs_the_lock_as_make_does_without_cuda(repository):
    folder = repository / ".binder"
    script = folder / "postBuild"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    assert "locked.py without-cuda" in text
    assert f"--index-url {INDEX}" in text
    assert f"TORCH_CPU := {INDEX}" in (repository / "Makefile").read_text()
    pinned = [line for line in text.splitlines() if re.search(r"==\d", line)]
    assert not pinned, "versions belong into the lock"
    python = (folder / "runtime.txt").read_text().strip().removeprefix("python-")
    wanted = re.search(r'requires-python = "(.+)"', (repository / "pyproject.toml").read_text())[1]
    assert Requirement(f"python{wanted}").specifier.contains(f"{python}.0")
    assert {path.name for path in folder.iterdir()} == {"postBuild", "runtime.txt"}


def test_the_constraints_name_both_packages_of_the_index(repository):
    text = (repository / "constraints.txt").read_text()
    assert [line.partition("==")[0] for line in text.split() if line.startswith("torch")] == list(
        locked.TORCH
    )


def test_the_page_of_installation_names_what_is_there(repository):
    page = (repository / "book" / "start" / "installation.md").read_text()
    assert (Path(repository) / ".binder").is_dir()
    for said in ("make install CPU=1", "environment.yml", "`.binder`", "Python 3.11 or 3.12"):
        assert said in page, said
