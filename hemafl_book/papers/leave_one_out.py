"""Chapter 1: a hospital that nobody trained on, every real hospital in turn, and what helps there.

A hospital is left out with all of its batches: no image that it took, on any day, by any scanner, is trained
on. The others train alone, together, or in one place, with or without a remedy against the shift between
hospitals, and with or without hospitals that are drawn (`hemafl_lib.data.smear`). Trained is a linear
classifier of four shared classes on the features of a frozen network, so that chance is 0.25.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from hemafl_book.papers import arms, scores
from hemafl_book.papers.arms import Kind, Tables
from hemafl_book.papers.baselines import colour_probabilities
from hemafl_book.papers.changes import UNCHANGED, Changes
from hemafl_book.papers.dealing import at_most
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.protocol import OfStudies, describe
from hemafl_book.papers.studies import Piece, each_study, run_studies, with_titles
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results
from hemafl_lib import data, evaluation, federation, partition
from hemafl_lib.aggregation import Aggregator, FedAdam, FedAvg, FedMedian
from hemafl_lib.augmentation import Augmentation
from hemafl_lib.data import classes, smear
from hemafl_lib.data.cohort import CohortKind, ImageCohort, LabelledCohort, VariantCohort, join
from hemafl_lib.models import SplitModel, activations, backbone
from hemafl_lib.parallel import for_each
from hemafl_lib.partition import Site
from hemafl_lib.seeds import initialised, numpy_generator
from hemafl_lib.training import Recipe

BACKBONE = "efficientnet_lite0"

SIZE = 96
"""Side of the images in pixels."""

REAL = {
    "barcelona": ("barcelona", "barcelona-2"),
    "bccd": ("bccd",),
    "cellavision": ("cellavision",),
    "tecom": ("tecom",),
}
"""The batches of every real hospital."""

SIMULATED = {"east": ("east",), "north": ("north", "harbour"), "south": ("south",), "west": ("west",)}
"""Simulated hospitals; what is called harbour elsewhere is here a second batch of north."""

HOSPITALS = {"real": REAL, "smear": SIMULATED}

OFFER = Offer(
    name="leave-one-out",
    title="a hospital that nobody trained on, every one in turn (chapter 1)",
    sources=("real", "smear"),
    embedded="SIMULATED data",
    takes=("seed", "rounds", "local_epochs"),
    reads=("barcelona", "tecom", "bccd", "cellavision"),
)

Clients = Literal["real", "drawn", "both"]
Colours = Literal["own", "jitter", "Reinhard", "Macenko"]
Statistics = Literal["pooled", "own"]
Labelled = TypeVar("Labelled", bound=LabelledCohort)
Values = tuple[Tensor, Tensor]
"""Mean and standard deviation of every feature, float32[F] each."""

JITTER = Augmentation(stain=0.3)
UNEVEN = (0.5, 0.25, 0.15, 0.1)
"""Shares of neutrophils, lymphocytes, monocytes and eosinophils, about as uneven as in real hospitals."""

FRESH = "drawn"
"""The name of the client that holds the drawn hospitals' cells."""


@dataclass(frozen=True)
class Way:
    """One arm: who trains, how, and what is done against the shift between hospitals.

    Attributes
    ----------
    clients
        Whether the other real hospitals train, drawn ones, or both. All drawn cells are one more client.
    colours
        "own": images as they are; "jitter": each with variants of other stain; "Reinhard" and "Macenko":
        normalised to the mean of the training hospitals' colours, see `partition.federated_reference`.
    statistics
        By whose mean and standard deviation features are standardised: of all training rows together, or
        each hospital by its "own", those of the hospital that is left out without its labels.
    shares
        Shares of the classes among the drawn cells, of which as many are kept as allow it; None keeps all,
        equally many of each class.
    passes
        How many times the recipe's epochs each round has.
    kind, aggregator, proximal
        See `arms.Arm` and `Recipe`.
    """

    name: str
    clients: Clients = "real"
    colours: Colours = "own"
    statistics: Statistics = "pooled"
    shares: tuple[float, ...] | None = None
    passes: int = 1
    kind: Kind = "federated"
    aggregator: Aggregator = field(default_factory=FedAvg)
    proximal: float = 0.0

    def describe(self) -> dict[str, Any]:
        """Return the arm as plain JSON values."""
        return {**asdict(self), "aggregator": {"name": self.aggregator.name, **asdict(self.aggregator)}}


@dataclass(frozen=True)
class Study:
    """The arms that are compared with every hospital left out in turn, and their seeds."""

    title: str
    recipe: Recipe
    arms: tuple[Way, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Drawn:
    """How many hospitals are drawn with a seed, and how many cells of each."""

    hospitals: int
    cells: int
    patients: int = 10


@dataclass(frozen=True)
class Protocol(OfStudies):
    """Everything that decides the numbers, apart from the data's bytes and the seeds.

    ``cells`` is the largest number of cells of one batch (None: all), ``variants`` how many stains an image
    has under jitter, ``test`` the share of a training hospital's cells that its own test keeps.
    """

    preset: str
    source: str
    size: int
    cells: int | None
    drawn: Drawn
    variants: int
    rounds: int
    test: float
    studies: tuple[Study, ...]
    changes: Changes = UNCHANGED

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        fixed = {"jitter": asdict(JITTER), "hospitals": HOSPITALS[self.source], "smear": smear.VERSION}
        return describe(self, **fixed, chosen=CHOSEN)


# The data


def hospitals(asked: Protocol, root: Path | None = None) -> ImageCohort:
    """Return the four shared classes of all hospitals; ``site`` names the batch."""
    batches = [batch for own in HOSPITALS[asked.source].values() for batch in own]
    if asked.source == "smear":
        return smear.simulate(
            len(batches) * (asked.cells or 200), size=asked.size, sites=batches, masks=False
        )
    cohorts = [data.load_images(name, size=asked.size, root=root) for name in REAL]
    four = [data.harmonise(cohort, "four") for cohort in cohorts]
    return at_most(data.join(four, "white cells of four hospitals"), asked.cells)


def drawn_cells(asked: Protocol, seed: int) -> ImageCohort:
    """Return cells of hospitals that nobody has seen: ``seed`` decides their styles and their cells."""
    names = [f"{FRESH}-{number:02d}" for number in range(asked.drawn.hospitals)]
    styles = {name: smear.random_style(numpy_generator(seed, "style", name)) for name in names}
    cells = asked.drawn.hospitals * asked.drawn.cells
    return smear.simulate(
        cells, size=asked.size, sites=styles, patients=asked.drawn.patients, seed=seed, masks=False
    )


def with_shares(cells: Labelled, shares: tuple[float, ...] | None, seed: int) -> Labelled:
    """Return as many cells as have the classes in these ``shares``, drawn by ``seed``; None returns all."""
    if shares is None:
        return cells
    counts = cells.counts()
    total = min(count / share for count, share in zip(counts, shares, strict=True))
    order = numpy_generator(seed, "shares").permutation(len(cells))
    labels = cells.labels.numpy()[order]
    kept = [order[labels == label][: round(total * share)] for label, share in enumerate(shares)]
    return cells.take(np.sort(np.concatenate(kept)))


def split_hospitals(
    cohort: CohortKind, left_out: str, batches: Mapping[str, Sequence[str]], *, test: float, seed: int
) -> tuple[list[Site[CohortKind]], dict[str, CohortKind]]:
    """Return the hospitals that train, and each batch of the one that is left out.

    A hospital's batches are one site. Every row's patient is on one side, training or test; where a
    collection names no patients, every image counts as one.
    """
    hospital = {batch: name for name, own in batches.items() for batch in own}
    of_row = np.array([hospital[batch] for batch in cohort.site])
    others = cohort.take(np.flatnonzero(of_row != left_out))
    named = replace(others, site=of_row[of_row != left_out])
    sites = partition.natural(named, seed=seed, validation=0.0, test=test)
    return sites, {batch: cohort.of_site(batch) for batch in batches[left_out]}


def coloured(
    images: ImageCohort, colours: Colours, left_out: str, batches: Mapping[str, Sequence[str]]
) -> ImageCohort:
    """Return images normalised to the reference of all hospitals but one; only "Reinhard" and "Macenko" do.

    Each hospital sends the mean of its images' six numbers and how many there are, whatever their labels.
    """
    if colours in ("own", "jitter"):
        return images
    measure, change = NORMALISATIONS[colours]
    own = [
        images.take(np.flatnonzero(np.isin(images.site, batches[name])))
        for name in batches
        if name != left_out
    ]
    means = [np.asarray(measure(cohort.images)).mean(axis=0) for cohort in own]
    reference = partition.federated_reference(means, [len(cohort) for cohort in own])
    return change(images, reference)


def reinhard_reference(images: Tensor) -> np.ndarray:
    """Return the six numbers of each image that `partition.reinhard` replaces, float32[N, 2, 3]."""
    return partition.lab_statistics(images).numpy()


def reinhard(images: ImageCohort, reference: np.ndarray) -> ImageCohort:
    """Return images with a reference's means and standard deviations."""
    return partition.reinhard(images, torch.from_numpy(reference))


NORMALISATIONS: Mapping[str, tuple[Callable[..., np.ndarray], Callable[..., ImageCohort]]] = {
    "Reinhard": (reinhard_reference, reinhard),
    "Macenko": (partition.dye_densities, partition.macenko),
}


# Features


def features_of(network: SplitModel, images: ImageCohort, where: Where, variants: int = 1) -> VariantCohort:
    """Return the features of the frozen network, float32[N, variants, F]: one number a channel.

    Variants beyond the first are stained by `JITTER`.
    """
    found = activations(
        network, images, augmentation=JITTER, count=variants, device=where.device, progress=False
    )
    body = nn.Sequential(*list(network.suffix.children())[:-1]).eval()
    with torch.no_grad():
        parts = [body(rows.flatten(0, 1)).view(len(rows), variants, -1) for rows in found.variants.split(64)]
    return replace(found, variants=torch.cat(parts))


LEAST_SPREAD = 1e-3
"""A feature that varies less than this is not stretched further."""


def values_of(cohort: VariantCohort) -> Values:
    """Return mean and standard deviation of every feature over the rows, as they are without jitter."""
    first = cohort.variants[:, 0]
    return first.mean(dim=0), first.std(dim=0, correction=0).clamp_min(LEAST_SPREAD)


def standardise(cohort: VariantCohort, values: Values) -> VariantCohort:
    """Return features less a mean and over a standard deviation."""
    mean, spread = values
    return replace(cohort, variants=(cohort.variants - mean) / spread)


def standardise_each(cohort: VariantCohort) -> VariantCohort:
    """Return the rows of several hospitals, each standardised by its own statistics."""
    parts = [cohort.of_site(name) for name in cohort.sites]
    return join([standardise(part, values_of(part)) for part in parts], cohort.provenance.name)


@dataclass(frozen=True)
class Fold:
    """What one arm trains on and is judged on, standardised: sites, and cohorts by the name of the place."""

    sites: list[Site[VariantCohort]]
    unseen: dict[str, VariantCohort]
    own: dict[str, VariantCohort]


def fold(
    way: Way,
    sites: Sequence[Site[VariantCohort]],
    unseen: Mapping[str, VariantCohort],
    drawn: VariantCohort | None,
) -> Fold:
    """Standardise what an arm trains on and is judged on.

    ``sites`` are the real hospitals that train, ``unseen`` the batches of the one that does not, ``drawn``
    the cells of drawn hospitals. A batch is standardised by all of its unlabelled images, a hospital that
    trains by its training rows.
    """
    real = [site.train for site in sites] if way.clients != "drawn" else []
    simulated = [drawn] if drawn is not None and way.clients != "real" else []
    pooled = values_of(join([*real, *simulated], "training rows"))
    own = way.statistics == "own"

    def ready(cohort: VariantCohort, hospital: VariantCohort) -> VariantCohort:
        return standardise(cohort, values_of(hospital) if own else pooled)

    moved = [Site(s.name, *(ready(part, s.train) for part in (s.train, s.validation, s.test))) for s in sites]
    clients = [as_client(standardise_each(cells) if own else ready(cells, cells)) for cells in simulated]
    return Fold(
        [*(moved if real else []), *clients],
        {name: ready(cohort, cohort) for name, cohort in unseen.items()},
        {site.name: site.test for site in moved},
    )


def as_client(cells: VariantCohort) -> Site[VariantCohort]:
    """Return all drawn cells as one client, which has nothing but training rows."""
    return Site(FRESH, cells, cells.take([]), cells.take([]))


# The experiment


def start(features: int, seed: int) -> nn.Module:
    """Return the linear classifier before training, with weights that the seed draws."""
    with initialised(seed, "head"):
        return nn.Linear(features, len(classes.CLASS_SCHEMES["four"]))


def train(
    way: Way,
    recipe: Recipe,
    rounds: int,
    sites: Sequence[Site[VariantCohort]],
    seed: int,
    where: Where,
) -> nn.Module:
    """Return the model that the sites train together, in one place, or the only one of them alone."""
    settings: dict[str, Any] = {
        "model": start(sites[0].train.variants.shape[-1], seed),
        "recipe": replace(recipe, proximal=way.proximal, local_epochs=recipe.local_epochs * way.passes),
        "rounds": rounds,
        "seed": seed,
        "device": where.device,
        "engine": where.engine,
        "workers": 1 if where.engine == "local" else None,
        "evaluate": False,
        "progress": False,
    }
    if way.kind == "federated":
        return federation.run(sites, aggregator=way.aggregator, **settings).model
    return federation.centralised(sites, **settings).model


def run(asked: Protocol, where: Where = HERE) -> Results:
    """Run all studies of a protocol and return their tables; see `Paper`."""
    images = hospitals(asked, where.root)
    series = each_study(asked.studies, lambda study: prepare(study, asked, images, where))
    found = run_studies(asked, series, where, (images.provenance,))
    overlap = asked.test / (1 - asked.test)
    tables = {study.title: summaries(found[study.title], overlap) for study in asked.studies}
    return Results(asked, with_titles(tables), (images.provenance,), found.seconds)


def prepare(study: Study, asked: Protocol, images: ImageCohort, where: Where) -> Callable[[int], Piece]:
    """Return what is trained with a seed; the frozen layers are evaluated once, for all seeds and arms."""
    batches = HOSPITALS[asked.source]
    network = backbone(BACKBONE, len(images.classes), size=asked.size)
    seen: dict[str, Mapping[str, VariantCohort]] = {}
    for colours in dict.fromkeys(way.colours for way in study.arms):
        variants = asked.variants if colours == "jitter" else 1
        normalised = colours in NORMALISATIONS
        views = {
            name: coloured(images, colours, name, batches) for name in (batches if normalised else ["all"])
        }
        found = {name: features_of(network, view, where, variants) for name, view in views.items()}
        seen[colours] = found if normalised else dict.fromkeys(batches, found["all"])

    def piece(seed: int) -> Piece:
        return Piece(beside=partial(all_folds, study, asked, images, seen, network, seed, where))

    return piece


def all_folds(
    study: Study,
    asked: Protocol,
    images: ImageCohort,
    seen: Mapping[str, Mapping[str, VariantCohort]],
    network: SplitModel,
    seed: int,
    where: Where,
) -> Tables:
    """Train every arm with every hospital left out, as many at a time as there are cores."""
    batches = HOSPITALS[asked.source]
    draws = any(way.clients != "real" for way in study.arms)
    drawn = features_of(network, drawn_cells(asked, seed), where) if draws else None

    def job(wanted: tuple[str, Way]) -> pd.DataFrame:
        left_out, way = wanted
        sites, unseen = split_hospitals(
            seen[way.colours][left_out], left_out, batches, test=asked.test, seed=seed
        )
        rows = []
        cells = None if drawn is None else with_shares(drawn, way.shares, seed)
        for name, group in groups(way, sites).items():
            ready = fold(way, group, unseen, cells)
            trained = train(way, study.recipe, asked.rounds, ready.sites, seed, where)
            rows += judge(way, name, trained, ready)
        return pd.DataFrame(rows).assign(seed=seed, left_out=left_out)

    wanted = [(left_out, way) for left_out in batches for way in study.arms]
    colour = [colour_alone(images, left_out, asked, seed) for left_out in batches]
    rows = pd.concat([*for_each(job, wanted, engine=where.engine), *colour], ignore_index=True)
    return {"scores": rows.rename(columns={"left_out": "left out"})[SCORES]}


SCORES = ["arm", "model", "seed", "left out", "where", "patients", "cells", "balanced accuracy"]


def groups(way: Way, sites: Sequence[Site[VariantCohort]]) -> dict[str, Sequence[Site[VariantCohort]]]:
    """Return who trains a model together, by the name of the model: all, or each hospital alone."""
    return {site.name: [site] for site in sites} if way.kind == "isolated" else {"": sites}


def judge(way: Way, name: str, model: nn.Module, ready: Fold) -> list[dict[str, Any]]:
    """Return a row for each batch of the hospital that is left out, and for each hospital that trained."""
    rows = []
    for patients, places in (("unseen", ready.unseen), ("own", ready.own)):
        for place, cohort in places.items():
            said = arms.probabilities(model, cohort).argmax(axis=1)
            rows.append(score_row(way.name, name, place, patients, cohort.labels.numpy(), said))
    return rows


def score_row(
    arm: str, model: str, where: str, patients: str, labels: np.ndarray, said: np.ndarray
) -> dict[str, Any]:
    """Return one row of scores; of classes that a place lacks nothing is said."""
    return {
        "arm": arm,
        "model": model,
        "where": where,
        "patients": patients,
        "cells": len(labels),
        "balanced accuracy": evaluation.balanced_accuracy(labels, said),
    }


def colour_alone(images: ImageCohort, left_out: str, asked: Protocol, seed: int) -> pd.DataFrame:
    """Return what colour alone says, learnt on the pooled training rows."""
    batches = HOSPITALS[asked.source]
    sites, unseen = split_hospitals(images, left_out, batches, test=asked.test, seed=seed)
    places = {
        **{name: ("unseen", c) for name, c in unseen.items()},
        **{s.name: ("own", s.test) for s in sites},
    }
    train = federation.pooled(sites).train
    rows = []
    for place, (patients, cohort) in places.items():
        said = colour_probabilities(train, cohort).argmax(axis=1)
        rows.append(score_row(COLOUR, "", place, patients, cohort.labels.numpy(), said))
    return pd.DataFrame(rows).assign(seed=seed, left_out=left_out)


COLOUR = "colour alone"


# The tables


MEAN = "mean of hospitals"
"""The place that stands for the mean over the hospitals left out, each with all its batches once."""


def summaries(found: Tables, overlap: float) -> Tables:
    """Return the rows of every seed, and what they say together: means and differences.

    On own patients seeds split the same cells anew, with ``overlap`` test cells for each training cell; at a
    hospital that is left out all seeds judge the same cells.
    """
    rows = found["scores"]
    unseen = with_mean(rows[rows["patients"] == "unseen"])
    own = rows[rows["patients"] == "own"]
    return {
        "scores": rows,
        "unseen": scores.summary(unseen),
        "own patients": scores.summary(of_places(own)),
        "differences": pd.concat([differences(unseen, other) for other in REFERENCES], ignore_index=True),
        "who loses": who_loses(of_places(own), overlap),
    }


REFERENCES = ("FedAvg", "centralised", "own statistics, centralised, longer", COLOUR)
"""The third is the twin of the drawn hospitals' arm: one place, own statistics, as many steps."""


def of_places(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row an arm, seed and place: the mean over its models and over who was left out."""
    keys = ["arm", "seed", "where"]
    return rows.groupby(keys, sort=False)["balanced accuracy"].mean().reset_index()


def with_mean(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row an arm, seed and place, then the mean of the hospitals for each arm and seed."""
    mean = rows
    for keys in (["arm", "seed", "left out", "where"], ["arm", "seed", "left out"], ["arm", "seed"]):
        mean = mean.groupby(keys, sort=False)["balanced accuracy"].mean().reset_index()
    return pd.concat([of_places(rows), mean.assign(where=MEAN)], ignore_index=True)


def differences(rows: pd.DataFrame, reference: str, overlap: float = 0.0) -> pd.DataFrame:
    """Return every arm less a reference arm at every place, with an interval over the seeds, paired."""
    interval = partial(evaluation.difference_interval, overlap=overlap)
    wide = rows.pivot(index=["where", "seed"], columns="arm", values="balanced accuracy")
    if reference not in wide:
        return pd.DataFrame()
    order = [arm for arm in dict.fromkeys(rows["arm"]) if arm != reference]
    found = [
        (arm, reference, where, *scores.mean_interval(each, interval))
        for arm in order
        for where, each in (wide[arm] - wide[reference]).dropna().groupby("where", sort=False)
    ]
    return pd.DataFrame(found, columns=["arm", "reference", "where", "difference", "low", "high"])


def who_loses(rows: pd.DataFrame, overlap: float) -> pd.DataFrame:
    """Return, for each hospital, what every arm gives its own patients less what its model alone gives."""
    found = differences(rows, "isolated", overlap)
    return found.assign(loses=found["high"] < 0) if len(found) else found


def report(results: Results) -> str:
    """Return each study's balanced accuracy by arm and place, as text."""
    return "\n\n".join(about(study, results) for study in results.protocol.studies)


def about(study: Study, results: Results) -> str:
    """Return one study's balanced accuracy at hospitals that nobody trained on, and at home, as text."""
    rows = results.tables[f"{study.title}: scores"]
    unseen = scores.interval_table(with_mean(rows[rows["patients"] == "unseen"]), "balanced accuracy")
    own = scores.interval_table(of_places(rows[rows["patients"] == "own"]), "balanced accuracy")
    return (
        f"{study.title}: balanced accuracy at a hospital that nobody trained on (chance {CHANCE:.2f}; drawn "
        "hospitals are SIMULATED)\n"
        f"{unseen.to_string()}\n\n{study.title}: on own patients\n{own.to_string()}"
    )


CHANCE = 1 / len(classes.CLASS_SCHEMES["four"])


# The protocol


ALONE = Way("isolated", kind="isolated")
TOGETHER = Way("FedAvg")
ONE_PLACE = Way("centralised", kind="centralised")
OWN: dict[str, Any] = {"statistics": "own"}

AGGREGATORS = (
    ALONE,
    TOGETHER,
    Way("FedAvg, equal weights", aggregator=FedAvg(equal_weights=True)),
    Way("FedMedian", aggregator=FedMedian()),
    Way("FedProx", proximal=0.01),
    Way("FedOpt", aggregator=FedAdam(learning_rate=0.01)),
)
REMEDIES = (
    Way("stain jitter", colours="jitter"),
    Way("Reinhard", colours="Reinhard"),
    Way("Macenko", colours="Macenko"),
    Way("own statistics", **OWN),
    Way("Reinhard and own statistics", colours="Reinhard", **OWN),
    Way("with drawn hospitals", clients="both"),
    Way("with drawn hospitals, own statistics", clients="both", **OWN),
    Way("drawn hospitals only", clients="drawn"),
    Way("drawn hospitals only, own statistics", clients="drawn", **OWN),
)
TWINS = (
    Way("own statistics, centralised", kind="centralised", **OWN),
    Way("own statistics, centralised, longer", kind="centralised", passes=3, **OWN),
    Way(
        "Reinhard and own statistics, centralised, longer",
        colours="Reinhard",
        passes=3,
        kind="centralised",
        **OWN,
    ),
    Way(
        "with drawn hospitals, own statistics, equal weights",
        clients="both",
        aggregator=FedAvg(equal_weights=True),
        **OWN,
    ),
    Way("half of the drawn cells, uneven classes, own statistics", clients="drawn", shares=UNEVEN, **OWN),
)
"""What makes real and drawn arms more alike, one thing at a time: where and for how many steps is trained,
with whose weight, on how many cells and of which classes."""

RECIPE = Recipe(
    optimiser="sgd",
    learning_rate=1e-3,
    weight_decay=0.1,
    batch_size=32,
    local_epochs=2,
    balanced_sampler=True,
)

CHOSEN: Mapping[str, str] = {
    "recipe": "by hand, and no record shows when; 3 penalties and 2 rates were tried with seed 0, which is "
    "not among the seeds, and not used",
    "drawn hospitals": "20 of 40 cells; 60 of 50, 40 of 40, 30 of 40 were tried with seed 0; fewer for time",
    "local epochs": "2 instead of 5, and 150 cells of a batch, for time; no other number was tried",
    "remedies": "drawn hospitals and own statistics come from a sketch that had looked at these hospitals",
    "twins": "five arms that make drawn and real training more alike were added when the others' scores were "
    "known for all seeds; none that was computed is left out",
}
"""What was chosen, on what, and after how many tries."""


def protocol(preset: str = "quick", source: str = "smear", changes: Changes = UNCHANGED) -> Protocol:
    """Return the protocol of a preset on a source of data, with ``changes``.

    Parameters
    ----------
    preset
        "quick" (few cells, one seed, minutes) or "paper" (ten seeds).
    source
        "real" or "smear".

    Raises
    ------
    HemaflError
        If something is unknown.
    """
    OFFER.check(preset, source, changes)
    ways = (*AGGREGATORS, ONE_PLACE, *REMEDIES, *TWINS)
    rounds = changes.rounds or 5
    recipe = replace(RECIPE, local_epochs=changes.local_epochs or RECIPE.local_epochs)
    if preset == "quick":
        study = Study(TITLE, recipe, ways, changes.seeds((1,)))
        return Protocol("quick", source, SIZE, 60, Drawn(12, 30), 2, rounds, 0.2, (study,), changes)
    study = Study(TITLE, recipe, ways, changes.seeds(tuple(range(1, 11))))
    return Protocol("paper", source, SIZE, 150, Drawn(20, 40), 3, rounds, 0.2, (study,), changes)


TITLE = "frozen layers"
