"""What the partition explorer of chapter 2 varies: how many sites, and who holds which cells.

Nothing is trained and no image is read. The labels are as many as the paper's data set has of each class.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hemafl_book.results import FrozenResult, freeze
from hemafl_lib import partition
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import Provenance, TableCohort
from hemafl_lib.parallel import cores
from hemafl_lib.partition import Site
from hemafl_lib.progress import bar

COUNTS = dict(zip(smear.LEUKAEMIA, (504, 985, 963, 804), strict=True))
"""Images of each class in the public data set of Aria et al. (Taleqani hospital), 3,256 in all."""

SPLIT = {"validation": 0.0, "test": 0.0}
MEASURES = ("jensen_shannon", "total_variation", "earth_movers")

Scheme = Callable[[TableCohort, int, int], list[Site]]


def by_dirichlet(alpha: float) -> Scheme:
    """Return the scheme that deals each class in shares drawn from a Dirichlet distribution."""
    return lambda cohort, sites, seed: partition.dirichlet(
        cohort, sites=sites, alpha=alpha, seed=seed, minimum=2, **SPLIT
    )


def evenly(cohort: TableCohort, sites: int, seed: int) -> list[Site]:
    """Give every site as many rows as any other, of all classes alike."""
    return partition.iid(cohort, sites=sites, seed=seed, **SPLIT)


def two_classes(cohort: TableCohort, sites: int, seed: int) -> list[Site]:
    """Give every site rows of two classes only."""
    return partition.pathological(cohort, sites=sites, classes_per_site=2, seed=seed, **SPLIT)


def unequal_sizes(cohort: TableCohort, sites: int, seed: int) -> list[Site]:
    """Give the k-th site a k-th of what the first has, of all classes alike."""
    return partition.quantity(cohort, proportions=partition.power_law(sites, 1.0), seed=seed, **SPLIT)


SCHEMES: dict[str, Scheme] = {
    "even": evenly,
    "unequal sizes": unequal_sizes,
    "Dirichlet 10": by_dirichlet(10.0),
    "Dirichlet 1": by_dirichlet(1.0),
    "Dirichlet 0.3": by_dirichlet(0.3),
    "Dirichlet 0.1": by_dirichlet(0.1),
    "two classes each": two_classes,
}
"""Ways to deal the cells, by name."""

CONTROLS = {"clients": (2, 3, 5, 10, 20), "scheme": tuple(SCHEMES)}
"""The settings that `record` computes, by the argument of `exploration`."""


@dataclass(frozen=True)
class Dealt:
    """What a setting gives.

    ``counts`` holds the number of images, one row a site and one column a class. The divergences are means
    over all pairs of sites. The earth mover's distance takes a step from a class to the next to cost 1, as
    if the classes were stages in this order; the subtypes of leukaemia are not.
    """

    counts: pd.DataFrame
    jensen_shannon: float
    total_variation: float
    earth_movers: float


def exploration(clients: int, scheme: str, *, seed: int = 0) -> Dealt:
    """Deal the paper's 3,256 labels to ``clients`` sites by a key of `SCHEMES`."""
    sites = SCHEMES[scheme](labels(), clients, seed)
    counts = {site.name: np.bincount(site.train.label, minlength=len(COUNTS)) for site in sites}
    table = pd.DataFrame.from_dict(counts, orient="index", columns=list(COUNTS))
    return Dealt(table, **partition.divergence_table(sites)[list(MEASURES)].mean().to_dict())


def labels() -> TableCohort:
    """Return the labels of the paper's data set as a table without features."""
    label = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(list(COUNTS.values())))
    rows = np.arange(len(label)).astype(str)
    return TableCohort(
        site=np.full(len(label), "Taleqani"),
        patient=rows,
        provenance=Provenance(
            name="class counts of the Taleqani data set",
            source="Published counts of 3,256 images; no image is read.",
            licence="not needed for counts.",
            simulated=False,
            checksum="-".join(map(str, COUNTS.values())),
        ),
        features=torch.empty(len(label), 0),
        feature_names=(),
        label=label,
    )


def protocol() -> dict:
    """Return what decides the recorded numbers, as plain JSON values."""
    return {
        "controls": {name: list(values) for name, values in CONTROLS.items()},
        "counts": COUNTS,
        "divergences": list(MEASURES),
    }


def record(out: Path, say: Callable[[str], object]) -> None:
    """Compute every setting in `CONTROLS` and write all to ``out`` as a frozen result."""
    began = time.monotonic()
    settings = [dict(zip(CONTROLS, values, strict=True)) for values in itertools.product(*CONTROLS.values())]
    rows = [{**setting, **packed(exploration(**setting))} for setting in bar(settings, desc="sweep")]
    freeze(
        out,
        protocol=protocol(),
        data=[labels().provenance],
        seeds=[0],
        seconds=time.monotonic() - began,
        device=f"{cores()} CPU cores",
        tables={"settings": pd.DataFrame(rows).round(4)},
    )
    say(f"{len(rows)} settings are in {out}.")


def packed(dealt: Dealt) -> dict:
    """Return one row of a recording; of the counts, a line is a site and its images of each class."""
    lines = [f"{site}: {' '.join(map(str, row))}" for site, *row in dealt.counts.itertuples()]
    return {**asdict(dealt), "counts": "\n".join(lines)}


def recorded(result: FrozenResult) -> dict[tuple, Dealt]:
    """Return what a recording holds by the values of `CONTROLS`; divergences are rounded to four decimals."""
    rows = result.table("settings").to_dict("records")
    return {tuple(row[name] for name in CONTROLS): _unpacked(row) for row in rows}


def _unpacked(row: dict) -> Dealt:
    lines = [line.split(": ") for line in row["counts"].split("\n")]
    counts = {site: [int(number) for number in text.split()] for site, text in lines}
    table = pd.DataFrame.from_dict(counts, orient="index", columns=list(COUNTS))
    return Dealt(table, **{measure: row[measure] for measure in MEASURES})
