"""Frozen results on disk: older files are read as they are, and the code that made them is known."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from hemafl_book import papers, results
from hemafl_book.papers import PAPERS
from hemafl_book.show import results as shown
from hemafl_lib.data.cohort import Provenance
from hemafl_lib.errors import DataError

FOLDER = Path(__file__).resolve().parents[2] / "book" / "results"


def freeze(path, **changes):
    source = Provenance("cells", "drawn", "free", simulated=True, checksum="00")
    settings = {"protocol": {"rounds": 1}, "data": [source], "seeds": [0], "seconds": 1.0, "device": "none"}
    tables = {"scores": pd.DataFrame({"arm": ["FedAvg"], "accuracy": [0.5]})}
    return results.freeze(path, tables=tables, **(settings | changes))


def test_a_result_says_which_code_made_it(tmp_path):
    written = freeze(tmp_path / "out.json")
    assert results.load(tmp_path / "out.json") == written
    assert written.versions["hemafl_lib"] != "not installed"
    assert written.changes == {}


def test_the_commit_bears_a_mark_where_the_code_differs_from_it(tmp_path, monkeypatch):
    def git(*arguments):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    (tmp_path / "hemafl_lib").mkdir()
    (tmp_path / "hemafl_lib" / "code.py").write_text("one = 1\n")
    monkeypatch.setattr(results, "CODE", tmp_path)
    assert results.commit() is None, "no checkout"
    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "first")
    clean = results.commit()
    assert len(clean) == 40
    (tmp_path / "note.txt").write_text("no part of the code\n")
    assert results.commit() == clean
    (tmp_path / "hemafl_lib" / "code.py").write_text("one = 2\n")
    assert results.commit() == f"{clean}-dirty"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_who_doubts_a_result_can_check_out_what_made_and_confirmed_it(path):
    def git(*arguments):
        return subprocess.run(
            ["git", "-C", str(FOLDER), *arguments], capture_output=True, text=True, check=False
        )

    if git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("needs a clone with the whole history")
    held = results.load(path)
    for commit in (held.commit, *(one.commit for one in held.confirmed)):
        assert git("merge-base", "--is-ancestor", commit, "HEAD").returncode == 0, commit


def test_older_files_have_an_unknown_commit_and_no_changes(tmp_path):
    written = freeze(tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    del content["commit"], content["changes"]
    (tmp_path / "out.json").write_text(json.dumps(content))
    older = results.load(tmp_path / "out.json")
    assert (older.commit, older.changes) == (results.UNKNOWN, {})
    assert older.tables == written.tables


@pytest.mark.parametrize("broken", [{"tables": None}, {"surplus": 1}])
def test_what_lacks_a_field_or_has_another_is_no_result(tmp_path, broken):
    freeze(tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text()) | broken
    content = {name: value for name, value in content.items() if value is not None or name == "commit"}
    (tmp_path / "out.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="not a frozen result"):
        results.load(tmp_path / "out.json")


@pytest.mark.parametrize("name", PAPERS)
def test_every_paper_has_a_frozen_result_that_is_not_stale(name, repository):
    """Whoever changes a protocol has to compute the results again (`make results`)."""
    paper = papers.find(name)
    frozen = results.load(repository / "book" / "results" / f"{name}.json")
    asked = paper.protocol("paper", paper.OFFER.sources[0])
    assert not results.stale(frozen, asked.describe())
    assert frozen.seeds == list(asked.seeds)
    assert frozen.changes == {}


def test_the_line_beside_a_changed_result_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shown, "folder", lambda: tmp_path)
    freeze(tmp_path / "plain.json")
    freeze(tmp_path / "other.json", changes={"aggregator": "Krum", "clients": 5})
    assert "CHANGED" not in shown.provenance("plain")
    assert "CHANGED from the paper's: aggregator Krum, clients 5" in shown.provenance("other")


@pytest.mark.parametrize(("count", "said"), [(1, "1 CPU core (AVX2)"), (2, "2 CPU cores (AVX2)")])
def test_a_result_names_its_device_in_plain_english(monkeypatch, count, said):
    monkeypatch.setattr(results, "cores", lambda: count)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    assert results.describe_device("cpu") == said
