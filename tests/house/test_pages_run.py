"""What stands on pages for people runs: their Python, on small data of the named kind, and commands."""

import re
import shlex
import subprocess

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from hemafl_book.cli import app

CLASSES = ("lymphocyte", "neutrophil")


def code_of(page):
    """The Python of a page, block by block, with one round instead of several."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [re.sub(r'(rounds"?[:=] ?)5', r"\g<1>1", block) for block in blocks]


def draw_cells(folder):
    """Twelve patients with two cells each at two hospitals, as the page wants them sorted."""
    generator = np.random.default_rng(0)
    for hospital in ("north", "south"):
        for kind in CLASSES:
            place = folder / "cells" / hospital / kind
            place.mkdir(parents=True)
            for patient in range(12):
                for number in range(2):
                    pixels = generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(place / f"{hospital}{kind[0]}{patient}_{number}.png")


def draw_patients(folder):
    """Four hundred patients at two hospitals; the older ones die sooner."""
    generator = np.random.default_rng(0)
    age = generator.normal(60, 10, 400).round()
    table = pd.DataFrame(
        {
            "patient": [f"p{number}" for number in range(400)],
            "hospital": np.where(np.arange(400) < 200, "north", "south"),
            "age": age,
            "haemoglobin": generator.normal(10, 2, 400).round(1),
            "months": generator.exponential(60 * np.exp((60 - age) / 10)).clip(0.5).round(1),
            "died": generator.random(400) < 0.7,
        }
    )
    table.to_csv(folder / "patients.csv", index=False)


def test_own_data_become_sites_as_the_page_says(repository, tmp_path, monkeypatch):
    draw_cells(tmp_path)
    draw_patients(tmp_path)
    monkeypatch.chdir(tmp_path)
    known = {}
    for block in code_of(repository / "book" / "reference" / "own_data.md"):
        exec(block, known)
    assert known["cohort"].classes == CLASSES
    assert known["cohort"].sites == ("north", "south")
    assert len(known["cohort"]) == 96
    assert len(set(known["cohort"].patient)) == 48
    assert set(known["alone"]) == {"north", "south"}
    assert {site.name for site in known["hospitals"]} == {"north", "south"}
    assert known["fit"].table.loc["age", "coefficient"] > 0


def test_the_three_lines_of_the_readme_run(repository, monkeypatch, capsys):
    monkeypatch.delenv("HEMAFL_DATA", raising=False)
    (block,) = code_of(repository / "README.md")
    assert "rounds=1" in block
    exec(block, {})
    assert len(capsys.readouterr().out.splitlines()) >= 1


LOOKS = ("list", "data list", "data card barcelona")
"""Commands of the README that only look; each of the others has a test of its own, or trains for minutes."""


@pytest.mark.parametrize("command", LOOKS)
def test_a_command_of_the_readme_that_only_looks_runs(repository, command):
    text = (repository / "README.md").read_text()
    assert re.search(rf"^hemafl {command}\b", text, re.MULTILINE)
    done = CliRunner().invoke(app, shlex.split(command))
    assert done.exit_code == 0, done.output
    assert done.output


def test_make_help_names_every_target_of_the_readme(repository):
    said = subprocess.run(["make", "help"], cwd=repository, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"make ([a-z-]+)", (repository / "README.md").read_text()))
    assert {"book", "test", "install", "lab"} <= named
    assert named <= set(re.findall(r"^  make ([a-z-]+)", said, re.MULTILINE))


def test_the_picture_of_the_readme_is_drawn_by_the_book_and_described(repository):
    alt, file = re.search(
        r"^!\[(.+)\]\((.+)\)$", (repository / "README.md").read_text(), re.MULTILINE
    ).groups()
    assert len(alt) > 60
    assert (repository / file).suffix == ".svg"
    assert (repository / file).is_file()
