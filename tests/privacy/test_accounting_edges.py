"""Accountants at the edge: never below 0, monotone, equal to the exact answer where there is one."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from hemafl_lib import privacy
from hemafl_lib.errors import PrivacyError
from hemafl_lib.privacy import Steps, accounting

ACCOUNTANTS = tuple(privacy.ACCOUNTANTS)


def exact(noise, count, delta):
    """The epsilon of Gaussian noise without sampling (Balle and Wang 2018, theorem 8)."""
    mu = math.sqrt(count) / noise

    def excess(epsilon):
        far = math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))
        return norm.cdf(mu / 2 - epsilon / mu) - far - delta

    return brentq(excess, 0, mu**2 + 40 * mu, xtol=1e-10) if excess(0) > 0 else 0.0


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.survives(
    "So much noise, or so large a delta, that nothing is spent",
    "an epsilon of 0 or a little more, never less",
)
def test_epsilon_is_never_below_0(accountant):
    for steps, delta in ((Steps(20, 1, 1), 0.1), (Steps(1, 0.01, 10), 0.999), (Steps(1e6, 0.5, 1), 1e-5)):
        assert 0 <= privacy.epsilon([steps], delta, accountant) < 0.02


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize(("noise", "count"), [(0.1, 1), (1.0, 1), (2.0, 10), (30.0, 4)])
@pytest.mark.parametrize("delta", [1e-12, 1e-5, 0.1])
def test_without_sampling_the_exact_epsilon_is_bounded_from_above(accountant, noise, count, delta):
    found, least = privacy.epsilon([Steps(noise, 1.0, count)], delta, accountant), exact(noise, count, delta)
    assert found >= least - 1e-6
    if accountant != "rdp":
        assert found <= 1.011 * least + 0.011


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.survives(
    "So little noise that no accountant's numbers hold its epsilon",
    "a finite bound within a second, or infinity; no overflow",
)
def test_little_noise_gives_a_large_bound_and_not_an_error(accountant):
    spent = [
        privacy.epsilon([Steps(noise, 0.5, 3)], 1e-5, accountant) for noise in (0.05, 0.001, 1e-9, 1e-200, 0)
    ]
    assert spent == sorted(spent)
    assert spent[0] > 500
    assert spent[-1] == math.inf


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize("target", [1000.0, 1e9])
@pytest.mark.survives(
    "A huge epsilon is aimed at", "the noise for it, after some twenty questions to the accountant"
)
def test_noise_for_a_huge_epsilon_is_found(accountant, target, monkeypatch):
    asked, real = [], accounting.epsilon
    monkeypatch.setattr(accounting, "epsilon", lambda *question: asked.append(question) or real(*question))
    noise = privacy.noise_for(target, 0.1, 60, 1e-5, accountant)
    assert 0.9 * target < real([Steps(noise, 0.1, 60)], 1e-5, accountant) <= target
    assert len(asked) < 60


@pytest.mark.survives(
    "An epsilon so small that an accountant cannot show it", "a sentence, not a search without end"
)
def test_a_target_below_what_can_be_shown_is_refused():
    with pytest.raises(PrivacyError, match="less than accountant='rdp' can show"):
        privacy.noise_for(1e-9, 1.0, 1, 1e-5, "rdp")


BAD = [
    (lambda: Steps(-1, 0.1, 1), "noise=-1"),
    (lambda: Steps(math.inf, 0.1, 1), "noise=inf"),
    (lambda: Steps(math.nan, 0.1, 1), "noise=nan"),
    (lambda: Steps(1, 0, 1), "sample_rate=0"),
    (lambda: Steps(1, 1.1, 1), "sample_rate=1.1"),
    (lambda: Steps(1, 0.1, -1), "count=-1"),
    (lambda: Steps(1, 0.1, 1.5), "count=1.5"),
    (lambda: Steps(1, 0.1, math.nan), "count=nan"),
    (lambda: privacy.epsilon([Steps(1, 0.1, 1)], 1e-18), "delta=1e-18 is not between 1e-12 and 1"),
    (lambda: privacy.epsilon([Steps(1, 0.1, 1)], 0), "delta=0"),
    (lambda: privacy.epsilon([Steps(1, 0.1, 1)], 1), "delta=1"),
    (lambda: privacy.epsilon([], math.nan), "delta=nan"),
    (lambda: privacy.noise_for(math.inf, 0.1, 1, 1e-5), "target=inf"),
    (lambda: privacy.noise_for(math.nan, 0.1, 1, 1e-5), "target=nan"),
    (lambda: privacy.noise_for(1, 0.1, 1, 2), "delta=2"),
    (lambda: privacy.RecordPrivacy(clip=0), "clip=0"),
    (lambda: privacy.RecordPrivacy(clip=math.nan), "clip=nan"),
    (lambda: privacy.RecordPrivacy(budget=0), "budget=0"),
    (lambda: privacy.RecordPrivacy(delta=1e-18), "delta=1e-18"),
    (lambda: privacy.ClientPrivacy(clip=math.inf), "clip=inf"),
    (lambda: privacy.ClientPrivacy(clip=-1), "clip=-1"),
    (lambda: privacy.ClientPrivacy(noise=-1), "noise=-1"),
    (lambda: privacy.ClientPrivacy(budget=math.nan), "budget=nan"),
    (lambda: privacy.ClientPrivacy(sampling=0), "sampling=0"),
]


@pytest.mark.parametrize(("call", "sentence"), BAD)
@pytest.mark.survives(
    "A delta, noise, clip, rate, budget or number of steps that cannot be", "a sentence that names it"
)
def test_numbers_that_cannot_be_are_refused(call, sentence):
    with pytest.raises(PrivacyError, match=sentence):
        call()


@settings(max_examples=8, deadline=None)
@given(
    noise=st.floats(0.3, 20),
    rate=st.sampled_from([0.01, 0.3, 1.0]),
    count=st.integers(1, 200),
    delta=st.sampled_from([1e-7, 1e-3, 0.3]),
    accountant=st.sampled_from(["rdp", "prv"]),
)
def test_epsilon_grows_with_steps_and_rate_and_falls_with_noise_and_delta(
    noise, rate, count, delta, accountant
):
    def spent(noise=noise, rate=rate, count=count, delta=delta):
        return privacy.epsilon([Steps(noise, rate, count)], delta, accountant)

    here = spent()
    slack = 0.01 * here + 0.011  # the error of "prv" is another for each question
    assert 0 <= spent(noise=2 * noise) <= here + slack
    assert spent(delta=delta * 2) <= here + slack
    assert spent(count=2 * count) >= here - slack
    assert spent(rate=min(1.0, 2 * rate)) >= here - slack
