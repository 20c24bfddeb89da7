"""Concordance over sites: the pairs within each site, and what that leaves out.

A pair of patients is comparable if it is known who died first, and concordant if that patient had the
higher predicted risk (Harrell et al., JAMA 247, 1982). A site can count the pairs of its own patients; a
pair of patients of two sites would need the times and risks of both in one place. The sum over sites is
therefore the concordance of the pairs within sites, not the one of the pooled patients: a model whose
risks are right within sites and wrong between them is not found out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.partition import Site
from hemafl_lib.statistics.baseline import checked_coefficients
from hemafl_lib.statistics.cells import check_cells
from hemafl_lib.statistics.follow_up import follow_up
from hemafl_lib.statistics.messages import (
    MINIMUM,
    Account,
    Arrays,
    Form,
    Hospitals,
    Statistic,
    covariates,
    hospitals_of,
)
from hemafl_lib.statistics.plausible import check_counts, require

PAIR_COUNTS = ("patients", "comparable", "concordant", "tied")


def pair_counts(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> tuple[int, int, int]:
    """Return how many pairs are comparable, how many of these concordant, and how many of equal risk.

    ``time`` float[N] in months, ``event`` bool[N], ``risk`` float[N] (higher dies earlier). Of two equal
    times a pair is comparable if one died and the other was censored.
    """
    comparable = concordant = tied = 0
    for i in np.flatnonzero(event):
        later = (time > time[i]) | ((time == time[i]) & ~event)
        comparable += int(later.sum())
        concordant += int((risk[later] < risk[i]).sum())
        tied += int((risk[later] == risk[i]).sum())
    return comparable, concordant, tied


def concordant_pairs(cohort: TableCohort, question: Arrays, minimum: int = MINIMUM) -> Arrays:
    """Return a site's counts of pairs, by the risk that coefficients give its patients.

    Question: ``beta`` float64[F].
    Message: ``patients``, ``comparable``, ``concordant`` and ``tied``, int64.
    Raises `FederationError` if the site has fewer than ``minimum`` patients.
    """
    time, event = follow_up(cohort, question)
    check_cells(np.array(len(time)), minimum, "numbers of patients", "leave the site out")
    counts = (len(time), *pair_counts(time, event, covariates(cohort) @ question["beta"]))
    return {name: np.array(count, dtype=np.int64) for name, count in zip(PAIR_COUNTS, counts, strict=True)}


def concordant_pairs_form(question: Arrays, features: int) -> Form:
    """Return the arrays of the message of `concordant_pairs`."""
    return {name: (np.int64, ()) for name in PAIR_COUNTS}


def check_pairs(message: Arrays, question: Arrays, earlier: Mapping[str, Arrays]) -> None:
    """Raise `FederationError` if no patients could have these numbers of pairs."""
    patients, comparable, concordant, tied = (int(message[name]) for name in PAIR_COUNTS)
    check_counts(patients=message["patients"])
    require(min(comparable, concordant, tied) >= 0, "it counts less than 0 pairs")
    require(comparable <= patients * (patients - 1) // 2, f"{patients} patients have fewer pairs")
    require(concordant + tied <= comparable, "more pairs are in order than can be compared")


CONCORDANT_PAIRS = Statistic(
    "concordant pairs",
    concordant_pairs,
    "How many patients the site has, how many pairs of them can be compared, and how many of these pairs "
    "the model puts in the right order.",
    concordant_pairs_form,
    check_pairs,
)


@dataclass(frozen=True)
class Concordance:
    """Concordance of the pairs within sites; NaN where there are no pairs to speak of.

    ``table`` has one row per site: ``patients``, ``comparable``, ``concordant``, ``tied`` and ``c`` (NaN if
    no pair is comparable). ``within`` is the concordance of all these pairs together, ``mean_of_sites`` the
    plain mean of ``c``, and ``pairs_seen`` the share of all pairs of patients that are within a site: the
    others were not looked at.
    """

    table: pd.DataFrame
    account: Account

    @property
    def within(self) -> float:
        """Concordant pairs and half the tied ones, divided by the comparable ones, all sites together."""
        total = self.table[["comparable", "concordant", "tied"]].sum()
        right = total["concordant"] + total["tied"] / 2
        return float(right / total["comparable"]) if total["comparable"] else float("nan")

    @property
    def mean_of_sites(self) -> float:
        """Mean of the sites' own concordances, each site counting the same."""
        return float(self.table["c"].mean())

    @property
    def pairs_seen(self) -> float:
        """Pairs within sites, divided by all pairs of patients."""
        patients = self.table["patients"]
        total = int(patients.sum())
        return float((patients * (patients - 1)).sum() / (total * (total - 1))) if total > 1 else float("nan")


def concordance(
    sites: Sequence[Site[TableCohort]] | Hospitals, coefficients: np.ndarray, *, minimum: int = MINIMUM
) -> Concordance:
    """Return how well coefficients order the pairs of training rows within sites; one round.

    For other rows than those trained on, pass sites whose ``train`` holds them.

    Raises
    ------
    FederationError
        If a site refuses, or there is not one coefficient per feature.
    """
    hospitals = hospitals_of(sites, minimum)
    beta = checked_coefficients(coefficients, hospitals)
    messages = hospitals.ask(CONCORDANT_PAIRS, {"beta": beta})
    rows = [{name: int(value) for name, value in message.items()} for message in messages]
    table = pd.DataFrame(rows, index=pd.Index(hospitals.names, name="site"))
    comparable = table["comparable"].where(table["comparable"] > 0)
    return Concordance(
        table.assign(c=(table["concordant"] + table["tied"] / 2) / comparable), hospitals.account()
    )
