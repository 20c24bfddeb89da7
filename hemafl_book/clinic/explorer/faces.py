"""The explorer's two faces: widgets where a kernel runs, elsewhere a recorded picture of how it begins."""

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from hemafl_book.clinic.explorer.cells import picture
from hemafl_book.clinic.explorer.desk import Desk, first_desk
from hemafl_book.clinic.explorer.drawing import overlay
from hemafl_book.clinic.explorer.looking import largest
from hemafl_book.clinic.explorer.panel import Panel
from hemafl_book.show.plots import Drawing, png
from hemafl_book.show.widgets import WIDGET_VIEW
from hemafl_lib.clinic.report import percent, square

INCHES = 2.3
"""Width of a picture in the recorded face."""


@dataclass(frozen=True, eq=False)
class Faces:
    """Both faces in one output; ``panel`` is the live one."""

    panel: Panel

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = first_picture(self.panel.desk)._repr_mimebundle_()
        view = {"version_major": 2, "version_minor": 0, "model_id": self.panel.box.model_id}
        return {**data, WIDGET_VIEW: view}, metadata


def explorer() -> Faces:
    """Return the explorer with the book's models and drawn cells, as the last value of a cell."""
    return Faces(Panel(first_desk()))


def first_picture(desk: Desk) -> Drawing:
    """Return the cell that a desk shows and, beside it, where each of the models looked."""
    seen, taken = desk.look(), picture(desk.cell, desk.models[desk.question.views[0].model].size).original
    figure = Figure(figsize=(INCHES * (1 + len(seen)), INCHES + 0.6), layout="constrained")
    grid = figure.subplots(1, 1 + len(seen))
    grid[0].imshow(square(taken))
    grid[0].set_title(f"the picture:\n{desk.cell.name}", fontsize=8, loc="left")
    for axes, each, scale in zip(grid[1:], seen, largest(seen, together=True), strict=True):
        said = f"{each.row['class']}, {percent(each.row['probability'])}" if each.in_scope else "no answer"
        shown = square(taken) if each.relevance is None else overlay(taken, each.relevance, scale)
        axes.imshow(shown)
        axes.set_title(f"{each.model.card.arm}:\n{said}", fontsize=8, loc="left")
    for axes in grid:
        axes.set_axis_off()
    arms = ", ".join(each.model.card.arm for each in seen)
    return png(
        figure,
        f"The explorer as it opens: {desk.cell.name} at the left, and beside it where the models looked "
        f"({arms}), in orange over the cell in grey.",
    )
