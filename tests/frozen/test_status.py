"""Frozen results are fresh, stale for a reason that is named, or not confirmed until a part is computed."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from typer.testing import CliRunner

from hemafl_book import results
from hemafl_book.cli import app
from hemafl_book.frozen import status, subjects
from hemafl_book.frozen.confirm import confirm
from hemafl_book.frozen.subjects import Again, Subject
from hemafl_book.papers.where import Where
from hemafl_lib.data.cohort import Provenance
from hemafl_lib.errors import DataError

PROTOCOL = {
    "rounds": 5,
    "studies": [{"title": "red", "arms": [{"rate": 0.1}]}, {"title": "blue", "arms": [{"rate": 0.2}]}],
}
URN = Provenance("urn", "somewhere", "free", False, "aa+bb")
SCORES = pd.DataFrame(
    {"arm": ["A", "B", "A", "B"], "seed": [0, 0, 1, 1], "auc": [0.5, 1 / 3, 0.7, 0.8], "hash": list("abcd")}
)


@pytest.fixture
def world(tmp_path):
    """A subject with a fresh file, whose protocol, code, data and numbers of today can be changed."""
    today = SimpleNamespace(protocol=PROTOCOL, code={"training": "1"}, scores=SCORES, checksum="aa+bb")

    def again(titles, where):
        first = today.scores[today.scores["seed"] == 0]
        tables = {f"{title}: scores": first for title in titles}
        return Again(
            {title: [0] for title in titles}, tables, {title: ("seed",) for title in tables}, [today.checksum]
        )

    today.subject = Subject(
        name="urn",
        protocol=lambda: today.protocol,
        code=lambda: today.code,
        studies=lambda: ("red", "blue"),
        reads=lambda: ("urn",),
        compute=lambda out, where, say: None,
        again=again,
    )
    today.file = tmp_path / "urn.json"
    results.freeze(
        today.file,
        protocol=PROTOCOL,
        data=[URN],
        seeds=[0, 1],
        seconds=9,
        device="none",
        tables={f"{title}: scores": SCORES for title in ("red", "blue")},
        parts={"red": 4.0, "blue": 5.0},
        code=today.code,
    )
    today.status = lambda **checksums: status.status_of(today.subject, tmp_path, checksums)
    today.confirm = lambda *studies, **how: confirm(
        today.subject, tmp_path, Where(), print, studies=studies, **how
    )
    return today


def test_what_was_just_made_is_fresh_and_knows_its_day_and_its_seconds(world):
    found = world.status(urn="aa")
    assert (found.state, found.made) == ("fresh", results.today())
    assert [study.seconds for study in found.studies] == [4.0, 5.0]


def test_a_changed_study_is_stale_alone_and_its_field_is_named(world):
    world.protocol = json.loads(json.dumps(PROTOCOL).replace("0.2", "0.3"))
    found = world.status()
    assert [(study.state, study.why) for study in found.studies] == [
        ("fresh", ()),
        ("stale", ("'blue'.arms",)),
    ]
    world.protocol = {**PROTOCOL, "rounds": 6}
    assert {study.why for study in world.status().studies} == {("protocol.rounds",)}


def test_other_data_are_named(world):
    assert world.status(urn="cc").reasons == ("data: urn",)
    assert world.status(urn="bb").state == world.status().state == "fresh"


def test_changed_code_is_not_confirmed_until_a_seed_gives_the_same_numbers(world):
    before = world.file.read_bytes()
    world.code = {"training": "2"}
    assert world.status().state == "not confirmed"
    assert world.status().reasons == ("code: training",)
    world.confirm("red")
    assert [study.state for study in world.status().studies] == ["fresh", "not confirmed"]
    new = world.confirm()
    assert world.status().state == "fresh"
    assert (new.numbers, new.difference, new.studies) == (8, 0.0, {"red": [0], "blue": [0]})
    held = results.load(world.file)
    assert held.code == {"training": "1"}, "who made it stays known"
    assert held.confirmed == [new], "an earlier confirmation of fewer studies says nothing more"
    assert held.tables == json.loads(before)["tables"]


def test_a_number_that_moved_is_named_and_nothing_is_written(world):
    before = world.file.read_bytes()
    world.code, world.scores = {"training": "2"}, SCORES.assign(auc=SCORES["auc"] + 2e-6)
    with pytest.raises(
        DataError, match=r"table 'red: scores': 'auc' was 0.3333\d+ and is now 0.3333\d+ \(arm B, seed 0\)"
    ):
        world.confirm()
    assert world.file.read_bytes() == before
    world.confirm(tolerance=1e-5)
    assert results.load(world.file).confirmed[0].tolerance == 1e-5


@pytest.mark.parametrize(
    "moved",
    [
        lambda scores: scores.assign(arm=["A", "C", "A", "B"]),
        lambda scores: scores.iloc[1:],
        lambda scores: scores.drop(columns="auc"),
        lambda scores: scores.assign(auc=[None, 0.3, 0.7, 0.8]),
    ],
)
def test_other_rows_columns_words_or_a_missing_number_are_no_confirmation(world, moved):
    world.scores = moved(SCORES)
    with pytest.raises(DataError, match="stale"):
        world.confirm()


def test_bits_that_tell_processors_apart_are_not_compared(world):
    world.scores = SCORES.assign(hash=list("wxyz"))
    assert world.confirm().numbers == 8


def test_other_data_or_another_protocol_cannot_be_confirmed(world):
    world.checksum = "cc"
    with pytest.raises(DataError, match="other data"):
        world.confirm()
    world.protocol = {**PROTOCOL, "rounds": 6}
    with pytest.raises(DataError, match=r"another protocol \(protocol.rounds\)"):
        world.confirm()


def test_a_wider_description_of_the_same_numbers_is_taken_over(world):
    world.protocol = {**PROTOCOL, "alpha": 1.0}
    assert world.status().reasons == ("protocol.alpha",)
    assert world.confirm().wider == ["protocol.alpha"]
    assert world.status().state == "fresh"
    assert results.load(world.file).protocol == world.protocol


@pytest.mark.parametrize(
    ("held", "now", "more", "other"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, ["p.b"], []),
        ({"a": 1, "b": 2}, {"a": 1}, [], ["p.b"]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}]}, ["p.a[0].c"], []),
        ({"a": [1]}, {"a": [1, 2]}, [], ["p.a"]),
        ({"a": 1}, {"a": 2, "c": 3}, ["p.c"], ["p.a"]),
    ],
)
def test_only_more_words_make_a_description_wider(held, now, more, other):
    assert results.compare_descriptions(held, now, "p") == (more, other)


def test_a_file_that_is_older_than_fingerprints_says_so(world):
    content = json.loads(world.file.read_text())
    for name in ("code", "confirmed", "date", "parts"):
        del content[name]
    world.file.write_text(json.dumps(content))
    found = world.status()
    assert (found.state, found.reasons) == ("not confirmed", (status.BEFORE,))
    world.confirm()
    assert world.status().state == "fresh"


def test_the_command_ends_with_1_unless_all_are_fresh(world, monkeypatch, tmp_path):
    monkeypatch.setattr(subjects, "subjects", lambda: {"urn": replace(world.subject, reads=tuple)})
    call = lambda *words: CliRunner().invoke(app, ["results", *map(str, words)])  # noqa: E731
    done = call("status", tmp_path)
    assert done.exit_code == 0, done.output
    assert "2 of 2" in done.output
    world.code = {"training": "2"}
    done = call("status", tmp_path, "--studies")
    assert done.exit_code == 1
    assert done.output.count("code: training") == 2
    assert call("confirm", "urn", "--folder", tmp_path).exit_code == 0
    assert call("status", tmp_path).exit_code == 0
    world.file.unlink()
    assert "does not exist" in call("status", tmp_path).output
    assert "choose one of urn" in call("confirm", "earn", "--folder", tmp_path).output


def test_no_result_of_the_book_is_stale(repository):
    """Whoever changes a protocol computes the result again; whoever changes code confirms it."""
    found = status.all_statuses(subjects.find([]), repository / "book" / "results", None)
    assert {one.name: one.reasons for one in found if one.state == "stale"} == {}


def test_a_recording_of_the_book_is_confirmed_by_its_last_setting(repository, tmp_path):
    """Its file is older than fingerprints, and its columns stand in another order than today's."""
    path = tmp_path / "explorer-partition.json"
    path.write_bytes((repository / "book" / "results" / path.name).read_bytes())
    (subject,) = subjects.find(["explorer-partition"])
    new = confirm(subject, tmp_path, Where(), print)
    assert new.numbers > 0
    assert status.status_of(subject, tmp_path, {}).state == "fresh"
