"""The loop of all experiments: pieces in order, and an interrupted run goes on from what is finished."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hemafl_book.cli import app
from hemafl_book.papers import scd_infarct, studies
from hemafl_book.papers.kept import plain_table, read_table
from hemafl_book.papers.studies import Piece, Series, run_studies
from hemafl_book.papers.where import Where
from hemafl_book.results import load, plain
from hemafl_lib.data.cohort import Provenance
from hemafl_lib.errors import DataError

DATA = (Provenance("urn", "drawn", "free", simulated=True, checksum="00"),)


@dataclass(frozen=True)
class Urn:
    """A protocol of nothing."""

    draws: int = 3

    def describe(self):
        return {"draws": self.draws}


class Studies:
    """Two studies with two seeds each, which note what is computed; one piece can be interrupted."""

    def __init__(self, interrupt=None):
        self.interrupt = interrupt
        self.computed = []

    def series(self):
        return [Series(title, (0, 1), lambda title=title: self.prepare(title)) for title in ("red", "blue")]

    def prepare(self, title):
        self.computed.append(title)
        return lambda seed: Piece(beside=lambda: self.tables(title, seed))

    def tables(self, title, seed):
        if (title, seed) == self.interrupt:
            raise KeyboardInterrupt
        self.computed.append((title, seed))
        share = np.random.default_rng([len(title), seed]).random()
        return {"shares": pd.DataFrame({"seed": [seed], "share": [share], "epsilon": [np.inf]})}

    def run(self, folder=None, asked=Urn(), data=DATA):
        return run_studies(asked, self.series(), Where(progress=False, checkpoint=folder), data)


def test_tables_are_joined_in_the_order_of_the_seeds():
    found = Studies().run()
    assert list(found.tables) == ["red", "blue"]
    assert found["red"]["shares"]["seed"].tolist() == [0, 1]


@pytest.mark.survives(
    "An experiment of hours is interrupted: Ctrl-C, a full battery, a night's restart",
    "With --checkpoint the same command goes on after the last finished study and seed, to the same numbers",
)
def test_an_interrupted_experiment_goes_on_from_what_is_finished(tmp_path):
    whole = Studies().run()
    with pytest.raises(KeyboardInterrupt):
        Studies(interrupt=("blue", 1)).run(tmp_path / "kept")
    again = Studies()
    found = again.run(tmp_path / "kept")
    assert again.computed == ["blue", ("blue", 1)]
    for title in ("red", "blue"):
        pd.testing.assert_frame_equal(found[title]["shares"], whole[title]["shares"], check_exact=True)
    assert found.seconds.earlier > 0
    assert all(found.seconds.parts[title] > 0 for title in ("red", "blue"))
    last = Studies()
    last.run(tmp_path / "kept")
    assert last.computed == []


def test_trainings_of_a_finished_piece_are_not_done_again(tmp_path, monkeypatch):
    """A paper's experiment, interrupted in its second seed, ends in the file of an uninterrupted one."""
    small = replace(scd_infarct.protocol("quick"), rounds=1)
    study = replace(small.studies[0], seeds=(0, 1))
    monkeypatch.setattr(scd_infarct, "protocol", lambda *_: replace(small, studies=(study,)))
    monkeypatch.setattr(scd_infarct, "FOLDS", 2)
    trained, train, beside = [], studies.train, scd_infarct.answers_beside

    def note(trial, *rest):
        trained.append(trial.seed)
        return train(trial, *rest)

    def interrupted(folds):
        if folds[0].seed == 1:
            raise KeyboardInterrupt
        return beside(folds)

    def run(*words):
        return CliRunner().invoke(app, ["run", "scd-infarct", *map(str, words)], env={"HEMAFL_DATA": None})

    monkeypatch.setattr(studies, "train", note)
    assert run("--out", tmp_path / "whole.json").exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr(scd_infarct, "answers_beside", interrupted)
        assert run("--checkpoint", tmp_path / "kept").exit_code != 0
    trained.clear()
    done = run("--checkpoint", tmp_path / "kept", "--out", tmp_path / "resumed.json")
    assert done.exit_code == 0, done.output
    assert f"kept in {tmp_path / 'kept'}; the same command goes on" in done.output
    assert set(trained) == {1}
    assert load(tmp_path / "resumed.json").tables == load(tmp_path / "whole.json").tables


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"asked": Urn(draws=4)}, "keeps pieces of another protocol; name another folder, or remove it."),
        ({"data": (replace(DATA[0], checksum="11"),)}, "keeps pieces of other data; name another folder"),
    ],
)
@pytest.mark.survives(
    "A folder of finished pieces is named that belongs to another protocol, other data or other code",
    "Refused with what differs; no table ever mixes the two",
)
def test_the_pieces_of_something_else_are_refused(changed, sentence, tmp_path):
    Studies().run(tmp_path / "kept")
    again = Studies()
    with pytest.raises(DataError, match=sentence):
        again.run(tmp_path / "kept", **changed)
    assert again.computed == []


def test_the_pieces_of_other_code_are_refused(tmp_path, monkeypatch):
    Studies().run(tmp_path / "kept")
    monkeypatch.setattr("hemafl_book.papers.studies.fingerprint", lambda module: {module: "another"})
    with pytest.raises(DataError, match="keeps pieces of other code"):
        Studies().run(tmp_path / "kept")


@pytest.mark.survives(
    "The folder for finished pieces holds other files, or is a file",
    "Refused before anything is computed; nothing is written among them",
)
def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("dear colleague")
    for folder, sentence in ((tmp_path, "holds other files"), (tmp_path / "letter.txt", "cannot be written")):
        with pytest.raises(DataError, match=sentence) as refused:
            Studies().run(folder)
        assert len(str(refused.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    "change", [lambda text: text[:40], lambda text: "[]", lambda text: text.replace("0.", "1.")]
)
@pytest.mark.survives(
    "The file of a finished piece was cut, edited or copied from elsewhere",
    "Named in one sentence; once it is deleted, that piece alone is computed again",
)
def test_a_damaged_piece_is_named(change, tmp_path):
    Studies().run(tmp_path)
    path = tmp_path / "red, seed 1.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError, match=r"red, seed 1\.json .*delete it") as refused:
        Studies().run(tmp_path)
    assert len(str(refused.value).splitlines()) == 1
    path.write_bytes((tmp_path / "red, seed 0.json").read_bytes())
    with pytest.raises(DataError, match=r"red, seed 1\.json .*delete it"):
        Studies().run(tmp_path)
    path.unlink()
    again = Studies()
    again.run(tmp_path)
    assert again.computed == ["red", ("red", 1)]


def test_a_table_comes_back_from_json_to_the_last_digit():
    table = pd.DataFrame(
        {
            "arm": ["FedAvg", "isolated: a"],
            "seed": [1, 2],
            "score": [0.1 + 0.2, np.nan],
            "epsilon": [-np.inf, np.inf],
            "right": [True, False],
        }
    )
    again = read_table(plain(plain_table(table)))
    pd.testing.assert_frame_equal(again, table, check_exact=True)
