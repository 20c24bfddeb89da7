"""The static face of an explorer: HTML controls and the recorded pictures as JSON.

In the built page, ``book.js`` reads the JSON, ``charts.js`` draws charts and ``overlays.js`` cells.
"""

import base64
import html
import json
import math
import string
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from hemafl_book.show import plots
from hemafl_book.show.pictures import Overlay, Picture, Series
from hemafl_lib.errors import HemaflError

if TYPE_CHECKING:
    from hemafl_book.show.widgets import Control, Explorer

MAX_BYTES = 300_000
"""The largest recording that one page carries."""

ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
"""The 64 characters of packed numbers."""

CODES = len(ALPHABET) ** 2
"""How many numbers two characters can tell apart."""


def static_face(explorer: "Explorer") -> str:
    """Return the HTML of an explorer; `HemaflError` if its recording is too heavy for a page."""
    content = plots.script_json(recording(explorer))
    if len(content.encode()) > MAX_BYTES:
        raise HemaflError(
            f"Explorer '{explorer.name}' would put {len(content.encode()) // 1000} kB on the page (at most "
            f"{MAX_BYTES // 1000} kB); record fewer settings or fewer points."
        )
    sliders = "".join(
        _slider(explorer.name, control, value)
        for control, value in zip(explorer.controls, explorer.start, strict=True)
    )
    summary = html.escape(explorer.recorded[explorer.start].summary)
    return (
        f'<section class="hemafl-explorer" id="{explorer.name}" aria-label="{html.escape(explorer.alt)}">'
        f'<div class="hemafl-controls">{sliders}</div><div class="hemafl-picture"></div>'
        f'<p class="hemafl-summary" aria-live="polite">{summary}</p>'
        f'<script type="application/json">{content}</script></section>'
    )


def recording(explorer: "Explorer") -> dict[str, Any]:
    """Return what the page's scripts need, as plain JSON values.

    Parts that all pictures share are stored once, under ``shared``, and every cell once, under ``images``.
    """
    images: dict[bytes, int] = {}
    packing = _Packing(explorer) if explorer.packed else None
    pictures = {
        _place(explorer.controls, setting): _plain(picture, images, packing)
        for setting, picture in explorer.recorded.items()
    }
    first = next(iter(pictures.values()))
    shared = {
        key: first[key]
        for key in first
        if all(key in picture and picture[key] == first[key] for picture in pictures.values())
    }
    content = {
        "alt": explorer.alt,
        "controls": [control.texts() for control in explorer.controls],
        "shared": shared,
        "pictures": {
            place: {key: value for key, value in picture.items() if key not in shared}
            for place, picture in pictures.items()
        },
    }
    if images:
        content["images"] = [f"data:image/png;base64,{base64.b64encode(png).decode()}" for png in images]
    if packing:
        content["packing"] = packing.plain()
    return content


def _slider(name: str, control: "Control", value: Any) -> str:
    identifier = html.escape(f"{name}-{control.key}")
    position = list(control.values).index(value)
    text = html.escape(control.texts()[position])
    return (
        f'<div class="hemafl-control"><label for="{identifier}">{html.escape(control.label)}</label>'
        f'<input type="range" id="{identifier}" min="0" max="{len(control.values) - 1}" step="1" '
        f'value="{position}" aria-valuetext="{text}"><output for="{identifier}">{text}</output></div>'
    )


def _place(controls: Sequence["Control"], setting: tuple[Any, ...]) -> str:
    """Return where the sliders stand at a setting, for example ``"2,0"``."""
    positions = [list(c.values).index(value) for c, value in zip(controls, setting, strict=True)]
    return ",".join(map(str, positions))


def _plain(
    picture: Picture | Overlay, images: dict[bytes, int], packing: "_Packing | None"
) -> dict[str, Any]:
    if isinstance(picture, Overlay):
        return _plain_overlay(picture, images)
    content = asdict(picture)
    if packing:
        del content["series"]
        return content | packing.pack(picture.series)
    content["series"] = [_plain_series(series) for series in picture.series]
    return content


def _plain_series(series: Series) -> dict[str, Any]:
    """Return a series with four significant digits."""
    return {**_head(series), "y": [_short(float(y)) for y in series.y]}


def _head(series: Series) -> dict[str, Any]:
    """Return a series without its numbers."""
    head = {"name": series.name, "x": [_short(x) for x in series.x]}
    return {**head, "quiet": True} if series.quiet else head


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _plain_overlay(picture: Overlay, images: dict[bytes, int]) -> dict[str, Any]:
    """Return a relevance map as one byte a value, row by row, and the number of its cell."""
    values = np.round(255 * picture.relevance).astype(np.uint8)
    return {
        "kind": "overlay",
        "image": images.setdefault(picture.image, len(images)),
        "shape": list(values.shape),
        "relevance": base64.b64encode(values.tobytes()).decode(),
        "title": picture.title,
        "summary": picture.summary,
    }


class _Packing:
    """Writes numbers as text: two characters a number, in decimal steps over the y range.

    The step is the finest power of ten of which the range holds less than 4096, so that 0..1 keeps three
    decimals. Names and x are stored once for all pictures that share them, under ``heads``.
    """

    def __init__(self, explorer: "Explorer") -> None:
        pictures = list(explorer.recorded.values())
        if explorer.has_overlays or len({tuple(picture.y_range) for picture in pictures}) > 1:
            raise HemaflError(
                f"Explorer '{explorer.name}' packs its numbers, which needs charts with one 'y_range'; "
                "give all the same range, or packed=False."
            )
        low, high = pictures[0].y_range
        self.digits = math.floor(math.log10((CODES - 2) / (high - low)))
        self.first = math.floor(low * 10.0**self.digits)
        self.heads: dict[str, int] = {}

    def pack(self, series: Sequence[Series]) -> dict[str, Any]:
        """Return the number of the series' head, and all their y in one text."""
        text = "".join(self._text(one.name, value) for one in series for value in one.y)
        head = json.dumps([_head(one) for one in series])
        return {"head": self.heads.setdefault(head, len(self.heads)), "y": text}

    def plain(self) -> dict[str, Any]:
        """Return what the page needs to read the numbers again."""
        return {
            "first": self.first,
            "digits": self.digits,
            "alphabet": ALPHABET,
            "heads": [json.loads(head) for head in self.heads],
        }

    def _text(self, name: str, value: float) -> str:
        code = round(value * 10.0**self.digits) - self.first
        if not 0 <= code < CODES:
            raise HemaflError(f"Series '{name}' holds {value:g}, outside its 'y_range'; widen the range.")
        return ALPHABET[code // len(ALPHABET)] + ALPHABET[code % len(ALPHABET)]
