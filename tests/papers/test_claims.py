"""Claims are data: every verdict follows from the rows that decide it, and from nothing else."""

import ast
import inspect
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from docutils import nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from sphinx.addnodes import pending_xref
from typer.testing import CliRunner

from hemafl_book.build.claims import ClaimsDirective, counted_twice
from hemafl_book.cli import app
from hemafl_book.papers import claims
from hemafl_book.papers.claims import evidence, rules
from hemafl_book.papers.claims.claim import against, together
from hemafl_book.papers.claims.evidence import (
    Apart,
    Arithmetic,
    Less,
    Lowest,
    Mean,
    OverHospitals,
    Scores,
    Stored,
    Total,
)
from hemafl_book.papers.claims.rules import Found
from hemafl_book.papers.published import Row
from hemafl_book.results import FrozenResult, load, protocol_hash, same_experiment
from hemafl_book.show.claims import Verdicts, html_table, verdicts
from hemafl_lib.errors import DataError, HemaflError
from hemafl_lib.evaluation import difference_interval, seed_interval

BOOK = Path(__file__).resolve().parents[2] / "book"
ALL = [(name, claim) for name, chapter in claims.CHAPTERS.items() for claim in chapter.claims]
CHECKED = [claim for _, claim in ALL if claim.rule is rules.checked]
DECIDED = [claim for _, claim in ALL if claim.evidence and claim not in CHECKED]


def named(claim) -> str:
    return claim.name if isinstance(claim, claims.Claim) else str(claim)


@pytest.fixture(scope="module")
def frozen():
    return claims.read_frozen()


# What a claim is


def test_there_are_three_verdicts_and_the_arithmetic_of_a_paper_is_none_of_them(frozen):
    assert claims.VERDICTS == ("reproduced", "not reproduced", "cannot be told", "checked")
    found = claims.judge_all(frozen)
    assert len(found) == len(ALL) >= 47
    assert {one.verdict for one in found} == set(claims.VERDICTS)
    assert {one.claim.name for one in found if one.verdict == "checked"} == {one.name for one in CHECKED}


def test_names_are_unique():
    names = [claim.name for _, claim in ALL]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("chapter", "claim"), ALL, ids=named)
def test_a_claim_says_where_it_stands_and_which_cell_decides(chapter, claim):
    page = nbformat.read(BOOK / f"{claims.CHAPTERS[chapter].page}.ipynb", as_version=4)
    labels = re.findall(r"^\(([\w-]+)\)=$", "\n".join(cell.source for cell in page.cells), re.MULTILINE)
    assert claim.anchor in labels
    assert claim.where
    assert claim.says.endswith(".")
    assert claim.number
    assert len(claim.ours) > 5


@pytest.mark.parametrize("claim", DECIDED, ids=named)
def test_every_score_stands_beside_its_baseline(claim):
    assert claim.beside


@pytest.mark.parametrize("claim", [claim for _, claim in ALL if not claim.evidence], ids=named)
def test_what_nothing_decides_has_a_reason_that_is_data(claim):
    assert claim.rule is rules.cannot_be_told
    assert claim.given["reason"] in claims.REASONS


def test_a_difference_whose_interval_holds_0_cannot_be_told(frozen):
    for one in claims.judge_all(frozen):
        if one.claim.rule is rules.above and one.claim.given.get("margin", 0.0) == 0.0:
            holds = any(found.low <= 0 <= found.high for found in one.found)
            assert one.verdict != "reproduced" or not holds
            assert one.verdict != "not reproduced" or one.by.high < 0


@pytest.mark.parametrize(("chapter", "claim"), ALL, ids=named)
def test_not_reproduced_has_an_interval_that_excludes_the_claim(chapter, claim, frozen):
    one = claims.judge(claim, frozen)
    if one.verdict == "not reproduced":
        bound = claim.given.get("margin", claim.given.get("low", 0.0))
        assert one.by.high < bound or one.by.low > claim.given.get("high", np.inf)


def test_not_reproduced_holds_although_several_intervals_were_looked_at(frozen):
    """Bonferroni: with as many intervals as the claim has, at 95 % for all of them together."""
    for one in claims.judge_all(frozen):
        if one.verdict == "not reproduced" and one.claim.rule is not rules.one_above:
            decided = next(e for e in one.claim.evidence if e.label == one.by.label)
            wide = decided.find(frozen, together(len(one.claim.evidence)))
            verdict = one.claim.rule([wide], **one.claim.given).verdict
            assert verdict == "not reproduced", one.claim.name


def moves_most(frozen, arm: str) -> bool:
    """Whether this is the aggregator whose mean moves most between the three networks."""
    table = frozen["blood-morphology"].table("networks: scores").query("where == 'joint'")
    parts = table["arm"].str.split(", ", expand=True)
    means = table["balanced accuracy"].groupby([parts[0], parts[1]]).mean().unstack()
    return (means.max(axis=1) - means.min(axis=1)).idxmax() == arm


def loses_most_by_batch_norm(one: claims.Judgement, arm: str) -> bool:
    """Whether of all aggregators this is the one that moves most between the two norms."""
    moves = {each.label: abs(each.estimate) for each in one.beside if "batch norm" in each.label}
    return max(moves, key=moves.get).startswith(f"{arm}, ")


def excludes(claim: claims.Claim, frozen) -> bool:
    """Whether one interval at 95 % would exclude a claim: that of FedMedian with batch norm."""
    below = {one.label for one in claim.evidence if one.find(frozen).high < 0}
    assert all(label.startswith("FedMedian") and label.endswith("batch norm") for label in below)
    return bool(below)


def yes_to_all_leads(frozen) -> bool:
    """Whether no model has a higher F1 in the mean of the cohorts than saying yes to all."""
    table = frozen["scd-infarct"].table("other cohorts: scores").query("where == 'all'")
    means = table.groupby("arm")["F1"].mean().drop("prevalence", errors="ignore")
    return means.idxmax() == "all positive"


SAID: dict[str, tuple[str, Callable[[claims.Judgement, claims.Frozen], bool]]] = {
    "transfer-federated-better": (
        "a gain of more than 0.15 points is excluded for this network",
        lambda one, frozen: 0 < one.found[0].high < 0.0015,
    ),
    "morphology-fedopt-collapses": (
        "the paper's 21 points, and half of them, lie outside the interval",
        lambda one, frozen: one.found[0].high < 0.105,
    ),
    "morphology-single-site": (
        "one by one, FedMedian with batch norm would exclude it by one of two computations",
        lambda one, frozen: excludes(one.claim, frozen) and not excludes(one.claim, claims.read_other()),
    ),
    "morphology-bands": (
        "250 of each of eleven classes",
        lambda one, frozen: (
            frozen["blood-morphology"].table("eleven classes: cells").groupby("seed").sum(numeric_only=True)
            == 250
        ).all(axis=None),
    ),
    "survival-close": (
        "within a seventh of that it could not be told at 95 %",
        lambda one, frozen: one.found[0].high > one.beside[1].estimate / 7 > 0,
    ),
    "survival-small-gain": (
        "by the same rule the smallest gains most on the patients of all, which stands beside, as does what "
        "the small ones gain there, which is above 0",
        lambda one, frozen: all(each.low > 0 for each in one.beside if "patients of all" in each.label),
    ),
    "survival-aggregations": (
        "the trimmed mean and the median of three clients are one",
        lambda one, frozen: (
            len({each[1:] for each in one.found if each.label[:7] in ("FedTrim", "FedMedi")}) == 1
        ),
    ),
    "survival-infarct-federated": (
        "on average over twenty cohorts every F1, for the children of all, is below that of yes to all",
        lambda one, frozen: yes_to_all_leads(frozen),
    ),
    "morphology-comparable": (
        "one by one, each with batch norm would exclude it",
        lambda one, frozen: all(
            e.find(frozen).high < one.claim.given["low"] for e in one.claim.evidence if "batch" in e.label
        ),
    ),
    "morphology-median-consistent": (
        "between which FedMedian moves most in the mean, and two norms of the first, between which it does, "
        "too",
        lambda one, frozen: moves_most(frozen, "FedMedian") and loses_most_by_batch_norm(one, "FedMedian"),
    ),
    "attention-confident": (
        "that colour alone passes",
        lambda one, frozen: one.beside[0].low > one.claim.given["margin"],
    ),
}
"""What the sentence on ours says of our results, and what must then hold of them."""


@pytest.mark.parametrize("name", SAID)
def test_what_a_claim_says_of_our_results_follows_from_them(name, frozen):
    (claim,) = [claim for _, claim in ALL if claim.name == name]
    words, holds = SAID[name]
    assert words in claim.ours
    assert holds(claims.judge(claim, frozen), frozen)


def test_the_best_of_several_needs_intervals_that_hold_together(frozen):
    best = [claim for _, claim in ALL if claim.rule is rules.one_above]
    assert best
    for claim in best:
        assert claim.level == together(len(claim.evidence)) > 0.95
        found = claims.judge(claim, frozen).found
        assert found == [one.find(frozen, claim.level) for one in claim.evidence]
        assert found != [one.find(frozen) for one in claim.evidence]


def test_what_is_said_of_an_unknown_hospital_rests_on_hospitals(frozen):
    about = [claim for _, claim in ALL if "external" in claim.name]
    assert len(about) == 3
    for claim in about:
        over = [one for one in claim.evidence if isinstance(one, OverHospitals)]
        assert over
        assert all(len(one.of) == 4 for one in over)


def test_an_unseen_hospital_has_no_batch_that_was_trained_on(frozen):
    """Barcelona's second batch decides only where Barcelona was left out as a whole."""
    batch = [one for _, claim in ALL for one in claim.evidence if "barcelona-2" in repr(one)]
    assert batch, "it is looked at"
    assert {result for one in batch for result, _ in one.reads()} == {"leave-one-out"}
    rows = frozen["leave-one-out"].table("frozen layers: scores").query("patients == 'unseen'")
    assert set(rows[rows["where"].str.startswith("barcelona")]["left out"]) == {"barcelona"}


# Mutation: change the rows that decide, and the verdict changes


def leaves(one: object, sign: int = 1) -> list[tuple[object, int]]:
    """Return the evidence that reads a table itself, with -1 where more of it makes the number less."""
    if isinstance(one, Mean | OverHospitals | Lowest):
        return [leaf for part in one.of for leaf in leaves(part, sign)]
    if isinstance(one, Less):
        return leaves(one.first, sign) + leaves(one.second, -sign)
    if isinstance(one, Apart):
        return [(one, sign), (replace(one, rows=one.other), -sign)]
    return [(one, sign)]


def changed(frozen, values: list[tuple[object, float]]) -> dict[str, FrozenResult]:
    """Return the results with another number in the rows that each leaf reads."""
    result = dict(frozen)
    for leaf, value in values:
        table = result[leaf.result].table(leaf.table)
        chosen = np.ones(len(table), dtype=bool)
        for column, held in leaf.rows.items():
            chosen &= (table[column] == held).to_numpy()
        columns = leaf.columns if isinstance(leaf, Stored) else (leaf.column,)
        for column in columns:
            table[column] = table[column].astype(float)
            table.loc[chosen, column] = value
        plain = {"columns": list(table.columns), "rows": table.to_numpy().tolist()}
        tables = result[leaf.result].tables | {leaf.table: plain}
        result[leaf.result] = replace(result[leaf.result], tables=tables)
    return result


def verdicts_of_perturbations(claim, frozen) -> set[str]:
    """Return the verdicts where what counts for a claim is high, low, and equal."""
    found = set()
    for more, less in ((0.97, 0.53), (0.03, 0.47), (0.5, 0.5)):
        signed = [pair for one in claim.evidence for pair in leaves(one)]
        mutated = changed(frozen, [(leaf, more if sign > 0 else less) for leaf, sign in signed])
        found.add(claims.judge(claim, mutated).verdict)
    return found


@pytest.mark.parametrize("claim", DECIDED, ids=named)
def test_other_numbers_give_another_verdict(claim, frozen):
    found = verdicts_of_perturbations(claim, frozen)
    assert found <= {"reproduced", "not reproduced", "cannot be told"}
    assert found - {claims.judge(claim, frozen).verdict}, "no change of the rows changes this verdict"


@pytest.mark.parametrize("claim", DECIDED, ids=named)
def test_every_row_that_a_claim_names_counts(claim, frozen):
    """A number that moves moves what is shown: no evidence is there for show."""
    for one in claim.evidence:
        before = one.find(frozen)
        for leaf, _ in leaves(one):
            assert one.find(changed(frozen, [(leaf, 0.313)])) != before, leaf


@pytest.mark.parametrize("claim", [claim for claim in CHECKED if claim.evidence[0].reads()], ids=named)
def test_other_counts_fail(claim, frozen):
    for one in claim.evidence:
        with pytest.raises(DataError, match="and not"):
            claims.judge(claim, changed(frozen, [(one, 777.0)]))


@pytest.mark.parametrize("claim", [claim for claim in CHECKED if not claim.evidence[0].reads()], ids=named)
def test_other_printed_numbers_fail(claim, frozen):
    for one in claim.evidence:
        assert any(fails(claim, one, place, frozen) for place in range(len(one.printed)))


def fails(claim, one: Arithmetic, place: int, frozen) -> bool:
    """Tell whether a claim fails if one of the numbers that a paper prints were another."""
    printed = list(one.printed)
    printed[place] = another(printed[place])
    evidence = [replace(one, printed=printed) if other is one else other for other in claim.evidence]
    try:
        claims.judge(replace(claim, evidence=evidence), frozen)
    except DataError:
        return True
    return False


def another(value):
    """Return another number, or a row of a table with other numbers."""
    if isinstance(value, Row):
        return value._replace(f1="50.00")
    return (value[0] + 1, *value[1:]) if isinstance(value, tuple) else round(0.6 * value, 2)


@pytest.mark.parametrize("claim", CHECKED, ids=named)
def test_what_is_checked_says_whether_the_claim_stands(claim, frozen):
    stands = claim.given["values"] == claim.given["said"]
    assert claims.judge(claim, frozen).numbers().startswith("as" if stands else "NOT as")


def test_the_arithmetic_refutes_two_sentences(frozen):
    refuted = {claim.name for claim in CHECKED if claims.judge(claim, frozen).numbers().startswith("NOT")}
    assert refuted == {"transfer-balanced", "transfer-attainable"}
    assert {one.claim.name for one in claims.judge_all(frozen) if one.shown() == "checked: no"} == refuted


def test_numbers_stand_beside_what_the_claim_needs():
    ratio, count = Found("ratio", 1.91, 1.91, 1.91), Found("images", 3256.0, 3256.0, 3256.0)
    assert against([ratio, count], [1.91, 3256]) == "as the claim says: ratio 1.91; images 3,256"
    assert against([ratio, count], [1, 3256]) == (
        "NOT as the claim says: ratio 1.91 (it needs 1); images 3,256"
    )


def test_a_missing_row_is_an_error_and_no_verdict(frozen):
    claim = next(claim for claim in DECIDED if claim.name == "attention-helps")
    other = replace(claim.evidence[0].first, rows={"arm": "no such arm", "where": "joint"})
    with pytest.raises(DataError, match="has no row with"):
        claims.judge(replace(claim, evidence=[other]), frozen)
    with pytest.raises(DataError, match="no frozen result 'attention-cnn'"):
        claims.judge(claim, {})


# Rules

NUMBERS = st.floats(-1, 1).map(lambda value: round(value, 3))
INTERVALS = st.lists(
    st.tuples(NUMBERS, NUMBERS, NUMBERS).map(sorted).map(lambda v: Found("", v[1], v[0], v[2])),
    min_size=1,
    max_size=5,
)


@settings(max_examples=100, deadline=None)
@given(found=INTERVALS, margin=NUMBERS)
def test_above_needs_all_intervals_above_and_one_below(found, margin):
    verdict = rules.above(found, margin).verdict
    assert (verdict == "reproduced") == all(one.low > margin for one in found)
    assert (verdict == "not reproduced") == any(one.high < margin for one in found)


@settings(max_examples=100, deadline=None)
@given(found=INTERVALS, margin=NUMBERS)
def test_one_above_needs_one_interval_above_and_all_below(found, margin):
    verdict = rules.one_above(found, margin).verdict
    assert (verdict == "reproduced") == any(one.low > margin for one in found)
    assert (verdict == "not reproduced") == all(one.high < margin for one in found)


@settings(max_examples=100, deadline=None)
@given(found=INTERVALS, ends=st.tuples(NUMBERS, NUMBERS).map(sorted))
def test_within_needs_all_intervals_inside_and_one_outside(found, ends):
    low, high = ends
    verdict = rules.within(found, low, high).verdict
    assert (verdict == "reproduced") == all(low <= one.low and one.high <= high for one in found)
    assert (verdict == "not reproduced") == any(one.high < low or one.low > high for one in found)


@settings(max_examples=50, deadline=None)
@given(found=INTERVALS, shift=st.floats(0, 1), margin=NUMBERS)
def test_better_numbers_never_make_a_verdict_worse(found, shift, margin):
    order = ["not reproduced", "cannot be told", "reproduced"]
    moved = [Found("", *(value + shift for value in one[1:])) for one in found]
    for rule in (rules.above, rules.above_in_settings, rules.one_above):
        assert order.index(rule(moved, margin).verdict) >= order.index(rule(found, margin).verdict)


@settings(max_examples=100, deadline=None)
@given(found=INTERVALS, margin=NUMBERS)
def test_settings_that_contradict_each_other_decide_nothing(found, margin):
    below, over = any(one.high < margin for one in found), any(one.low > margin for one in found)
    verdict = rules.above_in_settings(found, margin).verdict
    assert (verdict == "reproduced") == all(one.low > margin for one in found)
    assert (verdict == "not reproduced") == (below and not over)


def test_an_unknown_reason_is_refused():
    with pytest.raises(ValueError, match="reason 'whim' is unknown"):
        rules.cannot_be_told([], "whim")


def test_rules_are_short_enough_to_be_printed_and_know_no_claim():
    for rule in {claim.rule for _, claim in ALL}:
        assert len(inspect.getsource(rule).splitlines()) <= 10
    names = {claim.name for _, claim in ALL}
    assert not names & {
        node.value
        for node in ast.walk(ast.parse(inspect.getsource(rules)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


# Evidence


def result(**tables: pd.DataFrame) -> dict[str, FrozenResult]:
    """Return a frozen result of the name ``x`` that holds tables."""
    blank = {item.name: None for item in fields(FrozenResult)}
    plain = {
        name: {"columns": list(table), "rows": table.to_numpy().tolist()} for name, table in tables.items()
    }
    return {"x": FrozenResult(**(blank | {"tables": plain}))}


TWO_ARMS = pd.DataFrame(
    {"arm": ["a", "a", "a", "b", "b", "b"], "seed": [0, 1, 2, 2, 1, 0], "C": [0.7, 0.8, 0.9, 0.7, 0.7, 0.65]}
)


def of_arm(arm: str, **more) -> Scores:
    return Scores(label=arm, result="x", table="t", column="C", rows={"arm": arm}, **more)


def test_a_difference_is_paired_by_seed_and_not_by_row():
    found = Less(label="a less b", first=of_arm("a"), second=of_arm("b")).find(result(t=TWO_ARMS))
    assert found[1:] == pytest.approx(difference_interval([0.05, 0.10, 0.20]))


def test_a_difference_takes_the_seeds_that_both_have():
    fewer = TWO_ARMS.query("arm == 'a' or seed != 2")
    assert list(Less(label="", first=of_arm("a"), second=of_arm("b")).by_seed(result(t=fewer)).index) == [
        0,
        1,
    ]


def test_seeds_that_share_rows_widen_what_is_found():
    frozen = result(t=TWO_ARMS)
    assert of_arm("a", overlap=0.25).find(frozen)[1:] == seed_interval([0.7, 0.8, 0.9], overlap=0.25)
    both = Less(label="", first=of_arm("a", overlap=0.25), second=of_arm("b"))
    assert both.overlap == Mean(label="", of=[both, of_arm("b")]).overlap == 0.25


def test_a_mean_is_taken_seed_by_seed():
    mean = Mean(label="", of=[of_arm("a"), of_arm("b")]).by_seed(result(t=TWO_ARMS))
    assert mean.sort_index().tolist() == pytest.approx([0.675, 0.75, 0.8])


def test_several_rows_a_seed_are_refused():
    with pytest.raises(DataError, match="several rows"):
        Scores(label="both", result="x", table="t", column="C", rows={}).by_seed(result(t=TWO_ARMS))


def test_a_multiple_is_taken_seed_by_seed():
    frozen = result(t=TWO_ARMS)
    twice = Less(label="", first=of_arm("a"), second=of_arm("b"), times=0.5)
    expected = of_arm("a").by_seed(frozen) - 0.5 * of_arm("b").by_seed(frozen)
    assert twice.find(frozen)[1:] == pytest.approx(difference_interval(expected))


def test_the_lowest_has_the_lowest_of_each():
    frozen = result(t=TWO_ARMS)
    parts = [of_arm("a"), of_arm("b")]
    found, each = Lowest(label="", of=parts).find(frozen), [one.find(frozen) for one in parts]
    assert found.estimate == min(one.estimate for one in each)
    assert found.low == min(one.low for one in each)
    assert found.high == min(one.high for one in each)


def test_hospitals_count_once_however_many_seeds_they_have():
    hospitals = OverHospitals(label="", of=[of_arm("a"), of_arm("b")])
    means = [0.8, np.mean([0.7, 0.7, 0.65])]
    assert hospitals.find(result(t=TWO_ARMS))[1:] == pytest.approx(difference_interval(means))
    scores = replace(hospitals, interval=seed_interval)
    assert scores.find(result(t=TWO_ARMS), 0.9)[1:] == pytest.approx(seed_interval(means, 0.9))


def test_two_rows_are_so_far_apart():
    rows = pd.DataFrame({"engine": ["a", "b", "c", "c"], "F1": [0.5, 0.25, 0, 0]})
    one = Apart(label="", result="x", table="t", column="F1", rows={"engine": "a"}, other={"engine": "b"})
    assert one.find(result(t=rows))[1:] == (0.25, 0.25, 0.25)
    with pytest.raises(DataError, match="has 2 such rows"):
        replace(one, other={"engine": "c"}).find(result(t=rows))


def test_another_level_widens_an_interval_or_is_refused(frozen):
    for one in (one for claim in DECIDED for one in claim.evidence):
        if isinstance(one, Stored):
            with pytest.raises(DataError, match="holds intervals of 95% only"):
                one.find(frozen, 0.99)
        elif not isinstance(one, Apart):
            usual, wide = one.find(frozen), one.find(frozen, 0.99)
            assert usual.estimate == wide.estimate
            assert wide.low <= usual.low <= usual.high <= wide.high


def test_one_of_several_rows_is_not_picked_silently():
    rows = pd.DataFrame({"arm": ["a", "a"], "n": 0.5, "low": 0.4, "high": 0.6})
    stored = Stored(label="a", result="x", table="t", columns=("n", "low", "high"), rows={"arm": "a"})
    with pytest.raises(DataError, match="has 2 such rows"):
        stored.find(result(t=rows))


def test_a_total_must_be_the_same_for_every_seed():
    total = Total(label="n", result="x", table="t", column="n")
    same = pd.DataFrame({"seed": [0, 0, 1, 1], "n": [1, 2, 3, 0]})
    assert total.find(result(t=same)).estimate == 3
    with pytest.raises(DataError, match="it is no constant"):
        total.find(result(t=same.assign(n=[1, 2, 3, 4])))


# Pages


def test_an_unknown_chapter_is_refused():
    with pytest.raises(HemaflError, match="chapter 'five' is unknown"):
        claims.find("five")


def test_what_is_printed_names_the_tables_and_the_rule(frozen):
    claim = next(claim for claim in DECIDED if claim.name == "survival-close")
    text = claims.judge(claim, frozen).page()
    assert "read: mds-survival.json, table 'registry: scores'" in text
    assert "rule: within(low=-0.01, high=0.01)" in text
    assert "def within" in claims.source(claim)


def test_all_dataclasses_of_evidence_are_values():
    kinds = [kind for kind in vars(evidence).values() if inspect.isclass(kind) and is_dataclass(kind)]
    assert all(kind.__dataclass_params__.frozen for kind in kinds)


def page_of(chapter: str) -> nbformat.NotebookNode:
    return nbformat.read(BOOK / f"{claims.CHAPTERS[chapter].page}.ipynb", as_version=4)


@pytest.mark.parametrize("chapter", claims.CHAPTERS)
def test_the_table_of_a_chapter_shows_the_computed_verdicts(chapter):
    (cell,) = [cell for cell in page_of(chapter).cells if f'verdicts("{chapter}")' in cell.source]
    assert cell.outputs[0]["data"] == verdicts(chapter)._repr_mimebundle_()
    shown = re.findall(r"<td><b>([^<]+)</b>", cell.outputs[0]["data"]["text/html"])
    assert len(shown) == len(claims.CHAPTERS[chapter].claims)
    assert set(shown) <= {*claims.VERDICTS, "checked: no"}


@pytest.mark.parametrize(
    "page", sorted(BOOK.rglob("*.ipynb")) + sorted(BOOK.rglob("*.md")), ids=lambda p: p.stem
)
def test_no_verdict_is_typed(page):
    if page.suffix == ".ipynb":
        cells = nbformat.read(page, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = page.read_text(encoding="utf-8")
    typed = re.compile(r"\*\*(reproduced|not \w+|cannot be told)\*\*(?!\n: )", re.IGNORECASE)
    assert not typed.search(text), "only the introduction defines the verdicts, and nobody types one"


def test_the_introduction_has_every_claim():
    text = (BOOK / "intro.md").read_text(encoding="utf-8")
    assert "\n:::{claims}\n:::\n" in text
    assert "hemafl claims" in text
    for verdict in claims.VERDICTS:
        assert f"**{verdict}**" in text.lower()


def test_the_table_at_build_time_is_the_computed_one(frozen):
    directive = object.__new__(ClaimsDirective)
    directive.state = SimpleNamespace(
        document=SimpleNamespace(settings=SimpleNamespace(env=SimpleNamespace(docname="book/intro")))
    )
    found = claims.judge_all(frozen, ["blood-morphology"])
    found[0] = replace(found[0], elsewhere=f"not {found[0].verdict}")
    rows = directive.table(found).findall(nodes.row)
    cells = [[entry.astext() for entry in row] for row in rows][1:]
    assert [row[0] for row in cells] == [f"{one.shown()} {one.differs()}".strip() for one in found]
    assert [row[1] for row in cells] == [one.claim.says for one in found]
    links = [link["reftarget"] for link in directive.table(found).findall(pending_xref)]
    assert links == [one.claim.anchor for one in found]


def test_another_processor_is_heard_where_it_computed_what_a_claim_rests_on(frozen):
    claim = next(claim for claim in DECIDED if claim.name == "attention-helps")
    assert claims.judge_twice(claim, frozen, {}).elsewhere is None
    assert claims.judge_twice(claim, frozen, {"scd-infarct": frozen["scd-infarct"]}).elsewhere is None
    same = claims.judge_twice(claim, frozen, {"attention-cnn": frozen["attention-cnn"]})
    assert same.elsewhere == same.verdict
    assert same.differs() == ""
    assert f"on another processor: {same.verdict}" in same.page()


def test_a_verdict_that_another_processor_changes_is_told_in_every_table(frozen):
    claim = next(claim for claim in DECIDED if claim.name == "attention-helps")
    one = replace(claims.judge(claim, frozen), verdict="reproduced", elsewhere="cannot be told")
    assert one.differs() == "on another processor: cannot be told"
    assert one.differs() in html_table([one])
    assert one.differs() in Verdicts([one])._repr_mimebundle_()["text/plain"]
    same, alone = replace(one, elsewhere="reproduced"), replace(one, elsewhere=None)
    assert counted_twice([one, alone, same]) == (
        "2 of these 3 claims rest on training that another kind of processor ran too, with the same seeds: "
        "by what it computed the verdict changes for 1, as the table says there."
    )
    assert counted_twice([same, alone]).endswith("by what it computed no verdict changes.")


@pytest.mark.parametrize("changed", ["protocol", "data", "seeds"])
def test_what_another_processor_computed_is_of_the_same_experiment(tmp_path, changed):
    (tmp_path / claims.OTHER).mkdir()
    for place in (tmp_path, tmp_path / claims.OTHER):
        shutil.copy(claims.FOLDER / "all-networks.json", place)
    assert list(claims.read_other(tmp_path)) == ["all-networks"]
    own = load(tmp_path / "all-networks.json")
    other = {
        "protocol": {**own.protocol, "preset": "another"},
        "data": [{"name": "cells", "checksum": "other"}],
        "seeds": [*own.seeds, 99],
    }
    assert same_experiment(own, replace(own, protocol=own.protocol | {"more": "is said"}))
    altered = replace(own, **{changed: other[changed]})
    altered = replace(altered, protocol_hash=protocol_hash(altered.protocol))
    (tmp_path / "all-networks.json").write_text(json.dumps(asdict(altered)), encoding="utf-8")
    with pytest.raises(DataError, match="is of another protocol, other data or seeds"):
        claims.read_other(tmp_path)


def test_what_was_trained_end_to_end_has_other_numbers_from_another_processor(frozen):
    other = claims.read_other()
    assert other.keys() >= {"attention-cnn", "blood-morphology"}
    for name, result in other.items():
        assert result.tables.keys() == frozen[name].tables.keys()
        assert result.tables != frozen[name].tables, f"{name}: one computation suffices"


def test_verdicts_can_be_asked_of_another_folder(tmp_path):
    for name in claims.RESULTS:
        shutil.copy(claims.FOLDER / f"{name}.json", tmp_path)
    path = tmp_path / "attention-cnn.json"
    altered = json.loads(path.read_text(encoding="utf-8"))
    scores = altered["tables"]["5 clients, 16 rounds: scores"]
    accuracy = scores["columns"].index("accuracy")
    for row in scores["rows"]:
        row[accuracy] /= 2
    path.write_text(json.dumps(altered), encoding="utf-8")
    said, book = (
        CliRunner().invoke(app, ["claims", *more]).output.splitlines()
        for more in (["--folder", str(tmp_path)], [])
    )
    changed = [line for line in said if line not in book]
    assert any(
        line.startswith("not reproduced  Five clients with more rounds reach 96.6 %.") for line in changed
    )
    missing = CliRunner().invoke(app, ["claims", "--folder", str(tmp_path / "none")])
    assert "is no folder; name one" in " ".join(missing.output.split())


def test_the_command_prints_every_verdict_and_the_rules(frozen):
    done = CliRunner().invoke(app, ["claims"])
    assert done.output.count("\n") == len(ALL)
    assert [line[:16].strip() for line in done.output.splitlines()] == [
        one.verdict for one in claims.judge_all(frozen)
    ]
    one = CliRunner().invoke(app, ["claims", "blood-morphology"])
    assert "def above(" in one.output
    assert CliRunner().invoke(app, ["claims", "five"]).exit_code != 0
