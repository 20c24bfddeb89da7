"""A Sphinx extension that makes a deck of slides of every notebook that has marked cells.

A cell with the tag ``slide`` stands in the deck: a code cell by what it shows, without its code; a cell of
text by its headings, formulas, lists, exercises and questions, and by the first sentence of each paragraph.
A slide ends with what a cell shows, or with its section. Solutions and references are left out.

The deck of ``PAGE.html`` is ``PAGE-slides.html`` beside it, so that its links and pictures are those of the
page, and it needs no network either. The page links to it from its box of goals.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.osutil import relative_uri
from sphinx_design.dropdown import dropdown_main

TAG = "slide"
LEFT_OUT = ("References",)
LINES_A_CELL = 10_000
"""MyST numbers the lines of a notebook's n-th cell from n times this."""

SENTENCE_END = re.compile(r"[.?!](?=\s|$)")
WHOLE = (
    nodes.bullet_list,
    nodes.enumerated_list,
    nodes.math_block,
    nodes.table,
    nodes.figure,
    nodes.container,
    dropdown_main,
)
STYLES = ("pygments.css", "explorer.css", "book.css", "slides.css")
SCRIPTS = ("charts.js", "overlays.js", "explorer.js", "book.js", "figures.js", "wide.js", "slides.js")
FORMULAS = re.compile(
    r"<script[^>]*>window\.MathJax.*?</script>|<script[^>]*vendor/tex-svg\.js[^>]*></script>"
)

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}: slides</title>
{head}
</head>
<body class="hemafl-slides">
<main class="bd-article">
{slides}
</main>
<nav aria-label="Slides">
<button type="button" id="back">Back</button>
<output id="place" aria-live="polite">1 of {count}</output>
<button type="button" id="next">Next</button>
<a href="{page}">The chapter</a>
</nav>
</body>
</html>
"""


@dataclass
class Slide:
    """A title, what it stands under, and the pieces of the page that it shows."""

    title: str
    above: str
    anchor: str
    pieces: list[nodes.Node] = field(default_factory=list)
    full: bool = False


def slides(page: nodes.document) -> list[Slide]:
    """Return the slides of a page, in its order; none if it has no marked cell."""
    made: list[Slide] = []
    marked = set(marked_cells(page))
    for section, cell, node in blocks(page):
        title, *above = titles(section)
        if cell not in marked or title in LEFT_OUT:
            continue
        found = list(shown(node))
        if not found:
            continue
        anchor = section["ids"][0]
        if not made or made[-1].anchor != anchor or made[-1].full:
            made.append(Slide(title, above[0] if above else "", anchor))
        made[-1].pieces += found
        made[-1].full = is_code(node)
    return made


def marked_cells(page: nodes.document) -> Iterator[int]:
    """Yield the numbers of the cells that have the tag."""
    tags = page.get("slide_cells", [])
    yield from tags


def blocks(page: nodes.document) -> Iterator[tuple[nodes.section, int, nodes.Element]]:
    """Yield each block of the text with its section and the number of its cell."""
    cell = 0

    def walk(section: nodes.section) -> Iterator[tuple[nodes.section, int, nodes.Element]]:
        nonlocal cell
        for node in section.children[1:]:
            if is_code(node):
                cell = node["cell_index"]
            elif isinstance(node, nodes.Element) and node.line:
                cell = node.line // LINES_A_CELL - 1
            if isinstance(node, nodes.section):
                yield from walk(node)
            elif isinstance(node, nodes.Element):
                yield section, cell, node

    for section in page.children:
        if isinstance(section, nodes.section):
            yield from walk(section)


def titles(section: nodes.Node) -> list[str]:
    """Return the titles of a section and of those around it but the page, the innermost first."""
    own = section[0].astext()
    parent = section.parent
    if isinstance(parent, nodes.section) and isinstance(parent.parent, nodes.section):
        return [own, *titles(parent)]
    return [own]


def is_code(node: nodes.Node) -> bool:
    """Return whether a node is a cell of code."""
    return getattr(node, "attributes", {}).get("nb_element") == "cell_code"


def shown(node: nodes.Element) -> Iterator[nodes.Node]:
    """Yield what a slide shows of a block."""
    classes = node.get("classes", [])
    if is_code(node):
        outputs = node.findall(
            lambda one: getattr(one, "attributes", {}).get("nb_element") == "cell_code_output"
        )
        for output in outputs:
            kept = output.deepcopy()
            for printed in list(kept.findall(nodes.literal_block)):
                printed.parent.remove(printed)
            if kept.children:
                yield kept
    elif "solution" in classes:
        return
    elif isinstance(node, nodes.paragraph):
        yield first_sentence(node)
    elif isinstance(node, nodes.Admonition) and "exercise" not in classes:
        lists = (nodes.bullet_list, nodes.enumerated_list)
        yield from (each.deepcopy() for each in node.findall(lambda one: isinstance(one, lists)))
    elif isinstance(node, (*WHOLE, nodes.Admonition)):
        yield node.deepcopy()


def first_sentence(paragraph: nodes.paragraph) -> nodes.paragraph:
    """Return a copy of a paragraph that ends with its first sentence, markup kept."""
    copy = paragraph.deepcopy()
    for place, child in enumerate(copy.children):
        end = SENTENCE_END.search(child.astext()) if isinstance(child, nodes.Text) else None
        if end:
            copy[place] = nodes.Text(child.astext()[: end.end()])
            del copy[place + 1 :]
            break
    return copy


def deck(app: Any, name: str, page: nodes.document, made: list[Slide]) -> str:
    """Return the HTML of a page's slides."""
    up = "../" * name.count("/")
    own = f"{name.rpartition('/')[2]}.html"
    page.settings = app.builder.docsettings
    writer = app.builder.create_translator(page, app.builder)
    shown = [section_of(writer, slide, number, len(made)) for number, slide in enumerate(made, start=1)]
    shown = [slide.replace('href="#', f'href="{own}#') for slide in shown]  # what the page alone has
    styles = [f'<link rel="stylesheet" href="{up}_static/{file}">' for file in STYLES]
    scripts = [f'<script defer src="{up}_static/{file}"></script>' for file in SCRIPTS]
    built = Path(app.outdir, f"{name}.html").read_text(encoding="utf-8")
    formulas = FORMULAS.findall(built) if any('class="math' in slide for slide in shown) else []
    title = html.escape(titles(page[0])[0])
    head = "\n".join([*styles, *formulas, *scripts])
    return PAGE.format(title=title, head=head, slides="\n".join(shown), count=len(made), page=own)


def section_of(writer: nodes.NodeVisitor, slide: Slide, number: int, count: int) -> str:
    """Return a slide as HTML."""
    holder = nodes.container()
    holder.document = writer.document
    holder += slide.pieces
    before = len(writer.body)
    for piece in holder:
        piece.walkabout(writer)
    body = "".join(writer.body[before:])
    above = f'<p class="above">{html.escape(slide.above)}</p>' if slide.above else ""
    level = "h1" if number == 1 else "h2"
    return (
        f'<section class="slide" id="slide-{number}" tabindex="-1" aria-label="Slide {number} of {count}">'
        f"{above}<{level}>{html.escape(slide.title)}</{level}>{body}</section>"
    )


def note_marks(app: Any, page: nodes.document) -> None:
    """Keep with a page which of its cells are marked, for text has no metadata in it."""
    source = Path(app.env.doc2path(app.env.docname))
    if source.suffix == ".ipynb":
        import nbformat

        cells = nbformat.read(source, as_version=4).cells
        page["slide_cells"] = [
            place for place, cell in enumerate(cells) if TAG in cell.metadata.get("tags", [])
        ]


def link(app: Any, page: nodes.document, name: str) -> None:
    """Link from the box of goals of a page to its slides."""
    box = next(iter(page.findall(nodes.admonition)), None)
    if app.builder.name == "html" and box is not None and any(marked_cells(page)):
        target = f"{name.rpartition('/')[2]}-slides.html"
        box += nodes.paragraph(
            "", "", nodes.reference("", "This chapter as slides", refuri=target), nodes.Text(".")
        )


def write(app: Any, error: Exception | None) -> None:
    """Write a deck beside each page that has marked cells."""
    if error is not None or app.builder.name != "html":
        return
    for name in sorted(app.env.found_docs):
        if not app.env.get_doctree(name).get("slide_cells"):
            continue
        page = app.env.get_and_resolve_doctree(name, app.builder)
        app.builder.post_process_images(page)  # a page that is not written anew has not named its pictures
        made = slides(page)
        render_as(app.builder, name)
        Path(app.outdir, f"{name}-slides.html").write_text(deck(app, name, page, made), encoding="utf-8")


def render_as(builder: Any, name: str) -> None:
    """Have a builder render pieces as those of a page, for the way to its pictures."""
    builder.current_docname = name
    builder.imgpath = relative_uri(builder.get_target_uri(name), "_images")
    builder.secnumbers, builder.fignumbers = {}, builder.env.toc_fignumbers.get(name, {})


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-read", note_marks)
    app.connect("doctree-resolved", link)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
