"""A hospital's own tables and images, read as a mapping file says: its names, units and codes, and ours.

`read_mapping` reads the file, `draft_mapping` writes a first one by looking at the data, `check_own` reports
all that is wrong, and `load_own_table` and `load_own_images` read what a federation trains on.
"""

from hemafl_lib.data.own.drafting import draft_mapping
from hemafl_lib.data.own.images import check_folders, load_own_images
from hemafl_lib.data.own.mapping import Mapping, parse_mapping, read_mapping
from hemafl_lib.data.own.reports import ImagesReport, TableReport, check_own, leaving
from hemafl_lib.data.own.table import load_own_table

__all__ = [
    "ImagesReport",
    "Mapping",
    "TableReport",
    "check_folders",
    "check_own",
    "draft_mapping",
    "leaving",
    "load_own_images",
    "load_own_table",
    "parse_mapping",
    "read_mapping",
]
