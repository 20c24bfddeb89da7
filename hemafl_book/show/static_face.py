"""The static face of an explorer: HTML controls and the recorded pictures as JSON.

In the built page, ``book.js`` brings it to life with the scripts that the live face uses too.
"""

import html
from typing import Any

from hemafl_book.show.explorer import Control, Explorer, Prediction
from hemafl_book.show.figures import script_json
from hemafl_book.show.recording import recording
from hemafl_lib.errors import HemaflError

MAX_BYTES = 300_000
"""The largest recording that one page carries."""


def static_face(explorer: Explorer) -> str:
    """Return the HTML of an explorer; `HemaflError` if its recording is too heavy for a page."""
    content = script_json(recording(explorer))
    if len(content.encode()) > MAX_BYTES:
        raise HemaflError(
            f"Explorer '{explorer.name}' would put {len(content.encode()) // 1000} kB on the page (at most "
            f"{MAX_BYTES // 1000} kB); record fewer settings or fewer points."
        )
    return markup(explorer, f'<script type="application/json">{content}</script>')


def markup(explorer: Explorer, content: str = "", *, live: bool = False) -> str:
    """Return the HTML of an explorer's controls, prediction and summary, the same for both faces.

    Parameters
    ----------
    explorer
        What is shown.
    content
        HTML that stands behind the summary.
    live
        Whether the controls offer what has to be computed.
    """
    controls = "".join(
        (_list if control.nominal else _slider)(explorer.name, control, control.choices(live=live), value)
        for control, value in zip(explorer.controls, explorer.start, strict=True)
    )
    summary = html.escape(explorer.recorded[explorer.start].summary)
    return (
        f'<section class="hemafl-explorer" id="{explorer.name}" aria-label="{html.escape(explorer.alt)}">'
        f"{_prediction(explorer.prediction)}"
        f'<div class="hemafl-controls">{controls}</div><div class="hemafl-picture"></div>'
        f'<p class="hemafl-summary" aria-live="polite">{summary}</p>{content}</section>'
    )


def _slider(name: str, control: Control, choices: list[Any], value: Any) -> str:
    identifier, position = html.escape(f"{name}-{control.key}"), choices.index(value)
    text = html.escape(control.text(choices[position]))  # the start may write 2.0 as 2
    return (
        f'<div class="hemafl-control"><label for="{identifier}">{html.escape(control.label)}</label>'
        f'<input type="range" id="{identifier}" min="0" max="{len(choices) - 1}" step="1" '
        f'value="{position}" aria-valuetext="{text}">'
        f'<output for="{identifier}">{text}</output></div>'
    )


def _list(name: str, control: Control, choices: list[Any], value: Any) -> str:
    identifier = html.escape(f"{name}-{control.key}")
    options = "".join(
        f'<option value="{position}"{" selected" if choice == value else ""}>'
        f"{html.escape(control.text(choice))}</option>"
        for position, choice in enumerate(choices)
    )
    return (
        f'<div class="hemafl-control"><label for="{identifier}">{html.escape(control.label)}</label>'
        f'<select id="{identifier}">{options}</select></div>'
    )


def _prediction(asked: Prediction | None) -> str:
    if asked is None:
        return ""
    buttons = "".join(f'<button type="button">{html.escape(answer)}</button>' for answer in asked.answers)
    return (
        f'<fieldset class="hemafl-prediction"><legend>Predict, then look</legend>'
        f"<p>{html.escape(asked.question)}</p>{buttons}"
        f'<p class="hemafl-verdict" role="status"></p></fieldset>'
    )
