"""A Sphinx extension that opens what a paper does not say with a map: each exposure, and how it begins."""

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes

from hemafl_book.build.terms import without_formulas

TITLE = "What the paper does not say"
EXPOSURE = re.compile(r"[a-z]\. ")
SENTENCE = re.compile(r".+?[.?!](?=\s|$)", re.DOTALL)


def add_map(page: nodes.document) -> None:
    """Insert the map under the title of the section, if the page has one."""
    for section in page.findall(nodes.section):
        if section[0].astext() == TITLE:
            items = [item(exposure) for exposure in exposures(section)]
            section.insert(1, nodes.bullet_list("", *items, classes=["hemafl-map"]))


def exposures(section: nodes.section) -> Iterator[nodes.section]:
    """Yield the sections of the exposures, whose titles begin with a letter."""
    for part in section.findall(nodes.section):
        if part is not section and EXPOSURE.match(part[0].astext()):
            yield part


def item(exposure: nodes.section) -> nodes.list_item:
    """Return an entry of the map: the title as a link, and the first sentence of the section."""
    link = nodes.reference("", exposure[0].astext(), internal=True, refid=exposure["ids"][0])
    text = next(exposure.findall(nodes.paragraph), nodes.paragraph())
    first = SENTENCE.match(without_formulas(text).astext())
    said = [nodes.Text(f" {first[0]}")] if first else []
    return nodes.list_item("", nodes.paragraph("", "", link, *said))


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", lambda app, page, name: add_map(page))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
