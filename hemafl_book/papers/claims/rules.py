"""The rules: pure functions from what was found to a verdict, of which there are three and no fourth.

What no experiment of ours decides, the arithmetic of a paper's own numbers, a count of its public images, or
a comparison of what is made to be equal, is `CHECKED`: no reproduction, and whether the claim stands is told
beside it.
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
    "other tasks": "it compares figures of other tasks, and of images that nobody has shown to be the same",
    "no nuclei": "nobody has drawn the nuclei in its images",
    "simulated": "our patients are simulated, and what is drawn proves nothing about patients",
    "not given": "what we have of the paper gives no number that ours could be compared with",
    "not described": "what we have of the paper does not say how it was done",
    "undefined": "what we have of the paper does not say what would count as such, so that no result could "
    "contradict it",
    "not measured": "no frozen result of this book measures it",
    "a definition": "it is a matter of definition, and no experiment decides it",
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


def above_in_settings(found: Sequence[Found], margin: float = 0.0) -> Decision:
    """As `above`, of settings that a paper leaves open: one below does not decide if another lies above."""
    decision = above(found, margin)
    contradicted = any(one.low > margin for one in found)
    if decision.verdict == NOT_REPRODUCED and contradicted:
        return Decision(CANNOT_BE_TOLD, decision.by)
    return decision


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


def cannot_be_told(found: Sequence[Found], reason: str) -> Decision:
    """Never decided, for a reason that stands in `REASONS`."""
    if reason not in REASONS:
        raise ValueError(f"reason '{reason}' is unknown; choose one of {', '.join(REASONS)}.")
    return Decision(CANNOT_BE_TOLD, None)


def checked(found: Sequence[Found], values: Sequence[float], said: Sequence[float]) -> Decision:
    """Numbers that chance does not touch are these ``values``; for the claim to stand, they are ``said``."""
    for one, value, _ in zip(found, values, said, strict=True):
        if one.estimate != value:
            raise DataError(f"{one.label} {one.estimate:g} and not {value:g}; correct the claim.")
    return Decision(CHECKED, found[0])
