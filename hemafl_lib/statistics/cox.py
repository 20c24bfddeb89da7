r"""Cox regression over sites, equal to the one on pooled rows: only sums over patients at risk travel.

The partial log-likelihood compares each patient who died with everybody at risk at that time, at all
sites. It needs of the others only three sums at each time of death :math:`t` (Lu et al., "WebDISCO",
JAMIA 22, 2015), each the total of what the sites send:

.. math:: S_k(t) = \sum_{i\ \text{at risk at}\ t} e^{x_i^\top\beta}\, x_i^{\otimes k}, \qquad k = 0, 1, 2.

Each round the server sends the coefficients, adds up the sums, and takes a step of Newton's method.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.errors import FederationError
from hemafl_lib.models.centring import centre_of
from hemafl_lib.partition import Site
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
from hemafl_lib.statistics.newton import Point, maximise
from hemafl_lib.statistics.plausible import (
    TOLERATED,
    check_fall,
    check_moments,
    check_sizes,
    check_squares,
    require,
)
from hemafl_lib.statistics.wald import wald_table

Ties = Literal["efron", "breslow"]

ROUNDING = 1e-12
"""Share of the second moment below which a variance is rounding."""


def centred(cohort: TableCohort, question: Arrays) -> np.ndarray:
    """Return the features as float64[N, F], measured from the question's ``centre`` if it has one.

    Raises `FederationError` if a value is missing, or the centre is not one finite number per feature.
    """
    values = covariates(cohort)
    centre = question.get("centre", np.zeros(values.shape[1]))
    if centre.shape != (values.shape[1],) or not np.isfinite(centre).all():
        raise FederationError("the question's 'centre' must be one finite number per feature.")
    return values - centre


def far_centre(mean: np.ndarray, square: np.ndarray) -> Arrays:
    """Return the part of a question that says from where features are measured; nothing if from 0.

    ``mean`` and ``square`` as for `centre_of`.
    """
    centre = centre_of(mean, square)
    return {"centre": centre} if centre.any() else {}


def products(values: np.ndarray) -> np.ndarray:
    """Return the products of all pairs of columns, float64[N, F * (F + 1) / 2], each pair once."""
    left, right = np.triu_indices(values.shape[1])
    return values[:, left] * values[:, right]


def symmetric(pairs: np.ndarray, size: int) -> np.ndarray:
    """Return the matrix float64[size, size] whose upper triangle holds ``pairs``, row by row."""
    matrix = np.zeros((size, size))
    left, right = np.triu_indices(size)
    matrix[left, right] = matrix[right, left] = pairs
    return matrix


def weighted_terms(values: np.ndarray, beta: np.ndarray) -> list[np.ndarray]:
    """Return what S0, S1 and S2 add up, one row per patient: float64[N], [N, F], [N, F * (F + 1) / 2]."""
    with np.errstate(over="ignore", invalid="ignore"):
        weight = np.exp(values @ beta)
        return [weight, weight[:, None] * values, weight[:, None] * products(values)]


def sums_at_risk(terms: np.ndarray, time: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return for each of ``times`` the sum of the rows of ``terms`` followed at least that long."""
    order = np.argsort(time, kind="stable")
    with np.errstate(over="ignore", invalid="ignore"):  # whoever reads the sums refuses what is not finite
        from_here_on = np.cumsum(terms[order][::-1], axis=0)[::-1]
    nobody = np.zeros((1, *terms.shape[1:]))
    first = np.searchsorted(time[order], times, side="left")
    return np.concatenate([from_here_on, nobody])[first]


def sums_of_deaths(terms: np.ndarray, time: np.ndarray, event: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return for each of ``times`` the sum of the rows of ``terms`` of those who died then."""
    sums = np.zeros((len(times), *terms.shape[1:]))
    np.add.at(sums, np.searchsorted(times, time[event]), terms[event])
    return sums


def risk_sums(cohort: TableCohort, question: Arrays, minimum: int = MINIMUM) -> Arrays:
    """Return a site's sums for Cox regression with Breslow's treatment of ties.

    Question: ``beta`` float64[F], ``times`` float64[J] or ``grid`` float64[J] in months, and maybe
    ``centre`` float64[F], which is taken from the features before anything else.
    Message: ``risk0`` float64[J], ``risk1`` float64[J, F], ``risk2`` float64[J, F * (F + 1) / 2],
    ``deaths`` int64[J] and ``died`` float64[F], the sum of the features over all who died.
    Raises `FederationError` if fewer than ``minimum`` patients leave the risk set between two times.
    """
    time, event = follow_up(cohort, question)
    values, times = centred(cohort, question), risk_times(question)
    terms = weighted_terms(values, question["beta"])
    message = {f"risk{k}": sums_at_risk(term, time, times) for k, term in enumerate(terms)}
    message["deaths"] = checked_exits(time, event, times, minimum)
    message["died"] = values[event].sum(axis=0)
    return message


def risk_and_tie_sums(cohort: TableCohort, question: Arrays, minimum: int = MINIMUM) -> Arrays:
    """Return a site's sums for Cox regression with Efron's treatment of ties.

    As `risk_sums`, and the same sums over those who died at each time: ``tied0``, ``tied1``, ``tied2``.
    """
    message = risk_sums(cohort, question, minimum)
    time, event = follow_up(cohort, question)
    terms = weighted_terms(centred(cohort, question), question["beta"])
    tied = {f"tied{k}": sums_of_deaths(t, time, event, risk_times(question)) for k, t in enumerate(terms)}
    return message | tied


def risk_sums_form(question: Arrays, features: int) -> Form:
    """Return the arrays of the message of `risk_sums`."""
    (times,) = risk_times(question).shape
    deaths, died = (np.int64, (times,)), (np.float64, (features,))
    return terms_form("risk", times, features) | {"deaths": deaths, "died": died}


def risk_and_tie_sums_form(question: Arrays, features: int) -> Form:
    """Return the arrays of the message of `risk_and_tie_sums`."""
    (times,) = risk_times(question).shape
    return risk_sums_form(question, features) | terms_form("tied", times, features)


def terms_form(name: str, times: int, features: int) -> Form:
    """Return the arrays of the three sums at each time."""
    shapes: list[tuple[int, ...]] = [(times,), (times, features), (times, features * (features + 1) // 2)]
    return {f"{name}{k}": (np.float64, shape) for k, shape in enumerate(shapes)}


def check_risk_sums(message: Arrays, question: Arrays, earlier: Mapping[str, Arrays]) -> None:
    """Raise `FederationError` if no patients could have these sums."""
    size = len(question["beta"])
    second = message["risk2"][:, on_diagonal(size)]
    check_at_risk(message, question, earlier)
    check_fall(risk2=second)
    check_moments(message["risk0"][:, None], message["risk1"], second, "risk1")
    check_squares(symmetric(message["risk2"][0], size), "risk2")
    check_sizes(died=message["died"])
    for told in earlier.values():
        if "died" in told:
            require(
                np.array_equal(message["deaths"], told["deaths"]), "'deaths' differs from what it has said"
            )


def check_risk_and_tie_sums(message: Arrays, question: Arrays, earlier: Mapping[str, Arrays]) -> None:
    """Raise `FederationError` if no patients could have these sums."""
    check_risk_sums(message, question, earlier)
    second = message["tied2"][:, on_diagonal(len(question["beta"]))]
    require((message["tied0"] >= 0).all() and (second >= 0).all(), "'tied0' or 'tied2' is negative")
    check_moments(message["tied0"][:, None], message["tied1"], second, "tied1")
    most = message["risk0"] * (1 + TOLERATED)
    require((message["tied0"] <= most).all(), "'tied0' is more than 'risk0' of the same time")
    nobody = message["deaths"] == 0
    none = all((message[f"tied{k}"][nobody] == 0).all() for k in range(3))
    require(none, "'tied0' to 'tied2' are not 0 where nobody died")
    if not question["beta"].any():
        require(np.array_equal(message["tied0"], message["deaths"]), "'tied0' does not count the 'deaths'")


def on_diagonal(size: int) -> np.ndarray:
    """Return which of the pairs of features are a feature with itself, bool[F * (F + 1) / 2]."""
    left, right = np.triu_indices(size)
    return left == right


DIFFERENCES = (
    "At each time, sums over the patients at risk. The sums at two neighbouring times differ by the "
    "patients who left between them: where that is one patient, the difference is the patient's row, and "
    "where it is a few, the differences of several rounds together give their rows."
)

RISK_SUMS = Statistic("risk sums", risk_sums, DIFFERENCES, risk_sums_form, check_risk_sums)
RISK_AND_TIE_SUMS = Statistic(
    "risk and tie sums",
    risk_and_tie_sums,
    f"{DIFFERENCES} Sums over those who died at each time, too: of one death, that patient's row.",
    risk_and_tie_sums_form,
    check_risk_and_tie_sums,
)


def partial_likelihood(sums: Arrays, beta: np.ndarray) -> Point:
    """Return the partial log-likelihood and its derivatives from the sums of all sites.

    With the sums ``tied0`` to ``tied2`` ties are treated as by Efron (JASA 72, 1977): of d deaths at a
    time, the l-th finds the share l / d (l = 0 to d - 1) of those who died removed from the risk set.
    Without them none is removed (Breslow, Biometrics 30, 1974).
    """
    size, deaths = len(beta), sums["deaths"]
    at = np.repeat(np.arange(len(deaths)), deaths)
    share = (np.arange(len(at)) - np.repeat(np.cumsum(deaths) - deaths, deaths)) / deaths[at]
    if "tied0" not in sums:
        share = np.zeros_like(share)
    tied = [sums.get(f"tied{k}", np.zeros_like(sums[f"risk{k}"])) for k in range(3)]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        total = sums["risk0"][at] - share * tied[0][at]
        mean = (sums["risk1"][at] - share[:, None] * tied[1][at]) / total[:, None]
        in_risk = np.bincount(at, 1 / total, minlength=len(deaths))
        in_tied = np.bincount(at, share / total, minlength=len(deaths))
        second = symmetric(in_risk @ sums["risk2"] - in_tied @ tied[2], size)
        return Point(
            beta,
            float(beta @ sums["died"] - np.log(total).sum()),
            sums["died"] - mean.sum(axis=0),
            without_rounding(second - mean.T @ mean, np.diag(second)),
        )


def without_rounding(information: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the information with exact zeros for features that vary by rounding only."""
    constant = np.diag(information) <= ROUNDING * np.abs(second)
    return np.where(constant[:, None] | constant[None, :], 0.0, information)


@dataclass(frozen=True)
class CoxFit:
    """A fitted Cox model.

    ``table`` has one row per feature: ``coefficient``, ``se``, ``hazard_ratio`` with the limits
    ``lower`` and ``upper`` of its 95 % confidence interval, ``z`` and ``p`` (Wald). With a ridge the
    standard errors are those of the penalised likelihood. ``log_likelihood`` is the partial
    log-likelihood, less the penalty.
    """

    table: pd.DataFrame
    log_likelihood: float
    account: Account

    @property
    def coefficients(self) -> np.ndarray:
        """Log hazard ratios, float64[F]."""
        return self.table["coefficient"].to_numpy()


def cox(
    sites: Sequence[Site[TableCohort]] | Hospitals,
    *,
    ties: Ties = "efron",
    grid: np.ndarray | None = None,
    ridge: float = 0.0,
    minimum: int = MINIMUM,
) -> CoxFit:
    """Fit the Cox model of all training rows together; no row leaves its site.

    Parameters
    ----------
    sites
        With features without missing values (see `standardise`). Those far from 0 are measured from their
        mean, which costs a round more.
    ties
        "efron" (as lifelines and R) or "breslow".
    grid
        Times in months, float64[J]: every time is rounded up to the next point first. None uses the
        exact times, which are asked for in a first round. They reveal when patients died, and the sums
        at them reveal rows (see `Account.reveals`), so sites agree only with ``minimum=1``. What a grid
        costs, measured on the 2,811 patients of IPSS-M with five features: months move no coefficient by
        more than 0.04 of its standard error, quarters 0.18, years 0.95 (with Breslow's ties, which suit
        grids less, 0.18, 0.57 and 2.2).
    ridge
        Half of this times the sum of squared coefficients is subtracted from the log-likelihood.
    minimum
        The sites refuse if fewer patients than this, but some, die or withdraw at one site between two
        times. `agreed_grid` finds a grid on which they do not.

    Raises
    ------
    FederationError
        If a site refuses, values are missing, no death can be compared with a patient at risk, or no finite
        estimate exists (see `maximise`).
    """
    check_ties(ties)
    hospitals = hospitals_of(sites, minimum)
    statistic = RISK_AND_TIE_SUMS if ties == "efron" else RISK_SUMS
    times = shared_times(hospitals, grid)

    def ask(beta: np.ndarray, centre: Arrays) -> Arrays:
        return add_up(hospitals.ask(statistic, times | centre | {"beta": beta}))

    nothing = np.zeros(len(hospitals.features))
    sums = ask(nothing, {})
    centre = far_centre(*means_at_risk(sums))
    if centre:
        sums = ask(nothing, centre)
    first = partial_likelihood(sums, nothing)
    return fitted(lambda beta: partial_likelihood(ask(beta, centre), beta), first, hospitals, ridge)


def means_at_risk(sums: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of the features and of their squares, float64[F] each, at the first time."""
    patients, features = sums["risk0"][0], sums["risk1"].shape[1]
    return sums["risk1"][0] / patients, np.diag(symmetric(sums["risk2"][0], features)) / patients


def check_ties(ties: str) -> None:
    """Raise `FederationError` if the treatment of ties is unknown."""
    if ties not in get_args(Ties):
        raise FederationError(f"ties='{ties}' is unknown; choose one of {', '.join(get_args(Ties))}.")


def fitted(
    evaluate: Callable[[np.ndarray], Point], first: Point, hospitals: Hospitals, ridge: float
) -> CoxFit:
    """Return the fit at the maximum of a partial likelihood, of which ``first`` is the point at 0.

    Raises `FederationError` if nothing is compared, so that the likelihood is 1 there.
    """
    if first.value == 0:
        raise FederationError(
            "no patient died while another was at risk, within the 'grid' if there is one; there is nothing "
            "to estimate."
        )
    names = hospitals.features
    beta, point = maximise(evaluate, first, names, np.full(len(names), float(ridge)))
    table = wald_table(beta, np.sqrt(np.diag(point.covariance())), names)
    ratios = {"hazard_ratio": "coefficient", "lower": "lower", "upper": "upper"}
    with np.errstate(over="ignore"):  # of a small unit, a hazard ratio may be beyond all numbers
        exponentials = {name: np.exp(table[column]) for name, column in ratios.items()}
    order = ["coefficient", "se", "hazard_ratio", "lower", "upper", "z", "p"]
    return CoxFit(table.assign(**exponentials)[order], point.value, hospitals.account())
