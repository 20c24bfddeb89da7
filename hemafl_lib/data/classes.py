"""What each source calls a cell, and what it is called here: the one table of class names.

`OWN_NAMES` says what a source's own label means; `CLASS_SCHEMES` says which cell types make up the
classes of a study. `table` shows both side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.errors import DataError

CELL_TYPES = (
    "segmented_neutrophil",
    "band_neutrophil",
    "neutrophil",  # segmented or band: the source does not say
    "eosinophil",
    "basophil",
    "lymphocyte",
    "monocyte",
    "metamyelocyte",
    "myelocyte",
    "promyelocyte",
    "immature_granulocyte",  # promyelocyte, myelocyte or metamyelocyte: the source does not say
    "erythroblast",
    "platelet",
    "myeloblast",
    "monoblast",
    "atypical_promyelocyte",
    "atypical_lymphocyte",
    "reactive_lymphocyte",
    "neoplastic_lymphocyte",
    "large_granular_lymphocyte",
    "hairy_cell",
    "plasma_cell",
    "smudge_cell",
    "benign",
    "early",
    "pre",
    "pro",
)

_SEGMENTATION = {
    "1": "neutrophil",
    "2": "lymphocyte",
    "3": "monocyte",
    "4": "eosinophil",
    "5": "basophil",
}

OWN_NAMES: Mapping[str, Mapping[str, str]] = {
    "taleqani": {"Benign": "benign", "Early": "early", "Pre": "pre", "Pro": "pro"},
    "taleqani-v2": {
        "Benign": "benign",
        "[Malignant] early Pre-B": "early",
        "[Malignant] Pre-B": "pre",
        "[Malignant] Pro-B": "pro",
    },
    "barcelona": {
        "SNE": "segmented_neutrophil",
        "BNE": "band_neutrophil",
        "NEUTROPHIL": "neutrophil",
        "EO": "eosinophil",
        "BA": "basophil",
        "LY": "lymphocyte",
        "MO": "monocyte",
        "MMY": "metamyelocyte",
        "MY": "myelocyte",
        "PMY": "promyelocyte",
        "IG": "immature_granulocyte",
        "ERB": "erythroblast",
        "PLATELET": "platelet",
    },
    "tecom": _SEGMENTATION,
    "cellavision": _SEGMENTATION,
    "bccd": {
        "Neutrophil": "neutrophil",
        "Eosinophil": "eosinophil",
        "Basophil": "basophil",
        "Lymphocyte": "lymphocyte",
        "Monocyte": "monocyte",
    },
    "lmu": {
        "NGS": "segmented_neutrophil",
        "NGB": "band_neutrophil",
        "EOS": "eosinophil",
        "BAS": "basophil",
        "LYT": "lymphocyte",
        "LYA": "atypical_lymphocyte",
        "MON": "monocyte",
        "MMZ": "metamyelocyte",
        "MYB": "myelocyte",
        "PMO": "promyelocyte",
        "PMB": "atypical_promyelocyte",
        "EBO": "erythroblast",
        "MYO": "myeloblast",
        "MOB": "monoblast",
        "KSC": "smudge_cell",
    },
    "mll23": {
        "neutrophil_segmented": "segmented_neutrophil",
        "neutrophil_band": "band_neutrophil",
        "eosinophil": "eosinophil",
        "basophil": "basophil",
        "lymphocyte": "lymphocyte",
        "lymphocyte_reactive": "reactive_lymphocyte",
        "lymphocyte_neoplastic": "neoplastic_lymphocyte",
        "lymphocyte_large_granular": "large_granular_lymphocyte",
        "hairy_cell": "hairy_cell",
        "plasma_cell": "plasma_cell",
        "monocyte": "monocyte",
        "metamyelocyte": "metamyelocyte",
        "myelocyte": "myelocyte",
        "promyelocyte": "promyelocyte",
        "promyelocyte_atypical": "atypical_promyelocyte",
        "normoblast": "erythroblast",
        "myeloblast": "myeloblast",
        "smudge_cell": "smudge_cell",
    },
    "bloodmnist": {
        "0": "basophil",
        "1": "eosinophil",
        "2": "erythroblast",
        "3": "immature_granulocyte",
        "4": "lymphocyte",
        "5": "monocyte",
        "6": "neutrophil",
        "7": "platelet",
    },
}
"""Own label of each source, as its files spell it, and the cell type that it means."""

_LOWER_CASE = {
    source: {own.lower(): meaning for own, meaning in names.items()} for source, names in OWN_NAMES.items()
}

NINE = (
    "segmented_neutrophil",
    "band_neutrophil",
    "eosinophil",
    "basophil",
    "lymphocyte",
    "monocyte",
    "metamyelocyte",
    "myelocyte",
    "promyelocyte",
)

CLASS_SCHEMES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "four": {
        "neutrophil": ("segmented_neutrophil", "band_neutrophil", "neutrophil"),
        "lymphocyte": ("lymphocyte",),
        "monocyte": ("monocyte",),
        "eosinophil": ("eosinophil",),
    },
    "nine": {name: (name,) for name in NINE},
    "eleven": {name: (name,) for name in (*NINE, "erythroblast", "platelet")},
    "leukaemia": {name: (name,) for name in ("benign", "early", "pre", "pro")},
}
"""Classes of each scheme, in order, and the cell types that each class is made of."""


def cell_type(source: str, own_name: str) -> str | None:
    """Return the cell type that a source's own label means, whatever its case; None if it has none."""
    return _LOWER_CASE[source].get(own_name.lower())


def types_of(source: str) -> tuple[str, ...]:
    """Return the cell types that ``source`` labels, in the order of `CELL_TYPES`."""
    known = set(OWN_NAMES[source].values())
    return tuple(name for name in CELL_TYPES if name in known)


def sources_of(scheme: str) -> tuple[str, ...]:
    """Return the sources that label cells of every class of a scheme."""
    classes = CLASS_SCHEMES[scheme].values()
    return tuple(
        source for source in OWN_NAMES if all(set(types) & set(types_of(source)) for types in classes)
    )


def table() -> pd.DataFrame:
    """Return one row per cell type: its own label in every source, its class in every scheme."""
    columns = {
        source: {cell_type: own for own, cell_type in names.items()} for source, names in OWN_NAMES.items()
    }
    columns |= {scheme: _class_of(scheme) for scheme in CLASS_SCHEMES}
    return pd.DataFrame(columns, index=pd.Index(CELL_TYPES, name="cell type")).fillna("")


def dropped(cohort: ImageCohort, scheme: str) -> dict[str, int]:
    """Return how many cells of each class have no place in ``scheme`` (only classes with any)."""
    kept = _class_of(scheme)
    pairs = zip(cohort.classes, cohort.counts().tolist(), strict=True)
    return {name: count for name, count in pairs if count and name not in kept}


def harmonise(cohort: ImageCohort, scheme: str) -> ImageCohort:
    """Return the cells of ``cohort`` that ``scheme`` knows, labelled with its classes.

    Parameters
    ----------
    cohort
        A cohort whose classes are cell types, as `load` returns them.
    scheme
        ``"four"`` (the classes that every hospital shares), ``"eleven"`` (the classes of the
        morphology paper), ``"nine"`` (its external test: eleven less erythroblast and platelet)
        or ``"leukaemia"`` (the four classes of the Taleqani smears).

    Returns
    -------
    ImageCohort
        All classes of the scheme, in its order, present or not. The provenance counts the cells
        that were left out; `dropped` gives the same counts as a dictionary.

    Raises
    ------
    DataError
        If the scheme is unknown, or no cell of the cohort belongs to it.
    """
    class_of = _class_of(scheme)
    classes = tuple(CLASS_SCHEMES[scheme])
    new = [classes.index(class_of[name]) if name in class_of else -1 for name in cohort.classes]
    labels = torch.tensor(new, dtype=torch.int64)[cohort.labels]
    keep = np.flatnonzero(labels.numpy() >= 0)
    if len(keep) == 0:
        raise DataError(
            f"no cell of '{cohort.provenance.name}' belongs to scheme '{scheme}'; "
            f"its classes are {', '.join(cohort.classes)}."
        )
    left_out = dropped(cohort, scheme)
    provenance = cohort.provenance
    if left_out:
        counts = ", ".join(f"{count} {name}" for name, count in left_out.items())
        provenance = replace(provenance, source=f"{provenance.source} Left out by '{scheme}': {counts}.")
    relabelled = replace(cohort, labels=labels, classes=classes, provenance=provenance)
    return relabelled.take(keep)


def _class_of(scheme: str) -> dict[str, str]:
    """Return the class of every cell type that ``scheme`` knows."""
    if scheme not in CLASS_SCHEMES:
        raise DataError(f"scheme '{scheme}' is unknown; choose one of: {', '.join(CLASS_SCHEMES)}.")
    return {cell_type: name for name, types in CLASS_SCHEMES[scheme].items() for cell_type in types}
