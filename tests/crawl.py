"""Look at every page of the built book in Chromium without a network: ``python tests/crawl.py _build/html``.

Each page is opened on a screen of 1366 pixels and on one of 390, by day and by night. What is asked of it:
no request to outside the book, no error in the console, nothing wider than the screen that does not say that
it scrolls, words in pictures that stand out, apart and large enough, a keyboard that reaches everything in
the order of reading and shows where it is, and nothing that moves for those who asked for stillness.
``--axe axe.min.js`` adds the rules of axe-core, which is not part of this project: `npm pack axe-core` brings
it. ``--pictures FOLDER`` keeps a picture of every page. It takes some minutes, and its exit status is 1 if
anything is wrong.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from builders.browser import launched

WIDTHS = {"desktop": (1366, 900), "telephone": (390, 844)}
THEMES = ("light", "dark")
CHECKS = ("wide", "contrast", "charts")
MATERIAL = "_static"
"""The folder of what pages are made of, which holds no page."""
SEARCHES = ("search.html?q=aggregator", "search.html?q=nowordlikethis")
PATIENCE = 120_000
"""For how many milliseconds a page may load on a slow machine."""
SLACK = 150
"""How often Tab is pressed beyond the number of places that it can reach, before it is called a trap."""

AXE = """async () => {
  const found = await axe.run(document, {resultTypes: ["violations"], iframes: false, preload: false});
  const say = (rule, node) => `axe, ${rule.id}: ${node.html.slice(0, 90)}`;
  return found.violations.flatMap((rule) => rule.nodes.map((node) => say(rule, node)));
}"""
THEME = """for (const key of ["mode", "theme"]) { try { localStorage.setItem(key, "NAME"); } catch {} }"""
REACHABLE = "a[href], button, input, select, textarea, summary, iframe, [tabindex='0']"


def pages(book: Path) -> list[str]:
    """Return the addresses of all pages in a built book, the search with a word among them."""
    found = (path.relative_to(book) for path in sorted(book.rglob("*.html")))
    return [
        *(str(path) for path in found if path.parts[0] != MATERIAL and path.name != "search.html"),
        *SEARCHES,
    ]


class Reader:
    """A browser with one screen and one theme, and no network."""

    def __init__(self, browser, book: Path, width: str, theme: str):
        self.home, self.at = book.resolve().as_uri(), f"{width}, {theme}"
        size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
        self.context = browser.new_context(
            viewport=size,
            color_scheme=theme,
            reduced_motion="reduce",
            offline=True,
            has_touch=width != "desktop",
        )
        self.context.add_init_script(THEME.replace("NAME", theme))
        self.context.add_init_script(path=Path(__file__).with_name("crawl.js"))

    def look(self, name: str, axe: str | None, picture: Path | None, keyboard: bool) -> Iterator[str]:
        """Yield what is wrong with a page, a sentence each."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE)
        said: list[str] = []
        page.on("request", lambda request: self.note(request.url, said))
        page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("console", lambda message: message.type in ("error", "warning") and said.append(message.text))
        page.goto(f"{self.home}/{name}")
        page.wait_for_load_state("networkidle")
        if keyboard:
            yield from tabbed(page)
        page.evaluate("crawl.open()")
        for check in CHECKS:
            yield from page.evaluate(f"crawl.{check}()")
        if page.url.endswith(name):  # else it leads to another page at once
            yield from page.evaluate("crawl.moving()")
        if axe:
            page.evaluate(axe)
            yield from page.evaluate(AXE)
        if picture:
            picture.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=picture, full_page=True)
        yield from said
        page.close()

    def note(self, url: str, said: list[str]) -> None:
        """Note a request that leaves the book."""
        if not url.startswith((self.home, "data:", "blob:")):
            said.append(f"asks for {url}")


def tabbed(page) -> Iterator[str]:
    """Yield what is wrong with the way of the keyboard through a page."""
    page.evaluate("window.scrollTo(0, 0)")
    most = page.locator(REACHABLE).count() + SLACK
    reached = 0
    for _ in range(most):
        page.keyboard.press("Tab")
        place = page.evaluate("crawl.focus()")
        if place is None or place.get("again"):
            break
        reached += 1
        yield from (f"{place['name']} {wrong}" for wrong in place["wrong"])
    else:
        yield f"the keyboard does not come to an end after {most} steps"
    if not reached:
        yield "the keyboard reaches nothing"


def main(arguments: Sequence[str]) -> int:
    """Look at every page and print what is wrong; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("book", type=Path)
    parser.add_argument("--axe", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--only", default="", help="a regular expression that the address of a page matches")
    parser.add_argument("--width", choices=WIDTHS, action="append")
    parser.add_argument("--theme", choices=THEMES, action="append")
    asked = parser.parse_args(arguments)
    axe = asked.axe.read_text(encoding="utf-8") if asked.axe else None
    wrong = looked = 0
    with launched() as browser:
        for width in asked.width or WIDTHS:
            for theme in asked.theme or THEMES:
                reader = Reader(browser, asked.book, width, theme)
                for name in (name for name in pages(asked.book) if re.search(asked.only, name)):
                    file = re.sub(r"\W+", "-", f"{width}-{theme}-{name}").strip("-")
                    picture = asked.pictures / f"{file}.png" if asked.pictures else None
                    looked += 1
                    for sentence in dict.fromkeys(reader.look(name, axe, picture, keyboard=theme == "light")):
                        wrong += 1
                        print(f"{name} ({reader.at}): {sentence}", flush=True)
                reader.context.close()
    print(f"{looked} looks, {wrong} faults" + ("" if axe else "; without axe-core"))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
