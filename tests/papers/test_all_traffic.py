"""Updates in fewer bytes: every code is shown with what it sends and beside what needs no network."""

from dataclasses import replace

import pytest

from hemafl_book.papers import all_traffic as study
from hemafl_book.papers.where import Where


@pytest.fixture(scope="module")
def results():
    asked = study.protocol("quick", "smear")
    (one,) = asked.studies
    small = replace(one, size=32)
    return study.run(replace(asked, cells=400, rounds=2, studies=(small,)), Where(progress=False))


def test_every_code_stands_beside_what_needs_no_network(results):
    arms = set(results.tables["scores"]["arm"])
    assert arms >= {*study.WIRES, "commonest class", "colour alone, random forest"}
    assert "largest 1 %" in study.report(results)


def test_the_way_up_is_as_short_as_the_code(results):
    up = results.tables["cost"].set_index("arm")["share of the way up"]
    assert up[study.WHOLE] == 1
    assert up["8 bits"] == pytest.approx(0.25, abs=0.05)
    assert up["largest 20 %"] == pytest.approx(0.4, abs=0.05)
    assert up["largest 1 %"] == up["largest 1 %, no feedback"] < 0.1


def test_the_protocol_tells_every_code_and_its_settings():
    told = study.protocol("paper", "real").describe()["wires"]
    assert told["largest 5 %"] == {"name": "TopK", "share": 0.05, "feedback": True}
    assert told[study.WHOLE] is None
