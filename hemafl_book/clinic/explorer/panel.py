"""The explorer as widgets. They hold nothing: each turns what the reader does into another `Desk`."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as w

from hemafl_book.clinic.explorer import covering, reading_list, saving, screen
from hemafl_book.clinic.explorer.accessible import Accessible
from hemafl_book.clinic.explorer.cells import own, references
from hemafl_book.clinic.explorer.desk import Desk
from hemafl_book.clinic.explorer.drawing import Zoom
from hemafl_book.clinic.explorer.looking import MOST, Question, Seen, View
from hemafl_book.clinic.explorer.models import METHODS, layers
from hemafl_book.clinic.explorer.painter import Painter
from hemafl_book.clinic.explorer.sorting import ORDERS
from hemafl_book.clinic.explorer.trust import QUESTIONS, Measure, case_of, measures
from hemafl_lib.data.images import FORMATS
from hemafl_lib.errors import DataError, HemaflError, one_line
from hemafl_lib.explain import READ_FEATURE_MAPS

WIDE = {"width": "auto", "max_width": "40rem"}
HALF = {"width": "auto", "min_width": "9rem", "flex": "1 1 9rem"}
MORE = {"width": "auto", "min_width": "9rem", "flex": "1 1 20rem"}
LABELLED = {"description_width": "9rem"}
SHORT = {"description_width": "2rem"}
ANSWER, NO_CLASS, LAST_LAYER, NOBODY = (
    "what each model answers",
    "no class",
    "the last, which the head reads",
    "-",
)
BOOK = Path(__file__).resolve().parents[3]
"""Where relative names begin, wherever the notebook runs."""

THIS, ALL = "this cell", "all open cells"

CLOSEST = 6
"""How many times a part of a picture can be enlarged."""


class Panel:
    """The widgets of an explorer; ``box`` is what is shown.

    Parameters
    ----------
    desk
        What lies on it at first.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.seen: list[Seen] = []
        self.measured: list[Measure] = []
        self.painted = ""
        self.quiet = False
        self.uploads = tempfile.TemporaryDirectory(prefix="hemafl-")
        self.status = w.HTML()
        self.status.add_class("hemafl-status")
        self.warnings, self.main, self.reference, self.cards = (w.HTML() for _ in range(4))
        self._make_cells()
        self._make_question()
        self._make_look()
        self._make_trust()
        self._make_cover()
        self._make_notes()
        self._make_report()
        self.box = w.VBox(
            [
                self.warnings,
                w.HBox([self.cells_box, self.question_box], layout=w.Layout(flex_flow="row wrap")),
                self.look_box,
                self.status,
                self.main,
                self._folded(),
                self.cards,
                Accessible(),
            ]
        )
        self._offer()
        self.refresh()

    # What is on screen

    def _make_cells(self) -> None:
        self.family = self._choice("Kind of picture", self.desk.families, self._change_family)
        self.source = self._choice("Cells", self.desk.sources, self._open)
        self.order = self._choice("Order", [(told, name) for name, told in ORDERS.items()], self._sort)
        self.list = w.Select(description="Cell", rows=8, layout=WIDE, style=LABELLED)
        self._on(self.list, self._turn)
        before, after = self._button("Previous cell", self._before), self._button("Next cell", self._after)
        self.upload = w.FileUpload(
            accept=",".join(FORMATS), multiple=True, description="Pictures of your own", layout=WIDE
        )
        self._on(self.upload, self._upload)
        self.folder, folder = self._text(
            "Folder of pictures", "for example work/pictures", self._open_folder, "Open"
        )
        self.cells_box = w.VBox(
            [self.family, self.source, self.order, self.list, w.HBox([before, after]), self.upload, folder],
            layout=w.Layout(flex="1 1 22rem"),
        )

    def _make_question(self) -> None:
        self.target = self._choice("Explain the class", [ANSWER], self._ask)
        self.against = self._choice("Rather than", [NO_CLASS], self._ask)
        self.layer = self._choice("Layer", [LAST_LAYER], self._ask)
        self.views = [
            (
                self._choice(f"{number}. model", [NOBODY], self._ask, MORE),
                self._choice("by", self._methods(), self._ask, HALF, SHORT),
            )
            for number in range(1, MOST + 1)
        ]
        self.saved, saved = self._text("Model of your own", "folder of a saved model", self._add_model, "Add")
        self.question_box = w.VBox(
            [
                self.target,
                self.against,
                *(w.HBox(list(pair), layout=w.Layout(flex_flow="row wrap")) for pair in self.views),
                self.layer,
                saved,
            ],
            layout=w.Layout(flex="1 1 22rem"),
        )

    def _make_look(self) -> None:
        self.opacity = w.FloatSlider(
            0.85, min=0, max=1, step=0.05, description="Opacity", style=LABELLED, continuous_update=False
        )
        self.width = w.IntSlider(
            256, min=128, max=512, step=64, description="Size", style=LABELLED, continuous_update=False
        )
        part = {"min": 0, "max": 100, "step": 5, "style": LABELLED, "continuous_update": False}
        self.zoom = w.IntSlider(
            1, min=1, max=CLOSEST, description="Zoom", style=LABELLED, continuous_update=False
        )
        self.across = w.IntSlider(50, description="Zoom across, %", **part)
        self.down = w.IntSlider(50, description="Zoom down, %", **part)
        self.smooth = w.Checkbox(False, description="smooth (shows more than was computed)", indent=False)
        self.together = w.Checkbox(True, description="one scale for the maps of a method", indent=False)
        controls = [self.opacity, self.width, self.zoom, self.across, self.down, self.smooth, self.together]
        for control in controls:
            self._on(control, self.draw)
        self.look_box = w.HBox(controls, layout=w.Layout(flex_flow="row wrap"))

    def _make_trust(self) -> None:
        self.judged = w.Dropdown(description="Map", layout=WIDE, style=LABELLED)
        self.progress = w.IntProgress(
            0, max=len(QUESTIONS), layout=WIDE, description="measured", style=LABELLED
        )
        self.progress.layout.visibility = "hidden"
        self.trust = w.HTML()
        self.trust_button = self._button("Measure this map", self._measure)

    def _make_cover(self) -> None:
        self.painter = Painter()
        self.covered = w.HTML()
        self.cover_button = self._button("Paint it out and ask again", self._cover)
        self.wipe_button = self._button("Wipe all", self._wipe)

    def _make_notes(self) -> None:
        self.mark = w.ToggleButtons(options=reading_list.MARKS, value=None, description="I", style=LABELLED)
        self.remark = w.Text(description="Remark", layout=WIDE, style=LABELLED)
        self.notes_folder = w.Text(
            "work/reading", description="Folder of the list", layout=WIDE, style=LABELLED
        )
        self.noted = w.HTML()
        self.note_button = self._button("Keep on the reading list", self._note)

    def _make_report(self) -> None:
        self.extent = w.Dropdown(options=[THIS, ALL], description="Report", layout=WIDE, style=LABELLED)
        self.report_folder = w.Text(
            "work/report", description="Folder of the report", layout=WIDE, style=LABELLED
        )
        self.reported = w.HTML()
        self.report_button = self._button("Save report and table", self._report)

    def _folded(self) -> w.Accordion:
        parts = {
            "How far to trust a map": [self.judged, self.trust_button, self.progress, self.trust],
            "Paint places out": [self.painter, w.HBox([self.cover_button, self.wipe_button]), self.covered],
            "A cell of each class": [self.reference],
            "Reading list": [self.mark, self.remark, self.notes_folder, self.note_button, self.noted],
            "Save a report": [self.extent, self.report_folder, self.report_button, self.reported],
        }
        return w.Accordion([w.VBox(children) for children in parts.values()], titles=list(parts))

    # From the desk to the widgets

    def _offer(self) -> None:
        """Bring every list up to what lies on the desk, without hearing the changes."""
        self.quiet = True
        desk, question = self.desk, self.desk.question
        self.family.options, self.family.value = desk.families, desk.family
        self.list.options = [(cell.name, place) for place, cell in enumerate(desk.cells)]
        self.list.value = desk.place
        self.target.options = [ANSWER, *desk.classes]
        self.target.value = question.target if question.target in desk.classes else ANSWER
        self.against.options = [NO_CLASS, *desk.classes]
        self.against.value = question.against if question.against in desk.classes else NO_CLASS
        of_first = layers(desk.models[question.views[0].model])
        self.layer.options = [LAST_LAYER, *of_first]
        self.layer.value = question.layer if question.layer in of_first else LAST_LAYER
        self.layer.disabled = not any(view.method in READ_FEATURE_MAPS for view in question.views)
        for number, (model, method) in enumerate(self.views):
            model.options = [*desk.models] if number == 0 else [NOBODY, *desk.models]
            shown = question.views[number] if number < len(question.views) else None
            model.value = shown.model if shown else NOBODY
            method.value = shown.method if shown else method.value
        self.quiet = False

    def refresh(self) -> None:
        """Ask the models, and show what they say."""
        self.say("Computing ...")
        self.measured, self.painted, self.mark.value = [], "", None
        self.trust.value = self.covered.value = self.noted.value = self.reported.value = ""
        self.seen = self.desk.look()
        self.judged.options = [
            (f"{each.view.model}, {METHODS[each.view.method]}", place)
            for place, each in enumerate(self.seen)
            if each.relevance is not None
        ]
        self.judged.value = self.judged.options[0][1] if self.judged.options else None
        self.trust_button.disabled = not self.judged.options
        self.draw()
        size = self.seen[0].model.size
        self.reference.value = screen.framed(screen.reference_row(references(self.desk.examples), size))
        self.painter.squares, self.painter.picture = [], screen.picture_of(self.desk.cell, size)
        self.warnings.value = screen.framed(screen.warnings(self.desk.asked))
        self.cards.value = screen.framed(screen.cards(self.desk.asked))
        self.say(f"Cell {self.desk.place + 1} of {len(self.desk.cells)}.")

    def draw(self) -> None:
        """Draw again what was computed."""
        shown = screen.figures(self.desk.cell, self.seen, self.desk.question, self.look)
        self.main.value = screen.framed(shown + screen.probability_table(self.seen))

    @property
    def look(self) -> screen.Look:
        """How maps are to be drawn."""
        zoom = Zoom(self.zoom.value, self.across.value, self.down.value)
        return screen.Look(self.opacity.value, self.smooth.value, self.together.value, self.width.value, zoom)

    def say(self, text: str) -> None:
        """Show a sentence where the reader waits for one."""
        self.status.value = screen.line(text)

    # What the reader does

    def _change_family(self) -> None:
        self.say("Drawing cells ...")
        self._put(self.desk.change_family(self.family.value))
        self._sources()

    def _open(self) -> None:
        self.say(f"Opening {self.source.value} ...")
        self._put(self.desk.open(self.source.value))
        self._unsorted()

    def _sort(self) -> None:
        self.say("Asking the models about every cell ...")
        self._put(self.desk.sort(self.order.value))

    def _turn(self) -> None:
        self._put(self.desk.turn_to(self.list.value))

    def _before(self) -> None:
        self._put(self.desk.turn_to(self.desk.place - 1))

    def _after(self) -> None:
        self._put(self.desk.turn_to(self.desk.place + 1))

    def _upload(self) -> None:
        if not self.upload.value:
            return
        folder = Path(tempfile.mkdtemp(dir=self.uploads.name))
        for file in self.upload.value:
            (folder / Path(file["name"]).name).write_bytes(file["content"])
        self._show_own([folder])
        self.upload.value = ()

    def _open_folder(self) -> None:
        self._show_own([place(self.folder.value)])

    def _show_own(self, paths: Sequence[Path]) -> None:
        self.say("Reading pictures ...")
        cells, bad = own(paths)
        told = " ".join(each.sentence for each in bad)
        if not cells:
            raise DataError(f"none of these files is a picture. {told}")
        self._put(self.desk.show(cells))
        self._unsorted()
        if bad:
            self.say(f"{len(cells)} pictures are open, {len(bad)} files are not: {told}")

    def _ask(self) -> None:
        self.layer.disabled = not any(method.value in READ_FEATURE_MAPS for _, method in self.views)
        self._put(self.desk.ask(self.question))

    @property
    def question(self) -> Question:
        """What the lists ask."""
        views = [View(model.value, method.value) for model, method in self.views if model.value != NOBODY]
        target = None if self.target.value == ANSWER else self.target.value
        against = None if self.against.value == NO_CLASS else self.against.value
        layer = None if self.layer.value == LAST_LAYER else self.layer.value
        return Question(tuple(views), target, against, layer)

    def _add_model(self) -> None:
        self._put(self.desk.add_model(place(self.saved.value)))

    def _measure(self) -> None:
        case = case_of(self.seen[self.judged.value], self.desk.cell, self.desk.question, self.desk.asked)
        self.progress.value, self.progress.layout.visibility = 0, "visible"
        self.measured = []
        self.say("Measuring the map ...")
        for measure in measures(case):
            self.measured.append(measure)
            self.progress.value += 1
            self.trust.value = screen.framed(screen.report_card(self.measured))
        self.progress.layout.visibility = "hidden"
        self.say("The map is measured.")

    def _cover(self) -> None:
        places = covering.covered_places(self.painter.squares)
        cell, asked = self.desk.cell, self.desk.asked
        told = "".join(
            screen.said_by(name, covering.in_words(model, *covering.before_and_after(model, cell, places)))
            for name, model in asked.items()
        )
        image = covering.shown(cell, self.seen[0].model.size, places)
        picture = screen.figure(image, 256, f"{cell.name}, places painted out", "painted out")
        self.painted = f"<h3>Places painted out</h3>{picture}{told}"
        self.covered.value = screen.framed(picture + told)

    def _wipe(self) -> None:
        self.painter.squares = []

    def _note(self) -> None:
        if self.mark.value is None:
            raise HemaflError("no mark is chosen; choose agree, disagree or unsure.")
        cell = self.desk.cell
        added = reading_list.entry(cell.name, cell.source, self.mark.value, self.remark.value, self.seen)
        folder = folder_of(self.notes_folder.value)
        entries = reading_list.keep(folder, added)
        self.noted.value = screen.line(f"{len(entries)} on the list: {folder / reading_list.FILE}")

    def _report(self) -> None:
        cells = [self.desk.cell] if self.extent.value == THIS else self.desk.cells
        folder = folder_of(self.report_folder.value)
        card = screen.report_card(self.measured) if self.measured else ""
        more = card + self.painted if len(cells) == 1 else ""
        for done in saving.save(self.desk, cells, self.look, folder, more):
            self.reported.value = screen.line(f"{done:.0%} done")
        self.reported.value = screen.line(f"Saved {saving.REPORT} and {saving.TABLE} in {folder}.")

    def _put(self, desk: Desk) -> None:
        self.desk = desk
        self._offer()
        self.refresh()

    def _sources(self) -> None:
        self.quiet = True
        self.source.options = self.desk.sources
        self.quiet = False
        self._unsorted()

    def _unsorted(self) -> None:
        self.quiet = True
        self.order.value = "as given"
        self.quiet = False

    # How widgets are made

    def _methods(self) -> list[tuple[str, str]]:
        return [(told, name) for name, told in METHODS.items()]

    def _choice(
        self,
        label: str,
        options: Sequence[Any],
        act: Callable[[], None],
        layout: Mapping[str, str] = WIDE,
        style: Mapping[str, str] = LABELLED,
    ) -> w.Dropdown:
        made = w.Dropdown(options=options, description=label, layout=dict(layout), style=dict(style))
        self._on(made, act)
        return made

    def _text(self, label: str, hint: str, act: Callable[[], None], button: str) -> tuple[w.Text, w.HBox]:
        made = w.Text(description=label, placeholder=hint, layout=WIDE, style=LABELLED)
        return made, w.HBox([made, self._button(button, act)], layout=w.Layout(flex_flow="row wrap"))

    def _button(self, label: str, act: Callable[[], None]) -> w.Button:
        made = w.Button(description=label, layout=w.Layout(width="auto"))
        made.on_click(lambda _: self._safely(act))
        return made

    def _on(self, widget: w.Widget, act: Callable[[], None]) -> None:
        widget.observe(lambda _: None if self.quiet else self._safely(act), names="value")

    def _safely(self, act: Callable[[], None]) -> None:
        """Do what the reader asked for; what goes wrong is said where the reader looks; nothing is lost."""
        try:
            act()
        except HemaflError as error:
            self.say(str(error))
        except Exception as error:
            self.say(f"This failed: {one_line(error, 400)}")


def place(text: str) -> Path:
    """Return the file or folder that a reader names; a relative one is in the folder of the book."""
    return BOOK / Path(text.strip()).expanduser()


def folder_of(text: str) -> Path:
    """Return the folder to write into that a reader names; ``work`` in the folder of the book is made."""
    folder = place(text)
    if folder.is_relative_to(BOOK / "work"):
        (BOOK / "work").mkdir(exist_ok=True)
    return folder
