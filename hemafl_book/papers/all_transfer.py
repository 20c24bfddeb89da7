"""Chapter 3: subtypes of leukaemia by transfer learning, and what augmenting before the split is worth.

The protocol of World Journal of Advanced Research and Reviews 24(03), 2795-2806 (2024), on the same public
images: four flips of each, 70 / 20 / 10, a pretrained network, a federation of 10 rounds of 5 local epochs,
a cross-validation of five folds. What the paper leaves open is our choice: three clients, the recipes below,
and that of a pretrained network the last layer is trained.

The paper flips and then splits. Here the split comes first, of whole images, unless a study asks for the
paper's order to show what it does. Budgets are matched: isolated, federated and centralised training pass
equally often over the training rows, and so does a network in every order of flipping and splitting.

Section 3.5 of the paper averages what clients send "with the current global weights", and does not say by how
much. A server that keeps a share of its own weights is the mean with a server learning rate of the rest, and
without momentum; three shares are tried.

A seed decides the split, the dealing, the initial weights of what is trained, and the order.

The learning rate of the last layer and its schedule were chosen by the federation's accuracy on the
validation images of seed 0, out of eight; no test image of seed 0 had a say. (The other seeds test some of
these validation images, as every seed splits anew.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold
from torch import nn

from hemafl_book.papers import leukaemia, scores
from hemafl_book.papers.arms import (
    Arm,
    Prediction,
    Tables,
    Trial,
    answer_table,
    answers,
    federated_name,
    read_answers,
)
from hemafl_book.papers.baselines import learn_and_answer, learners
from hemafl_book.papers.changes import OPTIONS, UNCHANGED, Changes
from hemafl_book.papers.copies import FLIPS, in_rows, network_inputs, originals
from hemafl_book.papers.dealing import Deal
from hemafl_book.papers.leukaemia import BACKBONE, recipe
from hemafl_book.papers.macro_scores import measures, score_rows
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.protocol import OfStudies, describe
from hemafl_book.papers.studies import Piece, Series, each_study, run_studies, with_column
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results
from hemafl_lib import evaluation, federation, partition
from hemafl_lib.aggregation import FedAvgM
from hemafl_lib.data.cohort import ImageCohort, LabelledCohort, VariantCohort
from hemafl_lib.federation import Run
from hemafl_lib.models import BACKBONES, SplitModel, image_model, trained_part
from hemafl_lib.partition import Site
from hemafl_lib.seeds import derive
from hemafl_lib.training import Recipe

SMALL = "attention_cnn"
"""A network of 33,000 parameters that is trained from scratch, see `AttentionCNN`."""

CLIENTS, ALPHA, ROUNDS, FOLDS = 3, 0.5, 10, 5
VALIDATION, TEST = 0.1, 0.2
MINIMUM = 100
"""Fewest images of a client, all parts together."""

KEPT = (0.25, 0.5, 0.75)
"""Shares of its own weights that a server keeps which mixes."""

DRAWS = 1000
"""Resamples of each interval."""

QUICK_SIZE, SMALL_SIZE = 96, 32
"""Sides in pixels of the images that EfficientNet-Lite0 reads in the quick preset, and that `SMALL` reads."""

OFFER = Offer(
    name="all-transfer",
    title="leukaemia by transfer learning, and what leaks (chapter 3)",
    sources=("real", "smear"),
    embedded="SIMULATED data",
    takes=OPTIONS,
    models=tuple(BACKBONES),
    cohorts={"smear": "smear", leukaemia.HOSPITAL: "real"},
    reads=(leukaemia.HOSPITAL,),
)

Split = Literal["leak", "image", "near duplicates", "patient", "training set only"]
LEAKAGE: dict[Split, str] = {
    "leak": "flip, then split",
    "image": "split the images, then flip",
    "near duplicates": "split groups of near duplicates, then flip",
    "patient": "split the patients, then flip",
    "training set only": "split the images, flip those of the training set only",
}
"""The orders of flipping and splitting, and what the split keeps together."""


@dataclass(frozen=True)
class Study:
    """Arms compared on the same clients and test images.

    Parameters
    ----------
    title
        Stands in the column ``study`` of all tables.
    arms, seeds
        What is trained; ``seeds`` are those of split, dealing, initial weights and training. With ``folds``
        they are the numbers of the folds.
    split
        See `LEAKAGE`.
    alpha
        Dirichlet parameter of the clients' classes; None gives all clients the same shares of equally many
        images.
    folds
        Whether the test sets are the folds of a cross-validation; there are then no validation images.
    simulated
        Whether the images are drawn, of patients that are known, even where the protocol's are real.
    curves
        Whether the accuracy is also noted after every round.
    deal
        Another way to deal the images than the study's own.
    """

    title: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    split: Split = "image"
    alpha: float | None = None
    folds: bool = False
    simulated: bool = False
    curves: bool = False
    deal: Deal | None = None

    def way(self) -> Deal:
        """Return how the images are dealt to the clients."""
        if self.deal is not None:
            return self.deal
        if self.alpha is None:
            return Deal("iid", CLIENTS, minimum=MINIMUM)
        return Deal("dirichlet", CLIENTS, self.alpha, MINIMUM)


@dataclass(frozen=True)
class Protocol(OfStudies):
    """Everything that decides the numbers, apart from the data's bytes and the seeds.

    ``source`` is "real" (the folder of HEMAFL_DATA) or "smear" (simulated); ``size`` is the side in pixels
    of what a pretrained network reads, and ``small_size`` of what `SMALL` reads; ``cells`` of ``patients``
    are simulated. ``main`` names the study whose confusion and ROC curves are shown, if it is computed.
    """

    preset: str
    source: str
    size: int
    small_size: int
    cells: int
    patients: int
    studies: tuple[Study, ...]
    main: str
    rounds: int = ROUNDS
    changes: Changes = UNCHANGED

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        return describe(
            self,
            clients=CLIENTS,
            minimum=MINIMUM,
            validation=VALIDATION,
            test=TEST,
            copies=list(FLIPS),
            trained="head",
            draws=DRAWS,
            initial="by seed",
        )


def small_recipe(**changes: Any) -> Recipe:
    """Return how `SMALL` is trained: as in chapter 2, but with larger batches and without its own flips."""
    ours = Recipe(optimiser="adamw", learning_rate=6e-3, schedule="cosine", batch_size=64, local_epochs=1)
    return replace(ours, **changes)


def three_ways(network: str) -> tuple[Arm, ...]:
    """Return isolated, federated and centralised training, which pass equally often over the same rows."""
    federated = Arm("FedAvg", recipe=recipe(), network=network)
    isolated = replace(federated, name="isolated", kind="isolated")
    return isolated, federated, replace(federated, name="centralised", kind="centralised")


def mixing(network: str) -> tuple[Arm, ...]:
    """Return federations whose server keeps a share of its current weights in every round."""
    return tuple(
        Arm(
            f"server keeps {kept:g}",
            aggregator=FedAvgM(learning_rate=1 - kept, momentum=0.0),
            recipe=recipe(),
            network=network,
        )
        for kept in KEPT
    )


def leakage_studies(
    arms: tuple[Arm, ...], seeds: tuple[int, ...], splits: Sequence[Split], simulated: bool = False
) -> tuple[Study, ...]:
    """Return one study an order of flipping and splitting, with the same arms."""
    place = "simulated patients" if simulated else "leakage"
    return tuple(
        Study(f"{place}: {LEAKAGE[split]}", arms, seeds, split=split, simulated=simulated) for split in splits
    )


def protocol(preset: str = "quick", source: str = "smear", changes: Changes = UNCHANGED) -> Protocol:
    """Return the protocol of a preset, with ``changes``.

    Parameters
    ----------
    preset
        "quick" (three ways of training and two splits, one seed) or "paper" (everything, five seeds).
    source
        "real" or "smear".
    changes
        ``model`` is a key of `BACKBONES`, or one of the paper's names, such as "InceptionV3"; the command
        refuses a network whose weights are not on this machine, and the tables say what each starts from.
        Where clients are dealt anew, the study of another deal goes; where another cohort is read, simulated
        patients do.

    Raises
    ------
    HemaflError
        If something is unknown.
    """
    OFFER.check(preset, source, changes)
    network, rounds = changes.network(BACKBONE), changes.rounds or ROUNDS
    isolated, federated, centralised = three_ways(network)
    transferred = replace(centralised, name="last layer")
    from_scratch = Arm("from scratch", kind="centralised", recipe=small_recipe(), network=SMALL)
    main = str(changes.deal(Deal("iid", CLIENTS))) if changes.deals else "three equal clients"
    if preset == "quick":
        studies = (
            Study(main, (isolated, federated, centralised), (0,)),
            *leakage_studies((transferred,), (0,), ("leak", "image")),
        )
        size = QUICK_SIZE if network == BACKBONE else BACKBONES[network].size
        return Protocol(
            "quick",
            source,
            size,
            SMALL_SIZE,
            400,
            20,
            change_studies(studies, changes),
            main,
            rounds,
            changes,
        )
    five = tuple(range(5))
    both = (transferred, from_scratch)
    known: tuple[Split, ...] = ("leak", "image", "near duplicates", "training set only")
    drawn: tuple[Split, ...] = ("leak", "image", "patient", "training set only")
    mixed = mixing(network)
    skewed = Study("three clients of different classes", (isolated, federated, *mixed), five, alpha=ALPHA)
    studies = (
        Study(main, (isolated, federated, centralised, *mixed), five, curves=True),
        *(() if changes.deals else (skewed,)),
        Study("five folds", (federated,), tuple(range(FOLDS)), folds=True),
        *leakage_studies(both, five, known),
        *(() if changes.data else leakage_studies(both, five, drawn, simulated=True)),
    )
    size = BACKBONES[network].size
    return Protocol(
        "paper", source, size, SMALL_SIZE, 1000, 89, change_studies(studies, changes), main, rounds, changes
    )


def change_studies(studies: Sequence[Study], changes: Changes) -> tuple[Study, ...]:
    """Return the studies with the changes; of a cross-validation all folds are computed whatever the seed."""
    changed = changes.studies(studies)
    return tuple(replace(study, seeds=tuple(range(FOLDS))) if study.folds else study for study in changed)


# The data


def smears(asked: Protocol, simulated: bool, size: int, root: Path | None = None) -> ImageCohort:
    """Return all images of Taleqani Hospital, or simulated ones of one hospital with known patients."""
    if not simulated:
        return leukaemia.real_images(asked.changes.data, size, root)
    return leukaemia.drawn_images(asked.cells, size, asked.patients, leukaemia.SHARES)


def initial_network(name: str, classes: int, seed: int) -> nn.Module:
    """Return `SMALL` or a backbone of which the last layer is trained; a warning says if it is random.

    What is trained begins with weights that the seed draws.
    """
    return image_model(name, classes, trainable="head", seed=seed)


def units(images: ImageCohort, split: Split) -> np.ndarray:
    """Return the number of what a split keeps together, int64[N]: patient, near duplicates, or image."""
    if split == "patient":
        return np.unique(images.patient, return_inverse=True)[1]
    if split == "near duplicates":
        return partition.near_duplicates(images.images)
    return np.arange(len(images))


def split_and_flip(cohort: VariantCohort, study: Study, seed: int) -> list[Site[VariantCohort]]:
    """Split the images and deal them to the clients, in the order of flipping and splitting of the study.

    ``cohort`` is [N, 4, ...] and its patients are what the split keeps together.
    """
    if study.split == "leak":
        return client_sites(in_rows(cohort), study, seed, "row")
    held = originals if study.split == "training set only" else in_rows
    return [
        Site(site.name, in_rows(site.train), held(site.validation), held(site.test))
        for site in client_sites(cohort, study, seed, "patient")
    ]


def client_sites(
    cohort: VariantCohort, study: Study, seed: int, together: partition.Unit
) -> list[Site[VariantCohort]]:
    """Deal rows to the clients; the sides of the split do not depend on the number of clients."""
    return study.way().sites(
        cohort,
        seed=seed,
        validation=0.0 if study.folds else VALIDATION,
        test=0.0 if study.folds else TEST,
        split_by=together,
        split_within="cohort",
    )


def fold_sites(cohort: VariantCohort, study: Study, fold: int) -> list[Site[VariantCohort]]:
    """Return the clients of one fold of a cross-validation; the first client holds all test rows."""
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=derive(0, "folds") % 2**32)
    train, test = list(folds.split(cohort.labels, cohort.labels, cohort.patient))[fold]
    first, *others = split_and_flip(cohort.take(train), study, fold)
    return [replace(first, test=in_rows(cohort.take(test))), *others]


# The experiment


class Inputs:
    """The images of all studies, the networks, and what each of them reads, which is computed when needed.

    The frozen layers are the same for every seed.
    """

    def __init__(self, asked: Protocol, where: Where) -> None:
        self.asked, self.where = asked, where
        keys = [key for one in asked.studies for arm in one.arms for key in self.keys(one, arm.network)]
        self.cohorts = {key: smears(asked, *key, root=where.root) for key in dict.fromkeys(keys)}
        classes = len(self.images(asked.studies[0]).classes)
        names = dict.fromkeys(arm.network for study in asked.studies for arm in study.arms)
        self.networks = {name: initial_network(name, classes, seed=0) for name in names}
        self.flips: dict[tuple[bool, str], VariantCohort] = {}

    def keys(self, study: Study, network: str) -> tuple[tuple[bool, int], tuple[bool, int]]:
        """Return of a study's images, and of those that a network reads: are they drawn, and their side."""
        drawn = study.simulated or self.asked.source == "smear"
        size = self.asked.small_size if network == SMALL else self.asked.size
        return (drawn, self.asked.size), (drawn, size)

    def images(self, study: Study) -> ImageCohort:
        """Return the images of a study."""
        return self.cohorts[self.keys(study, BACKBONE)[0]]

    def of_network(self, study: Study, name: str) -> VariantCohort:
        """Return the four flips of a study's images as a network reads them."""
        drawn, size = self.keys(study, name)[1]
        if (drawn, name) not in self.flips:
            images = self.cohorts[drawn, size]
            network = self.networks[name]
            self.flips[drawn, name] = network_inputs(network, images, device=self.where.device)
        return self.flips[drawn, name]


BASELINES = "without any network"
"""Under this title stands what needs no network, on the test images of the main study."""


def run(asked: Protocol, where: Where = HERE) -> Results:
    """Run all studies of a protocol and return their tables; see `Paper`."""
    inputs = Inputs(asked, where)
    data = tuple(dict.fromkeys(images.provenance for images in inputs.cohorts.values()))
    shown = [study for study in asked.studies if study.title == asked.main]
    series = each_study(asked.studies, lambda study: prepare(study, inputs))
    series += [Series(BASELINES, main.seeds, partial(prepare_baselines, main, inputs)) for main in shown]
    found = run_studies(asked, series, where, data)
    tables = {study.title: study_tables(study, asked.rounds, found[study.title]) for study in asked.studies}
    for main in shown:
        predictions = read_answers(found[main.title]["answers"])
        tables[main.title] |= main_tables(predictions, main, inputs.images(main).classes)
        simple = score_rows(read_answers(found[BASELINES]["answers"]))
        tables[main.title]["scores"] = pd.concat([tables[main.title]["scores"], simple])
    joined = with_column(tables)
    joined["networks"] = network_table(asked, inputs.networks)
    return Results(asked, joined, data, found.seconds)


def prepare(study: Study, inputs: Inputs) -> Callable[[int], Piece]:
    """Return what is trained with a seed; what a split keeps together is found once for all seeds."""
    kept = units(inputs.images(study), study.split)
    names = dict.fromkeys(arm.network for arm in study.arms)
    cohorts = {name: partition.grouped(inputs.of_network(study, name), kept) for name in names}
    return partial(piece, study, inputs, cohorts)


def piece(study: Study, inputs: Inputs, cohorts: Mapping[str, VariantCohort], seed: int) -> Piece:
    """Return the trainings of a study with one seed, judged on the test rows of all clients together.

    Of a study with curves, federated and centralised models are also looked at after each round. After a
    round both have passed equally often over the same training rows.
    """
    deal = fold_sites if study.folds else split_and_flip
    sites = {name: deal(cohort, study, seed) for name, cohort in cohorts.items()}
    pooled = {name: federation.pooled(dealt) for name, dealt in sites.items()}
    classes = len(inputs.images(study).classes)
    models = {name: initial_network(name, classes, seed) for name in cohorts}
    sides = {name: {"validation": of.validation, "test": of.test} for name, of in pooled.items()}
    trials = [
        Trial(
            arm=arm,
            seed=seed,
            rounds=inputs.asked.rounds,
            sites=sites[arm.network],
            model=models[arm.network],
            judged={"test": pooled[arm.network].test},
            monitor=sides[arm.network] if study.curves and arm.kind != "isolated" else None,
        )
        for arm in study.arms
    ]
    counts = pd.DataFrame([{"seed": seed, **sizes(sites[study.arms[0].network])}])
    return Piece(trials=trials, examine=examine, beside=lambda: {"sizes": counts})


def examine(trial: Trial, runs: Mapping[str, Run], where: Where) -> Tables:
    """Return a trial's answers and cost, the intervals of its accuracies, and its curves if it has any."""
    found = answers(trial, runs, where)
    test = trial.judged["test"]
    rows = [intervals(p, test) for p in read_answers(found["answers"])]
    curves = {} if trial.monitor is None else {"curves": curve(trial, runs[trial.arm.name])}
    return {**found, "intervals": pd.DataFrame(rows), **curves}


def prepare_baselines(study: Study, inputs: Inputs) -> Callable[[int], Piece]:
    """Return what needs no network with a seed: fifteen colour statistics, and the commonest class.

    Flipping changes neither, so they learn from and judge every image once. Every fourth pixel of every
    fourth line says enough of the colours.
    """
    images = inputs.images(study)
    thinned = replace(images, images=images.images[:, :, ::4, ::4])
    cohort = partition.grouped(thinned, units(images, study.split))
    return lambda seed: Piece(beside=lambda: {"answers": answer_table(baselines(cohort, seed))})


def baselines(images: ImageCohort, seed: int) -> list[Prediction]:
    """Return what needs no network and learns from the training images of a split."""
    train, _, test = partition.split(images, validation=VALIDATION, test=TEST, seed=seed)
    return learn_and_answer(train, {"test": test}, seed, learners(seed))


# The tables


def study_tables(study: Study, rounds: int, found: Tables) -> Tables:
    """Return the tables that every study has, by title, and its curves if it has any."""
    epochs = {arm.name: arm.recipe.local_epochs for arm in study.arms}
    cost = scores.cost_table(found["cost"])
    cost["passes"] = [rounds * epochs[arm_of(name)] for name in cost["arm"]]
    own = {"scores": score_rows(read_answers(found["answers"])), "cost": cost}
    return own | {name: found[name] for name in ("intervals", "sizes", "curves") if name in found}


def arm_of(name: str) -> str:
    """Return the arm of a run: "isolated" of "isolated: site-1"."""
    return name.partition(": ")[0]


def intervals(p: Prediction, test: LabelledCohort) -> dict[str, object]:
    """Return one model's accuracy with two 95 % intervals: rows drawn one by one, and whole clusters.

    A cluster is a patient of ``test``: what the split kept together, or of the leak the flips of an image.
    """
    answers = [p.labels, p.probabilities.argmax(axis=1)]
    draw = partial(evaluation.bootstrap_interval, evaluation.accuracy, answers, seed=p.seed, draws=DRAWS)
    by_row, whole = draw(), draw(cluster=test.patient)
    return {
        "arm": p.arm,
        "seed": p.seed,
        "rows": len(p.labels),
        "clusters": len(np.unique(test.patient)),
        "accuracy": by_row.estimate,
        "low": whole.low,
        "high": whole.high,
        "low, rows as if independent": by_row.low,
        "high, rows as if independent": by_row.high,
    }


def sizes(sites: Sequence[Site[VariantCohort]]) -> dict[str, object]:
    """Return the rows of each part, and the share of test rows of which something is in the training set.

    That is a row of what the split should keep together: another flip of the image, for example.
    """
    pooled = federation.pooled(sites)
    parts = {part: getattr(pooled, part) for part in partition.PARTS}
    known = np.isin(pooled.test.patient, pooled.train.patient)
    return {
        **{f"{part} rows": len(cohort) for part, cohort in parts.items()},
        "test clusters": len(np.unique(pooled.test.patient)),
        "test rows with a sibling in training": float(known.mean()),
    }


def curve(trial: Trial, run: Run) -> pd.DataFrame:
    """Return the accuracies of one training by round, and how often it had passed over its rows."""
    found = run.curve("accuracy", phase="monitor").rename_axis(columns=None).reset_index()
    found.insert(1, "passes", found["round"] * trial.arm.recipe.local_epochs)
    return found.assign(arm=trial.arm.name, seed=trial.seed)


def main_tables(predictions: Sequence[Prediction], study: Study, classes: Sequence[str]) -> Tables:
    """Return confusion, ROC curves and classes of the federated arm, all seeds together."""
    federated = [p for p in predictions if p.arm == federated_name(study.arms)]
    counts = [
        evaluation.confusion_matrix(p.labels, p.probabilities.argmax(axis=1), classes) for p in federated
    ]
    curves = pd.concat([evaluation.roc_curves(p.labels, p.probabilities, classes) for p in federated])
    mean = curves.groupby(["curve", "false positives"], sort=False)["true positives"].mean()
    by_seed = scores.per_class(federated, classes).drop(columns="seed")
    return {
        "confusion": sum(counts[1:], counts[0])
        .rename_axis("true class")
        .rename_axis(columns=None)
        .reset_index(),
        "roc": mean.reset_index(),
        "per class": by_seed.groupby(["arm", "where", "class"], sort=False).mean().reset_index(),
    }


def network_table(asked: Protocol, networks: Mapping[str, nn.Module]) -> pd.DataFrame:
    """Return what each network starts from, and how much of it is trained and travels."""
    rows = []
    for name, network in networks.items():
        rows.append(
            {
                "network": name,
                "size": asked.small_size if name == SMALL else asked.size,
                "starts from": network.weights if isinstance(network, SplitModel) else "random",
                "parameters": sum(parameter.numel() for parameter in network.parameters()),
                "trained": sum(parameter.numel() for parameter in trained_part(network).parameters()),
            }
        )
    return pd.DataFrame(rows)


def report(results: Results) -> str:
    """Return what the networks start from, and each study's measures by arm, as text."""
    table = results.tables["scores"]
    parts = [results.tables["networks"].to_string(index=False)]
    parts += [
        f"{study.title}\n{measures(table[table['study'] == study.title]).to_string()}"
        for study in results.protocol.studies
    ]
    return "\n\n".join(parts)
