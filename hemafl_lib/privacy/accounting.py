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

ORDERS = (*RDPAccountant.DEFAULT_ALPHAS, 128, 256, 512, 1024)
"""The Renyi orders tried by "rdp"; the high ones matter where little has been spent."""

PRECISION = 0.005
"""Largest error of "prv", as a share of epsilon."""


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
        If the noise is negative or infinite, or the sample rate no probability above 0.
    """

    noise: float
    sample_rate: float
    count: int

    def __post_init__(self) -> None:
        check_noise(self.noise)
        check_sampling(self.sample_rate, "sample_rate")


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
        In (0, 1); well below one over the number of members.
    accountant
        A key of `ACCOUNTANTS`.

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
    if not 0 < delta < 1:
        raise PrivacyError(f"delta={delta} is not between 0 and 1; give a small one, such as 1e-5.")
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
    return float(ACCOUNTANTS[accountant](steps, delta))


def _as_opacus(steps: tuple[Steps, ...]) -> list[tuple[float, float, int]]:
    return [(each.noise, each.sample_rate, each.count) for each in steps]


def _by_rdp(steps: tuple[Steps, ...], delta: float) -> float:
    accountant = RDPAccountant()
    accountant.history = _as_opacus(steps)
    return accountant.get_epsilon(delta, alphas=list(ORDERS))


def _by_prv(steps: tuple[Steps, ...], delta: float) -> float:
    """Return Opacus' upper bound, again with a smaller error where the first was large beside it."""
    accountant = PRVAccountant()
    accountant.history = _as_opacus(steps)
    with np.errstate(divide="ignore"):  # the logarithm of 1 - sample_rate, where all are in the sample
        found = accountant.get_epsilon(delta)
        return accountant.get_epsilon(delta, eps_error=max(1e-4, PRECISION * found)) if found < 2 else found


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
