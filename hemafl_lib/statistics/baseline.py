"""The baseline hazard over sites: what turns the coefficients of a Cox model into survival probabilities.

Breslow's estimate (discussion of Cox, JRSS B 34, 1972): at each time the number of deaths, divided by the
sum of the relative hazards of all patients at risk. Both are sums over sites.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.errors import FederationError
from hemafl_lib.partition import Site
from hemafl_lib.statistics.cox import sums_at_risk
from hemafl_lib.statistics.follow_up import check_at_risk, checked_exits, follow_up, risk_times, shared_times
from hemafl_lib.statistics.messages import (
    MINIMUM,
    Account,
    Arrays,
    Form,
    Hospitals,
    Statistic,
    add_up,
    covariates,
    hospitals_of,
)


def hazard_sums(cohort: TableCohort, question: Arrays, minimum: int = MINIMUM) -> Arrays:
    """Return a site's deaths and the summed relative hazards of those at risk.

    Question: ``beta`` float64[F], and ``times`` or ``grid`` float64[J] in months.
    Message: ``deaths`` int64[J] and ``risk0`` float64[J].
    Raises `FederationError` if fewer than ``minimum`` patients leave the risk set between two times, or a
    relative hazard is too large a number.
    """
    time, event = follow_up(cohort, question)
    times = risk_times(question)
    with np.errstate(over="ignore"):
        relative_hazard = np.exp(covariates(cohort) @ question["beta"])
    if not np.isfinite(relative_hazard).all():
        raise FederationError(
            "a patient's relative hazard is too large a number, since features lie far from 0; centre them "
            "first, see 'standardise'."
        )
    deaths = checked_exits(time, event, times, minimum)
    return {"deaths": deaths, "risk0": sums_at_risk(relative_hazard, time, times)}


def hazard_sums_form(question: Arrays, features: int) -> Form:
    """Return the arrays of the message of `hazard_sums`."""
    shape = risk_times(question).shape
    return {"deaths": (np.int64, shape), "risk0": (np.float64, shape)}


HAZARD_SUMS = Statistic(
    "hazard sums",
    hazard_sums,
    "At each time, the deaths and the summed relative hazard of the patients at risk: where one patient "
    "left between two times, the difference is that patient's relative hazard.",
    hazard_sums_form,
    check_at_risk,
)


@dataclass(frozen=True)
class BaselineHazard:
    """The hazard of a patient whose features are all 0.

    ``table`` has one row per time: ``time`` (months), ``hazard`` (the step there) and ``cumulative``.
    ``coefficients`` float64[F] are those it belongs to.
    """

    table: pd.DataFrame
    coefficients: np.ndarray
    account: Account

    def survival(self, cohort: TableCohort, times: np.ndarray) -> np.ndarray:
        """Return the probability of every row of ``cohort`` to live past each of ``times``, float64[N, T].

        Beyond the last time of ``table`` it stays at its last value.
        """
        steps = np.concatenate([[0.0], self.table["cumulative"].to_numpy()])
        hazard = steps[np.searchsorted(self.table["time"].to_numpy(), times, side="right")]
        return np.exp(-np.exp(covariates(cohort) @ self.coefficients)[:, None] * hazard)


def baseline_hazard(
    sites: Sequence[Site[TableCohort]] | Hospitals,
    coefficients: np.ndarray,
    *,
    grid: np.ndarray | None = None,
    minimum: int = MINIMUM,
) -> BaselineHazard:
    """Return Breslow's baseline hazard of all training rows together, given the coefficients of `cox`.

    Parameters
    ----------
    coefficients
        Log hazard ratios, float64[F].
    grid, minimum
        As in `cox`.

    Raises
    ------
    FederationError
        If a site refuses, or there is not one coefficient per feature.
    """
    hospitals = hospitals_of(sites, minimum)
    beta = checked_coefficients(coefficients, hospitals)
    times = shared_times(hospitals, grid)
    sums = add_up(hospitals.ask(HAZARD_SUMS, times | {"beta": beta}))
    somebody = sums["risk0"] > 0
    hazard = np.where(somebody, sums["deaths"] / np.where(somebody, sums["risk0"], 1.0), 0.0)
    columns = {"time": risk_times(times), "hazard": hazard, "cumulative": np.cumsum(hazard)}
    return BaselineHazard(pd.DataFrame(columns), beta, hospitals.account())


def checked_coefficients(coefficients: np.ndarray, hospitals: Hospitals) -> np.ndarray:
    """Return the coefficients as float64[F]; raise `FederationError` if there is not one per feature."""
    beta = np.asarray(coefficients, dtype=np.float64)
    if beta.shape != (len(hospitals.features),) or not np.isfinite(beta).all():
        raise FederationError(
            f"'coefficients' must be {len(hospitals.features)} finite numbers, one per feature."
        )
    return beta
