"""Chapter 1: personal models, judged on own patients, and a cross-validation in four folds.

All hospitals of `hemafl_book.papers.leave_one_out` train a linear classifier on the features of a frozen
network, by its recipe. In the first study each then goes on alone from the shared classifier, for its own
patients; beside it stand its own model, trained as long, and features standardised by its own statistics, as
a batch norm that stays at home would (FedBN). In the second, training in one place and FedAvg are
cross-validated, as the paper does with the former: every cell is tested once with each seed.

A seed decides the split or the folds, the initial weights, and the order of the cells.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold
from torch import nn

from hemafl_book.papers import leave_one_out as left_out
from hemafl_book.papers import scores
from hemafl_book.papers.arms import Tables, on_one_core, probabilities
from hemafl_book.papers.baselines import colour_probabilities
from hemafl_book.papers.changes import UNCHANGED, Changes
from hemafl_book.papers.leave_one_out import BACKBONE, COLOUR, HOSPITALS, REAL, SIZE, Drawn, Fold
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.protocol import describe
from hemafl_book.papers.studies import Piece, each_study, run_studies, with_titles
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results
from hemafl_lib import federation
from hemafl_lib.data.cohort import ImageCohort, VariantCohort
from hemafl_lib.models import backbone
from hemafl_lib.parallel import for_each
from hemafl_lib.partition import Site
from hemafl_lib.seeds import derive
from hemafl_lib.training import Recipe

OFFER = Offer(
    name="own-patients",
    title="personal models on own patients, and four folds (chapter 1)",
    sources=("real", "smear"),
    embedded="SIMULATED data",
    takes=("seed", "rounds", "local_epochs"),
    reads=tuple(REAL),
)

FOLDS = 4
"""The paper's cross-validation."""

NOBODY = "nobody"
"""Is left out where all hospitals train."""


@dataclass(frozen=True)
class Way:
    """One arm: who trains together, by whose statistics features are standardised, and rounds at home.

    A hospital goes on alone for ``home`` rounds from what was shared; an isolated one trains as many longer.
    """

    name: str
    kind: str = "federated"
    own: bool = False
    home: int = 0

    def describe(self) -> dict[str, Any]:
        """Return the arm as plain JSON values."""
        return asdict(self)

    def standardising(self) -> left_out.Way:
        """Return the arm as `leave_one_out.fold` reads it."""
        return left_out.Way(self.name, statistics="own" if self.own else "pooled")


@dataclass(frozen=True)
class Study:
    """The arms that are compared, in ``folds`` or on a test of every hospital, and their seeds."""

    title: str
    recipe: Recipe
    arms: tuple[Way, ...]
    seeds: tuple[int, ...]
    folds: bool = False


@dataclass(frozen=True)
class Protocol(left_out.Protocol):
    """Everything that decides the numbers, apart from the data's bytes and the seeds.

    ``variants`` is 1, and no hospital is drawn.
    """

    studies: tuple[Any, ...]

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        return describe(self, hospitals=HOSPITALS[self.source], folds=FOLDS, chosen=CHOSEN)


def run(asked: Protocol, where: Where = HERE) -> Results:
    """Run all studies of a protocol and return their tables; see `Paper`."""
    images = left_out.hospitals(asked, where.root)
    series = each_study(asked.studies, lambda study: prepare(study, asked, images, where))
    found = run_studies(asked, series, where, (images.provenance,))
    tables = {study.title: summaries(study, found[study.title], asked) for study in asked.studies}
    return Results(asked, with_titles(tables), (images.provenance,), found.seconds)


def prepare(study: Study, asked: Protocol, images: ImageCohort, where: Where) -> Callable[[int], Piece]:
    """Return what is trained with a seed; the frozen layers are evaluated once, for all seeds and arms."""
    network = backbone(BACKBONE, len(images.classes), size=asked.size)
    features = left_out.features_of(network, images, where)
    task = cross_validate if study.folds else stay_at_home
    return lambda seed: Piece(beside=partial(task, study, asked, images, features, seed, where))


def train(
    way: Way, study: Study, rounds: int, sites: Sequence[Site[VariantCohort]], seed: int, where: Where
) -> dict[str, nn.Module]:
    """Return the model of each site; they are one unless hospitals train, or go on, alone."""
    settings: dict[str, Any] = {
        "model": left_out.start(sites[0].train.variants.shape[-1], seed),
        "recipe": study.recipe,
        "rounds": rounds,
        "seed": seed,
        **on_one_core(where),
    }
    if way.kind == "isolated":
        alone = federation.isolated(sites, **{**settings, "rounds": rounds + way.home})
        return {site: run.model for site, run in alone.items()}
    together = federation.centralised if way.kind == "centralised" else federation.run
    shared = together(sites, **settings).model
    if not way.home:
        return {site.name: shared for site in sites}
    onwards = {"model": shared, "rounds": way.home, "seed": derive(seed, "home") % 2**32}
    further = federation.isolated(sites, **{**settings, **onwards})
    return {site: run.model for site, run in further.items()}


def stay_at_home(
    study: Study, asked: Protocol, images: ImageCohort, features: VariantCohort, seed: int, where: Where
) -> Tables:
    """Train every arm at all hospitals, and judge it on each one's own patients."""
    batches = {**HOSPITALS[asked.source], NOBODY: ()}
    sites, _ = left_out.split_hospitals(features, NOBODY, batches, test=asked.test, seed=seed)
    seen, _ = left_out.split_hospitals(images, NOBODY, batches, test=asked.test, seed=seed)

    def job(way: Way) -> list[dict[str, Any]]:
        ready = left_out.fold(way.standardising(), sites, {}, None)
        models = train(way, study, asked.rounds, ready.sites, seed, where)
        return [row_of(way.name, site, models[site], cohort) for site, cohort in ready.own.items()]

    rows = [row for found in for_each(job, study.arms, engine=where.engine) for row in found]
    rows += colour_rows(federation.pooled(seen).train, {site.name: site.test for site in seen})
    return {"scores": pd.DataFrame(rows).assign(seed=seed)[["arm", "seed", *MEASURED]]}


MEASURED = ["where", "cells", "balanced accuracy"]


def row_of(arm: str, place: str, model: nn.Module, cohort: VariantCohort) -> dict[str, Any]:
    """Return one row of scores."""
    said = probabilities(model, cohort).argmax(axis=1)
    return left_out.score_row(arm, "", place, "own", cohort.labels.numpy(), said)


def colour_rows(train: ImageCohort, judged: Mapping[str, ImageCohort]) -> list[dict[str, Any]]:
    """Return what colour alone says at some places, learnt on training images."""
    found = {place: colour_probabilities(train, cohort).argmax(axis=1) for place, cohort in judged.items()}
    return [
        left_out.score_row(COLOUR, "", place, "own", judged[place].labels.numpy(), said)
        for place, said in found.items()
    ]


def cross_validate(
    study: Study, asked: Protocol, images: ImageCohort, features: VariantCohort, seed: int, where: Where
) -> Tables:
    """Train every arm on three of four folds of the cells, and judge it on the fourth."""
    parts = folds(features, asked.source, seed)

    def job(wanted: tuple[Way, int]) -> pd.DataFrame:
        way, number = wanted
        ready = left_out.fold(
            way.standardising(), fold_sites(features, asked.source, parts[number]), {}, None
        )
        models = train(way, study, asked.rounds, ready.sites, seed, where)
        row = row_of(way.name, "joint", next(iter(models.values())), joint_test(ready))
        return pd.DataFrame([row]).assign(fold=number)

    wanted = [(way, number) for way in study.arms for number in range(FOLDS)]
    tables = list(for_each(job, wanted, engine=where.engine))
    for number, (train_rows, test_rows) in enumerate(parts):
        rows = colour_rows(images.take(train_rows), {"joint": images.take(test_rows)})
        tables.append(pd.DataFrame(rows).assign(fold=number))
    table = pd.concat(tables, ignore_index=True).assign(seed=seed)
    return {"scores": table[["arm", "seed", "fold", *MEASURED]]}


def joint_test(ready: Fold) -> VariantCohort:
    """Return the test rows of all hospitals."""
    return federation.pooled(ready.sites).test


def folds(cohort: VariantCohort, source: str, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return training and test row numbers of each fold; each has its share of a hospital's every class."""
    hospitals = hospital_of(cohort, source)
    strata = [f"{place} {label}" for place, label in zip(hospitals, cohort.labels.tolist(), strict=True)]
    cut = StratifiedKFold(FOLDS, shuffle=True, random_state=derive(seed, "folds") % 2**32)
    return list(cut.split(np.zeros(len(cohort)), strata))


def fold_sites(
    cohort: VariantCohort, source: str, fold: tuple[np.ndarray, np.ndarray]
) -> list[Site[VariantCohort]]:
    """Return the hospitals as sites, each with its rows of the two sides of a fold."""
    named = replace(cohort, site=hospital_of(cohort, source))
    train, test = (named.take(rows) for rows in fold)
    return [Site(name, train.of_site(name), train.take([]), test.of_site(name)) for name in named.sites]


def hospital_of(cohort: VariantCohort, source: str) -> np.ndarray:
    """Return the hospital of every row; ``site`` names its batch."""
    hospital = {batch: name for name, own in HOSPITALS[source].items() for batch in own}
    return np.array([hospital[batch] for batch in cohort.site])


# The tables


def summaries(study: Study, found: Tables, asked: Protocol) -> Tables:
    """Return the rows of every seed, and what they say together."""
    rows = found["scores"]
    if study.folds:
        by_seed = rows.groupby(["arm", "seed", "where"], sort=False)["balanced accuracy"]
        spread = by_seed.std().rename("standard deviation of folds").reset_index()
        return {"scores": rows, "means": by_seed.mean().reset_index().merge(spread)}
    places = left_out.of_places(rows)
    mean = places.groupby(["arm", "seed"], sort=False)["balanced accuracy"].mean().reset_index()
    own = pd.concat([places, mean.assign(where=left_out.MEAN)], ignore_index=True)
    overlap = asked.test / (1 - asked.test)
    parts = [left_out.differences(own, other, overlap) for other in REFERENCES]
    return {
        "scores": rows,
        "own patients": scores.summary(own),
        "differences": pd.concat(parts, ignore_index=True),
    }


REFERENCES = ("isolated, 5 rounds longer", "FedAvg", COLOUR)
"""What personal models are held against: a hospital's own, trained as long, and the shared one."""


def report(results: Results) -> str:
    """Return each study's balanced accuracy by arm and place, as text."""
    tables = {study.title: results.tables[f"{study.title}: scores"] for study in results.protocol.studies}
    return "\n\n".join(
        f"{title}: balanced accuracy (chance {left_out.CHANCE:.2f})\n"
        f"{scores.interval_table(left_out.of_places(rows), 'balanced accuracy').to_string()}"
        for title, rows in tables.items()
    )


# The protocol


AT_HOME = (
    Way("isolated", "isolated"),
    Way("isolated, 5 rounds longer", "isolated", home=5),
    Way("FedAvg"),
    Way("FedAvg, own statistics", own=True),
    Way("FedAvg, 5 rounds at home", home=5),
    Way("FedAvg, own statistics, 5 rounds at home", own=True, home=5),
    Way("centralised", "centralised"),
)

CHOSEN: Mapping[str, str] = {
    "recipe": "that of the hospitals left out; no other was tried",
    "rounds at home": "5, as many as together; no other number was tried",
    "arms": "by hand; none that was computed is left out, and no record shows when they were fixed",
}
"""What was chosen, on what, and after how many tries."""


def protocol(preset: str = "quick", source: str = "smear", changes: Changes = UNCHANGED) -> Protocol:
    """Return the protocol of a preset on a source of data, with ``changes``.

    Parameters
    ----------
    preset
        "quick" (few cells, one seed) or "paper" (ten seeds).
    source
        "real" or "smear".

    Raises
    ------
    HemaflError
        If something is unknown.
    """
    OFFER.check(preset, source, changes)
    rounds = changes.rounds or 5
    recipe = replace(left_out.RECIPE, local_epochs=changes.local_epochs or left_out.RECIPE.local_epochs)
    quick = preset == "quick"
    seeds = changes.seeds((1,) if quick else tuple(range(1, 11)))
    folded = (Way("centralised", "centralised"), Way("FedAvg"))
    studies = (
        Study("at home", recipe, AT_HOME, seeds),
        Study("four folds", recipe, folded, seeds, folds=True),
    )
    return Protocol(preset, source, SIZE, 60 if quick else 150, Drawn(0, 0), 1, rounds, 0.2, studies, changes)
