"""`hemafl results make`: only what is stale, what fails does not stop the rest, and Ctrl-C loses nothing."""

import os
import pickle
from concurrent.futures import Executor, Future
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
from typer.testing import CliRunner

from hemafl_book.cli import app
from hemafl_book.explorers import partition
from hemafl_book.frozen import subjects
from hemafl_book.frozen.make import make, processes
from hemafl_book.frozen.subjects import Subject, of_explorer, of_paper
from hemafl_book.papers import PAPERS, running
from hemafl_book.papers.where import Where
from hemafl_book.results import freeze, load
from hemafl_lib.errors import DataError
from hemafl_lib.parallel import cores


class HereAndNow(Executor):
    """A pool that computes in this process, at once."""

    def submit(self, task, /, *given, **named):
        done = Future()
        try:
            done.set_result(task(*given, **named))
        except BaseException as error:
            done.set_exception(error)
            if not isinstance(error, Exception):
                self.submit = lambda *_, **__: Future()  # an interrupted pool computes nothing more
        return done


class World:
    """Three subjects that note what is computed; one can fail, or be interrupted."""

    def __init__(self, folder):
        self.folder, self.computed, self.happens, self.code = folder / "out", [], {}, {"training": "1"}
        self.subjects = [self.subject(name) for name in ("first", "second", "third")]

    def subject(self, name):
        return Subject(
            name=name,
            protocol=lambda: {"name": name},
            code=lambda: self.code,
            studies=lambda: ("all",),
            reads=tuple,
            compute=lambda out, where, say: self.compute(name, out, where),
            again=lambda titles, where: None,
        )

    def compute(self, name, out, where):
        where.checkpoint.mkdir(parents=True, exist_ok=True)
        if name in self.happens:
            (where.checkpoint / "piece").write_text("finished")
            raise self.happens[name]
        self.computed.append((name, (where.checkpoint / "piece").exists()))
        table = {"t": pd.DataFrame({"a": [1]})}
        freeze(
            out,
            protocol={"name": name},
            data=[],
            seeds=[0],
            seconds=90,
            device="none",
            tables=table,
            code=self.code,
        )

    def make(self, **how):
        said = []
        pieces = self.folder.parent / "pieces"
        failed = make(self.subjects, self.folder, Where(), said.append, HereAndNow(), pieces=pieces, **how)
        return failed, said


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_all_are_made_once_and_then_only_what_is_asked_for(world):
    failed, said = world.make()
    assert not failed
    assert [name for name, _ in world.computed] == ["first", "second", "third"]
    assert said[0] == "3 to compute, 1 at a time; about 0 minutes to go, and 3 that were never timed."
    assert world.make()[1][-1] == f"0 of 0 results were computed into {world.folder}."
    assert len(world.computed) == 3
    _, said = world.make(everything=True)
    assert said[0] == "3 to compute, 1 at a time; about 4 minutes to go."
    assert said[1].endswith(" is computed, 1 of 3; about 3 minutes to go.")
    assert len(world.computed) == 6


def test_changed_code_is_left_to_be_confirmed(world):
    world.make()
    world.code = {"training": "2"}
    _, said = world.make()
    assert "Not confirmed and left as they are: first, second, third" in said[0]
    assert len(world.computed) == 3


@pytest.mark.survives(
    "One of the book's results cannot be computed in a run of hours",
    "It is told at the end; the others are computed, and the same command tries it again",
)
@pytest.mark.parametrize("error", [DataError("no such cohort."), ZeroDivisionError("division by zero")])
def test_a_result_that_fails_does_not_stop_the_others(world, error):
    world.happens = {"second": error}
    failed, said = world.make()
    assert failed == ["second"]
    assert any(line.startswith("second FAILED: ") for line in said)
    assert [name for name, _ in world.computed] == ["first", "third"]
    world.happens = {}
    world.make()
    assert world.computed[-1] == ("second", True), "its finished pieces were kept"
    assert not list((world.folder.parent / "pieces").iterdir()), "and are gone now"


def test_after_an_interruption_the_same_call_goes_on(world):
    world.happens = {"second": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        world.make()
    world.happens = {}
    world.make()
    assert world.computed == [("first", False), ("second", True), ("third", False)]


def test_pieces_of_other_code_are_not_taken(world):
    world.happens = {"first": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        world.make()
    world.happens, world.code = {}, {"training": "2"}
    world.make()
    assert world.computed[0] == ("first", False)


def test_the_command_ends_with_1_where_one_failed(world, monkeypatch, tmp_path):
    world.happens = {"second": DataError("no such cohort.")}
    monkeypatch.setattr(subjects, "subjects", lambda: {each.name: each for each in world.subjects})
    monkeypatch.setattr("hemafl_book.frozen.make.processes", lambda count: HereAndNow())
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["results", "make", str(world.folder), "--root", str(tmp_path)])
    assert done.exit_code == 1
    assert "hemafl: not computed: second; read above why" in done.output
    assert load(world.folder / "third.json").seconds == 90


def of_one_process(name):
    return {"name": name}


def note_process(out, where, say):
    say(f"on {cores()} core")
    table = {"t": pd.DataFrame({"process": [os.getpid()]})}
    where.checkpoint.mkdir(parents=True)
    freeze(out, protocol=of_one_process(out.stem), data=[], seeds=[0], seconds=1, device="none", tables=table)


def test_several_are_computed_at_a_time_each_on_one_core_of_its_own(tmp_path, capfd):
    names = ("first", "second")
    several = [
        Subject(
            name=name,
            protocol=partial(of_one_process, name),
            code=partial(dict, training="1"),
            studies=partial(tuple, ("all",)),
            reads=tuple,
            compute=note_process,
            again=note_process,
        )
        for name in names
    ]
    said = []
    with processes(2) as pool:
        assert (
            make(several, tmp_path, Where(), said.append, pool, at_a_time=2, pieces=tmp_path / "kept") == []
        ), said
    ran_in = {int(load(tmp_path / f"{name}.json").table("t")["process"].iloc[0]) for name in names}
    assert os.getpid() not in ran_in
    printed = capfd.readouterr().out
    assert all(f"{name}: on " in printed for name in names)
    if hasattr(os, "sched_setaffinity"):
        assert printed.count(": on 1 core") == 2


def test_every_result_of_the_book_can_be_handed_to_another_process():
    for name, subject in subjects.subjects().items():
        assert pickle.loads(pickle.dumps(subject)).name == name


# --- what a subject computes ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_is_run_by_its_full_protocol(name, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        running, "run_and_report", lambda *given, **how: asked.append((given[:2], how["out"]))
    )
    of_paper(name).compute(tmp_path / "x.json", Where(), print)
    assert asked == [((name, "paper"), tmp_path / "x.json")]


def test_an_explorer_goes_on_from_finished_settings(tmp_path, monkeypatch):
    computed, sweep = [], partition.SWEEP

    def explore(clients, scheme):
        if scheme == "Dirichlet 1" and not computed.count(scheme):
            computed.append(scheme)
            raise KeyboardInterrupt
        computed.append(scheme)
        return sweep.explore(clients, scheme)

    few = replace(sweep, controls={"clients": (3,), "scheme": ("even", "Dirichlet 1")}, explore=explore)
    monkeypatch.setattr(partition, "SWEEP", few)
    subject, where = of_explorer("partition"), Where(checkpoint=tmp_path / "kept")
    with pytest.raises(KeyboardInterrupt):
        subject.compute(tmp_path / "out.json", where, print)
    subject.compute(tmp_path / "out.json", where, print)
    assert computed == ["even", "Dirichlet 1", "Dirichlet 1"]
    monkeypatch.setattr(partition, "SWEEP", replace(few, explore=sweep.explore))
    of_explorer("partition").compute(tmp_path / "whole.json", Where(), print)
    resumed, whole = load(tmp_path / "out.json"), load(tmp_path / "whole.json")
    assert resumed.tables == whole.tables
    assert list(resumed.parts) == ["settings"]
    assert resumed.code == subject.code()
