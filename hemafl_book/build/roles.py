"""A Sphinx extension that gives parts of the theme the roles and names that a screen reader needs.

The theme's bar beside the text is no landmark, docutils lists citations without calling them items, and some
buttons have names that are not what is written on them, so that nobody can call them by voice.
"""

from pathlib import Path
from typing import Any

ROLES = {
    'id="pst-primary-sidebar" class="bd-sidebar-primary bd-sidebar">': (
        'id="pst-primary-sidebar" class="bd-sidebar-primary bd-sidebar" role="region" aria-label="The book">'
    ),
    'role="doc-biblioentry"': 'role="listitem"',
    '<summary aria-label="Toggle hidden content">': "<summary>",
    'search-button-field search-button__button pst-js-only" title="Search" aria-label="Search"': (
        'search-button-field search-button__button pst-js-only"'
    ),
    'data-mode="light" title="Light"': 'data-mode="light"',
    'data-mode="dark"  title="Dark"': 'data-mode="dark"',
    'data-mode="auto"  title="System Settings"': 'data-mode="auto"',
}
"""What is written into every page, and in place of what."""


def give_roles(page: str) -> str:
    """Return a page's HTML with the roles and names."""
    for before, after in ROLES.items():
        page = page.replace(before, after)
    return page


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx: pages get their roles once all are written."""
    app.connect("build-finished", _give_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _give_all(app: Any, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        named = give_roles(page)
        if named != page:
            path.write_text(named, encoding="utf-8")
