"""One PDF of the book, printed by Chromium from one page that holds all: ``make pdf``.

``python -m hemafl_book.build.pdf PAGE.html BOOK.pdf [--solutions]`` prints a page. The directive ``{pdf}``
links to ``build/book.pdf``, which a build of the book then carries along, if it has been made.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from hemafl_book.results import CODE
from hemafl_lib.errors import DataError

BOOK = CODE / "build" / "book.pdf"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
MARGIN = "18mm"
MINUTES = 10
"""How long a page may take to load and to print."""

HOW = (
    " makes one PDF of it, where Chromium is installed. It is a command of its own because it builds the book"
    " a second time, as one page."
)

READY = """
async (solutions) => {
  const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  for (const one of document.querySelectorAll(".solution")) {
    if (solutions) one.classList.remove("toggle-hidden"); else one.remove();
  }
  for (const one of document.querySelectorAll("details.sd-dropdown")) one.open = solutions;
  for (const frame of document.querySelectorAll("iframe")) frame.remove();
  for (const plot of document.querySelectorAll(".hemafl-plot")) {
    plot.scrollIntoView();
    for (let tries = 0; tries < 200 && !plot.querySelector("svg"); tries += 1) await wait(50);
    if (!plot.querySelector("svg")) throw new Error(`the figure ${plot.id} was not drawn within ten seconds`);
  }
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  window.scrollTo(0, 0);
}
"""
"""Bring a page into the state in which it is printed.

Solutions are open or gone, plots and formulas are drawn, and what can only be played is not there.
"""


def browser() -> str:
    """Return the path of a browser that prints; raise `DataError` without one."""
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        raise DataError("There is no Chromium to print with; install the package chromium.")
    return found[0]


def print_page(page: Path, to: Path, *, solutions: bool = False) -> None:
    """Print a page of HTML as PDF, A4, without solutions or with all of them unfolded.

    Raises
    ------
    DataError
        If the page or a browser is missing, or a figure of the page is not drawn.
    """
    from playwright.sync_api import Error, PdfMargins, sync_playwright

    if not page.is_file():
        raise DataError(f"{page} does not exist; build the page that is to be printed first.")
    to.parent.mkdir(parents=True, exist_ok=True)
    margin: PdfMargins = {"top": MARGIN, "bottom": MARGIN, "left": MARGIN, "right": MARGIN}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser(), args=FLAGS)
        try:
            sheet = chromium.new_page()
            sheet.set_default_timeout(MINUTES * 60_000)
            sheet.emulate_media(media="print", reduced_motion="reduce")
            sheet.goto(page.resolve().as_uri())
            sheet.evaluate(READY, solutions)
            sheet.pdf(path=to, format="A4", margin=margin, outline=True, tagged=True)
        except Error as error:
            raise DataError(
                f"{page} cannot be printed ({error.message.splitlines()[0]}); build it again."
            ) from error
        finally:
            chromium.close()


class PdfDirective(SphinxDirective):
    """``{pdf}``: a sentence with a link to the PDF where there is one, and else how to make it."""

    def run(self) -> list[nodes.Node]:
        """Return it as a paragraph, and have the page built anew when the PDF changes."""
        self.env.note_dependency(str(BOOK))
        if not BOOK.exists():
            return [nodes.paragraph("", "", nodes.literal(text="make pdf"), nodes.Text(HOW))]
        link = '<p>To print: <a href="../book.pdf">the whole book as one PDF</a>.</p>'
        return [nodes.raw("", link, format="html")]


def carry(app: Any, error: Exception | None) -> None:
    """Copy the PDF beside the book's first page."""
    if error is None and app.builder.name == "html" and BOOK.exists():
        shutil.copy(BOOK, app.outdir)


def know_all_nodes(app: Any) -> None:
    """Let the one page show what a page shows: extensions say so of their nodes for pages only."""
    handlers = app.registry.translation_handlers
    handlers["singlehtml"] = {**handlers.get("html", {}), **handlers.get("singlehtml", {})}


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("pdf", PdfDirective)
    app.connect("builder-inited", know_all_nodes)
    app.connect("build-finished", carry)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def main(arguments: Sequence[str]) -> int:
    """Run ``python -m hemafl_book.build.pdf PAGE.html BOOK.pdf [--solutions]``; return the exit status."""
    names = [name for name in arguments if name != "--solutions"]
    try:
        print_page(Path(names[0]), Path(names[1]), solutions="--solutions" in arguments)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{names[1]}: {Path(names[1]).stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
