"""Cohorts: what every reader returns and every other room consumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from hemafl_lib.errors import DataError


@dataclass(frozen=True)
class Provenance:
    """Where a cohort comes from, shown beside every number computed on it.

    ``checksum`` is a SHA-256 over what was read (or over the settings of a simulation). ``notes`` states what
    reading counted and what is as its source describes it; ``repairs`` states what was amiss in the files and
    was mended, guessed or left out, one sentence each: with any, ``hemafl data check`` is not content.
    """

    name: str
    source: str
    licence: str
    simulated: bool
    checksum: str
    notes: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()

    def banner(self) -> str:
        """Return the line that opens every chapter's data section."""
        kind = "SIMULATED data" if self.simulated else "Real data"
        told = " ".join([self.source, *self.notes, *self.repairs])
        return f"{kind}: {self.name}. {told} Licence: {self.licence}"


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """What images, activations and tables have in common: rows with a site and a patient each.

    ``inputs`` and ``targets`` are what a model is trained on, row by row. Subclasses list in
    ``ROWS`` the fields that hold one entry per row.
    """

    ROWS: ClassVar[tuple[str, ...]] = ("site", "patient")

    site: np.ndarray
    patient: np.ndarray
    provenance: Provenance

    def __len__(self) -> int:
        return len(self.site)

    def __post_init__(self) -> None:
        for name in self.ROWS:
            value = getattr(self, name)
            if value is not None and len(value) != len(self.site):
                raise DataError(
                    f"{type(self).__name__}: '{name}' has {len(value)} rows and 'site' has {len(self.site)}; "
                    "give every field one entry per row."
                )

    @property
    def inputs(self) -> Tensor:
        """What a model reads, one row per example."""
        raise NotImplementedError

    @property
    def targets(self) -> Tensor:
        """What a model should predict, one row per example."""
        raise NotImplementedError

    def take(self, index: Sequence[int] | np.ndarray | Tensor) -> Self:
        """Return the rows of ``index``, in that order."""
        rows = torch.as_tensor(np.asarray(index), dtype=torch.int64)
        taken: dict[str, Any] = {
            name: None if value is None else value[rows if isinstance(value, Tensor) else rows.numpy()]
            for name in self.ROWS
            for value in [getattr(self, name)]
        }
        return replace(self, **taken)

    def of_site(self, name: str) -> Self:
        """Return the rows of one site; raise `DataError` if there are none."""
        index = np.flatnonzero(self.site == name)
        if len(index) == 0:
            known = ", ".join(self.sites)
            raise DataError(f"site '{name}' is not in this cohort; choose one of: {known}.")
        return self.take(index)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites, sorted."""
        return tuple(sorted(set(self.site.tolist())))


CohortKind = TypeVar("CohortKind", bound=Cohort)
"""Whatever kind of cohort a function is given, and gives back."""


@dataclass(frozen=True, kw_only=True)
class LabelledCohort(Cohort):
    """A cohort whose target is one of ``classes``: ``labels`` is int64[N]."""

    ROWS = (*Cohort.ROWS, "labels")

    labels: Tensor
    classes: tuple[str, ...]

    @property
    def targets(self) -> Tensor:
        """The labels, int64[N]."""
        return self.labels

    def counts(self) -> np.ndarray:
        """Return the number of rows of each class, int64[C]."""
        return np.bincount(self.labels.numpy(), minlength=len(self.classes))


@dataclass(frozen=True, kw_only=True)
class ImageCohort(LabelledCohort):
    """Images of single cells.

    ``images`` is uint8[N, 3, H, W] (RGB); ``masks`` is uint8[N, H, W] with 0 background,
    1 cytoplasm and 2 nucleus, or None where nobody drew them.
    """

    ROWS = (*LabelledCohort.ROWS, "images", "masks")

    images: Tensor
    masks: Tensor | None = None

    @property
    def inputs(self) -> Tensor:
        """The images, uint8[N, 3, H, W]."""
        return self.images

    @property
    def size(self) -> int:
        """Side of the square images, in pixels."""
        return self.images.shape[-1]


@dataclass(frozen=True, kw_only=True)
class VariantCohort(LabelledCohort):
    """K prepared variants of every example, of which training draws one at a time.

    ``variants`` is [N, K, ...]: augmented images (uint8) or the activations that a frozen prefix
    gives for them (float32). Variant 0 is the example as it is, and the one used for evaluation.
    """

    ROWS = (*LabelledCohort.ROWS, "variants")

    variants: Tensor

    @property
    def inputs(self) -> Tensor:
        """The variants, [N, K, ...]."""
        return self.variants


@dataclass(frozen=True, kw_only=True)
class TableCohort(Cohort):
    """Patients as rows of a table.

    ``features`` is float32[N, F]; either ``time`` (float32[N], in months) and ``event`` (bool[N],
    True where death was observed), or ``label`` (int64[N]), is given.
    """

    ROWS = (*Cohort.ROWS, "features", "time", "event", "label")

    features: Tensor
    feature_names: tuple[str, ...]
    time: Tensor | None = None
    event: Tensor | None = None
    label: Tensor | None = None

    @property
    def inputs(self) -> Tensor:
        """The features, float32[N, F]."""
        return self.features

    @property
    def targets(self) -> Tensor:
        """The labels, int64[N], or time and event side by side, float32[N, 2]."""
        if self.label is not None:
            return self.label
        if self.time is None or self.event is None:
            raise DataError("TableCohort has neither 'label' nor both 'time' and 'event'; give one outcome.")
        return torch.stack([self.time, self.event.to(self.time.dtype)], dim=1)

    @property
    def follow_up(self) -> tuple[Tensor, Tensor]:
        """Time, float32[N] in months, and event, bool[N]; raise `DataError` where survival is not known."""
        if self.time is None or self.event is None:
            raise DataError(f"'{self.provenance.name}' has no 'time' and 'event'; give a table of survival.")
        return self.time, self.event


def join(cohorts: Sequence[CohortKind], name: str) -> CohortKind:
    """Put the rows of cohorts of one kind one after the other, under one name.

    A field that any of them lacks (masks, for example) is dropped. Raises `DataError` if classes,
    feature names or shapes differ.
    """
    first = cohorts[0]
    for other in cohorts[1:]:
        if type(other) is not type(first) or _layout(other) != _layout(first):
            raise DataError(
                f"'{other.provenance.name}' and '{first.provenance.name}' differ in kind, classes or size; "
                "harmonise the classes and load both at one size first."
            )
    rows: dict[str, Any] = {
        field: _stack([getattr(cohort, field) for cohort in cohorts]) for field in first.ROWS
    }
    parts = list(dict.fromkeys(cohort.provenance for cohort in cohorts))
    provenance = Provenance(
        name=name,
        source=" ".join(dict.fromkeys(part.source for part in parts)),
        licence="; ".join(dict.fromkeys(part.licence for part in parts)),
        simulated=any(part.simulated for part in parts),
        checksum="+".join(dict.fromkeys(part.checksum for part in parts)),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        repairs=tuple(dict.fromkeys(repair for part in parts for repair in part.repairs)),
    )
    return replace(first, **rows, provenance=provenance)


def _layout(cohort: Cohort) -> tuple[object, ...]:
    names = (getattr(cohort, "classes", None), getattr(cohort, "feature_names", None))
    return (*names, tuple(cohort.inputs.shape[1:]), cohort.inputs.dtype)


def _stack(parts: list[Any]) -> Tensor | np.ndarray | None:
    """Put tensors, or arrays, one after the other; None if any of them is missing."""
    if any(part is None for part in parts):
        return None
    return torch.cat(parts) if isinstance(parts[0], Tensor) else np.concatenate(parts)


def same(left: Cohort, right: Cohort) -> bool:
    """Return whether two cohorts hold the same rows, bit for bit; NaN is the same as NaN."""

    def equal(a: object, b: object) -> bool:
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            alike = a.dtype == b.dtype and a.shape == b.shape
            return alike and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            return np.array_equal(a, b)
        return a == b

    return type(left) is type(right) and all(
        equal(getattr(left, field.name), getattr(right, field.name)) for field in fields(left)
    )
