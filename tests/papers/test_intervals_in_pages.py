"""No page shows an interval that cannot be: outside [0, 1], or of a percentage outside [0, 100]."""

import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

BOOK = Path(__file__).resolve().parents[2] / "book"
PAGES = sorted(page for page in BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in page.parts)
NUMBER = r"(-?\d+\.\d+)"
WITH_INTERVAL = re.compile(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]")
MULTIPLE = re.compile(r"less (\d+(?:\.\d+)?) times ")
PERCENT = re.compile(r"\d+(?:\.\d+)?(?= ?%)")


def outputs(page: Path) -> list[dict[str, str]]:
    """Return what the cells of a page print and show, by MIME type."""
    cells = [cell for cell in nbformat.read(page, as_version=4).cells if cell.cell_type == "code"]
    found = [output for cell in cells for output in cell.outputs]
    return [output.get("data", {"text/plain": output.get("text", "")}) for output in found]


def possible(low: float, high: float, times: float = 1.0) -> bool:
    """Tell whether both ends are of a share, of one less ``times`` another, or of a percentage."""
    return -times <= low <= high <= 1 or 0 <= low <= high <= 100


def printed(text: str) -> list[tuple[float, float, float, float]]:
    """Return each printed mean with its interval, and how many times its second share is taken away."""
    return [
        (*map(float, found.groups()), float(multiple.group(1)) if multiple else 1.0)
        for line in text.splitlines()
        for multiple in [MULTIPLE.search(line)]
        for found in WITH_INTERVAL.finditer(line)
    ]


def bounds(html: str) -> list[tuple[float, float]]:
    """Return the columns *low* and *high* of a shown table, row by row, where both are given."""
    rows = [row.find_all(["th", "td"]) for row in BeautifulSoup(html, "html.parser").find_all("tr")]
    names = [cell.text for cell in rows[0]] if rows else []
    if not {"low", "high"} <= set(names):
        return []
    # Counted from the right, because a row leaves out what spans several rows at its left.
    low, high = (names.index(name) - len(names) for name in ("low", "high"))
    pairs = [(row[low].text, row[high].text) for row in rows[1:] if all(cell.text for cell in row)]
    return [(float(one), float(other)) for one, other in pairs if "NaN" not in (one, other)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_interval_is_possible(page):
    for output in outputs(page):
        text = output.get("text/plain", "")
        for mean, low, high, times in printed(text):
            assert low <= mean <= high, text
            assert low >= 0 or mean < 0.5, f"{mean} is no difference, and its interval begins at {low}"
            assert possible(low, high, times), text
        for low, high in bounds(output.get("text/html", "")):
            assert possible(low, high), text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_output_shows_a_percentage_above_100(page):
    for output in outputs(page):
        for number in PERCENT.findall(output.get("text/plain", "")):
            assert float(number) <= 100, output["text/plain"]


def test_tables_are_read():
    table = "<tr><th></th><th>low</th><th>high</th></tr><tr><th>a</th><td>0.1</td><td>1.2</td></tr>"
    assert bounds(f"<table>{table}</table>") == [(0.1, 1.2)]
    assert sum(len(bounds(output.get("text/html", ""))) for page in PAGES for output in outputs(page)) > 20


@pytest.mark.parametrize(("low", "high"), [(-0.09, 1.11), (-13.93, 90.02), (62.21, 106.46), (0.6, 0.4)])
def test_what_cannot_be_is_found(low, high):
    assert not possible(low, high)
