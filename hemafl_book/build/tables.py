"""A Sphinx extension that mends the tables of notebooks for the page: headings, and what is drawn or folded.

A stored table is what pandas writes. On the page its empty headings are cells, its names are words, and a
missing number is a dash. A cell with the tag ``draw: WHAT THE NUMBERS ARE`` shows its table as a figure with
the table folded below it, and with ``columns: ONE | ANOTHER`` draws these columns only; one with the tag
``fold`` only folds it. Columns that end in *low* and *high* are the whiskers of the column before them, and
where there are any, only what has whiskers is drawn. The caption is the ``figure`` of the metadata of the
cell, or the name of the table that it prints.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from docutils import nodes

from hemafl_book.show import figures
from hemafl_lib.errors import DataError

TABLE = re.compile(
    r"<div>\s*<style scoped.*?</style>\s*(<table[^>]*dataframe.*?</table>)\s*</div>", re.DOTALL
)
IDENTIFIER = re.compile(r"[A-Za-z]\w*_\w*")
VALUE = re.compile(r"(-?\d[\d,]*(?:\.\d+)?)(?: \[(-?[\d.]+), (-?[\d.]+)\])?")
DRAW, COLUMNS, FOLD = "draw: ", "columns: ", "fold"
MISSING = "–"
LOW, HIGH = "low", "high"


def mend(table: ET.Element) -> None:
    """Bring a table of pandas into the page's form."""
    table.attrib = {"class": "dataframe"}
    head, body = table.find("thead"), table.find("tbody")
    if head is None or body is None:
        return
    levels = max((count_headings(row) for row in body), default=0)
    name_corner(head, levels)
    if counts_rows(body, head, levels):
        for row in [*head, *body]:
            row.remove(row[0])
    for row in [*head, *body]:
        row.attrib = {}
        for cell in row:
            mend_cell(cell, "col" if row in list(head) else "row")


def count_headings(row: ET.Element) -> int:
    """Return with how many headings a row begins."""
    return len(list(takewhile(lambda cell: cell.tag == "th", row)))


def name_corner(head: ET.Element, levels: int) -> None:
    """Put the names of the rows, which have a line of their own, into the corner above them."""
    if len(head) < 2 or any((cell.text or "").strip() for cell in head[-1][levels:]):
        return
    names = [(cell.text or "").strip() for cell in head[-1][:levels]]
    head.remove(head[-1])
    for cell, name in zip(head[-1], names, strict=False):
        across = (cell.text or "").strip()
        cell.text = f"{name} ↓ {across} →" if name and across else name or across


def counts_rows(body: ET.Element, head: ET.Element, levels: int) -> bool:
    """Return whether the only heading of the rows is their number, from 0, without a name."""
    numbers = [(row[0].text or "").strip() for row in body]
    nameless = not any((row[0].text or "").strip() for row in head)
    return levels == 1 and nameless and numbers == [str(number) for number in range(len(numbers))]


def mend_cell(cell: ET.Element, scope: str) -> None:
    """Bring a cell into the page's form: an empty heading is none, an identifier is words."""
    spans = {key: value for key, value in cell.attrib.items() if key in ("colspan", "rowspan")}
    text = (cell.text or "").strip()
    cell.attrib = spans
    if cell.tag == "th" and not text:
        cell.tag = "td"
    elif cell.tag == "th":
        cell.text = words(text)
        cell.attrib["scope"] = f"{scope}group" if spans else scope
    elif text in ("NaN", "None", "nan"):
        cell.text = MISSING


def words(text: str) -> str:
    """Return a heading with the identifiers in it as words."""
    return IDENTIFIER.sub(lambda found: found[0].replace("_", " "), text)


def series_of(table: ET.Element) -> list[dict[str, Any]]:
    """Return the numbers of a mended table as series over its rows; a column that holds none is left out."""
    *_, names = table.findall("thead/tr")
    rows = list(row_values(table))
    heads = [(cell.text or "").strip() for cell in names][-len(rows[0][1]) :]
    columns = {head: [values[place] for _, values in rows] for place, head in enumerate(heads)}
    places = [place for place, _ in rows]
    whiskers = list(whiskered(heads))
    if whiskers:
        ends = {head: [one[0] if one else None for one in values] for head, values in columns.items()}
        return [
            one_series(name, places, columns[name], ends[low], ends[high]) for name, low, high in whiskers
        ]
    return [one_series(head, places, values) for head, values in columns.items() if any(values)]


def whiskered(heads: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield each column that has whiskers and the names of these, which are the next two columns."""
    for name, low, high in zip(heads, heads[1:], heads[2:], strict=False):
        if low.endswith(LOW) and high == low.removesuffix(LOW) + HIGH:
            yield name, low, high


def chosen(series: list[dict[str, Any]], tags: Sequence[str]) -> list[dict[str, Any]]:
    """Return the series that the tag ``columns:`` names, or all."""
    names = [
        name for tag in tags if tag.startswith(COLUMNS) for name in tag.removeprefix(COLUMNS).split(" | ")
    ]
    found = [one for one in series if one["name"] in names] if names else series
    if len(found) < len(names):
        raise DataError(
            f"no table has the columns of the tag '{COLUMNS}{' | '.join(names)}'; write them as it does."
        )
    return found


def row_values(table: ET.Element) -> Iterator[tuple[str, list[tuple[float, ...] | None]]]:
    """Yield the name of each row and its cells as numbers with intervals, None where there is none."""
    above: list[str] = []
    levels = max(count_headings(row) for row in table.findall("tbody/tr"))
    corner = (table.findtext("thead/tr/th[1]") or "").partition(" ↓")[0].strip() if levels == 1 else ""
    for row in table.findall("tbody/tr"):
        own = [(cell.text or "").strip() for cell in row[: count_headings(row)]]
        if corner and own[0].isdigit():  # a number of what?
            own = [f"{corner} {own[0]}"]
        above = [*above[: levels - len(own)], *own]
        found = [VALUE.fullmatch((cell.text or "").strip()) for cell in row[count_headings(row) :]]
        yield (
            ", ".join(above),
            [
                tuple(float(part.replace(",", "")) for part in one.groups() if part) if one else None
                for one in found
            ],
        )


def one_series(
    name: str,
    places: Sequence[str],
    values: Sequence[tuple[float, ...] | None],
    low: Sequence[float | None] | None = None,
    high: Sequence[float | None] | None = None,
) -> dict[str, Any]:
    """Return a series without the rows in which it has no number."""
    ends = [(None, None) if one is None or len(one) < 3 else one[1:] for one in values]
    known = [row for row, one in enumerate(values) if one]
    return {
        "name": name,
        "y": [places[row] for row in known],
        "x": [values[row][0] for row in known],  # type: ignore[index]
        "low": [(low[row] if low else ends[row][0]) for row in known],
        "high": [(high[row] if high else ends[row][1]) for row in known],
    }


def folded(table: str, summary: str) -> str:
    """Return a table behind its summary."""
    return f'<details class="hemafl-numbers"><summary>{summary}</summary><div>{table}</div></details>'


def shown(html: str, tags: Sequence[str], caption: str, name: str) -> str:
    """Return the HTML of an output with its tables mended, and drawn or folded as the tags say."""

    def replace(found: re.Match[str]) -> str:
        table = ET.fromstring(found[1].replace("&nbsp;", "\u00a0"))
        mend(table)
        text = ET.tostring(table, encoding="unicode", method="html")
        what = next((tag.removeprefix(DRAW) for tag in tags if tag.startswith(DRAW)), None)
        if what:
            picture = figures.intervals(chosen(series_of(table), tags), what)
            drawn = figures.markup(name, caption or f"{what[0].upper()}{what[1:]}.", picture)
            return drawn.replace("<figure ", '<figure data-numbers="beside" ') + folded(text, "The numbers")
        if FOLD in tags:
            return folded(text, f"The table ({len(table.findall('tbody/tr'))} rows)")
        return text

    return TABLE.sub(replace, html)


def printed(cell: nodes.Element) -> str:
    """Return the first line that a cell prints, which is the name of the table that it checks."""
    for block in cell.findall(nodes.literal_block):
        if "stream" in block["classes"]:
            line = block.astext().splitlines()[0]
            return f"{line[0].upper()}{line[1:]}."
    return ""


def mend_page(app: Any, page: nodes.document, name: str) -> None:
    """Mend the tables of a page's notebook cells, and caption its pictures."""
    for cell in page.findall(lambda node: getattr(node, "attributes", {}).get("nb_element") == "cell_code"):
        metadata = cell["cell_metadata"]
        caption = metadata.get("mystnb", {}).get("figure", {}).get("caption") or printed(cell)
        for raw in list(cell.findall(nodes.raw)):
            if "dataframe" in raw.astext():
                identifier = f"table-{cell['cell_index']}"
                text = shown(raw.astext(), metadata.get("tags", []), caption, identifier)
                raw.replace_self(nodes.raw("", text, format="html", classes=raw["classes"]))
        for figure in [one for one in cell.findall(nodes.figure) if "hemafl-plot" in one.astext()]:
            figure.replace_self([part for part in figure if not isinstance(part, nodes.caption)])
        for image in list(cell.findall(nodes.image)):
            if image.get("alt") and not isinstance(image.parent, nodes.figure):
                parts = image.deepcopy(), nodes.caption(text=image["alt"])
                image.replace_self(nodes.figure("", *parts, ids=[f"picture-{cell['cell_index']}"]))


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", mend_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
