"""Aggregators: how the server turns the clients' parameters into new global ones.

An aggregator is a small frozen value with two pure functions:

``combine(replies, weights)``
    puts the replies together, coordinate by coordinate or client by client;
``update(current, combined, state)``
    takes the server's own step from the current parameters towards the combined ones, and returns
    the new parameters and the new state (momentum, for example). Most aggregators simply move there.

Parameters are dictionaries of NumPy arrays, replies come in a fixed order (by site), and sums run in
float64 in that order, so that the same replies always give the same bits. Integer arrays (batch
norm's ``num_batches_tracked``) are counters: the largest is kept, whatever the aggregator.

A new aggregator is a dataclass that overrides one of the two functions.

Budget: 400 lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import count
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from hemafl_lib.errors import FederationError, HemaflError
from hemafl_lib.settings import Count, NotNegative, Positive, Probability, Settings, Whole

Parameters = dict[str, np.ndarray]
State = dict[str, Parameters]


def weighted_mean(replies: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
    """Return the mean of the replies weighted by ``weights`` (McMahan et al. 2017, algorithm 1)."""
    total = float(sum(weights))

    def mean(name: str) -> np.ndarray:
        average = np.zeros(replies[0][name].shape)
        for reply, weight in zip(replies, weights, strict=True):
            average += (weight / total) * reply[name]
        return average.astype(replies[0][name].dtype)

    return {name: mean(name) for name in replies[0]}


def coordinatewise(replies: Sequence[Parameters], rule: Any) -> Parameters:
    """Apply ``rule`` to the stack [clients, ...] of each array, in float64."""
    return {
        name: np.asarray(rule(np.stack([reply[name] for reply in replies]).astype(np.float64))).astype(
            replies[0][name].dtype
        )
        for name in replies[0]
    }


def as_vector(parameters: Parameters) -> np.ndarray:
    """Return all arrays end to end as one float64 vector, in the order of their names."""
    return np.concatenate([parameters[name].ravel().astype(np.float64) for name in sorted(parameters)])


def distances(replies: Sequence[Parameters]) -> np.ndarray:
    """Return the squared Euclidean distances between replies, float64[n, n]."""
    vectors = np.stack([as_vector(reply) for reply in replies])
    return np.array([[float(np.sum((left - right) ** 2)) for right in vectors] for left in vectors])


@dataclass(frozen=True)
class Aggregator(Settings):
    """What every aggregator has; by itself it is the weighted mean.

    Its settings are checked when it is made: one that is not allowed raises `FederationError`.
    """

    ERROR: ClassVar[type[HemaflError]] = FederationError

    @property
    def name(self) -> str:
        """Name shown in tables."""
        return type(self).__name__

    def combine(self, replies: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
        """Put the clients' replies together; ``weights`` are their numbers of examples."""
        return weighted_mean(replies, weights)

    def combine_updates(
        self, current: Parameters, replies: Sequence[Parameters], weights: Sequence[float], state: State
    ) -> tuple[Parameters, State]:
        """As `combine`, for a rule that also needs what the clients started from, or the server's state."""
        return self.combine(replies, weights), state

    def start(self, current: Parameters) -> State:
        """Return the server's state before the first round."""
        return {}

    def update(self, current: Parameters, combined: Parameters, state: State) -> tuple[Parameters, State]:
        """Move from the current global parameters; return the new ones and the new state."""
        return combined, state

    def caveat(self, sites: int) -> str | None:
        """Return in a sentence why it does not withstand a bad reply among those of so many sites, or None.

        Only a rule that is chosen to withstand one has to say so.
        """
        return None


@dataclass(frozen=True)
class FedAvg(Aggregator):
    """The mean weighted by examples: w = sum_k (n_k / n) w_k (McMahan et al. 2017).

    With ``equal_weights`` every client counts the same, however few examples it has.
    """

    equal_weights: bool = False

    def combine(self, replies: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
        """Return the weighted or the plain mean."""
        return weighted_mean(replies, [1.0] * len(replies) if self.equal_weights else weights)


@dataclass(frozen=True)
class FedMedian(Aggregator):
    """The coordinate-wise median (Yin et al. 2018); weights are ignored.

    Of two replies it is their plain mean.
    """

    def combine(self, replies: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
        """Return the median of every coordinate."""
        return coordinatewise(replies, lambda stack: np.median(stack, axis=0))


@dataclass(frozen=True)
class FedTrimmedMean(Aggregator):
    """The mean of each coordinate without its lowest and highest values (Yin et al. 2018).

    ``trim`` is the share cut off at each end, in [0, 0.5).
    """

    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.2

    def combine(self, replies: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
        """Return the mean of what is left of every coordinate."""
        cut = int(self.trim * len(replies))
        return coordinatewise(
            replies, lambda stack: np.sort(stack, axis=0)[cut : len(replies) - cut].mean(axis=0)
        )

    def caveat(self, sites: int) -> str | None:
        """Of few sites, the share that it cuts off is less than one."""
        if not self.trim or sites < 2 or int(self.trim * sites):
            return None
        enough = next(n for n in count(sites) if int(self.trim * n))
        return (
            f"FedTrimmedMean(trim={self.trim}) leaves out nobody of {sites} sites and is their plain mean; "
            f"give at least {enough} sites or a larger trim."
        )


@dataclass(frozen=True)
class MultiKrum(Aggregator):
    """The mean of the ``keep`` replies that lie closest to their neighbours (Blanchard et al. 2017).

    A reply's score is the sum of its squared distances to the n - ``malicious`` - 2 nearest others.
    """

    malicious: Whole = 1
    keep: Count = 2

    def scores(self, replies: Sequence[Parameters]) -> np.ndarray:
        """Return each reply's Krum score, float64[n]; low is trustworthy."""
        neighbours = max(1, len(replies) - self.malicious - 2)
        by_distance = np.sort(distances(replies), axis=1)
        return by_distance[:, 1 : neighbours + 1].sum(axis=1)

    def combine(self, replies: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
        """Return the unweighted mean of the replies with the lowest scores."""
        chosen = sorted(np.argsort(self.scores(replies), kind="stable")[: self.keep])
        return weighted_mean([replies[i] for i in chosen], [1.0] * len(chosen))

    def caveat(self, sites: int) -> str | None:
        """Of as many as it keeps, it leaves out none; of fewer than 2f + 3, f liars can steer it."""
        if 1 < sites <= self.keep:
            return (
                f"MultiKrum(keep={self.keep}) leaves out nobody of {sites} sites and is their plain mean; "
                f"give at least {self.keep + 1} sites or keep fewer."
            )
        enough = 2 * self.malicious + 3
        if not 1 < sites < enough:
            return None
        return (
            f"{self.name}(malicious={self.malicious}) promises nothing among {sites} sites; give at least "
            f"{enough} sites or fewer malicious ones."
        )


@dataclass(frozen=True)
class Krum(MultiKrum):
    """The one reply that lies closest to its neighbours (Blanchard et al. 2017)."""

    keep: Count = field(default=1, init=False)


@dataclass(frozen=True)
class GeometricMedian(Aggregator):
    """The point with the least weighted sum of distances to the replies (RFA, Pillutla et al. 2022).

    Found by Weiszfeld's iteration; ``smoothing`` keeps the division away from zero.
    """

    steps: Count = 50
    smoothing: Positive = 1e-6

    def combine(self, replies: Sequence[Parameters], weights: Sequence[float]) -> Parameters:
        """Repeat the weighted mean with weights n_k / distance to the last point."""
        vectors = [as_vector(reply) for reply in replies]
        pull = np.array(weights, dtype=float)
        for _ in range(self.steps):
            centre = sum(p * v for p, v in zip(pull / pull.sum(), vectors, strict=True))
            away = [max(self.smoothing, float(np.linalg.norm(v - centre))) for v in vectors]
            pull = np.array(weights) / np.array(away)
        return weighted_mean(replies, pull.tolist())


@dataclass(frozen=True)
class FedAvgM(Aggregator):
    """The mean, with momentum on the server (Hsu et al. 2019).

    With d = mean - current: v <- momentum * v + d and current <- current + learning_rate * v.
    """

    learning_rate: Positive = 1.0
    momentum: NotNegative = 0.9

    def start(self, current: Parameters) -> State:
        """No velocity yet."""
        return {"velocity": zeros(current)}

    def update(self, current: Parameters, combined: Parameters, state: State) -> tuple[Parameters, State]:
        """Add the velocity to the current parameters."""
        velocity = {
            k: self.momentum * state["velocity"][k] + (combined[k].astype(np.float64) - current[k])
            for k in current
        }
        moved = {k: (current[k] + self.learning_rate * velocity[k]).astype(current[k].dtype) for k in current}
        return moved, {"velocity": velocity}


@dataclass(frozen=True)
class FedAdagrad(Aggregator):
    """Adaptive steps on the server (Reddi et al. 2021, "Adaptive Federated Optimization").

    With d = mean - current: m <- beta1 m + (1 - beta1) d, a second moment v of d (here their sum of
    squares), and current <- current + learning_rate * m / (sqrt(v) + epsilon). There is no bias
    correction in the paper, and none here. ``epsilon`` is the paper's tau.
    """

    learning_rate: Positive = 0.1
    beta1: Probability = 0.0
    epsilon: Positive = 1e-3

    def start(self, current: Parameters) -> State:
        """First moment 0; second moment epsilon squared, as in the paper."""
        second = {k: np.full(v.shape, self.epsilon**2) for k, v in current.items()}
        return {"first": zeros(current), "second": second}

    def second_moment(self, second: np.ndarray, square: np.ndarray) -> np.ndarray:
        """Return the new second moment from the old one and the squared difference."""
        return second + square

    def update(self, current: Parameters, combined: Parameters, state: State) -> tuple[Parameters, State]:
        """Step along the first moment, scaled by the second."""
        first, second, moved = {}, {}, {}
        for k, value in current.items():
            difference = combined[k].astype(np.float64) - value
            first[k] = self.beta1 * state["first"][k] + (1 - self.beta1) * difference
            second[k] = self.second_moment(state["second"][k], difference**2)
            step = self.learning_rate * first[k] / (np.sqrt(second[k]) + self.epsilon)
            moved[k] = (value + step).astype(value.dtype)
        return moved, {"first": first, "second": second}


@dataclass(frozen=True)
class FedAdam(FedAdagrad):
    """`FedAdagrad` with v <- beta2 v + (1 - beta2) d^2: the papers' "FedOpt"."""

    beta1: Probability = 0.9
    beta2: Probability = 0.99

    def second_moment(self, second: np.ndarray, square: np.ndarray) -> np.ndarray:
        """Return the moving average of squares."""
        return self.beta2 * second + (1 - self.beta2) * square


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """`FedAdagrad` with v <- v - (1 - beta2) d^2 sign(v - d^2)."""

    def second_moment(self, second: np.ndarray, square: np.ndarray) -> np.ndarray:
        """Return Yogi's controlled growth of the second moment."""
        return second - (1 - self.beta2) * square * np.sign(second - square)


def zeros(parameters: Parameters) -> Parameters:
    """Return zeros of the same shapes, float64."""
    return {name: np.zeros(value.shape) for name, value in parameters.items()}


AGGREGATORS: dict[str, type[Aggregator]] = {
    kind.__name__: kind
    for kind in (
        FedAvg,
        FedMedian,
        FedTrimmedMean,
        Krum,
        MultiKrum,
        GeometricMedian,
        FedAvgM,
        FedAdam,
        FedYogi,
        FedAdagrad,
    )
}
"""Every aggregator by its name; the only place where a name is tied to its class."""


def by_name(name: str, **settings: Any) -> Aggregator:
    """Return the aggregator of that name with these settings, those left out at their defaults.

    Raises `FederationError` for a name or a setting that does not exist; it lists those that do.
    """
    if name not in AGGREGATORS:
        raise FederationError(f"aggregator '{name}' is unknown; choose one of {', '.join(AGGREGATORS)}.")
    known = [each.name for each in fields(AGGREGATORS[name]) if each.init]
    for setting in settings:
        if setting not in known:
            choice = f"choose one of {', '.join(known)}" if known else "it has none"
            raise FederationError(f"aggregator {name} has no setting '{setting}'; {choice}.")
    return AGGREGATORS[name](**settings)


def aggregate(
    aggregator: Aggregator,
    current: Parameters,
    replies: Sequence[Parameters],
    weights: Sequence[float],
    state: State,
    trained: frozenset[str] | None = None,
) -> tuple[Parameters, State]:
    """Return the new global parameters and server state: one round's aggregation.

    Parameters
    ----------
    aggregator
        The rule.
    current
        The global parameters that the clients started from.
    replies
        The clients' parameters, in the fixed order of the sites; same names and shapes as ``current``.
    weights
        One positive number per reply, as a rule its number of examples.
    state
        What `Aggregator.start` or the last round returned.
    trained
        Names on which the server's optimiser steps; None for every floating-point array. Batch norm's
        running statistics are no result of a gradient, so `federation.run` leaves them out: they take
        the combined value. Steps on them can make a variance negative.
    """
    counters = {k for k, v in current.items() if np.issubdtype(v.dtype, np.integer)}
    floating = [{k: v for k, v in reply.items() if k not in counters} for reply in replies]
    combined, state = aggregator.combine_updates(current, floating, weights, state)
    stepping = set(combined) if trained is None else set(combined) & trained
    moved, state = aggregator.update(
        {k: current[k] for k in current if k in stepping},
        {k: combined[k] for k in combined if k in stepping},
        state,
    )
    counted = {k: np.max(np.stack([reply[k] for reply in replies]), axis=0) for k in counters}
    merged = combined | moved | counted
    return {k: np.asarray(merged[k]) for k in current}, state


def begin(aggregator: Aggregator, current: Parameters, trained: frozenset[str] | None = None) -> State:
    """Return the server's state before the first round, for the arrays that its optimiser steps on."""
    floating = {k for k, v in current.items() if not np.issubdtype(v.dtype, np.integer)}
    stepping = floating if trained is None else floating & trained
    return aggregator.start({k: current[k] for k in current if k in stepping})
