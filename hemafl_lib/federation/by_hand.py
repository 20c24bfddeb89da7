"""Federated averaging by hand: all of it on one page, in plain PyTorch, with no network and no Flower.

If you have ten minutes, read this: it is the whole idea. `hemafl_lib.federation.run` computes the same, to
the last bit, and adds what a real federation needs: messages between machines, replies that are checked and
refused, other aggregators, a history, checkpoints, privacy.
"""

import copy
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hemafl_lib.augmentation import UNCHANGED
from hemafl_lib.data.cohort import Cohort
from hemafl_lib.partition import Site
from hemafl_lib.seeds import torch_generator
from hemafl_lib.training import training_inputs

Optimiser = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def federated_averaging(
    sites: Sequence[Site],
    model: nn.Module,
    optimiser: Optimiser,
    *,
    rounds: int = 5,
    local_epochs: int = 1,
    batch_size: int = 32,
    seed: int = 0,
    after_round: Callable[[int, nn.Module], object] = lambda round_number, model: None,
) -> nn.Module:
    """Return ``model`` after ``rounds`` of federated averaging (McMahan et al. 2017, algorithm 1).

    ``model`` itself is not changed, and all its parameters are trained. ``optimiser`` makes a fresh
    optimiser for a site's copy, for example ``lambda parameters: torch.optim.SGD(parameters, lr=0.3)``.
    ``after_round`` sees each round's number and its global model.
    """
    model = copy.deepcopy(model)
    for round_number in range(1, rounds + 1):
        replies, counts = [], []
        for site in sites:
            local = copy.deepcopy(model)  # the server sends its parameters to the site,
            generator = torch_generator(seed, "fit", site.name, round_number)
            train(local, site.train, optimiser(local.parameters()), local_epochs, batch_size, generator)
            replies.append(local.state_dict())  # and the site sends its own back
            counts.append(len(site.train))
        model.load_state_dict(average(replies, counts))
        after_round(round_number, model)
    return model


def train(
    model: nn.Module,
    cohort: Cohort,
    optimiser: torch.optim.Optimizer,
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
) -> None:
    """Train ``model`` in place on a site's rows; all random draws come from ``generator``."""
    model.train()
    for _ in range(epochs):
        for rows in batches(len(cohort), batch_size, generator):
            optimiser.zero_grad()
            inputs = training_inputs(cohort, rows, UNCHANGED, generator, "cpu")
            F.cross_entropy(model(inputs), cohort.targets[rows]).backward()
            optimiser.step()


def batches(rows: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Return the row numbers in a new order, in batches; none has one row, which batch norm cannot use."""
    order = list(torch.randperm(rows, generator=generator).split(batch_size))
    if len(order) > 1 and len(order[-1]) == 1:
        order[-2:] = [torch.cat(order[-2:])]
    return order


def average(replies: Sequence[dict[str, Tensor]], counts: Sequence[int]) -> dict[str, Tensor]:
    """Return the mean of the sites' parameters; a site with more rows counts for more.

    That is w = sum_k (n_k / n) w_k, summed in float64 in the order of the sites. An integer array, such as
    batch norm's ``num_batches_tracked``, is a counter: the largest is kept.
    """
    n = sum(counts)
    mean = {}
    for name, value in replies[0].items():
        if value.is_floating_point():
            mean[name] = torch.zeros_like(value, dtype=torch.float64)
            for reply, n_k in zip(replies, counts, strict=True):
                mean[name] += n_k / n * reply[name]
        else:
            mean[name] = torch.stack([reply[name] for reply in replies]).amax(dim=0)
    return mean
