"""Every claim of the four papers with the rule and the frozen rows that decide it; nothing is typed.

`hemafl claims` prints the verdicts, and with the name of a chapter what each rests on. In Python:

    from hemafl_book.papers import claims
    for judgement in claims.judge_all(claims.read_frozen()):
        print(judgement.verdict, judgement.claim.says)

To add a claim, write it in the module of its chapter; the chapter's table, the introduction and the tests
then have it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from hemafl_book.papers.claims import attention_cnn, blood_morphology, survival, transfer_learning
from hemafl_book.papers.claims.claim import Claim, Judgement, judge, judge_twice, read, source, written
from hemafl_book.papers.claims.evidence import Frozen
from hemafl_book.papers.claims.rules import REASONS, VERDICTS
from hemafl_book.results import CODE, load, same_experiment
from hemafl_lib.errors import DataError, HemaflError

__all__ = [
    "CHAPTERS",
    "FOLDER",
    "OTHER",
    "REASONS",
    "RESULTS",
    "VERDICTS",
    "Chapter",
    "Claim",
    "Frozen",
    "Judgement",
    "find",
    "judge",
    "judge_all",
    "judge_twice",
    "read",
    "read_frozen",
    "read_other",
    "source",
    "written",
]

FOLDER = CODE / "book" / "results"
"""The folder of frozen results in a clone of the book."""

RESULTS = (
    "blood-morphology",
    "leave-one-out",
    "attention-cnn",
    "all-transfer",
    "all-networks",
    "mds-survival",
    "scd-infarct",
)
"""The frozen results that claims rest on."""

OTHER = "other_processor"
"""The folder, among the frozen results, of those that another processor computed by the same protocol.

Rounding differs there, and training carries it on: the numbers say how much of a verdict is the machine's.
"""


class Chapter(NamedTuple):
    """A chapter of the book, its page, and the claims of its paper."""

    title: str
    page: str
    claims: Sequence[Claim]


CHAPTERS = {
    "blood-morphology": Chapter("Blood morphology", "papers/blood_morphology", blood_morphology.CLAIMS),
    "attention-cnn": Chapter("Attention CNN", "papers/attention_cnn", attention_cnn.CLAIMS),
    "transfer-learning": Chapter("Transfer learning", "papers/transfer_learning", transfer_learning.CLAIMS),
    "survival-and-sickle-cell": Chapter(
        "Survival and sickle cell disease", "papers/survival_and_sickle_cell", survival.CLAIMS
    ),
}
"""The chapters by name."""


def find(name: str) -> Chapter:
    """Return a chapter; `HemaflError` if there is none of that name."""
    if name not in CHAPTERS:
        raise HemaflError(f"chapter '{name}' is unknown; choose one of {', '.join(CHAPTERS)}.")
    return CHAPTERS[name]


def read_frozen(folder: Path = FOLDER) -> Frozen:
    """Return the frozen results that claims rest on; `DataError` if one is missing or damaged."""
    if not folder.is_dir():
        raise DataError(
            f"{folder} is no folder; name one that `hemafl results make` filled, or clone the book."
        )
    return {name: load(folder / f"{name}.json") for name in RESULTS}


def read_other(folder: Path = FOLDER) -> Frozen:
    """Return those results of `RESULTS` that the folder holds from another processor as well, maybe none.

    Raises `DataError` if one is damaged, or of another protocol, other data or seeds than the folder's own.
    """
    paths = {name: folder / OTHER / f"{name}.json" for name in RESULTS}
    other = {name: load(path) for name, path in paths.items() if path.exists()}
    for name, result in other.items():
        if not same_experiment(result, load(folder / f"{name}.json")):
            raise DataError(
                f"{paths[name]} is of another protocol, other data or seeds; compute it again, or remove it."
            )
    return other


def judge_all(
    frozen: Frozen, chapters: Iterable[str] = CHAPTERS, other: Frozen | None = None
) -> list[Judgement]:
    """Return what the frozen results say about every claim of some chapters, in their order.

    With ``other`` it is also said what the results of another processor say, see `read_other`.
    """
    return [judge_twice(claim, frozen, other or {}) for name in chapters for claim in find(name).claims]
