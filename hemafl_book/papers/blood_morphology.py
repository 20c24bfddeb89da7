"""Chapter 1: white cells over hospitals with different stains, and a hospital nobody trained on.

The protocol of MORPHFED (Ansah, Ruffell, Fernandez-Reyes and Manescu, arXiv 2601.04121, 2026), on
data that everybody can get: 5 rounds of 5 local epochs, a pretrained backbone of which the last
layers are trained, focal loss, weighted sampling, gradient accumulation and clipping, four
aggregators, isolated and centralised training beside them. What the paper leaves open (optimiser,
learning rates, batch size, gamma, mu) is our choice and stands in `recipe`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from torch import nn

from hemafl_book.papers import compare as compared
from hemafl_book.papers.baselines import colour_probabilities
from hemafl_book.papers.compare import Arm, Prediction, compare
from hemafl_book.papers.protocol import check_choices
from hemafl_book.results import Results
from hemafl_lib import data, partition
from hemafl_lib.aggregation import FedAdam, FedAvg, FedMedian
from hemafl_lib.augmentation import Augmentation
from hemafl_lib.data import classes, smear
from hemafl_lib.data.cohort import ImageCohort, LabelledCohort, Provenance
from hemafl_lib.models import AttentionCNN, SplitModel, activations, backbone, trained_part, with_norm
from hemafl_lib.models.norms import Norm
from hemafl_lib.partition import Site
from hemafl_lib.seeds import numpy_generator
from hemafl_lib.training import Recipe

NAME = "blood-morphology"
SOURCES = ("real", "smear")
EMBEDDED = "SIMULATED data"
BACKBONE = "efficientnet_lite0"
AUGMENTATION = Augmentation(translate=0.10, rotate=5.0)
REAL_CLIENTS, REAL_UNSEEN = ("barcelona", "bccd", "tecom"), ("barcelona-2", "cellavision")
DRAWN_CLIENTS, DRAWN_UNSEEN = ("east", "north", "south"), ("harbour", "west")
SPLIT_CLIENTS, SPLIT_UNSEEN = ("first", "second"), ("third",)
EXTERNAL_NINE = tuple(classes.NINE)


@dataclass(frozen=True)
class Study:
    """One table of the experiment: a cohort in sites, and the arms compared on it.

    ``cohort`` is "hospitals" (four shared classes) or "eleven" (eleven classes, one hospital made
    into sites), ``seeds`` are those of split and training, and ``common`` names classes to which the
    evaluation is also restricted.
    """

    title: str
    cohort: Literal["hospitals", "eleven"]
    clients: tuple[str, ...]
    unseen: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    common: tuple[str, ...] = ()


@dataclass(frozen=True)
class Protocol:
    """Everything that decides the numbers, apart from the data's bytes and the seeds.

    ``source`` is "real" (the folder of HEMAFL_DATA) or "smear" (simulated). ``size`` is the side of
    the images in pixels, ``cells`` the largest number of cells of one site (None: all), ``variants``
    the augmented variants of an image that the frozen layers are evaluated on.
    """

    preset: str
    source: Literal["real", "smear"]
    size: int
    cells: int | None
    variants: int
    rounds: int
    studies: tuple[Study, ...]

    def described(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        studies = [
            {**asdict(study), "arms": [arm.described() for arm in study.arms]} for study in self.studies
        ]
        return {**asdict(self), "studies": studies, "augmentation": asdict(AUGMENTATION)}


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
    shared = {"recipe": recipe(), "network": network, "norm": norm}
    return (
        Arm("isolated", kind="isolated", **shared),
        Arm("FedAvg", **shared),
        Arm("FedAvg, equal weights", aggregator=FedAvg(equal_weights=True), **shared),
        Arm("FedMedian", aggregator=FedMedian(), **shared),
        Arm("FedProx", **{**shared, "recipe": recipe(proximal=0.01)}),
        Arm("FedOpt", aggregator=FedAdam(learning_rate=0.01), **shared),
        Arm("centralised", kind="centralised", **shared),
    )


def server_arms() -> tuple[Arm, ...]:
    """Return FedOpt under what may have made it collapse: its rate and epsilon, batch norm's buffers."""
    arms = []
    for rate, epsilon in ((0.01, 1e-3), (0.1, 1e-3), (0.1, 1e-1)):
        for norm, change in NORM_CHANGES.items():
            name = f"server rate {rate:g}, epsilon {epsilon:g}, {norm}"
            adam = FedAdam(learning_rate=rate, epsilon=epsilon)
            arms.append(Arm(name, aggregator=adam, recipe=recipe(), network=BACKBONE, **change))
    return tuple(arms)


NORM_CHANGES: Mapping[str, Mapping[str, Any]] = {
    "batch norm, Adam on its statistics": {"optimise_buffers": True},
    "batch norm, statistics averaged": {},
    "frozen batch norm": {"norm": "frozen"},
    "group norm": {"norm": "group"},
}


def imbalance_arms() -> tuple[Arm, ...]:
    """Return the 2 x 2 of focal loss and weighted sampling, under FedAvg."""
    return tuple(
        Arm(
            f"{loss.replace('_', '-')}, {'weighted' if weighted else 'plain'} sampling",
            recipe=recipe(loss=loss, balanced_sampler=weighted),
            network=BACKBONE,
            norm="group",
        )
        for loss in ("cross_entropy", "focal")
        for weighted in (False, True)
    )


def protocol(preset: str = "quick", source: str = "smear", network: str = BACKBONE) -> Protocol:
    """Return the protocol of a preset.

    Parameters
    ----------
    preset
        "quick" (the four classes, minutes) or "paper" (everything, five seeds).
    source
        "real" or "smear".
    network
        The backbone of the main comparisons: "efficientnet_lite0", or "resnet34" and "dinov2_s" where
        their weights are.

    Raises
    ------
    HemaflError
        If the preset or the source is unknown.
    """
    check_choices(preset=(preset, PRESETS), source=(source, SOURCES))
    clients, unseen = (REAL_CLIENTS, REAL_UNSEEN) if source == "real" else (DRAWN_CLIENTS, DRAWN_UNSEEN)
    size = 96 if network == BACKBONE else 224
    few, all_five = (0, 1, 2), (0, 1, 2, 3, 4)
    batch = Study("batch norm", "hospitals", clients, unseen, aggregator_arms(network), all_five)
    group = replace(batch, title="group norm", arms=aggregator_arms(network, "group"))
    if preset == "quick":
        return Protocol("quick", source, size, 240, 1, 5, (replace(group, seeds=(0,)),))
    parted = (
        *aggregator_arms(network, "group"),
        *renamed(the_papers(aggregator_arms(network)), "batch norm"),
    )
    studies = (
        batch,
        group,
        Study("eleven classes", "eleven", SPLIT_CLIENTS, SPLIT_UNSEEN, parted, all_five, EXTERNAL_NINE),
        replace(batch, title="server optimiser", arms=server_arms(), seeds=few),
        replace(batch, title="imbalance", arms=imbalance_arms(), seeds=few),
        replace(batch, title="attention CNN", arms=the_papers(aggregator_arms("attention_cnn")), seeds=few),
    )
    return Protocol("paper", source, size, None, 4, 5, studies)


def the_papers(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return the arms of the four aggregators that the paper compares."""
    return tuple(arm for arm in arms if arm.name in ("FedAvg", "FedMedian", "FedProx", "FedOpt"))


def renamed(arms: Sequence[Arm], addition: str) -> tuple[Arm, ...]:
    """Return the arms with an addition to their names."""
    return tuple(replace(arm, name=f"{arm.name}, {addition}") for arm in arms)


PRESETS = ("quick", "paper")


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
    names = ("barcelona", "tecom", "bccd", "cellavision")
    cohorts = [data.harmonise(data.load_images(name, size=asked.size, root=root), "four") for name in names]
    return at_most(data.join(cohorts, "white cells of five hospitals"), asked.cells)


def at_most(cohort: ImageCohort, cells: int | None) -> ImageCohort:
    """Return at most ``cells`` randomly chosen cells of each site, always the same ones; None keeps all."""
    if cells is None:
        return cohort
    kept = []
    for site in cohort.sites:
        rows = np.flatnonzero(cohort.site == site)
        chosen = numpy_generator(0, "at most", site).permutation(rows)[:cells]
        kept.append(np.sort(chosen))
    return cohort.take(np.concatenate(kept))


def eleven(asked: Protocol, root: Path | None = None) -> ImageCohort:
    """Return eleven classes of one hospital, dealt to two clients and an unseen site of their own stain.

    The clients differ in their classes (Dirichlet, alpha 1); each of the three sites is restained.
    """
    if asked.source == "smear":
        whole = smear.simulate(
            5 * (asked.cells or 400), size=asked.size, classes=EXTERNAL_ELEVEN, sites=("north",)
        )
    else:
        loaded = data.load_images("barcelona", size=asked.size, root=root)
        whole = data.harmonise(loaded.of_site("barcelona"), "eleven")
    order = numpy_generator(0, "unseen quarter").permutation(len(whole))
    quarter = len(whole) // 4
    unseen = named(whole.take(np.sort(order[:quarter])), SPLIT_UNSEEN[0])
    rest = whole.take(np.sort(order[quarter:]))
    halves = partition.dirichlet(rest, sites=2, alpha=1.0, seed=0, validation=0.0, test=0.0)
    clients = [named(site.train, name) for site, name in zip(halves, SPLIT_CLIENTS, strict=True)]
    parts = [
        partition.restain(part, partition.draw_stain(1.0, numpy_generator(0, "stain", name)))
        for part, name in zip([*clients, unseen], (*SPLIT_CLIENTS, *SPLIT_UNSEEN), strict=True)
    ]
    return data.join(parts, "one hospital made into three")


def named(cohort: ImageCohort, site: str) -> ImageCohort:
    """Return the cohort as one site of the given name."""
    return replace(cohort, site=np.full(len(cohort), site))


EXTERNAL_ELEVEN = tuple(classes.SCHEMES["eleven"])
COHORTS = {"hospitals": hospitals, "eleven": eleven}


# The experiment


@dataclass(frozen=True)
class Prepared:
    """A study's networks, and its sites and unseen hospitals as each network reads them.

    All arms share them: the frozen layers are evaluated once, for all seeds and aggregators.
    """

    networks: Mapping[str, nn.Module]
    sites: Mapping[tuple[int, str], Sequence[Site]]
    unseen: Mapping[str, Mapping[str, LabelledCohort]]

    def model(self, arm: Arm) -> nn.Module:
        """Return what an arm trains: the network, or its part after the frozen layers."""
        return with_norm(trained_part(self.networks[arm.network]), arm.norm)

    def judged(self, seed: int, network: str) -> dict[str, LabelledCohort]:
        """Return what every arm predicts: the clients' test rows, and the unseen hospitals."""
        return {**compared.test_cohorts(self.sites[seed, network]), **self.unseen[network]}


def prepare(
    study: Study, asked: Protocol, images: ImageCohort, seeds: Sequence[int], device: str = "cpu"
) -> Prepared:
    """Return a study's networks, sites of every seed and unseen hospitals."""
    names = dict.fromkeys(arm.network for arm in study.arms)
    networks = {name: initial_network(name, len(images.classes), asked.size) for name in names}
    inputs = {name: network_inputs(networks[name], images, asked.variants, device) for name in names}
    return Prepared(
        networks=networks,
        sites={(seed, name): client_sites(inputs[name], study, seed) for seed in seeds for name in names},
        unseen={name: {place: inputs[name].of_site(place) for place in study.unseen} for name in names},
    )


def network_inputs(network: nn.Module, images: ImageCohort, variants: int, device: str) -> LabelledCohort:
    """Return the images, or for a network with frozen layers the activations of their variants."""
    if not isinstance(network, SplitModel):
        return images
    return activations(
        network, images, augmentation=AUGMENTATION, count=variants, device=device, progress=False
    )


def client_sites(cohort: LabelledCohort, study: Study, seed: int) -> list[Site]:
    """Return the clients of a study, split by ``seed``."""
    return partition.natural(cohort.take(np.flatnonzero(np.isin(cohort.site, study.clients))), seed=seed)


def initial_network(name: str, classes: int, size: int) -> nn.Module:
    """Return the attention CNN or a backbone; a warning says if its weights are random."""
    if name == "attention_cnn":
        return AttentionCNN(classes)
    return backbone(name, classes, size=size)


def run(
    asked: Protocol,
    *,
    seed: int | None = None,
    root: Path | None = None,
    engine: str = "local",
    device: str = "cpu",
    progress: bool | None = None,
) -> Results:
    """Run all studies of a protocol and return their tables.

    Parameters
    ----------
    asked
        As `protocol` returns it.
    seed
        Of split and training, instead of those that the protocol names.
    root
        Folder of the real data, by default HEMAFL_DATA.
    engine, device, progress
        See `federation.run`.
    """
    began = time.monotonic()
    tables: dict[str, pd.DataFrame] = {}
    sources: list[Provenance] = []
    for study in asked.studies:
        seeds = study.seeds if seed is None else (seed,)
        images = COHORTS[study.cohort](asked, root)
        sources.append(images.provenance)
        prepared = prepare(study, asked, images, seeds, device)
        predictions, costs = compare(
            study.arms,
            seeds,
            sites_for=lambda seed, network, ready=prepared: ready.sites[seed, network],
            model_for=prepared.model,
            cohorts_for=prepared.judged,
            rounds=asked.rounds,
            engine=engine,
            device=device,
            progress=progress,
        )
        tables |= study_tables(study, images, [*predictions, *baselines(study, images, seeds)], costs)
    used = (seed,) if seed is not None else sorted({s for study in asked.studies for s in study.seeds})
    return Results(asked, tables, tuple(dict.fromkeys(sources)), tuple(used), time.monotonic() - began)


def baselines(study: Study, images: ImageCohort, seeds: Sequence[int]) -> list[Prediction]:
    """Return what colour alone says, learnt on the pooled training rows of the clients."""
    found = []
    for seed in seeds:
        sites = client_sites(images, study, seed)
        train = data.join([site.train for site in sites], "pooled")
        cohorts = {**compared.test_cohorts(sites), **{name: images.of_site(name) for name in study.unseen}}
        for where, cohort in cohorts.items():
            found.append(
                Prediction(
                    "colour alone", seed, where, cohort.labels.numpy(), colour_probabilities(train, cohort)
                )
            )
    return found


def study_tables(
    study: Study, images: ImageCohort, predictions: Sequence[Prediction], costs: Sequence[compared.Cost]
) -> dict[str, pd.DataFrame]:
    """Return the tables of one study, by title."""
    everything = list(predictions)
    if study.common:
        places = ("joint", *study.unseen)
        everything += [
            compared.restricted(p, images.classes, study.common) for p in predictions if p.where in places
        ]
    wide = [p for p in predictions if p.where in ("joint", *study.unseen)]
    tables = {
        "scores": compared.scores(everything),
        "cost": compared.costs(costs),
        "cells": cell_counts(images),
    }
    if any(arm.kind == "centralised" for arm in study.arms):
        tables["per class"] = compared.per_class(wide, images.classes)
        tables["differences"] = pd.concat(
            compared.differences(predictions, "centralised", place) for place in study.unseen
        )
    return {f"{study.title}: {name}": table for name, table in tables.items()}


def cell_counts(images: ImageCohort) -> pd.DataFrame:
    """Return the number of cells of each class at each site."""
    counts = {site: images.of_site(site).counts() for site in images.sites}
    return pd.DataFrame(counts, index=images.classes).T.rename_axis("site").reset_index()


def report(results: Results) -> str:
    """Return each study's balanced accuracy by arm and place, as text."""
    parts = []
    for study in results.protocol.studies:
        table = balanced_accuracies(results.tables[f"{study.title}: scores"])
        parts.append(f"{study.title}: balanced accuracy (chance {chance(study):.2f})\n{table.to_string()}")
    return "\n\n".join(parts)


def balanced_accuracies(scores: pd.DataFrame) -> pd.DataFrame:
    """Return arms by places: the mean over the seeds, with its 95 % interval if there are several."""
    return compared.shown(scores, "balanced accuracy")


def chance(study: Study) -> float:
    """Return the balanced accuracy of always naming the same class."""
    return 1 / len(classes.SCHEMES["four" if study.cohort == "hospitals" else "eleven"])
