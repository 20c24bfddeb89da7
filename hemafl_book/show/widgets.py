"""An explorer with two faces: live in Jupyter, driven by recorded results in the built page.

An `Explorer` is a few sliders and one picture. In Jupyter, moving a slider shows the recorded picture
or computes it in the background. In the built page there is no Python: plain HTML sliders choose among
the recorded pictures, and the page's scripts draw them. Both faces show the same data.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ipywidgets

from hemafl_book.show import plots
from hemafl_book.show.live_face import LiveFace, Request, call
from hemafl_book.show.pictures import Overlay, Picture, Series
from hemafl_book.show.static_face import MAX_BYTES, static_face
from hemafl_lib import progress
from hemafl_lib.errors import HemaflError

__all__ = [
    "MAX_BYTES",
    "Control",
    "Explorer",
    "LiveFace",
    "Overlay",
    "Picture",
    "Request",
    "Series",
    "record",
    "settings",
]

Setting = tuple[Any, ...]
"""One value of every control, in the order of the controls."""

Compute = Callable[..., Picture | Overlay]
"""``compute(setting)`` or ``compute(setting, request)``, where ``setting`` is ``{key: value}``.

A long computation takes the `Request`: it may show what it has so far, and should end when the request
is cancelled.
"""


@dataclass(frozen=True)
class Control:
    """One slider: the key that ``compute`` reads, a label, the values in order, and how they are written.

    Values are numbers or words. ``format`` is a format string, for example ``"{:.1f}"`` or
    ``"{} hospitals"``. ``live`` holds further numbers, which only the live face offers, since they have to be
    computed.
    """

    key: str
    label: str
    values: Sequence[Any]
    format: str = "{}"
    live: Sequence[float] = ()

    def __post_init__(self) -> None:
        if not self.values:
            raise HemaflError(f"Control '{self.key}' has no values; give at least one.")

    def choices(self) -> list[tuple[str, Any]]:
        """Return what the live face offers, in order: each value as the reader sees it, and the value."""
        values = sorted({*self.values, *self.live}) if self.live else self.values
        return [(self.format.format(value), value) for value in values]

    def texts(self) -> list[str]:
        """Return every value as the reader sees it."""
        return [self.format.format(value) for value in self.values]


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
        Turns ``{key: value}`` into a picture; called by the live face where nothing is recorded. With
        a second parameter ``request`` it gets the `Request`, to show how far it is and to hear that
        it is outdated.
    initial
        The setting to start with; the first recorded one by default.
    packed
        Whether the page stores the numbers in two characters each, for sweeps of many clients. All
        pictures must share their ``y_range``, and the range decides the decimals: three for 0..1.
    """

    name: str
    controls: Sequence[Control]
    alt: str
    recorded: Mapping[Setting, Picture | Overlay] = field(default_factory=dict)
    compute: Compute | None = None
    initial: Setting | None = None
    packed: bool = False

    def __post_init__(self) -> None:
        plots.require_name(self.name)
        plots.require_alt(self.alt)
        if not self.recorded:
            raise HemaflError(
                f"Explorer '{self.name}' has nothing recorded; record at least its first setting."
            )
        if self.compute is None and any(control.live for control in self.controls):
            raise HemaflError(f"Explorer '{self.name}' has live values and no 'compute'; give it.")
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

    @property
    def has_overlays(self) -> bool:
        """Whether cells with relevance maps are shown, whose opacity and smoothness the reader decides."""
        return any(isinstance(picture, Overlay) for picture in self.recorded.values())

    def live(self) -> ipywidgets.Widget:
        """Return the live face: ipywidgets that compute in the background."""
        return LiveFace(self).widget

    def static(self) -> str:
        """Return the static face: HTML controls and the recorded pictures as JSON."""
        return static_face(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        live = self.live()._repr_mimebundle_()
        view = "application/vnd.jupyter.widget-view+json"
        return {
            "text/plain": f"{self.name}: {self.alt} {self.recorded[self.start].summary}",
            "text/html": self.static(),
            view: live[view],
        }


def settings(controls: Sequence[Control]) -> Iterator[Setting]:
    """Yield every combination of the controls' values."""
    return itertools.product(*(control.values for control in controls))


def record(controls: Sequence[Control], compute: Compute) -> dict[Setting, Picture | Overlay]:
    """Compute the picture of every setting, for `Explorer`'s ``recorded``."""
    keys = [control.key for control in controls]
    combinations = list(settings(controls))
    return {
        setting: call(compute, dict(zip(keys, setting, strict=True)), Request())
        for setting in progress.bar(combinations, desc="recording")
    }
