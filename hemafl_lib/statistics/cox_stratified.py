"""Cox regression with risk sets that end at the door: each site compares only its own patients.

It is the Cox model stratified by site, another model than `hemafl_lib.statistics.cox`, and it
is what training on each site's own partial likelihood amounts to, as FedSGD does with a network. Beside
the pooled model it shows what the comparison of patients of different sites was worth.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.partition import Site
from hemafl_lib.statistics.cells import check_cells
from hemafl_lib.statistics.cox import (
    CoxFit,
    Ties,
    check_ties,
    far_centre,
    fitted,
    partial_likelihood,
    risk_and_tie_sums,
    risk_sums,
)
from hemafl_lib.statistics.follow_up import check_grid, follow_up
from hemafl_lib.statistics.logistic import derivatives_form
from hemafl_lib.statistics.messages import (
    MINIMUM,
    Arrays,
    Hospitals,
    Statistic,
    add_up,
    covariates,
    hospitals_of,
)
from hemafl_lib.statistics.newton import Point
from hemafl_lib.statistics.plausible import CANCELLED, TOLERATED, check_sizes, check_squares, require


def local_likelihood(cohort: TableCohort, question: Arrays, minimum: int = MINIMUM) -> Arrays:
    """Return the derivatives of a site's own partial likelihood, whose risk sets hold its patients only.

    Question: ``beta`` float64[F], ``efron`` int64 (0 or 1), and ``grid`` float64[J] if times are rounded.
    Message: ``value`` float64, ``gradient`` float64[F], ``information`` float64[F, F].
    Raises `FederationError` if the site has fewer than ``minimum`` patients or deaths, but some.
    """
    time, event = follow_up(cohort, question)
    counts = np.array([len(event), event.sum()])
    check_cells(counts, minimum, "numbers of patients and deaths", "leave the site out")
    times = {"grid": question["grid"]} if "grid" in question else {"times": np.unique(time[event])}
    compute = risk_and_tie_sums if question["efron"] else risk_sums
    single_patients = 1  # these sums stay at the site, so no count in them is too small
    values = covariates(cohort)
    centre = far_centre(values.mean(axis=0), (values**2).mean(axis=0))
    sums = compute(cohort, times | centre | {"beta": question["beta"]}, single_patients)
    point = partial_likelihood(sums, question["beta"])
    return {
        "value": np.array(point.value),
        "gradient": point.gradient,
        "information": point.information,
    }


def check_local_likelihood(message: Arrays, question: Arrays, earlier: Mapping[str, Arrays]) -> None:
    """Raise `FederationError` if no patients could have these derivatives."""
    value = message["value"]
    check_sizes(**message)
    check_squares(message["information"], "information", CANCELLED)
    require(value <= TOLERATED * (1 + abs(value)), "'value' is above 0, and no probability is above 1")


LOCAL_LIKELIHOOD = Statistic(
    "local likelihood",
    local_likelihood,
    "How well the coefficients fit the site's patients, in which direction they should move and how "
    "sharply: sums over all deaths at the site.",
    derivatives_form,
    check_local_likelihood,
)


def cox_stratified(
    sites: Sequence[Site[TableCohort]] | Hospitals,
    *,
    ties: Ties = "efron",
    grid: np.ndarray | None = None,
    ridge: float = 0.0,
    minimum: int = MINIMUM,
) -> CoxFit:
    """Fit the Cox model stratified by site: each site has its own baseline hazard and risk sets.

    No times travel, only a gradient and an information matrix. What is told between sites is lost:
    that everybody at one site does better than everybody at another counts for nothing.

    Parameters and errors are those of `cox`; here ``minimum`` counts a site's patients and deaths.
    """
    check_ties(ties)
    hospitals = hospitals_of(sites, minimum)
    settings = {"efron": np.array(int(ties == "efron"))}
    if grid is not None:
        settings["grid"] = check_grid(grid)

    def evaluate(beta: np.ndarray) -> Point:
        sums = add_up(hospitals.ask(LOCAL_LIKELIHOOD, settings | {"beta": beta}))
        return Point(beta, float(sums["value"]), sums["gradient"], sums["information"])

    return fitted(evaluate, evaluate(np.zeros(len(hospitals.features))), hospitals, ridge)
