"""What a model says of a folder of pictures, as a table: one row a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hemafl_lib.clinic.answers import Answers, answer
from hemafl_lib.clinic.pictures import Bad, Picture, find_files, read
from hemafl_lib.clinic.saved import SavedModel
from hemafl_lib.data.findings import shown
from hemafl_lib.progress import bar

AT_A_TIME = 64
"""Pictures that are in memory together."""

DISCLAIMER = (
    "Not a medical device. A map shows where the model looked, not that its answer is right; do not base any "
    "decision about a patient on it."
)
"""What everything says that leaves this room."""

OUT_OF_SCOPE = "out of scope"
"""What a row says of a picture that is no image of the kind that the model knows."""

UNCHECKED = "not checked"
"""What a row says where the model has no scope: it answers a flower as surely as a cell."""

FORMULA = r"^[=+\-@\t\r\n]"
"""How a text begins that a spreadsheet may take for a formula, and compute."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """A row for each picture that could be read, and the files that could not."""

    table: pd.DataFrame
    bad: tuple[Bad, ...]


def predict(model: SavedModel, paths: Sequence[Path], *, progress: bool | None = None) -> Predictions:
    """Return what a model says of picture files, and of those in folders.

    Parameters
    ----------
    model
        As `hemafl_lib.clinic.load` returns it.
    paths
        Files and folders.
    progress
        Whether to show a bar; None shows it on a terminal only.

    Returns
    -------
    Predictions
        The table has the columns ``file``, ``class``, ``probability`` (of that class, at the card's
        temperature), ``set`` (the classes that cannot be ruled out, joined by "; "; empty if no class fits),
        ``scope`` ("out of scope" with what says so, empty, or "not checked"), and a column ``p CLASS`` for
        each class. What is out of scope has no class, probability or set.

    Raises
    ------
    DataError
        If a path does not exist, or there is no file.
    """
    files = find_files(paths)
    rows: list[pd.DataFrame] = []
    bad: list[Bad] = []
    with bar(total=len(files), desc="pictures", unit="picture", show=progress) as so_far:
        for start in range(0, len(files), AT_A_TIME):
            read_now = [read(path, model.size) for path in files[start : start + AT_A_TIME]]
            pictures = [each for each in read_now if isinstance(each, Picture)]
            bad += [each for each in read_now if isinstance(each, Bad)]
            if pictures:
                rows.append(rows_of(model, pictures))
            so_far.update(len(read_now))
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns(model))
    return Predictions(table, tuple(bad))


def rows_of(model: SavedModel, pictures: Sequence[Picture]) -> pd.DataFrame:
    """Return a row for each picture."""
    said = answer(model, torch.stack([picture.pixels for picture in pictures]))
    classes = model.card.classes
    table = pd.DataFrame(
        {
            "file": [shown(picture.path) for picture in pictures],
            "class": [classes[number] for number in said.predicted],
            "probability": said.probabilities.max(axis=1),
            "set": [sets_in_words(said, row, classes) for row in range(len(pictures))],
            "scope": [scope_in_words(said, row) for row in range(len(pictures))],
        }
    )
    table.loc[said.out_of_scope, ["class", "set"]] = ""  # an answer that means nothing is not given
    table.loc[said.out_of_scope, "probability"] = np.nan
    shares = {f"p {name}": said.probabilities[:, number] for number, name in enumerate(classes)}
    return table.assign(**shares)[columns(model)]


def columns(model: SavedModel) -> list[str]:
    """Return the names of the columns, in order."""
    return ["file", "class", "probability", "set", "scope", *(f"p {name}" for name in model.card.classes)]


def sets_in_words(said: Answers, row: int, classes: Sequence[str]) -> str:
    """Return the classes of a row's set."""
    if said.sets is None:
        return ""
    return "; ".join(name for name, held in zip(classes, said.sets[row], strict=True) if held)


def scope_in_words(said: Answers, row: int) -> str:
    """Return the warning of a row, nothing, or that the model cannot warn."""
    if not said.beyond:
        return UNCHECKED
    why = [name for name, beyond in said.beyond.items() if beyond[row]]
    return f"{OUT_OF_SCOPE} ({' and '.join(why)})" if why else ""


def as_csv(table: pd.DataFrame, warnings: Sequence[str] = (DISCLAIMER,)) -> str:
    """Return a table as CSV, with what `hemafl_lib.clinic.warnings_of` gives in a last column ``note``.

    What is out of scope shows no probability of any class, which would be read as an answer. A text that a
    spreadsheet could take for a formula gets an apostrophe first.
    """
    table = table.assign(note=" ".join(warnings))
    if "scope" in table:
        shares = table.columns.astype(str).str.startswith("p ")
        table.loc[table["scope"].str.startswith(OUT_OF_SCOPE), shares] = np.nan
    texts = table.select_dtypes(exclude="number")
    for name in texts:
        guarded = texts[name].astype(str).str.replace(FORMULA, r"'\g<0>", regex=True)
        table[name] = guarded.str.replace("\r", "\n")  # which is quoted; the other would begin a row
    return table.to_csv(index=False)
