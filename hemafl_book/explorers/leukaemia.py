"""Simulated leukaemia smears that a small head learns to name, for the explorers of chapters 2 and 3."""

from hemafl_book.explorers.drawn_cells import DrawnCells
from hemafl_lib.data import smear

CELLS = DrawnCells(smear.LEUKAEMIA, count=1080, patients=40, test_share=0.45, seed=3)
"""Fields of several cells; all fields of a patient are of one class."""
