"""What the cache of a frozen prefix saves."""

import copy

import torch

from benchmarks.timing import Report, at_least, in_turn, machine, timing_table
from hemafl_lib.aggregation import Parameters
from hemafl_lib.augmentation import UNCHANGED, variants
from hemafl_lib.data import smear
from hemafl_lib.federation import exchanged_names, get_arrays
from hemafl_lib.models import activations, backbone
from hemafl_lib.seeds import torch_generator
from hemafl_lib.training import Recipe, fit


def measure(*, images: int = 200, size: int = 64, epochs: int = 25, repetitions: int = 3) -> Report:
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
