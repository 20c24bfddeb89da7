"""Figures for a page that is read on a screen, on paper, without a network and by ear.

Two kinds, for two kinds of data. `show` gives a figure that the page draws, and plotly in Jupyter; it is
for numbers that are the same on every machine (frozen results). `png` and `montage` give a picture and are
for what is trained or drawn live: stored pictures are not compared when the notebooks are tested.
Every figure has an alternative text that says what it shows.
"""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from hemafl_book.show import figures
from hemafl_lib.errors import HemaflError, one_line

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which stay apart for colour-blind readers; yellow is too pale for paper."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star")
"""Dashes and markers that keep lines apart when the page is printed without colours."""

OPACITIES = (1.0, 0.5, 0.15, 0.75, 0.3)
"""What keeps bars apart in print."""

TEMPLATE = go.layout.Template(
    layout={
        "colorway": list(PALETTE),
        "font": {"family": "system-ui, sans-serif", "size": 14},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "margin": {"l": 60, "r": 20, "t": 50, "b": 60},
        "xaxis": {"gridcolor": "#dddddd", "linecolor": "#555555", "automargin": True},
        "yaxis": {"gridcolor": "#dddddd", "linecolor": "#555555", "automargin": True},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02},
    },
    data={
        "scatter": [
            {"line": {"dash": dash}, "marker": {"symbol": marker, "size": 9}}
            for dash, marker in zip(DASHES, MARKERS, strict=True)
        ],
        "bar": [{"marker": {"pattern": {"shape": shape}}} for shape in ("", "/", ".", "x", "-", "|", "+")],
    },
)
"""The book's look for plotly: palette, dashes, markers and bar patterns, applied by `show`."""


@dataclass(frozen=True)
class Plot:
    """A figure with two faces: plotly's own in Jupyter, and in the built page what ``book.js`` draws."""

    figure: go.Figure
    name: str
    alt: str

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        content = _plain_json(go.Figure(self.figure).update_layout(template=TEMPLATE))
        return {
            "text/plain": f"{self.name}: {self.alt}",
            "text/html": figures.markup(self.name, self.alt, figures.read(self.figure)),
            "application/vnd.plotly.v1+json": {**content, "config": {"responsive": True}},
        }


@dataclass(frozen=True)
class Drawing:
    """A PNG with its alternative text.

    The text travels in the output's metadata; `hemafl_book.build.normalise` copies it to where the
    built page reads it.
    """

    png: bytes
    alt: str

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        data = {"text/plain": self.alt, "image/png": base64.b64encode(self.png).decode()}
        return data, {"image/png": {"alt": self.alt}}


def show(figure: go.Figure, name: str, alt: str) -> Plot:
    """Return a plot of deterministic data; `HemaflError` if the page cannot draw it.

    Parameters
    ----------
    figure
        A plotly figure.
    name
        Its HTML id, unique on the page: lower-case words joined by hyphens.
    alt
        What the figure shows, in a sentence or two; it is the caption too.
    """
    require_name(name)
    require_alt(alt)
    return Plot(figure, name, alt)


def intervals(summary: pd.DataFrame, places: Sequence[str], x_title: str) -> go.Figure:
    """Return a dot for each arm's mean at each place, with its interval as a whisker.

    Parameters
    ----------
    summary
        Columns arm, where, mean, low and high, as `hemafl_book.papers.scores.summary` returns them.
    places
        Which values of ``where`` to show; each has a colour and a marker of its own.
    x_title
        What the numbers are.
    """
    figure = go.Figure()
    arms = list(dict.fromkeys(summary["arm"]))
    for place, colour, marker in zip(places, PALETTE, MARKERS, strict=False):
        rows = summary[summary["where"] == place].set_index("arm").loc[arms]
        figure.add_scatter(
            x=stored(rows["mean"]),
            y=arms,
            name=place,
            mode="markers",
            marker={"color": colour, "symbol": marker, "size": 10},
            error_x={
                "type": "data",
                "array": stored(rows["high"] - rows["mean"]),
                "arrayminus": stored(rows["mean"] - rows["low"]),
            },
        )
    height = 140 + 34 * len(arms)
    return figure.update_layout(
        height=height,
        xaxis_title=x_title,
        yaxis={"autorange": "reversed"},
        scattermode="group",
        scattergap=0.5,
    )


def stored(values: pd.Series) -> list[float]:
    """Return numbers with six decimals: the last bits of a sum are not the same on every machine."""
    return [float(value) for value in values.round(6)]


def png(figure: Figure, alt: str, dpi: int = 110) -> Drawing:
    """Return a matplotlib figure as a PNG with an alternative text, for live numbers."""
    require_alt(alt)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    return Drawing(buffer.getvalue(), alt)


def axes(width: float = 7.0, height: float = 4.0) -> tuple[Figure, Any]:
    """Return a matplotlib figure and its axes in the book's look; sizes in inches.

    The figure belongs to the caller: nothing is kept in pyplot's global state.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.subplots()
    ax.set_prop_cycle(color=list(PALETTE), linestyle=_MPL_LINES, marker=_MPL_MARKERS)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#dddddd")
    ax.set_axisbelow(True)
    return figure, ax


_MPL_LINES = ["-", "--", ":", "-.", (0, (8, 3)), (0, (8, 3, 2, 3)), "-"]
_MPL_MARKERS = ["o", "s", "D", "^", "x", "P", "*"]


def montage(
    images: np.ndarray,
    titles: Sequence[str] | None = None,
    columns: int = 6,
    *,
    alt: str,
    inches: float = 1.3,
) -> Drawing:
    """Return images side by side as one PNG.

    Parameters
    ----------
    images
        ``uint8[N, 3, H, W]`` as an array or a tensor.
    titles
        One title an image, or none.
    columns
        Images a row.
    alt
        What the montage shows.
    inches
        The width of one image.
    """
    pixels = np.asarray(images)
    if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.dtype != np.uint8 or not len(pixels):
        raise HemaflError(
            f"montage: 'images' is {pixels.dtype}{list(pixels.shape)}; "
            "give at least one image as uint8[N, 3, H, W]."
        )
    if titles is not None and len(titles) != len(pixels):
        raise HemaflError(f"montage: {len(titles)} titles for {len(pixels)} images; give one title an image.")
    columns = min(columns, len(pixels))
    rows = math.ceil(len(pixels) / columns)
    title_inches = 0.0 if titles is None else 0.3
    figure = Figure(figsize=(columns * inches, rows * (inches + title_inches)), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in grid:
        ax.set_axis_off()
    for i, image in enumerate(pixels):
        grid[i].imshow(image.transpose(1, 2, 0), interpolation="nearest")
        if titles is not None:
            grid[i].set_title(one_line(titles[i], 60), fontsize=9, parse_math=False)  # a class may hold a $
    return png(figure, alt)


def beside_maps(
    images: np.ndarray,
    maps: np.ndarray,
    titles: Sequence[str],
    *,
    alt: str,
    columns: int = 3,
    inches: float = 1.5,
) -> Drawing:
    """Return every image with its relevance map to the right of it, as one PNG.

    The map lies beside the image and never over it, on the grid on which it was computed: dark is no positive
    relevance, bright the most of that map, in colours that keep their order in grey.

    Parameters
    ----------
    images
        ``uint8[N, 3, H, W]`` as an array or a tensor.
    maps
        ``float[N, h, w]``, of any grid.
    titles
        One title an image.
    alt
        What the figure shows.
    columns
        Pairs a row.
    inches
        The width of one image.
    """
    if not len(images) == len(maps) == len(titles):
        raise HemaflError(
            f"beside_maps: {len(images)} images, {len(maps)} maps, {len(titles)} titles; give as many."
        )
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(columns * 2 * inches, rows * (inches + 0.3)), layout="constrained")
    grid = figure.subplots(rows, 2 * columns, squeeze=False).ravel()
    for ax in grid:
        ax.set_axis_off()
    for i, (image, relevance) in enumerate(zip(np.asarray(images), np.asarray(maps), strict=True)):
        seen, looked = grid[2 * i], grid[2 * i + 1]
        seen.imshow(image.transpose(1, 2, 0), interpolation="nearest")
        seen.set_title(one_line(titles[i], 60), fontsize=9, loc="left", parse_math=False)
        looked.imshow(relevance.clip(min=0), cmap="cividis", vmin=0, interpolation="nearest")
    return png(figure, alt)


def require_name(name: str) -> None:
    """Refuse a name that cannot be an HTML id."""
    if not name or not all(part.isalnum() and part.isascii() for part in name.split("-")):
        raise HemaflError(f"'{name}' cannot be an HTML id; use letters, digits and single hyphens.")


def require_alt(alt: str) -> None:
    """Refuse a figure without an alternative text."""
    if not alt.strip():
        raise HemaflError("'alt' is empty; say in a sentence what the figure shows.")


def _plain_json(figure: go.Figure) -> dict[str, Any]:
    """Return a figure's data and layout as plain lists, which read better in a diff than packed arrays."""
    parts = figure.to_plotly_json()
    return {"data": _plain(parts["data"]), "layout": _plain(parts["layout"])}


def _plain(value: Any) -> Any:
    """Unpack plotly's base64 arrays and NumPy's values; a missing number becomes ``None``."""
    if isinstance(value, dict) and value.keys() >= {"dtype", "bdata"}:
        array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
        shape = [int(size) for size in str(value.get("shape", array.size)).split(",")]
        return _plain(array.reshape(shape).tolist())
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value
