"""What a family of models is: one question, the hospitals that train, and who judges."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from hemafl_lib.clinic import Card, Place
from hemafl_lib.data.cohort import ImageCohort, Provenance
from hemafl_lib.models import Norm
from hemafl_lib.partition import Site
from hemafl_lib.training import Recipe


@dataclass(frozen=True, eq=False)
class Material:
    """The cells of a family.

    Attributes
    ----------
    sites
        The hospitals; the first is the one that also trains alone.
    helpers
        Drawn cells, on which the network is trained that all arms begin with; they judge nothing.
    spare
        Images of the helpers' hospitals that do not train, uint8[M, 3, S, S]: with them, too, a scope chooses
        its threshold. M is 0 without helpers.
    unseen
        Hospitals that no arm is trained on.
    beyond
        Images that are none of these cells, uint8[M, 3, S, S], by their kind.
    tried
        More such images, and badly taken ones, on which nothing is chosen.
    data
        Where all of it comes from.
    """

    sites: Sequence[Site[ImageCohort]]
    helpers: Sequence[Site[ImageCohort]]
    spare: Tensor
    unseen: Sequence[Place]
    beyond: Mapping[str, Tensor]
    data: tuple[Provenance, ...]
    tried: Mapping[str, Tensor] = field(default_factory=dict)


def nothing(card: Card) -> str:
    """Say nothing."""
    return ""


@dataclass(frozen=True)
class Family:
    """One question that three models answer.

    Attributes
    ----------
    name
        As the card says it.
    title, about
        What the card says of each model, see `hemafl_lib.clinic.Card`; "{arm}" stands in the title for how it
        was trained, and "{refused}" in what it is about for what ``refusals`` says.
    classes
        As the card shows them, in the order of the cohorts' classes.
    simulated
        Whether only drawn cells train.
    material
        Returns the cells; its argument is the folder of real data.
    recipe, rounds, norm, width, seed
        How each arm trains.
    refusals
        Says in words what a measured card counts as refused.
    first_rounds
        Rounds of the training on drawn cells that comes before, where there are such.
    """

    name: str
    title: str
    about: str
    classes: tuple[str, ...]
    simulated: bool
    material: Callable[[Path | None], Material]
    recipe: Recipe
    rounds: int
    first_rounds: int = 0
    norm: Norm = "batch"
    width: int = 16
    seed: int = 0
    refusals: Callable[[Card], str] = nothing
    settings: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Return what decides the trained weights besides data and code, as plain JSON values."""
        return {
            "recipe": asdict(self.recipe),
            "rounds": self.rounds,
            "rounds before": self.first_rounds,
            "norm": self.norm,
            "width": self.width,
            "seed": self.seed,
            **self.settings,
        }
