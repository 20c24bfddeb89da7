"""A Sphinx extension that makes the standalone pages: each one HTML file that may connect nowhere.

A page's source is a folder of ``book/_app`` with an ``index.html`` and the parts that it names. An element
with ``data-parts`` gets the files of that folder that stand there, and one with ``data-made`` what `APPS`
makes for the page, as JSON:

    <style data-parts="page.css"></style>
    <script data-parts="numbers.js page.js"></script>
    <script type="text/plain" id="worker" data-parts="numbers.js worker.js"></script>
    <script type="application/json" id="cells" data-made="cells"></script>

A worker starts from a Blob of the text of a ``text/plain`` script. The policy in the head knows scripts and
styles by their hashes, so that neither an attribute ``style`` nor ``onclick`` has any effect.

``python -m hemafl_book.build.apps FOLDER [NAME ...]`` makes the pages without the book.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hemafl_book.build import clinic_page, playground_page
from hemafl_book.build.policy import HEAD, SCRIPT, digest, runs
from hemafl_lib.errors import DataError
from hemafl_lib.files import write_text

REPOSITORY = Path(__file__).resolve().parents[2]

Maker = Callable[[Path], Mapping[str, Any]]
"""Returns what a page is made with, plain JSON values by name; it is given the root of the book."""

APPS: dict[str, Maker] = {"clinic": clinic_page.made, "playground": playground_page.made}
"""Each standalone page by the name of its folder in ``book/_app``, which becomes that of its file."""

DIRECTIVES = {
    "default-src": "'none'",
    "connect-src": "'none'",
    "form-action": "'none'",
    "base-uri": "'none'",
    "img-src": "blob: data:",
    "worker-src": "blob:",
}
"""What a page may do, beside its own scripts and styles."""

SLOT = re.compile(
    r"<(?P<tag>style|script)(?P<attributes>[^>]*?) data-(?P<kind>parts|made)=\"(?P<names>[^\"]*)\""
    r"(?P<more>[^>]*)></(?P=tag)>"
)
STYLE = re.compile(r"<style[^>]*>(?P<code>.*?)</style>", re.DOTALL)


def assemble(name: str, root: Path = REPOSITORY) -> str:
    """Return the HTML of a page of `APPS`; raise `DataError` if it names what is not there."""
    folder = root / "book" / "_app" / name
    made = APPS[name](root)

    def fill(slot: re.Match[str]) -> str:
        names = slot["names"].split()
        if slot["kind"] == "parts":
            content = "\n".join(read_part(folder / part) for part in names)
        else:
            content = as_json(made, slot["names"], folder)
        if f"</{slot['tag']}" in content.lower():
            raise DataError(f"{folder / slot['names']} holds </{slot['tag']}; write it in another way.")
        return f"<{slot['tag']}{slot['attributes']}{slot['more']}>\n{content}\n</{slot['tag']}>"

    return guarded(SLOT.sub(fill, read_part(folder / "index.html")))


def read_part(path: Path) -> str:
    """Return the text of a part; raise `DataError` without one."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        raise DataError(f"{path} cannot be read; restore it, or take it out of index.html.") from None


def as_json(made: Mapping[str, Any], name: str, folder: Path) -> str:
    """Return a value as JSON that may stand in a script: no ``<`` in it."""
    if name not in made:
        raise DataError(f"{folder / 'index.html'} asks for '{name}', which is none of: {', '.join(made)}.")
    return json.dumps(made[name], separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def guarded(page: str) -> str:
    """Return a page with its policy as the first thing in its head."""
    scripts = [found["code"] for found in SCRIPT.finditer(page) if runs(found["attributes"])]
    styles = [found["code"] for found in STYLE.finditer(SCRIPT.sub("", page))]
    own = {"script-src": hashes(scripts), "style-src": hashes(styles)}
    policy = "; ".join(f"{name} {value}" for name, value in {**DIRECTIVES, **own}.items())
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return HEAD.sub(lambda head: f"{head[0]}\n{meta}", page, count=1)


def hashes(codes: Sequence[str]) -> str:
    """Return what a policy allows: these texts only."""
    return " ".join(f"'sha256-{digest(code)}'" for code in codes) or "'none'"


def write_apps(folder: Path, names: Sequence[str] = (), root: Path = REPOSITORY) -> list[Path]:
    """Write the named pages, or all, as ``NAME.html`` into ``folder``; return where they are."""
    for name in names:
        if name not in APPS:
            raise DataError(f"there is no page '{name}'; choose from: {', '.join(APPS)}.")
    paths = [folder / f"{name}.html" for name in names or APPS]
    for path in paths:
        write_text(path, assemble(path.stem, root))
    return paths


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx: the pages go beside the book's first page in every HTML build."""
    app.connect("builder-inited", _write_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _write_all(app: Any) -> None:
    if app.builder.format == "html":
        write_apps(Path(app.outdir), root=Path(app.srcdir))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m hemafl_book.build.apps FOLDER [NAME ...]``; return the exit status."""
    folder, *names = sys.argv[1:] if arguments is None else arguments
    try:
        for path in write_apps(Path(folder), names):
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
