"""How fast the engines are, how they grow with the clients, and what the frozen prefix saves.

`engines` does one job by hand, on each engine and in another framework; `scale` runs 100 and 1,000
clients; `prefix` trains with and without the frozen layers' cache. Variants are timed in turn
(A B C A B C) and compared by their medians, so that whatever else the machine does meets all of them.
"""

import copy
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hemafl_lib import federation
from hemafl_lib.aggregation import Parameters
from hemafl_lib.augmentation import UNCHANGED, variants
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import Cohort, Provenance, TableCohort
from hemafl_lib.federation import by_hand, exchanged_names, get_arrays, parameter_hash
from hemafl_lib.models import AttentionCNN, activations, backbone
from hemafl_lib.parallel import cores
from hemafl_lib.partition import Site
from hemafl_lib.progress import bar
from hemafl_lib.seeds import initialised, torch_generator
from hemafl_lib.training import Recipe, as_input, fit

Report = dict[str, Any]

DRAWN = 1024
"""Most images drawn for a job; where it needs more, they are used again."""


@dataclass(frozen=True)
class Work:
    """One federated job, so that every variant does the same."""

    sites: list[Site]
    model: nn.Module
    recipe: Recipe
    rounds: int
    evaluate: bool = False

    def run(self, **settings: Any) -> Parameters:
        """Do the job with the library; return the global arrays."""
        return federation.run(
            self.sites,
            model=self.model,
            recipe=self.recipe,
            rounds=self.rounds,
            evaluate=self.evaluate,
            progress=False,
            **settings,
        ).parameters


def image_work(clients: int, images: int, size: int, rounds: int) -> Work:
    """Return ``rounds`` rounds of the attention CNN over clients with ``images`` drawn images each."""
    cohort = smear.simulate(min(clients * images, DRAWN), size=size, masks=False)
    rows = np.arange(clients * images).reshape(clients, images) % len(cohort)
    return Work(
        sites=[training_site(f"client {k}", cohort.take(rows[k])) for k in range(clients)],
        model=AttentionCNN(len(cohort.classes)),
        recipe=Recipe(),
        rounds=rounds,
    )


def trivial_work(clients: int, rounds: int, rows: int = 20, features: int = 8) -> Work:
    """Return rounds of training and evaluating a linear model, in which an engine's own time shows."""
    with initialised(0, "bench linear"):
        model = nn.Linear(features, 2)
    tables = [noise_table(rows, features, seed) for seed in range(clients)]
    sites = [Site(f"client {k}", train=t, validation=t, test=t) for k, t in enumerate(tables)]
    return Work(sites, model, Recipe(), rounds, evaluate=True)


def training_site(name: str, cohort: Cohort) -> Site:
    """Return a site that only trains."""
    return Site(name, train=cohort, validation=cohort.take([]), test=cohort.take([]))


def noise_table(rows: int, features: int, seed: int) -> TableCohort:
    """Return a table of noise with two labels."""
    generator = torch_generator(seed, "bench table")
    return TableCohort(
        features=torch.randn(rows, features, generator=generator),
        feature_names=tuple(f"x{k}" for k in range(features)),
        label=torch.randint(2, (rows,), generator=generator),
        site=np.full(rows, "noise"),
        patient=np.arange(rows).astype(str),
        provenance=Provenance("noise", "Drawn for timing.", "none", simulated=True, checksum="0"),
    )


def bare_loop(work: Work, threads: int) -> Parameters:
    """Do the job by `hemafl_lib.federation.by_hand`, with ``threads`` torch threads.

    It takes the same steps on the same rows as the library, and evaluates if the job asks for it. It knows
    only what the job needs: cross-entropy, AdamW and no augmentation.
    """
    torch.set_num_threads(threads)
    recipe = work.recipe

    def evaluate(number: int, model: nn.Module) -> None:
        for site in work.sites if work.evaluate else []:
            bare_evaluation(model, site)

    model = by_hand.federated_averaging(
        work.sites,
        work.model,
        lambda values: torch.optim.AdamW(values, recipe.learning_rate, weight_decay=recipe.weight_decay),
        rounds=work.rounds,
        batch_size=recipe.batch_size,
        after_round=evaluate,
    )
    return get_arrays(model, exchanged_names(model))


@torch.no_grad()
def bare_evaluation(model: nn.Module, site: Site) -> tuple[float, float]:
    """Return the loss and the accuracy of a site's validation rows."""
    scores = model.eval()(as_input(site.validation.inputs))
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
    """Do the job with Apple's ``pfl`` 0.6, which takes each client's rows in their stored order.

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
            lambda parameters, lr: torch.optim.AdamW(parameters, lr, weight_decay=recipe.weight_decay),
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


@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition of one variant, and the arrays that it ended with."""

    seconds: list[float]
    parameters: Parameters

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.seconds)


def in_turn(
    work: dict[str, Callable[[], Parameters]], repetitions: int
) -> tuple[dict[str, Timing], dict[str, str]]:
    """Time every variant ``repetitions`` times, one after the other in turn.

    Returns the timings, and why a variant was skipped: a package that it needs is not installed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    results: dict[str, Parameters] = {}
    skipped: dict[str, str] = {}
    threads = torch.get_num_threads()
    for name in bar(list(work) * repetitions, desc="bench"):
        if name in skipped:
            continue
        began = time.perf_counter()
        try:
            results[name] = work[name]()
            seconds[name].append(time.perf_counter() - began)
        except ImportError as error:
            skipped[name] = f"a package is missing: {error}"
        finally:
            torch.set_num_threads(threads)
    return {name: Timing(seconds[name], results[name]) for name in results}, skipped


def largest_difference(left: Parameters, right: Parameters) -> float:
    """Return the largest absolute difference between two models' arrays, counters left out."""
    names = [name for name in left if np.issubdtype(left[name].dtype, np.floating)]
    return max(float(np.max(np.abs(left[name] - right[name]))) for name in names)


def timing_table(timings: dict[str, Timing], reference: str) -> Report:
    """Return each variant's seconds, median, ratio to the reference and distance from its result."""
    base = timings[reference]
    return {
        name: {
            "seconds": [round(value, 4) for value in timing.seconds],
            "median": round(timing.median, 4),
            f"ratio to {reference}": round(timing.median / base.median, 4),
            "hash": parameter_hash(timing.parameters),
            f"largest difference from {reference}": largest_difference(timing.parameters, base.parameters),
        }
        for name, timing in timings.items()
    }


def at_most(value: float, limit: float) -> Report:
    """Return a value beside the limit that it should not exceed."""
    return {"value": round(value, 4), "at most": limit, "met": bool(value <= limit)}


def at_least(value: float, limit: float) -> Report:
    """Return a value beside the limit that it should reach."""
    return {"value": round(value, 4), "at least": limit, "met": bool(value >= limit)}


def machine() -> Report:
    """Return what the numbers depend on: cores, versions, and the load that other programs make."""
    return {
        "cores": cores(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "flwr": version("flwr"),
        "load average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def engines(
    *,
    clients: int = 4,
    images: int = 256,
    size: int = 64,
    rounds: int = 5,
    trivial_clients: int = 10,
    repetitions: int = 3,
    threads: int = 2,
    ray: bool = True,
) -> Report:
    """Time the attention CNN and a trivial model by hand, on each engine, and in ``pfl``.

    Where other programs keep the cores busy, a bare loop with several torch threads takes many times
    longer than with one, because the threads wait for each other in every layer; the report has both.

    Parameters
    ----------
    clients, images, size, rounds
        The image job: ``clients`` with ``images`` of ``size`` pixels each; ``rounds`` holds for both jobs.
    trivial_clients
        Clients of the trivial job, which trains and evaluates a linear model.
    repetitions
        How often each variant runs, in turn with the others; the trivial job on anything but Ray runs five
        times as often.
    threads
        Torch threads of the bare loop and of ``pfl``, and workers of the parallel engines.
    ray
        Whether to run Flower's Ray engine, which takes most of the time.
    """
    before = machine()
    work = image_work(clients, images, size, rounds)
    jobs = {
        "bare loop": lambda: bare_loop(work, threads),
        "bare loop, one thread": lambda: bare_loop(work, 1),
        "local, serial": lambda: work.run(workers=1),
        "local, parallel": lambda: work.run(workers=threads),
        "pfl": lambda: pfl_loop(work, threads),
    }
    trivial = trivial_work(trivial_clients, rounds)
    trivial_jobs = {
        "bare loop": lambda: bare_loop(trivial, 1),
        "local": lambda: trivial.run(workers=threads),
    }
    # A tenth of a second is soon disturbed: more repetitions, and no Ray that shuts down meanwhile.
    small, _ = in_turn(trivial_jobs, 5 * repetitions)
    if ray:
        jobs["Ray"] = lambda: work.run(engine="simulation", workers=threads)
        slow, _ = in_turn({"Ray": lambda: trivial.run(engine="simulation", workers=threads)}, repetitions)
        small |= slow
    timings, skipped = in_turn(jobs, repetitions)
    return {
        "machine": before,
        "load average after": machine()["load average"],
        "image job": {"clients": clients, "images": images, "size": size, "rounds": rounds},
        "image variants": timing_table(timings, "bare loop"),
        "trivial job": {"clients": trivial_clients, "rounds": rounds},
        "trivial variants": timing_table(small, "bare loop"),
        "skipped": skipped if ray else skipped | {"Ray": "not asked for"},
        "targets": engine_targets(timings, small, rounds),
    }


def engine_targets(timings: dict[str, Timing], small: dict[str, Timing], rounds: int) -> Report:
    """Return the local engine's time as a share of the others', for those that ran.

    The overhead of a round is what the trivial job takes beyond the bare loop, which evaluates as well.
    """
    local, trivial = timings["local, parallel"].median, small["local"].median
    overhead = (trivial - small["bare loop"].median) / rounds
    shares = {"bare loop": 1.0, "pfl": 1.0, "Ray": 1 / 3}
    targets = {
        f"image job: local, parallel / {name}": at_most(local / timings[name].median, limit)
        for name, limit in shares.items()
        if name in timings
    }
    if "Ray" in small:
        targets["trivial job: Ray / local"] = at_least(small["Ray"].median / trivial, 20)
    targets["trivial job: ms of overhead a round"] = at_most(1000 * overhead, 15)
    return targets


def scale(*, few: int = 100, many: int = 1000, images: int = 8, size: int = 64, rounds: int = 2) -> Report:
    """Measure seconds and peak memory for few and for many clients, each in a fresh process."""
    before = machine()
    runs = [in_fresh_process(scale_once, clients, images, size, rounds) for clients in (few, many)]
    growth = (runs[1]["seconds"] / many) / (runs[0]["seconds"] / few)
    return {
        "machine": before,
        "load average after": machine()["load average"],
        "job": {"images": images, "size": size, "rounds": rounds},
        "runs": runs,
        "targets": {
            "peak GB of many": at_most(runs[1]["peak GB"], 1.5),
            "seconds a client, many / few": at_most(growth, 1.2),
        },
    }


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process, whose memory nothing else has grown."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def scale_once(clients: int, images: int, size: int, rounds: int) -> Report:
    """Run one job in this process; return its seconds and the process's peak memory."""
    import resource  # exists on Unix only

    work = image_work(clients, images, size, rounds)
    began = time.perf_counter()
    work.run()
    seconds = time.perf_counter() - began
    unit = 1 if platform.system() == "Darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"clients": clients, "seconds": round(seconds, 3), "peak GB": round(peak / 1e9, 4)}


def prefix(*, images: int = 200, size: int = 64, epochs: int = 25, repetitions: int = 3) -> Report:
    """Time training of EfficientNet-Lite0's last layers with the frozen ones evaluated once or always."""
    before = machine()
    cohort = smear.simulate(images, size=size, masks=False)
    model = backbone("efficientnet_lite0", len(cohort.classes), size=size)
    recipe = Recipe(optimiser="sgd", learning_rate=0.001, local_epochs=epochs)
    names = exchanged_names(model.suffix)

    def always() -> Parameters:
        whole = copy.deepcopy(model)
        fit(whole, variants(cohort, UNCHANGED, 1, seed=0), recipe, torch_generator(0, "bench"))
        return get_arrays(whole.suffix, names)

    def once() -> Parameters:
        cached = activations(model, cohort, workers=1, progress=False)
        suffix = copy.deepcopy(model.suffix)
        fit(suffix, cached, recipe, torch_generator(0, "bench"))
        return get_arrays(suffix, names)

    torch.set_num_threads(1)
    timings, _ = in_turn({"always": always, "once": once}, repetitions)
    return {
        "machine": before,
        "load average after": machine()["load average"],
        "job": {"images": images, "size": size, "epochs": epochs},
        "variants": timing_table(timings, "always"),
        "targets": {"always / once": at_least(timings["always"].median / timings["once"].median, 5)},
    }


def as_text(report: Report) -> str:
    """Return a report's tables for reading on a terminal."""
    parts = [
        pd.DataFrame(value).T.drop(columns=["seconds", "hash"]).to_string()
        for name, value in report.items()
        if name.endswith("variants")
    ]
    if "runs" in report:
        parts.append(pd.DataFrame(report["runs"]).to_string(index=False))
    parts += [f"{name}: skipped, {reason}" for name, reason in report.get("skipped", {}).items()]
    parts.append(pd.DataFrame(report["targets"]).T.fillna("").to_string())
    return "\n\n".join(parts)
