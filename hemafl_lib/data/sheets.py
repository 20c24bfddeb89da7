"""A text file of rows and columns, as a person sees it in a spreadsheet.

Every table of text is read here, and in one way: each row has as many cells as the header has names, or the
file is refused and the row named, since nobody can tell which cell of such a row moved. Rows are numbered as
a spreadsheet numbers them, the header being row 1. What differs from the layout but can be read in one way
only (another separator, another encoding, blanks around a value) is read and told.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from hemafl_lib.errors import DataError

SHOWN = 8
"""Rows named in a sentence; the rest is counted."""

LONGEST_QUOTE = 30
"""Characters of a cell that a sentence quotes."""

LONGEST_CELL = 100_000
"""Characters that a cell may have; the limit of `csv` is one for all of a program, which others move."""

SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}

NOT_KNOWN = ("", "NA", "N/A", "n.a.", "NaN", "-", "unknown")
"""What a cell holds where nobody knows the value, in capitals or not; all else has to be a value."""

FOREIGN = {
    b"PK\x03\x04": "an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook of the old kind",
    b"\x1f\x8b": "a compressed file",
    b"%PDF": "a PDF",
    b"<": "a web page or XML",
}
"""How files begin that are no text tables, whatever their names say."""

MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}
"""The marks that files of an encoding begin with; without one, a file is read as UTF-8."""

HINT = r"sep=.(?:\r\n|\r|\n)"
"""A first line by which Excel is told the separator; Excel does not show it, so it is not counted."""

INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
"""Characters without width that copying from web pages and documents leaves in cells."""

FEW_ENDING_EMPTY = 0.05
"""Rows that end empty are a sign of cells moved to the left if they are at most this share (or one)."""


@dataclass(frozen=True)
class Sheet:
    """A table on its way to being checked, and what is to be told of it.

    Parameters
    ----------
    file
        What sentences call it.
    rows
        Its cells; the index numbers the rows as a person sees them.
    notes, repairs
        Sentences for the `Provenance`; reading a column adds to them.
    unknown
        How many cells of each column that was read hold a code of `NOT_KNOWN`.
    decimals
        The column and row in which each mark of decimals ("." or ",") was first met.
    """

    file: str
    rows: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)
    decimals: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the file, without its folder."""
        return Path(self.file).name

    def repaired(self, sentence: str) -> None:
        """Tell once of what was repaired."""
        if sentence not in self.repairs:
            self.repairs.append(sentence)


def read_sheet(path: Path, separator: str) -> Sheet:
    """Read a text file with a header; every cell is text without blanks around it.

    Raises
    ------
    DataError
        If the file cannot be read, is no text table, or has a row that does not fit its header.
    """
    file = _printable(str(path))
    text, repairs = _text(path, file)
    hint = re.match(HINT, text)
    text = text if hint is None else text[hint.end() :]
    found = _separator(text, separator)
    if found != separator:
        repairs.append(f"{path.name} is separated by {SEPARATORS[found]}, not by {SEPARATORS[separator]}.")
    raw = _records(text, found, file)
    trimmed = {row: [_trim(cell) for cell in cells] for row, cells in raw.items()}
    blank = [row for row, cells in trimmed.items() if len(cells) > 1 and not any(cells)]
    if blank:
        repairs.append(f"{len(blank)} row(s) of {path.name} without any value were left out.")
    full = {row: cells for row, cells in trimmed.items() if any(cells)}
    padded = sum(cell != raw[row][i] for row, cells in full.items() for i, cell in enumerate(cells))
    if padded:
        repairs.append(f"{padded} cell(s) of {path.name} had blanks around their value.")
    if not full:
        raise DataError(f"{file} is empty; restore it.")
    header, *records = full.items()
    if not records:
        raise DataError(f"{file} holds a header and no row below it; restore the rows.")
    names = header[1]
    _require_even(file, names, dict(records), found)
    index = pd.Index([row for row, _ in records])
    frame = pd.DataFrame([cells for _, cells in records], index, pd.Index(names), dtype=object)
    return _without_nameless(Sheet(file, frame, repairs=repairs))


def sheet_of(frame: pd.DataFrame, file: str) -> Sheet:
    """Return a table that a package has read as a sheet whose rows are counted from 1, its text trimmed."""
    sheet = Sheet(file, frame.set_axis(pd.RangeIndex(1, len(frame) + 1), axis=0))
    for name, cells in sheet.rows.items():
        if not pd.api.types.is_numeric_dtype(cells.dtype):
            texts = cells.astype(object)
            sheet.rows[name] = texts.map(lambda cell: _trim(cell) if isinstance(cell, str) else cell)
            padded = int((texts.notna() & (texts != sheet.rows[name])).sum())
            if padded:
                sheet.repaired(f"{padded} cell(s) of {name} in {sheet.name} had blanks around their value.")
    return sheet


def require(sheet: Sheet, columns: Sequence[str]) -> Sheet:
    """Return the sheet with ``columns`` spelt as asked; blanks and capitals in a name may differ.

    Raises
    ------
    DataError
        If one of ``columns`` is missing or stands more than once.
    """
    names = [str(name) for name in sheet.rows.columns]
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(spelling(name), []).append(place)
    missing = [column for column in columns if spelling(column) not in places]
    if missing:
        raise DataError(f"{sheet.file} lacks the column(s) {', '.join(missing)}; restore or rename them.")
    for column in columns:
        first, *more = places[spelling(column)]
        if more:
            which = ", ".join(str(place + 1) for place in (first, *more))
            raise DataError(
                f"{sheet.file}: column {column} stands more than once ({which}); keep one of them."
            )
        if names[first] != column:
            sheet.repaired(f"A column of {sheet.name} was read as {column}, which its name spells otherwise.")
            names[first] = column
    return replace(sheet, rows=sheet.rows.set_axis(pd.Index(names), axis=1))


def known(sheet: Sheet, column: str) -> pd.Series:
    """Return a column with NaN where nobody knows the value, and count these cells."""
    cells = sheet.rows[column]
    if pd.api.types.is_numeric_dtype(cells.dtype):
        return cells
    codes = {code.casefold() for code in NOT_KNOWN}
    cells = cells.astype(object)
    coded = cells.map(lambda cell: isinstance(cell, str) and cell.casefold() in codes).astype(bool)
    if coded.any():
        sheet.unknown[column] = int(coded.sum())
    return cells.mask(coded)


def spelling(name: object) -> str:
    """Return what a key or a column's name has in common with its other spellings.

    Capitals, blanks (also those that cannot be seen), leading zeros and the ".0" of a number that went
    through a spreadsheet do not count: "p 01", "P1" and "P1.0" are one.
    """
    text = unicodedata.normalize("NFKC", str(name)).casefold()
    text = "".join(character for character in text if not character.isspace() and character not in INVISIBLE)
    text = re.sub(r"(?<=\d)\.0+$", "", text)
    return re.sub(r"(?<![\d.])0+(?=\d)", "", text)


def stem(name: object) -> str:
    """Return the spelling of a key without a number behind it: of "P1_1", "P1 (2)" and "P1.1" it is "p1"."""
    return re.sub(r"(?<=.)[ _.-]?\(\d{1,2}\)$|(?<=.)[_.-]\d{1,2}$", "", spelling(name))


def rows_of(index: Sequence[int] | pd.Index) -> str:
    """Name rows: "row 3", or "rows 3, 5 and 7 more"."""
    numbers = [str(row) for row in index[:SHOWN]]
    more = f" and {len(index) - SHOWN} more" if len(index) > SHOWN else ""
    return f"row{'s' if len(index) > 1 else ''} {', '.join(numbers)}{more}"


def quoted(value: object) -> str:
    """Quote a cell, shortened and without control characters."""
    text = _printable(str(value))
    return f"'{text[:LONGEST_QUOTE]}...'" if len(text) > LONGEST_QUOTE else f"'{text}'"


def found_in(cells: pd.Series, wrong: pd.Series) -> str:
    """Say what the first wrong cell of a column holds, and where else: "'x' in row 3 (likewise row 5)".

    Only one cell is quoted: a sentence may be sent to others, and the cells are of patients.
    """
    first, *rest = cells.index[wrong]
    others = f" (likewise {rows_of(rest)})" if rest else ""
    return f"{quoted(cells[first])} in row {first}{others}"


def _printable(text: str) -> str:
    """Return a text with a blank for each character that no line should hold."""
    return "".join(character if character.isprintable() else " " for character in text)


def _text(path: Path, file: str) -> tuple[str, list[str]]:
    """Return the characters of a file, and what had to be guessed."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); restore the file.") from None
    for start, kind in FOREIGN.items():
        if raw.lstrip().startswith(start):
            raise DataError(
                f"{file} is {kind} and no text table; open it and save the table as CSV in UTF-8."
            )
    marked = [name for mark, name in MARKS.items() if raw.startswith(mark)]
    text, encoding = _decoded(file, raw, marked[:1] or ["utf-8", "cp1252"])
    guessed = f"{path.name} is not in UTF-8 and was read as Windows-1252 (Latin-1)."
    if "\0" in text:
        row = len(re.findall(r"\r\n|\r|\n", text[: text.index("\0")])) + 1
        raise DataError(
            f"{file}: row {row} holds a NUL byte; the file is damaged or in UTF-16, save it as UTF-8."
        )
    return text, [guessed] if encoding == "cp1252" else []


def _decoded(file: str, raw: bytes, encodings: Sequence[str]) -> tuple[str, str]:
    """Return the characters of a file in the first encoding that fits, and which that is."""
    for encoding in encodings:
        try:
            return raw.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise DataError(f"{file} is no text in a known encoding; save it as UTF-8.")


def _separator(text: str, expected: str) -> str:
    """Return what separates the cells of the first line: what is expected, unless it separates none."""
    line = next((line for line in re.split(r"\r\n|\r|\n", text) if line.strip()), "")
    if expected in line:
        return expected
    return max(SEPARATORS, key=lambda separator: (line.count(separator), separator == expected))


def _records(text: str, separator: str, file: str) -> dict[int, list[str]]:
    """Return the cells of each row by its number."""
    records: dict[int, list[str]] = {}
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    row = 0
    try:
        for row, cells in enumerate(reader, 1):
            records[row] = cells
    except csv.Error as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{file}: row {row + 1} cannot be read ({reason}); look for a quotation mark too many, or for a "
            "cell without end."
        ) from None
    for row, cells in records.items():
        if max(map(len, cells), default=0) > LONGEST_CELL:
            raise DataError(
                f"{file}: row {row} cannot be read (a cell has more than {LONGEST_CELL:,} characters); look "
                "for a quotation mark too many, or for a cell without end."
            )
    return records


def _trim(cell: str) -> str:
    """Return a cell without blanks around it, visible or not."""
    return cell.strip().strip(INVISIBLE).strip()


def _require_even(file: str, names: list[str], records: dict[int, list[str]], separator: str) -> None:
    """Raise `DataError` unless each row has one cell for each name, none of which swallowed other rows."""
    kind = SEPARATORS[separator]
    uneven = [row for row, cells in records.items() if len(cells) != len(names)]
    if uneven:
        others = f" (likewise {rows_of(uneven[1:])})" if uneven[1:] else ""
        raise DataError(
            f"{file}: row {uneven[0]} has {len(records[uneven[0]])} cells and the header has {len(names)}"
            f"{others}, so its cells may have moved; take out {kind} that are too many, fill in what is "
            f"missing, and quote a cell that holds {kind} of its own."
        )
    if len(names) == 1:
        kinds = ", ".join(SEPARATORS.values())
        raise DataError(
            f"{file} has one column only, its cells being separated by none of {kinds}; restore it."
        )
    for row, cells in records.items():
        if any(("\n" in cell or "\r" in cell) and cell.count(separator) >= len(names) - 1 for cell in cells):
            raise DataError(f"{file}: a cell of row {row} holds further rows; take its quotation mark out.")
    _require_unmoved(file, names, records)


def _require_unmoved(file: str, names: list[str], records: dict[int, list[str]]) -> None:
    """Raise `DataError` if few rows end with empty cells, and no cell is empty elsewhere.

    This is what a spreadsheet leaves where a cell was deleted and the rest of its row moved to the left.
    """
    empty = {row: [not cell for cell in cells] for row, cells in records.items() if not all(cells)}
    at_end = all(gaps == sorted(gaps) for gaps in empty.values())
    if empty and at_end and len(empty) <= max(1, FEW_ENDING_EMPTY * len(records)) < len(records) / 2:
        raise DataError(
            f"{file}: the last cell (column {quoted(names[-1])}) is empty in {rows_of(list(empty))} and no "
            "other cell is, as if cells had moved to the left; move them back, or write NA if not known."
        )


def _without_nameless(sheet: Sheet) -> Sheet:
    """Leave out columns that have neither name nor value; refuse those that have values only."""
    kept = []
    for place, name in enumerate(sheet.rows.columns):
        cells = sheet.rows.iloc[:, place]
        if name:
            kept.append(place)
        elif (cells != "").any():
            row = cells.index[cells != ""][0]
            raise DataError(
                f"{sheet.file}: column {place + 1} has no name but a value in row {row}, so cells may have "
                "moved; name or delete the column."
            )
        else:
            sheet.repaired(f"A column of {sheet.name} without name and value was left out.")
    return replace(sheet, rows=sheet.rows.iloc[:, kept])
