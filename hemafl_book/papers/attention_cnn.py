"""Chapter 2: a small attention CNN on leukaemia smears, over hospitals with different classes.

The protocol of Awan, Khan, Strakos et al. (Sci Rep 16, 9768, 2026) on the same 3,256 public images:
a network of about 33,000 parameters, three and five clients, label skew, averaging weighted by the
number of images. The paper raises clients and rounds together; here they are a factorial. What it
leaves open (attention, optimiser, learning rate, rounds, shares of the classes) is our choice and
stands in `recipe`, `ALPHA` and `NETWORKS`.

All numbers of clients share one test set a seed, so that their answers can be compared image by image.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from torch import nn

from hemafl_book.papers import compare as compared
from hemafl_book.papers import confidence, nuclei
from hemafl_book.papers.baselines import colour_probabilities, majority_probabilities
from hemafl_book.papers.compare import Arm, Cost, Prediction, compare
from hemafl_book.papers.protocol import check_choices
from hemafl_book.results import Results
from hemafl_lib import data, evaluation, federation, partition
from hemafl_lib.aggregation import FedAvg
from hemafl_lib.augmentation import Augmentation
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import ImageCohort, LabelledCohort
from hemafl_lib.errors import HemaflError
from hemafl_lib.models import AttentionCNN, with_norm
from hemafl_lib.partition import Site
from hemafl_lib.training import Recipe

NAME = "attention-cnn"
ALPHA = 0.5
"""Dirichlet parameter of the clients' classes: the smaller, the more they differ."""

MINIMUM = 100
"""Fewest images of a client, all parts together."""

PLAIN = "plain_cnn"
NETWORKS = {
    "attention_cnn": partial(AttentionCNN, attention="se"),
    PLAIN: partial(AttentionCNN, attention="none"),
}
"""What a study can train, by the name in `Arm.network`; called with the number of classes."""

Kept = Literal["image", "near duplicates", "blocks", "patients"]
Colours = Literal["as they are", "reinhard", "macenko"]
PRESETS = ("quick", "paper")
SOURCES = ("real", "smear")
EMBEDDED = "SIMULATED data"


@dataclass(frozen=True)
class Study:
    """One table of the experiment: clients, rounds, and the arms compared on them.

    Parameters
    ----------
    title
        Begins the titles of the study's tables.
    clients, rounds, arms, seeds
        What is trained; ``seeds`` are those of the split, the dealing and the training.
    together
        What stays on one side of the split: single images, groups of near duplicates, blocks of
        neighbouring file numbers, or patients (where the data name them).
    colours
        Whether all images get the mean colours of the cohort (`partition.reinhard`) or its mean dyes
        (`partition.macenko`).
    stain
        How far each client's stain is moved, 0 for not at all.
    """

    title: str
    clients: int
    rounds: int
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    together: Kept = "image"
    colours: Colours = "as they are"
    stain: float = 0.0


@dataclass(frozen=True)
class Protocol:
    """Everything that decides the numbers, apart from the data's bytes and the seeds.

    ``source`` is "real" (the folder of HEMAFL_DATA) or "smear" (simulated), ``size`` the side of the
    images in pixels, ``cells`` how many are simulated. ``confidence`` and ``pairs`` name studies: the one
    whose confidence is studied, and pairs of studies whose federated models are compared image by image.
    ``explained`` is for how many rounds a network is trained whose maps are held against drawn nuclei.
    """

    preset: str
    source: Literal["real", "smear"]
    size: int
    cells: int
    studies: tuple[Study, ...]
    confidence: str
    pairs: tuple[tuple[str, str], ...] = ()
    explained: int = 0

    def described(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        studies = [
            {**asdict(study), "arms": [arm.described() for arm in study.arms]} for study in self.studies
        ]
        fixed = {"alpha": ALPHA, "minimum": MINIMUM, "level": confidence.LEVEL}
        return {**asdict(self), "studies": studies, **fixed}


def recipe(**changes: Any) -> Recipe:
    """Return how a client trains; the paper says nothing about it.

    Each client draws its classes equally often. Without that a client whose images are of one class
    unlearns the others in every round, and the accuracy depends on the luck of the deal.
    """
    ours = Recipe(
        optimiser="adamw",
        learning_rate=6e-3,
        schedule="cosine",
        batch_size=16,
        local_epochs=1,
        balanced_sampler=True,
        augmentation=Augmentation(flips=True),
    )
    return replace(ours, **changes)


ISOLATED = Arm("isolated", kind="isolated", recipe=recipe())
FEDERATED = Arm("FedAvg", recipe=recipe())
CENTRALISED = Arm("centralised", kind="centralised", recipe=recipe())
ABLATIONS = (
    replace(FEDERATED, name="FedAvg without attention", network=PLAIN),
    replace(FEDERATED, name="FedAvg, equal weights", aggregator=FedAvg(equal_weights=True)),
    replace(FEDERATED, name="FedAvg, plain sampling", recipe=recipe(balanced_sampler=False)),
    replace(FEDERATED, name="FedAvg, group norm", norm="group"),
)
JITTERED = replace(
    FEDERATED,
    name="FedAvg, stain jitter",
    recipe=recipe(augmentation=Augmentation(flips=True, stain=0.3)),
)


def protocol(preset: str = "quick", source: str = "smear", network: str = "attention_cnn") -> Protocol:
    """Return the protocol of a preset.

    Parameters
    ----------
    preset
        "quick" (half a minute) or "paper" (everything, half an hour).
    source
        "real" or "smear".
    network
        What the main comparisons train, a key of `NETWORKS`.

    Raises
    ------
    HemaflError
        If one of them is unknown.
    """
    check_choices(preset=(preset, PRESETS), source=(source, SOURCES), network=(network, NETWORKS))
    three = tuple(replace(arm, network=network) for arm in (ISOLATED, FEDERATED, CENTRALISED))
    alone = three[1:2]
    if preset == "quick":
        study = Study("3 clients", 3, 8, three, (0,))
        return Protocol("quick", source, 32, 1200, (study,), confidence=study.title)
    few, many, all_five, first = 8, 16, (0, 1, 2, 3, 4), (0, 1, 2)
    factorial = (
        Study(f"3 clients, {few} rounds", 3, few, alone, all_five),
        Study(f"3 clients, {many} rounds", 3, many, alone, all_five),
        Study(f"5 clients, {few} rounds", 5, few, alone, all_five),
        Study(f"5 clients, {many} rounds", 5, many, three, all_five),
    )
    short = Study("ablation", 5, few, ABLATIONS, first)
    variations = (
        short,
        replace(short, title="Reinhard's colours", clients=3, arms=alone, colours="reinhard"),
        replace(short, title="Macenko's dyes", clients=3, arms=alone, colours="macenko"),
        replace(short, title="stain shift", clients=3, arms=(FEDERATED, JITTERED), stain=1.0),
        *(
            replace(short, title=f"{kept} together", clients=3, arms=alone, together=kept)
            for kept in (("near duplicates", "blocks") if source == "real" else ("patients",))
        ),
    )
    titles = [study.title for study in factorial]
    pairs = ((titles[0], titles[3]), (titles[1], titles[3]), (titles[0], titles[1]))
    return Protocol("paper", source, 64, 3256, (*factorial, *variations), titles[3], pairs, explained=60)


# The data


def smears(asked: Protocol, root: Path | None = None) -> ImageCohort:
    """Return all images of the protocol: those of Taleqani Hospital, or simulated ones of one hospital."""
    if asked.source == "real":
        return data.load_images("taleqani", size=asked.size, root=root)
    shares = np.array([504, 985, 963, 804])
    return smear.simulate(
        asked.cells,
        size=asked.size,
        classes=smear.LEUKAEMIA,
        sites=("north",),
        patients=89,
        balance=shares / shares.sum(),
        masks=False,
    )


def prepared(study: Study, images: ImageCohort) -> ImageCohort:
    """Return the images as a study sees them: their colours, and what must not be torn apart."""
    if study.colours == "reinhard":
        images = partition.reinhard(images, partition.lab_statistics(images.images).mean(dim=0))
    if study.colours == "macenko":
        images = partition.macenko(images, partition.dye_densities(images.images).mean(axis=0))
    if study.together == "near duplicates":
        return partition.grouped(images, partition.near_duplicates(images.images))
    if study.together == "blocks":
        return partition.grouped(images, partition.contiguous_blocks(images))
    return images


def client_sites(images: ImageCohort, study: Study, seed: int) -> list[Site]:
    """Deal the images to the clients of a study; the test images are the same for any number of clients."""
    sites = partition.dirichlet(
        images,
        sites=study.clients,
        alpha=ALPHA,
        seed=seed,
        minimum=MINIMUM,
        split_by="row" if study.together == "image" else "patient",
        split_within="cohort",
    )
    return partition.stained(sites, strength=study.stain, seed=seed) if study.stain else sites


def judged(sites: Sequence[Site]) -> dict[str, LabelledCohort]:
    """Return what every model predicts: test images of each client and of all, and validation images.

    Those of all clients stand in one order, however they were dealt, so that answers can be compared image
    by image.
    """
    pooled = federation.pooled(sites)
    shared = {"joint": pooled.test, "validation": pooled.validation}
    return {
        **compared.test_cohorts(sites),
        **{where: cohort.take(order_of_content(cohort)) for where, cohort in shared.items()},
    }


def order_of_content(cohort: ImageCohort) -> list[int]:
    """Return the row numbers sorted by what the images show, byte by byte."""
    content = [image.numpy().tobytes() for image in cohort.images]
    return sorted(range(len(content)), key=content.__getitem__)


def initial_network(arm: Arm, classes: int) -> nn.Module:
    """Return the network that an arm begins with."""
    return with_norm(NETWORKS[arm.network](classes), arm.norm)


# The experiment


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
        Of split, dealing and training, instead of those that the protocol names.
    root
        Folder of the real data, by default HEMAFL_DATA.
    engine, device, progress
        See `federation.run`.
    """
    began = time.monotonic()
    images = smears(asked, root)
    tables: dict[str, pd.DataFrame] = {}
    answers: dict[str, list[Prediction]] = {}
    for study in asked.studies:
        seeds = study.seeds if seed is None else (seed,)
        seen = prepared(study, images)
        sites = {s: client_sites(seen, study, s) for s in seeds}
        predictions, costs = compare(
            study.arms,
            seeds,
            sites_for=lambda s, _, dealt=sites: dealt[s],
            model_for=lambda arm: initial_network(arm, len(images.classes)),
            cohorts_for=lambda s, _, dealt=sites: judged(dealt[s]),
            rounds=study.rounds,
            engine=engine,
            device=device,
            progress=progress,
        )
        answers[study.title] = [*predictions, *baselines(sites)]
        tables |= study_tables(study, sites, answers[study.title], costs)
    tables |= confidence.tables(answers[asked.confidence], images.classes)
    if asked.pairs:
        tables["pairs"] = pairs(asked, answers)
    tables["confusion"] = confusion(answers[asked.confidence], images.classes)
    provenance = [images.provenance]
    if asked.explained:
        tables["nuclei"], masked = nuclei.table(
            asked.source,
            size=asked.size,
            recipe=recipe(),
            rounds=asked.explained,
            root=root,
            progress=progress,
        )
        provenance.append(masked)
    used = (seed,) if seed is not None else sorted({s for study in asked.studies for s in study.seeds})
    return Results(asked, tables, tuple(provenance), tuple(used), time.monotonic() - began)


def baselines(sites: Mapping[int, Sequence[Site]]) -> list[Prediction]:
    """Return what needs no network: fifteen colour statistics, and always naming the commonest class."""
    found = []
    for seed, dealt in sites.items():
        pooled = federation.pooled(dealt)
        answers = [
            ("colour alone, logistic regression", colour_probabilities, "joint"),
            ("colour alone, logistic regression", colour_probabilities, "validation"),
            (
                "colour alone, random forest",
                partial(colour_probabilities, model="forest", seed=seed),
                "joint",
            ),
            ("commonest class", majority_probabilities, "joint"),
        ]
        for name, learner, where in answers:
            cohort = pooled.test if where == "joint" else pooled.validation
            found.append(Prediction(name, seed, where, cohort.labels.numpy(), learner(pooled.train, cohort)))
    return found


def study_tables(
    study: Study,
    sites: Mapping[int, Sequence[Site]],
    predictions: Sequence[Prediction],
    costs: Sequence[Cost],
) -> dict[str, pd.DataFrame]:
    """Return the tables of one study, by title."""
    classes = next(iter(sites.values()))[0].train.classes
    tested = [p for p in predictions if p.where != "validation"]
    tables = {
        "scores": compared.scores(tested),
        "per class": compared.per_class([p for p in tested if p.where == "joint"], classes),
        "clients": client_spread(tested),
        "cost": compared.costs(costs),
        "sites": site_table(sites),
        "divergence": divergences(sites),
    }
    return {f"{study.title}: {name}": table for name, table in tables.items()}


def client_spread(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """Return, for each arm and seed, how the accuracy differs between the clients' own test images."""
    table = compared.scores([p for p in predictions if p.where != "joint"])
    rows = [
        {"arm": arm, "seed": seed, **evaluation.spread(group.set_index("where")["accuracy"])._asdict()}
        for (arm, seed), group in table.groupby(["arm", "seed"], sort=False)
    ]
    return pd.DataFrame(rows)


def site_table(sites: Mapping[int, Sequence[Site]]) -> pd.DataFrame:
    """Return the number of images of each class in each part of each client, by seed."""
    rows = []
    for seed, dealt in sites.items():
        for site in dealt:
            for part in partition.PARTS:
                cohort = getattr(site, part)
                counts = dict(zip(cohort.classes, cohort.counts().tolist(), strict=True))
                rows.append({"seed": seed, "client": site.name, "part": part, **counts})
    return pd.DataFrame(rows)


def divergences(sites: Mapping[int, Sequence[Site]]) -> pd.DataFrame:
    """Return the divergences of every pair of clients' training classes, by seed."""
    return pd.concat([partition.divergence_table(dealt).assign(seed=seed) for seed, dealt in sites.items()])


def pairs(asked: Protocol, answers: Mapping[str, Sequence[Prediction]]) -> pd.DataFrame:
    """Compare federated models of two studies on the same test images: one row a pair and seed."""
    rows = []
    for first, second in asked.pairs:
        for one in federated(answers[first]):
            other = next(p for p in federated(answers[second]) if p.seed == one.seed)
            if not np.array_equal(one.labels, other.labels):
                raise HemaflError(f"'{first}' and '{second}' have other test images; deal them alike.")
            right = [p.probabilities.argmax(axis=1) for p in (one, other)]
            test = evaluation.mcnemar(one.labels, *right)
            accuracies = [evaluation.accuracy(one.labels, answer) for answer in right]
            rows.append(
                {
                    "first": first,
                    "second": second,
                    "seed": one.seed,
                    "images": len(one.labels),
                    "first accuracy": accuracies[0],
                    "second accuracy": accuracies[1],
                    "only first right": test.only_first,
                    "only second right": test.only_second,
                    "p": test.p_value,
                }
            )
    return pd.DataFrame(rows)


def confusion(predictions: Sequence[Prediction], classes: Sequence[str]) -> pd.DataFrame:
    """Return how often plain FedAvg took a class (rows) for another (columns), all seeds together."""
    counts = [
        evaluation.confusion_matrix(p.labels, p.probabilities.argmax(axis=1), classes)
        for p in federated(predictions)
    ]
    return sum(counts[1:], counts[0]).rename_axis("true class").rename_axis(columns=None).reset_index()


def federated(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Return the answers of plain FedAvg on all test images, one for each seed."""
    return [p for p in predictions if p.arm == FEDERATED.name and p.where == "joint"]


def report(results: Results) -> str:
    """Return each study's accuracy by arm and place, as text."""
    parts = []
    for study in results.protocol.studies:
        table = accuracies(results.tables[f"{study.title}: scores"])
        parts.append(f"{study.title}: accuracy\n{table.to_string(na_rep='')}")
    return "\n\n".join(parts)


def accuracies(scores: pd.DataFrame) -> pd.DataFrame:
    """Return arms by places: the accuracy's mean over the seeds, with its interval if there are several."""
    return compared.shown(scores, "accuracy", digits=3)
