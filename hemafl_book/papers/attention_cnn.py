"""Chapter 2: a small attention CNN on leukaemia smears, over hospitals with different classes.

The protocol of Awan, Khan, Strakos et al. (Sci Rep 16, 9768, 2026) on the same 3,256 public images:
a network of about 33,000 parameters, three and five clients, label skew, averaging weighted by the
number of images. The paper raises clients and rounds together; here they are a factorial. What it
leaves open (attention, optimiser, learning rate, rounds, shares of the classes) is our choice and
stands in `recipe`, `ALPHA` and `NETWORKS`.

All numbers of clients share one test set a seed, so that their answers can be compared image by image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from hemafl_book.papers import arms, confidence, leukaemia, nuclei, scores
from hemafl_book.papers.arms import Arm, Prediction, Tables, Trial, federated_name
from hemafl_book.papers.baselines import learn_and_answer, learners
from hemafl_book.papers.changes import OPTIONS, UNCHANGED, Changes
from hemafl_book.papers.dealing import Deal
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.protocol import OfStudies, describe
from hemafl_book.papers.scores import report_studies
from hemafl_book.papers.studies import Piece, Series, each_study, run_studies, with_titles
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results
from hemafl_lib import evaluation, federation, partition
from hemafl_lib.aggregation import FedAvg
from hemafl_lib.augmentation import Augmentation
from hemafl_lib.data.cohort import ImageCohort, LabelledCohort, Provenance
from hemafl_lib.errors import HemaflError
from hemafl_lib.models import image_model
from hemafl_lib.partition import Site
from hemafl_lib.training import Recipe

ALPHA = 0.5
"""Dirichlet parameter of the clients' classes: the smaller, the more they differ."""

MINIMUM = 100
"""Fewest images of a client, all parts together."""

PLAIN = "plain_cnn"
NETWORKS = ("attention_cnn", PLAIN)
"""What a study can train, by the name in `Arm.network`: keys of `MODELS`."""

Kept = Literal["image", "near duplicates", "blocks", "patients"]
Colours = Literal["as they are", "reinhard", "macenko"]

OFFER = Offer(
    name="attention-cnn",
    title="a small attention CNN on leukaemia smears (chapter 2)",
    sources=("real", "smear"),
    embedded="SIMULATED data",
    takes=OPTIONS,
    models=NETWORKS,
    cohorts={"smear": "smear", leukaemia.HOSPITAL: "real"},
    reads=(leukaemia.HOSPITAL, "tecom", "cellavision"),
)


@dataclass(frozen=True)
class Study:
    """One table of the experiment: clients, rounds, and the arms compared on them.

    Parameters
    ----------
    title
        Begins the titles of the study's tables.
    clients, rounds, arms, seeds
        What is trained; a seed decides the split, the dealing, the stains, the initial weights and the order.
    together
        What stays on one side of the split: single images, groups of near duplicates, blocks of
        neighbouring file numbers, or patients (where the data name them).
    colours
        Whether all images get the mean colours of the cohort (`partition.reinhard`) or its mean dyes
        (`partition.macenko`).
    stain
        How far each client's stain is moved, 0 for not at all.
    deal
        Another way to deal the images than the paper's.
    """

    title: str
    clients: int
    rounds: int
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    together: Kept = "image"
    colours: Colours = "as they are"
    stain: float = 0.0
    deal: Deal | None = None

    def way(self) -> Deal:
        """Return how the images are dealt to the clients."""
        return self.deal or own_deal(self.clients)


@dataclass(frozen=True)
class Protocol(OfStudies):
    """Everything that decides the numbers, apart from the data's bytes and the seeds.

    ``source`` is "real" (the folder of HEMAFL_DATA) or "smear" (simulated), ``size`` the side of the
    images in pixels, ``cells`` how many are simulated. ``confidence`` and ``pairs`` name studies: the one
    whose confidence is studied, and pairs of studies whose federated models are compared image by image.
    ``explained`` is for how many rounds a network is trained whose maps are held against drawn nuclei.
    """

    preset: str
    source: str
    size: int
    cells: int
    studies: tuple[Study, ...]
    confidence: str
    pairs: tuple[tuple[str, str], ...] = ()
    explained: int = 0
    changes: Changes = UNCHANGED

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        return describe(self, alpha=ALPHA, minimum=MINIMUM, level=confidence.LEVEL, initial="by seed")


def recipe(**changes: Any) -> Recipe:
    """Return how a client trains; the paper says nothing about it.

    Each client draws its classes equally often. Without that, we think, a client with few classes
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


def protocol(preset: str = "quick", source: str = "smear", changes: Changes = UNCHANGED) -> Protocol:
    """Return the protocol of a preset, with ``changes``.

    Parameters
    ----------
    preset
        "quick" (half a minute) or "paper" (everything, half an hour).
    source
        "real" or "smear".
    changes
        ``model`` is one of `NETWORKS`. A number of clients or rounds takes the place of all of the paper's,
        so that fewer studies are left to compare.

    Raises
    ------
    HemaflError
        If something is unknown.
    """
    OFFER.check(preset, source, changes)
    network = changes.network("attention_cnn")
    three = tuple(replace(arm, network=network) for arm in (ISOLATED, FEDERATED, CENTRALISED))
    if preset == "quick":
        studies = changes.studies(factorial_studies(three, (3,), (8,), (0,), changes))
        return Protocol("quick", source, 32, 1200, studies, studies[-1].title, changes=changes)
    all_five, first = (0, 1, 2, 3, 4), (0, 1, 2)
    factorial = factorial_studies(three, (3, 5), (8, 16), all_five, changes)
    titles = [study.title for study in factorial]
    short = Study(
        "ablation", changes.clients or 5, changes.rounds or 8, with_network(ABLATIONS, network), first
    )
    small = replace(short, clients=changes.clients or 3, arms=three[1:2])
    variations = (
        short,
        replace(small, title="Reinhard's colours", colours="reinhard"),
        replace(small, title="Macenko's dyes", colours="macenko"),
        replace(small, title="stain shift", arms=with_network((FEDERATED, JITTERED), network), stain=1.0),
        *(
            replace(small, title=f"{kept} together", together=kept)
            for kept in (("near duplicates", "blocks") if source == "real" else ("patients",))
        ),
    )
    pairs = ((titles[0], titles[-1]), (titles[1], titles[-1]), (titles[0], titles[1]))
    studies = changes.studies([*factorial, *variations])
    compared = pairs if len(titles) == 4 else ()
    return Protocol("paper", source, 64, 3256, studies, titles[-1], compared, explained=60, changes=changes)


def factorial_studies(
    three: tuple[Arm, ...],
    numbers: tuple[int, ...],
    lengths: tuple[int, ...],
    seeds: tuple[int, ...],
    changes: Changes,
) -> list[Study]:
    """Return a study for each number of clients and of rounds, those that the changes make the same as one.

    The last has all arms, the others FedAvg only.
    """
    found: dict[str, Study] = {}
    for number in numbers:
        deal = changes.deal(own_deal(number))
        who = str(deal) if changes.deals else f"{number} clients"
        for rounds in dict.fromkeys(changes.rounds or length for length in lengths):
            title = f"{who}, {rounds} rounds" if len(lengths) > 1 else who
            found[title] = Study(title, deal.clients, rounds, three[1:2], seeds)
    *others, last = found.values()
    return [*others, replace(last, arms=three)]


def own_deal(clients: int) -> Deal:
    """Return how the paper's images are dealt to a number of clients."""
    return Deal("dirichlet", clients, ALPHA, MINIMUM)


def with_network(arms: Sequence[Arm], network: str) -> tuple[Arm, ...]:
    """Return the arms with another network, except those that leave its attention out."""
    return tuple(arm if arm.network == PLAIN else replace(arm, network=network) for arm in arms)


# The data


def smears(asked: Protocol, root: Path | None = None) -> ImageCohort:
    """Return all images of the protocol: those of Taleqani Hospital, or simulated ones of one hospital."""
    if asked.source == "real":
        return leukaemia.real_images(asked.changes.data, asked.size, root)
    return leukaemia.drawn_images(asked.cells, asked.size, patients=89, balance=leukaemia.SHARES)


def as_seen(study: Study, images: ImageCohort) -> ImageCohort:
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


def client_sites(images: ImageCohort, study: Study, seed: int) -> list[Site[ImageCohort]]:
    """Deal the images to the clients of a study; the test images are the same for any number of clients."""
    together = "row" if study.together == "image" else "patient"
    sites = study.way().sites(images, seed=seed, split_by=together, split_within="cohort")
    return partition.stained(sites, strength=study.stain, seed=seed) if study.stain else sites


def judged_cohorts(sites: Sequence[Site[ImageCohort]]) -> dict[str, LabelledCohort]:
    """Return what every model predicts: test images of each client and of all, and validation images.

    Those of all clients stand in one order, however they were dealt, so that answers can be compared image
    by image.
    """
    pooled = federation.pooled(sites)
    shared = {"joint": pooled.test, "validation": pooled.validation}
    return {
        **arms.test_cohorts(sites),
        **{where: cohort.take(order_of_content(cohort)) for where, cohort in shared.items()},
    }


def order_of_content(cohort: ImageCohort) -> list[int]:
    """Return the row numbers sorted by what the images show, byte by byte."""
    content = [image.numpy().tobytes() for image in cohort.images]
    return sorted(range(len(content)), key=content.__getitem__)


# The experiment


NUCLEI = "nuclei"
"""Under this title stands what a network's maps hold of drawn nuclei."""


def run(asked: Protocol, where: Where = HERE) -> Results:
    """Run all studies of a protocol and return their tables; see `Paper`."""
    images = smears(asked, where.root)
    series = each_study(asked.studies, lambda study: partial(piece, study, as_seen(study, images)))
    data: tuple[Provenance, ...] = (images.provenance,)
    if asked.explained:
        cells = nuclei.masked_cells(asked.source, asked.size, where.root)
        data = (*data, cells.provenance)
        series.append(Series(NUCLEI, (nuclei.SEED,), partial(explain_nuclei, cells, asked.explained, where)))
    found = run_studies(asked, series, where, data)
    tables = with_titles({one.title: study_tables(found[one.title], images.classes) for one in asked.studies})
    said = {one.title: predictions(found[one.title]) for one in asked.studies}
    if asked.confidence in said:
        tables |= confidence.tables(said[asked.confidence], images.classes)
        tables["confusion"] = confusion(federated_answers(asked, asked.confidence, said), images.classes)
    if all(title in said for pair in asked.pairs for title in pair) and asked.pairs:
        tables["pairs"] = pair_table(asked, said)
    if asked.explained:
        tables |= found[NUCLEI]
    return Results(asked, tables, data, found.seconds)


def piece(study: Study, images: ImageCohort, seed: int) -> Piece:
    """Return the trainings of a study with one seed, beside what needs no network and the clients."""
    sites = client_sites(images, study, seed)
    judged = judged_cohorts(sites)
    trials = [
        Trial(
            arm=arm,
            seed=seed,
            rounds=study.rounds,
            sites=sites,
            model=image_model(arm.network, len(images.classes), seed=seed),
            judged=judged,
        )
        for arm in study.arms
    ]
    return Piece(trials=trials, beside=partial(beside, sites, seed))


def beside(sites: Sequence[Site[ImageCohort]], seed: int) -> Tables:
    """Return what needs no network, and the classes of the clients."""
    return {
        "baselines": arms.answer_table(baselines(sites, seed)),
        "sites": site_table(sites, seed),
        "divergence": partition.divergence_table(sites).assign(seed=seed),
    }


def explain_nuclei(cells: ImageCohort, rounds: int, where: Where) -> Callable[[int], Piece]:
    """Return what the maps of a network hold of the nuclei of ``cells``."""
    return lambda seed: Piece(
        beside=lambda: {NUCLEI: nuclei.table(cells, recipe(), rounds, where, seed=seed)}
    )


def baselines(sites: Sequence[Site[ImageCohort]], seed: int) -> list[Prediction]:
    """Return what needs no network: fifteen colour statistics, and always naming the commonest class.

    The logistic regression also answers for validation images, for the tables of confidence.
    """
    pooled, known = federation.pooled(sites), learners(seed)
    regression = dict(list(known.items())[:1])
    return [
        *learn_and_answer(pooled.train, {"joint": pooled.test}, seed, known),
        *learn_and_answer(pooled.train, {"validation": pooled.validation}, seed, regression),
    ]


def predictions(found: Tables) -> list[Prediction]:
    """Return what a study's models and what needs no network say."""
    return arms.read_answers(found["answers"], found["baselines"])


def study_tables(found: Tables, classes: Sequence[str]) -> Tables:
    """Return the tables of one study, by title."""
    tested = [p for p in predictions(found) if p.where != "validation"]
    return {
        "scores": scores.score_table(tested),
        "per class": scores.per_class([p for p in tested if p.where == "joint"], classes),
        "clients": client_spread(tested),
        "cost": scores.cost_table(found["cost"]),
        "sites": found["sites"],
        "divergence": found["divergence"],
    }


def client_spread(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """Return, for each arm and seed, how the accuracy differs between the clients' own test images."""
    table = scores.score_table([p for p in predictions if p.where != "joint"])
    rows = [
        {"arm": arm, "seed": seed, **evaluation.spread(group.set_index("where")["accuracy"])._asdict()}
        for (arm, seed), group in table.groupby(["arm", "seed"], sort=False)
    ]
    return pd.DataFrame(rows)


def site_table(sites: Sequence[Site[ImageCohort]], seed: int) -> pd.DataFrame:
    """Return the number of images of each class in each part of each client."""
    cohorts = [(site.name, part, getattr(site, part)) for site in sites for part in partition.PARTS]
    return pd.DataFrame(
        {"seed": seed, "client": name, "part": part}
        | dict(zip(cohort.classes, cohort.counts().tolist(), strict=True))
        for name, part, cohort in cohorts
    )


def pair_table(asked: Protocol, said: Mapping[str, Sequence[Prediction]]) -> pd.DataFrame:
    """Compare federated models of two studies on the same test images: one row a pair and seed."""
    rows = []
    for first, second in asked.pairs:
        for one in federated_answers(asked, first, said):
            other = next(p for p in federated_answers(asked, second, said) if p.seed == one.seed)
            rows.append({"first": first, "second": second, "seed": one.seed, **compare_answers(one, other)})
    return pd.DataFrame(rows)


def compare_answers(one: Prediction, other: Prediction) -> dict[str, float]:
    """Return how often two models are right on the same images, and the p-value of McNemar's test."""
    if not np.array_equal(one.labels, other.labels):
        raise HemaflError("two studies that are compared have other test images; deal them alike.")
    right = [p.probabilities.argmax(axis=1) for p in (one, other)]
    test = evaluation.mcnemar(one.labels, *right)
    first, second = (evaluation.accuracy(one.labels, answer) for answer in right)
    return {
        "images": len(one.labels),
        "first accuracy": first,
        "second accuracy": second,
        "only first right": test.only_first,
        "only second right": test.only_second,
        "p": test.p_value,
    }


def confusion(predictions: Sequence[Prediction], classes: Sequence[str]) -> pd.DataFrame:
    """Return how often a class (rows) was taken for another (columns), all seeds together."""
    counts = [
        evaluation.confusion_matrix(p.labels, p.probabilities.argmax(axis=1), classes) for p in predictions
    ]
    return sum(counts[1:], counts[0]).rename_axis("true class").rename_axis(columns=None).reset_index()


def federated_answers(
    asked: Protocol, title: str, said: Mapping[str, Sequence[Prediction]]
) -> list[Prediction]:
    """Return the answers of a study's first federation on all test images, one for each seed."""
    study = next(study for study in asked.studies if study.title == title)
    name = federated_name(study.arms)
    return [p for p in said[title] if p.arm == name and p.where == "joint"]


def report(results: Results) -> str:
    """Return each study's accuracy by arm and place, as text."""
    return report_studies(results, about)


def about(study: Study, table: pd.DataFrame) -> str:
    """Return one study's accuracy by arm and place, as text."""
    return f"{study.title}: accuracy\n{accuracies(table).to_string(na_rep='')}"


def accuracies(table: pd.DataFrame) -> pd.DataFrame:
    """Return arms by places: the accuracy's mean over the seeds, with its interval if there are several."""
    return scores.interval_table(table, "accuracy", digits=3)
