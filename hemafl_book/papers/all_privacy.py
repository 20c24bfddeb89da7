"""Chapter 3: what differential privacy costs in accuracy, of the single image and of the whole client.

The paper of the chapter, World Journal of Advanced Research and Reviews 24(03), 2795-2806 (2024), says that
it uses differential privacy and states no epsilon, delta, clip, noise or unit. Here each of them is named.
On the same public images, the last layer of a pretrained network is trained for a fixed number of rounds,
with more and more noise: at the record level (DP-SGD inside the clients) and at the client level (clipping
and noise on the server), with few clients and with many.

Learning rate, local epochs and the clip of the client level were chosen by the accuracy on the validation
images of seed 0 with noise 1; the table "choice of clip" repeats the last comparison. At the record level,
clips from 0.1 to 10 differ by less than 0.03 there, if the learning rate is set to match, and 1 is the usual
one. No test image had a say. A hospital that chooses on its own patients would have to count that in its
epsilon too; here nothing of it is counted.

Between the network without privacy and the one that only clips stands the private recipe without clipping:
the first step is the price of the recipe, the second that of clipping, and the rest is that of the noise.
(At the record level the second step also draws each batch by a coin for every image, in the place of a
shuffle.) The private recipe's learning rate was chosen for steps of clipped length, so that without clipping
it is tried with a tenth and with ten times that rate as well; all three are shown.

One study trains more than the last layer: the last block too, with group norm, which DP-SGD needs. Of three
learning rates (0.5, 2, 8) it has the one of the last layer, which was the best on the validation images of
seed 0 with noise 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from hemafl_book.papers import baselines, dealing, leukaemia, scores
from hemafl_book.papers.arms import Arm, Kind, Tables, Trial, cost_rows, predictions
from hemafl_book.papers.changes import OPTIONS, UNCHANGED, Changes
from hemafl_book.papers.dealing import Deal
from hemafl_book.papers.leukaemia import BACKBONE
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.protocol import describe
from hemafl_book.papers.studies import Piece, Series, each_study, join, run_studies
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results
from hemafl_lib import partition
from hemafl_lib.data.cohort import CohortKind, ImageCohort, VariantCohort
from hemafl_lib.federation import Run
from hemafl_lib.models import BACKBONES, Norm, SplitModel, activations, backbone
from hemafl_lib.partition import Site
from hemafl_lib.privacy import ClientPrivacy, RecordPrivacy, round_steps
from hemafl_lib.training import Recipe

OFFER = Offer(
    name="all-privacy",
    title="what differential privacy costs (chapter 3)",
    sources=("real", "smear"),
    embedded="SIMULATED data",
    takes=tuple(name for name in OPTIONS if name != "aggregator"),
    models=tuple(BACKBONES),
    cohorts={"smear": "smear", leukaemia.HOSPITAL: "real"},
    reads=(leukaemia.HOSPITAL,),
)
"""No other aggregator: at the client level privacy itself is the aggregator."""

ROUNDS, DELTA = 10, 1e-5
VALIDATION, TEST = 0.1, 0.2
UNEQUAL, FEW, MANY = (6, 3, 1), (1, 1, 1), (1,) * 60
"""Relative sizes of the clients; their classes are alike."""

NOISES = (0.0, 0.3, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
CLIPS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Clips that are compared on the validation images, with noise `CHOICE_NOISE`."""
CHOICE_NOISE = 1.0

UNCLIPPED, TIMES = "private recipe without clipping", (0.1, 1.0, 10.0)
"""In the names of arms that follow the private recipe and do not clip; how many times its learning rate."""

NORM: Norm = "group"
"""What becomes of a batch norm that is trained, also without privacy: it would mix the images of a batch."""

MEASURES = ("accuracy", "balanced accuracy", "macro F1")

Level = Literal["record", "client"]
Trained = Literal["head", "top"]


@dataclass(frozen=True)
class Study:
    """Clients that train with the same clip and more and more noise.

    Parameters
    ----------
    title
        Stands in the column ``study`` of all tables.
    level
        Whom privacy protects: "record" is one image (`RecordPrivacy`), "client" a whole client
        (`ClientPrivacy`).
    proportions
        Relative sizes of the clients.
    noises
        Noise multipliers; 0 only clips.
    recipe, clip
        How a client trains, and the largest norm of an image's gradient or of a client's update.
    sampling
        Probability with which the server uses a client's reply; matters at the client level only.
    deal
        Another way to deal the images than by ``proportions``.
    trained
        The last layer of the network ("head"), or its last block too ("top"), see `models.backbone`.
    alone
        Whether each client also trains alone; whole clients are hidden among others only.
    times
        With how many times its learning rate the private recipe is trained without clipping.
    """

    title: str
    level: Level
    proportions: tuple[float, ...]
    noises: tuple[float, ...]
    recipe: Recipe
    clip: float = 1.0
    sampling: float = 1.0
    deal: Deal | None = None
    trained: Trained = "head"
    alone: bool = False
    times: tuple[float, ...] = TIMES

    def way(self) -> Deal:
        """Return how the images are dealt to the clients."""
        return self.deal or dealing.quantity(self.proportions)


@dataclass(frozen=True)
class Protocol:
    """Everything that decides the numbers, apart from the data's bytes.

    ``source`` is "real" (the folder of HEMAFL_DATA) or "smear" (simulated); ``size`` is the side in pixels
    of what the network reads; ``cells`` of ``patients`` are simulated. ``clips`` are compared on the
    validation images of the first of the ``seeds``.
    """

    preset: str
    source: str
    size: int
    cells: int
    patients: int
    studies: tuple[Study, ...]
    seeds: tuple[int, ...]
    clips: tuple[float, ...] = ()
    rounds: int = ROUNDS
    network: str = BACKBONE
    changes: Changes = UNCHANGED

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        fixed = {
            "without privacy": asdict(self.plain_recipe()),
            "delta": DELTA,
            "noise of the choice": CHOICE_NOISE,
            "initial": "by seed",
            "validation": VALIDATION,
            "test": TEST,
        }
        return describe(self, **fixed)

    def with_first_seed(self) -> "Protocol":
        """Return the protocol with its first seed."""
        return replace(self, seeds=self.seeds[:1])

    def plain_recipe(self) -> Recipe:
        """Return how a client trains without privacy."""
        return change_recipe(leukaemia.recipe(), self.changes)


def change_recipe(recipe: Recipe, changes: Changes) -> Recipe:
    """Return a recipe with as many local epochs as a user asks for."""
    return recipe if changes.local_epochs is None else replace(recipe, local_epochs=changes.local_epochs)


def record_recipe(**changes: Any) -> Recipe:
    """Return how a client trains when every image's gradient is clipped.

    Nearly all gradients are longer than the clip, so the learning rate sets the length of a step.
    """
    ours = Recipe(
        optimiser="sgd", learning_rate=2.0, momentum=0.0, weight_decay=0.0, batch_size=64, local_epochs=1
    )
    return replace(ours, **changes)


def client_recipe(**changes: Any) -> Recipe:
    """Return how a client trains when its update is clipped: local epochs cost no privacy."""
    return record_recipe(**({"learning_rate": 0.05, "local_epochs": 5} | changes))


def protocol(preset: str = "quick", source: str = "smear", changes: Changes = UNCHANGED) -> Protocol:
    """Return the protocol of a preset, with ``changes``.

    Parameters
    ----------
    preset
        "quick" (three noises, one seed) or "paper" (eight noises, five seeds, and the choice of the clip).
    source
        "real" or "smear".
    changes
        Where the clients are dealt anew, one study a level is left. There is no other aggregator: at the
        client level privacy itself is the aggregator.

    Raises
    ------
    HemaflError
        If something is unknown or refused.
    """
    OFFER.check(preset, source, changes)
    quick = preset == "quick"
    noises = (0.0, 1.0, 4.0) if quick else NOISES
    by_record, by_client = (change_recipe(own(), changes) for own in (record_recipe, client_recipe))
    record = Study("record level, 3 unequal clients", "record", UNEQUAL, noises, by_record, alone=True)
    few = Study("client level, 3 clients", "client", FEW, noises, by_client)
    many = Study("client level, 60 clients", "client", MANY, noises, by_client)
    if changes.deals:
        deal = changes.deal(record.way())
        record, few = (replace(one, title=f"{one.level} level, {deal}", deal=deal) for one in (record, few))
        many = few
    halved = replace(many, title=f"{many.title}, half of them a round", sampling=0.5)
    more = replace(
        record,
        title=f"{record.title}, last block",
        noises=(0.0, 1.0, 4.0),
        trained="top",
        alone=False,
        times=(1.0,),
    )
    studies = tuple(dict.fromkeys((record, few, many) if quick else (record, few, many, halved, more)))
    rounds, network = changes.rounds or ROUNDS, changes.network(BACKBONE)
    seeds = changes.seeds((0,) if quick else (0, 1, 2, 3, 4))
    if quick:
        return Protocol(preset, source, 64, 400, 20, studies, seeds, (), rounds, network, changes)
    return Protocol(preset, source, 96, 1600, 89, studies, seeds, CLIPS, rounds, network, changes)


# The data


def smears(asked: Protocol, root: Path | None = None) -> ImageCohort:
    """Return all images of Taleqani Hospital, or simulated ones."""
    if asked.source == "real":
        return leukaemia.real_images(asked.changes.data, asked.size, root)
    return leukaemia.drawn_images(asked.cells, asked.size, asked.patients)


def split_images(cohort: CohortKind, seed: int) -> Site[CohortKind]:
    """Split the images, or the patients where they are known; the clients have no say in it."""
    return Site("all images", *partition.split(cohort, validation=VALIDATION, test=TEST, seed=seed))


def clients(train: VariantCohort, study: Study, seed: int) -> list[Site[VariantCohort]]:
    """Deal the training images to the clients of a study."""
    return study.way().sites(train, seed=seed, validation=0.0, test=0.0)


# Training


@dataclass(frozen=True)
class Task:
    """One way of training with one seed.

    ``noise`` None is training without privacy: by a recipe of its own, or by the private recipe at so many
    ``times`` its learning rate.
    """

    study: Study
    seed: int
    noise: float | None
    kind: Kind = "federated"
    times: float | None = None

    def arm(self, plain: Recipe) -> Arm:
        """Return how the clients train and the server combines; ``plain`` is the recipe without privacy."""
        if self.times is not None:
            rate = self.times * self.study.recipe.learning_rate
            recipe = replace(self.study.recipe, learning_rate=rate)
            return Arm(f"{self.kind}, {UNCLIPPED}, rate {rate:g}", self.kind, recipe=recipe, norm=NORM)
        if self.noise is None:
            return Arm(f"{self.kind} without privacy", self.kind, recipe=plain, norm=NORM)
        if self.study.level == "record":
            return Arm(self.kind, self.kind, recipe=self.study.recipe, norm=NORM)
        privacy = ClientPrivacy(
            noise=self.noise,
            clip=self.study.clip,
            sampling=self.study.sampling,
            delta=DELTA,
            seed=self.seed,
        )
        return Arm(self.kind, aggregator=privacy, recipe=self.study.recipe, norm=NORM)

    def trainer(self) -> RecordPrivacy | None:
        """Return what clips and adds noise at the clients, if anything does."""
        if self.noise is None or self.study.level == "client":
            return None
        return RecordPrivacy(noise=self.noise, clip=self.study.clip, delta=DELTA)

    def labels(self) -> dict[str, Any]:
        """Return the columns that tell a task's rows from others."""
        return {
            "study": self.study.title,
            "noise": np.nan if self.noise is None else self.noise,
            "clip": self.study.clip,
            "learning rate": self.study.recipe.learning_rate,
        }


def tasks(study: Study, seed: int) -> list[Task]:
    """Return all trainings of a study with one seed: without privacy, with every noise, without clipping."""
    kinds: tuple[Kind, ...] = ("federated", "isolated") if study.alone else ("federated",)
    private = [Task(study, seed, noise, kind) for noise in (None, *study.noises) for kind in kinds]
    return [*private, *(Task(study, seed, None, times=times) for times in study.times)]


def epsilons(arm: Arm, run: Run) -> pd.DataFrame:
    """Return what was spent by the end of each round: columns ``site``, ``round`` and ``epsilon``.

    The server spends for all clients at once, ``site`` "server". Without noise epsilon is infinite; training
    without privacy has no rows.
    """
    privacy = arm.aggregator
    if isinstance(privacy, ClientPrivacy):
        numbers = run.history["round"].unique()
        rows = [("server", int(number), privacy.epsilon(int(number))) for number in sorted(numbers) if number]
        return pd.DataFrame(rows, columns=["site", "round", "epsilon"])
    found = run.history.query("metric == 'epsilon'")[["site", "round", "value"]]
    return found.rename(columns={"value": "epsilon"}).reset_index(drop=True)


def examine(trial: Trial, runs: Mapping[str, Run], where: Where) -> Tables:
    """Return a trial's rows of the tables "scores", "epsilon" and "cost"."""
    labels = {name: trial.labels[name] for name in ("study", "noise")}
    table = scores.score_table(predictions(trial, runs, where))
    spent = {name: epsilons(trial.arm, run) for name, run in runs.items()}
    largest = [spent[arm]["epsilon"].max() for arm in table["arm"]]
    named = [rows.assign(**labels, arm=arm, seed=trial.seed) for arm, rows in spent.items()]
    return {
        "scores": table.assign(**labels, epsilon=largest),
        "epsilon": pd.concat(named),
        "cost": cost_rows(trial, runs).assign(**labels),
    }


def examine_choice(trial: Trial, runs: Mapping[str, Run], where: Where) -> Tables:
    """Return a trial's row of the table that compares clips."""
    table = scores.score_table(predictions(trial, runs, where)).assign(**trial.labels)
    return {CHOICE: table[["study", "clip", "learning rate", *MEASURES]]}


# The experiment


class Inputs:
    """The images, the network, and what its last layers read of the images, which is computed when needed."""

    def __init__(self, asked: Protocol, where: Where) -> None:
        self.asked, self.device = asked, where.device
        self.images = smears(asked, where.root)
        self.found: dict[Trained, VariantCohort] = {}

    def network(self, trained: Trained, seed: int) -> SplitModel:
        """Return the network, of which what begins at random is drawn by the seed."""
        return backbone(self.asked.network, len(self.images.classes), trainable=trained, seed=seed)

    def read(self, trained: Trained) -> VariantCohort:
        """Return what is trained of the network reads; the frozen layers are the same for every seed."""
        if trained not in self.found:
            network = self.network(trained, 0)
            self.found[trained] = activations(
                network, self.images, batch_size=16, device=self.device, progress=False
            )
        return self.found[trained]


BASELINES, CHOICE = "without any network", "choice of clip"
"""Titles of what needs no network, and of what compares clips."""


def run(asked: Protocol, where: Where = HERE) -> Results:
    """Run all studies of a protocol and return their tables; see `Paper`."""
    inputs = Inputs(asked, where)
    data = (inputs.images.provenance,)
    series = each_study(asked.studies, lambda study: partial(piece, study, inputs), asked.seeds)
    series.append(Series(BASELINES, asked.seeds, lambda: partial(baselines_piece, inputs.images)))
    if asked.clips:
        series.append(Series(CHOICE, asked.seeds[:1], lambda: partial(choice_piece, inputs)))
    found = run_studies(asked, series, where, data)
    joined = join([in_order(found[study.title]) for study in asked.studies])
    tables = level_tables(asked, joined["scores"])
    tables["baselines"] = found[BASELINES]["baselines"]
    tables["epsilon"] = joined["epsilon"].query("arm == 'federated'").drop(columns="arm")
    tables["cost"] = mean_costs(joined["cost"])
    tables["sites"] = joined["sites"]
    if asked.clips:
        tables |= found[CHOICE]
    return Results(asked, tables, data, found.seconds)


def piece(study: Study, inputs: Inputs, seed: int) -> Piece:
    """Return the trainings of a study with one seed, judged on the test images."""
    parts = split_images(inputs.read(study.trained), seed)
    sites = clients(parts.train, study, seed)
    judged, network = {"test": parts.test}, inputs.network(study.trained, seed)
    trials = [trial(task, inputs, network, sites, judged) for task in tasks(study, seed)]
    return Piece(trials=trials, examine=examine, beside=lambda: {"sites": site_table(study, sites, seed)})


def choice_piece(inputs: Inputs, seed: int) -> Piece:
    """Return the trainings of the last layer with other clips, judged on the validation images."""
    parts = split_images(inputs.read("head"), seed)
    judged, network = {"validation": parts.validation}, inputs.network("head", seed)
    trials = [
        trial(Task(one, seed, CHOICE_NOISE), inputs, network, clients(parts.train, study, seed), judged)
        for study in inputs.asked.studies
        if study.trained == "head"
        for one in candidates(study, inputs.asked.clips)
    ]
    return Piece(trials=trials, examine=examine_choice)


def baselines_piece(images: ImageCohort, seed: int) -> Piece:
    """Return what needs no network: fifteen colour statistics, and the commonest class."""
    parts, learners = split_images(images, seed), baselines.learners(seed)
    said = baselines.learn_and_answer(parts.train, {"test": parts.test}, seed, learners)
    return Piece(beside=lambda: {"baselines": scores.score_table(said)})


def trial(
    task: Task,
    inputs: Inputs,
    network: SplitModel,
    sites: Sequence[Site[VariantCohort]],
    judged: Mapping[str, VariantCohort],
) -> Trial:
    """Return the training of a task."""
    return Trial(
        arm=task.arm(inputs.asked.plain_recipe()),
        seed=task.seed,
        rounds=inputs.asked.rounds,
        sites=sites,
        model=network,
        judged=judged,
        trainer=task.trainer(),
        labels=task.labels(),
    )


def candidates(study: Study, clips: Sequence[float]) -> list[Study]:
    """Return a study with other clips: with its learning rate, and in DP-SGD also with one to match.

    Where all gradients are clipped, a step is as long as learning rate times clip.
    """
    changed = [replace(study, clip=clip) for clip in clips]
    if study.level == "client":
        return changed
    rates = [study.recipe.learning_rate * study.clip / clip for clip in clips]
    matched = [
        replace(one, recipe=replace(one.recipe, learning_rate=rate))
        for one, rate in zip(changed, rates, strict=True)
        if one.clip != study.clip
    ]
    return changed + matched


# The tables


def in_order(found: Tables) -> Tables:
    """Return the tables of a study by noise, none first, and of each noise the federation's rows first."""
    alone = {
        title: table["arm"].str.startswith("isolated") for title, table in found.items() if "arm" in table
    }
    return found | {
        title: found[title].iloc[np.lexsort((isolated, found[title]["noise"].fillna(-1)))]
        for title, isolated in alone.items()
    }


def level_tables(asked: Protocol, table: pd.DataFrame) -> Tables:
    """Return the scores of each level."""
    record = [study.title for study in asked.studies if study.level == "record"]
    at_record = table["study"].isin(record)
    return {"record level: scores": table[at_record], "client level: scores": table[~at_record]}


def mean_costs(costs: pd.DataFrame) -> pd.DataFrame:
    """Return the optimiser steps and bytes sent of each training, averaged over the seeds."""
    keys = ["study", "arm", "noise"]
    return costs.drop(columns="seed").groupby(keys, sort=False, dropna=False).mean().reset_index()


def site_table(study: Study, sites: Sequence[Site[VariantCohort]], seed: int) -> pd.DataFrame:
    """Return the training images of every client, and how DP-SGD would sample them, or does."""
    steps = [round_steps(len(site), study.recipe, 0.0) for site in sites]
    return pd.DataFrame(
        {
            "study": study.title,
            "seed": seed,
            "site": [site.name for site in sites],
            "images": [len(site) for site in sites],
            "sample rate": [one.sample_rate for one in steps],
            "steps a round": [one.count for one in steps],
        }
    )


def utility(table: pd.DataFrame, metric: str = "balanced accuracy") -> pd.DataFrame:
    """Return the curve of epsilon against utility from a table of scores.

    Returns
    -------
    pd.DataFrame
        One row for each study, arm and noise (NaN without privacy), in their order: the ``epsilon`` (of the
        client that spent most, averaged over the seeds; NaN or infinite where nothing bounds it), and the
        metric's ``mean`` over the seeds with its 95 % interval, ``low`` and ``high``.
    """
    rows = []
    for (study, arm, noise), group in table.groupby(["study", "arm", "noise"], sort=False, dropna=False):
        interval = scores.mean_interval(group[metric])
        row = {"study": study, "arm": arm, "noise": noise, "epsilon": group["epsilon"].mean()}
        rows.append(row | {"mean": interval.estimate, "low": interval.low, "high": interval.high})
    return pd.DataFrame(rows)


def report(results: Results) -> str:
    """Return every study's measures by arm and noise, with the epsilon, beside the baselines, as text."""
    parts = []
    for level in ("record", "client"):
        table = results.tables[f"{level} level: scores"]
        parts += [f"{study}\n{measures(rows)}" for study, rows in table.groupby("study", sort=False)]
    baseline = results.tables["baselines"].assign(study="", noise=np.nan, epsilon=np.nan)
    return "\n\n".join([*parts, f"Without any network\n{measures(baseline)}"])


def measures(rows: pd.DataFrame) -> str:
    """Return arms and noises by measures as text: the mean over the seeds, with its interval."""
    curves = {metric: utility(rows, metric) for metric in MEASURES}
    table = curves["accuracy"][["arm", "noise", "epsilon"]].round(2)
    for metric, curve in curves.items():
        numbers = curve[["mean", "low", "high"]].to_numpy()
        table[metric] = [scores.as_text(mean, low, high, digits=3) for mean, low, high in numbers]
    return table.to_string(index=False, na_rep="")
