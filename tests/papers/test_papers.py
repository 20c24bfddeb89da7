"""Papers stand side by side: none builds on another, but for a part of one, which goes on with it."""

from itertools import permutations

import grimp

from hemafl_book.papers import PAPERS

GOES_ON_WITH = {
    "left_out_tuned": ("leave_one_out", "blood_morphology"),
    "own_patients": ("leave_one_out",),
}
"""Experiments on the hospitals, the split and the recipe of others, by their modules."""


def test_no_paper_imports_another():
    graph = grimp.build_graph("hemafl_book")
    for importer, imported in permutations(PAPERS.values(), 2):
        if imported not in GOES_ON_WITH.get(importer, ()):
            names = (f"hemafl_book.papers.{module}" for module in (importer, imported))
            assert graph.find_shortest_chain(*names) is None
