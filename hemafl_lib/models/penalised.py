"""Linear models for few patients: a penalty keeps the coefficients finite where the data do not.

If some weighted sum of the features parts the patients with the outcome from those without, the likelihood
has no maximum: the coefficients grow for ever (separation). Two remedies: ridge pulls them towards 0, and
Firth's penalty, which needs no tuning, also takes away most of their bias. Both are fitted to the rows of
one table, in float64, by Newton's method: ridge by scikit-learn and scikit-survival, Firth's penalty here.
Ridge is also the strong local baseline that a federation of small sites has to beat.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgWarning
from scipy.special import expit

from hemafl_lib.errors import ModelError, quote
from hemafl_lib.models.centring import centre_of

STEPS = 200
TOLERANCE = 1e-10


@dataclass(frozen=True)
class PenalisedLogistic:
    """A fitted logistic regression.

    ``intercept`` and ``coefficients`` (float64[F]) are log-odds; ``covariance`` is the inverse of the
    information, float64[1 + F, 1 + F], intercept first; ``log_likelihood`` includes the penalty.
    """

    intercept: float
    coefficients: np.ndarray
    covariance: np.ndarray
    log_likelihood: float
    steps: int

    @property
    def standard_errors(self) -> np.ndarray:
        """Standard errors of the intercept and the coefficients, float64[1 + F]."""
        return np.sqrt(np.diag(self.covariance))

    def probabilities(self, features: ArrayLike) -> np.ndarray:
        """Return the probability of label 1, float64[N], of ``features`` float[N, F]."""
        return expit(self.intercept + np.asarray(features, dtype=np.float64) @ self.coefficients)


class Slope(NamedTuple):
    """The penalised log-likelihood at some coefficients, its gradient, and the information."""

    log_likelihood: float
    gradient: np.ndarray
    information: np.ndarray


def ridge_logistic(features: ArrayLike, labels: ArrayLike, strength: float) -> PenalisedLogistic:
    """Fit logistic regression with the penalty ``strength`` / 2 times the sum of squared coefficients.

    The penalty is taken from the log-likelihood of all patients together; the intercept is not penalised.
    Fitted by scikit-learn, whose ``C`` is 1 / ``strength``. Features should have equal
    scales, because the penalty treats their coefficients alike. (le Cessie and van Houwelingen 1992.)

    Parameters
    ----------
    features, labels
        float[N, F] without missing values, and 0 or 1 each, [N].
    strength
        Above 0; the more, the closer to 0 are the coefficients.

    Raises
    ------
    ModelError
        If the table does not fit, ``strength`` is not positive, or all labels are equal.
    """
    from sklearn.linear_model import (
        LogisticRegression as Logistic,
    )  # heavy to import: a node has no need of it

    design, outcome, centre = _design(features, labels)
    if not 0 < strength < np.inf:
        raise ModelError(f"strength={strength} must be a positive number.")
    if outcome.min() == outcome.max():
        raise ModelError("'labels' are all equal, so the intercept has no finite value; use firth_logistic.")
    # Newton's method on few columns: to the last digits, where a gradient method would stop at the sixth.
    model = Logistic(C=1 / strength, solver="newton-cholesky", tol=1e-14, max_iter=STEPS)
    with warnings_as_errors():
        try:
            model.fit(design[:, 1:], outcome)
        except (ArithmeticError, ValueError, Warning) as error:
            raise ModelError(
                f"ridge_logistic found no maximum ({reason(error)}); standardise the features, or raise "
                "'strength'."
            ) from None
    beta = np.concatenate([model.intercept_, model.coef_[0]])
    penalty = np.diag([0.0, *np.full(len(beta) - 1, strength)])
    information = _information(design, expit(design @ beta)) + penalty
    likelihood = _log_likelihood(design @ beta, outcome) - 0.5 * float(beta @ penalty @ beta)
    return _measured_from_0(beta, np.linalg.inv(information), centre, likelihood, int(model.n_iter_[0]))


def far_centre(table: np.ndarray) -> np.ndarray:
    """Return from where each feature is measured, float64[F], see `centre_of`."""
    return centre_of(table.mean(axis=0), np.square(table).mean(axis=0))


def reason(error: Exception | Warning) -> str:
    """Return the first line of what a library says, without a full stop."""
    return quote(str(error).splitlines()[0] if str(error) else None)


@contextmanager
def warnings_as_errors() -> Iterator[None]:
    """Raise what a fit only warns of: that it has not converged, or has left the range of numbers."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        for kind in (RuntimeWarning, ConvergenceWarning, LinAlgWarning):
            warnings.simplefilter("error", kind)
        yield


def firth_logistic(features: ArrayLike, labels: ArrayLike) -> PenalisedLogistic:
    """Fit logistic regression with Firth's penalty: half the log-determinant of the information is added.

    Each patient's residual y - p becomes y - p + h (1/2 - p), with the leverage h (Firth, "Bias reduction
    of maximum likelihood estimates", Biometrika 80, 1993). The estimates are finite also under separation
    (Heinze and Schemper, "A solution to the problem of separation in logistic regression", Statistics in
    Medicine 21, 2002); units of the features make no difference. For one yes-or-no feature it amounts to
    half a patient more in each of the four cells. The intercept is penalised too, which draws the predicted
    probabilities towards 1/2 (Puhr et al., Statistics in Medicine 36, 2017): use it for coefficients.

    Parameters
    ----------
    features, labels
        float[N, F] without missing values, and 0 or 1 each, [N].

    Raises
    ------
    ModelError
        If the table does not fit, or a feature is constant or a weighted sum of others.
    """
    design, outcome, centre = _design(features, labels)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ModelError("a feature is constant or a weighted sum of others; leave it out, or use ridge.")

    def slope(beta: np.ndarray) -> Slope:
        probability = expit(design @ beta)
        information = _information(design, probability)
        sign, log_determinant = np.linalg.slogdet(information)
        if sign <= 0:
            # So far out every probability rounds to 0 or 1; no step may end here.
            return Slope(-np.inf, np.zeros_like(beta), information)
        weight = probability * (1 - probability)
        leverage = weight * np.einsum("ni,in->n", design, np.linalg.solve(information, design.T))
        return Slope(
            _log_likelihood(design @ beta, outcome) + 0.5 * float(log_determinant),
            design.T @ (outcome - probability + leverage * (0.5 - probability)),
            information,
        )

    return _maximum(slope, centre)


def ridge_cox(features: ArrayLike, time: ArrayLike, event: ArrayLike, strength: float) -> np.ndarray:
    """Return the coefficients float64[F] of a Cox model with a ridge penalty and Efron's ties.

    ``strength`` / 2 times the sum of squared coefficients is taken from the log partial likelihood of all
    patients together (Verweij and van Houwelingen 1994); fitted by scikit-survival. The log-risk of
    patients is ``features @ coefficients``.

    Parameters
    ----------
    features, time, event
        float[N, F] without missing values; time to the event or to censoring, float[N]; whether the event
        was observed, bool[N].
    strength
        At least 0; 0 is the Cox model without a penalty.

    Raises
    ------
    ModelError
        If the table does not fit, no event was observed, there is no finite estimate, or scikit-survival is
        not installed.
    """
    table = _features(features)
    moments, observed = np.asarray(time, dtype=np.float64), np.asarray(event, dtype=bool)
    if not moments.shape == observed.shape == (len(table),) or not np.all(np.isfinite(moments)):
        raise ModelError("'time' and 'event' must hold one value for each row of 'features', none missing.")
    if not observed.any():
        raise ModelError("'event' is False for all patients; a Cox model needs observed events.")
    if not 0 <= strength < np.inf:
        raise ModelError(f"strength={strength} must be a number of at least 0.")
    try:
        from sksurv.linear_model import CoxPHSurvivalAnalysis
        from sksurv.util import Surv
    except ImportError:
        raise ModelError("ridge_cox needs scikit-survival; run pip install 'hemafl_lib[survival]'.") from None
    model = CoxPHSurvivalAnalysis(alpha=strength, ties="efron", tol=1e-12)
    with warnings_as_errors():
        try:
            model.fit(table - far_centre(table), Surv.from_arrays(observed, moments))
        except (ArithmeticError, ValueError, Warning) as error:
            raise ModelError(
                f"ridge_cox found no finite estimate ({reason(error)}); standardise the features, or raise "
                "'strength'."
            ) from None
    return model.coef_


def _features(features: ArrayLike) -> np.ndarray:
    """Return the features as float64[N, F]; refuse what is no table or has missing values."""
    table = np.asarray(features, dtype=np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise ModelError(f"'features' has shape {table.shape}; give one row a patient, one column a feature.")
    if not np.all(np.isfinite(table)):
        row = int(np.argmin(np.isfinite(table).all(axis=1)))
        raise ModelError(f"'features' has no number in row {row}; impute it, or leave the patient out.")
    return table


def _design(features: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a column of ones and the features, float64[N, 1 + F], the labels as float64[N], and a centre.

    The centre, float64[F], is what was taken from features that lie far from 0.
    """
    table, outcome = _features(features), np.asarray(labels)
    if outcome.shape != (len(table),) or not np.all(np.isin(outcome, (0, 1))):
        raise ModelError("'labels' must hold 0 or 1 for each row of 'features'.")
    centre = far_centre(table)
    return np.column_stack([np.ones(len(table)), table - centre]), outcome.astype(np.float64), centre


def _measured_from_0(
    beta: np.ndarray, covariance: np.ndarray, centre: np.ndarray, log_likelihood: float, steps: int
) -> PenalisedLogistic:
    """Return a fit of features that were measured from ``centre``, for features as they are."""
    back = np.eye(len(beta))
    back[0, 1:] = -centre
    intercept = float(back[0] @ beta)
    return PenalisedLogistic(intercept, beta[1:], back @ covariance @ back.T, log_likelihood, steps)


def _log_likelihood(logits: np.ndarray, outcome: np.ndarray) -> float:
    """Return the sum of log P(label), without overflow for large logits."""
    return float(outcome @ logits - np.logaddexp(0, logits).sum())


def _information(design: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return X' W X with the weights p (1 - p)."""
    return design.T @ (design * (probability * (1 - probability))[:, None])


def _maximum(slope: Callable[[np.ndarray], Slope], centre: np.ndarray) -> PenalisedLogistic:
    """Climb from 0 by Newton's steps, each halved until the likelihood does not fall.

    A step that turns back is halved, too. In the smallest tables Firth's penalty is as curved as the
    likelihood, of which alone the information tells: full steps would swing about the top for ever.
    """
    beta, step = np.zeros(1 + len(centre)), np.zeros(1 + len(centre))
    here = slope(beta)
    for number in range(1, STEPS + 1):
        # Newton's step goes to the top of the parabola that touches the likelihood here.
        last, step = step, np.linalg.solve(here.information, here.gradient)
        if step @ last < 0:
            step /= 2
        there = slope(beta + step)
        # Near the top, equal likelihoods differ by rounding.
        while there.log_likelihood < here.log_likelihood - TOLERANCE * (1 + abs(here.log_likelihood)):
            step /= 2
            there = slope(beta + step)
        beta, here = beta + step, there
        if np.max(np.abs(step)) <= TOLERANCE * (1 + np.max(np.abs(beta))):
            covariance = np.linalg.inv(here.information)
            return _measured_from_0(beta, covariance, centre, here.log_likelihood, number)
    raise ModelError(f"firth_logistic found no maximum in {STEPS} steps; standardise the features.")
