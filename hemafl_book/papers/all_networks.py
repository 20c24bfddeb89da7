"""Chapter 3: the paper's pipeline, from several networks to a federation of the good ones; and copies.

World Journal of Advanced Research and Reviews 24(03), 2795-2806 (2024) compares ten networks, sends those
above 90 % to a federation of 10 rounds of 5 local epochs, and does both on the same test images. Here the
networks are those whose ImageNet weights come with a package, all at the paper's 224 pixels, the last layer
of each is trained, and nothing is chosen on a test image: with every seed a network has several learning
rates, the best on the validation images is kept, and networks whose validation accuracy reaches the paper's
bar go on to the federation with the rate that they have. Only then are the test images looked at. An ensemble
gives the mean of the probabilities of all networks above the bar.

A second study compares what the copies of an image are worth: the paper's flips against quarter turns and
other sizes, which it promises as well, and against none. Copies are of training images only. As copies make
epochs longer, training without any stands there twice: with as many epochs, and with as many optimiser steps.

A seed decides the split, the dealing, the initial weights of what is trained, and the order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from hemafl_book.papers import leukaemia
from hemafl_book.papers.arms import Arm, Prediction, Tables, Trial, predictions, train
from hemafl_book.papers.baselines import learn_and_answer, learners
from hemafl_book.papers.changes import UNCHANGED, Changes
from hemafl_book.papers.copies import (
    FLIPS,
    ROTATIONS,
    SCALINGS,
    Change,
    in_rows,
    network_inputs,
    originals,
)
from hemafl_book.papers.dealing import Deal
from hemafl_book.papers.leukaemia import BACKBONE, recipe
from hemafl_book.papers.macro_scores import measures, score_rows
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.protocol import OfStudies, describe
from hemafl_book.papers.studies import Piece, each_study, run_studies, with_column
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results
from hemafl_lib import evaluation, federation, partition
from hemafl_lib.data.cohort import ImageCohort, VariantCohort
from hemafl_lib.models import image_model
from hemafl_lib.partition import Site

NETWORKS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
"""Networks whose ImageNet weights come with a package; of the paper's ten none does."""

BAR = 0.9
"""Networks whose accuracy on the validation images is at least this go on to the federation: the paper's bar,
taken over as it is."""

RATES = (3e-3, 1e-2, 3e-2)
"""Learning rates that are tried on the validation images, for every network and seed."""

CLIENTS, ROUNDS, MINIMUM = 3, 10, 10
VALIDATION, TEST = 0.1, 0.2

CENTRALISED, FEDERATED = "centralised", "FedAvg"
ENSEMBLE, CHOSEN = "ensemble", "chosen by validation"
"""What stands in the place of a network's name: the mean of all above the bar, and the best of them."""

COPIES: Mapping[str, Mapping[str, Change]] = {
    "four flips": FLIPS,
    "quarter turns": ROTATIONS,
    "other sizes": SCALINGS,
}
"""What is made of an image in the training set, by the name of an arm: four copies, the first unchanged."""

NONE, LONGER = "no copies", "no copies, as many steps"

OFFER = Offer(
    name="all-networks",
    title="networks chosen by validation and federated, and what copies are worth (chapter 3)",
    sources=("real", "smear"),
    embedded="SIMULATED data",
    takes=("seed", "rounds", "local_epochs"),
    reads=(leukaemia.HOSPITAL,),
)


@dataclass(frozen=True)
class Pipeline:
    """Networks that are compared on the validation images of each seed, and federated if they are good."""

    title: str
    networks: tuple[str, ...]
    rates: tuple[float, ...]
    size: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Copying:
    """One network, trained in one place on images and on different copies of them."""

    title: str
    network: str
    copies: tuple[str, ...]
    size: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Protocol(OfStudies):
    """Everything that decides the numbers, apart from the data's bytes and the seeds.

    ``source`` is "real" (the folder of HEMAFL_DATA) or "smear" (simulated); ``cells`` of ``patients`` are
    simulated.
    """

    preset: str
    source: str
    cells: int
    patients: int
    studies: tuple[Pipeline | Copying, ...]
    bar: float = BAR
    rounds: int = ROUNDS
    local_epochs: int = recipe().local_epochs
    changes: Changes = UNCHANGED

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        return describe(
            self,
            recipe=asdict(recipe(local_epochs=self.local_epochs)),
            clients=CLIENTS,
            minimum=MINIMUM,
            validation=VALIDATION,
            test=TEST,
            trained="head",
            copied={name: list(copies) for name, copies in COPIES.items()},
            initial="by seed",
        )


def protocol(preset: str = "quick", source: str = "smear", changes: Changes = UNCHANGED) -> Protocol:
    """Return the protocol of a preset on a source of data, with ``changes``.

    Parameters
    ----------
    preset
        "quick" (two networks at 64 pixels, one seed) or "paper" (three at 224 pixels, five seeds).
    source
        "real" or "smear".

    Raises
    ------
    HemaflError
        If something is unknown.
    """
    OFFER.check(preset, source, changes)
    rounds, epochs = changes.rounds or ROUNDS, changes.local_epochs or recipe().local_epochs
    seeds = changes.seeds((0,) if preset == "quick" else (0, 1, 2, 3, 4))
    if preset == "quick":
        networks = Pipeline("networks", NETWORKS[:2], RATES, 64, seeds)
        copied = Copying("copies", BACKBONE, tuple(COPIES), 64, seeds)
        return Protocol("quick", source, 400, 20, (networks, copied), BAR, rounds, epochs, changes)
    networks = Pipeline("networks", NETWORKS, RATES, 224, seeds)
    copied = Copying("copies", BACKBONE, tuple(COPIES), 96, seeds)
    return Protocol("paper", source, 1000, 89, (networks, copied), BAR, rounds, epochs, changes)


# The data


def smears(asked: Protocol, size: int, root: Path | None = None) -> ImageCohort:
    """Return all images of Taleqani Hospital, or simulated ones, each of which counts as a patient."""
    if asked.source == "real":
        images = leukaemia.real_images(None, size, root)
    else:
        images = leukaemia.drawn_images(asked.cells, size, asked.patients, leukaemia.SHARES)
    return partition.grouped(images, np.arange(len(images)))


def equal_clients(cohort: VariantCohort, seed: int) -> list[Site[VariantCohort]]:
    """Split the images and deal them to three equal clients; all copies of an image stay together."""
    return Deal("iid", CLIENTS, minimum=MINIMUM).sites(
        cohort, seed=seed, validation=VALIDATION, test=TEST, split_by="patient", split_within="cohort"
    )


def with_rows(
    site: Site[VariantCohort],
    trained: Callable[[VariantCohort], VariantCohort],
    judged: Callable[[VariantCohort], VariantCohort],
) -> Site[VariantCohort]:
    """Return a site whose images became rows, those that are trained on and those that judge."""
    return Site(site.name, trained(site.train), judged(site.validation), judged(site.test))


# The experiment


class Inputs:
    """The images by their size, and what a network reads of them."""

    def __init__(self, asked: Protocol, where: Where) -> None:
        self.asked, self.where = asked, where
        sizes = dict.fromkeys(study.size for study in asked.studies)
        self.images = {size: smears(asked, size, where.root) for size in sizes}
        (self.classes,) = {len(images.classes) for images in self.images.values()}

    def network(self, name: str, seed: int) -> nn.Module:
        """Return a network whose last layer begins with weights that the seed draws."""
        return image_model(name, self.classes, trainable="head", seed=seed)

    def read(self, name: str, size: int, copies: Mapping[str, Change]) -> VariantCohort:
        """Return the copies of all images as a network reads them; the same for every seed."""
        network = self.network(name, 0)
        return network_inputs(network, self.images[size], copies=copies, device=self.where.device)

    def fit(
        self, arm: Arm, seed: int, sites: Sequence[Site[VariantCohort]], judged: Mapping[str, VariantCohort]
    ) -> list[Prediction]:
        """Train an arm, and return what its model says about the cohorts that it is judged on."""
        one = Trial(
            arm=arm,
            seed=seed,
            rounds=self.asked.rounds,
            sites=sites,
            model=self.network(arm.network, seed),
            judged=judged,
        )
        return predictions(one, train(one, self.where), self.where)


def run(asked: Protocol, where: Where = HERE) -> Results:
    """Run all studies of a protocol and return their tables; see `Paper`."""
    inputs = Inputs(asked, where)
    data = tuple(dict.fromkeys(images.provenance for images in inputs.images.values()))
    found = run_studies(asked, each_study(asked.studies, lambda study: prepare(study, inputs)), where, data)
    return Results(asked, with_column(found.tables), data, found.seconds)


def prepare(study: Pipeline | Copying, inputs: Inputs) -> Callable[[int], Piece]:
    """Return what is computed with a seed; the frozen layers are evaluated once, for all seeds."""
    if isinstance(study, Pipeline):
        read = {name: inputs.read(name, study.size, FLIPS) for name in study.networks}
        return lambda seed: Piece(beside=partial(pipeline, study, inputs, read, seed))
    copied = {name: inputs.read(study.network, study.size, COPIES[name]) for name in study.copies}
    return lambda seed: Piece(beside=partial(compare_copies, study, inputs, copied, seed))


@dataclass(frozen=True)
class Tried:
    """A network with a learning rate, trained in one place, and its accuracy on the validation images."""

    network: str
    rate: float
    accuracy: float


def pipeline(study: Pipeline, inputs: Inputs, read: Mapping[str, VariantCohort], seed: int) -> Tables:
    """Return the scores of all networks, alone and federated, and how they were chosen."""
    sites = {
        name: [with_rows(site, in_rows, in_rows) for site in equal_clients(cohort, seed)]
        for name, cohort in read.items()
    }
    tried = [one for name in study.networks for one in try_rates(study, inputs, name, sites[name], seed)]
    kept = [max((one for one in tried if one.network == name), key=accuracy_of) for name in study.networks]
    passed = [one for one in kept if one.accuracy >= inputs.asked.bar]
    said = without_a_network(inputs.images[study.size], seed)
    for way, trained in ((CENTRALISED, kept), (FEDERATED, passed)):
        own: dict[str, list[Prediction]] = {}
        for one in trained:
            of_network = sites[one.network]
            arm = arm_of(way, one.network, one.rate, inputs.asked)
            own[one.network] = inputs.fit(arm, seed, of_network, both_sides(of_network))
            said += own[one.network]
        if passed:
            best = max(passed, key=accuracy_of)
            said += [replace(p, arm=f"{way}: {CHOSEN}") for p in own[best.network]]
            said += ensemble([own[one.network] for one in passed], f"{way}: {ENSEMBLE}")
    return {"scores": score_rows(said), "choice": choice_table(tried, kept, passed, seed)}


def accuracy_of(one: Tried) -> float:
    """Return what networks and rates are chosen by."""
    return one.accuracy


def try_rates(
    study: Pipeline, inputs: Inputs, name: str, sites: Sequence[Site[VariantCohort]], seed: int
) -> list[Tried]:
    """Train a network in one place with each learning rate, and judge it on the validation images."""
    judged = {"validation": federation.pooled(sites).validation}
    found = []
    for rate in study.rates:
        (p,) = inputs.fit(arm_of(CENTRALISED, name, rate, inputs.asked), seed, sites, judged)
        right = evaluation.accuracy(p.labels, p.probabilities.argmax(axis=1))
        found.append(Tried(name, rate, right))
    return found


def choice_table(
    tried: Sequence[Tried], kept: Sequence[Tried], passed: Sequence[Tried], seed: int
) -> pd.DataFrame:
    """Return what was tried, one row a network and rate: was the rate kept, did the network pass the bar."""
    rows = [
        {
            "seed": seed,
            "network": one.network,
            "learning rate": one.rate,
            "validation accuracy": one.accuracy,
            "kept": one in kept,
            "passed": one in passed,
        }
        for one in tried
    ]
    return pd.DataFrame(rows)


def arm_of(way: str, network: str, rate: float, asked: Protocol) -> Arm:
    """Return the training of a network in one place or in the federation."""
    return Arm(
        f"{way}: {network}",
        kind="centralised" if way == CENTRALISED else "federated",
        recipe=recipe(learning_rate=rate, local_epochs=asked.local_epochs),
        network=network,
    )


def both_sides(sites: Sequence[Site[VariantCohort]]) -> dict[str, VariantCohort]:
    """Return the validation and the test rows of all clients together."""
    pooled = federation.pooled(sites)
    return {"validation": pooled.validation, "test": pooled.test}


def ensemble(members: Sequence[Sequence[Prediction]], name: str) -> list[Prediction]:
    """Return the mean of the members' probabilities, place by place; all answer for the same rows."""
    return [
        replace(together[0], arm=name, probabilities=np.mean([p.probabilities for p in together], axis=0))
        for together in zip(*members, strict=True)
    ]


def without_a_network(images: ImageCohort, seed: int) -> list[Prediction]:
    """Return what fifteen colour statistics and the commonest class say of the test images.

    Flips change neither, so every image counts once; every fourth pixel of every fourth line is enough.
    """
    thinned = replace(images, images=images.images[:, :, ::4, ::4])
    parts, _, test = partition.split(thinned, validation=VALIDATION, test=TEST, seed=seed)
    return learn_and_answer(parts, {"test": test}, seed, learners(seed))


def compare_copies(study: Copying, inputs: Inputs, copied: Mapping[str, VariantCohort], seed: int) -> Tables:
    """Return the scores of a network that was trained on different copies of the training images."""
    plain, longer = recipe(local_epochs=inputs.asked.local_epochs), len(FLIPS) * inputs.asked.local_epochs
    first = copied[study.copies[0]]
    ways: list[tuple[str, VariantCohort, Callable[[VariantCohort], VariantCohort], int]] = [
        (NONE, first, originals, plain.local_epochs),
        (LONGER, first, originals, longer),
        *((name, cohort, in_rows, plain.local_epochs) for name, cohort in copied.items()),
    ]
    said = []
    for name, cohort, trained, epochs in ways:
        sites = [with_rows(site, trained, originals) for site in equal_clients(cohort, seed)]
        arm = Arm(name, kind="centralised", recipe=replace(plain, local_epochs=epochs), network=study.network)
        said += inputs.fit(arm, seed, sites, {"test": federation.pooled(sites).test})
    return {"scores": score_rows(said)}


def report(results: Results) -> str:
    """Return each study's measures by arm on the test images, as text."""
    table = results.tables["scores"]
    return "\n\n".join(
        f"{study.title}\n{measures(rows_of(table, study.title)).to_string()}"
        for study in results.protocol.studies
    )


def rows_of(table: pd.DataFrame, title: str) -> pd.DataFrame:
    """Return the rows of a study on the test images."""
    return table[(table["study"] == title) & (table["where"] == "test")]
