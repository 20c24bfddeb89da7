"""How much privacy has been spent: epsilon, by several accountants.

A mechanism is (epsilon, delta)-differentially private if leaving one person out of its input changes the
probability of no result by more than a factor e^epsilon, but for a share delta (Dwork and Roth 2014,
definition 2.4). Here the person is whatever is sampled and clipped: a row of a site, or a whole site.

Every step adds Gaussian noise to a sum over a random sample. An accountant composes the steps into one
epsilon; all of them but "gdp" give an upper bound, and the lower one is the better account of the same
training.
"""

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dp_accounting
import numpy as np
import pandas as pd
from dp_accounting.pld import PLDAccountant
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis.gdp import compute_eps_poisson
from opacus.accountants.analysis.prv import Domain
from scipy.optimize import brentq

from hemafl_lib.errors import PrivacyError, quote

# Opacus says so where little has been spent; what it returns is a bound all the same.
warnings.filterwarnings("ignore", message="Optimal order is the (largest|smallest) alpha")

ORDERS = (*RDPAccountant.DEFAULT_ALPHAS, 128, 256, 512, 1024)
"""The Renyi orders tried by "rdp"; the high ones matter where little has been spent."""

PRECISION = 0.005
"""Largest error of "prv", as a share of epsilon."""

MUCH_NOISE = 100.0
"""Above it only whole Renyi orders are tried: the series for others takes time with the noise."""

BEYOND = 500.0
"""An epsilon above which the bound of "rdp" is the answer: e^epsilon soon is no number any more."""

POINTS = 2**23
"""Most points on which "prv" tabulates; its error grows where it would need more."""

LEAST_DELTA = 1e-12
"""Below it rounding outweighs the shares that the accountants count."""

MOST_NOISE = 2.0**30
"""Up to which `noise_for` looks."""


@dataclass(frozen=True)
class Steps:
    """Some steps of the same kind: Gaussian noise on a sum over a random sample.

    Attributes
    ----------
    noise
        Standard deviation of the noise, divided by the largest norm that one member can add (its clip).
    sample_rate
        Probability with which each member is in the sample, independently (Poisson sampling); 1 is all.
    count
        Number of steps.

    Raises
    ------
    PrivacyError
        If the noise is negative or infinite, the sample rate no probability above 0, or the count no whole
        number from 0.
    """

    noise: float
    sample_rate: float
    count: int

    def __post_init__(self) -> None:
        check_noise(self.noise)
        check_sampling(self.sample_rate, "sample_rate")
        if not (0 <= self.count < math.inf and self.count == int(self.count)):
            raise PrivacyError(f"count={self.count} is no number of steps; give a whole number from 0.")


def add_steps(history: Sequence[Steps], more: Steps) -> tuple[Steps, ...]:
    """Return the history with further steps; those like the last are counted with them."""
    last = history[-1] if history else None
    if last and (last.noise, last.sample_rate) == (more.noise, more.sample_rate):
        return (*history[:-1], replace(more, count=last.count + more.count))
    return (*history, more)


def epsilon(history: Sequence[Steps], delta: float, accountant: str = "prv") -> float:
    """Return the epsilon of all steps together, at ``delta``.

    Members are added or removed (not replaced) between neighbouring inputs.

    Parameters
    ----------
    history
        The steps, in any order.
    delta
        From 1e-12 to below 1; well below one over the number of members.
    accountant
        A key of `ACCOUNTANTS`.

        - ``"rdp"``: Renyi differential privacy (Mironov et al. 2019), by Opacus; fast and loose.
        - ``"prv"``: privacy random variables (Gopi et al. 2021), by Opacus; tight, to 0.5 % or 0.0001.
        - ``"pld"``: privacy loss distributions (Koskela et al. 2020, Doroshenko et al. 2022), by Google's
          dp-accounting; tight, and slow for many steps.

        Where "rdp" finds more than 500, which protects nobody, its bound is that of all three.

    Returns
    -------
    float
        At least 0; 0 without steps, infinity without noise.

    Raises
    ------
    PrivacyError
        If a number is out of its range, the accountant unknown, or its numbers fail it.
    """
    check_question(delta, accountant)
    steps = tuple(each for each in history if each.count > 0)
    if not steps:
        return 0.0
    if any(each.noise == 0 for each in steps):
        return math.inf
    return _epsilon(steps, delta, accountant)


def noise_for(target: float, sample_rate: float, count: int, delta: float, accountant: str = "prv") -> float:
    """Return the least noise with which ``count`` steps cost at most an epsilon of ``target``.

    At most half a percent above the least; ``sample_rate``, ``count`` and ``delta`` as for `epsilon`.
    It asks for an epsilon some twenty times. Raises `PrivacyError` if a number is out of its range, or the
    accountant's bound does not go as low as the target.
    """
    if not 0 < target < math.inf:
        raise PrivacyError(f"target={target} is no epsilon to aim at; give a positive number.")
    if count < 1:
        raise PrivacyError(f"count={count} steps cost nothing; give at least 1.")

    check_question(delta, accountant)
    # Beyond, all accountants give the bound of "rdp", and below the target their answers decide nothing.
    counted = "rdp" if target > BEYOND else accountant

    def excess(noise: float) -> float:
        return epsilon([Steps(noise, sample_rate, count)], delta, counted) / target - 1

    low = high = 1.0
    while excess(high) > 0:
        if high >= MOST_NOISE:
            raise PrivacyError(
                f"target={target} is less than accountant='{accountant}' can show at any noise; aim at a "
                "larger epsilon."
            )
        low, high = high, 2 * high
    while excess(low) <= 0:
        low, high = low / 2, low
    noise = brentq(excess, low, high, xtol=1e-3 * low, rtol=1e-3)
    while excess(noise) > 0:
        noise *= 1.001
    return float(noise)


def compare_accountants(noise: float, sample_rate: float, count: int, delta: float) -> pd.DataFrame:
    """Return the epsilon of the same steps by every accountant, and whether it is an upper bound.

    "gdp" (Dong et al. 2022, by Opacus) is no bound: it takes the sum of many small losses for Gaussian,
    and may say that less was spent than was.

    Returns
    -------
    pd.DataFrame
        Columns ``accountant`` (str), ``epsilon`` (float) and ``upper_bound`` (bool).
    """
    steps = Steps(noise, sample_rate, count)
    rows = [(name, epsilon([steps], delta, name), True) for name in ACCOUNTANTS]
    gaussian = compute_eps_poisson(steps=count, noise_multiplier=noise, sample_rate=sample_rate, delta=delta)
    return pd.DataFrame(
        [*rows, ("gdp", float(gaussian), False)], columns=["accountant", "epsilon", "upper_bound"]
    )


# Settings that all private training has; each check raises `PrivacyError` with the remedy.


def check_noise(noise: float) -> None:
    """Refuse noise that is negative or infinite."""
    if not 0 <= noise < math.inf:
        raise PrivacyError(f"noise={noise} must be 0 or a positive number.")


def check_clip(clip: float) -> None:
    """Refuse a norm to clip to that is not positive, or infinite."""
    if not 0 < clip < math.inf:
        raise PrivacyError(f"clip={clip} must be a positive number.")


def check_sampling(rate: float, name: str) -> None:
    """Refuse a sampling rate, of the argument ``name``, that is no probability above 0."""
    if not 0 < rate <= 1:
        raise PrivacyError(f"{name}={rate} is not a probability above 0, up to 1.")


def check_question(delta: float, accountant: str) -> None:
    """Refuse what no epsilon can be asked for: a delta out of range, or an unknown accountant."""
    if not LEAST_DELTA <= delta < 1:
        raise PrivacyError(
            f"delta={delta} is not between {LEAST_DELTA:g} and 1; give a small one, such as 1e-5."
        )
    if accountant not in ACCOUNTANTS:
        raise PrivacyError(f"accountant='{accountant}' is unknown; choose one of {', '.join(ACCOUNTANTS)}.")


def check_settings(noise: float, clip: float, delta: float, accountant: str, budget: float | None) -> None:
    """Refuse what no private training, of records or of sites, can be set to."""
    check_noise(noise)
    check_clip(clip)
    check_question(delta, accountant)
    if budget is not None and not budget > 0:
        raise PrivacyError(f"budget={budget} must be a positive epsilon, or None for no limit.")


def budget_refusal(before: float, after: float, budget: float) -> str:
    """Return the sentence that says why another round cannot be afforded."""
    return (
        f"another round would raise epsilon from {before:.3g} to {after:.3g}, above the budget of "
        f"{budget:g}; ask for fewer rounds, more noise or a larger budget."
    )


# Accountants


@functools.lru_cache(maxsize=4096)
def _epsilon(steps: tuple[Steps, ...], delta: float, accountant: str) -> float:
    """Return what the accountant finds, or the bound of "rdp" where that is 0 or beyond its numbers."""
    bound = _by_rdp(steps, delta)
    if accountant == "rdp" or bound == 0 or bound > BEYOND:
        return bound
    try:
        found = float(ACCOUNTANTS[accountant](steps, delta))
    except (ArithmeticError, ValueError, RuntimeError, IndexError) as error:
        raise PrivacyError(
            f"accountant='{accountant}' fails on these steps ({quote(str(error))}); choose another one."
        ) from error
    if math.isnan(found):
        raise PrivacyError(f"accountant='{accountant}' finds no number for these steps; choose another one.")
    return max(0.0, found)


def _as_opacus(steps: tuple[Steps, ...]) -> list[tuple[float, float, int]]:
    return [(each.noise, each.sample_rate, each.count) for each in steps]


def _by_rdp(steps: tuple[Steps, ...], delta: float) -> float:
    """Return Opacus' bound, at least 0; infinity where the noise is too little for any number."""
    much = any(each.noise > MUCH_NOISE and each.sample_rate < 1 for each in steps)
    accountant = RDPAccountant()
    accountant.history = _as_opacus(steps)
    try:
        with np.errstate(over="ignore"):
            orders = [order for order in ORDERS if order == int(order)] if much else list(ORDERS)
            return max(0.0, float(accountant.get_epsilon(delta, alphas=orders)))
    except ArithmeticError:
        return math.inf


class BoundedPRV(PRVAccountant):
    """Opacus' accountant on a limited number of points, the domain of which takes no time to find."""

    def __init__(self, steps: tuple[Steps, ...]) -> None:
        super().__init__()
        self.steps = steps
        self.history = _as_opacus(steps)
        self.much = any(each.noise > MUCH_NOISE for each in steps)

    def bound(self, delta: float, error: float = 0.01) -> float:
        """Return the upper bound at an error, or at the least one that the points allow."""
        count, share = sum(each.count for each in self.steps), delta / 1000
        finest = 2 * self.reach(share) * math.sqrt(count * math.log(12 / share) / 2) / POINTS
        return float(self.get_epsilon(delta, eps_error=max(error, finest)))

    def reach(self, share: float) -> float:
        """Return a loss that is exceeded with a probability of less than ``share``."""
        return _by_rdp(self.steps, share / (8 * sum(each.count for each in self.steps))) + 3

    def _get_domain(
        self, prvs: Any, num_self_compositions: Any, eps_error: float, delta_error: float
    ) -> Domain:
        if not self.much:
            return super()._get_domain(prvs, num_self_compositions, eps_error, delta_error)
        count = sum(num_self_compositions)
        mesh = eps_error / math.sqrt(count * math.log(12 / delta_error) / 2)
        return Domain.create_aligned(-self.reach(delta_error), self.reach(delta_error), mesh)


def _by_prv(steps: tuple[Steps, ...], delta: float) -> float:
    """Return Opacus' upper bound, again with a smaller error where the first was large beside it."""
    accountant = BoundedPRV(steps)
    with np.errstate(divide="ignore"):  # the logarithm of 1 - sample_rate, where all are in the sample
        found = accountant.bound(delta)
        return accountant.bound(delta, max(1e-4, PRECISION * found)) if found < 2 else found


def _by_pld(steps: tuple[Steps, ...], delta: float) -> float:
    accountant = PLDAccountant()
    for each in steps:
        noise = dp_accounting.GaussianDpEvent(each.noise)
        step = dp_accounting.PoissonSampledDpEvent(each.sample_rate, noise)
        accountant.compose(dp_accounting.SelfComposedDpEvent(step, each.count))
    return accountant.get_epsilon(delta)


ACCOUNTANTS: dict[str, Callable[[tuple[Steps, ...], float], float]] = {
    "rdp": _by_rdp,
    "prv": _by_prv,
    "pld": _by_pld,
}
"""The accountants by name: from steps and delta to an upper bound of epsilon."""
