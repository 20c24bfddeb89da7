"""The rules: pure functions from what was found to a verdict, of which there are three and no fourth.

What does not depend on an experiment of ours, the arithmetic of a paper's own numbers, is `CHECKED`; that
is no reproduction.
"""

from collections.abc import Sequence
from typing import NamedTuple

from hemafl_lib.errors import DataError

REPRODUCED, NOT_REPRODUCED, CANNOT_BE_TOLD = "reproduced", "not reproduced", "cannot be told"
CHECKED = "checked"

VERDICTS = (REPRODUCED, NOT_REPRODUCED, CANNOT_BE_TOLD, CHECKED)
"""All there are."""

REASONS = {
    "weights": "the pretrained weights of its networks are not on the machine that made our results",
    "data": "its data are not public, and ours cannot stand for them",
    "simulated": "our patients are simulated, and what is drawn proves nothing about patients",
    "not given": "the paper gives no number that ours could be compared with",
    "not described": "the paper does not say how it was done",
    "undefined": "the paper does not say what would count as such, so that nothing could contradict it",
    "not measured": "no frozen result of this book measures it",
}
"""Why a claim may be out of reach of any result; a claim names one of these."""


class Found(NamedTuple):
    """A number that decides: what it is, and how far it could be off."""

    label: str
    estimate: float
    low: float
    high: float


class Decision(NamedTuple):
    """A verdict, and the number that settled it, if one did."""

    verdict: str
    by: Found | None


def above(found: Sequence[Found], margin: float = 0.0) -> Decision:
    """Reproduced if every interval lies above the margin, not reproduced if one lies below it."""
    lowest, excluded = min(found, key=lambda one: one.low), min(found, key=lambda one: one.high)
    if excluded.high < margin:
        return Decision(NOT_REPRODUCED, excluded)
    return Decision(REPRODUCED if lowest.low > margin else CANNOT_BE_TOLD, lowest)


def one_above(found: Sequence[Found], margin: float = 0.0) -> Decision:
    """Reproduced if some interval lies above the margin, not reproduced if all lie below it."""
    best, last = max(found, key=lambda one: one.low), max(found, key=lambda one: one.high)
    if best.low > margin:
        return Decision(REPRODUCED, best)
    return Decision(NOT_REPRODUCED if last.high < margin else CANNOT_BE_TOLD, last)


def within(found: Sequence[Found], low: float, high: float) -> Decision:
    """Reproduced if every interval lies from low to high, not reproduced if one lies wholly outside."""
    clear = max(found, key=lambda one: max(low - one.high, one.low - high))
    widest = max(found, key=lambda one: max(low - one.low, one.high - high))
    if clear.high < low or clear.low > high:
        return Decision(NOT_REPRODUCED, clear)
    return Decision(REPRODUCED if low <= widest.low and widest.high <= high else CANNOT_BE_TOLD, widest)


def equal(found: Sequence[Found], values: Sequence[float]) -> Decision:
    """Reproduced if the numbers, which chance does not touch, are these; else not."""
    different = [one for one, value in zip(found, values, strict=True) if one.estimate != value]
    return Decision(NOT_REPRODUCED, different[0]) if different else Decision(REPRODUCED, found[0])


def cannot_be_told(found: Sequence[Found], reason: str) -> Decision:
    """Never decided, for a reason that stands in `REASONS`."""
    if reason not in REASONS:
        raise ValueError(f"reason '{reason}' is unknown; choose one of {', '.join(REASONS)}.")
    return Decision(CANNOT_BE_TOLD, None)


def checked(found: Sequence[Found], value: float) -> Decision:
    """The paper's own numbers, put together again, give this value: no experiment, and no other verdict."""
    if found[0].estimate != value:
        raise DataError(f"{found[0].label} {found[0].estimate:g} and not {value:g}; correct the claim.")
    return Decision(CHECKED, found[0])
