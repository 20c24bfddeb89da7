"""A Sphinx extension that carries the meanings of the glossary to every page, for the links of its terms.

They are a script, because a page on a memory stick may not read another one.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes

FILE = "terms.js"


def meanings(page: nodes.document) -> Iterator[tuple[str, str]]:
    """Yield the anchor and the meaning of each term of a page's glossaries, a formula as three dots."""
    for glossary in page.findall(addnodes.glossary):
        for item in glossary.findall(nodes.definition_list_item):
            text = " ".join(part.astext() for part in without_formulas(item).findall(nodes.definition))
            yield from ((anchor, text) for term in item.findall(nodes.term) for anchor in term["ids"])


def without_formulas(item: nodes.Element) -> nodes.Element:
    """Return a copy in which three dots stand for each formula."""
    copy = item.deepcopy()
    for formula in list(copy.findall(nodes.math)):
        formula.replace_self(nodes.Text("…"))
    return copy


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx: the script is written beside the pages once all are."""
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _write(app: Any, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    objects = app.env.domains["std"].objects
    pages = sorted({page for (kind, _), (page, _) in objects.items() if kind == "term"})
    found = dict(pair for page in pages for pair in meanings(app.env.get_doctree(page)))
    script = f"window.HEMAFL_TERMS = {json.dumps(found, ensure_ascii=False, sort_keys=True)};\n"
    Path(app.outdir, "_static", FILE).write_text(script, encoding="utf-8")
