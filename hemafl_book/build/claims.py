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

HEADINGS = ("Verdict", "Claim", "Its number", "Here", "Beside it")
WIDTHS = (12, 26, 14, 28, 20)


class ClaimsDirective(SphinxDirective):
    """``{claims}``: a table for each chapter."""

    def run(self) -> list[nodes.Node]:
        """Return the tables, and have the page built anew when a frozen result changes."""
        folder = Path(self.env.srcdir) / "book" / "results"
        for name in claims.RESULTS:
            self.env.note_dependency(str(folder / f"{name}.json"))
        frozen = claims.read_frozen(folder)
        parts: list[nodes.Node] = []
        for name, chapter in claims.CHAPTERS.items():
            found = claims.judge_all(frozen, [name])
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
        return row_of([nodes.strong(text=one.shown()), self.link(one.claim), *texts])

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


def row_of(cells: Sequence[nodes.Node]) -> nodes.row:
    """Return a row of a table."""
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("claims", ClaimsDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
