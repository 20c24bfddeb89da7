"""Claims are data: every verdict follows from the rows that decide it, and from nothing else."""

import ast
import inspect
import re
from dataclasses import fields, is_dataclass, replace
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

from hemafl_book.build.claims import ClaimsDirective
from hemafl_book.cli import app
from hemafl_book.papers import claims
from hemafl_book.papers.claims import evidence, rules
from hemafl_book.papers.claims.evidence import ClassLess, ClassScore, Less, Mean, Scores, Stored, Total
from hemafl_book.papers.claims.rules import Found
from hemafl_book.results import FrozenResult
from hemafl_book.show.claims import verdicts
from hemafl_lib.errors import DataError, HemaflError
from hemafl_lib.evaluation import difference_interval, seed_interval

BOOK = Path(__file__).resolve().parents[2] / "book"
ALL = [(name, claim) for name, chapter in claims.CHAPTERS.items() for claim in chapter.claims]
DECIDED = [claim for _, claim in ALL if any(one.reads() for one in claim.evidence)]
CHECKED = [claim for _, claim in ALL if claim.rule is rules.checked]


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
    assert claim.beside or claim.rule is rules.equal


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
    if one.verdict == "not reproduced" and claim.rule is not rules.equal:
        bound = claim.given.get("margin", claim.given.get("low", 0.0))
        assert one.by.high < bound or one.by.low > claim.given.get("high", np.inf)


def test_not_reproduced_holds_although_several_intervals_were_looked_at(frozen):
    """Bonferroni: with as many intervals as the claim has, at 95 % for all of them together."""
    several = [one for one in claims.judge_all(frozen) if one.verdict == "not reproduced"]
    for one in (one for one in several if one.claim.rule in (rules.above, rules.within)):
        decided = next(e for e in one.claim.evidence if e.label == one.by.label)
        level = 1 - 0.05 / len(one.claim.evidence)
        wide = difference_interval(decided.by_seed(frozen), level, overlap=decided.overlap)
        assert wide.high < one.claim.given.get("low", 0.0), one.claim.name


def test_an_unseen_hospital_has_no_batch_that_was_trained_on(frozen):
    """Barcelona's second batch decides only where Barcelona was left out as a whole."""
    batch = [one for _, claim in ALL for one in claim.evidence if "barcelona-2" in repr(one)]
    assert batch, "it is looked at"
    assert {result for one in batch for result, _ in one.reads()} == {"leave-one-out"}
    rows = frozen["leave-one-out"].table("frozen layers: scores").query("patients == 'unseen'")
    assert set(rows[rows["where"].str.startswith("barcelona")]["left out"]) == {"barcelona"}


# Mutation: change the rows that decide, and the verdict changes


def leaves(one: object) -> list[object]:
    """Return the pieces of evidence that read a table themselves, in order."""
    if isinstance(one, Scores | Stored | ClassScore | Total):
        return [one]
    parts = one.of if isinstance(one, Mean) else (one.first, one.second)
    return [leaf for part in parts for leaf in leaves(part)]


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
    """Return the verdicts where what counts for a claim is as high, as low, and as equal as can be."""
    found = set()
    for first, second in ((0.97, 0.03), (0.03, 0.97), (0.5, 0.5)):
        values = []
        for one in claim.evidence:
            values += [(leaf, second if place else first) for place, leaf in enumerate(leaves(one))]
        mutated = changed(frozen, values)
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
        for leaf in leaves(one):
            value = 777.0 if isinstance(leaf, Total) else 0.313
            assert one.find(changed(frozen, [(leaf, value)])) != before, leaf


@pytest.mark.parametrize("claim", CHECKED, ids=named)
def test_other_printed_numbers_fail(claim, frozen):
    (one,) = claim.evidence
    failures = 0
    for place, value in enumerate(one.printed):
        other = (value[0] + 1, *value[1:]) if isinstance(value, tuple) else round(0.6 * value, 2)
        printed = (*one.printed[:place], other, *one.printed[place + 1 :])
        try:
            claims.judge(replace(claim, evidence=[replace(one, printed=printed)]), frozen)
        except DataError:
            failures += 1
    assert failures >= 1, "the numbers that the paper prints do not matter to what is said of them"


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
    for rule in (rules.above, rules.one_above):
        assert order.index(rule(moved, margin).verdict) >= order.index(rule(found, margin).verdict)


def test_equal_is_equal():
    assert rules.equal([Found("", 3.0, 3.0, 3.0)], [3]).verdict == "reproduced"
    assert (
        rules.equal([Found("", 3.0, 3.0, 3.0), Found("", 4.0, 4.0, 4.0)], [3, 5]).verdict == "not reproduced"
    )


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


def test_f1_is_that_of_the_counts():
    # Of 50 cells of the class 30 are found; 40 cells are called so.
    row = pd.DataFrame(
        {"class": ["k"], "recall": [0.6], "precision": [0.75], "f1": [2 / 3], "support": [50.0]}
    )
    found = ClassScore(label="", result="x", table="t", column="f1", rows={"class": "k"}).find(result(t=row))
    assert found.estimate == pytest.approx(2 / 3)
    shares = evidence.share_interval(30 / 60, 60)
    assert found.low == pytest.approx(2 * shares.low / (1 + shares.low))


def test_class_scores_differ_with_newcombes_interval():
    # Newcombe (1998), Statistics in Medicine 17, 873-890, table II, example (a): 56/70 less 48/80.
    rows = pd.DataFrame({"class": ["a", "b"], "recall": [56 / 70, 48 / 80], "support": [70.0, 80.0]})
    rows = rows.assign(precision=0.5, f1=0.5)
    one, other = (
        ClassScore(label=name, result="x", table="t", column="recall", rows={"class": name}) for name in "ab"
    )
    found = ClassLess(label="", first=one, second=other).find(result(t=rows))
    assert found[1:] == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_one_of_several_rows_is_not_picked_silently():
    rows = pd.DataFrame({"class": ["a", "a"], "recall": 0.5, "precision": 0.5, "f1": 0.5, "support": 9.0})
    score = ClassScore(label="a", result="x", table="t", column="f1", rows={"class": "a"})
    with pytest.raises(DataError, match="has 2 such rows"):
        score.find(result(t=rows))


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
    assert "book/results/mds-survival.json, table 'registry: scores'" in text
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
    shown = re.findall(r"<td><b>([^<]+)</b></td>", cell.outputs[0]["data"]["text/html"])
    assert len(shown) == len(claims.CHAPTERS[chapter].claims)
    assert set(shown) <= set(claims.VERDICTS)


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
    found = claims.judge_all(frozen, ["attention-cnn"])
    rows = directive.table(found).findall(nodes.row)
    cells = [[entry.astext() for entry in row] for row in rows][1:]
    assert [row[0] for row in cells] == [one.verdict for one in found]
    assert [row[1] for row in cells] == [one.claim.says for one in found]
    links = [link["reftarget"] for link in directive.table(found).findall(pending_xref)]
    assert links == [one.claim.anchor for one in found]


def test_the_command_prints_every_verdict_and_the_rules(frozen):
    done = CliRunner().invoke(app, ["claims"])
    assert done.output.count("\n") == len(ALL)
    assert [line[:16].strip() for line in done.output.splitlines()] == [
        one.verdict for one in claims.judge_all(frozen)
    ]
    one = CliRunner().invoke(app, ["claims", "blood-morphology"])
    assert "def above(" in one.output
    assert CliRunner().invoke(app, ["claims", "five"]).exit_code != 0
