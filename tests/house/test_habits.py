"""What somebody who carries on may rely on: forms, workflows, hooks and commands that hold what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import touched
import yaml
from gpu import prove

import hemafl_lib
from hemafl_book.build import normalise

BIN = Path(sys.executable).parent
NOTEBOOK = nbformat.writes(normalise.normal_form(nbformat.v4.new_notebook())) + "\n"
SCHEMAS = {
    ".github/workflows/*.yml": ["vendor.github-workflows", "custom.github-workflows-require-timeout"],
    ".github/ISSUE_TEMPLATE/config.yml": ["vendor.github-issue-config"],
    ".github/ISSUE_TEMPLATE/[!c]*.yml": ["vendor.github-issue-forms"],
    "CITATION.cff": ["vendor.citation-file-format"],
}


@pytest.fixture(scope="module")
def makefile(repository):
    return (repository / "Makefile").read_text()


@pytest.fixture(scope="module")
def workflows(repository):
    files = sorted((repository / ".github" / "workflows").glob("*.yml"))
    return {file.stem: yaml.safe_load(file.read_text()) for file in files}


@pytest.mark.parametrize(("pattern", "schema"), [(p, s) for p, schemas in SCHEMAS.items() for s in schemas])
def test_forms_and_workflows_are_valid(repository, pattern, schema):
    files = sorted(repository.glob(pattern))
    assert files
    command = [BIN / "check-jsonschema", "--builtin-schema", schema, *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_there_is_a_form_for_every_kind_of_issue(repository):
    forms = {file.stem for file in (repository / ".github" / "ISSUE_TEMPLATE").glob("*.yml")}
    assert forms == {"bug", "number", "data_set", "teaching", "config"}


def test_workflows_test_and_build_with_commands_that_exist(workflows, makefile):
    assert set(workflows) == {"test", "book"}
    runs = {
        name: [step["run"] for job in flow["jobs"].values() for step in job["steps"] if "run" in step]
        for name, flow in workflows.items()
    }
    assert "make test" in runs["test"]
    assert "make book" in runs["book"]
    for command in [*runs["test"], *runs["book"]]:
        if command.startswith("make "):
            assert re.search(rf"^{command.removeprefix('make ')}:", makefile, re.MULTILINE), command


def test_workflows_run_on_the_supported_versions_of_python(workflows, repository):
    supported = re.search(r'requires-python = "(.+)"', (repository / "pyproject.toml").read_text())[1]
    assert supported == ">=3.11,<3.13"
    assert workflows["test"]["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12"]


def test_every_command_of_the_makefile_is_explained(makefile):
    phony = set(re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split())
    assert phony == set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))


def test_make_test_checks_style_types_tests_and_notebooks(makefile):
    recipes = dict(re.findall(r"^(\w+):.*\n((?:\t.*\n)+)", makefile, re.MULTILINE))
    for target, parts in {
        "test": ("ruff format --check", "ruff check", "--jobs=2 types suite"),
        "types": ("mypy",),
        "suite": ("$(PYTEST) --no-loadscope-reorder --nbval tests $(NOTEBOOKS)",),
    }.items():
        for part in parts:
            assert part in recipes[target]


@pytest.fixture
def clone(repository, tmp_path):
    """A git repository with this one's hooks."""
    (tmp_path / ".venv").symlink_to(BIN.parent)
    name = ".pre-commit-config.yaml"
    (tmp_path / name).write_text((repository / name).read_text())
    subprocess.run(["git", "init", "--quiet", "."], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("hook", "name", "bad", "good"),
    [
        ("ruff-format", "module.py", "x  =  1\n", "x = 1\n"),
        ("ruff", "module.py", "print(y)\n", "print(1)\n"),
        ("notebooks", "book.ipynb", "{}\n", NOTEBOOK),
    ],
)
def test_a_hook_stops_a_bad_commit(clone, monkeypatch, hook, name, bad, good):
    monkeypatch.setenv("PRE_COMMIT_HOME", str(clone / "cache"))

    def outcome(file):
        subprocess.run(["git", "add", "--all"], cwd=clone, check=True)
        command = [BIN / "pre-commit", "run", hook, "--files", file]
        return subprocess.run(command, cwd=clone, capture_output=True, text=True)

    (clone / name).write_text(bad)
    assert outcome(name).returncode == 1
    (clone / name).write_text(good)
    done = outcome(name)
    assert done.returncode == 0, done.stdout
    assert "Passed" in done.stdout


def test_hooks_run_installed_programs_only(repository):
    config = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())
    assert [source["repo"] for source in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert all((repository / hook["entry"].split()[0]).exists() for hook in hooks)


def test_the_version_is_one_and_the_changelog_has_it(repository):
    version = hemafl_lib.__version__
    assert f'\nversion = "{version}"\n' in (repository / "pyproject.toml").read_text()
    assert f"\nversion: {version}\n" in (repository / "CITATION.cff").read_text()
    changelog = (repository / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", changelog, re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    assert headings[1][0] == version
    dates = [date for _, date in headings[1:]]
    assert all(dates)
    assert dates == sorted(dates, reverse=True)
    kinds = re.findall(r"^### (.+)$", changelog, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("hemafl_lib/training.py", "tests/training"),
        ("hemafl_lib/federation/engines/local.py", "tests/federation"),
        ("hemafl_book/cli.py", "tests/command"),
        ("hemafl_book/explorers/attack.py", "tests/explorers"),
        ("benchmarks/work.py", "tests/benchmarks"),
        ("tests/explain/test_explain.py", "tests/explain"),
        ("hemafl_lib/files.py", "tests/house"),
        ("Makefile", "tests/house"),
        ("book/papers/attention_cnn.ipynb", "tests/house"),
    ],
)
def test_a_change_asks_for_the_tests_of_its_room(file, folder):
    assert touched.folders([file, ""]) == sorted({folder, "tests/house"})


def test_every_room_with_a_folder_of_tests_elsewhere_has_it(repository):
    for room, folder in touched.TESTS_OF.items():
        assert not (repository / "tests" / room).exists()
        assert (repository / "tests" / folder).is_dir()


def test_a_fast_run_leaves_out_what_is_slow(repository, tmp_path):
    (tmp_path / "conftest.py").write_text((repository / "tests" / "conftest.py").read_text())
    (tmp_path / "test_both.py").write_text(
        "import pytest\n\n\ndef test_small():\n    pass\n\n\n@pytest.mark.slow\ndef test_large():\n    pass\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--fast",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore",
        tmp_path,
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "1 passed, 1 deselected" in done.stdout


def test_without_a_gpu_its_check_says_so_in_one_line(repository):
    command = [sys.executable, "tests/gpu/prove.py"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout == "test-gpu: this machine has no CUDA, so nothing about the GPU was checked.\n"


def test_what_the_gpu_check_runs_is_there(repository):
    for arguments in prove.STEPS.values():
        assert all(
            (repository / name).is_dir() for name in arguments if name.split("/")[0] in ("tests", "book")
        )
