"""A first draft of a mapping, from looking at a hospital's table and folders.

What cannot be told from the data holds "?", which `parse_mapping` refuses until a person has filled it in.
Everything else is a guess too: a person who knows the data reads it through.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from hemafl_lib.data.classes import CELL_TYPES, OWN_NAMES
from hemafl_lib.data.findings import shown
from hemafl_lib.data.images import FORMATS
from hemafl_lib.data.own.mapping import FILL_IN
from hemafl_lib.data.own.quantities import Quantity, quantity
from hemafl_lib.data.own.table import LIKE_A_NUMBER
from hemafl_lib.data.sheets import Sheet, known, read_sheet, spelling
from hemafl_lib.errors import DataError

TABLES = (".csv", ".tsv", ".txt")

MOSTLY = 0.9
"""Share of numbers above which a column is one of numbers."""

FEW_WORDS = 6
"""Different words in a column that are codes; more are free text."""

WORDS = {
    "age": "age alter alterbeidiagnose ageatdiagnosis",
    "male": "sex gender male geschlecht",
    "haemoglobin": "hb hgb haemoglobin hemoglobin hämoglobin",
    "platelets": "plt platelets thrombocytes thrombozyten",
    "white_cells": "wbc leucocytes leukocytes leukozyten whitecells",
    "neutrophils": "anc neutrophils neutrophile",
    "marrow_blasts": "blasts bmblasts marrowblasts blasten",
    "lactate_dehydrogenase": "ldh",
    "performance_status": "ecog performancestatus",
    "creatinine": "creatinine kreatinin krea",
    "patient": "patient patientid patid patnr id pid mrn",
    "time": "time followup months days os osmonths ostime survival überleben",
    "event": "event status death dead died osstatus vitalstatus verstorben",
    "label": "label outcome infarct",
    "origin": "diagnosis diagnosisdate dateofdiagnosis diagnose diagnosedatum",
    "last": "zuletzt lastseen lastvisit lastcontact lastfollowup letzterkontakt lastdate dateofdeath",
}
"""What columns are often called, by what they are."""

CLASS_WORDS = {
    "segmented_neutrophil": "seg segs segmented segmentkernige",
    "band_neutrophil": "band bands stab stabkernige",
    "neutrophil": "neut neutro neutrophils neutrophile",
    "lymphocyte": "lymph lympho lymphs lymphocytes lymphozyten",
    "monocyte": "mono monos monocytes monozyten",
    "eosinophil": "eo eos eosino eosinophils eosinophile",
    "basophil": "baso basos basophils basophile",
}
"""What class folders are often called beside what the public sources call them."""

MISSING = ("-1", "-9", "-99", "-999", "999", "9999", "k.A.", "k. A.", "nd", "n.d.", "missing", ".", "?")
"""Cells that often say "not known" beside those that always do."""

DATES = {
    r"\d{4}-\d\d-\d\d": "%Y-%m-%d",
    r"\d\d?\.\d\d?\.\d{4}": "%d.%m.%Y",
    r"\d\d?/\d\d?/\d{4}": "%d/%m/%Y",
}
"""How dates are written."""

YES, NO = "yes ja 1 dead died true tot verstorben deceased", "no nein 0 alive false lebt"


def draft_mapping(folder: Path | str) -> str:
    """Return a first draft of a folder's mapping file, as TOML.

    Raises `DataError` if the folder holds neither one table nor folders of images.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{shown(root)} is not a folder; give the folder of the table or the images.")
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLES and path.is_file())
    if len(tables) > 1:
        names = ", ".join(shown(path.name) for path in tables)
        raise DataError(f"{shown(root)} holds several tables ({names}); leave the one with the patients.")
    parts = [draft_table(read_sheet(tables[0], ","), tables[0].name)] if tables else []
    pictures = image_folders(root)
    if pictures:
        parts.append(draft_images(pictures))
    if not parts:
        raise DataError(
            f"{shown(root)} holds no table ({', '.join(TABLES)}) and no folders of images "
            f"({', '.join(FORMATS)}); give another folder."
        )
    head = "# A draft: read every line. '?' is what nobody but you can know.\n\nsmallest_count = 5\n"
    return head + "\n" + "\n".join(parts)


def line(name: str, value: object, remark: str = "") -> str:
    """Return one line of TOML."""
    return f"{name} = {toml(value)}{f'  # {remark}' if remark else ''}\n"


def toml(value: object) -> str:
    """Return a text, number, list or table in one line of TOML; JSON writes the first three alike."""
    if isinstance(value, dict):
        inside = ", ".join(
            f"{json.dumps(str(key), ensure_ascii=False)} = {toml(v)}" for key, v in value.items()
        )
        return f"{{ {inside} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


# --- tables ----------------------------------------------------------------------------------------


def draft_table(sheet: Sheet, file: str) -> str:
    """Return the draft of ``[table]``."""
    missing = missing_codes(sheet)
    cells = {
        str(name): known(sheet, str(name)).mask(sheet.rows[name].isin(missing)).dropna()
        for name in sheet.rows
    }
    roles = {spelling_of_word(name): name for name in cells}
    found = {kind: first_of(words.split(), roles) for kind, words in WORDS.items()}
    patient = found["patient"] or next((name for name, given in cells.items() if all_differ(given)), FILL_IN)
    text = "[table]\n" + line("file", file) + line("patient", patient, "tells patients apart")
    text += line("missing", missing, "cells that say: not known") + "\n"
    text += draft_outcome(found, cells)
    ends = {patient, *(found[kind] for kind in ("time", "event", "label", "origin", "last"))}
    names = {found[kind]: kind for kind in WORDS if found[kind]}
    for column, given in cells.items():
        if column not in ends:
            text += draft_feature(names.get(column) or as_name(column), column, given)
    return text


def draft_outcome(found: dict[str, str | None], cells: dict[str, pd.Series]) -> str:
    """Return the draft of ``[table.outcome]``: a label if there is one and no event, else survival."""
    if found["label"] and not found["event"]:
        codes = code_guess(cells[found["label"]])
        return (
            "[table.outcome]\n"
            + line("kind", "label")
            + line("label", found["label"])
            + line("codes", codes)
            + "\n"
        )
    event = found["event"] or FILL_IN
    codes = code_guess(cells[event]) if event in cells else {FILL_IN: FILL_IN}
    text = "[table.outcome]\n" + line("kind", "survival", "or 'label', with 'label' and 'codes'")
    text += line("event", event) + line("codes", codes, "1 where the event was observed, 0 where not")
    if found["origin"] and found["last"]:
        form = next(iter(date_forms(cells[found["origin"]])), FILL_IN)
        text += line("origin", found["origin"]) + line("last", found["last"]) + line("dates", form)
    else:
        text += line("time", found["time"] or FILL_IN, "from the diagnosis on")
        text += line("unit", FILL_IN, "days, months or years")
    return text + "\n"


def draft_feature(name: str, column: str, cells: pd.Series) -> str:
    """Return the draft of one feature; free text and dates are left out, with a remark."""
    head = f"[table.features.{name}]\n" + line("column", column)
    few = cells.nunique() <= FEW_WORDS and not date_forms(cells)
    if cells.nunique() < 2:
        return f"# '{shown(column)}' holds one value or none, and is left unread.\n\n"
    if few and not (quantity(name) and is_numeric(cells)):
        return head + line("codes", code_guess(cells)) + "\n"
    if not is_numeric(cells):
        return f"# '{shown(column)}' holds text or dates, and is left unread.\n\n"
    about = quantity(name)
    if about is None:
        return head + line("unit", FILL_IN, "the same at every hospital") + "\n"
    unit, remark = guessed_unit(about, cells)
    return head + line("unit", unit, remark) + "\n"


def missing_codes(sheet: Sheet) -> list[str]:
    """Return the words of a sheet that often say "not known", and stand in few cells of their columns."""
    found = []
    for code in MISSING:
        shares = [(sheet.rows[name] == code).mean() for name in sheet.rows]
        if any(0 < share < 0.5 for share in shares) and not is_value(code, sheet):
            found.append(code)
    return found


def is_value(code: str, sheet: Sheet) -> bool:
    """Return whether a number may be a measurement: other cells of its columns are like it."""
    if not re.fullmatch(LIKE_A_NUMBER, code):
        return False
    for name in sheet.rows:
        numbers = as_number(sheet.rows[name])
        others = numbers[numbers != float(code)].dropna()
        if (sheet.rows[name] == code).any() and len(others) and others.min() <= float(code) <= others.max():
            return True
    return False


def guessed_unit(about: Quantity, cells: pd.Series) -> tuple[str, str]:
    """Return the unit in which the median of a column is usual, and what is to be said of the guess."""
    median, (low, high) = as_number(cells).median(), about.typical
    fitting = [unit for unit, factor in about.factor.items() if low <= median * factor <= high]
    if len(fitting) == 1 or (fitting and fitting[0] == about.unit):
        return fitting[0], f"guessed from the median, {median:g}"
    return FILL_IN, f"one of {', '.join(about.factor)}; the median is {median:g}"


def code_guess(cells: pd.Series) -> dict[str, object]:
    """Return each word of a column with what it may mean: 1 or 0, or what a person has to fill in."""
    words = sorted(set(cells.map(str)), key=lambda word: (len(word), word))
    male = {"m": 1, "male": 1, "männlich": 1, "w": 0, "f": 0, "female": 0, "weiblich": 0}
    plain = {word: 1 for word in YES.split()} | {word: 0 for word in NO.split()} | male
    return {word: plain.get(word.casefold(), FILL_IN) for word in words} or {FILL_IN: FILL_IN}


def is_numeric(cells: pd.Series) -> bool:
    """Return whether the cells are numbers, but for a slip here and there."""
    return bool(cells.map(str).str.fullmatch(LIKE_A_NUMBER).mean() > MOSTLY)


def as_number(cells: pd.Series) -> pd.Series:
    """Return cells as numbers, NaN where they are none; a decimal comma is read as a point."""
    return pd.to_numeric(cells.map(str).str.replace(",", "."), errors="coerce")


def all_differ(cells: pd.Series) -> bool:
    """Return whether no cell stands twice and none is a number with decimals."""
    return bool(len(cells) > 1 and cells.is_unique and not cells.map(str).str.contains(r"\d[.,]\d").any())


def date_forms(cells: pd.Series) -> list[str]:
    """Return how the cells are written as dates, if they all are."""
    texts = cells.map(str)
    return [form for pattern, form in DATES.items() if len(texts) and texts.str.fullmatch(pattern).all()]


def spelling_of_word(name: str) -> str:
    """Return a column's name without anything but letters and digits."""
    return re.sub(r"[\W_]", "", spelling(name))


def first_of(words: Iterable[str], names: dict[str, str]) -> str | None:
    """Return the column that is called like the first of the words that one is called like."""
    return next((names[word] for word in words if word in names), None)


def as_name(column: str) -> str:
    """Return a column's name as that of a feature: letters, digits and "_"."""
    name = re.sub(r"\W+", "_", column.casefold()).strip("_")
    return name if name.isidentifier() else f"column_{name}"


# --- images ----------------------------------------------------------------------------------------


def image_folders(root: Path) -> dict[str, set[str]]:
    """Return the folders in ``root`` that hold images, at any depth, and the suffixes of these."""
    found = {
        path.name: {file.suffix.lower() for file in path.rglob("*") if file.suffix.lower() in FORMATS}
        for path in sorted(root.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    }
    return {name: suffixes for name, suffixes in found.items() if suffixes}


def draft_images(folders: dict[str, set[str]]) -> str:
    """Return the draft of ``[images]``."""
    suffixes = sorted({suffix for found in folders.values() for suffix in found})
    text = "[images]\n" + line("suffixes", suffixes)
    text += line("patient", "image", "or 'prefix' or 'folder', if the names tell patients apart")
    text += "\n[images.classes]  # folder = one of " + ", ".join(CELL_TYPES) + "\n"
    return text + "".join(line(json.dumps(name), class_guess(name)) for name in folders)


def class_guess(folder: str) -> str:
    """Return the type of cell that a folder may hold."""
    word = spelling_of_word(folder)
    known_words = {spelling_of_word(name): name for name in CELL_TYPES}
    for names in OWN_NAMES.values():
        # A bare number means something else in every source.
        known_words |= {spelling_of_word(own): kind for own, kind in names.items() if not own.isdigit()}
    for kind, words in CLASS_WORDS.items():
        known_words |= dict.fromkeys(words.split(), kind)
    return known_words.get(word, FILL_IN)
