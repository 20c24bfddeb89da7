"""What a reader thinks of answers, kept as JSON in a folder that the reader names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from hemafl_book.clinic.explorer.looking import Seen
from hemafl_lib.clinic import DISCLAIMER
from hemafl_lib.clinic.card import Checked, Name, Text
from hemafl_lib.errors import DataError, one_line
from hemafl_lib.files import check_folder, write_json

FILE = "reading_list.json"
MOST_BYTES = 10_000_000
"""A file with more is no reading list."""

Mark = Literal["agree", "disagree", "unsure"]
MARKS: tuple[Mark, ...] = ("agree", "disagree", "unsure")


class Said(Checked):
    """What one model said: its class, empty if it gave no answer, and the class's probability."""

    model: Name
    method: Name
    answer: Text
    probability: Annotated[float, Field(ge=0, le=1)] | None


class Entry(Checked):
    """A marked cell, what the models on screen said of it, and a remark in the reader's words."""

    cell: Name
    source: Text
    mark: Mark
    remark: Text
    said: tuple[Said, ...]


class Document(Checked):
    """The file."""

    format: Literal["hemafl reading list"] = "hemafl reading list"
    version: Literal[1] = 1
    disclaimer: Text = DISCLAIMER
    entries: tuple[Entry, ...] = ()


def entry(cell: str, source: str, mark: Mark, remark: str, seen: Sequence[Seen]) -> Entry:
    """Return what is noted of a cell.

    Raises `DataError` if the name or the remark is too long.
    """
    said = tuple(
        Said(
            model=each.view.model,
            method=each.view.method,
            answer=each.row["class"],
            probability=float(each.row["probability"]) if each.in_scope else None,
        )
        for each in seen
    )
    try:
        return Entry(cell=cell, source=source, mark=mark, remark=remark.strip(), said=said)
    except ValidationError as error:
        field = error.errors()[0]["loc"][0]
        raise DataError(f"the {field} of this cell cannot be kept; give it in fewer letters.") from None


def read(folder: Path) -> tuple[Entry, ...]:
    """Return the entries of the list in a folder; none if there is no list.

    Raises `DataError` if the file there is something else.
    """
    path = folder / FILE
    if not path.exists():
        return ()
    if path.stat().st_size > MOST_BYTES:
        raise DataError(
            f"{path} has more than {MOST_BYTES:,} bytes and is no reading list; name another folder."
        )
    try:
        # As JSON and not as Python values: a list there is a tuple here.
        return Document.model_validate_json(path.read_bytes()).entries
    except ValidationError as error:
        reason = one_line(error.errors()[0]["msg"], 200)
        raise DataError(
            f"{path} is no reading list ({reason}); move it away or name another folder."
        ) from None


def keep(folder: Path, added: Entry) -> tuple[Entry, ...]:
    """Write an entry into the list in a folder, in place of an earlier one of the same cell; return all.

    Raises `DataError` if the folder cannot be written or holds something else under the list's name.
    """
    check_folder(folder)
    others = tuple(each for each in read(folder) if (each.cell, each.source) != (added.cell, added.source))
    entries = (*others, added)
    write_json(folder / FILE, Document(entries=entries).model_dump(mode="json"))
    return entries
