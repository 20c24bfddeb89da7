"""Newton's method with step halving for a concave log-likelihood, one round per evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from hemafl_lib.errors import FederationError
from hemafl_lib.statistics.messages import BeyondNumbers

ROUNDS = 25
"""Newton needs five to eight; one that grows without end is still on its way after 25."""

HALVINGS = 20

TOLERANCE = 1e-12
"""On the squared length of the next step in standard errors, so that it is a millionth of one."""

SLACK = 1e-9
"""Share of the log-likelihood that rounding may take away."""

SINGULAR = 1e-10
"""Smallest eigenvalue of the information, scaled to a unit diagonal, that counts as positive."""

FLAT = 1e-3
"""Share of the first information that is left, in some direction, where a likelihood has no maximum."""


@dataclass(frozen=True)
class Point:
    """A log-likelihood at ``beta`` float64[F]: value, gradient float64[F], information float64[F, F].

    The information is the negative matrix of second derivatives.
    """

    beta: np.ndarray
    value: float
    gradient: np.ndarray
    information: np.ndarray

    def step(self) -> np.ndarray:
        """Return Newton's step, float64[F]."""
        return np.linalg.solve(self.information, self.gradient)

    def covariance(self) -> np.ndarray:
        """Return the inverse information, float64[F, F]."""
        return np.linalg.inv(self.information)


def penalise(point: Point, ridge: np.ndarray) -> Point:
    """Subtract ``ridge / 2 * beta**2``, summed over the coefficients, from the log-likelihood."""
    return Point(
        point.beta,
        point.value - float(ridge @ point.beta**2) / 2,
        point.gradient - ridge * point.beta,
        point.information + np.diag(ridge),
    )


def maximise(
    evaluate: Callable[[np.ndarray], Point], first: Point, names: Sequence[str], ridge: np.ndarray
) -> tuple[np.ndarray, Point]:
    """Return the coefficients at the maximum and the last point, a millionth of an SE away from it.

    Starts at ``first``, the point at 0. A step that lowers the log-likelihood is halved.

    Raises
    ------
    FederationError
        If ``ridge`` is negative, a feature does not vary, features are collinear, or no finite maximum
        exists (Albert and Anderson, Biometrika 71, 1984; for Cox Heinze and Schemper, Biometrics 57, 2001).
    """
    if not (np.isfinite(ridge) & (ridge >= 0)).all():
        raise FederationError("'ridge' must be a number, 0 or more.")
    start = point = penalise(first, ridge)
    check_information(start.information, names)
    for _ in range(ROUNDS):
        try:
            step = point.step()
        except np.linalg.LinAlgError:
            break
        if point.gradient @ step < TOLERANCE:
            return point.beta + step, point
        climbed = climb(lambda beta: penalise(evaluate(beta), ridge), point, step)
        if climbed is None:
            break
        point = climbed
    if not is_flat(point, start):
        raise FederationError(
            f"Newton's method found no maximum in {ROUNDS} rounds; standardise the features or pass ridge=1."
        )
    growth = np.abs(point.beta) * np.sqrt(np.diag(start.information))
    name = names[int(growth.argmax())]
    raise FederationError(
        f"no finite estimate exists: the coefficient of '{name}' grows without end, because it separates "
        "the outcomes perfectly, alone or with others; leave it out or pass ridge=1."
    )


def is_flat(point: Point, start: Point) -> bool:
    """Return whether the log-likelihood hardly bends any more in some direction, as on an endless rise."""
    return bool(eigh(point.information, start.information, eigvals_only=True)[0] < FLAT)


def climb(evaluate: Callable[[np.ndarray], Point], point: Point, step: np.ndarray) -> Point | None:
    """Return the first of the points at the step, half of it, a quarter and so on that is not lower.

    Far away the sums of patients may be larger than numbers can be, so that a site's message cannot be used;
    raises `BeyondNumbers` if it is so however short the step.
    """
    lowest = point.value - SLACK * (1 + abs(point.value))
    for halving in range(HALVINGS):
        try:
            trial = evaluate(point.beta + step / 2**halving)
        except BeyondNumbers:
            if halving == HALVINGS - 1:
                raise
            continue
        if np.isfinite(trial.value) and trial.value >= lowest:
            return trial
    return None


def check_information(information: np.ndarray, names: Sequence[str]) -> None:
    """Raise `FederationError` if the data cannot tell the coefficients apart, naming the features."""
    scale = np.sqrt(np.diag(information))
    if not (scale > 0).all():
        name = names[int((scale > 0).argmin())]
        raise FederationError(f"feature '{name}' does not vary among the patients; leave it out.")
    values, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    if values[0] < SINGULAR:
        involved = np.argsort(-np.abs(vectors[:, 0]))[:2]
        shown = " and ".join(f"'{names[k]}'" for k in sorted(involved))
        raise FederationError(f"features {shown} are collinear, alone or with others; leave one out.")
