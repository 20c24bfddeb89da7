"""Logistic regression over sites, equal to the one on pooled rows.

The log-likelihood of all patients is a sum over patients, so its derivatives are sums over sites. Each
round the server sends the coefficients, adds up the sites' derivatives, and takes a step of Newton's
method (Wu et al., "Grid binary logistic regression (GLORE)", JAMIA 19, 2012).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit

from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.errors import FederationError
from hemafl_lib.partition import Site
from hemafl_lib.statistics.cells import check_cells
from hemafl_lib.statistics.cox import centred, far_centre
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
from hemafl_lib.statistics.newton import Point, maximise
from hemafl_lib.statistics.plausible import (
    MOST_PATIENTS,
    TOLERATED,
    check_moments,
    check_sizes,
    check_squares,
    require,
)
from hemafl_lib.statistics.wald import wald_table

INTERCEPT = "intercept"


def outcomes(cohort: TableCohort) -> np.ndarray:
    """Return the labels as float64[N] of 0 and 1; raise `FederationError` if there are others or none."""
    if cohort.label is None:
        raise FederationError("it has no 'label'; give a cohort with a label of 0 or 1.")
    labels = cohort.label.numpy()
    if not np.isin(labels, (0, 1)).all():
        raise FederationError("its 'label' has values other than 0 and 1; choose two classes.")
    return labels.astype(np.float64)


def with_intercept(values: np.ndarray) -> np.ndarray:
    """Return float64[N, 1 + F] with a first column of ones."""
    return np.column_stack([np.ones(len(values)), values])


def logistic_derivatives(cohort: TableCohort, question: Arrays, minimum: int = MINIMUM) -> Arrays:
    """Return a site's log-likelihood and its derivatives.

    Question: ``beta`` float64[1 + F], the intercept first, and maybe ``centre`` float64[F], which is taken
    from the features before anything else.
    Message: ``value`` float64, ``gradient`` float64[1 + F], ``information`` float64[1 + F, 1 + F].
    Raises `FederationError` if the site has fewer than ``minimum`` patients of a class, but some.
    """
    values, label = with_intercept(centred(cohort, question)), outcomes(cohort)
    counts = np.bincount(label.astype(np.int64), minlength=2)
    check_cells(counts, minimum, "numbers of patients of a class", "leave the site out")
    linear = values @ question["beta"]
    probability = expit(linear)
    return {
        "value": np.array((label * linear - np.logaddexp(0, linear)).sum()),
        "gradient": values.T @ (label - probability),
        "information": (values * (probability * (1 - probability))[:, None]).T @ values,
    }


def derivatives_form(question: Arrays, features: int) -> Form:
    """Return the arrays of a message of a log-likelihood and its derivatives."""
    size = len(question["beta"])
    return {
        "value": (np.float64, ()),
        "gradient": (np.float64, (size,)),
        "information": (np.float64, (size, size)),
    }


def check_logistic_derivatives(message: Arrays, question: Arrays, earlier: Mapping[str, Arrays]) -> None:
    """Raise `FederationError` if no patients could have these derivatives.

    Where all coefficients are 0, every probability is a half, and the information is X'X / 4.
    """
    information = message["information"]
    check_sizes(**message)
    check_squares(information, "information")
    require(message["value"] <= 0, "'value' is above 0, and no probability is above 1")
    start = message if not question["beta"].any() else earlier.get(LOGISTIC_DERIVATIVES.name)
    if start is None:
        return
    squares = 4 * np.diag(start["information"])
    patients = squares[0]
    require(patients <= MOST_PATIENTS, f"it counts {patients:,.0f} patients")
    require(patients > 0 and abs(patients - np.round(patients)) < TOLERATED, "it is of no number of patients")
    if start is message:
        half = -patients * np.log(2)
        require(abs(message["value"] - half) <= TOLERATED * -half, "'value' is not that of its patients")
    require((4 * np.diag(information) <= squares * (1 + TOLERATED)).all(), "'information' grows")
    check_moments(patients, message["gradient"], squares, "gradient")


LOGISTIC_DERIVATIVES = Statistic(
    "logistic derivatives",
    logistic_derivatives,
    "How well the coefficients fit the site's patients, in which direction they should move and how "
    "sharply: sums over all patients. In the first round these are the number of patients, the number "
    "of each class, and the sums of the features in each class.",
    derivatives_form,
    check_logistic_derivatives,
)


@dataclass(frozen=True)
class FederatedLogisticFit:
    """A fitted logistic regression.

    ``table`` has one row for the intercept and one per feature: ``coefficient``, ``se``, the limits
    ``lower`` and ``upper`` of its 95 % confidence interval, ``z`` and ``p`` (Wald). With a ridge the
    standard errors are those of the penalised likelihood.
    """

    table: pd.DataFrame
    log_likelihood: float
    account: Account

    @property
    def coefficients(self) -> np.ndarray:
        """Intercept and log odds ratios, float64[1 + F]."""
        return self.table["coefficient"].to_numpy()

    def probability(self, cohort: TableCohort) -> np.ndarray:
        """Return the probability of class 1 of every row, float64[N]."""
        return expit(with_intercept(covariates(cohort)) @ self.coefficients)


def logistic(
    sites: Sequence[Site[TableCohort]] | Hospitals, *, ridge: float = 0.0, minimum: int = MINIMUM
) -> FederatedLogisticFit:
    """Fit the logistic regression of all training rows together; no row leaves its site.

    Parameters
    ----------
    sites
        With features without missing values (see `standardise`) and labels 0 and 1. Features far from 0 are
        measured from their mean, which costs a round more.
    ridge
        Half of this times the sum of squared coefficients, without the intercept, is subtracted from
        the log-likelihood: 1 / C in scikit-learn.
    minimum
        A site refuses if it has fewer patients than this of a class, but some.

    Raises
    ------
    FederationError
        If a site refuses, values are missing, all labels are equal, or the classes can be separated, so
        that without a ridge no finite estimate exists (see `maximise`).
    """
    hospitals = hospitals_of(sites, minimum)
    names = (INTERCEPT, *hospitals.features)

    def evaluate(beta: np.ndarray, centre: Arrays) -> Point:
        sums = add_up(hospitals.ask(LOGISTIC_DERIVATIVES, centre | {"beta": beta}))
        return Point(beta, float(sums["value"]), sums["gradient"], sums["information"])

    nothing = np.zeros(len(names))
    first = evaluate(nothing, {})
    check_classes(first)
    means = first.information / first.information[0, 0]
    centre = far_centre(means[0, 1:], np.diag(means)[1:])
    if centre:
        first = evaluate(nothing, centre)
    penalty = np.array([0.0] + [float(ridge)] * len(hospitals.features))
    beta, point = maximise(lambda beta: evaluate(beta, centre), first, names, penalty)
    back = np.eye(len(names))
    back[0, 1:] = -centre.get("centre", nothing[1:])
    table = wald_table(back @ beta, np.sqrt(np.diag(back @ point.covariance() @ back.T)), names)
    return FederatedLogisticFit(table, point.value, hospitals.account())


def check_classes(first: Point) -> None:
    """Raise `FederationError` if all patients are of one class, from the derivatives at 0."""
    half = 2 * first.information[0, 0]
    if abs(first.gradient[0]) == half:
        raise FederationError(
            f"all patients have the label {int(first.gradient[0] > 0)}, so no probability can be told from "
            "another; give patients of both classes."
        )
