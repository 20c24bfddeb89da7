"""A hospital's own table, read as its mapping says; whatever is wrong in it is named row by row."""

import hashlib
from collections.abc import Mapping as Codes
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hemafl_lib.data.cohort import Provenance, TableCohort
from hemafl_lib.data.own.mapping import Feature, Label, Mapping, Survival, TableMapping
from hemafl_lib.data.own.quantities import Quantity, quantity
from hemafl_lib.data.sheets import Sheet, known, quoted, read_sheet, require, spelling
from hemafl_lib.data.tables import LONGEST_FOLLOW_UP, PER_MONTH, as_numbers, one_row_a_patient
from hemafl_lib.errors import DataError, one_line

LIKE_A_NUMBER = r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?"
"""A number with a decimal point or comma; which of the two it is, the column tells."""


@dataclass
class Reading:
    """A table on its way: its ``sheet``, the ``problems`` met so far, and what is ``noted`` of it.

    Each problem is one line that names its row or file.
    """

    sheet: Sheet
    problems: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)

    def add(self, where: str, what: str) -> None:
        """Note a problem and its remedy."""
        self.problems.append(one_line(f"{where}: {what}."))

    def add_rows(self, column: str, rows: pd.Index, what: str) -> None:
        """Note a problem for each row of a column; ``what`` follows the cell that it quotes."""
        cells = self.sheet.rows[column]
        for row in rows:
            self.add(f"row {row}, column {column}", f"{quoted(cells[row])} {what}")


@dataclass(frozen=True)
class OwnTable:
    """A table that was read.

    ``rows`` has one row a patient whose outcome is known: ``patient``, a float column a feature, and
    ``time`` (months) and ``event``, or ``label``. ``unread`` are columns that no part of the mapping names.
    """

    rows: pd.DataFrame
    problems: tuple[str, ...]
    noted: tuple[str, ...]
    unread: tuple[str, ...]


def load_own_table(folder: Path | str, mapping: Mapping, site: str) -> TableCohort:
    """Return a hospital's own table as the rows of ``site``: features float32[N, F], NaN where not known.

    Raises `DataError` if the mapping has no table, or the table has a problem (`check_own` names all).
    """
    if mapping.table is None:
        raise DataError("the mapping has no '[table]'; add it, or train on images.")
    table = examine_table(Path(folder), mapping.table)
    if table.problems:
        raise DataError(
            f"{table.problems[0].rstrip('.')} ('hemafl data check FOLDER --mapping FILE' names all "
            f"{len(table.problems)} problems)."
        )
    rows, names = table.rows, tuple(mapping.table.features)
    survival = isinstance(mapping.table.outcome, Survival)
    return TableCohort(
        features=torch.tensor(rows[list(names)].to_numpy(np.float32)),
        feature_names=names,
        time=torch.tensor(rows["time"].to_numpy(np.float32)) if survival else None,
        event=torch.tensor(rows["event"].to_numpy(bool)) if survival else None,
        label=None if survival else torch.tensor(rows["label"].to_numpy(np.int64)),
        site=np.full(len(rows), site),
        patient=rows["patient"].to_numpy(str),
        provenance=Provenance(
            name=site,
            source=f"The hospital's own table, {len(rows)} patients.",
            licence="the hospital's own",
            simulated=False,
            checksum=hashlib.sha256(rows.to_csv(float_format="%.9g").encode()).hexdigest(),
            notes=table.noted,
        ),
    )


def examine_table(folder: Path, mapping: TableMapping) -> OwnTable:
    """Read a table and collect everything that is wrong with it; nothing is raised for what it holds."""
    columns = columns_of(mapping)
    try:
        sheet = read_sheet(folder / mapping.file, ",")
        unread = tuple(name for name in map(str, sheet.rows.columns) if spelling(name) not in columns)
        sheet = require(sheet, list(columns.values()))
        sheet = one_row_a_patient(with_missing(sheet, mapping), mapping.patient)
    except DataError as error:
        return OwnTable(pd.DataFrame(), (str(error),), (), ())
    reading = Reading(sheet)
    values = {"patient": sheet.rows[mapping.patient].map(str)}
    for name, feature in mapping.features.items():
        values[name] = read_feature(reading, name, feature)
    outcome = mapping.outcome
    ends = read_survival(reading, outcome) if isinstance(outcome, Survival) else read_label(reading, outcome)
    rows = pd.DataFrame(values | ends, index=sheet.rows.index)
    followed = rows[list(ends)].notna().all(axis=1)
    check_outcome(reading, rows[followed], ends)
    if not followed.all():
        reading.noted.append(f"{int((~followed).sum())} patient(s) without a known outcome are left out.")
    noted = (*sheet.repairs, *sheet.notes, *reading.noted)
    return OwnTable(rows[followed], tuple(reading.problems), noted, unread)


def columns_of(mapping: TableMapping) -> dict[str, str]:
    """Return the columns that a mapping names, by their spelling."""
    outcome = mapping.outcome
    ends = (
        [outcome.event, outcome.time, outcome.origin, outcome.last]
        if isinstance(outcome, Survival)
        else [outcome.label]
    )
    names = [mapping.patient, *ends, *(feature.column for feature in mapping.features.values())]
    return {spelling(name): name for name in names if name is not None}


def with_missing(sheet: Sheet, mapping: TableMapping) -> Sheet:
    """Return the sheet with the hospital's own codes for "not known" as empty cells."""
    codes = {spelling(code) for code in mapping.missing}
    if not codes:
        return sheet
    rows = sheet.rows.map(lambda cell: "" if spelling(cell) in codes else cell)
    return replace(sheet, rows=rows)


# --- features --------------------------------------------------------------------------------------


def read_feature(reading: Reading, name: str, feature: Feature) -> pd.Series:
    """Return a feature in the federation's unit, float64, NaN where it is not known or wrong."""
    if feature.codes is not None:
        return read_codes(reading, feature.column, feature.codes)
    values = read_numbers(reading, feature.column)
    refuse(reading, feature.column, values, feature.low, feature.high, "in this column's own bounds")
    known_quantity = quantity(name)
    if known_quantity is None or feature.unit is None:
        return values
    values = values * known_quantity.factor[feature.unit]
    check_quantity(reading, feature, known_quantity, values)
    return values


def read_numbers(reading: Reading, column: str) -> pd.Series:
    """Return a column as float64; each cell that is no number is a problem, and NaN."""
    cells = known(reading.sheet, column).map(str, na_action="ignore")
    wrong = cells.notna() & ~cells.str.fullmatch(LIKE_A_NUMBER).eq(True)
    reading.add_rows(
        column,
        cells.index[wrong],
        "is no number; correct it, or state it as a code under 'missing' if it says that nobody knows",
    )
    rows = reading.sheet.rows.assign(**{column: cells.mask(wrong).fillna("")})
    try:
        return as_numbers(replace(reading.sheet, rows=rows), column)
    except DataError as error:  # decimals that can be read in two ways
        reading.problems.append(str(error))
        return pd.Series(np.nan, index=cells.index)


def read_codes(reading: Reading, column: str, codes: Codes[str, float]) -> pd.Series:
    """Return what the words of a column mean, float64; each unknown word is a problem, and NaN."""
    meaning = {spelling(code): float(value) for code, value in codes.items()}
    cells = known(reading.sheet, column)
    values = cells.map(spelling, na_action="ignore").map(meaning).astype("float64")
    wrong = cells.notna() & values.isna()
    reading.add_rows(
        column, cells.index[wrong], f"is none of the codes {', '.join(codes)}; correct it, or add the code"
    )
    return values


def refuse(
    reading: Reading, column: str, values: pd.Series, low: float | None, high: float | None, what: str
) -> None:
    """Note each value outside of its bounds."""
    lowest, highest = -np.inf if low is None else low, np.inf if high is None else high
    outside = values.notna() & ~values.between(lowest, highest)
    reading.add_rows(
        column, values.index[outside], f"is not {what} ({lowest:g} to {highest:g}); correct it, or the bounds"
    )


def check_quantity(reading: Reading, feature: Feature, about: Quantity, values: pd.Series) -> None:
    """Note a unit that looks wrong, and otherwise each value that no patient can have.

    An unusual median is a problem where another unit would explain it. Otherwise the patients may be unusual.
    """
    given = values.dropna()
    if given.empty:
        reading.noted.append(f"{about.name} is not known of any patient.")
        return
    factor = about.factor[str(feature.unit)]
    low, high = about.typical
    unusual = not low <= given.median() <= high
    raw = given / factor
    others = [
        unit
        for unit, other in about.factor.items()
        if other != factor and low <= (raw * other).median() <= high and np.isfinite(low + high)
    ]
    outside = ~given.between(about.low, about.high)
    hint = f"it looks like {' or '.join(others)}; " if others else ""
    strange = (
        f"its median {raw.median():g} is not usual for {about.name} in {feature.unit} "
        f"({low / factor:g} to {high / factor:g})"
    )
    if (unusual and others) or outside.mean() > 0.5:
        reading.add(f"column {feature.column}", f"{strange}; {hint}correct 'unit' in the mapping")
        return
    if unusual:  # and no unit would make it usual: children, or another disease than most
        reading.noted.append(f"column {feature.column}: {strange}; see that 'unit' is right.")
    refuse(
        reading,
        feature.column,
        raw.round(9),
        about.low / factor,
        about.high / factor,
        f"what a patient can have in {feature.unit}",
    )
    if about.whole:
        broken = given.index[given % 1 != 0]
        reading.add_rows(feature.column, broken, "is no whole number; correct it")


# --- outcomes --------------------------------------------------------------------------------------


def read_label(reading: Reading, outcome: Label) -> dict[str, pd.Series]:
    """Return the label, 0 or 1; NaN where it is not known."""
    return {"label": read_codes(reading, outcome.label, outcome.codes)}


def read_survival(reading: Reading, outcome: Survival) -> dict[str, pd.Series]:
    """Return time in months and event, both NaN where the outcome is not known."""
    event = read_codes(reading, outcome.event, outcome.codes)
    if outcome.time is not None:
        source = outcome.time
        time = read_numbers(reading, source) / PER_MONTH[str(outcome.unit)]
    else:
        source = str(outcome.last)
        begins = read_dates(reading, str(outcome.origin), outcome.dates)
        ends = read_dates(reading, source, outcome.dates)
        time = (ends - begins).dt.days / PER_MONTH["days"]
    early = time.index[time < 0]
    reading.add_rows(source, early, "is before the time of origin, and no time is negative; correct it")
    column = outcome.event
    cells, times = known(reading.sheet, column), known(reading.sheet, source)
    half = cells.index[cells.isna() != times.isna()]
    reading.add_rows(column, half, f"stands beside a {source} that does not fit; fill in both or neither")
    return {"time": time, "event": event}


def read_dates(reading: Reading, column: str, form: str) -> pd.Series:
    """Return a column of dates; each cell that is none is a problem, and NaT."""
    cells = known(reading.sheet, column)
    dates = cells.map(lambda cell: as_date(str(cell), form), na_action="ignore")
    wrong = cells.notna() & dates.isna()
    example = datetime(2021, 12, 31).strftime(form)
    reading.add_rows(
        column, cells.index[wrong], f"is no date such as {example} ({form}); correct it, or 'dates'"
    )
    return pd.to_datetime(dates)


def as_date(text: str, form: str) -> datetime | None:
    """Return the date that a text states, or None."""
    try:
        return datetime.strptime(text, form)
    except ValueError:
        return None


def check_outcome(reading: Reading, rows: pd.DataFrame, ends: dict[str, pd.Series]) -> None:
    """Note outcomes of which nothing can be learnt, and a unit of time that looks wrong."""
    last = "event" if "event" in ends else "label"
    if rows.empty:
        reading.add(reading.sheet.name, "no patient has a known outcome; fill it in")
        return
    if rows[last].nunique() == 1:
        reading.add(
            reading.sheet.name,
            f"'{last}' is {rows[last].iloc[0]:g} for all {len(rows)} patients, and nothing can be learnt "
            "from one kind; look at 'codes'",
        )
    if "time" in ends:
        longest, (low, high) = rows["time"].max() / 12, LONGEST_FOLLOW_UP
        if not low <= longest <= high:
            reading.add(
                reading.sheet.name,
                f"the longest follow-up is {longest:.3g} years, and {low:g} to {high:g} are usual; correct "
                "the unit of time, or the dates",
            )
