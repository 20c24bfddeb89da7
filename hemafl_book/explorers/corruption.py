"""What corrupted hospitals do: to the labels of their cells, and to the updates that they send."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hemafl_lib.aggregation import Parameters
from hemafl_lib.federation.mods import ScaleUpdate, UpdateMod
from hemafl_lib.seeds import numpy_generator


def mislabel(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return labels int64[N] that are each moved to the next class."""
    return (labels + 1) % classes


@dataclass(frozen=True)
class SendNoise(UpdateMod):
    """Send normal noise in the place of an update, of the same norm in each array; ``seed`` decides it."""

    seed: int = 0

    def change(self, update: Parameters, site: int, round_number: int) -> Parameters:
        """Return the noise, its own for every site and round."""
        generator = numpy_generator(self.seed, "corruption", site, round_number)
        drawn = {name: generator.standard_normal(value.shape) for name, value in update.items()}
        return {
            name: drawn[name] * (np.linalg.norm(value) / np.linalg.norm(drawn[name]))
            for name, value in update.items()
        }


@dataclass(frozen=True)
class Corruption:
    """What corrupted clients change.

    ``labels(labels, classes)`` changes the training labels of each of them, ``mods(sites, seed)`` returns
    what changes the updates of the sites with these numbers.
    """

    labels: Callable[[np.ndarray, int], np.ndarray] = lambda labels, classes: labels
    mods: Callable[[tuple[int, ...], int], Sequence[UpdateMod]] = lambda sites, seed: ()


CORRUPTIONS: dict[str, Corruption] = {
    "wrong labels": Corruption(labels=mislabel),
    "noise": Corruption(mods=lambda sites, seed: [SendNoise(seed=seed, sites=sites)]),
    "opposite step x 10": Corruption(mods=lambda sites, seed: [ScaleUpdate(factor=-10, sites=sites)]),
    "opposite step x 1,000,000": Corruption(mods=lambda sites, seed: [ScaleUpdate(factor=-1e6, sites=sites)]),
}
"""Ways to be corrupted; the server refuses the last as implausibly large."""
