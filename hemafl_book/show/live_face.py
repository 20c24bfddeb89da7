"""The live face of an explorer: ipywidgets that show recorded pictures and compute the others."""

import html
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import ipywidgets

from hemafl_book.show import drawing
from hemafl_book.show.pictures import Overlay, Picture

if TYPE_CHECKING:
    from hemafl_book.show.widgets import Explorer, Setting

Shown = Picture | Overlay

WIDE = {"style": {"description_width": "initial"}, "layout": {"width": "min(100%, 32em)"}}


class Request:
    """One setting that the reader asks for, as its computation sees it.

    ``cancelled`` is set as soon as the reader asks for something else. It fits the ``stop`` of
    `hemafl_lib.federation.run`. What an outdated request shows, says, returns or raises is ignored.
    """

    def __init__(
        self,
        show: Callable[[Shown], None] = lambda picture: None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.cancelled = threading.Event()
        self._show, self._say = show, say
        self._lock = threading.Lock()

    def show(self, picture: Shown) -> None:
        """Show what there is so far, for example the rounds up to now."""
        self._unless_cancelled(self._show, picture)

    def say(self, text: str) -> None:
        """Tell how far the computation is, for example "Round 3 of 8."."""
        self._unless_cancelled(self._say, text)

    def cancel(self) -> None:
        """Declare the request outdated; once this returns, it shows and says nothing more."""
        with self._lock:
            self.cancelled.set()

    def _unless_cancelled(self, action: Callable[[Any], None], content: Any) -> None:
        with self._lock:
            if not self.cancelled.is_set():
                action(content)


def call(compute: Callable[..., Shown], values: dict[str, Any], request: Request) -> Shown:
    """Return the picture of a setting; ``compute`` gets the request if it has a parameter of that name."""
    if "request" in inspect.signature(compute).parameters:
        return compute(values, request=request)
    return compute(values)


class LiveFace:
    """The live face of an `Explorer`: sliders, a picture, a line of text.

    One background thread computes. When the reader moves on, a request that has not begun is dropped,
    and one that has begun is told through `Request.cancelled`.
    """

    def __init__(self, explorer: "Explorer") -> None:
        self.explorer = explorer
        self.sliders = [
            ipywidgets.SelectionSlider(
                options=control.choices(),
                value=value,
                description=control.label,
                continuous_update=False,
                readout=False,
                **WIDE,
            )
            for control, value in zip(explorer.controls, explorer.start, strict=True)
        ]
        # A slider's own readout cuts long words off.
        self.readouts = [ipywidgets.Label() for _ in self.sliders]
        self.opacity = ipywidgets.IntSlider(
            value=round(100 * drawing.OPACITY),
            max=100,
            step=5,
            description="Opacity of the map (%)",
            continuous_update=False,
            **WIDE,
        )
        self.smooth = ipywidgets.Checkbox(value=False, description="Smooth the map", indent=False)
        self.picture = ipywidgets.HTML()
        self.status = ipywidgets.HTML()
        view = [self.opacity, self.smooth] if explorer.has_overlays else []
        rows = [
            ipywidgets.Box(pair, layout={"flex_flow": "row wrap"})
            for pair in zip(self.sliders, self.readouts, strict=True)
        ]
        self.widget = ipywidgets.VBox([*rows, *view, self.picture, self.status])
        self._known = dict(explorer.recorded)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"explorer-{explorer.name}")
        self._request = Request()
        self._shown = self._known[explorer.start]
        self._drawing = threading.Lock()
        for slider in self.sliders:
            slider.observe(self._update, names="value")
        for control in view:
            control.observe(self._redraw, names="value")
        self._update()

    @property
    def setting(self) -> "Setting":
        """What the sliders say now."""
        return tuple(slider.value for slider in self.sliders)

    def _update(self, _: Any = None) -> None:
        self._request.cancel()
        for slider, readout in zip(self.sliders, self.readouts, strict=True):
            readout.value = slider.label
        setting = self.setting
        if setting in self._known:
            self._show(self._known[setting])
            return
        self._say("Computing ...")
        self._request = Request(self._show, self._say)
        self._worker.submit(self._answer, setting, self._request)

    def _answer(self, setting: "Setting", request: Request) -> None:
        if request.cancelled.is_set():
            return
        values = {control.key: value for control, value in zip(self.explorer.controls, setting, strict=True)}
        try:
            picture = call(self.explorer.compute, values, request)
        except Exception as error:
            request.say(f"This setting failed: {error}")
            return
        # A computation that was cancelled may return a part of its picture.
        if not request.cancelled.is_set():
            self._known[setting] = picture
        request.show(picture)

    def _show(self, picture: Shown) -> None:
        self._shown = picture
        self._redraw()
        self._say(picture.summary)

    def _redraw(self, _: Any = None) -> None:
        with self._drawing:
            picture, alt = self._shown, self.explorer.alt
            drawn = drawing.draw(picture, alt, opacity=self.opacity.value / 100, smooth=self.smooth.value)
            data, _metadata = drawn._repr_mimebundle_()
            words = html.escape(f"{alt} {picture.summary}")
            self.picture.value = (
                f'<img alt="{words}" style="max-width:100%" src="data:image/png;base64,{data["image/png"]}">'
            )

    def _say(self, text: str) -> None:
        self.status.value = f'<p role="status" aria-live="polite">{html.escape(text)}</p>'
