"""A Sphinx extension that numbers the ids of exercises, which sphinx-exercise gives to all alike.

An id must be unique on its page; otherwise links and screen readers land on the first exercise.
"""

from collections import Counter
from typing import Any

from docutils import nodes

REPEATED = ("exercise-content", "solution-content")


def number_ids(document: nodes.document) -> None:
    """Append 2, 3, ... to the second, third, ... occurrence of each repeated id."""
    seen: Counter[str] = Counter()
    for section in document.findall(nodes.section):
        for place, name in enumerate(section["ids"]):
            if name in REPEATED:
                seen[name] += 1
                if seen[name] > 1:
                    section["ids"][place] = f"{name}-{seen[name]}"


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", lambda app, document, name: number_ids(document))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
