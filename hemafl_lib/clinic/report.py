"""Where a model looked in one's own pictures: overlays, a table, and one page of HTML that asks for nothing.

The picture itself always stands beside the map, and the map keeps its own coarse grid: smooth transitions
would show a precision that it does not have.
"""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from hemafl_lib.clinic.answers import answer
from hemafl_lib.clinic.pictures import Bad, Picture, find_files, read
from hemafl_lib.clinic.saved import SavedModel
from hemafl_lib.clinic.tables import DISCLAIMER, OUT_OF_SCOPE, as_csv, rows_of
from hemafl_lib.errors import DataError, ModelError
from hemafl_lib.files import check_folder, replace_file, write_text
from hemafl_lib.progress import bar

SIDE = 256
"""Pixels a side of the pictures in a report."""

COLOUR = (230, 120, 0)
"""The colour of relevance: orange, over the picture in grey, is told from violet cells by everybody."""

STRONGEST = 0.85
"""How opaque the most relevant place is."""

MOST = 500
"""Pictures that one report holds at most: all are in memory together."""

COLUMNS = (
    "cells of",
    "whose cells",
    "cells",
    "balanced accuracy",
    "chance",
    "probability off by",
    "set holds the truth",
    "no answer",
)
"""Of the table of scores."""

KINDS = {
    "own": "own",
    "joint": "those that train the federation",
    "related": "same hospital, not trained on",
    "unseen": "never seen",
}
"""The kinds of a score in words."""

HOW_SCORED = (
    "How good the model is, where. Balanced accuracy: the share of cells named rightly, class by class, then "
    "the mean. All cells count, also those to which it gives no answer; how good the given answers alone are "
    "was not measured."
)

SEEN = {"colours": "its colours", "features": "what the network measures in it"}
"""What says that a picture is out of scope, in words."""

UNCHECKED = (
    "Nobody checks whether a picture is of the kind that this model knows: it answers a flower as surely "
    "as a cell."
)

DRAWN_ONLY = "Trained on drawn images only: what this model says of a real picture means nothing."

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #1b1b1b; background: #fff }
.warning { border: 2px solid #8a3c00; padding: .5rem 1rem }
figure { display: inline-block; margin: 0 1rem .5rem 0 } figure img { width: 256px; height: 256px }
section { break-inside: avoid; border-top: 1px solid #777; padding: 1rem 0 }
table { border-collapse: collapse } td, th { padding: .1rem .8rem .1rem 0; text-align: left }
"""


@dataclass(frozen=True, eq=False)
class Explained:
    """A picture, its row of the table, the class that is explained and the overlay; none out of scope."""

    picture: Picture
    row: pd.Series
    explained: str
    overlay: Image.Image | None


def explain(
    model: SavedModel,
    paths: Sequence[Path],
    folder: Path,
    *,
    method: str = "grad_cam",
    target: str | None = None,
    progress: bool | None = None,
) -> tuple[Bad, ...]:
    """Write into ``folder`` where a model looked in pictures, and return the files that could not be read.

    For each picture there is an overlay, ``NUMBER-NAME.png``, the picture at its left; none for what is out
    of scope. Beside them stand ``answers.csv``, as `hemafl_lib.clinic.predict` gives it, with the column
    ``explained``, and ``report.html``, one file with all of it.

    Parameters
    ----------
    model, paths, progress
        As in `hemafl_lib.clinic.predict`.
    folder
        Made if need be; files of the same names are replaced.
    method
        A key of `hemafl_lib.explain.ALL_METHODS`.
    target
        The class whose score is explained; by default what the model answers.

    Raises
    ------
    DataError
        If a path does not exist, there is no picture among them or too many, or ``folder`` cannot be written.
    ModelError
        If the class or the method is unknown.
    """
    check_request(model, method, target)
    check_folder(folder)
    files = find_files(paths)
    if len(files) > MOST:
        raise DataError(f"these are {len(files)} files; explain at most {MOST} at a time.")
    found = [read(path, model.size) for path in bar(files, desc="pictures", unit="picture", show=progress)]
    pictures = [each for each in found if isinstance(each, Picture)]
    bad = tuple(each for each in found if isinstance(each, Bad))
    if not pictures:
        raise DataError(f"none of the files is a picture; the first says: {bad[0].sentence}")
    explained = explain_pictures(model, pictures, method, target)
    for number, each in enumerate(explained, 1):
        if each.overlay is None:
            continue
        beside = side_by_side(each.picture.original, each.overlay)
        path = folder / f"{number:03d}-{each.picture.path.stem[:60]}.png"
        replace_file(path, partial(beside.save, format="PNG", pnginfo=described()))
    table = pd.DataFrame([{**each.row, "explained": each.explained} for each in explained])
    write_text(folder / "answers.csv", as_csv(table, warnings_of(model)))
    write_text(folder / "report.html", page(model, explained, bad, method))
    return bad


def described() -> PngInfo:
    """Return what a picture file says of itself where a viewer shows it."""
    info = PngInfo()
    info.add_text("Description", DISCLAIMER)
    return info


def find_maps() -> ModuleType:
    """Return the room of the saliency methods; raise `ModelError` if what it needs is not installed."""
    try:
        from hemafl_lib import explain as maps
    except ModuleNotFoundError as error:
        raise ModelError(f"maps need {error.name}; run pip install 'hemafl_lib[explain]'.") from None
    return maps


def check_request(model: SavedModel, method: str, target: str | None) -> None:
    """Raise `ModelError` if the class or the method is unknown."""
    maps = find_maps()
    if method not in maps.ALL_METHODS:
        raise ModelError(f"method '{method}' is unknown; choose one of: {', '.join(maps.ALL_METHODS)}.")
    if target is not None and target not in model.card.classes:
        raise ModelError(f"class '{target}' is unknown; choose one of: {', '.join(model.card.classes)}.")


def explain_pictures(
    model: SavedModel, pictures: Sequence[Picture], method: str, target: str | None
) -> list[Explained]:
    """Return what a model says of pictures and where it looked."""
    images = torch.stack([picture.pixels for picture in pictures])
    classes = model.card.classes
    if target is None:
        numbers = torch.from_numpy(answer(model, images).predicted)
    else:
        numbers = torch.full((len(images),), classes.index(target))
    found = find_maps().relevance(model.network, images, numbers, method, device="cpu")
    rows = rows_of(model, pictures)
    return [
        Explained(picture, row, "", None)
        if row["scope"].startswith(OUT_OF_SCOPE)
        else Explained(picture, row, classes[int(number)], overlay(picture.original, relevance))
        for picture, (_, row), number, relevance in zip(
            pictures, rows.iterrows(), numbers, found, strict=True
        )
    ]


def overlay(original: Image.Image, relevance: Tensor) -> Image.Image:
    """Return a picture in grey with the positive relevance, float32[h, w], laid over it in blocks of orange.

    The most relevant place is the most opaque; a map without any leaves the picture grey.
    """
    positive = F.interpolate(relevance.clamp_min(0)[None, None], (SIDE, SIDE), mode="nearest-exact")[0, 0]
    largest = float(positive.max())
    opacity = STRONGEST * (positive / largest if largest > 0 else positive).numpy()[:, :, None]
    grey = np.asarray(square(original).convert("L").convert("RGB"), dtype=np.float64)
    return Image.fromarray(np.rint((1 - opacity) * grey + opacity * np.array(COLOUR)).astype(np.uint8))


def square(original: Image.Image) -> Image.Image:
    """Return a picture as a square of `SIDE` pixels, as the model sees its shape."""
    return original.resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def side_by_side(original: Image.Image, overlaid: Image.Image) -> Image.Image:
    """Return the picture and its overlay in one image, a white line between them."""
    both = Image.new("RGB", (2 * SIDE + 8, SIDE), "white")
    both.paste(square(original), (0, 0))
    both.paste(overlaid, (SIDE + 8, 0))
    return both


def page(model: SavedModel, explained: Sequence[Explained], bad: Sequence[Bad], method: str) -> str:
    """Return the report as one HTML page, which forbids itself every request."""
    card = model.card
    failed = "".join(f"<li>{html.escape(each.sentence)}</li>" for each in bad)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>Where the model looked</title><style>{STYLE}</style></head><body>\n"
        "<h1>Where the model looked</h1>\n"
        f'<p class="warning"><strong>{html.escape(" ".join(warnings_of(model)))}</strong></p>\n'
        f"<p>Model: {html.escape(card.title)} ({html.escape(card.name)}). {html.escape(card.about)}</p>\n"
        f"{score_table(model)}\n<p>Method: {html.escape(method)}. Orange, over the picture in grey, marks "
        "the places that raise the score of the class that is explained; each map is scaled to its own "
        "maximum.</p>\n"
        + "\n".join(section(model, each) for each in explained)
        + (f"\n<h2>Files that could not be read</h2><ul>{failed}</ul>" if bad else "")
        + "\n</body></html>\n"
    )


def warnings_of(model: SavedModel) -> list[str]:
    """Return the sentences that stand above everything a model says."""
    drawn = [DRAWN_ONLY] if model.card.simulated else []
    unchecked = [] if model.card.scope else [UNCHECKED]
    return [DISCLAIMER, *drawn, *unchecked]


def score_table(model: SavedModel) -> str:
    """Return where the card says how good the model is, as an HTML table."""
    rows = "".join(
        f"<tr><td>{html.escape(score.where)}</td><td>{KINDS[score.kind]}</td><td>{score.cells}</td>"
        f"<td>{score.balanced_accuracy:.2f} ({score.low:.2f} to {score.high:.2f})</td>"
        f"<td>{score.chance:.2f}</td>"
        + "".join(
            f"<td>{html.escape(share(x))}</td>"
            for x in (score.calibration_error, score.coverage, score.flagged)
        )
        + "</tr>"
        for score in model.card.scores
    )
    if not rows:
        return "<p>The card says nothing of how good this model is.</p>"
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in COLUMNS)}</tr>"
    return f"<table><caption>{HOW_SCORED}</caption>{head}{rows}</table>"


def share(value: float | None) -> str:
    """Return a share in per cent; a dash where the card does not say it."""
    return "-" if value is None else percent(value)


def percent(value: float) -> str:
    """Return a share as it is read: never quite nothing nor quite all."""
    return "<1%" if 0 < value < 0.005 else ">99%" if 0.995 <= value < 1 else f"{value:.0%}"


def section(model: SavedModel, each: Explained) -> str:
    """Return one picture's part of the report; where the answer means nothing there is no map of it."""
    name = html.escape(each.picture.path.name)
    return (
        f"<section><h2>{name}</h2>{sentence(model, each.row)}"
        f'<figure><img src="{data_uri(square(each.picture.original))}" alt="{name}, as it was taken">'
        "<figcaption>the picture</figcaption></figure>"
        f"{map_figure(each)}</section>"
    )


def map_figure(each: Explained) -> str:
    """Return where the model looked in a picture, as HTML; nothing where there is no map."""
    if each.overlay is None:
        return ""
    explained = html.escape(each.explained)
    return (
        f'<figure><img src="{data_uri(each.overlay)}" alt="Places that speak for {explained}">'
        f"<figcaption>speaks for {explained}</figcaption></figure>"
    )


def sentence(model: SavedModel, row: pd.Series) -> str:
    """Return in words what a row of `rows_of` says; a warning takes the place of a model's confidence."""
    if row["scope"].startswith(OUT_OF_SCOPE):
        why = row["scope"].removeprefix(OUT_OF_SCOPE).strip(" ()")
        by = " and ".join(SEEN.get(name, name) for name in why.split(" and "))
        return (
            f'<p class="warning">Out of scope: it is unlike the pictures that the model was made for, by '
            f"{html.escape(by)}. Good cells in another stain are often called so, too. Its answer is not "
            "given.</p>"
        )
    answered = f"{html.escape(row['class'])}, {html.escape(percent(row['probability']))}."
    if model.card.sets is None:
        return f"<p>{answered}</p>"
    held = html.escape(row["set"])
    level = f"{model.card.sets.level:.0%}"
    if not held:
        return f"<p>{answered} No class fits as well as {level} of the cells from home fit theirs.</p>"
    meant = f"meant to hold the right class for {level} of home's cells; elsewhere often far fewer"
    return f"<p>{answered} Left over: {held} ({meant}, see the table).</p>"


def data_uri(image: Image.Image) -> str:
    """Return an image as text that a page can hold."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
