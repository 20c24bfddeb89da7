"""A Sphinx extension for one setting of ``_config.yml``: ``source_repository``, the address of the source.

Where it is set, each page gets buttons to the source, to suggest an edit and to report a fault, and each
notebook one that opens it in the cloud. Where it is not, there are none. ``{source}`` says which is the case.
"""

from typing import Any
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from hemafl_lib.errors import DataError

HOSTS = ("github.com", "gitlab.com")
"""Hosts whose addresses for an edit, an issue and a cloud notebook the theme knows."""

BUTTONS = ("use_repository_button", "use_edit_page_button", "use_issues_button")
BINDER = "https://mybinder.org"

AWAY = (
    "This copy of the book names no public home of its source. It lies in the folder from which it was built."
)
HOME = "The source of this book lives at "
OFFER = (
    ". At the top of each page are buttons to suggest an edit and to report a fault, and above each "
    "notebook one that opens it in the cloud."
)


def options(address: str) -> dict[str, Any]:
    """Return the theme's options for the address of a repository, none for an empty one.

    Raises
    ------
    DataError
        If the address is not that of a repository on one of `HOSTS`.
    """
    if not address:
        return {}
    parts = urlsplit(address)
    names = [name for name in parts.path.split("/") if name]
    if parts.scheme != "https" or parts.hostname not in HOSTS or len(names) != 2:
        wanted = " or ".join(f"https://{host}/OWNER/NAME" for host in HOSTS)
        raise DataError(
            f"source_repository in _config.yml is '{address}'; write {wanted}, or leave it empty."
        )
    return {
        "repository_url": f"https://{parts.hostname}/{'/'.join(names)}",
        "repository_branch": "main",
        **dict.fromkeys(BUTTONS, True),
        "launch_buttons": {"binderhub_url": BINDER, "notebook_interface": "jupyterlab"},
    }


def apply(app: Any, config: Any) -> None:
    """Add what the setting asks for to the theme's options."""
    config.html_theme_options = {**config.html_theme_options, **options(config.source_repository)}


class SourceDirective(SphinxDirective):
    """``{source}``: a sentence that says where the source lives."""

    def run(self) -> list[nodes.Node]:
        """Return it as a paragraph."""
        address = options(self.config.source_repository).get("repository_url")
        if not address:
            return [nodes.paragraph(text=AWAY)]
        link = nodes.reference("", address, refuri=address)
        return [nodes.paragraph("", "", nodes.Text(HOME), link, nodes.Text(OFFER))]


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx, before the theme reads its options."""
    app.add_config_value("source_repository", "", "env")
    app.connect("config-inited", apply, priority=100)
    app.add_directive("source", SourceDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
