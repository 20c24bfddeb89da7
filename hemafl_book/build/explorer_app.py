"""Serve the explorer's notebook to this machine only: ``python -m hemafl_book.build.explorer_app``.

The page is told to refuse every connection but to this machine, so that no script on it can load anything
from elsewhere, or send a picture there by a request. Only who knows a token, new at every start, can open it:
another user of this machine does not, nor does another page in the same browser.
"""

import json
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from traitlets.config import Config
from voila.app import Voila

NOTEBOOK = Path(__file__).resolve().parents[2] / "book" / "clinic" / "saliency_explorer.ipynb"

POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws://127.0.0.1:*; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'self'"
)
"""What the page may load: what comes from here, with the scripts and styles that Voila writes into it."""


def settings() -> Config:
    """Return the settings of the app."""
    config = Config()
    config.Voila.ip = "127.0.0.1"
    config.Voila.auto_token = True
    config.Voila.tornado_settings = {
        "headers": {"Content-Security-Policy": POLICY},
        # Without the token nothing is answered, nor where a name of elsewhere was made to mean this machine.
        "allow_unauthenticated_access": False,
        "allow_remote_access": False,
    }
    # Reads MyST in JupyterLab, and needs parts of it that are not here.
    config.VoilaConfiguration.extension_denylist = ["jupyterlab-myst"]
    config.VoilaConfiguration.show_tracebacks = True
    return config


def opening(url: str) -> str:
    """Return the HTML that leads on to the app, which keeps the theme that its address names."""
    return (
        f"<meta charset='utf-8'><script>const page = new URL({json.dumps(url)}); "
        "if (matchMedia('(prefers-color-scheme: dark)').matches) page.searchParams.set('theme', 'dark'); "
        "location = page;</script>"
    )


class Explorer(Voila):
    """Voila that opens the browser with its token, by a file that only the reader can read."""

    def launch_browser(self) -> None:
        """Open the page, dark where the browser asks for it.

        The token is in no command, which other users could see.
        """
        with tempfile.NamedTemporaryFile("w", suffix=".html", delete=False, encoding="utf-8") as file:
            file.write(opening(self.display_url))
        threading.Thread(target=webbrowser.open, args=[Path(file.name).as_uri()], daemon=True).start()


def main(arguments: Sequence[str]) -> None:
    """Serve the explorer until it is stopped; ``arguments`` are Voila's, such as ``--no-browser``."""
    Explorer.launch_instance([str(NOTEBOOK), *arguments], config=settings())


if __name__ == "__main__":
    main(sys.argv[1:])
