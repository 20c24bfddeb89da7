"""Errors a reader may meet: one sentence that names the argument or file, and the remedy.

Budget: 60 lines.
"""

import re


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
    return re.sub(rf"^{__name__}\.\w+: ", "", lines[-1]).rstrip(".") if lines else "no reason given"
