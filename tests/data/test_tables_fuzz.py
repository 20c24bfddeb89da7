"""Any fault in a table gives the right cohort, a smaller one that says so, or a sentence naming the file."""

import re
import tempfile
from pathlib import Path

import pytest
from builders import patients
from hypothesis import given, settings
from hypothesis import strategies as st

from hemafl_lib import data
from hemafl_lib.errors import DataError

GOOD = patients.bmt()

SPELLINGS = ("{} ", "\u00a0{}", "{}.0", "0{}", "{}_1", "{}-2", "x{}", "{}\u200b")
JUNK = ("", "NA", "=A1", "#REF!", "inf", "-", "-3", "9" * 30, "é", '"', "\x07", "x;y|z", "1.2.2020")
FACTORS = (1e-3, 1e-2, 12, 100, 365.25, 86400, 1 / 365.25)
SCALED = ("t2", "z1", "z2", "z7")


def delete_cell(draw, table, cells, place):
    del cells[place]


def move_left(draw, table, cells, place):
    cells[place:] = [*cells[place + 1 :], ""]


def insert_cell(draw, table, cells, place):
    cells.insert(place, draw(st.sampled_from(JUNK)))


def spoil_cell(draw, table, cells, place):
    cells[place] = draw(st.sampled_from(JUNK))


def repeat_row(draw, table, cells, place):
    table.append(list(cells))


def drop_row(draw, table, cells, place):
    table.remove(cells)


def spell_key(draw, table, cells, place):
    cells[0] = draw(st.sampled_from(SPELLINGS)).format(cells[0])


def scale_column(draw, table, cells, place):
    column, factor = draw(st.sampled_from(SCALED)), draw(st.sampled_from(FACTORS))
    table[:] = patients.replaced(
        table, column, lambda cell: f"{int(cell) * factor:.8g}" if cell.isdigit() else cell
    )


MOVES = (delete_cell, move_left, insert_cell)
OTHERS = (spoil_cell, repeat_row, drop_row, spell_key, scale_column)


@st.composite
def spoilt_tables(draw) -> patients.Grid:
    """Draw a table in which cells of one row moved, or one with several other faults.

    Two faults can undo each other's traces: a cell deleted here and one inserted there leave a row of the
    right length. No reader can notice this, so that a table has at most one move.
    """
    table = [list(cells) for cells in GOOD]
    others = st.lists(st.sampled_from(OTHERS), min_size=1, max_size=3, unique=True)
    for fault in draw(st.one_of(st.sampled_from(MOVES).map(lambda move: [move]), others)):
        cells = table[draw(st.integers(1, len(table) - 1))]
        fault(draw, table, cells, draw(st.integers(1, len(cells) - 1)))
    return table


def by_patient(cohort) -> dict[str, list]:
    """Return what is known of each patient, by the number in the key."""
    table = zip(
        cohort.patient.tolist(),
        cohort.site.tolist(),
        cohort.time.tolist(),
        cohort.event.tolist(),
        cohort.features.tolist(),
        strict=True,
    )
    return {name: [site, time, event, *features] for name, site, time, event, features in table}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("good")
    patients.write_bmt(root)
    return by_patient(data.load_table("bmt", root=root))


@pytest.mark.survives(
    "Any mixture of moved, spoilt, repeated and scaled cells, rows, keys and columns",
    "the right patients, fewer where it is told, or a sentence that names the file",
)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(spoilt_tables(), st.sampled_from(",;\t|"))
def test_a_spoilt_table_never_gives_wrong_patients(good, table, separator):
    with tempfile.TemporaryDirectory() as folder:
        patients.write_bmt(Path(folder), table, separator=separator)
        try:
            cohort, sentence = data.load_table("bmt", root=folder), None
        except DataError as error:
            cohort, sentence = None, str(error)
    if cohort is None:
        assert "bmt.csv" in sentence
        assert sentence.isprintable()
        return
    found = by_patient(cohort)
    assert len(found) == len(cohort)
    for name, known in found.items():
        (number,) = re.findall(r"[1-9]\d*", name)[:1]
        for value, right in zip(known, good[f"bmt/{number}"], strict=True):
            # A value may have become unknown, which is counted; none is another than it was.
            assert value == right or value != value or value == pytest.approx(right, rel=1e-4)
    lost = [row for row in cohort.features.isnan().any(dim=1).tolist() if row]
    assert bool(lost) <= any("not known" in note for note in cohort.provenance.notes)
