"""A Sphinx extension with the directive ``{data-cards} KIND``: a section for each cohort of a kind."""

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from hemafl_lib.data.cards import CARDS, Card, catalogue

WIDTHS = (18, 82)


class DataCardsDirective(SphinxDirective):
    """``{data-cards} images`` or ``{data-cards} tables``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a section for each card, under an id such as ``card-barcelona``."""
        names = catalogue(self.arguments[0]).index
        return [section(CARDS[name]) for name in names]


def section(card: Card) -> nodes.section:
    """Return a card as a section with a table."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in WIDTHS), cols=len(WIDTHS))
    rows = card.rows()
    title = rows.pop("title")
    group += nodes.tbody("", *(row(heading, text) for heading, text in rows.items()))
    table = nodes.table("", group, classes=["hemafl-card"])
    heading = nodes.title("", "", nodes.literal(text=card.name))
    return nodes.section("", heading, nodes.paragraph(text=title), table, ids=[f"card-{card.name}"])


def row(heading: str, text: str) -> nodes.row:
    """Return one line of a card."""
    said = nodes.paragraph(text=text)
    return nodes.row("", nodes.entry("", nodes.strong(text=heading)), nodes.entry("", said))


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("data-cards", DataCardsDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
