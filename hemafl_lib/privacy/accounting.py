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
from typing import Literal, NamedTuple

import dp_accounting
import numpy as np
import pandas as pd
from dp_accounting.pld import PLDAccountant
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis.gdp import compute_eps_poisson
from scipy.optimize import brentq

from hemafl_lib.errors import PrivacyError

# Opacus says so where little has been spent; what it returns is a bound all the same.
warnings.filterwarnings("ignore", message="Optimal order is the (largest|smallest) alpha")

Accountant = Literal["rdp", "prv", "pld"]

ORDERS = (*RDPAccountant.DEFAULT_ALPHAS, 128, 256, 512, 1024)
"""The Renyi orders tried by "rdp"; the high ones matter where little has been spent."""

PRECISION = 0.005
"""Largest error of "prv", as a share of epsilon."""


class Steps(NamedTuple):
    """Some steps of the same kind: Gaussian noise on a sum over a random sample.

    Attributes
    ----------
    noise
        Standard deviation of the noise, divided by the largest norm that one member can add (its clip).
    sample_rate
        Probability with which each member is in the sample, independently (Poisson sampling); 1 is all.
    count
        Number of steps.
    """

    noise: float
    sample_rate: float
    count: int


def add_steps(history: Sequence[Steps], more: Steps) -> tuple[Steps, ...]:
    """Return the history with further steps; those like the last are counted with them."""
    if history and history[-1][:2] == more[:2]:
        return (*history[:-1], more._replace(count=history[-1].count + more.count))
    return (*history, more)


def epsilon(history: Sequence[Steps], delta: float, accountant: Accountant = "prv") -> float:
    """Return the epsilon of all steps together, at ``delta``.

    Members are added or removed (not replaced) between neighbouring inputs.

    Parameters
    ----------
    history
        The steps, in any order.
    delta
        In (0, 1); well below one over the number of members.
    accountant
        - ``"rdp"``: Renyi differential privacy (Mironov et al. 2019), by Opacus; fast and loose.
        - ``"prv"``: privacy random variables (Gopi et al. 2021), by Opacus; tight, to 0.5 % or 0.0001.
        - ``"pld"``: privacy loss distributions (Koskela et al. 2020, Doroshenko et al. 2022), by Google's
          dp-accounting; tight, and slow for little noise.

    Returns
    -------
    float
        0 without steps, infinity without noise.

    Raises
    ------
    PrivacyError
        If a number is out of its range, or the accountant unknown.
    """
    if accountant not in ACCOUNTANTS:
        raise PrivacyError(f"accountant='{accountant}' is unknown; choose one of {', '.join(ACCOUNTANTS)}.")
    if not 0 < delta < 1:
        raise PrivacyError(f"delta={delta} is not between 0 and 1; give a small one, such as 1e-5.")
    steps = tuple(Steps(*each) for each in history if each[2] > 0)
    for each in steps:
        _check(each)
    if not steps:
        return 0.0
    if any(each.noise == 0 for each in steps):
        return math.inf
    return _epsilon(steps, delta, accountant)


def noise_for(
    target: float, sample_rate: float, count: int, delta: float, accountant: Accountant = "prv"
) -> float:
    """Return the least noise with which ``count`` steps cost at most an epsilon of ``target``.

    At most half a percent above the least; ``sample_rate``, ``count`` and ``delta`` as for `epsilon`.
    Raises `PrivacyError` if a number is out of its range.
    """
    if not 0 < target < math.inf:
        raise PrivacyError(f"target={target} is no epsilon to aim at; give a positive number.")
    if count < 1:
        raise PrivacyError(f"count={count} steps cost nothing; give at least 1.")

    def excess(noise: float) -> float:
        return epsilon([Steps(noise, sample_rate, count)], delta, accountant) / target - 1

    low = high = 1.0
    while excess(high) > 0:
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


def _check(steps: Steps) -> None:
    if not 0 <= steps.noise < math.inf:
        raise PrivacyError(f"noise={steps.noise} must be 0 or a positive number.")
    if not 0 < steps.sample_rate <= 1:
        raise PrivacyError(f"sample_rate={steps.sample_rate} is not a probability above 0, up to 1.")


@functools.lru_cache(maxsize=4096)
def _epsilon(steps: tuple[Steps, ...], delta: float, accountant: Accountant) -> float:
    return float(ACCOUNTANTS[accountant](steps, delta))


def _by_rdp(steps: tuple[Steps, ...], delta: float) -> float:
    accountant = RDPAccountant()
    accountant.history = list(steps)
    return accountant.get_epsilon(delta, alphas=list(ORDERS))


def _by_prv(steps: tuple[Steps, ...], delta: float) -> float:
    """Return Opacus' upper bound, again with a smaller error where the first was large beside it."""
    accountant = PRVAccountant()
    accountant.history = list(steps)
    with np.errstate(divide="ignore"):  # the logarithm of 1 - sample_rate, where all are in the sample
        found = accountant.get_epsilon(delta)
        return accountant.get_epsilon(delta, eps_error=max(1e-4, PRECISION * found)) if found < 2 else found


def _by_pld(steps: tuple[Steps, ...], delta: float) -> float:
    accountant = PLDAccountant()
    for noise, sample_rate, count in steps:
        step = dp_accounting.PoissonSampledDpEvent(sample_rate, dp_accounting.GaussianDpEvent(noise))
        accountant.compose(dp_accounting.SelfComposedDpEvent(step, count))
    return accountant.get_epsilon(delta)


ACCOUNTANTS: dict[str, Callable[[tuple[Steps, ...], float], float]] = {
    "rdp": _by_rdp,
    "prv": _by_prv,
    "pld": _by_pld,
}
