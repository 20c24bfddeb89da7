"""A Sphinx extension that gives every page of the built book a Content-Security-Policy.

The browser then holds each page to it: nothing is asked of another host, and of the scripts that stand in
the page itself only those run that were in it when the book was built, known by their hashes. So what a
page reads once it is open, such as a model of somebody else's, brings no script of its own. What was written
into a page before, such as a data set's card, is not told from the rest of the page: only escaping keeps that
from running. The policy stands in the page (`meta`), and holds from a memory stick as from a server.
"""

import base64
import hashlib
import re
from html import unescape
from pathlib import Path
from typing import Any

OWN = "'self' file:"
"""The book's own files; some browsers take no file of a memory stick for the page's own."""

DIRECTIVES = {
    "default-src": "'none'",
    "img-src": f"{OWN} data: blob:",  # cells in explorers
    "font-src": f"{OWN} data:",
    # The theme and MathJax write styles into elements, for which there are no hashes.
    "style-src": f"{OWN} 'unsafe-inline'",
    "frame-src": OWN,  # the playground's round inside a page
    "form-action": OWN,
    "base-uri": "'none'",
}
"""What every page may do, beside its scripts."""

SCRIPT = re.compile(r"<script(?P<attributes>[^>]*)>(?P<code>.*?)</script>", re.DOTALL)
HANDLER = re.compile(r"<[^<>]*?\son[a-z]+=(?P<quote>[\"'])(?P<code>.*?)(?P=quote)", re.DOTALL)
HEAD = re.compile(r"<head[^>]*>")


def policy(page: str) -> str:
    """Return the policy of a page's HTML."""
    scripts = [found["code"] for found in SCRIPT.finditer(page) if runs(found["attributes"])]
    handlers = handlers_of(page)
    allowed = sorted({f"'sha256-{digest(code)}'" for code in [*filter(None, scripts), *handlers]})
    # Hashes of handlers, such as the theme's buttons have, count only with this word.
    hashes = ["'unsafe-hashes'", *allowed] if handlers else allowed
    directives = {**DIRECTIVES, "script-src": " ".join([OWN, *hashes])}
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def handlers_of(page: str) -> list[str]:
    """Return the code of a page's attributes such as ``onclick``."""
    return [unescape(found["code"]) for found in HANDLER.finditer(SCRIPT.sub("", page))]


def runs(attributes: str) -> bool:
    """Return whether a script element holds code of its own, by its attributes."""
    kind = re.search(r"\btype=[\"']?([\w/+.-]+)", attributes)
    return "src=" not in attributes and (kind is None or kind[1] in ("text/javascript", "module"))


def digest(code: str) -> str:
    """Return the SHA-256 of a script as a policy writes it."""
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def guard(page: str) -> str:
    """Return a page's HTML with its policy as the first thing in its head."""
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy(page)}">'
    return HEAD.sub(lambda head: f"{head[0]}\n{meta}", page, count=1)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx: every page is guarded once all are written."""
    app.connect("build-finished", _guard_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _guard_all(app: Any, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        if "Content-Security-Policy" not in page[:2000] and HEAD.search(page):
            path.write_text(guard(page), encoding="utf-8")
