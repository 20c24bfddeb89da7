"""Errors a reader may meet: one sentence that names the argument or file, and the remedy.

Names, labels and reasons come from files and hospitals, and could hold what steers a terminal or turns
the direction of writing. `one_line` is the one place where such text becomes plain; every error passes it.

Budget: 90 lines.
"""

import re

LONGEST, QUOTED = 2000, 400
"""Characters that are shown of an error's sentence, and of one that is quoted within another."""


def one_line(text: object, longest: int = QUOTED) -> str:
    """Return text from elsewhere as one line of printable characters, cut after ``longest`` of them.

    Line ends, tabs and odd blanks become a blank; escape sequences lose their escape, and the marks that
    turn the direction of writing or take no room go. What HTML reads as markup stays: who writes a page
    escapes it there.
    """
    line = str(text)[: 10 * longest]
    plain = "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "" for letter in line
    ).strip()
    return plain if len(plain) <= longest else f"{plain[: longest - 3]}..."


class HemaflError(ValueError):
    """Base of every error that the library raises on purpose; its sentence is one line, see `one_line`."""

    def __init__(self, *sentence: object) -> None:
        super().__init__(*(one_line(part, LONGEST) for part in sentence))


class DataError(HemaflError):
    """A file, folder or table does not hold what its layout promises."""


class PartitionError(HemaflError):
    """A cohort cannot be cut into the sites that were asked for."""


class FederationError(HemaflError):
    """A federated run cannot start or go on."""


class EvaluationError(HemaflError):
    """Labels and predictions cannot be scored together."""


class ModelError(HemaflError):
    """A model, its weights, or the augmentation before it cannot be made as asked."""


class ExplanationError(HemaflError):
    """A relevance map cannot be computed or measured as asked."""


class PrivacyError(HemaflError):
    """Training cannot be made private, or attacked, as asked."""


class BudgetSpent(PrivacyError):
    """Another round would cost more privacy than the budget allows."""


class Stopped(Exception):
    """Work ended early because its caller asked for it."""


def quote(text: str | None) -> str:
    """Return what an error says for use within a sentence: its last line, without our class and full stop."""
    lines = [line for each in (text or "").splitlines() if (line := one_line(each))]
    return re.sub(rf"^{__name__}\.\w+: ", "", lines[-1]).rstrip(".") if lines else "no reason given"
