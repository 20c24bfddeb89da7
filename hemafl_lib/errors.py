"""Errors a reader may meet: one sentence that names the argument or file, and the remedy.

Budget: 70 lines.
"""

import re

LONGEST = 400
"""Characters of somebody else's text that a sentence quotes."""


class HemaflError(ValueError):
    """Base of every error that the library raises on purpose."""


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
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    last = re.sub(rf"^{__name__}\.\w+: ", "", lines[-1]).rstrip(".") if lines else "no reason given"
    return one_line(last)


def one_line(text: str) -> str:
    """Return what somebody else has written as one line: shortened, without what cannot be printed."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * LONGEST]).split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
