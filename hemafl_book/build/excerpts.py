"""A Sphinx extension that carries the texts of all pages to the search page, which shows where words stand.

They are a script, because a page on a memory stick may not read another one.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes

FILE = "texts.js"
PAGE = "search"


def texts(page: nodes.document) -> Iterator[tuple[list[str], str]]:
    """Yield of each section its anchors and its own words, without those of the sections within it."""
    for section in page.findall(nodes.section):
        yield section["ids"], " ".join(words(section))


def words(part: nodes.Element) -> Iterator[str]:
    """Yield the blocks of a part that a reader reads, each in one line."""
    for child in part.children:
        if isinstance(child, nodes.TextElement):
            if not isinstance(child, nodes.raw | nodes.comment | nodes.math_block):
                yield " ".join(child.astext().split())
        elif isinstance(child, nodes.Element) and not isinstance(child, nodes.section):
            yield from words(child)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx: the script is written once all pages are, and only the search page loads it."""
    app.connect("html-page-context", _load)
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _load(app: Any, name: str, *_: Any) -> None:
    if name == PAGE:
        app.add_js_file(FILE, loading_method="defer")
        app.add_js_file("excerpts.js", loading_method="defer")


def _write(app: Any, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    found = {name: list(texts(app.env.get_doctree(name))) for name in sorted(app.env.found_docs)}
    script = f"window.HEMAFL_TEXTS = {json.dumps(found, ensure_ascii=False, sort_keys=True)};\n"
    Path(app.outdir, "_static", FILE).write_text(script, encoding="utf-8")
