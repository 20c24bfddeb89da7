"""Notebooks that are the same whoever ran them: ``python -m hemafl_book.build.normalise PATHS [--check]``.

Without ``--check`` the notebooks are rewritten in their normal form: cell ids derived from the
content, no widget state, no execution times, no progress bars, counted cells, one kernel name. With
``--check`` nothing is written, and every notebook that is not in its normal form, or that holds what no
page should hold, is named with its reason.
"""

import argparse
import copy
import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from hemafl_lib.errors import DataError
from hemafl_lib.files import write_text

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KEPT_CELL_METADATA = ("jupyter", "mystnb", "tags")
NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
MACHINE_PATH = re.compile(
    r"(?<![\w.<:/])/(?:content|home|mnt|opt|private|root|tmp|Users|usr|var|work|workspaces?)/|(?<!\w)[A-Za-z]:\\\w"
)
PROGRESS_BAR = re.compile(r"\r|\[\d+:\d\d[<,]|(?:it/s|s/it)[\],]")


def normal_form(notebook: NotebookNode) -> NotebookNode:
    """Return a copy of ``notebook`` in its normal form."""
    result = copy.deepcopy(notebook)
    result.nbformat, result.nbformat_minor = 4, 5
    result.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    count = 0
    for cell, identifier in zip(result.cells, _identifiers(result.cells), strict=True):
        cell["id"] = identifier
        cell.metadata = NotebookNode(
            {key: cell.metadata[key] for key in KEPT_CELL_METADATA if key in cell.metadata}
        )
        if cell.cell_type == "code":
            count += 1
            _normalise_code(cell, count)
    return result


def problems(notebook: NotebookNode) -> Iterator[str]:
    """Yield a sentence for everything that ``notebook`` must not hold."""
    if notebook != normal_form(notebook):
        yield "it is not in its normal form; run `make normalise`"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if code and not any(cell.outputs for cell in code):
        yield "it has no stored outputs; run `make notebooks`"
    for number, cell in enumerate(notebook.cells):
        for problem in _cell_problems(cell):
            yield f"cell {number} {problem}"


def read(path: Path) -> NotebookNode:
    """Read a notebook; `DataError` if it is missing or not a notebook."""
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path.") from None
    except Exception as error:
        raise DataError(f"{path} is not a notebook ({error}); restore it from the repository.") from error


def write(path: Path, notebook: NotebookNode) -> None:
    """Write a notebook in its normal form."""
    write_text(path, nbformat.writes(normal_form(notebook)) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Normalise or check the notebooks named on the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="normalise", description="Bring notebooks into their normal form.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="notebooks")
    parser.add_argument("--check", action="store_true", help="change nothing; fail with file and reason")
    options = parser.parse_args(arguments)
    status = 0
    for path in options.paths:
        notebook = read(path)
        if not options.check:
            notebook = normal_form(notebook)
            write(path, notebook)
        for problem in problems(notebook):
            print(f"{path}: {problem}", file=sys.stderr)
            status = 1
    return status


def _identifiers(cells: Sequence[NotebookNode]) -> list[str]:
    """Return an id for every cell: a hash of its kind and source, numbered where two cells are equal."""
    seen: dict[str, int] = {}
    identifiers = []
    for cell in cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        identifiers.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return identifiers


def _normalise_code(cell: NotebookNode, count: int) -> None:
    cell.execution_count = count
    cell.outputs = _join_streams([output for output in cell.outputs if not _is_bar(output)])
    for output in cell.outputs:
        if output.output_type == "execute_result":
            output.execution_count = count
        if "data" in output and len(output.data) > 1:
            output.data.pop(WIDGET_VIEW, None)
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        if alt:
            cell.metadata.setdefault("mystnb", NotebookNode())["image"] = NotebookNode(alt=alt)


def _is_bar(output: NotebookNode) -> bool:
    """Return whether this is what a progress bar leaves behind where a person ran the notebook."""
    data = output.get("data", {})
    return WIDGET_VIEW in data and bool(PROGRESS_BAR.search(data.get("text/plain", "")))


def _join_streams(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring outputs of one stream, which a kernel splits as it pleases."""
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def _cell_problems(cell: NotebookNode) -> Iterator[str]:
    if MACHINE_PATH.search(cell.source):
        yield "names a path of one machine; use a path relative to the repository"
    if cell.cell_type != "code":
        return
    pictures = 0
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"stores the error {output.ename}; mend the cell and run it again"
        data = output.get("data", {})
        pictures += "image/png" in data
        if "image/jpeg" in data:
            yield "stores a JPEG, the format of photographs; show drawings as PNG"
        if WIDGET_VIEW in data:
            yield "shows a widget without an HTML face; show it through hemafl_book.show.widgets"
        texts = [output.get("text", ""), *(value for mime, value in data.items() if mime.startswith("text/"))]
        if any(MACHINE_PATH.search(text) for text in texts):
            yield "stores a path of one machine in its output; show the file's name only"
        if PROGRESS_BAR.search(output.get("text", "") + data.get("text/plain", "")):
            yield "stores a progress bar; show it through hemafl_lib.progress, and run `make notebooks`"
    if pictures and not cell.metadata.get("mystnb", {}).get("image", {}).get("alt"):
        yield "shows a picture without an alternative text; show it through hemafl_book.show.plots.png"
    if pictures > 1:
        yield f"shows {pictures} pictures, and a cell has one alternative text; split the cell"


if __name__ == "__main__":
    sys.exit(main())
