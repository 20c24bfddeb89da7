"""The Kaplan-Meier curve over sites, from a life table that adds up.

At each time a site tells how many died and how many withdrew until the next; the sums over sites say how
many were at risk, and the curve of all patients follows (Kaplan and Meier, JASA 53, 1958).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import norm

from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.errors import FederationError
from hemafl_lib.partition import Site
from hemafl_lib.statistics.cells import check_cells, suppress
from hemafl_lib.statistics.follow_up import COARSER, check_deaths, exits, follow_up, risk_times, shared_times
from hemafl_lib.statistics.messages import (
    MINIMUM,
    Account,
    Arrays,
    Form,
    Hospitals,
    Statistic,
    add_up,
    hospitals_of,
)
from hemafl_lib.statistics.plausible import check_counts, require


def life_table(cohort: TableCohort, question: Arrays, minimum: int = MINIMUM) -> Arrays:
    """Return how many patients of a site died at each time, and how many withdrew until the next.

    Question: ``times`` or ``grid`` float64[J] in months, and ``suppress`` int64 (0 or 1).
    Message: ``deaths`` and ``withdrawn`` int64[J], and ``suppressed`` int64, the patients that are in
    none of the counts because theirs was below ``minimum``.
    Raises `FederationError` if a count is below ``minimum`` and was not to be suppressed.
    """
    time, event = follow_up(cohort, question)
    counts = np.stack(exits(time, event, risk_times(question)))
    hidden = 0
    if question["suppress"]:
        counts, hidden = suppress(counts, minimum)
    check_cells(
        counts, minimum, "numbers of deaths or withdrawals at a time", f"{COARSER}, pass small='suppress'"
    )
    return {"deaths": counts[0], "withdrawn": counts[1], "suppressed": np.array(hidden, dtype=np.int64)}


def life_table_form(question: Arrays, features: int) -> Form:
    """Return the arrays of the message of `life_table`."""
    counts = (np.int64, risk_times(question).shape)
    return {"deaths": counts, "withdrawn": counts, "suppressed": (np.int64, ())}


def check_life_table(message: Arrays, question: Arrays, earlier: Mapping[str, Arrays]) -> None:
    """Raise `FederationError` if no patients could have this life table."""
    check_counts(**message)
    if not question["suppress"]:
        require(message["suppressed"] == 0, "'suppressed' counts patients, and none was to be suppressed")
        check_deaths(message["deaths"], question, earlier)


LIFE_TABLE = Statistic(
    "life table",
    life_table,
    "How many patients of the site died and how many withdrew at each time: where it is one, the date of "
    "that patient's death or last visit, given the date of diagnosis.",
    life_table_form,
    check_life_table,
)


@dataclass(frozen=True)
class SurvivalCurve:
    """A Kaplan-Meier curve.

    ``table`` has one row per time: ``time`` (months), ``at_risk``, ``deaths``, ``survival``, ``se``
    (Greenwood) and the limits ``lower`` and ``upper`` of the 95 % confidence interval (log-log, as
    lifelines; NaN where survival is 1 or 0). ``suppressed`` is the number of patients that the curve leaves
    out because they were in counts below the minimum.
    """

    table: pd.DataFrame
    suppressed: int
    account: Account


def kaplan_meier(
    sites: Sequence[Site[TableCohort]] | Hospitals,
    *,
    grid: np.ndarray | None = None,
    small: Literal["refuse", "suppress"] = "refuse",
    minimum: int = MINIMUM,
) -> SurvivalCurve:
    """Return the survival curve of all training rows together.

    Parameters
    ----------
    grid
        Times in months, float64[J]: every time is rounded up to the next point first, and the curve is
        that of the rounded times. None uses the exact times, which reveal when patients died, so that
        sites agree only with ``minimum=1``.
    small
        What a site does with counts below ``minimum``: "refuse" to answer, or "suppress" them, which
        leaves those patients out and bends the curve; how many is in the result.

    Raises
    ------
    FederationError
        If a site refuses, there is no death, or an argument is unknown.
    """
    if small not in ("refuse", "suppress"):
        raise FederationError(f"small='{small}' is unknown; choose refuse or suppress.")
    hospitals = hospitals_of(sites, minimum)
    times = shared_times(hospitals, grid)
    question = times | {"suppress": np.array(int(small == "suppress"))}
    counts = add_up(hospitals.ask(LIFE_TABLE, question))
    table = curve(risk_times(times), counts["deaths"], counts["withdrawn"])
    return SurvivalCurve(table, int(counts["suppressed"]), hospitals.account())


def curve(times: np.ndarray, deaths: np.ndarray, withdrawn: np.ndarray) -> pd.DataFrame:
    """Return the Kaplan-Meier curve of a life table, one row per time (see `SurvivalCurve`)."""
    at_risk = np.cumsum((deaths + withdrawn)[::-1])[::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        survival = np.cumprod(np.where(at_risk > 0, 1 - deaths / at_risk, 1.0))
        step = np.where(deaths > 0, deaths / (at_risk * (at_risk - deaths)), 0.0)
        relative_variance = np.cumsum(step)
        half = norm.ppf(0.975) * np.sqrt(relative_variance) / np.log(survival)
        lower, upper = survival ** np.exp(-half), survival ** np.exp(half)
        se = np.where(survival > 0, survival * np.sqrt(relative_variance), np.nan)
    inside = (survival > 0) & (survival < 1)
    return pd.DataFrame(
        {
            "time": times,
            "at_risk": at_risk,
            "deaths": deaths,
            "survival": survival,
            "se": se,
            "lower": np.where(inside, lower, np.nan),
            "upper": np.where(inside, upper, np.nan),
        }
    )
