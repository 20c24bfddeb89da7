"""Papers stand side by side: none builds on another."""

from itertools import permutations

import grimp

from hemafl_book.papers import PAPERS


def test_no_paper_imports_another():
    graph = grimp.build_graph("hemafl_book")
    modules = [f"hemafl_book.papers.{module}" for module in PAPERS.values()]
    for importer, imported in permutations(modules, 2):
        assert graph.find_shortest_chain(importer, imported) is None
