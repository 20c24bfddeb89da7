"""Quantities that the library knows by name: their unit in a federation, and what a patient can have."""

from dataclasses import dataclass

from hemafl_lib.data import survival_cohorts as public
from hemafl_lib.data.tables import Column

KNOWN = {
    column.name: column
    for column in (
        *public.IPSSM_MEASURED,
        *public.AMLSG_MEASURED[1:],
        *public.FLCHAIN_MEASURED[1:],
        Column("systolic_pressure", "", "mmHg", 40, 300, (80, 180)),
        Column("foetal_haemoglobin", "", "%", 0, 100),
    )
}
"""Each quantity as the public tables have it: unit, bounds, and between what the median of a cohort lies."""

MORE_UNITS = {
    "age": {"months": 1 / 12},
    "haemoglobin": {"mmol/l": 1.6114},
    "white_cells": {"G/l": 1.0, "/nl": 1.0},
    "neutrophils": {"G/l": 1.0, "/nl": 1.0},
    "platelets": {"G/l": 1.0, "/nl": 1.0},
    "creatinine": {"umol/l": 1 / 88.42},
    "foetal_haemoglobin": {"shares of 1": 100.0},
}
"""Units that a hospital may state beside those of the public tables, as multiples of the federation's.

Haemoglobin in mmol/l counts the monomer (16.114 g/mmol), creatinine has 113.12 g/mol.
"""


@dataclass(frozen=True)
class Quantity:
    """A measured quantity: the federation's ``unit``, and the ``factor`` of each unit that can be stated.

    ``low`` to ``high`` is what a patient can have, ``typical`` where the median of a cohort lies, and
    ``whole`` says whether values are whole numbers; all in the federation's unit.
    """

    name: str
    unit: str
    low: float
    high: float
    typical: tuple[float, float]
    factor: dict[str, float]
    whole: bool = False


def quantity(name: str) -> Quantity | None:
    """Return the quantity of that name, or None if the library does not know it."""
    if name not in KNOWN:
        return None
    column = KNOWN[name]
    factor = {column.unit: 1.0, **{other.unit: other.factor for other in column.others}}
    return Quantity(
        name,
        column.unit,
        column.low,
        column.high,
        column.typical,
        factor | MORE_UNITS.get(name, {}),
        column.whole,
    )
