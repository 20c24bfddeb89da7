"""Differential privacy of the single record: DP-SGD inside every site (Abadi et al. 2016).

Each step draws a random sample of the site's rows, clips the gradient of every row to the same norm, and
adds Gaussian noise to their sum, so that the step says little about any one row. The gradients of single
rows, the clipping and the noise are Opacus' (Yousefpour et al. 2021); the accountant's state stays at the
site and goes on from round to round.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from flwr.app import MetricRecord, RecordDict
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from hemafl_lib.data.cohort import Cohort
from hemafl_lib.device import place
from hemafl_lib.errors import BudgetSpent, HemaflError, PrivacyError, Stopped
from hemafl_lib.federation.trainer import Trainer
from hemafl_lib.privacy.accounting import Steps, add_steps, budget_refusal, check_settings, epsilon
from hemafl_lib.training import (
    Recipe,
    check_outcome,
    make_loss,
    make_optimiser,
    refuse_dropout,
    training_inputs,
)

# Opacus looks at what flows back through the first layer too, and PyTorch remarks on it at every model.
warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients are computed")

STATE = "privacy"
"""Name of the accountant's record in a site's Flower state."""


@dataclass(frozen=True)
class RecordPrivacy(Trainer):
    """Train by DP-SGD: give it as ``trainer`` to `hemafl_lib.federation.run`.

    Every site reports the ``epsilon`` that it has spent so far, all rounds together. It says how much the
    parameters that left the site tell about any one of its training rows, to the server and everybody
    else. The site's number of rows and its scores on validation rows are reported as they are; the
    training loss is not reported, for it would tell about the rows without any noise.

    The noise comes from the run's seed, so that the run can be repeated. Whoever knows the seed can take
    the noise off again: a hospital must keep a seed of its own to itself.

    Parameters
    ----------
    noise
        Standard deviation of the noise on a sum of gradients, divided by ``clip``. 0 only clips.
    clip
        Largest norm of one row's gradient, over all trained parameters together.
    delta
        See `epsilon`; below one over the rows of the smallest site.
    accountant
        A key of `ACCOUNTANTS`, see `epsilon`.
    budget
        Largest epsilon that a site may spend, or None. A site that cannot afford another round ends the
        run with `BudgetSpent`. With a larger budget, the same run goes on from its checkpoint.

    Raises
    ------
    PrivacyError
        If a value is out of its range.
    """

    noise: float = 1.0
    clip: float = 1.0
    delta: float = 1e-5
    accountant: str = "prv"
    # It decides where a run ends, not what its rounds give, and a checkpoint knows its run by the repr.
    budget: float | None = field(default=None, repr=False)

    keeps_state: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(self.noise, self.clip, self.delta, self.accountant, self.budget)

    def check(self, model: nn.Module, cohort: Cohort, recipe: Recipe) -> None:
        """Raise `PrivacyError` if the gradient of a row would depend on other rows, or delta is too large."""
        check_outcome(cohort, recipe)
        check_recipe(recipe)
        refuse_mixing(model)
        if not self.delta * len(cohort) < 1:
            raise PrivacyError(
                f"delta={self.delta} would let one of {len(cohort)} rows be published; choose one far below "
                f"{1 / len(cohort):.2g}."
            )

    def train(
        self,
        model: nn.Module,
        cohort: Cohort,
        recipe: Recipe,
        generator: torch.Generator,
        state: RecordDict,
        *,
        progress: float = 0.0,
        device: str | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, float]:
        """Train for one round within the budget; report the steps, and the epsilon spent so far."""
        before = read_history(state)
        after = add_steps(before, round_steps(len(cohort), recipe, self.noise))
        spent = epsilon(after, self.delta, self.accountant)
        if self.budget is not None and spent > self.budget:
            raise BudgetSpent(
                budget_refusal(epsilon(before, self.delta, self.accountant), spent, self.budget)
            )
        steps = private_fit(
            model, cohort, recipe, self, generator, progress=progress, device=device, stop=stop
        )
        write_history(state, after)
        return {"steps": steps, "epsilon": spent}


def round_steps(rows: int, recipe: Recipe, noise: float, rounds: int = 1) -> Steps:
    """Return the steps of some rounds at a site: as many an epoch as there would be batches.

    A row is in each sample with a probability of one over the steps of an epoch, so that an epoch sees
    ``rows`` rows on average.
    """
    per_epoch = math.ceil(rows / recipe.batch_size)
    return Steps(noise, 1 / per_epoch, rounds * recipe.local_epochs * per_epoch)


def private_fit(
    model: nn.Module,
    cohort: Cohort,
    recipe: Recipe,
    privacy: RecordPrivacy,
    generator: torch.Generator,
    *,
    progress: float = 0.0,
    device: str | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Train ``model`` in place for one round, as `hemafl_lib.training.fit` does, but privately.

    A sample holds ``recipe.batch_size`` rows on average, at times none. Weight decay and FedProx's
    term know nothing of the rows and need no noise. Of prepared variants of an image one is drawn, so a
    row is an image with all its variants.

    Returns
    -------
    int
        The number of optimiser steps.

    Raises
    ------
    PrivacyError
        If the model or the recipe makes the gradient of a row depend on other rows.
    Stopped
        As soon as ``stop()`` is true.
    """
    if len(cohort) == 0:
        raise HemaflError("private_fit: the site has no training rows; give it some or leave it out.")
    privacy.check(model, cohort, recipe)
    refuse_dropout(model)
    steps = round_steps(len(cohort), recipe, privacy.noise)
    loss = make_loss(recipe)
    with place(model, device) as chosen, gradients_by_row(model.train()):
        trained = [value for value in model.parameters() if value.requires_grad]
        start = [value.detach().clone() for value in trained]
        optimiser = NoisyOptimiser(
            make_optimiser(trained, recipe, progress),
            noise_multiplier=privacy.noise,
            max_grad_norm=privacy.clip,
            expected_batch_size=len(cohort) * steps.sample_rate,
            generator=noise_generator(generator),
        )
        for _ in range(steps.count):
            if stop():
                raise Stopped
            optimiser.zero_grad()
            index = poisson_sample(len(cohort), steps.sample_rate, generator)
            if len(index):
                inputs = training_inputs(cohort, index, recipe.augmentation, generator, chosen)
                loss(model(inputs), cohort.targets[index].to(chosen)).backward()
            else:
                empty_gradients(trained)
            optimiser.pre_step()
            add_proximal(trained, start, recipe.proximal)
            optimiser.original_optimizer.step()
    return steps.count


def poisson_sample(rows: int, rate: float, generator: torch.Generator) -> Tensor:
    """Return row numbers, int64: each row is among them with probability ``rate``, independently."""
    return (torch.rand(rows, generator=generator, dtype=torch.float64) < rate).nonzero().squeeze(1)


def noise_generator(generator: torch.Generator) -> torch.Generator:
    """Return a generator for the noise alone, seeded by the site's own."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    return torch.Generator().manual_seed(seed)


class NoisyOptimiser(DPOptimizer):
    """Opacus' optimiser, with noise that is the same on every device: it is drawn on the CPU."""

    def add_noise(self) -> None:
        """Leave the sum of the clipped gradients plus noise in each parameter's ``grad``."""
        deviation = self.noise_multiplier * self.max_grad_norm
        for value in self.params:
            total = value.summed_grad
            noise = torch.normal(0.0, deviation, total.shape, generator=self.generator, dtype=total.dtype)
            value.grad = (total + noise.to(total.device)).view_as(value)


class RowGradients(GradSampleHooks):
    """Opacus' hooks, for tensors of any memory format.

    Opacus 1.6 cuts patches out of an image as if its rows lay in memory one after the other. In the format
    "channels last", in which the library's models compute, its gradients of convolutions are then wrong.
    """

    def rearrange_grad_samples(self, **settings: Any) -> tuple[list[Tensor], Tensor]:
        """Return the inputs of a layer and what flows back to it, each in the plain format."""
        activations, flowing_back = super().rearrange_grad_samples(**settings)
        plain = [value.clone(memory_format=torch.contiguous_format) for value in activations]
        return plain, flowing_back.contiguous()


@contextmanager
def gradients_by_row(model: nn.Module) -> Iterator[None]:
    """Let ``backward`` leave each row's gradient in the parameters' ``grad_sample``, [B, ...].

    The loss must be a mean over the rows. Raises `PrivacyError` if a layer mixes the rows of a batch.
    """
    refuse_mixing(model)
    try:
        hooks = RowGradients(model)
    except NotImplementedError as error:
        raise PrivacyError(f"{type(model).__name__} cannot be trained privately: {error}") from None
    try:
        yield
    finally:
        hooks.cleanup()


def empty_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Leave the gradients of an empty sample, [0, ...]: the step then adds noise alone."""
    for value in parameters:
        value.grad_sample = value.new_zeros(0, *value.shape)  # type: ignore[attr-defined]  # Opacus' own


def add_proximal(parameters: Sequence[nn.Parameter], start: Sequence[Tensor], weight: float) -> None:
    """Add the gradient of FedProx's term, mu (w - w_global), to the private one."""
    if weight == 0:
        return
    for value, reference in zip(parameters, start, strict=True):
        assert value.grad is not None, "the optimiser has just written it"
        value.grad.add_(value.detach() - reference, alpha=weight)


def refuse_mixing(model: nn.Module) -> None:
    """Raise `PrivacyError` if a layer makes the output of one row depend on the others of its batch."""
    for name, layer in model.named_modules():
        normalises = isinstance(layer, _BatchNorm | _InstanceNorm)
        adapts = layer.training or any(value.requires_grad for value in layer.parameters(recurse=False))
        if normalises and adapts:
            raise PrivacyError(
                f"layer '{name}' ({type(layer).__name__}) mixes the rows of a batch, so no row's gradient "
                "can be clipped; use group norm, as by norm='group' or with_norm(model, 'group')."
            )


def check_recipe(recipe: Recipe) -> None:
    """Raise `PrivacyError` if a setting contradicts sampling at random or clipping row by row."""
    if recipe.loss == "cox":
        raise PrivacyError(
            "loss='cox' compares the patients of a batch, so no patient has a gradient of its own; use "
            "client-level privacy for survival."
        )
    if recipe.balanced_sampler:
        raise PrivacyError(
            "balanced_sampler=True draws some rows more often than the accountant counts; set it to False."
        )
    if recipe.accumulate != 1:
        raise PrivacyError(f"accumulate={recipe.accumulate} must be 1; raise batch_size instead.")
    if recipe.clip is not None:
        raise PrivacyError(
            f"clip={recipe.clip} of the recipe is for the whole gradient; set it to None and give each row's "
            "to RecordPrivacy."
        )


def read_history(state: RecordDict) -> tuple[Steps, ...]:
    """Return the steps that a site has taken, from its Flower state."""
    if STATE not in state:
        return ()
    record = state.metric_records[STATE]
    noise, sample_rate = (cast("list[float]", record[name]) for name in ("noise", "sample-rate"))
    return tuple(map(Steps, noise, sample_rate, cast("list[int]", record["count"])))


def write_history(state: RecordDict, history: Sequence[Steps]) -> None:
    """Leave the steps in a site's Flower state, from which every round goes on."""
    state[STATE] = MetricRecord(
        {
            "noise": [steps.noise for steps in history],
            "sample-rate": [steps.sample_rate for steps in history],
            "count": [steps.count for steps in history],
        }
    )
