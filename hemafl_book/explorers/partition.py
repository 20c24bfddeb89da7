"""What the partition explorer of chapter 2 varies: how many sites, and who holds which cells.

Nothing is trained and no image is read. The labels are as many as the paper's data set has of each class. One
deal is shown; how unlike the sites are is a mean over ten, since sites of one deal may be alike by chance.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch

from hemafl_book.explorers.repetitions import repeated
from hemafl_book.explorers.sweep import Sweep
from hemafl_lib import partition
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import Provenance, TableCohort
from hemafl_lib.partition import Site

COUNTS = dict(zip(smear.LEUKAEMIA, (504, 985, 963, 804), strict=True))
"""Images of each class in the public data set of Aria et al. (Taleqani hospital), 3,256 in all."""

TABLE = "settings"
"""The title of the recording's table."""

MEASURES = ("jensen_shannon", "total_variation", "earth_movers")
DEALS = range(10)
"""The seeds of the deals; the first is shown."""

Way = Callable[[TableCohort, int, int], list[Site[TableCohort]]]


def dirichlet(alpha: float) -> Way:
    """Return the scheme that deals each class in shares drawn from a Dirichlet distribution."""
    return lambda cohort, sites, seed: partition.dirichlet(
        cohort, sites=sites, alpha=alpha, seed=seed, minimum=2, validation=0, test=0
    )


def even(cohort: TableCohort, sites: int, seed: int) -> list[Site[TableCohort]]:
    """Give every site as many rows as any other, of all classes alike."""
    return partition.iid(cohort, sites=sites, seed=seed, validation=0, test=0)


def two_classes(cohort: TableCohort, sites: int, seed: int) -> list[Site[TableCohort]]:
    """Give every site rows of two classes only."""
    return partition.pathological(cohort, sites=sites, classes_per_site=2, seed=seed, validation=0, test=0)


def unequal_sizes(cohort: TableCohort, sites: int, seed: int) -> list[Site[TableCohort]]:
    """Give the k-th site a k-th of what the first has, of all classes alike."""
    return partition.quantity(
        cohort, proportions=partition.power_law(sites, 1.0), seed=seed, validation=0, test=0
    )


WAYS: dict[str, Way] = {
    "even": even,
    "unequal sizes": unequal_sizes,
    "Dirichlet 10": dirichlet(10.0),
    "Dirichlet 1": dirichlet(1.0),
    "Dirichlet 0.3": dirichlet(0.3),
    "Dirichlet 0.1": dirichlet(0.1),
    "two classes each": two_classes,
}
"""Ways to deal the cells, by name."""

CONTROLS = {"clients": (2, 3, 5, 10), "scheme": tuple(WAYS)}
"""The settings that are recorded, by the argument of `explore`."""


@dataclass(frozen=True)
class Holdings:
    """Who holds which images.

    ``counts`` holds the number of images of one deal, one row a site and one column a class. The divergences
    are means over all pairs of sites and all deals. The earth mover's distance takes a
    step from a class to the next to cost 1, as if the classes were stages in this order; the subtypes of
    leukaemia are not.
    """

    counts: pd.DataFrame
    jensen_shannon: float
    total_variation: float
    earth_movers: float


def explore(
    clients: int,
    scheme: str,
    *,
    report: Callable[[int], object] = lambda done: None,
    stop: threading.Event | None = None,
) -> Holdings:
    """Deal the paper's 3,256 labels to ``clients`` sites by a key of `WAYS`, once for each of `DEALS`.

    ``report`` is called after every deal with the number of those that are done; set ``stop`` from another
    thread to end with `hemafl_lib.errors.Stopped`.
    """

    def distances(seed: int) -> pd.DataFrame:
        table = partition.divergence_table(WAYS[scheme](labels(), clients, seed))
        return table[list(MEASURES)].mean().to_frame().T

    done = list(repeated(len(DEALS), distances, report, lambda: stop is not None and stop.is_set()))
    shown = WAYS[scheme](labels(), clients, DEALS[0])
    counts = {site.name: np.bincount(site.train.targets, minlength=len(COUNTS)).tolist() for site in shown}
    divergences = pd.concat(done).mean()
    return _holdings(counts, {measure: float(divergences[measure]) for measure in MEASURES})


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
        "deals": len(DEALS),
    }


def to_rows(found: Holdings) -> dict[str, pd.DataFrame]:
    """Return one row of a recording; of the counts, a line is a site and its images of each class."""
    lines = [f"{site}: {' '.join(map(str, row))}" for site, *row in found.counts.itertuples()]
    return {TABLE: pd.DataFrame([{**asdict(found), "counts": "\n".join(lines)}]).round(4)}


def from_rows(rows: Mapping[str, pd.DataFrame]) -> Holdings:
    """Return the holdings of a row; its divergences are rounded to four decimals."""
    (row,) = rows[TABLE].to_dict("records")
    lines = [line.split(": ") for line in row["counts"].split("\n")]
    counts = {site: [int(number) for number in text.split()] for site, text in lines}
    return _holdings(counts, {measure: row[measure] for measure in MEASURES})


def _holdings(counts: dict[str, list[int]], divergences: Mapping[str, float]) -> Holdings:
    table = pd.DataFrame.from_dict(counts, orient="index", columns=pd.Index(COUNTS))
    return Holdings(table, **{measure: divergences[measure] for measure in MEASURES})


SWEEP = Sweep(
    title="How many sites, and who holds which cells",
    controls=CONTROLS,
    explore=explore,
    tables={TABLE: tuple(CONTROLS)},
    to_rows=to_rows,
    from_rows=from_rows,
    protocol=protocol,
    data=lambda: [labels().provenance],
    seeds=DEALS,
)
