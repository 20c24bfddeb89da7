"""Cohorts: images and tables with their sites, patients and provenance.

``load`` reads a cohort by name, ``load_images`` and ``load_table`` one of their kind; ``harmonise`` gives
cohorts of different sources the same classes, ``catalogue`` and ``card`` say what each cohort is, ``fetch``
downloads one and ``check`` says what a folder holds. ``select``, ``known_means`` and ``impute`` prepare the
features of a table.

Most of the room is what is particular to one source: its layout, its names for cells, its repairs, and how
the simulated smear is drawn. To follow a federated run, `hemafl_lib.data.cohort` is enough.

Budget: 7000 lines.
"""

from hemafl_lib.data.cards import Card, card, catalogue
from hemafl_lib.data.checking import Report, TableReport, check
from hemafl_lib.data.classes import harmonise
from hemafl_lib.data.cohort import (
    Cohort,
    ImageCohort,
    LabelledCohort,
    Provenance,
    TableCohort,
    VariantCohort,
    join,
)
from hemafl_lib.data.fetching import fetch
from hemafl_lib.data.loading import (
    available,
    checksums,
    data_root,
    known_root,
    load,
    load_images,
    load_table,
)
from hemafl_lib.data.tables import impute, known_means, select

__all__ = [
    "Card",
    "Cohort",
    "ImageCohort",
    "LabelledCohort",
    "Provenance",
    "Report",
    "TableCohort",
    "TableReport",
    "VariantCohort",
    "available",
    "card",
    "catalogue",
    "check",
    "checksums",
    "data_root",
    "fetch",
    "harmonise",
    "impute",
    "join",
    "known_means",
    "known_root",
    "load",
    "load_images",
    "load_table",
    "select",
]
