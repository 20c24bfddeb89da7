"""What an explorer shows for one setting: a chart, or a cell with a relevance map over it.

Pictures are simple data. The live face and the built page draw them with the same scripts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from hemafl_lib.errors import HemaflError

Kind = Literal["lines", "bars", "stacked"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Series:
    """A named series of numbers: ``y`` over ``x``; for bars ``x`` holds the categories.

    A ``quiet`` series is a thin grey line without markers, behind the others, for one of many clients or for
    a level such as chance. Quiet series with one name have one entry in the legend. ``band`` holds a low and
    a high number for each y, between which most repetitions lie; of lines it is shaded.
    """

    name: str
    x: Sequence[float] | Sequence[str]
    y: Sequence[float]
    quiet: bool = False
    band: tuple[Sequence[float], Sequence[float]] | None = None

    @property
    def rows(self) -> list[Sequence[float]]:
        """The numbers of the series, and of its band if it has one: y, low, high."""
        return [self.y, *(self.band or ())]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(self.x) != len(row):
                raise HemaflError(
                    f"Series '{self.name}' has {len(self.x)} x and {len(row)} y; give as many of each."
                )
            if not all(math.isfinite(value) for value in row):
                raise HemaflError(f"Series '{self.name}' has a y that is not finite; leave that point out.")


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart: lines, bars side by side, or stacked bars (one bar a category, one segment a series).

    The ranges are fixed so that the eye can compare settings; ``summary`` says in a sentence or two
    what is to be seen, and is read aloud by a screen reader after every change.
    """

    kind: Kind
    series: Sequence[Series]
    x_title: str
    y_title: str
    y_range: tuple[float, float]
    summary: str
    x_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise HemaflError(
                f"Chart: kind '{self.kind}' is not known; choose one of {', '.join(get_args(Kind))}."
            )
        if not self.series:
            raise HemaflError("Chart: 'series' is empty; give at least one series.")
        if self.kind == "lines":
            self._check_lines()
        else:
            self._check_bars()

    def _check_lines(self) -> None:
        if self.x_range is None:
            raise HemaflError("Chart: lines need an 'x_range'; give the same one for every setting.")

    def _check_bars(self) -> None:
        categories = list(self.series[0].x)
        if any(list(series.x) != categories for series in self.series):
            raise HemaflError("Chart: the series of bars differ in 'x'; give all the same categories.")
        if any(series.quiet or series.band for series in self.series):
            raise HemaflError("Chart: bars cannot be quiet or have a band; use kind='lines'.")
        if self.kind == "stacked" and any(value < 0 for series in self.series for value in series.y):
            raise HemaflError("Chart: a stacked bar has a segment below 0; use kind='bars'.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlay:
    """A cell with a relevance map over it. How opaque and how smooth the map is, the reader decides.

    Parameters
    ----------
    image
        The cell as the bytes of a PNG file. Equal images are stored once for all settings.
    relevance
        ``float[h, w]`` in 0..1, at the native grid of the method, for example 8 x 8.
    title
        What stands above the cell, for example its class and the model's prediction.
    summary
        A sentence or two on what is to be seen, read aloud by a screen reader after every change.
    """

    image: bytes
    relevance: np.ndarray
    title: str
    summary: str

    def __post_init__(self) -> None:
        if not self.image.startswith(PNG_SIGNATURE):
            raise HemaflError("Overlay: 'image' does not begin as a PNG file; give the bytes of one.")
        if self.relevance.ndim != 2 or not self.relevance.size:
            raise HemaflError(
                f"Overlay: 'relevance' has the shape {list(self.relevance.shape)}; give float[h, w]."
            )
        if not ((self.relevance >= 0) & (self.relevance <= 1)).all():
            raise HemaflError(
                "Overlay: 'relevance' leaves 0..1 or is not finite; divide by its largest value."
            )


Picture = Chart | Overlay
"""What an explorer shows for one setting."""
