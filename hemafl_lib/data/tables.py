"""Clean tables of patients: one row a patient, one unit a column, an outcome that can be true.

What cannot be right is refused in one sentence that names the file, the column and the rows; what has
one safe repair is repaired, counted and reported. Rows are counted from 1, below the header. Values that
nobody knows stay NaN: `impute` fills them later, with values learnt from the training patients alone
(the readers cannot know which patients those will be, nor what a federation has agreed on).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hemafl_lib.data.cohort import Provenance, TableCohort
from hemafl_lib.errors import DataError

SHOWN = 8
"""Rows and values named in a sentence; the rest is counted."""

MONTHS_PER_YEAR = 12.0
DAYS_PER_MONTH = 365.25 / 12


@dataclass(frozen=True)
class OtherUnit:
    """A second unit that values of a column are known to come in, told by a range of its own.

    A value from ``low`` to ``high`` is multiplied by ``factor``.
    """

    unit: str
    low: float
    high: float
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
    other
        A second unit to convert from; None where there is none that can be told apart.
    """

    name: str
    source: str
    unit: str
    low: float = -math.inf
    high: float = math.inf
    other: OtherUnit | None = None


def haemoglobin(source: str) -> Column:
    """Return haemoglobin in g/dl; 40 to 250 can only be g/l (mmol/l cannot be told from g/dl)."""
    return Column("haemoglobin", source, "g/dl", 2, 25, OtherUnit("g/l", 40, 250, 0.1))


def platelets(source: str) -> Column:
    """Return platelets in 10^9/l; 6,000 to 6,000,000 can only be a count per microlitre."""
    return Column("platelets", source, "10^9/l", 0, 5000, OtherUnit("per microlitre", 6e3, 6e6, 1e-3))


@dataclass(frozen=True)
class CleanTable:
    """Checked patients.

    ``rows`` has one row a patient, with the columns patient and site (text), time (months), event (bool),
    and one float column a feature; ``notes`` and ``repairs`` are those of its `Provenance`.
    """

    rows: pd.DataFrame
    notes: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()


def read_text(path: Path, separator: str) -> pd.DataFrame:
    """Read a text file with a header; every cell is text or NaN, and the index counts rows from 1.

    Raises
    ------
    DataError
        If the file is not a table of that kind.
    """
    try:
        frame = pd.read_csv(path, sep=separator, dtype=str, encoding="utf-8-sig", skipinitialspace=True)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        kind = "tabs" if separator == "\t" else f"'{separator}'"
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} cannot be read as a table separated by {kind} ({reason}); restore the file."
        ) from None
    return count_from_one(frame)


def count_from_one(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose index counts its rows from 1."""
    return frame.set_axis(pd.RangeIndex(1, len(frame) + 1), axis=0)


def require(frame: pd.DataFrame, columns: Sequence[str], file: str) -> None:
    """Raise `DataError` if the table lacks one of ``columns``."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(f"{file} lacks the column(s) {', '.join(missing)}; restore or rename them.")


def one_row_a_patient(frame: pd.DataFrame, key: str, file: str) -> tuple[pd.DataFrame, list[str]]:
    """Drop rows that repeat another one in every cell; return the table and what was repaired.

    Raises
    ------
    DataError
        If a patient has no ``key``, or two rows that differ: which one holds cannot be guessed.
    """
    require_filled(frame, key, file)
    repeated = frame.duplicated()
    kept = frame[~repeated]
    twice = kept[kept[key].duplicated(keep=False)]
    if len(twice):
        names = _some(twice[key].unique())
        raise DataError(
            f"{file}: {_rows(twice.index)} give one patient ({names}) different values; keep one row each."
        )
    count = int(repeated.sum())
    return kept, [f"{count} row(s) of {Path(file).name} that repeat another were left out."] if count else []


def as_numbers(frame: pd.DataFrame, column: str, file: str) -> pd.Series:
    """Return a column as float64, NaN where it is empty; raise `DataError` if it holds other text."""
    values = pd.to_numeric(frame[column], errors="coerce").astype("float64")
    # R marks "not available" by a NaN of its own bits, which NumPy warns of; this writes the usual one.
    values = values.mask(values.isna(), np.nan)
    # An infinite number is as little a measurement as a word is.
    wrong = frame[column].notna() & ~np.isfinite(values)
    if wrong.any():
        found = _some(frame.loc[wrong, column].astype(str).unique())
        raise DataError(
            f"{file}: column {column} holds text in {_rows(frame.index[wrong])} ({found}); "
            "write a number with a decimal point, or leave the cell empty where it is not known."
        )
    return values


def measured(frame: pd.DataFrame, column: Column, file: str) -> tuple[pd.Series, list[str]]:
    """Return a column of measurements in one unit, float64, and what was repaired.

    Raises
    ------
    DataError
        If a value is text, or lies outside what a patient can have in any known unit.
    """
    values = as_numbers(frame, column.source, file)
    repairs = []
    if column.other is not None:
        foreign = values.between(column.other.low, column.other.high)
        values = values.where(~foreign, values * column.other.factor)
        if foreign.any():
            repairs.append(
                f"{int(foreign.sum())} value(s) of {column.name} were given in {column.other.unit} "
                f"and were converted to {column.unit}."
            )
    wrong = values.notna() & ~values.between(column.low, column.high)
    if wrong.any():
        found = _some(frame.loc[wrong, column.source].unique())
        raise DataError(
            f"{file}: column {column.source} holds {found} in {_rows(frame.index[wrong])}, outside "
            f"{column.low:g} to {column.high:g} {column.unit}; correct the value(s) or their unit."
        )
    return values, repairs


def flag(frame: pd.DataFrame, column: str, file: str) -> pd.Series:
    """Return a column of 0 and 1 as float64, NaN where it is empty; raise `DataError` for other values."""
    values = as_numbers(frame, column, file)
    wrong = values.notna() & ~values.isin([0, 1])
    if wrong.any():
        raise DataError(
            f"{file}: column {column} holds neither 0 nor 1 in {_rows(frame.index[wrong])}; correct it."
        )
    return values


def coded(frame: pd.DataFrame, column: str, codes: Mapping[object, float], file: str) -> pd.Series:
    """Return a column of words or codes as float64, NaN where it is empty.

    Raises
    ------
    DataError
        If a cell holds anything else than one of ``codes``.
    """
    values = frame[column].map(codes).astype("float64")
    wrong = frame[column].notna() & values.isna()
    if wrong.any():
        found, known = _some(frame.loc[wrong, column].unique()), ", ".join(map(str, codes))
        raise DataError(
            f"{file}: column {column} holds {found} in {_rows(frame.index[wrong])}; write one of {known}."
        )
    return values


def indicators(
    frame: pd.DataFrame, column: str, wanted: Mapping[str, object], known: Sequence[object], file: str
) -> dict[str, pd.Series]:
    """Return one 0/1 column for each code of ``wanted``, by the name it has there.

    Raises
    ------
    DataError
        If a cell holds none of the ``known`` codes.
    """
    return {
        name: coded(frame, column, {other: float(other == code) for other in known}, file)
        for name, code in wanted.items()
    }


def require_filled(frame: pd.DataFrame, column: str, file: str) -> None:
    """Raise `DataError` if a cell of ``column`` is empty."""
    empty = frame.index[frame[column].isna()]
    if len(empty):
        raise DataError(f"{file}: column {column} is empty in {_rows(empty)}; fill it in for every patient.")


def outcome(
    frame: pd.DataFrame, time: str, event: str, file: str, *, per_month: float = 1.0
) -> tuple[pd.DataFrame, list[str]]:
    """Return time (float64, months) and event (bool) of the patients whose outcome is known.

    A patient without either is left out and counted; a time of zero is kept (it says that somebody was
    lost, or died, on the first day).

    Parameters
    ----------
    frame
        The table, one row a patient.
    time, event
        Names of its columns; ``event`` holds 1 where the event was observed and 0 where it was not.
    file
        What a sentence calls the table.
    per_month
        Units of ``time`` in a month: 1/12 for years, 30.4375 for days.

    Raises
    ------
    DataError
        If an event has no time or a time no event, a time is negative, or nobody's outcome is known.
    """
    times, events = as_numbers(frame, time, file), flag(frame, event, file)
    half = frame.index[times.isna() != events.isna()]
    if len(half):
        raise DataError(
            f"{file}: {_rows(half)} give(s) only one of {time} and {event}; fill in both, or neither."
        )
    negative = frame.index[times < 0]
    if len(negative):
        raise DataError(f"{file}: column {time} is negative in {_rows(negative)}; correct the dates.")
    known = times.notna()
    if not known.any():
        raise DataError(f"{file}: nobody has a {time} and a {event}; fill in the outcome.")
    rows = pd.DataFrame({"time": times[known] / per_month, "event": events[known] == 1})
    lost = int((~known).sum())
    return rows, [f"{lost} patient(s) without a known outcome were left out."] if lost else []


def matched(
    frame: pd.DataFrame, keys: pd.Series, patients: pd.Series, file: str
) -> tuple[pd.DataFrame, list[str]]:
    """Put the rows of a second table, named by ``keys``, beside the patients of the first.

    Returns a table with the index of ``patients``, NaN for a patient that the second table does not know,
    and what was repaired.
    """
    beside = frame.set_axis(keys.to_numpy(), axis=0).reindex(patients.to_numpy())
    repairs, name = [], Path(file).name
    strangers = int((~keys.isin(patients)).sum())
    if strangers:
        repairs.append(f"{strangers} row(s) of {name} without a clinical record were left out.")
    unknown = int((~patients.isin(keys)).sum())
    if unknown:
        repairs.append(f"{unknown} patient(s) have no row in {name}: its features are unknown.")
    return beside.set_axis(patients.index, axis=0), repairs


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


def _rows(index: pd.Index) -> str:
    """Name rows: "row 3", or "rows 3, 5 and 7 more"."""
    numbers = [str(row) for row in index[:SHOWN]]
    more = f" and {len(index) - SHOWN} more" if len(index) > SHOWN else ""
    return f"row{'s' if len(index) > 1 else ''} {', '.join(numbers)}{more}"


def _some(values: Sequence[object] | np.ndarray) -> str:
    """Quote the first few values."""
    shown = ", ".join(f"'{value}'" for value in values[:SHOWN])
    return f"{shown}, ..." if len(values) > SHOWN else shown
