"""A number in the prose of a chapter is shown by a cell nearby, printed by the paper, or has a source.

Outputs are compared with fresh ones elsewhere; here the prose is compared with the outputs, so that it cannot
stay behind when a result changes.
"""

import re
from pathlib import Path

import nbformat
import pytest

from hemafl_book.papers import claims, published

BOOK = Path(__file__).resolve().parents[2] / "book"
BEFORE, AFTER = 10, 4
"""How many cells before and after a text may show its numbers."""

CHECKED = "The numbers in the prose were typed."
"""What the text before a cell says that holds a chapter's typed numbers against its frozen result."""

NUMBER = re.compile(
    r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\w)|(?<![\w.,])\d*\.\d+(?!\w)|(?<![\w.,])\d+(?![\w.,]\d|\w)"
)
PROSE = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?!\w)|(?<![\w.,])\d*\.\d+(?!\w)")
NOT_PROSE = re.compile(
    r"```.*?```|\{[\w-]+\}`[^`]*`|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|(?<=\])\([^)]*\)|^\(.*\)=$",
    re.DOTALL | re.MULTILINE,
)

ASKED = re.compile(r"\{(?:exercise|solution-start|solution-end|dropdown)\}")
"""Questions and answers, whose numbers are their own; solutions are code that runs."""

FACTS = {
    "attention_cnn": {
        "3,256": "the public images (claim attention-images)",
        "651.2": "a fifth of 3,256",
        "0.1": "a setting of the sliders",
        "0.5": "of Jain's index, asserted in the cell before",
        "3.7": "near duplicates among the real images, counted when the cohort was described",
    },
    "blood_morphology": {
        "0.05": "no result: a difference that a test of so few cells cannot show",
        "12.6": "bands among Barcelona's images (claim morphology-barcelona)",
    },
    "survival_and_sickle_cell": {
        "0.757": "reported by Bernard et al. (2022)",
        "0.748": "our count of the authors' own score, on their table",
        "2,558": "patients with known survival in that table",
        "2,346": "68 x 69 / 2, entries of a symmetric matrix of 68 features",
        "2,811": "patients of the registry with known survival",
        "4,427": "patients of the paper",
        "0.46": "2p / (1 + p) at p = 0.3",
    },
    "transfer_learning": {
        "3,256": "the public images (claim attention-images)",
        "1,280": "features of EfficientNet-Lite0",
        "2.7": "e",
        "60,000": "e to the 11th",
        "97.3": "published.share_with_sibling, asserted in the chapter",
        "1,914": "published.distinct_originals, asserted in the chapter",
        "1.36": "2,604 rows of 1,915 images, shown",
        "1.41": "the version of Flower",
        "1.91": "the largest class by the smallest, asserted in the chapter",
        "33,000": "parameters of the attention CNN",
        "4,000": "simulated patients that the privacy explorer tests on",
        "91.1": "cited by the paper",
        "99.73": "cited by the paper",
    },
}
"""Numbers that no cell of their chapter shows, and where they come from."""


def printed(chapter: str) -> set[str]:
    """Return the numbers that a paper prints: those of its claims and of its tables."""
    told = " ".join(f"{claim.says} {claim.number}" for claim in claims.CHAPTERS[chapter].claims)
    tables = [value for row in (*published.ALONE, *published.FEDERATED) for value in row[1:]]
    counts = [f"{published.ORIGINALS:,}", f"{published.TEST_IMAGES:,}", *published.FOLDS]
    extra = [*tables, *counts] if chapter == "transfer-learning" else []
    return {number.lstrip("0") for number in (*NUMBER.findall(told), *extra)}


def shown(cells: list) -> list[float]:
    """Return the numbers in what cells print and show."""
    texts = []
    for output in (output for cell in cells if cell.cell_type == "code" for output in cell.outputs):
        data = output.get("data", {"text/plain": output.get("text", "")})
        texts.append(data.get("text/plain", ""))
        texts.append(
            re.sub("<[^>]*>", " ", data["text/html"]) if "<table" in data.get("text/html", "") else ""
        )
    return [float(number.replace(",", "")) for number in NUMBER.findall(" ".join(texts))]


def is_shown(number: str, values: list[float]) -> bool:
    """Tell whether some value rounds to a number, as a share or in per cent."""
    digits = len(number.partition(".")[2])
    wanted, half = float(number.replace(",", "")), 0.5 * 10**-digits + 1e-9
    return any(abs(value * scale - wanted) <= half for value in values for scale in (1, 100))


def unchecked(page: nbformat.NotebookNode, known: set[str]) -> list[tuple[int, str]]:
    """Return the numbers of a page's prose that nothing shows, with the number of their cell."""
    cells = page.cells
    after = [k + 1 for k, cell in enumerate(cells) if CHECKED in cell.source]
    found = []
    for k, cell in enumerate(cells):
        if cell.cell_type == "markdown" and not ASKED.search(cell.source):
            near = [*cells[max(0, k - BEFORE) : k + AFTER + 1], *(cells[place] for place in after)]
            values = [*shown(near), *(float(number.replace(",", "")) for number in known)]
            numbers = PROSE.findall(NOT_PROSE.sub(" ", cell.source))
            found += [(k, n) for n in numbers if n.lstrip("0") not in known and not is_shown(n, values)]
    return found


@pytest.mark.parametrize("chapter", claims.CHAPTERS)
def test_numbers_of_the_prose_are_shown_by_a_cell_or_have_a_source(chapter):
    page = claims.CHAPTERS[chapter].page
    known = printed(chapter) | {number.lstrip("0") for number in FACTS[Path(page).name]}
    assert unchecked(nbformat.read(BOOK / f"{page}.ipynb", as_version=4), known) == []


def test_the_introduction_repeats_only_what_the_papers_print():
    known = set().union(*(printed(chapter) for chapter in claims.CHAPTERS))
    text = NOT_PROSE.sub(" ", (BOOK / "intro.md").read_text(encoding="utf-8"))
    numbers = {number for number in PROSE.findall(text) if number.lstrip("0") not in known}
    assert numbers <= {"0.87", "0.02", "33,000", "3,256", "4,427"}, "0.87 and 0.02 are an example"


def test_a_number_that_a_result_has_left_behind_is_found():
    code = nbformat.v4.new_code_cell("print(x)")
    code.outputs = [nbformat.v4.new_output("stream", text="accuracy 0.934")]
    page = nbformat.v4.new_notebook(
        cells=[code, nbformat.v4.new_markdown_cell("It reaches 93.4 %, not 0.96.")]
    )
    assert unchecked(page, set()) == [(1, "0.96")]
