"""Serve the explorer's notebook to this machine only: ``python -m hemafl_book.build.explorer_app``.

The page is told to refuse every connection but to the program that serves it, so that no picture leaves the
machine, whatever a script on it asks for.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from traitlets.config import Config
from voila.app import Voila

NOTEBOOK = Path(__file__).resolve().parents[2] / "book" / "clinic" / "saliency_explorer.ipynb"

POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws://127.0.0.1:*; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load: what comes from here, with the scripts and styles that Voila writes into it."""


def settings() -> Config:
    """Return the settings of the app."""
    config = Config()
    config.Voila.ip = "127.0.0.1"
    config.Voila.tornado_settings = {"headers": {"Content-Security-Policy": POLICY}}
    # Reads MyST in JupyterLab, and needs parts of it that are not here.
    config.VoilaConfiguration.extension_denylist = ["jupyterlab-myst"]
    config.VoilaConfiguration.show_tracebacks = True
    return config


def main(arguments: Sequence[str]) -> None:
    """Serve the explorer until it is stopped; ``arguments`` are Voila's, such as ``--no-browser``."""
    Voila.launch_instance([str(NOTEBOOK), *arguments], config=settings())


if __name__ == "__main__":
    main(sys.argv[1:])
