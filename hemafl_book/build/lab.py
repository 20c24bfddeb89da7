"""Open the notebooks in JupyterLab, as copies: ``python -m hemafl_book.build.lab``.

A reader may change and run a copy as she likes; the book's own files stay as they are. A copy is written as
JupyterLab shows it best: solutions are folded, citations name author and year, and an explorer says that its
notebook has to run first. A copy that the reader changed is never overwritten.
"""

import copy
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from pybtex.database import parse_file

from hemafl_book.build.normalise import read
from hemafl_lib.errors import DataError
from hemafl_lib.files import read_json, sha256, write_json, write_text

ROOT = Path(__file__).resolve().parents[2]
BOOK, WORK = ROOT / "book", ROOT / "work"
COPIES = WORK / "notebooks"
"""Where the copies lie."""

COPIED = ".copied.json"
"""Beside the copies: the checksum of each as it was written, to tell whether the reader changed it."""

QUIET = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
"""Settings of JupyterLab: it neither asks about news nor looks for updates."""

CITED = re.compile(r"\{cite\}`([\w,-]+)`")
OPENING = re.compile(r"`{3,}\{solution-start\} *(\S+)\n(?::class: dropdown\n)?`{3,}\n?")
CLOSING = re.compile(r"`{3,}\{solution-end\}\n`{3,}\n?")
FOLDED = {"source_hidden": True, "outputs_hidden": True}

RUN_FIRST = (
    '<div class="hemafl-run-first"><p><strong>Run this notebook first</strong> '
    "(<em>Run &gt; Run All Cells</em>): then sliders appear here. As recorded, in the first position:</p>"
    "{summary}</div>"
)
SUMMARY = re.compile(r'<p class="hemafl-summary"[^>]*>.*?</p>', re.DOTALL)


def main(arguments: Sequence[str]) -> None:
    """Bring the copies up to date and become JupyterLab; ``arguments`` are its own."""
    try:
        update(BOOK, COPIES, print)
    except (DataError, OSError) as error:
        sys.exit(f"The notebooks cannot be copied: {error}")
    settings = WORK / ".jupyter"
    write_settings(settings)
    paths = [str(settings), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    environment = os.environ | {"JUPYTER_CONFIG_PATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={COPIES}", "--ServerApp.ip=127.0.0.1"]
    os.execve(sys.executable, [*command, *arguments], environment)


def write_settings(folder: Path) -> None:
    """Write what JupyterLab is to begin with into a folder of its configuration."""
    place = folder / "labconfig"
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / "default_setting_overrides.json", QUIET)


def update(book: Path, copies: Path, say: Callable[[str], object]) -> None:
    """Copy every page and notebook of a book that has changed since, or was never copied.

    Parameters
    ----------
    book, copies
        Folder of the book, and of the copies, which is made if need be.
    say
        Gets a sentence for each copy of the reader's that is put aside, and for each that cannot be written:
        it stays as it is, and the others are written.

    Raises
    ------
    DataError
        If what was noted of earlier copies cannot be read or written.
    """
    copies.mkdir(parents=True, exist_ok=True)
    record = copies / COPIED
    copied: dict[str, str] = read_json(record) if record.exists() else {}
    for source in sorted([*book.rglob("*.ipynb"), *book.rglob("*.md")]):
        name = source.relative_to(book).as_posix()
        if "/." not in f"/{name}":
            try:
                copied[name] = copy_one(source, copies / name, copied.get(name), say)
            except (DataError, OSError) as error:
                say(f"{name} is not copied: {error}")
    write_json(record, copied)


def copy_one(source: Path, target: Path, written: str | None, say: Callable[[str], object]) -> str:
    """Bring one copy up to date; return the checksum of what the book would write now.

    ``written`` is the checksum of what was written last. Where the reader changed the copy it stays; if the
    book's page has changed too, the reader's is put aside under a name of its own.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    write_text(fresh, as_opened(source))
    new = sha256(fresh)
    try:
        old = sha256(target) if target.exists() else None
    except DataError:  # a folder in its place, or a file that nobody may read
        fresh.unlink()
        raise
    if old in (None, new, written):
        os.replace(fresh, target)
    elif new == written:
        fresh.unlink()
    else:
        kept = free_name(target)
        os.replace(target, kept)
        os.replace(fresh, target)
        say(f"{target.name} has changed in the book; what you made of it is kept as {kept.name}.")
    return new


def free_name(path: Path) -> Path:
    """Return a name beside ``path`` that nothing has yet."""
    number = 1
    while (kept := path.with_name(f"{path.stem}-yours-{number}{path.suffix}")).exists():
        number += 1
    return kept


def as_opened(source: Path) -> str:
    """Return the text of a page or a notebook as it is copied."""
    if source.suffix != ".ipynb":
        return source.read_text(encoding="utf-8")
    names = author_and_year(BOOK / "reference" / "references.bib")
    return nbformat.writes(for_lab(read(source), names)) + "\n"


def author_and_year(bibliography: Path) -> dict[str, str]:
    """Return how each work of a bibliography is cited in a sentence, by its key."""
    return {key: cited(entry) for key, entry in parse_file(str(bibliography)).entries.items()}


def cited(entry: Any) -> str:
    """Return author and year of a work, linked to it where it has a DOI."""
    fields, people = entry.fields, entry.persons.get("author", [])
    names = [" ".join(person.last_names) for person in people]
    others = any(name == "others" for name in names)
    many = len(names) > 2 or others
    who = (f"{names[0]} et al." if many else " and ".join(names)) if names else fields.get("key", "")
    label = re.sub(r"[{}\\]", "", f"{who} {fields.get('year', '')}").strip()
    return f"[{label}](https://doi.org/{fields['doi']})" if "doi" in fields else label


def for_lab(notebook: NotebookNode, names: dict[str, str]) -> NotebookNode:
    """Return a copy of a notebook as JupyterLab shows it best.

    Between the beginning and the end of a solution code is folded, and words are in a box that opens on a
    click. ``names`` are the citations by key; one that is not there stays as it is.
    """
    result = copy.deepcopy(notebook)
    within = False
    for cell in result.cells:
        if cell.cell_type == "markdown":
            cell.source, within = folded(cite(cell.source, names), within)
        elif cell.cell_type == "code":
            if within:
                cell.metadata["jupyter"] = {**cell.metadata.get("jupyter", {}), **FOLDED}
            for output in cell.outputs:
                say_run_first(output)
    return result


def cite(text: str, names: dict[str, str]) -> str:
    """Return a text whose citations name author and year."""

    def named(found: re.Match[str]) -> str:
        keys = [key.strip() for key in found[1].split(",")]
        return f"({'; '.join(names[key] for key in keys)})" if all(key in names for key in keys) else found[0]

    return CITED.sub(named, text)


def folded(text: str, within: bool) -> tuple[str, bool]:
    """Return a text with its part of solutions in boxes, and whether a solution goes on behind it.

    ``within`` says whether one began before the text. Of the code that follows a beginning a line tells.
    """
    parts: list[str] = []
    rest = text
    while rest:
        mark = (CLOSING if within else OPENING).search(rest)
        part, rest = (rest[: mark.start()], rest[mark.end() :]) if mark else (rest, "")
        parts.append(box(part) if within else part)
        within = within != bool(mark)
        if mark and within and not rest.strip():
            parts.append("*The solution is folded: click on the three dots below.*\n")
    return "".join(parts), within


def box(words: str) -> str:
    """Return words in a box that opens on a click; nothing of nothing."""
    return f"`````{{dropdown}} Solution in words\n{words.strip()}\n`````\n\n" if words.strip() else ""


def say_run_first(output: NotebookNode) -> None:
    """Put in place of a recorded explorer, whose scripts do not run here, what it says and what to do."""
    html = output.get("data", {}).get("text/html", "")
    summary = SUMMARY.search(html)
    if 'class="hemafl-explorer"' in html and summary:
        output.data["text/html"] = RUN_FIRST.format(summary=summary[0])


if __name__ == "__main__":
    main(sys.argv[1:])
