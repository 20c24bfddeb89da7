"""The live face of an explorer: the page's own scripts in Jupyter, and Python for what is not recorded."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import anywidget
from traitlets import Dict, Unicode

from hemafl_book.show.explorer import Explorer, Setting
from hemafl_book.show.pictures import Picture
from hemafl_book.show.recording import place_of, plain, recording, setting_at
from hemafl_book.show.request import Compute, Request, picture_of
from hemafl_book.show.static_face import markup
from hemafl_lib.errors import one_line

ASSETS = Path(__file__).parent / "assets"
"""The scripts and the style of explorers, which the built page loads too."""

SCRIPTS = ("charts.js", "overlays.js", "explorer.js", "live.js")
"""What the live face runs, in order, as one module."""


class LiveFace(anywidget.AnyWidget):
    """The live face of an `Explorer`.

    The view draws recorded settings by itself. ``place`` is where its controls stand, in the form of
    `place_of`; where nothing is recorded, one background thread computes and ``answer`` tells how far it is:
    ``{"place": ..., "picture": ..., "text": ..., "done": ...}``, the picture None as long as there is none,
    and ``{}`` while there is nothing to tell. When the reader moves on, or stops and so goes back to what is
    recorded, a request that has not begun is dropped, and one that has begun is told through
    `Request.cancelled`.
    """

    _esm = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    _css = (ASSETS / "explorer.css").read_text(encoding="utf-8")

    markup = Unicode().tag(sync=True)
    content = Dict().tag(sync=True)
    place = Unicode().tag(sync=True)
    answer = Dict().tag(sync=True)

    def __init__(self, explorer: Explorer) -> None:
        super().__init__(
            markup=markup(explorer, live=True),
            content=recording(explorer, live=True),
            place=place_of(explorer, explorer.start, live=True),
        )
        self.explorer = explorer
        self._computed: dict[Setting, Picture] = {}
        self._request = Request()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"explorer-{explorer.name}")
        self.observe(self._move, names="place")

    @property
    def setting(self) -> Setting:
        """What the controls say now."""
        return setting_at(self.explorer, self.place, live=True)

    def _move(self, _: Any) -> None:
        self._request.cancel()
        self.answer = {}
        setting, compute = self.setting, self.explorer.compute
        if setting in self.explorer.recorded or compute is None:
            return
        self._request = Request(partial(self._show, self.place), partial(self._say, self.place))
        if setting in self._computed:
            self._request.show(self._computed[setting])
        else:
            self._worker.submit(self._answer, compute, setting, self._request)

    def _answer(self, compute: Compute, setting: Setting, request: Request) -> None:
        if request.cancelled.is_set():
            return
        try:
            picture = picture_of(compute, self.explorer.values(setting), request)
        except Exception as error:
            request.say(f"This setting failed: {one_line(error, 400)}")
            return
        # A computation that was cancelled may return a part of its picture.
        if not request.cancelled.is_set():
            self._computed[setting] = picture
        request.show(picture)

    def _show(self, place: str, picture: Picture) -> None:
        done = setting_at(self.explorer, place, live=True) in self._computed
        self.answer = {"place": place, "picture": plain(picture), "text": picture.summary, "done": done}

    def _say(self, place: str, text: str) -> None:
        self.answer = {"place": place, "picture": self.answer.get("picture"), "text": text, "done": False}
