"""The report card of the very map on screen: what it is worth, one sentence a question.

The questions are those of `hemafl_lib.explain`; the numbers are of one image, and each stands beside what a
map would reach that knows nothing of the model. Whoever waits sees them one after the other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hemafl_book.clinic.explorer.cells import Cell, picture
from hemafl_book.clinic.explorer.looking import Question, Seen, number_of
from hemafl_book.clinic.explorer.models import METHODS, Asked, relevance
from hemafl_book.clinic.nucleus import likely_nucleus
from hemafl_book.clinic.samples import FIELDS
from hemafl_lib import explain
from hemafl_lib.augmentation import Augmentation, augment
from hemafl_lib.clinic import SavedModel
from hemafl_lib.clinic.report import percent
from hemafl_lib.errors import ExplanationError
from hemafl_lib.explain.stability import shift
from hemafl_lib.seeds import torch_generator
from hemafl_lib.training import as_input

STEPS, ORDERS = 8, 19
"""Portions in which pixels go, and random orders: to beat all of them by chance happens once in twenty."""

DRAWS = 5
"""Draws of the weights that a model forgets, and of changes of the stain."""

STAIN = 0.05
"""By what share of a colour's optical density the stain is changed at most."""

PIXELS = 2
"""How far an image is moved to see whether the map moves with it."""

MARGIN = 0.05
"""What is less apart than this, in shares and in correlations, counts as the same."""

ALIKE, UNLIKE = 0.7, 0.3
"""Rank correlations from which on two maps count as alike, and up to which as unlike."""

WITHOUT_NUCLEUS = ("platelet",)
"""Classes whose cells have no nucleus."""


@dataclass(frozen=True)
class Measure:
    """One line of the report card: a question, the verdict in short, and the numbers in a sentence."""

    question: str
    verdict: str
    sentence: str


@dataclass(frozen=True, eq=False)
class Case:
    """A map with all that it takes to judge it.

    ``asked`` gives the scores of which class number ``target`` is explained; ``others`` are the other models
    that were asked the same, by name; ``inside`` is where the nucleus is, bool[S, S], None where none is
    to be expected, and ``drawn`` says whether somebody drew it.
    """

    seen: Seen
    asked: Asked
    target: int
    image: Tensor
    relevance: Tensor
    others: Mapping[str, Asked]
    layer: str | None
    inside: Tensor | None
    drawn: bool

    def map_of(self, asked: Asked, images: Tensor, method: str | None = None) -> Tensor:
        """Return the maps of the same class for other images, another model or another method."""
        return relevance(asked, images, self.target, method or self.seen.view.method, self.layer)


def case_of(seen: Seen, cell: Cell, question: Question, models: Mapping[str, SavedModel]) -> Case:
    """Return what is measured of a map.

    Raises `ExplanationError` if there is no map.
    """
    if seen.relevance is None:
        raise ExplanationError(f"there is no map of {seen.view.model} to measure; choose one that is shown.")
    card = seen.model.card
    against = None if question.against is None else number_of(seen.model, question.against)
    taken = picture(cell, seen.model.size)
    expected = card.family != FIELDS and seen.explained not in WITHOUT_NUCLEUS
    inside = nucleus_of(cell, taken.pixels) if expected else None
    others = {
        name: Asked(model, against)
        for name, model in models.items()
        if model is not seen.model and model.card.classes == card.classes and model.size == seen.model.size
    }
    return Case(
        seen,
        Asked(seen.model, against),
        number_of(seen.model, seen.explained),
        taken.pixels[None],
        seen.relevance[None],
        others,
        question.layer,
        inside,
        cell.nucleus is not None,
    )


def nucleus_of(cell: Cell, pixels: Tensor) -> Tensor:
    """Return where a cell's nucleus is, bool[S, S] at the size of ``pixels``: as drawn, or as is likely."""
    if cell.nucleus is None:
        return torch.from_numpy(likely_nucleus(pixels))
    drawn = torch.from_numpy(cell.nucleus).float()[None, None]
    return F.interpolate(drawn, pixels.shape[-2:], mode="area")[0, 0] >= 0.5


def measures(case: Case) -> Iterator[Measure]:
    """Yield the lines of the report card, as they are measured: `QUESTIONS` of them at most."""
    for measure in QUESTIONS:
        found = measure(case)
        if found is not None:
            yield found


def in_deletion(case: Case) -> Measure:
    """Does the answer fall when the places of the map are covered?"""
    areas = orders(case, explain.deletion)
    best, middle, edges, chance = *areas[:3].tolist(), areas[3:]
    beats = best < float(chance.min()) and best < float(chance.mean()) - MARGIN / 2
    verdict = verdict_of(beats, best < middle - MARGIN / 2, best < edges - MARGIN / 2)
    return Measure(
        "Does the answer hang on these places?",
        verdict,
        f"Cover them, the strongest first, and the class keeps {percent(best)} on average; from the middle "
        f"outwards {percent(middle)}, where the picture has edges first {percent(edges)}, in random order "
        f"{percent(float(chance.mean()))}. Less is better.",
    )


def in_insertion(case: Case) -> Measure:
    """Are the places of the map enough for the answer?"""
    areas = orders(case, explain.insertion)
    best, middle, edges, chance = *areas[:3].tolist(), areas[3:]
    beats = best > float(chance.max()) and best > float(chance.mean()) + MARGIN / 2
    verdict = verdict_of(beats, best > middle + MARGIN / 2, best > edges + MARGIN / 2)
    return Measure(
        "Are these places enough for the answer?",
        verdict,
        f"Put them back into a blurred picture, the strongest first, and the class has {percent(best)} on "
        f"average; from the middle outwards {percent(middle)}, where the picture has edges first "
        f"{percent(edges)}, in random order {percent(float(chance.mean()))}. More is better.",
    )


def orders(case: Case, curves: Callable[..., explain.Curves]) -> Tensor:
    """Return the areas under the curves, float32[3 + ORDERS]: of map, middle, edges and random orders.

    All have the grid of the map, so that none is finer than another.
    """
    height, width = case.relevance.shape[1:]
    middle = explain.centred_gaussian(1, height)[:, :, :width]
    chance = torch.rand(ORDERS, height, width, generator=torch_generator(0, "random order"))
    edges = F.adaptive_avg_pool2d(explain.edge_maps(case.image), (height, width))
    compared = torch.cat([case.relevance, middle, edges, chance])
    images = case.image.expand(len(compared), -1, -1, -1)
    return curves(case.asked, images, case.target, compared, steps=STEPS, device="cpu").areas


def verdict_of(beats_chance: bool, beats_middle: bool, beats_edges: bool) -> str:
    """Return whether a map beats those that know nothing of the model."""
    if not beats_chance:
        return "not more than on random places"
    if beats_middle and beats_edges:
        return "yes"
    as_good = "the middle" if not beats_middle else "the edges of the picture"
    return f"more than on random places, no more than on {as_good}"


def on_the_nucleus(case: Case) -> Measure | None:
    """Does the map lie on the nucleus, more than somebody's who points at the middle?"""
    if case.inside is None:
        return None
    inside = case.inside[None]
    blind = float(explain.share_inside(explain.centred_gaussian(1, inside.shape[-1]), inside))
    share = float(explain.share_inside(case.relevance, inside))
    if share != share or blind != blind:  # nothing speaks for the class, or there is no nucleus
        return Measure(
            "Does it lie on the nucleus?", "cannot be told", "Nothing in the map speaks for the class."
        )
    verdict = (
        "yes, more than by pointing at the middle"
        if share > blind + MARGIN
        else "no, less than by pointing at the middle"
        if share < blind - MARGIN
        else "no more than by pointing at the middle"
    )
    what = "the drawn nucleus" if case.drawn else "what is stained like a nucleus, which is a guess"
    return Measure(
        "Does it lie on the nucleus?",
        verdict,
        f"{percent(share)} of what speaks for the class lies on {what}; of a spot in the middle "
        f"{percent(blind)} would.",
    )


def other_methods(case: Case) -> Measure:
    """Do other methods find the same places?"""
    found = {}
    for name, title in METHODS.items():
        if name == case.seen.view.method:
            continue
        try:
            found[title] = likeness(case.relevance, case.map_of(case.asked, case.image, name))
        except ExplanationError:  # a method that this network cannot have has no say
            continue
    return compared("Do other methods find the same places?", "method", found)


def other_models(case: Case) -> Measure | None:
    """Do the other models look at the same places for this class?"""
    if not case.others:
        return None
    found = {
        name: likeness(case.relevance, case.map_of(asked, case.image)) for name, asked in case.others.items()
    }
    return compared("Do the other models look at the same places?", "model", found)


def compared(question: str, of: str, found: Mapping[str, float]) -> Measure:
    """Return how alike maps are, in words: the most and the least like."""
    told = {name: value for name, value in found.items() if value == value}
    if not told:
        return Measure(question, "cannot be told", f"No other {of} gives a map that varies.")
    most, least = max(told, key=lambda name: told[name]), min(told, key=lambda name: told[name])
    mean = sum(told.values()) / len(told)
    return Measure(
        question,
        likeness_in_words(mean),
        f"Rank correlation of the places {mean:.2f} on average; most alike {most} ({told[most]:.2f}), least "
        f"{least} ({told[least]:.2f}). 1 is the same order, 0 no relation.",
    )


def under_shifts(case: Case) -> Measure:
    """Does the map move with the cell?"""
    image = as_input(case.image)
    side = image.shape[-1]
    within = slice(PIXELS, side - PIXELS)
    there = explain.upsample(case.relevance, side)[:, within, within]
    values = []
    for right, down in ((PIXELS, 0), (-PIXELS, 0), (0, PIXELS), (0, -PIXELS)):
        moved = explain.upsample(case.map_of(case.asked, shift(image, right, down)), side)
        back = shift(moved[:, None], -right, -down)[:, 0]
        values.append(float(explain.rank_correlation(back[:, within, within], there)))
    mean = sum(values) / len(values)
    return Measure(
        "Does it stay when the cell moves a little?",
        likeness_in_words(mean),
        f"Moved by {PIXELS} of {side} pixels to each side and back, the places keep their order by "
        f"{mean:.2f} (rank correlation; 1 is the same order).",
    )


def under_stain(case: Case) -> Measure:
    """Does the map stay when the cell is stained a little otherwise?"""
    image, values = as_input(case.image), []
    for number in range(DRAWS):
        other = augment(image, Augmentation(stain=STAIN), torch_generator(number, "stain jitter"))
        values.append(float(explain.rank_correlation(case.map_of(case.asked, other), case.relevance)))
    mean = sum(values) / len(values)
    return Measure(
        "Does it stay when the stain is a little different?",
        likeness_in_words(mean),
        f"With the stain in each colour stronger or weaker by up to {STAIN:.0%}, the places keep their order "
        f"by {mean:.2f} (rank correlation, mean of {DRAWS} draws; 1 is the same order).",
    )


def when_it_forgets(case: Case) -> Measure:
    """Does the map change when the model forgets what it learned, from the head down?"""
    groups = explain.layer_groups(case.seen.model.network)
    draws = np.array([forgetting(case, groups, draw) for draw in range(DRAWS)])
    means = [float(np.nanmean(of)) if not np.isnan(of).all() else np.nan for of in draws.T]
    told = ["no map" if np.isnan(mean) else f"{mean:.2f}" for mean in means]
    return Measure(
        "Does it change when the model forgets?",
        forgotten_in_words(means[-1]),
        f"With the weights shuffled from the head down ({', '.join(groups)}), one part more each time, the "
        f"likeness to this map is {', '.join(told)} (mean of those of {DRAWS} draws that leave one). It "
        "should come near 0.",
    )


def forgotten_in_words(likeness_left: float) -> str:
    """Return the likeness that is left when all weights are shuffled as a verdict; NaN if no map is left."""
    if likeness_left != likeness_left:
        return "yes: no map is left"
    return "no: it shows the picture more than the model" if abs(likeness_left) > UNLIKE else "yes"


def forgetting(case: Case, groups: Sequence[str], draw: int) -> list[float]:
    """Return how alike the map is to those of the model with one part more shuffled each time."""
    generator, network = torch_generator(draw, "forgetting"), case.seen.model.network
    found = []
    for group in groups:
        network = explain.shuffle_weights(network, [group], generator)
        model = replace(case.seen.model, network=network)
        found.append(likeness(case.relevance, case.map_of(Asked(model, case.asked.against), case.image)))
    return found


def likeness(first: Tensor, second: Tensor) -> float:
    """Return the rank correlation of what speaks for the class in two maps of any grids; NaN if flat."""
    side = max(first.shape[-1], second.shape[-1])
    a, b = (explain.upsample(maps.clamp_min(0), side) for maps in (first, second))
    return float(explain.rank_correlation(a, b))


def likeness_in_words(value: float) -> str:
    """Return a rank correlation as a verdict."""
    if value != value:
        return "cannot be told"
    return "yes" if value >= ALIKE else "partly" if value > UNLIKE else "no"


QUESTIONS: tuple[Callable[[Case], Measure | None], ...] = (
    in_deletion,
    in_insertion,
    on_the_nucleus,
    other_methods,
    other_models,
    under_shifts,
    under_stain,
    when_it_forgets,
)
"""What is asked of a map, the cheapest first but for the methods."""
