"""Differential privacy of the whole site: the server clips every update and adds noise to their mean.

What a released model tells about the update of any one site is then bounded (McMahan et al. 2018,
"Learning differentially private recurrent language models"). The server itself sees every update: it is
trusted. With three or five hospitals, the noise that hides one of them hides most of what they learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from hemafl_lib.aggregation import Aggregator, FedAvg, Parameters, State
from hemafl_lib.errors import BudgetSpent, PrivacyError
from hemafl_lib.federation.mods import clip_update, update_of
from hemafl_lib.privacy import accounting
from hemafl_lib.privacy.accounting import Steps
from hemafl_lib.seeds import numpy_generator

SLOT = "privacy"
"""Where the server's state counts the rounds."""


@dataclass(frozen=True)
class ClientPrivacy(Aggregator):
    """The weighted mean of clipped updates, plus noise: w + sum_k p_k clip(w_k - w) / q + N(0, s^2).

    Here p_k = n_k / n are the weights of `FedAvg`, q is ``sampling``, and the standard deviation is
    s = noise * clip * max_k p_k / q: what the site of the largest weight can add, not the average one.

    Neighbouring runs differ in one site's updates, which are there or are zero. Which sites replied, and
    with how many rows, is taken as public. The noise comes from ``seed``; who knows it can take it off.

    Parameters
    ----------
    noise
        Standard deviation of the noise, divided by the most that one site can add. 0 only clips.
    clip
        Largest norm of an update, over all floating-point arrays together.
    sampling
        Probability with which the server uses a site's reply, drawn anew for each site and round.
    inner
        `FedAvg` (with or without equal weights), or a server optimiser such as `FedAvgM` or `FedAdam`,
        whose steps on the noisy mean cost nothing. Others are no mean of the updates.
    delta, accountant, budget
        As in `RecordPrivacy`, for the whole run: a round above the budget raises `BudgetSpent`.
    seed
        Of the noise and of the sampling.

    Raises
    ------
    PrivacyError
        If a value is out of its range, or ``inner`` does not take a mean.
    """

    noise: float = 1.0
    clip: float = 1.0
    sampling: float = 1.0
    inner: Aggregator = field(default_factory=FedAvg)
    delta: float = 1e-5
    accountant: str = "prv"
    seed: int = 0
    # Not in the repr, by which a checkpoint knows its run: with a larger budget the same run goes on.
    budget: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        accounting.check_settings(self.noise, self.clip, self.delta, self.accountant, self.budget)
        accounting.check_sampling(self.sampling, "sampling")
        if type(self.inner).combine not in (Aggregator.combine, FedAvg.combine):
            raise PrivacyError(f"inner={self.inner.name} takes no mean, so no noise fits it; choose FedAvg.")

    def epsilon(self, rounds: int) -> float:
        """Return the epsilon of ``rounds`` rounds, for the site of the largest weight."""
        history = [Steps(self.noise, self.sampling, rounds)]
        return accounting.epsilon(history, self.delta, self.accountant)

    def start(self, current: Parameters) -> State:
        """No round yet, and the inner aggregator's own state."""
        return {SLOT: {"rounds": np.zeros((), np.int64)}, **self.inner.start(current)}

    def combine_updates(
        self, current: Parameters, replies: Sequence[Parameters], weights: Sequence[float], state: State
    ) -> tuple[Parameters, State]:
        """Return the noisy mean of the clipped updates, added to the current parameters."""
        refuse_statistics(current)
        done = int(state[SLOT]["rounds"])
        self._check_budget(done)
        generator = numpy_generator(self.seed, "client privacy", done + 1)
        chosen = generator.random(len(replies)) < self.sampling
        shares = self._shares(weights)
        deviation = noise_deviation(self.noise, self.clip, shares) / self.sampling
        clipped = [clip_reply(reply, current, self.clip) for reply in replies]
        combined = {}
        for name in sorted(clipped[0]):
            used = zip(shares, clipped, chosen, strict=True)
            mean = sum(share * update[name] for share, update, taken in used if taken) / self.sampling
            noise = generator.normal(0, deviation, current[name].shape)
            combined[name] = (current[name] + mean + noise).astype(current[name].dtype)
        return combined, state | {SLOT: {"rounds": np.array(done + 1)}}

    def update(self, current: Parameters, combined: Parameters, state: State) -> tuple[Parameters, State]:
        """Take the inner aggregator's step towards the noisy mean."""
        own = {SLOT: state[SLOT]}
        inner = {slot: values for slot, values in state.items() if slot != SLOT}
        moved, inner = self.inner.update(current, combined, inner)
        return moved, own | inner

    def _shares(self, weights: Sequence[float]) -> np.ndarray:
        equal = isinstance(self.inner, FedAvg) and self.inner.equal_weights
        counted = np.ones(len(weights)) if equal else np.array(weights, dtype=float)
        return counted / counted.sum()

    def _check_budget(self, done: int) -> None:
        if self.budget is not None and (after := self.epsilon(done + 1)) > self.budget:
            reason = accounting.budget_refusal(self.epsilon(done), after, self.budget)
            raise BudgetSpent(f"the server ends the run after round {done}: {reason}")


def clip_reply(reply: Parameters, current: Parameters, clip: float) -> Parameters:
    """Return a reply's difference from the current parameters, float64, scaled to a norm of at most ``clip``.

    Integer arrays are counters, no part of the update: they are neither measured nor returned.
    """
    return clip_update(update_of(reply, current), clip)


def noise_deviation(noise: float, clip: float, shares: ArrayLike) -> float:
    """Return the standard deviation of the noise on a mean of updates with these shares (they add up to 1).

    One site moves the mean by at most ``clip`` times its share, so the largest share counts. With equal
    shares this is the noise * clip / K of McMahan et al. (2018).
    """
    return noise * clip * float(np.max(shares))


def refuse_statistics(current: Parameters) -> None:
    """Raise `PrivacyError` for running statistics: clipping misses their scale, noise makes them negative."""
    for name in current:
        if name.endswith(("running_mean", "running_var")):
            raise PrivacyError(
                f"array '{name}' is a running statistic of batch norm, which noise makes useless; use group "
                "norm (norm='group'), or keep it at the sites with keep_local."
            )
