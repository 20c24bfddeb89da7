"""A check can fail: its tolerance is smaller than the difference that it is about, and its data are known."""

import ast
import json

import numpy as np
import pandas as pd
import pytest

from hemafl_book.papers import attention_cnn
from hemafl_book.papers.attention_cnn import OFFER
from hemafl_book.show import CheckError, check, check_table, live_data
from hemafl_lib.errors import DataError, HemaflError

LOOSE = 6
"""Columns of checked tables in the book whose tolerance is wider than the smallest step between two rows.

Each is a table of which the text claims no order. Tighten one, and lower this number.
"""


# --- what is compared ------------------------------------------------------------------------------


def test_a_number_that_has_to_lie_above_another_says_so(capsys):
    check("FedAvg", 0.61, 0.60, 0.05, above={"alone": 0.50}, below={"pooled": 0.70})
    assert capsys.readouterr().out == "FedAvg 0.60 (within 0.05, above alone, below pooled)\n"


def test_a_tolerance_that_the_difference_fits_into_is_refused():
    with pytest.raises(
        CheckError, match=r"FedAvg above alone: they are 0.04 apart, and the tolerance is 0.05"
    ):
        check("FedAvg", 0.60, 0.60, 0.05, above={"alone": 0.56})


@pytest.mark.parametrize("side", ["above", "below"])
def test_the_wrong_side_is_refused(side):
    other = {"above": 0.70, "below": 0.50}[side]
    with pytest.raises(CheckError, match="apart, and the tolerance"):
        check("FedAvg", 0.60, 0.60, 0.05, **{side: {"other": other}})


def test_several_seeds_are_compared_by_their_mean(capsys):
    """One seed may differ between processors by more than the mean of three may."""
    check("FedAvg", [0.47, 0.58, 0.54], 0.53, 0.02, above={"alone": np.array([0.40, 0.45, 0.50])})
    assert capsys.readouterr().out == "FedAvg 0.53 (within 0.02, mean of 3 seeds, above alone)\n"
    with pytest.raises(CheckError, match=r"is 0\.58"):
        check("FedAvg", [0.58, 0.58, 0.58], 0.53, 0.02)


SCORES = pd.DataFrame({"accuracy": [0.60, 0.50, 0.45]}, index=["pooled", "FedAvg", "alone"])


def test_the_order_of_a_tables_rows_is_checked():
    pairs = {"accuracy": [("pooled", "FedAvg")]}
    check_table("scores", SCORES, SCORES, 0.06, above=pairs)
    with pytest.raises(CheckError, match=r"'accuracy' of 'pooled' above 'FedAvg': they are 0\.1 apart"):
        check_table("scores", SCORES, SCORES, 0.1, above=pairs)
    turned = pd.DataFrame({"accuracy": [0.545, 0.55, 0.45]}, index=SCORES.index)
    with pytest.raises(CheckError, match=r"they are -0\.005 apart now"):
        check_table("scores", turned, SCORES, 0.06, above=pairs)


# --- which data are live ---------------------------------------------------------------------------


@pytest.fixture
def real(monkeypatch, tmp_path):
    """What a chapter's cells run on where the reader asks for the real data."""
    monkeypatch.setenv("HEMAFL_DATA", str(tmp_path))
    monkeypatch.setenv("HEMAFL_LIVE", "real")
    return live_data(OFFER)


def test_a_folder_of_data_alone_leaves_the_cells_on_what_is_embedded(monkeypatch, tmp_path):
    """HEMAFL_DATA is set where the stored outputs are compared."""
    monkeypatch.setenv("HEMAFL_DATA", str(tmp_path))
    monkeypatch.delenv("HEMAFL_LIVE", raising=False)
    found = live_data(OFFER)
    assert (found.source, found.root, found.recorded) == ("smear", None, True)


def test_live_cells_run_on_real_data_where_the_reader_asks(real, tmp_path):
    assert (real.source, real.root, real.recorded) == ("real", tmp_path, False)


def test_a_number_of_real_data_is_shown_beside_the_record_and_not_compared(real, capsys):
    check("accuracy", 0.97, 0.82, 0.09, above={"alone": 0.99}, on=real)
    assert capsys.readouterr().out == "accuracy 0.97 here; 0.82 was recorded on SIMULATED data\n"
    check_table("scores", SCORES + 0.3, SCORES, 0.01, on=real)
    out = capsys.readouterr().out
    assert "on other data than those of the record (SIMULATED data)" in out
    assert "0.9" in out


def test_real_data_that_are_not_there_are_one_sentence(monkeypatch):
    monkeypatch.setenv("HEMAFL_LIVE", "real")
    monkeypatch.delenv("HEMAFL_DATA", raising=False)
    with pytest.raises(DataError, match="set HEMAFL_DATA"):
        live_data(OFFER)
    monkeypatch.setenv("HEMAFL_LIVE", "yes")
    with pytest.raises(HemaflError, match="HEMAFL_LIVE='yes' is unknown; set it to 'real'"):
        live_data(OFFER)


@pytest.mark.real
def test_the_cells_of_chapter_2_are_then_the_papers_own(real_data, monkeypatch):
    monkeypatch.setenv("HEMAFL_DATA", str(real_data))
    monkeypatch.setenv("HEMAFL_LIVE", "real")
    found = live_data(OFFER)
    cells = attention_cnn.smears(attention_cnn.protocol("quick", found.source), found.root)
    assert len(cells) == 3256
    assert cells.provenance.banner().startswith("Real data: taleqani")


def test_every_check_of_chapter_2_on_its_own_cells_knows_which_they_are(repository):
    """Only what is computed again from a recording stays on the simulated cells of that recording."""
    calls = checks_of(repository / "book" / "papers" / "attention_cnn.ipynb")
    without = [ast.unparse(call.args[0]) for call, _ in calls if not keyword(call, "on")]
    assert without == ["'federated, computed again'"]


# --- how loose the book's checks are ---------------------------------------------------------------


def checks_of(notebook):
    """The calls of a check in a notebook, each with the statements of its cell."""
    cells = json.loads(notebook.read_text())["cells"]
    trees = [ast.parse("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    return [
        (node, tree)
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("check", "check_table")
    ]


def keyword(call, name, place=None):
    """An argument of a call, by its name or its place; None if it is not there."""
    named = next((each.value for each in call.keywords if each.arg == name), None)
    return call.args[place] if named is None and place is not None and len(call.args) > place else named


def literal(node, tree):
    """The value of an expression, also behind a name of its cell; None if it is computed."""
    try:
        return ast.literal_eval(behind(node, tree))
    except (ValueError, TypeError):
        return None


def behind(node, tree):
    """What a name of a cell is bound to; any other expression itself."""
    bound = [
        each.value
        for each in tree.body
        if isinstance(each, ast.Assign) and getattr(each.targets[0], "id", "") == getattr(node, "id", None)
    ]
    return bound[-1] if bound else node


def has_order(column, call, tree):
    """Whether the order of some rows of a column is checked; a comprehension is taken to name all columns."""
    above = behind(keyword(call, "above"), tree)
    return isinstance(above, ast.DictComp) or repr(column) in map(ast.unparse, getattr(above, "keys", ()))


def loose_columns(notebook):
    """The checked columns with a tolerance wider than their smallest step, and no order that is checked."""
    found = []
    for call, tree in checks_of(notebook):
        recorded, tolerance = (
            literal(keyword(call, n, p), tree) for n, p in (("recorded", 2), ("tolerance", 3))
        )
        if not isinstance(recorded, dict):
            continue
        for column, values in recorded.items():
            if has_order(column, call, tree):
                continue
            steps = np.diff(sorted({value for value in values if isinstance(value, float)}))
            allowed = tolerance.get(column, 0.0) if isinstance(tolerance, dict) else tolerance
            if len(steps) and allowed > steps.min():
                found.append(f"{notebook.stem}: {ast.unparse(call.args[0])}, '{column}'")
    return found


def test_checks_that_cannot_tell_two_rows_apart_do_not_become_more(repository):
    found = [each for path in sorted((repository / "book").rglob("*.ipynb")) for each in loose_columns(path)]
    assert len(found) <= LOOSE, "\n".join(found)
