"""An explorer with two faces: live in Jupyter, driven by recorded results in the built page.

An `Explorer` is a few sliders and one picture. In Jupyter, moving a slider shows the recorded picture
or computes it in the background. In the built page there is no Python: plain HTML sliders choose among
the recorded pictures, and ``book.js`` draws them. Both faces show the same data.
"""

import html
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import ipywidgets

from hemafl_lib import progress
from hemafl_lib.errors import HemaflError
from hemafl_lib.notebook import plots

MAX_BYTES = 300_000
"""The largest recording that one page carries."""

Setting = tuple[Any, ...]
"""One value of every control, in the order of the controls."""


@dataclass(frozen=True)
class Control:
    """One slider: the key that ``compute`` reads, a label, the values in order, and how they are written.

    ``format`` is a format string, for example ``"{:.1f}"`` or ``"{} hospitals"``.
    """

    key: str
    label: str
    values: Sequence[Any]
    format: str = "{}"

    def __post_init__(self) -> None:
        if not self.values:
            raise HemaflError(f"Control '{self.key}' has no values; give at least one.")

    def texts(self) -> list[str]:
        """Return every value as the reader sees it."""
        return [self.format.format(value) for value in self.values]


@dataclass(frozen=True)
class Series:
    """A named series of numbers: ``y`` over ``x``; for bars ``x`` holds the categories."""

    name: str
    x: Sequence[float] | Sequence[str]
    y: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise HemaflError(
                f"Series '{self.name}' has {len(self.x)} x and {len(self.y)} y; give as many of each."
            )


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What an explorer shows for one setting: simple data, drawn by either face.

    The ranges are fixed so that the eye can compare settings; ``summary`` says in a sentence or two
    what is to be seen, and is read aloud by a screen reader after every change.
    """

    kind: Literal["lines", "bars"]
    series: Sequence[Series]
    x_title: str
    y_title: str
    y_range: tuple[float, float]
    summary: str
    x_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("lines", "bars"):
            raise HemaflError(f"Picture: kind '{self.kind}' is not known; choose 'lines' or 'bars'.")
        if self.kind == "lines" and self.x_range is None:
            raise HemaflError("Picture: lines need an 'x_range'; give the same one for every setting.")
        if not self.series:
            raise HemaflError("Picture: 'series' is empty; give at least one series.")


Compute = Callable[[dict[str, Any]], Picture]


@dataclass(frozen=True)
class Explorer:
    """Sliders and one picture.

    Parameters
    ----------
    name
        The HTML id, unique on the page.
    controls
        The sliders, in order.
    alt
        What the picture shows, whatever the setting.
    recorded
        Pictures by setting: a tuple with one value a control. Without ``compute`` every combination
        must be there. Numbers are stored to four significant digits.
    compute
        Turns ``{key: value}`` into a picture; called by the live face where nothing is recorded.
    initial
        The setting to start with; the first recorded one by default.
    """

    name: str
    controls: Sequence[Control]
    alt: str
    recorded: Mapping[Setting, Picture] = field(default_factory=dict)
    compute: Compute | None = None
    initial: Setting | None = None

    def __post_init__(self) -> None:
        plots.require_name(self.name)
        plots.require_alt(self.alt)
        if not self.recorded:
            raise HemaflError(
                f"Explorer '{self.name}' has nothing recorded; record at least its first setting."
            )
        possible = set(settings(self.controls))
        for setting in [*self.recorded, self.start]:
            if setting not in possible:
                raise HemaflError(
                    f"Explorer '{self.name}': {setting} is no setting of its controls; correct it."
                )
        if self.start not in self.recorded:
            raise HemaflError(
                f"Explorer '{self.name}': the initial setting {self.start} is not recorded; record it."
            )
        if self.compute is None and len(self.recorded) < len(possible):
            missing = next(setting for setting in settings(self.controls) if setting not in self.recorded)
            raise HemaflError(
                f"Explorer '{self.name}': {missing} is not recorded; record it or give 'compute'."
            )

    @property
    def start(self) -> Setting:
        """The setting that is shown first."""
        return next(iter(self.recorded)) if self.initial is None else self.initial

    def live(self) -> ipywidgets.Widget:
        """Return the live face: ipywidgets that compute in the background."""
        return LiveFace(self).widget

    def static(self) -> str:
        """Return the static face: HTML controls and the recorded pictures as JSON."""
        content = plots.script_json(self._content())
        if len(content.encode()) > MAX_BYTES:
            raise HemaflError(
                f"Explorer '{self.name}' would put {len(content.encode()) // 1000} kB on the page (at most "
                f"{MAX_BYTES // 1000} kB); record fewer settings or fewer points."
            )
        sliders = "".join(
            self._slider(control, value) for control, value in zip(self.controls, self.start, strict=True)
        )
        summary = html.escape(self.recorded[self.start].summary)
        return (
            f'<section class="hemafl-explorer" id="{self.name}" aria-label="{html.escape(self.alt)}">'
            f'<div class="hemafl-controls">{sliders}</div><div class="hemafl-picture"></div>'
            f'<p class="hemafl-summary" aria-live="polite">{summary}</p>'
            f'<script type="application/json">{content}</script></section>'
        )

    def _slider(self, control: Control, value: Any) -> str:
        identifier = html.escape(f"{self.name}-{control.key}")
        position = list(control.values).index(value)
        text = html.escape(control.texts()[position])
        return (
            f'<div class="hemafl-control"><label for="{identifier}">{html.escape(control.label)}</label>'
            f'<input type="range" id="{identifier}" min="0" max="{len(control.values) - 1}" step="1" '
            f'value="{position}" aria-valuetext="{text}"><output for="{identifier}">{text}</output></div>'
        )

    def _content(self) -> dict[str, Any]:
        """Return what ``book.js`` needs. Parts that all pictures share are stored once, under ``shared``."""
        pictures = {
            ",".join(
                str(list(c.values).index(v)) for c, v in zip(self.controls, setting, strict=True)
            ): _compact(picture)
            for setting, picture in self.recorded.items()
        }
        first = next(iter(pictures.values()))
        shared = {
            key: first[key]
            for key in first
            if all(picture[key] == first[key] for picture in pictures.values())
        }
        return {
            "alt": self.alt,
            "controls": [control.texts() for control in self.controls],
            "shared": shared,
            "pictures": {
                place: {key: value for key, value in picture.items() if key not in shared}
                for place, picture in pictures.items()
            },
        }

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        live = self.live()._repr_mimebundle_()
        view = "application/vnd.jupyter.widget-view+json"
        return {
            "text/plain": f"{self.name}: {self.alt} {self.recorded[self.start].summary}",
            "text/html": self.static(),
            view: live[view],
        }


class LiveFace:
    """The live face of an `Explorer`: sliders, a picture, a line of text.

    One background thread computes. A request that has not begun when the reader moves on is cancelled;
    one that has begun runs to its end and is kept, but shown only if the reader still asks for it.
    """

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.sliders = [
            ipywidgets.SelectionSlider(
                options=list(zip(control.texts(), control.values, strict=True)),
                value=value,
                description=control.label,
                continuous_update=False,
                style={"description_width": "initial"},
                layout={"width": "min(100%, 32em)"},
            )
            for control, value in zip(explorer.controls, explorer.start, strict=True)
        ]
        self.picture = ipywidgets.HTML()
        self.status = ipywidgets.HTML()
        self.widget = ipywidgets.VBox([*self.sliders, self.picture, self.status])
        self._known = dict(explorer.recorded)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"explorer-{explorer.name}")
        self._request: Future[Picture] | None = None
        for slider in self.sliders:
            slider.observe(self._update, names="value")
        self._update()

    @property
    def setting(self) -> Setting:
        """What the sliders say now."""
        return tuple(slider.value for slider in self.sliders)

    def _update(self, _: Any = None) -> None:
        if self._request is not None:
            self._request.cancel()
        setting = self.setting
        if setting in self._known:
            self._show(self._known[setting])
            return
        self.status.value = "Computing ..."
        values = {control.key: value for control, value in zip(self.explorer.controls, setting, strict=True)}
        self._request = self._worker.submit(self.explorer.compute, values)
        self._request.add_done_callback(lambda request: self._finish(setting, request))

    def _finish(self, setting: Setting, request: Future) -> None:
        if request.cancelled():
            return
        if request.exception() is None:
            self._known[setting] = request.result()
        if setting != self.setting:
            return
        if request.exception() is None:
            self._show(request.result())
        else:
            self.status.value = f"This setting failed: {html.escape(str(request.exception()))}"

    def _show(self, picture: Picture) -> None:
        image = draw(picture, self.explorer.alt)._repr_mimebundle_()[0]["image/png"]
        alt = html.escape(f"{self.explorer.alt} {picture.summary}")
        self.picture.value = f'<img alt="{alt}" style="max-width:100%" src="data:image/png;base64,{image}">'
        self.status.value = html.escape(picture.summary)


def settings(controls: Sequence[Control]) -> Iterator[Setting]:
    """Yield every combination of the controls' values."""
    return itertools.product(*(control.values for control in controls))


def record(controls: Sequence[Control], compute: Compute) -> dict[Setting, Picture]:
    """Compute the picture of every setting, for `Explorer`'s ``recorded``."""
    keys = [control.key for control in controls]
    combinations = list(settings(controls))
    return {
        setting: compute(dict(zip(keys, setting, strict=True)))
        for setting in progress.bar(combinations, desc="recording")
    }


def draw(picture: Picture, alt: str) -> plots.Picture:
    """Draw a picture with matplotlib: the same data, ranges and colours as the page's own drawing."""
    figure, ax = plots.axes(7.0, 3.8)
    if picture.kind == "lines":
        for series in picture.series:
            ax.plot(series.x, series.y, label=series.name)
        ax.set_xlim(picture.x_range)
    else:
        width = 0.8 / len(picture.series)
        categories = picture.series[0].x
        for i, series in enumerate(picture.series):
            left = [place - 0.4 + width * (i + 0.5) for place in range(len(categories))]
            colour = plots.PALETTE[i % len(plots.PALETTE)]
            face = (colour, plots.OPACITIES[i % len(plots.OPACITIES)])
            ax.bar(left, series.y, width, label=series.name, color=face, edgecolor=colour)
        ax.set_xticks(range(len(categories)), categories)
    ax.set_ylim(picture.y_range)
    ax.set_xlabel(picture.x_title)
    ax.set_ylabel(picture.y_title)
    if len(picture.series) > 1:
        figure.legend(loc="outside upper left", ncols=3, frameon=False)
    return plots.png(figure, alt)


def _compact(picture: Picture) -> dict[str, Any]:
    """Return a picture as plain values with four significant digits."""

    def short(value: Any) -> Any:
        return float(f"{value:.4g}") if isinstance(value, float) else value

    content = asdict(picture)
    content["series"] = [
        {"name": series.name, "x": [short(x) for x in series.x], "y": [short(float(y)) for y in series.y]}
        for series in picture.series
    ]
    return content
