"""What the repository promises about itself: its environments agree, its notebooks are in normal form."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hemafl_book import results
from hemafl_book.build import normalise, vendor

TEXT = {
    ".bib",
    ".cff",
    ".css",
    ".ipynb",
    ".js",
    ".json",
    ".md",
    ".py",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
    ".lock",
    "",
}


@pytest.fixture(scope="module")
def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def locked(repository):
    lines = (repository / "requirements.lock").read_text().splitlines()
    requirements = [Requirement(line.rstrip(" \\")) for line in lines if line and line[0] not in " #"]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


@pytest.fixture(scope="module")
def notebooks(repository):
    return [
        path
        for path in sorted((repository / "book").rglob("*.ipynb"))
        if ".ipynb_checkpoints" not in path.parts
    ]


@pytest.fixture(scope="module")
def tracked(repository):
    """Every file that is or would be committed."""
    if not (repository / ".git").exists():
        pytest.skip("needs a git clone: this is a copy without its history")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [repository / name for name in names if (repository / name).is_file()]


def test_conda_environment_agrees_with_the_project(repository, project):
    environment = yaml.safe_load((repository / "environment.yml").read_text())
    conda = [Requirement(item) for item in environment["dependencies"] if isinstance(item, str)]
    pip = next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    python = next(requirement for requirement in conda if requirement.name == "python")
    assert {*str(python.specifier).split(",")} == {*project["requires-python"].split(",")}
    assert pip == ["--requirement requirements.lock"]
    assert {requirement.name for requirement in conda} == {"python", "pip"}, (
        "versions belong into pyproject.toml"
    )


@pytest.mark.survives(
    "A package, or the installer itself, was exchanged at the registry after it had been tried",
    "`make install` ends and names it: everything that is installed has to have the hash in the lock",
)
def test_all_that_is_installed_has_its_hash_in_the_lock(repository):
    lock = (repository / "requirements.lock").read_text()
    pins = re.findall(r"^([\w.-]+==\S+)(.*?)(?=^[\w.-]+==|\Z)", lock, re.MULTILINE | re.DOTALL)
    assert len(pins) > 200
    for pin, rest in pins:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", rest), pin
    assert "://" not in lock, "the lock names a registry"
    assert "--index-url" not in lock
    recipe = (repository / "Makefile").read_text()
    installs = [line for line in recipe.splitlines() if "pip install" in line or "$(PIP)" in line]
    assert len(installs) == 6
    (cpu,) = [line for line in installs if "$(TORCH_CPU)" in line]
    assert cpu.strip().startswith("@$(if $(CPU),"), "PyTorch's own index is asked only by CPU=1"
    for line in installs:
        own = "--no-deps --no-build-isolation" in line
        assert "--require-hashes" in line or "$(PIP)" in line or own or line == cpu
    assert "--generate-hashes" in recipe
    assert "--all-extras" in recipe


def test_lock_is_exact_and_satisfies_the_project(project, locked):
    for name, requirement in locked.items():
        assert [part.operator for part in requirement.specifier] == ["=="], name
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        assert name in locked, f"{name} is not locked; run `make lock`"
        version = next(iter(locked[name].specifier)).version
        assert requirement.specifier.contains(version), (
            f"{requirement} and the lock's {version}; run `make lock`"
        )


def test_lock_holds_the_pins(repository, locked):
    pins = [Requirement(line) for line in (repository / "constraints.txt").read_text().split()]
    assert {"torch", "torchvision", "flwr"} == {pin.name for pin in pins}
    for pin in pins:
        assert locked[pin.name].specifier == pin.specifier


def test_notebooks_are_in_normal_form(notebooks, capsys):
    if not notebooks:
        pytest.skip("the book has no notebook yet")
    status = normalise.main([*map(str, notebooks), "--check"])
    assert status == 0, capsys.readouterr().err


def test_every_page_of_the_book_is_in_the_table_of_contents(repository):
    toc = yaml.safe_load((repository / "_toc.yml").read_text())
    listed = {toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])}
    pages = [path for path in (repository / "book").rglob("*") if path.suffix in (".md", ".ipynb")]
    found = {
        str(path.relative_to(repository).with_suffix(""))
        for path in pages
        if ".ipynb_checkpoints" not in path.parts
    }
    assert {page.removesuffix(".ipynb").removesuffix(".md") for page in listed} == found


CHAPTER = (
    "The paper in one table",
    "The data, looked at",
    "The method",
    "The experiment",
    "Explore",
    "What the paper does not say",
    "Exercises",
    "Quiz",
    "Take-aways",
    "References",
)
"""What a reader finds in every chapter, in this order; a chapter may have others between them."""


def test_every_chapter_keeps_its_order(repository):
    chapters = sorted((repository / "book" / "papers").glob("*.ipynb"))
    assert len(chapters) == 4
    for path in chapters:
        cells = json.loads(path.read_text())["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        headings = [heading.rstrip("s") for heading in re.findall(r"^## (.+)$", text, re.MULTILINE)]
        wanted = [heading.rstrip("s") for heading in CHAPTER]
        assert [heading for heading in headings if heading in wanted] == wanted, path.name


def test_frozen_results_are_intact(repository):
    files = sorted((repository / "book" / "results").glob("*.json"))
    if not files:
        pytest.skip("no frozen result yet")
    for file in files:
        result = results.load(file)
        assert result.tables
        for title in result.tables:
            assert len(result.table(title))


def test_rooms_import_only_from_the_rooms_below_them(repository):
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_no_file_names_this_machine_or_holds_a_photograph(tracked, repository):
    machine = [f"{repository}/", f"{Path.home()}/"]
    for path in tracked:
        name = path.relative_to(repository)
        assert path.suffix.lower() not in {".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pkl", ".pickle"}, name
        if path.suffix in TEXT:
            text = path.read_text(encoding="utf-8")
            assert not [folder for folder in machine if folder in text], (
                f"{name} names a path of this machine"
            )


def test_vendor_scripts_are_installed_and_not_committed(tracked, tmp_path):
    names = {copy.name for copy in vendor.copy_scripts(tmp_path / "vendor")}
    assert names == {"tex-svg.js"}
    assert not names & {path.name for path in tracked}
