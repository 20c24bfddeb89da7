"""A Sphinx extension with the directive ``{claims}``: the verdicts of all chapters, computed at build time.

Each claim links to the cell of its chapter that decides; a link to a label that is not there fails the build.
A script of the page, `claims.js`, lets a reader choose a chapter and a verdict.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxDirective

from hemafl_book.papers import claims
from hemafl_book.papers.claims.rules import CHECKED

HEADINGS = ("Verdict", "Claim", "Its number", "Here", "Beside it")
WIDTHS = (12, 26, 14, 28, 20)


class ClaimsDirective(SphinxDirective):
    """``{claims}``: a table for each chapter."""

    def run(self) -> list[nodes.Node]:
        """Return the tables, and have the page built anew when a frozen result changes."""
        folder = Path(self.env.srcdir) / "book" / "results"
        for name in claims.RESULTS:
            for path in (folder / f"{name}.json", folder / claims.OTHER / f"{name}.json"):
                if path.exists():  # Sphinx takes what is not there for changed
                    self.env.note_dependency(str(path))
        frozen, other = claims.read_frozen(folder), claims.read_other(folder)
        all_claims = claims.judge_all(frozen, other=other)
        parts: list[nodes.Node] = [nodes.paragraph(text=counted_twice(all_claims))] if other else []
        for name, chapter in claims.CHAPTERS.items():
            found = claims.judge_all(frozen, [name], other)
            heading = nodes.rubric(text=f"{chapter.title}: {counted(found)}")
            parts.append(nodes.container("", heading, self.table(found), classes=["hemafl-claims-of", name]))
        return parts

    def table(self, found: Sequence[claims.Judgement]) -> nodes.table:
        """Return the judgements as a table of the page."""
        group = nodes.tgroup(cols=len(WIDTHS))
        group += [nodes.colspec(colwidth=width) for width in WIDTHS]
        group += nodes.thead("", row_of([nodes.Text(heading) for heading in HEADINGS]))
        group += nodes.tbody("", *(self.row(one) for one in found))
        return nodes.table("", group, classes=["hemafl-claims"])

    def row(self, one: claims.Judgement) -> nodes.row:
        """Return a judgement as a row."""
        texts = [nodes.Text(text) for text in (one.claim.number, one.numbers(), one.baselines())]
        verdict = nodes.inline("", "", nodes.strong(text=one.shown()))
        if one.differs():
            verdict += [nodes.Text(" "), nodes.inline(text=one.differs(), classes=["hemafl-elsewhere"])]
        return row_of([verdict, self.link(one.claim), *texts])

    def link(self, claim: claims.Claim) -> pending_xref:
        """Return what the claim says, as a link to the cell that decides it."""
        said = nodes.inline(text=claim.says)
        return pending_xref(
            "",
            said,
            refdoc=self.env.docname,
            refdomain="std",
            reftype="ref",
            reftarget=claim.anchor,
            refexplicit=True,
            refwarn=True,
        )


def counted(found: Sequence[claims.Judgement]) -> str:
    """Return how many claims have which verdict, as text."""
    verdicts = [one.verdict for one in found]
    return ", ".join(f"{verdicts.count(name)} {name}" for name in claims.VERDICTS if name in verdicts)


def counted_twice(found: Sequence[claims.Judgement]) -> str:
    """Return how many verdicts another processor's numbers would change, as text."""
    twice = [one for one in found if one.elsewhere and one.verdict != CHECKED]
    other = sum(bool(one.differs()) for one in twice)
    then = f"the verdict changes for {other}, as the table says there" if other else "no verdict changes"
    return (
        f"{len(twice)} of these {len(found)} claims rest on training that another kind of processor ran too, "
        f"with the same seeds: by what it computed {then}."
    )


def row_of(cells: Sequence[nodes.Node]) -> nodes.row:
    """Return a row of a table."""
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("claims", ClaimsDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
