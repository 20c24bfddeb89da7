"""Chapter 1: white cells over hospitals with different stains, and a hospital nobody trained on.

The protocol of MORPHFED (Ansah, Ruffell, Fernandez-Reyes and Manescu, arXiv 2601.04121, 2026), on
data that everybody can get: 5 rounds of 5 local epochs, a pretrained backbone of which the last
layers are trained, focal loss, weighted sampling, gradient accumulation and clipping, four
aggregators, isolated and centralised training beside them. What the paper leaves open (optimiser,
learning rates, batch size, gamma, mu) is our choice and stands in `recipe`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from torch import nn

from hemafl_book.papers import arms, scores
from hemafl_book.papers.arms import Arm, Tables, Trial
from hemafl_book.papers.baselines import learn_and_answer, learn_colours
from hemafl_book.papers.changes import OPTIONS, UNCHANGED, Changes
from hemafl_book.papers.dealing import Deal, at_most
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.protocol import OfStudies, describe
from hemafl_book.papers.scores import report_studies
from hemafl_book.papers.studies import Piece, each_study, run_studies, with_titles
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results
from hemafl_lib import data, federation, partition
from hemafl_lib.aggregation import FedAdam, FedAvg, FedMedian
from hemafl_lib.augmentation import Augmentation
from hemafl_lib.data import classes, smear
from hemafl_lib.data.cohort import ImageCohort, LabelledCohort
from hemafl_lib.errors import HemaflError
from hemafl_lib.models import BACKBONES, MODELS, Norm, SplitModel, activations, image_model
from hemafl_lib.partition import Site
from hemafl_lib.seeds import numpy_generator
from hemafl_lib.training import Recipe

BACKBONE = "efficientnet_lite0"
AUGMENTATION = Augmentation(translate=0.10, rotate=5.0)
REAL_CLIENTS, REAL_UNSEEN = ("barcelona", "bccd", "tecom"), ("cellavision",)
SECOND_BATCHES = ("barcelona-2",)
"""Cells that a client took later, with another camera: judged, never trained on, and no unseen hospital's."""

DRAWN_CLIENTS, DRAWN_UNSEEN = ("east", "north", "south"), ("harbour", "west")
SPLIT_CLIENTS, SPLIT_UNSEEN = ("first", "second"), ("third",)
NETWORKS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
"""Networks whose pretrained weights come with a package, in the place of the paper's two."""
EXTERNAL_NINE = tuple(classes.NINE)
EQUAL = "FedAvg, equal weights"
Labelled = TypeVar("Labelled", bound=LabelledCohort)

SIZE = 96
"""Side in pixels of the images that a network of no fixed size reads."""

OFFER = Offer(
    name="blood-morphology",
    title="white cells over hospitals with different stains (chapter 1)",
    sources=("real", "smear"),
    embedded="SIMULATED data",
    takes=OPTIONS,
    models=tuple(name for name, model in MODELS.items() if model.reads == "images"),
    cohorts={"smear": "smear"},
    data=classes.sources_of("four"),
    reads=("barcelona", "tecom", "bccd", "cellavision"),
    parts={"leave-one-out": "leave-one-out"},
)


@dataclass(frozen=True)
class Study:
    """One table of the experiment: a cohort in sites, and the arms compared on it.

    ``cohort`` is "hospitals" (four shared classes) or "eleven" (eleven classes, one hospital made
    into sites). A seed of ``seeds`` decides the split, the initial weights and the order, and of the eleven
    classes also who holds which cell and each site's stain. ``unseen`` are hospitals that no client belongs
    to, ``second`` later batches of a client's. ``common`` names classes to which the evaluation is also
    restricted. ``alpha`` is the Dirichlet parameter of the eleven classes' clients, ``stain`` the strength
    of their drawn stains. ``deal`` is another way to make clients of the cells than the hospitals'.
    """

    title: str
    cohort: Literal["hospitals", "eleven"]
    clients: tuple[str, ...]
    unseen: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    second: tuple[str, ...] = ()
    common: tuple[str, ...] = ()
    alpha: float = 1.0
    stain: float = 1.0
    deal: Deal | None = None

    def way(self) -> Deal:
        """Return how the cells become clients."""
        return self.deal or Deal("natural", len(self.clients))


@dataclass(frozen=True)
class Protocol(OfStudies):
    """Everything that decides the numbers, apart from the data's bytes and the seeds.

    ``source`` is "real" (the folder of HEMAFL_DATA) or "smear" (simulated). ``size`` is the side of
    the images in pixels, ``cells`` the largest number of cells of one site (None: all), ``variants``
    the augmented variants of an image that the frozen layers are evaluated on.
    """

    preset: str
    source: str
    size: int
    cells: int | None
    variants: int
    rounds: int
    studies: tuple[Study, ...]
    changes: Changes = UNCHANGED

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        return describe(self, augmentation=asdict(AUGMENTATION))


def recipe(**changes: Any) -> Recipe:
    """Return the paper's recipe, with the gaps filled and with ``changes``."""
    ours = Recipe(
        loss="focal",
        gamma=2.0,
        optimiser="adamw",
        learning_rate=1e-3,
        weight_decay=1e-4,
        batch_size=16,
        accumulate=2,
        local_epochs=5,
        balanced_sampler=True,
        clip=1.0,
        augmentation=AUGMENTATION,
    )
    return replace(ours, **changes)


def aggregator_arms(network: str = BACKBONE, norm: Norm = "batch") -> tuple[Arm, ...]:
    """Return the paper's four aggregators, and FedAvg with equal weights, beside isolated and centralised."""
    plain = Arm("FedAvg", recipe=recipe(), network=network, norm=norm)
    return (
        replace(plain, name="isolated", kind="isolated"),
        plain,
        replace(plain, name=EQUAL, aggregator=FedAvg(equal_weights=True)),
        replace(plain, name="FedMedian", aggregator=FedMedian()),
        replace(plain, name="FedProx", recipe=recipe(proximal=0.01)),
        replace(plain, name="FedOpt", aggregator=FedAdam(learning_rate=0.01)),
        replace(plain, name="centralised", kind="centralised"),
    )


def server_arms(network: str = BACKBONE) -> tuple[Arm, ...]:
    """Return FedOpt under what may have made it collapse: its rate and epsilon, batch norm's buffers."""
    arms = []
    for rate, epsilon in ((0.01, 1e-3), (0.1, 1e-3), (0.1, 1e-1)):
        for norm, change in NORM_CHANGES.items():
            name = f"server rate {rate:g}, epsilon {epsilon:g}, {norm}"
            adam = FedAdam(learning_rate=rate, epsilon=epsilon)
            arms.append(Arm(name, aggregator=adam, recipe=recipe(), network=network, **change))
    return tuple(arms)


NORM_CHANGES: Mapping[str, Mapping[str, Any]] = {
    "batch norm, Adam on its statistics": {"optimise_buffers": True},
    "batch norm, statistics averaged": {},
    "frozen batch norm": {"norm": "frozen"},
    "group norm": {"norm": "group"},
}


def network_arms(networks: Sequence[str]) -> tuple[Arm, ...]:
    """Return the four aggregators on each of several networks."""
    return tuple(
        replace(arm, name=f"{arm.name}, {name}")
        for name in networks
        for arm in four_aggregators(aggregator_arms(name, "group"))
    )


def imbalance_arms(network: str = BACKBONE) -> tuple[Arm, ...]:
    """Return the 2 x 2 of focal loss and weighted sampling, under FedAvg."""
    return tuple(
        Arm(
            f"{loss.replace('_', '-')}, {'weighted' if weighted else 'plain'} sampling",
            recipe=recipe(loss=loss, balanced_sampler=weighted),
            network=network,
            norm="group",
        )
        for loss in ("cross_entropy", "focal")
        for weighted in (False, True)
    )


def protocol(preset: str = "quick", source: str = "smear", changes: Changes = UNCHANGED) -> Protocol:
    """Return the protocol of a preset, with ``changes``.

    Parameters
    ----------
    preset
        "quick" (the four classes, minutes) or "paper" (everything, five seeds).
    source
        "real" or "smear".
    changes
        ``clients``, ``alpha`` and ``scheme`` deal the cells of the clients anew, and ``data`` puts another
        cohort in their place; the unseen hospitals stay unseen.

    Raises
    ------
    HemaflError
        If something is unknown.
    """
    OFFER.check(preset, source, changes)
    network, rounds = changes.network(BACKBONE), changes.rounds or 5
    clients, unseen = (REAL_CLIENTS, REAL_UNSEEN) if source == "real" else (DRAWN_CLIENTS, DRAWN_UNSEEN)
    size = BACKBONES[network].size if network in BACKBONES and network != BACKBONE else SIZE
    few, all_five = (0, 1, 2), (0, 1, 2, 3, 4)
    second = SECOND_BATCHES if source == "real" else ()
    batch = Study("batch norm", "hospitals", clients, unseen, aggregator_arms(network), all_five, second)
    group = replace(batch, title="group norm", arms=aggregator_arms(network, "group"))
    if preset == "quick":
        studies = changes.studies((replace(group, seeds=(0,)),))
        return Protocol("quick", source, size, 240, 1, rounds, studies, changes)
    parted = (
        *(arm for arm in aggregator_arms(network, "group") if arm.name != EQUAL),
        *with_suffix(four_aggregators(aggregator_arms(network)), "batch norm"),
    )
    eleven = Study(
        "eleven classes",
        "eleven",
        SPLIT_CLIENTS,
        SPLIT_UNSEEN,
        parted,
        tuple(range(10)),
        common=EXTERNAL_NINE,
    )
    networks = NETWORKS if changes.model is None else (network,)
    studies = (
        batch,
        group,
        eleven,
        replace(batch, title="networks", arms=network_arms(networks), seeds=few),
        replace(batch, title="server optimiser", arms=server_arms(network), seeds=few),
        replace(batch, title="imbalance", arms=imbalance_arms(network), seeds=few),
    )
    return Protocol("paper", source, size, None, 4, rounds, changes.studies(studies), changes)


def four_aggregators(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return the arms of the four aggregators that the paper compares."""
    return tuple(arm for arm in arms if arm.name in ("FedAvg", "FedMedian", "FedProx", "FedOpt"))


def with_suffix(arms: Sequence[Arm], addition: str) -> tuple[Arm, ...]:
    """Return the arms with an addition to their names."""
    return tuple(replace(arm, name=f"{arm.name}, {addition}") for arm in arms)


# The data


def hospitals(asked: Protocol, root: Path | None = None) -> ImageCohort:
    """Return the four shared classes of all hospitals, clients and unseen, as one cohort in sites."""
    if asked.source == "smear":
        return smear.simulate(
            5 * (asked.cells or 400),
            size=asked.size,
            sites=(*DRAWN_CLIENTS, *DRAWN_UNSEEN),
            balance={"neutrophil": 0.4, "lymphocyte": 0.3, "monocyte": 0.15, "eosinophil": 0.15},
        )
    if asked.changes.data is not None:
        return at_most(instead_of_the_clients(asked, asked.changes.data, root), asked.cells)
    cohorts = [four_classes(name, asked, root) for name in ("barcelona", "tecom", "bccd", "cellavision")]
    return at_most(data.join(cohorts, "white cells of five hospitals"), asked.cells)


def four_classes(name: str, asked: Protocol, root: Path | None) -> ImageCohort:
    """Return a public cohort with the four classes that all hospitals share."""
    return data.harmonise(data.load_images(name, size=asked.size, root=root), "four")


def instead_of_the_clients(asked: Protocol, name: str, root: Path | None) -> ImageCohort:
    """Return the cells of another cohort to train on, beside those of the unseen hospitals.

    Raises `HemaflError` if the cohort has no other cells than theirs.
    """
    unseen = data.join(
        [four_classes("barcelona", asked, root), four_classes("cellavision", asked, root)], "unseen hospitals"
    )
    cohort = four_classes(name, asked, root)
    others = np.flatnonzero(~np.isin(cohort.site, REAL_UNSEEN))
    if len(others) == 0:
        raise HemaflError(f"data='{name}' is an unseen hospital of '{OFFER.name}'; choose another cohort.")
    held_out = unseen.take(np.flatnonzero(np.isin(unseen.site, REAL_UNSEEN)))
    return data.join([cohort.take(others), held_out], f"{name} beside unseen hospitals")


def eleven(asked: Protocol, root: Path | None = None) -> ImageCohort:
    """Return the cells of eleven classes of one hospital, as they were taken."""
    if asked.source == "smear":
        return smear.simulate(
            5 * (asked.cells or 400), size=asked.size, classes=EXTERNAL_ELEVEN, sites=("north",)
        )
    return data.harmonise(one_hospital(asked, root), "eleven")


def made_into_three(whole: ImageCohort, study: Study, seed: int) -> ImageCohort:
    """Deal the cells of one hospital to two clients and an unseen site, each with a drawn stain of its own.

    The clients differ in their classes (Dirichlet). ``seed`` decides who holds which cell, and the stains.
    """
    order = numpy_generator(seed, "unseen quarter").permutation(len(whole))
    quarter = len(whole) // 4
    unseen = as_site(whole.take(np.sort(order[:quarter])), SPLIT_UNSEEN[0])
    rest = whole.take(np.sort(order[quarter:]))
    halves = partition.dirichlet(rest, sites=2, alpha=study.alpha, seed=seed, validation=0.0, test=0.0)
    clients = [as_site(site.train, name) for site, name in zip(halves, SPLIT_CLIENTS, strict=True)]
    parts = [
        partition.restain(part, partition.draw_stain(study.stain, numpy_generator(seed, "stain", name)))
        for part, name in zip([*clients, unseen], (*SPLIT_CLIENTS, *SPLIT_UNSEEN), strict=True)
    ]
    return data.join(parts, "one hospital made into three")


def one_hospital(asked: Protocol, root: Path | None) -> ImageCohort:
    """Return the cells that are made into three sites: Barcelona's first batch, or another cohort's."""
    if asked.changes.data is not None:
        return data.load_images(asked.changes.data, size=asked.size, root=root)
    return data.load_images("barcelona", size=asked.size, root=root).of_site("barcelona")


def as_site(cohort: ImageCohort, site: str) -> ImageCohort:
    """Return the cohort as one site of the given name."""
    return replace(cohort, site=np.full(len(cohort), site))


EXTERNAL_ELEVEN = tuple(classes.CLASS_SCHEMES["eleven"])
COHORTS = {"hospitals": hospitals, "eleven": eleven}


# The experiment


def run(asked: Protocol, where: Where = HERE) -> Results:
    """Run all studies of a protocol and return their tables; see `Paper`."""
    names = dict.fromkeys(study.cohort for study in asked.studies)
    images: dict[str, ImageCohort] = {name: COHORTS[name](asked, where.root) for name in names}
    read = {name: cache(partial(read_images, asked, where, cells)) for name, cells in images.items()}
    series = each_study(
        asked.studies,
        lambda study: prepare(study, asked, images[study.cohort], read[study.cohort], where),
    )
    data = tuple(cells.provenance for cells in images.values())
    found = run_studies(asked, series, where, data)
    tables = {
        study.title: study_tables(study, found[study.title], images[study.cohort]) for study in asked.studies
    }
    return Results(asked, with_titles(tables), data, found.seconds)


Read = Callable[[str], LabelledCohort]
"""From the name of a network to what is trained of it reads."""


def prepare(
    study: Study, asked: Protocol, images: ImageCohort, read: Read, where: Where
) -> Callable[[int], Piece]:
    """Return what is trained with a seed.

    ``read`` reads the images as they are. The frozen layers of a network are evaluated once, of the hospitals
    for all studies and seeds, of the eleven classes for each seed, which has stains of its own.
    """
    names = tuple(dict.fromkeys(arm.network for arm in study.arms))

    def piece(seed: int) -> Piece:
        cells, read_cells = images, read
        if study.cohort == "eleven":
            cells = made_into_three(images, study, seed)
            read_cells = partial(read_images, asked, where, cells)
        clients = {name: client_sites(read_cells(name), study, seed) for name in names}
        models = {name: initial_network(name, cells, asked.size, seed) for name in names}
        trials = [
            Trial(
                arm=arm,
                seed=seed,
                rounds=asked.rounds,
                sites=clients[arm.network][0],
                model=models[arm.network],
                judged=clients[arm.network][1],
            )
            for arm in study.arms
        ]
        return Piece(trials=trials, beside=partial(beside, study, cells, seed))

    return piece


def initial_network(name: str, cells: ImageCohort, size: int, seed: int) -> nn.Module:
    """Return a network for the classes of the cells; its head, or all of it, begins at random."""
    return image_model(name, len(cells.classes), size=size, seed=seed)


def read_images(asked: Protocol, where: Where, images: ImageCohort, name: str) -> LabelledCohort:
    """Return what is trained of a network reads; the frozen layers are the same for every seed."""
    network = initial_network(name, images, asked.size, seed=0)
    return network_inputs(network, images, asked.variants, where.device)


def network_inputs(
    network: nn.Module, images: ImageCohort, variants: int, device: str | None
) -> LabelledCohort:
    """Return the images, or for a network with frozen layers the activations of their variants."""
    if not isinstance(network, SplitModel):
        return images
    return activations(
        network, images, augmentation=AUGMENTATION, count=variants, device=device, progress=False
    )


def client_sites(
    cohort: Labelled, study: Study, seed: int
) -> tuple[list[Site[Labelled]], dict[str, Labelled]]:
    """Return the clients of a study, split by ``seed``, and what every arm is judged on.

    That is the clients' test rows, their second batches and the unseen hospitals.
    """
    apart = (*study.second, *study.unseen)
    sites = study.way().sites(cohort.take(np.flatnonzero(~np.isin(cohort.site, apart))), seed=seed)
    return sites, {**arms.test_cohorts(sites), **{name: cohort.of_site(name) for name in apart}}


def beside(study: Study, images: ImageCohort, seed: int) -> Tables:
    """Return who holds which cells, and what colour alone says, learnt on the clients' training rows."""
    sites, judged = client_sites(images, study, seed)
    said = learn_and_answer(federation.pooled(sites).train, judged, seed, {"colour alone": learn_colours})
    return {"baselines": arms.answer_table(said), "cells": scores.count_table(images).assign(seed=seed)}


def study_tables(study: Study, found: Tables, images: ImageCohort) -> Tables:
    """Return the tables of one study, by title."""
    predictions = arms.read_answers(found["answers"], found["baselines"])
    tables = scores.study_tables(predictions, found["cost"], images.classes, study.unseen, study.common)
    return tables | {"cells": found["cells"]}


def report(results: Results) -> str:
    """Return each study's balanced accuracy by arm and place, as text."""
    return report_studies(results, about)


def about(study: Study, table: pd.DataFrame) -> str:
    """Return one study's balanced accuracy by arm and place, as text."""
    found = balanced_accuracies(table).to_string()
    return f"{study.title}: balanced accuracy (chance {chance(study):.2f})\n{found}"


def balanced_accuracies(table: pd.DataFrame) -> pd.DataFrame:
    """Return arms by places: the mean over the seeds, with its 95 % interval if there are several."""
    return scores.interval_table(table, "balanced accuracy")


def chance(study: Study) -> float:
    """Return the balanced accuracy of always naming the same class."""
    return 1 / len(classes.CLASS_SCHEMES["four" if study.cohort == "hospitals" else "eleven"])
