"""Clean tables of patients: one row a patient, one unit a column, an outcome that can be true.

What cannot be right is refused in one sentence that names the file, the column, the row and one value; what
has one safe repair is repaired, counted and reported. Values that nobody knows stay NaN: `impute` fills them
later, with values learnt from the training patients alone (the readers cannot know which patients those will
be, nor what a federation has agreed on).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hemafl_lib.data.cohort import Provenance, TableCohort
from hemafl_lib.data.sheets import Sheet, found_in, known, quoted, rows_of, spelling, stem
from hemafl_lib.errors import DataError

PER_MONTH = {"days": 365.25 / 12, "months": 1.0, "years": 1 / 12.0}
"""How many of each unit of time make a month."""

LONGEST_FOLLOW_UP = (1.0, 30.0)
"""Years between which the longest follow-up of a study lies; outside, its times are in another unit."""

ENOUGH = 20
"""Known values of a column from which on its median says in which unit the column is."""

LEAST_MATCHED = 0.75
"""Share of the patients of a table that another table of the study has to know, and the other way round."""

LEAST_FOLLOWED = 0.5
"""Share of the patients whose outcome has to be known."""

NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"


@dataclass(frozen=True)
class OtherUnit:
    """A second unit that a column is known to come in: its values are multiplied by ``factor``."""

    unit: str
    factor: float


@dataclass(frozen=True)
class Column:
    """A column of measured numbers.

    Parameters
    ----------
    name
        What the feature is called here.
    source
        What its column is called in the file.
    unit
        Unit of the feature.
    low, high
        Smallest and largest value that a patient can have, in that unit.
    typical
        Between which values the median of a cohort lies, in that unit.
    others
        Other units to convert from. A column is in one unit, and the column as a whole tells which: a single
        value cannot (platelets of 3000 per microlitre are 3, and 3000 times 10^9/l can be true as well).
    whole
        Whether the values are whole numbers.
    few_fractions
        The largest share of values between 0 and 1, where more of them are a sign of two units in one column.
    """

    name: str
    source: str
    unit: str
    low: float
    high: float
    typical: tuple[float, float] = (-math.inf, math.inf)
    others: tuple[OtherUnit, ...] = ()
    whole: bool = False
    few_fractions: float = 1.0


def age(source: str, name: str = "age") -> Column:
    """Return an age in years; other columns are in days."""
    return Column(name, source, "years", 1, 120, (10, 95), (OtherUnit("days", 1 / 365.25),))


def haemoglobin(source: str) -> Column:
    """Return haemoglobin in g/dl; other columns are in g/l (mmol/l cannot be told from g/dl)."""
    return Column("haemoglobin", source, "g/dl", 2, 25, (5, 18), (OtherUnit("g/l", 0.1),))


def platelets(source: str, typical: tuple[float, float] = (15, 600)) -> Column:
    """Return platelets in 10^9/l; other columns are counts per microlitre."""
    return Column("platelets", source, "10^9/l", 1, 3000, typical, (OtherUnit("per microlitre", 1e-3),))


def blasts(name: str, source: str, typical: tuple[float, float]) -> Column:
    """Return blasts in percent; other columns are shares of 1."""
    return Column(name, source, "%", 0, 100, typical, (OtherUnit("shares of 1", 100),), few_fractions=0.05)


@dataclass(frozen=True)
class CleanTable:
    """Checked patients.

    ``rows`` has one row a patient, with the columns patient and site (text), time (months), event (bool),
    and one float column a feature; ``notes`` and ``repairs`` are those of its `Provenance`.
    """

    rows: pd.DataFrame
    notes: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()


def one_row_a_patient(sheet: Sheet, key: str) -> Sheet:
    """Drop rows that repeat another one in every cell, however the ``key`` is spelt, and count them.

    Raises
    ------
    DataError
        If a patient has no ``key``, or one with a character that cannot be seen, or two rows that differ:
        which one holds cannot be guessed.
    """
    require_filled(sheet, key)
    hidden = ~sheet.rows[key].map(lambda name: str(name).isprintable()).astype(bool)
    if hidden.any():
        raise DataError(
            f"{sheet.file}: column {key} holds {found_in(sheet.rows[key], hidden)}, in which a character "
            "cannot be seen; type the key anew."
        )
    repeated = sheet.rows.assign(**{key: sheet.rows[key].map(spelling)}).duplicated()
    if repeated.any():
        sheet.repaired(f"{int(repeated.sum())} row(s) of {sheet.name} that repeat another were left out.")
    kept = replace(sheet, rows=sheet.rows[~repeated])
    _refuse_second_rows(kept, key)
    return kept


def _refuse_second_rows(sheet: Sheet, key: str) -> None:
    """Raise `DataError` if two rows are of one patient, be the ``key`` spelt otherwise or numbered."""
    spelt = sheet.rows[key].map(spelling)
    twice = spelt.duplicated(keep=False)
    if twice.any():
        rows = spelt.index[spelt == spelt[twice].iloc[0]]
        raise DataError(
            f"{sheet.file}: {rows_of(rows)} give one patient ({quoted(sheet.rows[key][rows[0]])}) different "
            "values; keep one row each, or tell them apart by more than blanks, capitals and leading zeros."
        )
    own = {name: row for row, name in spelt.items()}
    for row, name in sheet.rows[key].items():
        other = own.get(stem(name), row)
        if other != row:
            raise DataError(
                f"{sheet.file}: rows {other} and {row} look like one patient under two spellings "
                f"({quoted(name)}); keep one row, or give the second patient a name of its own."
            )


def as_numbers(sheet: Sheet, column: str) -> pd.Series:
    """Return a column as float64, NaN where nobody knows the value.

    Raises
    ------
    DataError
        If a cell holds no finite number, or one that can be read in two ways.
    """
    cells = known(sheet, column)
    values = _parsed(sheet, column, cells)
    # R marks "not available" by a NaN of its own bits, which NumPy warns of; this writes the usual one.
    values = values.mask(values.isna(), np.nan)
    # An infinite number is as little a measurement as a word is.
    wrong = cells.notna() & ~np.isfinite(values)
    if wrong.any():
        raise DataError(
            f"{sheet.file}: column {column} holds {found_in(cells, wrong)}, which is no number; write it "
            "with a decimal point and nothing else, or NA where it is not known."
        )
    return values


def _parsed(sheet: Sheet, column: str, cells: pd.Series) -> pd.Series:
    """Return cells as float64, NaN where they hold no number."""
    if pd.api.types.is_numeric_dtype(cells.dtype):
        return cells.astype("float64")
    text = cells.map(str, na_action="ignore").astype(object)
    for mark in ",.":
        marked = text[text.str.fullmatch(rf"[+-]?[0-9]*{re.escape(mark)}[0-9]+").eq(True)]
        if len(marked):
            _refuse_thousands(sheet, column, text, marked, mark)
            sheet.decimals.setdefault(mark, (column, int(marked.index[0])))
    if len(sheet.decimals) == 2:
        places = " and ".join(
            f"'{mark}' (column {c}, row {row})" for mark, (c, row) in sheet.decimals.items()
        )
        raise DataError(f"{sheet.file}: decimals are marked by {places}; write all with a decimal point.")
    if "," in sheet.decimals:
        sheet.repaired(f"{sheet.name} has decimal commas, which were read as points.")
        text = text.str.replace(",", ".", regex=False)
    return pd.to_numeric(text.where(text.str.fullmatch(NUMBER).eq(True)), errors="coerce").astype("float64")


def _refuse_thousands(sheet: Sheet, column: str, text: pd.Series, marked: pd.Series, mark: str) -> None:
    """Raise `DataError` if the mark may separate thousands: "1,189" beside "191" may be 1189 days or 1.189.

    Three digits follow every mark then. Behind a point this happens to true decimals as well, so that numbers
    without a point have to stand beside them.
    """
    grouped = marked.str.fullmatch(rf"[+-]?[1-9][0-9]{{0,2}}{re.escape(mark)}[0-9]{{3}}").eq(True)
    plain = text.str.fullmatch(r"[+-]?[0-9]{1,3}").eq(True)
    if grouped.all() and (mark == "," or plain.any()):
        row = marked.index[0]
        raise DataError(
            f"{sheet.file}: column {column} holds {quoted(marked[row])} in row {row}, where '{mark}' may "
            "mark decimals or thousands; write numbers with a decimal point and without marks of thousands."
        )


def measured(sheet: Sheet, column: Column) -> pd.Series:
    """Return a column of measurements in its unit, float64.

    Raises
    ------
    DataError
        If a value is no number, or lies outside what a patient can have in the unit of the column, or if the
        column fits no unit, or several.
    """
    values = as_numbers(sheet, column.source)
    unit = _unit(sheet, column, values)
    converted = values * unit.factor if unit.factor != 1 else values
    if unit.factor != 1:
        sheet.repaired(
            f"{column.source} of {sheet.name} is in {unit.unit} and was converted to {column.unit}, all "
            f"{int(values.notna().sum())} values."
        )
    fractions = (converted > 0) & (converted < 1)
    if fractions.sum() > column.few_fractions * converted.notna().sum():
        raise DataError(
            f"{sheet.file}: column {column.source} holds {found_in(sheet.rows[column.source], fractions)} "
            f"among values in {column.unit}, as if in two units; write all in {column.unit}."
        )
    wrong = converted.notna() & (converted % 1 != 0) & column.whole
    if wrong.any():
        raise DataError(
            f"{sheet.file}: column {column.source} holds {found_in(sheet.rows[column.source], wrong)}; "
            f"write a whole number from {column.low:g} to {column.high:g}."
        )
    return converted


def _unit(sheet: Sheet, column: Column, values: pd.Series) -> OtherUnit:
    """Return the unit that the values of a column are in."""
    own = OtherUnit(column.unit, 1)
    if not values.notna().any():
        return own
    units = (own, *column.others)
    outside = {unit: _outside(column, values * unit.factor) for unit in units}
    fitting = [unit for unit in units if not outside[unit].any()]
    low, high = column.typical
    usual = [unit for unit in fitting if low <= (values * unit.factor).median() <= high]
    if len(usual) == 1:
        return usual[0]
    if own in fitting and not usual and values.notna().sum() < ENOUGH:
        return own
    some_outside = 0 < outside[own].mean() < 0.5
    if fitting and not some_outside:
        raise DataError(
            f"{sheet.file}: the median of column {column.source}, {values.median():g}, is not that of a "
            f"cohort in {' or '.join(unit.unit for unit in units)} ({low:g} to {high:g} {column.unit} is "
            "usual); correct the unit."
        )
    nearest = own if some_outside else min(units, key=lambda unit: outside[unit].sum())
    bounds = f"{column.low / nearest.factor:g} to {column.high / nearest.factor:g} {nearest.unit}"
    found = found_in(sheet.rows[column.source], outside[nearest])
    raise DataError(
        f"{sheet.file}: column {column.source} holds {found}, outside {bounds}; correct it, and give the "
        f"whole column in {column.unit}."
    )


def _outside(column: Column, values: pd.Series) -> pd.Series:
    """Return where a known value is not one that a patient can have."""
    return values.notna() & ~values.between(column.low, column.high)


def flag(sheet: Sheet, column: str) -> pd.Series:
    """Return a column of 0 and 1 as float64, NaN where it is empty; raise `DataError` for other values."""
    return coded(sheet, column, {0: 0.0, 1: 1.0})


def coded(sheet: Sheet, column: str, codes: Mapping[int, float] | Mapping[str, float]) -> pd.Series:
    """Return a column of words or of numbers as float64, NaN where it is empty.

    Raises
    ------
    DataError
        If a cell holds anything else than one of ``codes``.
    """
    cells = known(sheet, column)
    if all(isinstance(code, int) for code in codes):
        values = _parsed(sheet, column, cells).map(codes).astype("float64")
    else:
        values = cells.map(codes).astype("float64")
    wrong = cells.notna() & values.isna()
    if wrong.any():
        raise DataError(
            f"{sheet.file}: column {column} holds {found_in(cells, wrong)}; write one of "
            f"{', '.join(map(str, codes))}, or NA where it is not known."
        )
    return values


def indicators(
    sheet: Sheet, column: str, wanted: Mapping[str, object], codes: Sequence[int] | Sequence[str]
) -> dict[str, pd.Series]:
    """Return one 0/1 column for each code of ``wanted``, by the name it has there.

    Raises
    ------
    DataError
        If a cell holds none of the ``codes``.
    """
    return {
        name: coded(sheet, column, {other: float(other == code) for other in codes})  # type: ignore[arg-type]
        for name, code in wanted.items()
    }


def require_filled(sheet: Sheet, column: str) -> None:
    """Raise `DataError` if a cell of ``column`` is empty."""
    cells = known(sheet, column)
    empty = cells.index[cells.isna()]
    if len(empty):
        raise DataError(
            f"{sheet.file}: column {column} is empty in {rows_of(empty)}; fill it in for every row."
        )


def outcome(
    sheet: Sheet,
    time: str,
    event: str,
    *,
    unit: str,
    longest: tuple[float, float] = LONGEST_FOLLOW_UP,
) -> pd.DataFrame:
    """Return time (float64, months) and event (bool) of the patients whose outcome is known.

    A patient without either is left out and counted; a time of zero is kept (it says that somebody was
    lost, or died, on the first day).

    Parameters
    ----------
    sheet
        The table, one row a patient.
    time, event
        Names of its columns; ``event`` holds 1 where the event was observed and 0 where it was not.
    unit
        Unit of ``time``: "days", "months" or "years".
    longest
        Between how many years the longest follow-up lies.

    Raises
    ------
    DataError
        If an event has no time or a time no event, a time cannot be, or the outcomes tell nothing: hardly any
        is known, nobody had the event, or all times are one.
    """
    times = as_numbers(sheet, time)
    if times.isin([0, 1]).all() and not as_numbers(sheet, event).isin([0, 1]).all():
        raise DataError(f"{sheet.file}: columns {time} and {event} look swapped; swap their names.")
    events = flag(sheet, event)
    half = sheet.rows.index[times.isna() != events.isna()]
    if len(half):
        raise DataError(
            f"{sheet.file}: {rows_of(half)} give(s) only one of {time} and {event}; fill in both, or neither."
        )
    everybody, followed = len(times), times.notna()
    if followed.sum() < max(1, LEAST_FOLLOWED * everybody):
        raise DataError(
            f"{sheet.file}: {int(followed.sum())} of {everybody} patients have a {time} and a {event}, and "
            f"at least {LEAST_FOLLOWED:.0%} should; fill in the outcome."
        )
    _require_plausible(sheet, time, times, unit, longest)
    times, events = times[followed], events[followed] == 1
    if not events.any():
        raise DataError(
            f"{sheet.file}: column {event} is 0 for all {len(events)} patients, and nothing about survival "
            "can be learnt where nobody had the event; write 1 where it was observed."
        )
    if len(times) > 1 and times.nunique() == 1:
        raise DataError(f"{sheet.file}: column {time} is the same for every patient; correct it.")
    if everybody > len(times):
        sheet.notes.append(f"{everybody - len(times)} patient(s) without a known outcome were left out.")
    if events.all():
        sheet.notes.append(f"Every patient of {sheet.name} had the event.")
    return pd.DataFrame({"time": times / PER_MONTH[unit], "event": events})


def _require_plausible(
    sheet: Sheet, column: str, times: pd.Series, unit: str, longest: tuple[float, float]
) -> None:
    """Raise `DataError` if times are negative, or too long or too short to be in their unit."""
    years = times / PER_MONTH[unit] / 12
    low, high = longest
    negative, wrong = times < 0, years > high
    if negative.any():
        raise DataError(
            f"{sheet.file}: column {column} holds {found_in(sheet.rows[column], negative)}, and no time is "
            "negative; correct the dates."
        )
    expected = f"times are expected in {unit}, from 0 to a longest follow-up of {low:g} to {high:g} years"
    if wrong.any():
        raise DataError(
            f"{sheet.file}: column {column} holds {found_in(sheet.rows[column], wrong)}, and its times are "
            f"{years.min():,.1f} to {years.max():,.1f} years; {expected}; correct it, or the unit."
        )
    if years.max() < low:
        raise DataError(
            f"{sheet.file}: the longest follow-up in column {column} is {times.max():g} {unit}, "
            f"{years.max():.2g} years; {expected}; correct the unit."
        )


def match(
    sheet: Sheet, key: str, patients: pd.Series, *, all_patients: bool = True, strangers: int = 0
) -> pd.Series:
    """Return, for each row of a second table, the row of its patient in the first; NaN where there is none.

    Keys match whatever their `spelling`. How many match on each side is noted.

    Parameters
    ----------
    sheet, key
        The second table and its column of keys.
    patients
        The keys of the first table.
    all_patients
        Whether the second table has to know every patient of the first (a list of mutations has not).
    strangers
        How many patients of the second table are known to be missing in the first.

    Raises
    ------
    DataError
        If a key looks like that of a patient but for a number behind it, or less than `LEAST_MATCHED` of
        either side match.
    """
    require_filled(sheet, key)
    own = {spelling(name): row for row, name in patients.items()}
    names = sheet.rows[key]
    rows = names.map(spelling).map(own)
    for row, name in names[rows.isna()].items():
        if stem(name) in own:
            raise DataError(
                f"{sheet.file}: column {key} holds {quoted(name)} in row {row}, which looks like a patient's "
                "key with something behind it; write it as in the clinical table."
            )
    listed, found = names.map(spelling).nunique(), rows.nunique()
    counts = f"{found} of {listed} patients of {sheet.name} match the {len(patients)} of the clinical table"
    if found < LEAST_MATCHED * max(listed, len(patients)):
        raise DataError(
            f"{sheet.file}: only {counts}, and at least {LEAST_MATCHED:.0%} of both should; compare column "
            f"{key} (row {names.index[0]} holds {quoted(names.iloc[0])}) with the keys of the clinical table."
        )
    sheet.notes.append(f"{counts}.")
    matched = rows.dropna().astype(int)
    otherwise = int((names[matched.index].to_numpy() != patients[matched].to_numpy()).sum())
    strange, missing = listed - found, len(patients) - found
    if otherwise:
        sheet.repaired(f"{otherwise} key(s) of {sheet.name} are spelt otherwise than in the clinical table.")
    if strange > strangers:
        sheet.repaired(f"{strange} patient(s) of {sheet.name} without a clinical record were left out.")
    if all_patients and missing:
        sheet.repaired(f"{missing} patient(s) have no row in {sheet.name}: its features are unknown.")
    return rows


def beside(columns: Mapping[str, pd.Series], rows: pd.Series, patients: pd.Series) -> dict[str, pd.Series]:
    """Put columns of a second table beside the patients of the first, by the ``rows`` that `match` gives."""
    there = rows.dropna().astype(int)
    return {
        name: values[there.index].set_axis(there.to_numpy(), axis=0).reindex(patients.index)
        for name, values in columns.items()
    }


def joined(
    times: pd.DataFrame,
    patients: pd.Series,
    site: pd.Series | str,
    columns: Mapping[str, pd.Series],
    *sheets: Sheet,
) -> CleanTable:
    """Put the columns of the patients with a known outcome side by side, and what is told of their sheets."""
    everyone = pd.DataFrame({"patient": patients, "site": site, **columns})
    notes = [note for sheet in sheets for note in (*_not_known(sheet), *sheet.notes)]
    repairs = [repair for sheet in sheets for repair in sheet.repairs]
    return CleanTable(times.join(everyone), tuple(notes), tuple(repairs))


def _not_known(sheet: Sheet) -> list[str]:
    """Count the cells that say that a value is not known."""
    if not sheet.unknown:
        return []
    counts = ", ".join(f"{column} {count}" for column, count in sheet.unknown.items())
    return [f"Cells of {sheet.name} that say 'not known': {counts}."]


def to_cohort(table: CleanTable, features: Sequence[str], provenance: Provenance) -> TableCohort:
    """Return checked patients as a cohort, with ``features`` as the columns of float32[N, F]."""
    rows = table.rows
    return TableCohort(
        features=torch.tensor(rows[list(features)].to_numpy(np.float32)),
        feature_names=tuple(features),
        time=torch.tensor(rows["time"].to_numpy(np.float32)),
        event=torch.tensor(rows["event"].to_numpy(bool)),
        site=rows["site"].to_numpy(str),
        patient=rows["patient"].to_numpy(str),
        provenance=provenance,
    )


def choose_features(groups: Mapping[str, Sequence[str]], asked: str | None) -> tuple[str, ...]:
    """Return the features of the groups that ``asked`` names, joined by "+"; of all groups if None.

    Raises
    ------
    DataError
        If a group is unknown.
    """
    names = list(groups) if asked is None else [name.strip() for name in str(asked).split("+")]
    unknown = [name for name in names if name not in groups]
    if unknown:
        raise DataError(
            f"features='{asked}': group '{unknown[0]}' is unknown; join some of {', '.join(groups)} with '+'."
        )
    # Groups may share features (age is demographic and clinical); each is taken once.
    return tuple(dict.fromkeys(feature for name in names for feature in groups[name]))


def select(cohort: TableCohort, names: Sequence[str]) -> TableCohort:
    """Return the cohort with the features ``names`` only, in that order; `DataError` if one is unknown.

    For whom: who has a table of their own, or must leave out a feature that nobody measured (`known_means`).
    """
    unknown = [name for name in names if name not in cohort.feature_names]
    if unknown or not names:
        raise DataError(f"features {unknown} are not in this cohort; choose of {list(cohort.feature_names)}.")
    columns = [cohort.feature_names.index(name) for name in names]
    return replace(cohort, features=cohort.features[:, columns], feature_names=tuple(names))


def known_means(cohort: TableCohort) -> Tensor:
    """Return the mean of the known values of each feature, float32[F].

    For whom: who fits a model to a table with gaps, such as IPSS-M, which models refuse; see `impute`.
    Ask this of the patients a model is trained on, never of those it is tested on. Sums are taken in
    float64, so that the mean of a large cohort is exact to float32.

    Raises
    ------
    DataError
        If nobody's value of a feature is known.
    """
    means = cohort.features.double().nanmean(dim=0)
    empty = [
        name for name, mean in zip(cohort.feature_names, means.tolist(), strict=True) if math.isnan(mean)
    ]
    if empty:
        raise DataError(f"no patient has a known value of {', '.join(empty)}; leave it out with 'select'.")
    return means.float()


def impute(cohort: TableCohort, values: Tensor) -> TableCohort:
    """Fill the unknown values of each feature with one number.

    With means (`known_means`, or the means that the sites of a federation pool) this is mean imputation:
    a linear model then gives a patient with an unknown value the average risk as far as that feature goes,
    and a 0/1 feature gets its frequency. It pretends to know what nobody measured, so report how much was
    filled in.

    Parameters
    ----------
    cohort
        The cohort to fill.
    values
        One finite number a feature, float[F].

    Raises
    ------
    DataError
        If there is not one finite number a feature.
    """
    if values.shape != (len(cohort.feature_names),) or not torch.isfinite(values).all():
        raise DataError(
            f"values= has shape {tuple(values.shape)} or is not finite; "
            f"give one number for each of the {len(cohort.feature_names)} features."
        )
    filled = torch.where(cohort.features.isnan(), values.to(cohort.features.dtype), cohort.features)
    return replace(cohort, features=filled)
