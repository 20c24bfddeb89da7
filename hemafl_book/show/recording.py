"""An explorer's pictures as plain JSON values, which its scripts draw in Jupyter and in the built page."""

import base64
import json
import math
import string
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hemafl_book.show.explorer import Explorer, Setting
from hemafl_book.show.pictures import Chart, Overlay, Picture, Series
from hemafl_lib.errors import HemaflError

ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
"""The 64 characters of packed numbers."""

ROWS = ("y", "low", "high")
"""The names of a series' rows of numbers; the last two are its band."""

CODES = len(ALPHABET) ** 2
"""How many numbers two characters can tell apart."""


def recording(explorer: Explorer, *, live: bool = False) -> dict[str, Any]:
    """Return what the scripts need; ``live`` adds the values that only the live face offers.

    Parts that all pictures share are stored once, under ``shared``, and every cell once, under ``images``.
    """
    images: dict[bytes, int] = {}
    packing = _Packing(explorer) if explorer.packed else None
    pictures = {
        place_of(explorer, setting, live=live): _entry(picture, images, packing)
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
        "controls": [[c.text(value) for value in c.choices(live=live)] for c in explorer.controls],
        "shared": shared,
        "pictures": {
            place: {key: value for key, value in picture.items() if key not in shared}
            for place, picture in pictures.items()
        },
    }
    if explorer.prediction:
        asked = explorer.prediction
        content["prediction"] = {
            "right": list(asked.answers).index(asked.right),
            "because": asked.because,
            "place": place_of(explorer, asked.shows, live=live),
        }
    if images:
        content["images"] = [data_url(png) for png in images]
    if packing:
        content["packing"] = packing.plain()
    return content


def place_of(explorer: Explorer, setting: Setting, *, live: bool = False) -> str:
    """Return where the controls stand at a setting, for example ``"2,0"``."""
    controls = zip(explorer.controls, setting, strict=True)
    return ",".join(str(control.choices(live=live).index(value)) for control, value in controls)


def setting_at(explorer: Explorer, place: str, *, live: bool = False) -> Setting:
    """Return the setting at which the controls stand; the inverse of `place_of`."""
    controls = zip(explorer.controls, map(int, place.split(",")), strict=True)
    return tuple(control.choices(live=live)[position] for control, position in controls)


def plain(picture: Picture) -> dict[str, Any]:
    """Return a picture that stands alone, as plain JSON values; a cell is a data URL."""
    if isinstance(picture, Overlay):
        return {**_plain_overlay(picture), "image": data_url(picture.image)}
    return {**asdict(picture), "series": [_plain_series(series) for series in picture.series]}


def data_url(png: bytes) -> str:
    """Return the bytes of a PNG file as an address that a page can show."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _entry(picture: Picture, images: dict[bytes, int], packing: "_Packing | None") -> dict[str, Any]:
    """Return a picture whose cell, or packed numbers, refer to what all pictures share."""
    if isinstance(picture, Overlay):
        return {**_plain_overlay(picture), "image": images.setdefault(picture.image, len(images))}
    if packing:
        content = asdict(picture)
        del content["series"]
        return content | packing.pack(picture.series)
    return plain(picture)


def _plain_series(series: Series) -> dict[str, Any]:
    """Return a series with four significant digits."""
    rows = [[_short(float(value)) for value in row] for row in series.rows]
    return {**_head(series), **dict(zip(ROWS, rows, strict=False))}


def _head(series: Series) -> dict[str, Any]:
    """Return a series without its numbers."""
    head: dict[str, Any] = {"name": series.name, "x": [_short(x) for x in series.x]}
    marks = {"quiet": series.quiet, "band": series.band is not None}
    return head | {mark: True for mark, holds in marks.items() if holds}


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _plain_overlay(picture: Overlay) -> dict[str, Any]:
    """Return a relevance map as one byte a value, row by row; the cell takes the place of ``image``."""
    values = np.round(255 * picture.relevance).astype(np.uint8)
    return {
        "kind": "overlay",
        "image": None,
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

    def __init__(self, explorer: Explorer) -> None:
        ranges = {tuple(shown.y_range) for shown in explorer.recorded.values() if isinstance(shown, Chart)}
        if explorer.has_overlays or len(ranges) > 1:
            raise HemaflError(
                f"Explorer '{explorer.name}' packs its numbers, which needs charts with one 'y_range'; "
                "give all the same range, or packed=False."
            )
        low, high = ranges.pop()
        self.digits = math.floor(math.log10((CODES - 2) / (high - low)))
        self.first = math.floor(low * 10.0**self.digits)
        self.heads: dict[str, int] = {}

    def pack(self, series: Sequence[Series]) -> dict[str, Any]:
        """Return the number of the series' head, and all their numbers in one text."""
        text = "".join(self._text(one.name, value) for one in series for row in one.rows for value in row)
        head = json.dumps([_head(one) for one in series])
        return {"head": self.heads.setdefault(head, len(self.heads)), "y": text}

    def plain(self) -> dict[str, Any]:
        """Return what the scripts need to read the numbers again."""
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
