"""One site's local training: the `Recipe`, `fit` and `predict`.

Every random draw (order of the examples, variants, augmentation) comes from the generator passed
in, so that one site's round gives the same parameters on every engine.

Budget: 400 lines.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hemafl_lib.augmentation import Augmentation, augment
from hemafl_lib.data.cohort import Cohort, VariantCohort
from hemafl_lib.device import place
from hemafl_lib.errors import HemaflError, Stopped
from hemafl_lib.settings import Count, NotNegative, Positive, Settings

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Recipe(Settings):
    """How a site trains in one round; all of it fits in a JSON file, and an impossible value is refused.

    Parameters
    ----------
    loss
        For classes, "cross_entropy", or "focal" (Lin et al. 2017) with exponent ``gamma``. For survival,
        "cox": see `cox_loss`. Its risk sets are those of a batch, never of several sites together; with
        a ``batch_size`` of at least the rows of a site, they are the site's own.
    optimiser, learning_rate, weight_decay, momentum
        "sgd" (with ``momentum``), "adam" or "adamw"; a fresh one each round.
    schedule
        "constant", or "cosine": the learning rate of round t of T is multiplied by
        (1 + cos(pi (t - 1) / T)) / 2.
    batch_size, accumulate
        Rows in a batch, and batches in one optimiser step.
    local_epochs
        Passes over the site's rows in one round.
    balanced_sampler
        Draw rows with replacement so that every class is equally likely.
    clip
        Largest norm of the whole gradient before a step, or None.
    proximal
        FedProx's mu: adds mu / 2 * ||w - w_global||^2 to the loss (Li et al. 2020).
    augmentation
        Applied to images as they are drawn; cohorts of prepared variants are augmented already.
    """

    loss: Literal["cross_entropy", "focal", "cox"] = "cross_entropy"
    gamma: NotNegative = 2.0
    optimiser: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: Positive = 2e-3
    weight_decay: NotNegative = 1e-4
    momentum: float = 0.9
    schedule: Literal["constant", "cosine"] = "constant"
    batch_size: Count = 32
    accumulate: Count = 1
    local_epochs: Count = 1
    balanced_sampler: bool = False
    clip: Positive | None = None
    proximal: NotNegative = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class FitReport:
    """What one site's training did: mean loss of the examples seen, optimiser steps, examples seen."""

    loss: float
    steps: int
    examples: int


def focal_loss(scores: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Return the mean of -(1 - p)^gamma log p, p the probability of the true class (Lin et al. 2017).

    ``scores`` are logits float32[B, C], ``labels`` int64[B]; gamma 0 is the cross-entropy.
    """
    log_p = F.log_softmax(scores, dim=1).gather(1, labels[:, None]).squeeze(1)
    # Where p rounds to 1, the slope of (1 - p)^gamma with gamma below 1 would be infinite.
    doubt = (1 - log_p.exp()).clamp_min(torch.finfo(log_p.dtype).eps)
    return -(doubt**gamma * log_p).mean()


def cox_loss(
    log_risk: Tensor, time: Tensor, event: Tensor, ties: Literal["efron", "breslow"] = "efron"
) -> Tensor:
    """Return the negative log partial likelihood of Cox's model, per observed event.

    Of all who were still at risk when an event happened, how likely was it to happen to the one it did
    happen to? (Cox 1972; for DeepSurv, Katzman et al. 2018, equation 4.) Only differences of the log-risk
    count: a constant added to all of them changes nothing.

    Parameters
    ----------
    log_risk
        What the model says, float[N]; higher means earlier.
    time, event
        Time to the event or to censoring, float[N], and whether the event was observed, bool[N].
    ties
        How events at the same time are taken: "efron" (Efron 1977) removes each in turn, on average, from
        the risk set of the next; "breslow" (Breslow 1974) leaves all in it. Equal where no times are.

    Returns
    -------
    Tensor
        A scalar; 0, with gradient 0, where no event was observed.
    """
    event = event.bool()
    if not event.any():
        return 0.0 * log_risk.sum()
    order = torch.argsort(time, descending=True, stable=True)
    log_risk, event = log_risk[order], event[order]
    _, moment, rows = torch.unique_consecutive(time[order], return_inverse=True, return_counts=True)
    # Sorted from late to early, those at risk at a moment are all rows up to its last one.
    log_at_risk = torch.logcumsumexp(log_risk, dim=0)[rows.cumsum(0) - 1]
    log_risk, moment = log_risk[event], moment[event]
    log_total = log_at_risk[moment]
    if ties == "efron":
        # Of d deaths at one moment, the j-th (from 0) sees the risk set less j / d of those who die then.
        deaths = torch.bincount(moment, minlength=len(rows))
        share = torch.zeros_like(log_at_risk).index_add(0, moment, (log_risk - log_total).exp())
        earlier = torch.arange(len(moment), device=moment.device) - (deaths.cumsum(0) - deaths)[moment]
        log_total = log_total + torch.log1p(-share[moment] * earlier / deaths[moment])
    return (log_total - log_risk).mean()


def trained_values(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the trained parameters by name, for `proximal_term`."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def proximal_term(model: nn.Module, reference: dict[str, Tensor]) -> Tensor:
    """Return 1/2 * ||w - w_global||^2 over the trained parameters (Li et al. 2020, equation 2)."""
    terms = (
        0.5 * (value - reference[name]).square().sum()
        for name, value in model.named_parameters()
        if value.requires_grad
    )
    return sum(terms, start=torch.zeros(()))


def fit(
    model: nn.Module,
    cohort: Cohort,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    progress: float = 0.0,
    device: str | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> FitReport:
    """Train ``model`` in place on ``cohort`` for one round.

    ``progress`` is the share of all rounds already done, in [0, 1), for the schedule; ``device`` is "cpu",
    "cuda" or, by default, as ``HEMAFL_DEVICE`` says. Raises `HemaflError` if the cohort is empty, the loss
    does not fit its outcome, or the model would draw from torch's global generator, and `Stopped` as soon as
    ``stop()`` is true.
    """
    if len(cohort) == 0:
        raise HemaflError("fit: the site has no training rows; give it some or leave it out.")
    check_outcome(cohort, recipe)
    refuse_dropout(model)
    with place(model, device) as chosen:
        model.train()
        trained = [value for value in model.parameters() if value.requires_grad]
        start = trained_values(model) if recipe.proximal else {}
        optimiser = make_optimiser(trained, recipe, progress)
        loss_of = make_loss(recipe)
        total, seen, steps = 0.0, 0, 0
        for _ in range(recipe.local_epochs):
            batches = epoch_batches(cohort, recipe, generator)
            for first in range(0, len(batches), recipe.accumulate):
                group = batches[first : first + recipe.accumulate]
                rows = sum(len(index) for index in group)
                optimiser.zero_grad(set_to_none=True)
                for index in group:
                    if stop():
                        raise Stopped
                    inputs = training_inputs(cohort, index, recipe.augmentation, generator, chosen)
                    targets = cohort.targets[index].to(chosen)
                    loss = loss_of(model(inputs), targets)
                    # Means of batches of unlike size are weighted, so that the step follows the rows' mean.
                    (loss * (len(index) / rows)).backward()
                    total += float(loss.detach()) * len(index)
                if recipe.proximal:
                    (recipe.proximal * proximal_term(model, start)).backward()
                if recipe.clip is not None:
                    nn.utils.clip_grad_norm_(trained, recipe.clip)
                optimiser.step()
                steps += 1
                seen += rows
    return FitReport(loss=total / seen, steps=steps, examples=seen)


def make_loss(recipe: Recipe) -> Loss:
    """Return the loss function that the recipe names."""
    if recipe.loss == "focal":
        return lambda scores, labels: focal_loss(scores, labels, recipe.gamma)
    if recipe.loss == "cox":
        return lambda scores, targets: cox_loss(as_log_risk(scores), targets[:, 0], targets[:, 1])
    return F.cross_entropy


def as_log_risk(scores: Tensor) -> Tensor:
    """Return a survival model's scores float[N, 1] as float[N]; raise `HemaflError` for other shapes."""
    if scores.ndim != 2 or scores.shape[1] != 1:
        raise HemaflError(
            f"loss='cox' needs one log-risk a patient, and the model returns {tuple(scores.shape)}; "
            "give a model with one output, such as DeepSurv."
        )
    return scores[:, 0]


def has_survival(cohort: Cohort) -> bool:
    """Return whether the cohort's targets are time and event side by side, not labels."""
    return cohort.targets.ndim == 2


def check_outcome(cohort: Cohort, recipe: Recipe) -> None:
    """Raise `HemaflError` if the recipe's loss is not one for the cohort's outcome."""
    if has_survival(cohort) and recipe.loss != "cox":
        raise HemaflError(f"loss='{recipe.loss}' needs labels, and the cohort has survival; use loss='cox'.")
    if not has_survival(cohort) and recipe.loss == "cox":
        raise HemaflError("loss='cox' needs time and event, and the cohort has labels; use 'cross_entropy'.")


def make_optimiser(parameters: list[nn.Parameter], recipe: Recipe, progress: float) -> torch.optim.Optimizer:
    """Return the optimiser that the recipe names, at the learning rate of this round."""
    rate = recipe.learning_rate
    if recipe.schedule == "cosine":
        rate *= 0.5 * (1 + float(np.cos(np.pi * progress)))
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    kind = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.AdamW
    return kind(parameters, rate, weight_decay=recipe.weight_decay, fused=True)


def epoch_batches(cohort: Cohort, recipe: Recipe, generator: torch.Generator) -> list[Tensor]:
    """Return one epoch's row numbers in batches, int64 each.

    A last batch of one row joins the one before: batch norm cannot use it. Raises `HemaflError` if a
    survival cohort should be balanced by class.
    """
    if recipe.balanced_sampler and has_survival(cohort):
        raise HemaflError(
            "balanced_sampler balances classes, and a survival cohort has none; set it to False."
        )
    if recipe.balanced_sampler:
        counts = torch.bincount(cohort.targets)
        chances = (1.0 / counts[cohort.targets]).double()
        order = torch.multinomial(chances, len(cohort), replacement=True, generator=generator)
    else:
        order = torch.randperm(len(cohort), generator=generator)
    batches = list(order.split(recipe.batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def training_inputs(
    cohort: Cohort, index: Tensor, augmentation: Augmentation, generator: torch.Generator, device: str
) -> Tensor:
    """Return the rows of ``index`` as a model reads them: images as float32 in [0, 1], augmented."""
    if isinstance(cohort, VariantCohort):
        chosen = torch.randint(cohort.variants.shape[1], (len(index),), generator=generator)
        return as_input(cohort.variants[index, chosen], device)
    inputs = as_input(cohort.inputs[index], device)
    return augment(inputs, augmentation, generator) if inputs.ndim == 4 else inputs


def as_input(rows: Tensor, device: str = "cpu") -> Tensor:
    """Return uint8 images as float32 in [0, 1], channels last in memory; leave floats as they are."""
    rows = rows.to(device)
    if rows.dtype == torch.uint8:
        rows = rows.float().div_(255)
    return rows.contiguous(memory_format=torch.channels_last) if rows.ndim == 4 else rows


def evaluation_batches(cohort: Cohort, batch_size: int, device: str) -> Iterator[Tensor]:
    """Yield the rows as a model reads them, in order; of prepared variants the first, unchanged one."""
    for rows in cohort.inputs.split(batch_size):
        yield as_input(rows[:, 0] if isinstance(cohort, VariantCohort) else rows, device)


@torch.no_grad()
def predict(model: nn.Module, cohort: Cohort, *, batch_size: int = 256, device: str | None = None) -> Tensor:
    """Return the model's scores for every row (logits float32[N, C] for a classifier), on the CPU.

    ``device`` is where they are computed: "cpu", "cuda" or, by default, as ``HEMAFL_DEVICE`` says.
    """
    with place(model, device) as chosen:
        model.eval()
        return torch.cat([model(inputs).cpu() for inputs in evaluation_batches(cohort, batch_size, chosen)])


def score(model: nn.Module, cohort: Cohort, recipe: Recipe, *, device: str | None = None) -> dict[str, float]:
    """Return the loss of the recipe on a cohort's rows, and how good the predictions are.

    That is the accuracy and the balanced accuracy for classes; for survival, Harrell's C-index (NaN if
    no two patients can be compared) and the number of pairs that it rests on.
    """
    check_outcome(cohort, recipe)
    scores = predict(model, cohort, device=device)
    loss = float(make_loss(recipe)(scores, cohort.targets))
    if has_survival(cohort):
        pairs = compare_pairs(as_log_risk(scores), cohort.targets[:, 0], cohort.targets[:, 1])
        return {"loss": loss, "c-index": pairs.c_index, "comparable-pairs": float(pairs.comparable)}
    predicted = scores.argmax(dim=1)
    return {
        "loss": loss,
        "accuracy": float((predicted == cohort.targets).double().mean()),
        "balanced-accuracy": float(mean_recall(cohort.targets, predicted)),
    }


CELLS = 1_000_000
"""Pairs of patients that are compared at a time."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of patients of whom it is known who had the event first, by what a model says of them.

    The first one's log-risk is the higher (concordant), the lower (discordant), or the same (tied).
    Counts of several groups of patients can be added; pairs across the groups are then not in them.
    """

    concordant: int = 0
    discordant: int = 0
    tied: int = 0

    def __add__(self, other: "Pairs") -> "Pairs":
        return Pairs(
            self.concordant + other.concordant, self.discordant + other.discordant, self.tied + other.tied
        )

    @property
    def comparable(self) -> int:
        """The number of all pairs."""
        return self.concordant + self.discordant + self.tied

    @property
    def c_index(self) -> float:
        """Harrell's C: the share of concordant pairs, a tie counting half; NaN without any pair."""
        return (self.concordant + self.tied / 2) / self.comparable if self.comparable else float("nan")


def compare_pairs(log_risk: Tensor, time: Tensor, event: Tensor) -> Pairs:
    """Return the pairs of Harrell's C (Harrell et al. 1982) for log_risk, time and event, [N] each.

    Two patients can be compared if the earlier time is that of an observed event; at equal times, if
    exactly one of the two had the event. It takes memory for `CELLS` pairs at a time.
    """
    event = event.bool()
    pairs = Pairs()
    for first in event.nonzero()[:, 0].split(max(1, CELLS // max(1, len(event)))):
        first_risk, first_time = log_risk[first, None], time[first, None]
        comparable = (first_time < time) | ((first_time == time) & ~event)
        pairs += Pairs(
            concordant=int((comparable & (first_risk > log_risk)).sum()),
            discordant=int((comparable & (first_risk < log_risk)).sum()),
            tied=int((comparable & (first_risk == log_risk)).sum()),
        )
    return pairs


def mean_recall(labels: Tensor, predicted: Tensor) -> Tensor:
    """Return the balanced accuracy: the mean recall of the classes present in ``labels``."""
    right = torch.bincount(labels, weights=(labels == predicted).double())
    present = torch.bincount(labels)
    return (right / present)[present > 0].mean()


def refuse_dropout(model: nn.Module) -> None:
    """Raise `HemaflError` if a layer would draw from torch's global generator while training."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0:
            raise HemaflError(
                f"fit: layer '{name}' ({layer}) draws from torch's global generator, so clients could not be "
                "reproduced; set its p to 0."
            )
