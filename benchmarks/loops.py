"""The same jobs without the library's engines: bare loops in plain PyTorch, and Apple's ``pfl``."""

import copy
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.jobs import Work
from hemafl_lib.aggregation import Parameters
from hemafl_lib.federation import by_hand, exchanged_names, get_arrays
from hemafl_lib.partition import Site
from hemafl_lib.seeds import torch_generator
from hemafl_lib.training import as_input


def bare_loop(work: Work, threads: int) -> Parameters:
    """Do the job with the loop of `federation.by_hand`: one site after the other, on torch threads."""
    torch.set_num_threads(threads)
    model = by_hand.federated_averaging(
        work.sites,
        work.model,
        partial(optimiser, work),
        rounds=work.rounds,
        local_epochs=work.recipe.local_epochs,
        batch_size=work.recipe.batch_size,
        after_round=lambda number, current: evaluate(work, current),
    )
    return get_arrays(model, exchanged_names(model))


def bare_pool(work: Work, workers: int) -> Parameters:
    """Do the job with the same steps, ``workers`` sites at a time on one torch thread each.

    Threads are enough for that: PyTorch computes outside Python's lock.
    """
    current = copy.deepcopy(work.model)
    counts = [len(site) for site in work.sites]
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for number in range(1, work.rounds + 1):
            replies = list(pool.map(partial(train_copy, work, current, number), work.sites))
            current.load_state_dict(by_hand.average(replies, counts))
            if work.evaluate:
                list(pool.map(partial(bare_evaluation, current.eval()), work.sites))
    return get_arrays(current, exchanged_names(current))


def train_copy(work: Work, current: nn.Module, number: int, site: Site) -> dict[str, Tensor]:
    """Return the parameters of a copy of the global model after one round at a site."""
    model = copy.deepcopy(current)
    recipe, generator = work.recipe, torch_generator(0, "fit", site.name, number)
    step = optimiser(work, model.parameters())
    by_hand.train(model, site.train, step, recipe.local_epochs, recipe.batch_size, generator)
    return model.state_dict()


def optimiser(work: Work, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser of the job's recipe, which is `Recipe`'s default."""
    return torch.optim.AdamW(
        parameters, work.recipe.learning_rate, weight_decay=work.recipe.weight_decay, fused=True
    )


def evaluate(work: Work, model: nn.Module) -> None:
    """Evaluate the global model at every site, if the job asks for it."""
    if work.evaluate:
        for site in work.sites:
            bare_evaluation(model.eval(), site)


@torch.no_grad()
def bare_evaluation(model: nn.Module, site: Site) -> tuple[float, float]:
    """Return the loss and the accuracy of a site's validation rows."""
    scores = model(as_input(site.validation.inputs))
    right = scores.argmax(dim=1) == site.validation.targets
    return float(F.cross_entropy(scores, site.validation.targets)), float(right.double().mean())


class PflModel(nn.Module):
    """A model with the two functions that ``pfl`` asks for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch in training."""
        return F.cross_entropy(self.train().model(as_input(inputs)), targets)

    def metrics(self, *batch: Tensor) -> dict:
        """Return nothing: the job does not evaluate."""
        return {}


def pfl_loop(work: Work, threads: int) -> Parameters:
    """Do the job with ``pfl`` 0.6, which takes each client's rows in their stored order.

    Batch norm's statistics are not averaged there. Raises ImportError where ``pfl`` is not installed.
    """
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.aggregate.weighting import WeightByDatapoints
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
    from pfl.model.pytorch import PyTorchModel

    torch.set_num_threads(threads)
    recipe, clients = work.recipe, len(work.sites)
    data = [Dataset((site.train.inputs, site.train.targets)) for site in work.sites]
    dataset = FederatedDataset(data.__getitem__, get_user_sampler("minimize_reuse", list(range(clients))))
    model = PflModel(copy.deepcopy(work.model))
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=work.rounds,
            evaluation_frequency=work.rounds + 1,
            train_cohort_size=clients,
            val_cohort_size=None,
        ),
        SimulatedBackend(dataset, dataset, postprocessors=[WeightByDatapoints()]),
        PyTorchModel(
            model,
            lambda parameters, lr: torch.optim.AdamW(
                parameters, lr, weight_decay=recipe.weight_decay, fused=True
            ),
            torch.optim.SGD(model.parameters(), 1.0),
        ),
        NNTrainHyperParams(
            local_num_epochs=recipe.local_epochs,
            local_learning_rate=recipe.learning_rate,
            local_batch_size=recipe.batch_size,
        ),
        NNEvalHyperParams(local_batch_size=recipe.batch_size),
        send_metrics_to_platform=False,
    )
    return get_arrays(model.model, exchanged_names(model.model))
