"""Deal rows, or whole patients, to parts of given shares."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from torch import Tensor

from hemafl_lib.data.cohort import Cohort, LabelledCohort, TableCohort
from hemafl_lib.errors import PartitionError

Unit = Literal["row", "patient"]


def labels_of(cohort: Cohort) -> np.ndarray:
    """Return the class of every row, the observed event of a survival table, or zeros: int64[N]."""
    labels: Tensor | None = None
    if isinstance(cohort, LabelledCohort):
        labels = cohort.labels
    elif isinstance(cohort, TableCohort):
        labels = cohort.label if cohort.label is not None else cohort.event
    if labels is None:
        return np.zeros(len(cohort), dtype=np.int64)
    return labels.numpy().astype(np.int64)


def rows_of(units: Sequence[np.ndarray]) -> np.ndarray:
    """Return the row numbers of several units, int64."""
    return np.concatenate([np.empty(0, dtype=np.int64), *units])


def units_of(cohort: Cohort, by: Unit) -> list[np.ndarray]:
    """Return what is dealt as a whole: the row numbers of each row or patient."""
    if by == "row":
        keys = np.arange(len(cohort))
    elif by == "patient":
        keys = pd.factorize(cohort.patient)[0]
    else:
        raise PartitionError(f"'by' or 'split_by' is '{by}'; choose 'row' or 'patient'.")
    order = np.argsort(keys, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)


def shuffled_units(cohort: Cohort, by: Unit, generator: np.random.Generator) -> list[np.ndarray]:
    """Return what is dealt as a whole, see `units_of`, in random order."""
    units = units_of(cohort, by)
    return [units[number] for number in generator.permutation(len(units))]


def units_and_classes(cohort: Cohort, by: Unit) -> tuple[list[np.ndarray], np.ndarray]:
    """Return what is dealt as a whole, see `units_of`, and the one class of each: int64[U]."""
    labels, units = labels_of(cohort), units_of(cohort, by)
    if by == "patient" and any(len(np.unique(labels[rows])) > 1 for rows in units):
        raise PartitionError(
            "by='patient' needs patients whose rows are all of one class, and this cohort has others; "
            "use by='row'."
        )
    return units, labels[[rows[0] for rows in units]]


def numbers_by_class(classes: np.ndarray, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield, for each class that occurs in ``classes`` int64[U], its places in random order."""
    order = generator.permutation(len(classes))
    for label in np.unique(classes):
        yield order[classes[order] == label]


def cut(numbers: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """Cut an array at the shares ``ends``, ascending in 0..1, into ``len(ends) + 1`` parts."""
    places = [0, *np.rint(ends * len(numbers)).astype(int).tolist(), len(numbers)]
    return [numbers[start:end] for start, end in pairwise(places)]


def deal(strata: np.ndarray, units: list[np.ndarray], shares: np.ndarray) -> np.ndarray:
    """Deal units to parts, largest first, each to the part that is furthest behind its share.

    Parameters
    ----------
    strata
        int64[N, 2]: the groups of each row in which every part should get its share, for example
        its class and the whole cohort. Groups are numbered from 0.
    units
        Row numbers that stay together; units of one size are dealt in the order given.
    shares
        float64[P], with sum 1.

    Returns
    -------
    numpy.ndarray
        int64[N]: the part of every row.
    """
    part_of = np.empty(len(strata), dtype=np.int64)
    dealt = np.zeros(strata.max() + 1)
    held = np.zeros((len(shares), strata.max() + 1))
    for rows in sorted(units, key=len, reverse=True):
        groups = strata[rows].ravel()
        np.add.at(dealt, groups, 1)
        behind = shares[:, None] * dealt[groups] - held[:, groups]
        part = int(np.argmax(behind.sum(axis=1)))
        np.add.at(held[part], groups, 1)
        part_of[rows] = part
    return part_of
