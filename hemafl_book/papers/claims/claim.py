"""A claim of a paper, as data, and what becomes of it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hemafl_book.papers.claims.evidence import LEVEL, Evidence, Frozen
from hemafl_book.papers.claims.rules import CHECKED, REASONS, Decision, Found


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of one paper.

    Attributes
    ----------
    name
        Its name in the book: lower-case words with hyphens, unique.
    where
        Where the paper says it.
    says, number
        What it says in our words, and its number as printed, or "none".
    rule, given
        The function of `rules` that decides, and what it is told besides the numbers: margins are data.
    evidence
        The numbers that decide, in the order in which the rule takes them.
    level
        Of the intervals of the evidence, in (0, 1). Where any one of several numbers can speak for a claim,
        it is `together` of how many there are.
    beside
        What has to stand beside them: the trivial baseline, and how hospitals fare on their own patients.
    ours
        What was done here instead of what the paper did, in a sentence.
    anchor
        The label in the claim's chapter before the cell that decides.
    """

    name: str
    where: str
    says: str
    number: str
    rule: Callable[..., Decision]
    given: Mapping[str, Any] = field(default_factory=dict)
    evidence: Sequence[Evidence] = ()
    level: float = LEVEL
    beside: Sequence[Evidence] = ()
    ours: str
    anchor: str


@dataclass(frozen=True)
class Judgement:
    """A claim with its verdict, the numbers that were found, and the one that settled it.

    ``elsewhere`` is the verdict by what another processor computed, None where only one has computed it.
    """

    claim: Claim
    verdict: str
    by: Found | None
    found: Sequence[Found]
    beside: Sequence[Found]
    elsewhere: str | None = None

    def shown(self) -> str:
        """Return the verdict for the head of a row: a checked claim that does not stand says so there."""
        refuted = self.verdict == CHECKED and not stands(self.found, self.claim.given["said"])
        return f"{self.verdict}: no" if refuted else self.verdict

    def differs(self) -> str:
        """Return what another processor's numbers say where that is something else, or ""."""
        return "" if self.elsewhere in (None, self.verdict) else f"on another processor: {self.elsewhere}"

    def numbers(self) -> str:
        """Return our number with its interval, or why there is none."""
        if self.by is None:
            return REASONS[self.claim.given["reason"]]
        if self.verdict == CHECKED:
            return against(self.found, self.claim.given["said"])
        if all(one.low == one.high for one in self.found):
            return "; ".join(written(one) for one in self.found)
        several = f" (decides among {len(self.found)})" if len(self.found) > 1 else ""
        return written(self.by) + several

    def baselines(self) -> str:
        """Return what stands beside our number."""
        return "; ".join(written(one) for one in self.beside) or "none: no score is claimed"

    def page(self) -> str:
        """Return everything about the claim as text: the numbers that decide, and the rule's source."""
        told = ", ".join(f"{name}={value!r}" for name, value in self.claim.given.items())
        lines = [
            f"{self.verdict.upper()}: {self.claim.says} [{self.claim.name}]",
            f"  the paper: {self.claim.number} ({self.claim.where})",
            f"  here: {self.claim.ours}",
            *(f"  found: {written(one)}" for one in self.found),
            *([f"  so: {self.numbers()}"] if self.verdict == CHECKED else []),
            *(f"  beside: {written(one)}" for one in self.beside),
            *(f"  read: {title}" for title in read(self.claim)),
            *([f"  on another processor: {self.elsewhere}"] if self.elsewhere else []),
            f"  rule: {self.claim.rule.__name__}({told})",
        ]
        return "\n".join(lines)


def judge(claim: Claim, frozen: Frozen) -> Judgement:
    """Return what the frozen results say about a claim; `DataError` if they lack what decides it."""
    found = [one.find(frozen, claim.level) for one in claim.evidence]
    decision = claim.rule(found, **claim.given)
    beside = [one.find(frozen) for one in claim.beside]
    return Judgement(claim, decision.verdict, decision.by, found, beside)


def judge_twice(claim: Claim, frozen: Frozen, other: Frozen) -> Judgement:
    """Return what frozen results say about a claim, and its verdict by ``other`` if that has one of them."""
    here = judge(claim, frozen)
    if not other.keys() & {result for result, _ in tables(claim)}:
        return here
    return replace(here, elsewhere=judge(claim, {**frozen, **other}).verdict)


def tables(claim: Claim) -> list[tuple[str, str]]:
    """Return the results and titles of the tables that decide a claim, each once."""
    return [*dict.fromkeys(table for one in claim.evidence for table in one.reads())]


def read(claim: Claim) -> list[str]:
    """Return the tables that decide a claim in words."""
    return [f"{result}.json, table '{title}'" for result, title in tables(claim)]


def source(claim: Claim) -> str:
    """Return the source of a claim's rule."""
    return inspect.getsource(claim.rule)


def together(count: int) -> float:
    """Return the level of each of ``count`` intervals that hold together at `LEVEL` (Bonferroni)."""
    return 1 - (1 - LEVEL) / count


def stands(found: Sequence[Found], said: Sequence[float]) -> bool:
    """Return whether numbers are those that the claim needs."""
    return all(one.estimate == needed for one, needed in zip(found, said, strict=True))


def against(found: Sequence[Found], said: Sequence[float]) -> str:
    """Return numbers beside what the claim needs: "NOT as the claim says: of the 13 4 (it needs 13)"."""
    listed = "; ".join(
        written(one) + ("" if one.estimate == needed else f" (it needs {needed:,g})")
        for one, needed in zip(found, said, strict=True)
    )
    return f"{'as' if stands(found, said) else 'NOT as'} the claim says: {listed}"


def written(found: Found) -> str:
    """Return a number with its interval as text: "FedAvg 0.768 [0.735, 0.798]"."""
    label, estimate, low, high = found
    if low == estimate == high:
        return f"{label} {estimate:,.4g}" if abs(estimate) < 1000 else f"{label} {estimate:,.0f}"
    # An end that is not zero must not look like it: it decides. To the others a zero is added, since a number
    # that rounds to -0.000 would keep its sign.
    digits = 4 if any(0.00005 <= abs(end) < 0.0005 for end in (low, high)) else 3
    estimate, low, high = (round(value, digits) + 0.0 for value in (estimate, low, high))
    return f"{label} {estimate:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
