"""What an explorer is: controls, the pictures recorded for their settings, and how to compute others.

An `Explorer` is a value. It knows nothing of how it is shown: `hemafl_book.show.static_face` and
`hemafl_book.show.live_face` read it.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hemafl_book.show import plots
from hemafl_book.show.pictures import Overlay, Picture
from hemafl_book.show.request import Compute, Request, picture_of
from hemafl_lib import progress
from hemafl_lib.errors import HemaflError

Setting = tuple[Any, ...]
"""One value of every control, in the order of the controls."""


@dataclass(frozen=True)
class Control:
    """One control: the key that ``compute`` reads, a label, the values in order, and how they are written.

    Values are numbers, which a slider offers, or words, which a list does. ``format`` is a format string, for
    example ``"{:.1f}"`` or ``"{} hospitals"``. ``live`` holds further numbers, which only the live face
    offers, since they have to be computed.
    """

    key: str
    label: str
    values: Sequence[Any]
    format: str = "{}"
    live: Sequence[float] = ()

    def __post_init__(self) -> None:
        if not self.values:
            raise HemaflError(f"Control '{self.key}' has no values; give at least one.")

    @property
    def nominal(self) -> bool:
        """Whether the values are words, which have no order."""
        return all(isinstance(value, str) for value in self.values)

    def choices(self, *, live: bool = False) -> list[Any]:
        """Return the values in order, for the live face with those that have to be computed."""
        return sorted({*self.values, *self.live}) if live and self.live else list(self.values)

    def text(self, value: Any) -> str:
        """Return a value as the reader sees it."""
        return self.format.format(value)


@dataclass(frozen=True)
class Prediction:
    """A question that the reader answers before the explorer shows what happens.

    Parameters
    ----------
    question
        What to predict, for example what becomes of a curve at another setting.
    answers
        The answers to choose from.
    right
        One of them.
    because
        What the explorer says after either answer.
    shows
        The recorded setting that it goes to then.
    """

    question: str
    answers: Sequence[str]
    right: str
    because: str
    shows: Setting

    def __post_init__(self) -> None:
        if self.right not in self.answers:
            raise HemaflError(f"Prediction: '{self.right}' is none of its answers; correct 'right'.")


@dataclass(frozen=True)
class Explorer:
    """Controls and one picture.

    Parameters
    ----------
    name
        The HTML id, unique on the page.
    controls
        The sliders and lists, in order.
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
    prediction
        What the reader is asked before anything moves.
    """

    name: str
    controls: Sequence[Control]
    alt: str
    recorded: Mapping[Setting, Picture] = field(default_factory=dict)
    compute: Compute | None = None
    initial: Setting | None = None
    packed: bool = False
    prediction: Prediction | None = None

    def __post_init__(self) -> None:
        plots.require_name(self.name)
        plots.require_alt(self.alt)
        if not self.recorded:
            raise HemaflError(
                f"Explorer '{self.name}' has nothing recorded; record at least its first setting."
            )
        if self.compute is None and any(control.live for control in self.controls):
            raise HemaflError(f"Explorer '{self.name}' has live values and no 'compute'; give it.")
        self._check_settings()

    def _check_settings(self) -> None:
        possible = set(settings(self.controls))
        for setting in [*self.recorded, *self.opens]:
            if setting not in possible:
                raise HemaflError(
                    f"Explorer '{self.name}': {setting} is no setting of its controls; correct it."
                )
        for setting in self.opens:
            if setting not in self.recorded:
                raise HemaflError(
                    f"Explorer '{self.name}': {setting}, which it shows first or after its prediction, is "
                    "not recorded; record it."
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
    def opens(self) -> list[Setting]:
        """The settings that every reader is led to: the first, and the one behind the prediction."""
        return [self.start, *([self.prediction.shows] if self.prediction else [])]

    @property
    def has_overlays(self) -> bool:
        """Whether cells with relevance maps are shown, whose opacity and smoothness the reader decides."""
        return any(isinstance(picture, Overlay) for picture in self.recorded.values())

    def values(self, setting: Setting) -> dict[str, Any]:
        """Return a setting as ``compute`` reads it: ``{key: value}``."""
        return {control.key: value for control, value in zip(self.controls, setting, strict=True)}


def settings(controls: Sequence[Control]) -> Iterator[Setting]:
    """Yield every combination of the controls' values."""
    return itertools.product(*(control.values for control in controls))


def record(controls: Sequence[Control], compute: Compute) -> dict[Setting, Picture]:
    """Compute the picture of every setting, for `Explorer`'s ``recorded``."""
    keys = [control.key for control in controls]
    combinations = list(settings(controls))
    return {
        setting: picture_of(compute, dict(zip(keys, setting, strict=True)), Request())
        for setting in progress.bar(combinations, desc="recording")
    }
