"""Chapter 3: updates in fewer bytes, and what they cost in accuracy.

A hospital sends its update in one byte a number (`Quantise`), or only the largest numbers of it (`TopK`),
with and without error feedback, which adds to the next update what the code has lost. The last layer of
EfficientNet-Lite0 is trained by three hospitals of different classes, at 96 pixels, on images as they are.
The way from the server to the hospitals is as it was, so both ways are counted, and the way up alone.

A seed decides the split, the dealing, the initial weights, the order, and the draws of the rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from hemafl_book.papers import leukaemia
from hemafl_book.papers.arms import Prediction, Tables, on_one_core, probabilities
from hemafl_book.papers.baselines import learn_and_answer, learners
from hemafl_book.papers.changes import UNCHANGED, Changes
from hemafl_book.papers.copies import ORIGINAL, network_inputs
from hemafl_book.papers.dealing import Deal
from hemafl_book.papers.leukaemia import BACKBONE, recipe
from hemafl_book.papers.macro_scores import measures, score_rows
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.protocol import OfStudies, describe
from hemafl_book.papers.studies import Piece, each_study, run_studies
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results
from hemafl_lib import federation, partition
from hemafl_lib.data.cohort import ImageCohort, VariantCohort
from hemafl_lib.federation import Quantise, Run, TopK
from hemafl_lib.federation.wire import Wire
from hemafl_lib.models import image_model, trained_part
from hemafl_lib.parallel import for_each
from hemafl_lib.partition import Site

WHOLE = "whole updates"

CLIENTS, ALPHA, MINIMUM, ROUNDS = 3, 0.5, 100, 10
VALIDATION, TEST = 0.1, 0.2

LOCAL_EPOCHS = 1
"""Of a round. Chapter 3 has 5; who sends more often has more to gain by sending less."""

WIRES: Mapping[str, Quantise | TopK | None] = {
    WHOLE: None,
    "8 bits": Quantise(),
    "largest 20 %": TopK(share=0.2),
    "largest 5 %": TopK(share=0.05),
    "largest 1 %": TopK(share=0.01),
    "largest 1 %, no feedback": TopK(share=0.01, feedback=False),
}
"""How an update travels, by the name of the arm."""

OFFER = Offer(
    name="all-traffic",
    title="leukaemia by transfer learning: updates in fewer bytes (chapter 3)",
    sources=("real", "smear"),
    embedded="SIMULATED data",
    takes=("seed", "rounds", "local_epochs"),
    reads=(leukaemia.HOSPITAL,),
)

CHOSEN: Mapping[str, str] = {
    "recipe": "chapter 3's for the last layer, one local epoch and no copies, for time; no other was tried",
    "codes": "8 bits and three shares, by hand; none that was computed is left out, and no record shows when "
    "they were fixed",
}
"""What was chosen, on what, and after how many tries."""


@dataclass(frozen=True)
class Study:
    """The codes that are compared on the same clients and test images, and the seeds."""

    title: str
    codes: tuple[str, ...]
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
    studies: tuple[Study, ...]
    rounds: int = ROUNDS
    local_epochs: int = LOCAL_EPOCHS
    changes: Changes = UNCHANGED

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        return describe(
            self,
            recipe=asdict(recipe(local_epochs=self.local_epochs)),
            network=BACKBONE,
            wires={name: described(wire) for name, wire in WIRES.items()},
            deal=DEAL.describe(),
            validation=VALIDATION,
            test=TEST,
            chosen=CHOSEN,
        )


def described(wire: Quantise | TopK | None) -> dict[str, Any] | None:
    """Return a code as plain JSON values."""
    return None if wire is None else {"name": type(wire).__name__, **asdict(wire)}


DEAL = Deal("dirichlet", CLIENTS, ALPHA, MINIMUM)
"""Three clients of different classes, those of `all_transfer`."""


def protocol(preset: str = "quick", source: str = "smear", changes: Changes = UNCHANGED) -> Protocol:
    """Return the protocol of a preset on a source of data, with ``changes``.

    Parameters
    ----------
    preset
        "quick" (few images at 64 pixels, one seed) or "paper" (96 pixels, ten seeds).
    source
        "real" or "smear".

    Raises
    ------
    HemaflError
        If something is unknown.
    """
    OFFER.check(preset, source, changes)
    rounds, epochs = changes.rounds or ROUNDS, changes.local_epochs or LOCAL_EPOCHS
    quick = preset == "quick"
    seeds = changes.seeds((0,) if quick else tuple(range(10)))
    study = Study("codes", tuple(WIRES), 64 if quick else 96, seeds)
    cells, patients = (600, 30) if quick else (1000, 89)
    return Protocol(preset, source, cells, patients, (study,), rounds, epochs, changes)


# The data


def smears(asked: Protocol, size: int, root: Path | None = None) -> ImageCohort:
    """Return all images of Taleqani Hospital, or simulated ones, each of which counts as a patient."""
    if asked.source == "real":
        return leukaemia.real_images(None, size, root)
    return leukaemia.drawn_images(asked.cells, size, asked.patients, leukaemia.SHARES)


def clients(cohort: VariantCohort, seed: int) -> list[Site[VariantCohort]]:
    """Split the images and deal them to three clients of different classes."""
    return DEAL.sites(
        cohort, seed=seed, validation=VALIDATION, test=TEST, split_by="row", split_within="cohort"
    )


# The experiment


def run(asked: Protocol, where: Where = HERE) -> Results:
    """Run all studies of a protocol and return their tables; see `Paper`."""
    (study,) = asked.studies
    images = smears(asked, study.size, where.root)
    series = each_study(asked.studies, lambda study: prepare(study, asked, images, where))
    found = run_studies(asked, series, where, (images.provenance,))
    return Results(asked, found[study.title], (images.provenance,), found.seconds)


def prepare(study: Study, asked: Protocol, images: ImageCohort, where: Where) -> Callable[[int], Piece]:
    """Return what is computed with a seed; the frozen layers are evaluated once, for all seeds."""
    network = image_model(BACKBONE, len(images.classes), trainable="head", seed=0)
    copies = {ORIGINAL: as_it_is}
    read = network_inputs(network, images, copies=copies, device=where.device)
    return lambda seed: Piece(beside=partial(compare, study, asked, images, read, seed, where))


def as_it_is(images: Any) -> Any:
    """Return images unchanged."""
    return images


def compare(
    study: Study, asked: Protocol, images: ImageCohort, read: VariantCohort, seed: int, where: Where
) -> Tables:
    """Return the scores of all codes with a seed, and how many bytes they sent."""
    sites = clients(read, seed)
    test = federation.pooled(sites).test

    def job(code: str) -> Run:
        return train(code, asked, sites, seed, where)

    runs = dict(zip(study.codes, for_each(job, study.codes, engine=where.engine), strict=True))
    said = without_a_network(images, seed)
    for code, one in runs.items():
        said.append(Prediction(code, seed, "test", test.labels.numpy(), probabilities(one.model, test)))
    whole = runs[WHOLE]
    down = whole.bytes_sent / 2
    cost = [
        {
            "arm": code,
            "seed": seed,
            "bytes sent": one.bytes_sent,
            "share of both ways": one.bytes_sent / whole.bytes_sent,
            "share of the way up": (one.bytes_sent - down) / down,
        }
        for code, one in runs.items()
    ]
    return {"scores": score_rows(said), "cost": pd.DataFrame(cost)}


def train(code: str, asked: Protocol, sites: Sequence[Site[VariantCohort]], seed: int, where: Where) -> Run:
    """Return the federation whose updates travel in a code."""
    model = image_model(BACKBONE, len(sites[0].train.classes), trainable="head", seed=seed)
    settings: dict[str, Any] = {
        "model": trained_part(model),
        "recipe": recipe(local_epochs=asked.local_epochs),
        "rounds": asked.rounds,
        "seed": seed,
        **on_one_core(where),
    }
    wire = WIRES[code]
    return federation.run(sites, **settings) if wire is None else run_over(wire, sites, seed, settings)


def run_over(wire: Wire, sites: Sequence[Site[VariantCohort]], seed: int, settings: Mapping[str, Any]) -> Run:
    """Return the federation over a wire; what rounds by chance draws from the seed."""
    drawn = replace(wire, seed=seed) if isinstance(wire, Quantise) else wire
    return federation.run_over(drawn, sites, **settings)


def without_a_network(images: ImageCohort, seed: int) -> list[Prediction]:
    """Return what fifteen colour statistics and the commonest class say of the test images."""
    parts, _, test = partition.split(images, by="row", validation=VALIDATION, test=TEST, seed=seed)
    return learn_and_answer(parts, {"test": test}, seed, learners(seed))


def report(results: Results) -> str:
    """Return the measures of each code on the test images, and its bytes, as text."""
    cost = results.tables["cost"].groupby("arm", sort=False).mean().drop(columns="seed").round(3)
    return f"{measures(results.tables['scores']).to_string()}\n\n{cost.to_string()}"
