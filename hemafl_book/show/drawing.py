"""An explorer's pictures drawn with matplotlib: the same data, ranges and colours as the page's own."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from hemafl_book.show import plots
from hemafl_book.show.pictures import Overlay, Picture, Series

COLOUR_MAP = "viridis"
"""From little to much relevance: even steps for every eye, and still ordered in print."""

OPACITY = 0.5
"""How opaque a relevance map is before the reader changes it, from 0 to 1."""

QUIET = {"color": "#888888", "linestyle": "-", "linewidth": 1.0, "marker": "", "alpha": 0.6, "zorder": 1}


def draw(
    picture: Picture | Overlay, alt: str, *, opacity: float = OPACITY, smooth: bool = False
) -> plots.Picture:
    """Draw a picture.

    Parameters
    ----------
    picture
        A chart, or a cell with its relevance map.
    alt
        What the explorer shows, whatever the setting.
    opacity, smooth
        How opaque the relevance map is (0 to 1), and whether it is interpolated (bilinear) instead of
        shown at its native grid. Charts have neither.
    """
    if isinstance(picture, Overlay):
        return _overlay(picture, alt, opacity, smooth)
    return _chart(picture, alt)


def _chart(picture: Picture, alt: str) -> plots.Picture:
    figure, ax = plots.axes(7.0, 3.8)
    if picture.kind == "lines":
        _lines(ax, picture)
    elif picture.kind == "bars":
        _bars(ax, picture.series)
    else:
        _stacked(ax, picture.series)
    if picture.kind != "lines":
        categories = picture.series[0].x
        ax.set_xticks(range(len(categories)), categories)
    ax.set_ylim(picture.y_range)
    ax.set_xlabel(picture.x_title)
    ax.set_ylabel(picture.y_title)
    if len(picture.series) > 1:
        figure.legend(loc="outside upper left", ncols=3, frameon=False)
    return plots.png(figure, alt)


def _lines(ax: Any, picture: Picture) -> None:
    for series in picture.series:
        if not series.quiet:
            ax.plot(series.x, series.y, label=series.name)
    named = set()
    for series in picture.series:
        if series.quiet:
            # A label that begins with an underscore has no entry in the legend.
            ax.plot(series.x, series.y, label="_" if series.name in named else series.name, **QUIET)
            named.add(series.name)
    ax.set_xlim(picture.x_range)


def _bars(ax: Any, series: Sequence[Series]) -> None:
    width = 0.8 / len(series)
    for i, one in enumerate(series):
        left = [place - 0.4 + width * (i + 0.5) for place in range(len(one.x))]
        ax.bar(left, one.y, width, label=one.name, **_fill(i))


def _stacked(ax: Any, series: Sequence[Series]) -> None:
    floor = np.zeros(len(series[0].x))
    for i, one in enumerate(series):
        ax.bar(range(len(one.x)), one.y, 0.8, bottom=floor, label=one.name, **_fill(i))
        floor = floor + one.y


def _fill(i: int) -> dict[str, Any]:
    colour = plots.PALETTE[i % len(plots.PALETTE)]
    return {"color": (colour, plots.OPACITIES[i % len(plots.OPACITIES)]), "edgecolor": colour}


def _overlay(picture: Overlay, alt: str, opacity: float, smooth: bool) -> plots.Picture:
    cell = np.asarray(Image.open(io.BytesIO(picture.image)).convert("RGB"))
    height, width = cell.shape[:2]
    figure, ax = plots.axes(4.6, 4.0)
    ax.set_axis_off()
    ax.imshow(cell, interpolation="nearest")
    relevance = ax.imshow(
        picture.relevance,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        cmap=COLOUR_MAP,
        vmin=0,
        vmax=1,
        alpha=opacity,
        interpolation="bilinear" if smooth else "nearest",
        interpolation_stage="data",
    )
    ax.set_title(picture.title, fontsize=10, wrap=True)
    figure.colorbar(relevance, label="relevance", shrink=0.8).solids.set_alpha(1)
    return plots.png(figure, alt)
