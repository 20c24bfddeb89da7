"""Figures of numbers as the built page draws them: dots with whiskers, or lines, in plain data.

The page's own scripts draw them for the width, the theme and the paper they meet, and say the numbers as a
table beside them; in Jupyter plotly draws the figure that they were made from.
"""

import html
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hemafl_lib.errors import HemaflError


def markup(name: str, caption: str, picture: dict[str, Any]) -> str:
    """Return the HTML of a figure; ``book.js`` draws ``picture`` into it."""
    return (
        f'<figure class="hemafl-plot" id="{html.escape(name)}"><div class="hemafl-plot-canvas"></div>'
        f"<figcaption>{html.escape(caption)}</figcaption>"
        f'<script type="application/json">{script_json(picture)}</script></figure>'
    )


def script_json(value: Any) -> str:
    """Return compact JSON that can stand inside a script element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")


def intervals(series: Sequence[dict[str, Any]], x_title: str, marks: Sequence[float] = ()) -> dict[str, Any]:
    """Return a picture of one row a name, in it a dot a series with its whisker.

    Parameters
    ----------
    series
        Each a ``name``, the names of its rows ``y``, and as many ``x``; ``low`` and ``high`` where there are.
    x_title
        What the numbers are.
    marks
        Where a dashed line goes down, for example at chance.
    """
    return {"kind": "intervals", "series": list(series), "x_title": x_title, "marks": list(marks)}


def read(figure: go.Figure) -> dict[str, Any]:
    """Return the picture of a plotly figure; `HemaflError` if the page has no script to draw it."""
    traces = figure.data
    if not traces or any(trace.type != "scatter" for trace in traces):
        raise HemaflError("the built page draws scatter plots; give one, or draw the figure by `plots.png`.")
    title = figure.layout.xaxis.title.text or ""
    if all(isinstance(x, str) for trace in traces for x in trace.x):
        raise HemaflError("the built page draws names along y; turn the figure round.")
    if all(isinstance(y, str) for trace in traces for y in trace.y):
        marks = [shape.x0 for shape in figure.layout.shapes if shape.x0 == shape.x1]
        return intervals([_dots(trace) for trace in traces], title, marks)
    return _lines(traces, title, figure.layout.yaxis.title.text or "")


def _dots(trace: go.Scatter) -> dict[str, Any]:
    """Return a trace over names, without the points that are missing."""
    x, over = np.array(trace.x, float), trace.error_x.array
    known = np.isfinite(x)
    dots = {"name": trace.name or "", "x": _plain(x[known]), "y": [str(y) for y in np.array(trace.y)[known]]}
    if over is None:
        return dots
    under = over if trace.error_x.arrayminus is None else trace.error_x.arrayminus
    return {**dots, "low": _plain((x - under)[known]), "high": _plain((x + over)[known])}


def _lines(traces: Sequence[go.Scatter], x_title: str, y_title: str) -> dict[str, Any]:
    """Return traces over numbers, without the points that are missing."""
    series: list[dict[str, Any]] = []
    for trace in traces:
        x, y = np.array(trace.x, float), np.array(trace.y, float)
        known = np.isfinite(x) & np.isfinite(y)
        series.append({"name": trace.name or "", "x": _plain(x[known]), "y": _plain(y[known])})
    ranges = {f"{axis}_range": _range([value for one in series for value in one[axis]]) for axis in "xy"}
    return {"kind": "lines", "series": series, "x_title": x_title, "y_title": y_title, **ranges}


def _range(values: Sequence[float]) -> list[float]:
    """Return a little more than what the values span."""
    room = 0.04 * (max(values) - min(values)) or 0.5
    return [min(values) - room, max(values) + room]


def _plain(values: np.ndarray) -> list[float | None]:
    """Return numbers with six decimals, None for one that is missing."""
    return [round(float(value), 6) if np.isfinite(value) else None for value in values]
