"""What notebooks need: checked numbers, frozen results, plots and explorers with two faces.

Only notebooks import this room. Everything it shows is stable: the same on every machine, so that a
strict comparison of stored and fresh outputs is possible.

The scripts and the style that draw explorers, live and built, stand in `assets`.

Budget: 2,550 lines.
"""

from hemafl_book.show.checks import CheckError, check, check_table
from hemafl_book.show.live import live_data

__all__ = ["CheckError", "check", "check_table", "live_data"]
