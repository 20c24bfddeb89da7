"""A Sphinx extension with the directive ``{citation}``: how to cite the book, from ``CITATION.cff``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from hemafl_book.results import CODE

FILE = "CITATION.cff"
KEY = "hemafl"


def read(file: Path = CODE / FILE) -> dict[str, Any]:
    """Return what a citation file says."""
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def authors(citation: Mapping[str, Any], between: str) -> str:
    """Return the names of a citation's authors, given names first."""
    people = citation["authors"]
    return between.join(
        one.get("name") or f"{one.get('given-names', '')} {one['family-names']}".strip() for one in people
    )


def year(citation: Mapping[str, Any]) -> str:
    """Return the year of release, or an empty text."""
    return str(citation.get("date-released", ""))[:4]


def sentence(citation: Mapping[str, Any]) -> str:
    """Return a citation for a list of references; with a DOI only if the file names one."""
    when = f" ({year(citation)})" if year(citation) else ""
    doi = f" https://doi.org/{citation['doi']}" if "doi" in citation else ""
    return f"{authors(citation, ', ')}{when}. {citation['title']}. Version {citation['version']}.{doi}"


def bibtex(citation: Mapping[str, Any]) -> str:
    """Return the same as an entry of BibTeX."""
    fields = {
        "author": " and ".join(
            f"{{{one['name']}}}" if "name" in one else authors({"authors": [one]}, "")
            for one in citation["authors"]
        ),
        "title": citation["title"],
        "version": citation["version"],
        "year": year(citation),
        "doi": citation.get("doi", ""),
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@software{{{KEY},", *lines, "}"])


class CitationDirective(SphinxDirective):
    """``{citation}``: a sentence, and an entry of BibTeX to copy."""

    def run(self) -> list[nodes.Node]:
        """Return both, and have the page built anew when the file changes."""
        self.env.note_dependency(str(CODE / FILE))
        citation = read()
        return [
            nodes.block_quote("", nodes.paragraph(text=sentence(citation))),
            nodes.literal_block(text=bibtex(citation), language="bibtex"),
        ]


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("citation", CitationDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
