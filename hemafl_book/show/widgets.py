"""An explorer with two faces: live in Jupyter, driven by recorded results in the built page.

An `Explorer` is a few controls and one picture; `show` makes both faces of it. In Jupyter, moving a control
shows the recorded picture or computes it in the background. In the built page there is no Python: the
controls choose among the recorded pictures. The same scripts draw both.
"""

from dataclasses import dataclass
from typing import Any

from hemafl_book.show.explorer import Control, Explorer, Prediction, record, settings
from hemafl_book.show.live_face import LiveFace
from hemafl_book.show.pictures import Chart, Overlay, Picture, Series
from hemafl_book.show.request import Request
from hemafl_book.show.static_face import MAX_BYTES, static_face

__all__ = [
    "MAX_BYTES",
    "Chart",
    "Control",
    "Explorer",
    "Faces",
    "LiveFace",
    "Overlay",
    "Picture",
    "Prediction",
    "Request",
    "Series",
    "record",
    "settings",
    "show",
    "static_face",
]

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Faces:
    """Both faces of an explorer in one output; what is stored of it is the same on every machine."""

    explorer: Explorer

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        explorer, live = self.explorer, LiveFace(self.explorer)
        return {
            "text/plain": f"{explorer.name}: {explorer.alt} {explorer.recorded[explorer.start].summary}",
            "text/html": static_face(explorer),
            WIDGET_VIEW: {"version_major": 2, "version_minor": 1, "model_id": live.model_id},
        }


def show(explorer: Explorer) -> Faces:
    """Return both faces of an explorer, as the last value of a cell."""
    return Faces(explorer)
