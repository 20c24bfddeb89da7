"""The small trained models that come with the book, each with its card, and how they are made.

A `Family` is a question: its cells, its hospitals and how they train. `make` trains its three arms, one
hospital alone, the federation, and all cells in one place, measures them, and writes them as
`hemafl_lib.clinic` saves models. `hemafl_book.clinic.trained` does the same for a run of a paper.

`hemafl_book.clinic.explorer` shows them, and any other saved model, to a reader in Jupyter.

Budget: 3,150 lines.
"""

from collections.abc import Mapping

from hemafl_book.clinic.family import Family
from hemafl_book.clinic.leukaemia_fields import FAMILY as LEUKAEMIA_FIELDS
from hemafl_book.clinic.white_cells import FAMILY as WHITE_CELLS

FAMILIES: Mapping[str, Family] = {
    "white-cells": WHITE_CELLS,
    "leukaemia-fields": LEUKAEMIA_FIELDS,
}
"""The families by the names of their folders."""
