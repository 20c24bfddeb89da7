"""Chapter 1: a hospital that nobody trained on, with the last layers trained, and batch norm at home.

`hemafl_book.papers.leave_one_out` trains a linear classifier on standardised features. Here the last
convolution of EfficientNet-Lite0, its batch norm and the classifier are trained by chapter 1's recipe, and
batch norm does the standardising: its running statistics are shared (FedAvg), stay at home (FedBN, Li et al.
2021), or are those of a hospital's own unlabelled images, once the training is over. The hospitals, their
cells, the drawn hospitals and the split of a seed are those of `leave_one_out`.

A seed decides the split, the initial classifier, the order of the cells, and the drawn hospitals.
"""

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from flwr.app import ArrayRecord, Context, Message
from torch import nn
from torch.optim.swa_utils import update_bn

from hemafl_book.papers import leave_one_out as left_out
from hemafl_book.papers import scores
from hemafl_book.papers.arms import Tables, on_one_core, probabilities
from hemafl_book.papers.blood_morphology import recipe as fine_tuning
from hemafl_book.papers.changes import UNCHANGED, Changes
from hemafl_book.papers.leave_one_out import BACKBONE, COLOUR, HOSPITALS, REAL, SIZE, Clients, Drawn
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.protocol import describe
from hemafl_book.papers.studies import Piece, each_study, run_studies, with_titles
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results
from hemafl_lib import federation
from hemafl_lib.aggregation import Parameters, weighted_mean
from hemafl_lib.data import classes, smear
from hemafl_lib.data.cohort import ImageCohort, VariantCohort
from hemafl_lib.federation import get_arrays, set_arrays
from hemafl_lib.federation.client import partition_of
from hemafl_lib.federation.exchange import from_record, get_record
from hemafl_lib.models import SplitModel, activations, backbone
from hemafl_lib.parallel import for_each
from hemafl_lib.partition import Site
from hemafl_lib.training import Recipe, as_input

OFFER = Offer(
    name="left-out-tuned",
    title="a hospital that nobody trained on, with the last layers trained (chapter 1)",
    sources=("real", "smear"),
    embedded="SIMULATED data",
    takes=("seed", "rounds", "local_epochs"),
    reads=tuple(REAL),
)

OWN = "own statistics"
"""Added to the name of an arm whose batch norms hold the statistics of a hospital's own unlabelled images."""


@dataclass(frozen=True)
class Way:
    """One arm.

    Attributes
    ----------
    name
        Of the arm as it was trained; with its hospitals' `OWN` statistics it has a row of its own.
    clients
        See `leave_one_out.Way`.
    one_place
        Whether all rows are trained on in one place.
    stays
        Whether batch norms, their scales and statistics, stay at the hospitals (FedBN). A hospital that did
        not train has their mean, weighted by cells.
    """

    name: str
    clients: Clients = "real"
    one_place: bool = False
    stays: bool = False

    def describe(self) -> dict[str, Any]:
        """Return the arm as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Study:
    """The arms that are compared with every hospital left out in turn, and their seeds."""

    title: str
    recipe: Recipe
    arms: tuple[Way, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Protocol(left_out.Protocol):
    """Everything that decides the numbers, apart from the data's bytes and the seeds.

    ``variants`` is 1: cells are read as they are.
    """

    studies: tuple[Any, ...]

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        fixed = {"hospitals": HOSPITALS[self.source], "smear": smear.VERSION}
        return describe(self, **fixed, chosen=CHOSEN)


# What is trained


class Inputs:
    """The hospitals' cells, the network, and what its last layers read of the cells."""

    def __init__(self, asked: Protocol, where: Where) -> None:
        self.asked, self.where = asked, where
        self.images = left_out.hospitals(asked, where.root)
        self.network = self.start(seed=0)

    def start(self, seed: int) -> SplitModel:
        """Return the network, with a classifier that the seed draws."""
        return backbone(BACKBONE, len(classes.CLASS_SCHEMES["four"]), size=self.asked.size, seed=seed)

    def read(self, images: ImageCohort) -> VariantCohort:
        """Return the activations before the last layers, the same for every seed."""
        return activations(self.network, images, count=1, device=self.where.device, progress=False)


def norm_names(model: nn.Module) -> str:
    """Return the regular expression of all arrays of a model's batch norms."""
    names = [name for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    return f"^({'|'.join(map(re.escape, names))})\\."


def with_statistics_of(model: nn.Module, cohort: VariantCohort) -> nn.Module:
    """Return a copy whose batch norms hold mean and variance of a cohort's images, without their labels."""
    model = copy.deepcopy(model)
    update_bn([as_input(cohort.variants[:, 0])], model)
    return model


@dataclass(frozen=True)
class Trained:
    """The models of one training: for who did not train, and by site where sites keep some layers."""

    shared: nn.Module
    own: Mapping[str, nn.Module] = field(default_factory=dict)

    def at(self, site: str) -> nn.Module:
        """Return the model that a site uses."""
        return self.own.get(site, self.shared)


def train(
    way: Way,
    recipe: Recipe,
    rounds: int,
    model: nn.Module,
    sites: Sequence[Site[VariantCohort]],
    seed: int,
    where: Where,
) -> Trained:
    """Return what the sites train together, or in one place."""
    settings: dict[str, Any] = {
        "model": model,
        "recipe": recipe,
        "rounds": rounds,
        "seed": seed,
        **on_one_core(where),
    }
    if way.one_place:
        return Trained(federation.centralised(sites, **settings).model)
    if way.stays:
        return with_norms_at_home(sites, settings)
    return Trained(federation.run(sites, **settings).model)


def with_norms_at_home(sites: Sequence[Site[VariantCohort]], settings: Mapping[str, Any]) -> Trained:
    """Train with batch norms that stay at the sites (FedBN); others have their mean, weighted by cells."""
    kept: dict[int, Parameters] = {}

    def read(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        reply = call_next(message, context)
        kept[partition_of(context)] = from_record(get_record(context.state, "local-arrays", ArrayRecord))
        return reply

    run = federation.run(sites, mods=[read], keep_local=norm_names(settings["model"]), **settings)
    cells = [float(len(site.train)) for site in sites]
    mean = weighted_mean([kept[number] for number in range(len(sites))], cells)
    own = {site.name: with_arrays(run.model, kept[number]) for number, site in enumerate(sites)}
    return Trained(with_arrays(run.model, mean), own)


def with_arrays(model: nn.Module, values: Parameters) -> nn.Module:
    """Return a copy of a model with other values of some arrays."""
    model = copy.deepcopy(model)
    now = get_arrays(model, values)
    set_arrays(model, {name: np.asarray(value).astype(now[name].dtype) for name, value in values.items()})
    return model


# What is judged


def judge(
    way: Way,
    trained: Trained,
    own: Sequence[Site[VariantCohort]],
    unseen: Mapping[str, VariantCohort],
) -> Iterator[dict[str, Any]]:
    """Yield a row for each batch of a hospital that did not train, and for each site that is one's own.

    A second row of each has the batch norms' statistics of the place: of all images of a strange batch, of
    the training images of a site.
    """
    strangers = [(name, "unseen", trained.shared, cohort, cohort) for name, cohort in unseen.items()]
    members = [(site.name, "own", trained.at(site.name), site.test, site.train) for site in own]
    for place, patients, model, cohort, unlabelled in [*strangers, *members]:
        for name, used in ((way.name, model), (f"{way.name}, {OWN}", with_statistics_of(model, unlabelled))):
            said = probabilities(used, cohort).argmax(axis=1)
            yield left_out.score_row(name, "", place, patients, cohort.labels.numpy(), said)


def with_drawn(
    way: Way, sites: Sequence[Site[VariantCohort]], drawn: VariantCohort
) -> list[Site[VariantCohort]]:
    """Return who trains: the real hospitals, the drawn ones as one client, or both."""
    simulated = [left_out.as_client(drawn)] if way.clients != "real" else []
    return [*(sites if way.clients != "drawn" else []), *simulated]


def prepare(study: Study, asked: Protocol, inputs: Inputs) -> Callable[[int], Piece]:
    """Return what is trained with a seed; the frozen layers are evaluated once, for all seeds and arms."""
    cohort = inputs.read(inputs.images)
    return lambda seed: Piece(beside=partial(all_folds, study, asked, inputs, cohort, seed))


def all_folds(study: Study, asked: Protocol, inputs: Inputs, cohort: VariantCohort, seed: int) -> Tables:
    """Train every arm with every hospital left out; drawn hospitals alone are trained once for all."""
    batches, model = HOSPITALS[asked.source], inputs.start(seed).suffix
    drawn = inputs.read(left_out.drawn_cells(asked, seed))
    folds = {
        name: left_out.split_hospitals(cohort, name, batches, test=asked.test, seed=seed) for name in batches
    }

    def job(wanted: tuple[Way, str]) -> Trained:
        way, fold = wanted
        sites = with_drawn(way, folds[fold][0], drawn)
        return train(way, study.recipe, asked.rounds, model, sites, seed, inputs.where)

    first = next(iter(batches))
    wanted = [(way, fold) for way in study.arms for fold in ([first] if way.clients == "drawn" else batches)]
    found = dict(zip(wanted, for_each(job, wanted, engine=inputs.where.engine), strict=True))
    parts = []
    for way in study.arms:
        for fold, (sites, unseen) in folds.items():
            trained = found[way, first if way.clients == "drawn" else fold]
            rows = pd.DataFrame(judge(way, trained, sites, unseen))
            parts.append(rows.assign(seed=seed, left_out=fold))
    parts += [left_out.colour_alone(inputs.images, fold, asked, seed) for fold in batches]
    table = pd.concat(parts, ignore_index=True).rename(columns={"left_out": "left out"})
    return {"scores": table[left_out.SCORES]}


# The tables


def run(asked: Protocol, where: Where = HERE) -> Results:
    """Run all studies of a protocol and return their tables; see `Paper`."""
    inputs = Inputs(asked, where)
    data = (inputs.images.provenance,)
    found = run_studies(
        asked, each_study(asked.studies, lambda one: prepare(one, asked, inputs)), where, data
    )
    tables = {study.title: summaries(found[study.title]) for study in asked.studies}
    return Results(asked, with_titles(tables), data, found.seconds)


def summaries(found: Tables) -> Tables:
    """Return the rows of every seed, and what they say together; see `leave_one_out.summaries`."""
    rows = found["scores"]
    unseen = left_out.with_mean(rows[rows["patients"] == "unseen"])
    return {
        "scores": rows,
        "unseen": scores.summary(unseen),
        "own patients": scores.summary(left_out.of_places(rows[rows["patients"] == "own"])),
        "differences": pd.concat([left_out.differences(unseen, other) for other in REFERENCES]),
    }


REFERENCES = ("FedAvg", f"FedAvg, {OWN}", "centralised", f"centralised, {OWN}", COLOUR)
"""What the other arms are held against at a hospital that is left out."""


def report(results: Results) -> str:
    """Return the balanced accuracy by arm and place, as text."""
    return "\n\n".join(left_out.about(study, results) for study in results.protocol.studies)


# The protocol


ARMS = (
    Way("FedAvg"),
    Way("FedBN", stays=True),
    Way("centralised", one_place=True),
    Way("drawn hospitals only", "drawn"),
)

CHOSEN: Mapping[str, str] = {
    "recipe": "chapter 1's, with 2 local epochs and with cells as they are; no other was tried",
    "arms": "by hand; none that was computed is left out, and no record shows when they were fixed; "
    "hospitals alone, and drawn ones beside real ones, were not computed, for time",
    "seeds": "3 of the 10, for time",
}
"""What was chosen, on what, and after how many tries."""


def protocol(preset: str = "quick", source: str = "smear", changes: Changes = UNCHANGED) -> Protocol:
    """Return the protocol of a preset on a source of data, with ``changes``.

    Parameters
    ----------
    preset
        "quick" (few cells, one seed, minutes) or "paper".
    source
        "real" or "smear".

    Raises
    ------
    HemaflError
        If something is unknown.
    """
    OFFER.check(preset, source, changes)
    rounds = changes.rounds or 5
    epochs = changes.local_epochs or left_out.RECIPE.local_epochs
    quick = preset == "quick"
    study = Study(
        "last layers", fine_tuning(local_epochs=epochs), ARMS, changes.seeds((1,) if quick else (1, 2, 3))
    )
    cells, drawn = (60, Drawn(12, 30)) if quick else (150, Drawn(20, 40))
    return Protocol(preset, source, SIZE, cells, drawn, 1, rounds, 0.2, (study,), changes)
