"""What the reader sees, as HTML: pictures with their words. The saved report holds the same."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from hemafl_book.clinic.explorer.cells import Cell, picture
from hemafl_book.clinic.explorer.drawing import WHOLE, Zoom, enlarged, overlay
from hemafl_book.clinic.explorer.looking import Question, Seen, largest
from hemafl_book.clinic.explorer.models import BOOKS_OWN, METHODS
from hemafl_book.clinic.explorer.trust import Measure
from hemafl_lib.clinic import SavedModel, warnings_of
from hemafl_lib.clinic.report import data_uri, percent, score_table, sentence, square

STYLE = """
.hemafl-desk { font: 15px/1.45 system-ui, sans-serif; color: inherit; max-width: 100% }
.hemafl-desk figure { display: inline-block; vertical-align: top; margin: 0 .8rem .8rem 0; max-width: 100% }
.hemafl-desk figure img { max-width: 100%; height: auto; image-rendering: pixelated; border: 1px solid #777 }
.hemafl-desk figure img[tabindex] { cursor: zoom-in }
.hemafl-desk figure img[tabindex]:focus { position: fixed; inset: 0; margin: auto; z-index: 1000;
  cursor: zoom-out; max-width: none;
  width: min(92vw, 92vh); height: min(92vw, 92vh); box-shadow: 0 0 0 100vmax rgba(0, 0, 0, .75) }
@media print { .hemafl-desk figure img { print-color-adjust: exact; -webkit-print-color-adjust: exact } }
.hemafl-desk figcaption, .hemafl-desk figure p { margin: .2rem 0 }
.hemafl-desk .warning { border: 2px solid #b35900; padding: .4rem .8rem }
.hemafl-desk table { border-collapse: collapse; display: block; overflow-x: auto }
.hemafl-desk td, .hemafl-desk th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top }
.hemafl-desk caption { text-align: left; font-weight: 600 }
"""


ENLARGE = "Click to enlarge; click elsewhere to go back"
"""What a picture says to a pointer that rests on it."""


@dataclass(frozen=True)
class Look:
    """How maps are drawn.

    ``opacity`` is that of the largest relevance, 0 to 1; ``smooth`` blends the squares; ``together`` gives
    the maps of one method one scale; ``width`` is that of a picture in pixels; ``zoom`` says which part of
    picture and maps is shown.
    """

    opacity: float = 0.85
    smooth: bool = False
    together: bool = True
    width: int = 256
    zoom: Zoom = WHOLE


def figures(cell: Cell, seen: Sequence[Seen], question: Question, look: Look) -> str:
    """Return the picture and, beside it, what each view shows."""
    taken = picture(cell, seen[0].model.size).original
    scales = largest(seen, look.together)
    part = "" if look.zoom.times == 1 else f", a part of it {look.zoom.times} times as large"
    parts = [
        figure(
            enlarged(taken, look.zoom),
            look.width,
            f"{cell.name}, as it was taken{part}",
            f"<strong>{html.escape(cell.name)}</strong>{part}",
        )
        + "".join(
            view_figure(taken, each, scale, question, look) for each, scale in zip(seen, scales, strict=True)
        )
    ]
    known = f"<p>{html.escape(cell.source.capitalize())}.</p>"
    return known + f'<p role="status"><strong>{html.escape(verdict(seen))}</strong></p>' + "".join(parts)


def view_figure(taken: Image.Image, seen: Seen, scale: float, question: Question, look: Look) -> str:
    """Return a map over the picture in grey with the model's answer, or why there is none."""
    title = f"<strong>{html.escape(seen.view.model)}</strong><br>{html.escape(METHODS[seen.view.method])}"
    said = sentence(seen.model, seen.row)
    if seen.relevance is None:
        why = f'<p class="warning">{html.escape(seen.refused)}</p>' if seen.refused else ""
        return f'<figure style="width: {look.width}px"><figcaption>{title}</figcaption>{said}{why}</figure>'
    drawn = overlay(taken, seen.relevance, scale, opacity=look.opacity, smooth=look.smooth, zoom=look.zoom)
    rather = f" rather than for {question.against}" if question.against else ""
    speaks = f"speaks for {seen.explained}{rather}"
    against = ", hatched blue against" if float(seen.relevance.min()) < 0 else ""
    grid = " by ".join(str(side) for side in seen.relevance.shape)
    alt = f"Where the model {seen.view.model} looked: orange {speaks}"
    caption = f"{title}<br>orange {html.escape(speaks)}{against}; {grid} places"
    return figure(drawn, look.width, alt, caption, said)


def figure(image: Image.Image, width: int, alt: str, caption: str, below: str = "") -> str:
    """Return an image with its alternative text, a caption (HTML) and what stands below (HTML)."""
    shown = f'width="{width}" height="{width}" src="{data_uri(image)}" alt="{html.escape(alt)}"'
    return (
        f'<figure style="width: {width}px"><img tabindex="0" title="{ENLARGE}" {shown}>'
        f"<figcaption>{caption}</figcaption>{below}</figure>"
    )


def picture_of(cell: Cell, size: int) -> str:
    """Return a cell as it was taken, as text that a page can hold."""
    return data_uri(square(picture(cell, size).original))


NO_SECOND_OPINION = " No second opinion: the book's models began as one network and share cells."
"""What is said where models agree that are all of the book."""


def verdict(seen: Sequence[Seen]) -> str:
    """Return in a sentence what the models say together, each asked once."""
    models = {each.view.model: each for each in seen}
    given: dict[str, list[str]] = {}
    for name, each in models.items():
        if each.in_scope:
            given.setdefault(each.row["class"], []).append(name)
    silent = sum(not each.in_scope for each in models.values())
    rest = (
        f" {silent} of {len(models)} give no answer: the picture is outside what they know." if silent else ""
    )
    if not given:
        return "None of these models knows pictures of this kind, so none gives an answer."
    if len(given) == 1:
        ((name, by),) = given.items()
        if len(models) == 1:
            return f"The answer is {name}.{rest}"
        related = NO_SECOND_OPINION if BOOKS_OWN.issuperset(by) else ""
        return f"All that answer say {name}.{related}{rest}"
    told = "; ".join(f"{name} ({', '.join(by)})" for name, by in given.items())
    return f"The models disagree: {told}.{rest}"


PROBABILITIES = (
    "Probabilities, adjusted on cells of home; the table of the model says by how much they are off where. "
    "* in the set"
)


def probability_table(seen: Sequence[Seen]) -> str:
    """Return the calibrated probabilities of each model that gives an answer, one row a class."""
    models = {each.view.model: each for each in seen}
    classes = dict.fromkeys(name for each in models.values() for name in each.model.card.classes)
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in models)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>'
        + "".join(f"<td>{probability(each, name)}</td>" for each in models.values())
        + "</tr>"
        for name in classes
    )
    return f'<table><caption>{PROBABILITIES}</caption><tr><th scope="col">class</th>{head}</tr>{rows}</table>'


def probability(seen: Seen, name: str) -> str:
    """Return a class's probability as it is read, with a star if the class is in the set."""
    if not seen.in_scope or name not in seen.model.card.classes:
        return "-"
    star = " *" if name in seen.row["set"].split("; ") else ""
    return f"{html.escape(percent(seen.row[f'p {name}']))}{star}"


def cards(models: Mapping[str, SavedModel], *, unfolded: bool = False) -> str:
    """Return what the cards say of the models: what they are, and how good they are where.

    They are folded, but ``unfolded`` on what may be printed: paper cannot unfold.
    """
    fold = "<details open>" if unfolded else "<details>"
    return "".join(
        f"{fold}<summary>{html.escape(name)}: what it is, and how good it is where</summary>"
        f"<p>{html.escape(model.card.title)}. {html.escape(model.card.about)}</p>"
        f"{score_table(model)}</details>"
        for name, model in models.items()
    )


def warnings(models: Mapping[str, SavedModel]) -> str:
    """Return the sentences that stand above everything that models say."""
    return f'<p class="warning"><strong>{html.escape(" ".join(warnings_once(models)))}</strong></p>'


def warnings_once(models: Mapping[str, SavedModel]) -> list[str]:
    """Return what is to be said before anything that models say, each sentence once."""
    return list(dict.fromkeys(line for model in models.values() for line in warnings_of(model)))


def reference_row(references: Mapping[str, Cell], size: int) -> str:
    """Return a cell of each class, small, to hold the cell against."""
    return "".join(
        figure(square(picture(cell, size).original), 96, cell.name, html.escape(name))
        for name, cell in references.items()
    )


def line(told: str) -> str:
    """Return a sentence that a screen reader says when it appears."""
    return f'<p role="status">{html.escape(told)}</p>'


def said_by(name: str, told: str) -> str:
    """Return a sentence with whom it is about."""
    return f"<p><strong>{html.escape(name)}</strong>: {html.escape(told)}</p>"


def report_card(measures: Sequence[Measure]) -> str:
    """Return what was measured of a map, one row a question."""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(each.question)}</th><td>{html.escape(each.verdict)}</td>'
        f"<td>{html.escape(each.sentence)}</td></tr>"
        for each in measures
    )
    return f"<table><caption>How far to trust this map</caption>{rows}</table>"


def framed(content: str) -> str:
    """Return HTML with its style, as a widget holds it."""
    return f'<style>{STYLE}</style><div class="hemafl-desk">{content}</div>'
