"""Who scales the features and fills what is unknown: three right ways, a harmful one, and two mistakes.

Each way takes hospitals with features as they were measured and returns them with mean 0 and standard
deviation 1, unknown values filled with the mean: nothing is drawn at random.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hemafl_lib import federation, statistics
from hemafl_lib.data.cohort import TableCohort, join
from hemafl_lib.partition import Site

Sites = Sequence[Site[TableCohort]]
Scaling = Callable[[Sites], list[Site[TableCohort]]]


def by_sums(sites: Sites) -> list[Site[TableCohort]]:
    """Scale with the moments of all training rows, which hospitals send as sums."""
    return statistics.standardise(sites, minimum=1).apply(sites)


def by_pooled_rows(sites: Sites) -> list[Site[TableCohort]]:
    """Scale with scikit-learn, fitted to the training rows of all hospitals in one table.

    It scales what is known before it fills the rest; the other way round, filled values would narrow the
    standard deviation.
    """
    scaler = make_pipeline(StandardScaler(), SimpleImputer(strategy="constant", fill_value=0.0))
    scaler.fit(federation.pooled(sites).train.features.double().numpy())

    def scaled(cohort: TableCohort) -> TableCohort:
        values = cohort.features.double().numpy()
        values = scaler.transform(values) if len(values) else values
        return replace(cohort, features=torch.from_numpy(values).float())

    return [
        Site(site.name, *(scaled(part) for part in (site.train, site.validation, site.test)))
        for site in sites
    ]


def by_each_hospital(sites: Sites) -> list[Site[TableCohort]]:
    """Scale every hospital with the moments of its own training rows."""
    return [by_sums([site])[0] for site in sites]


def by_all_rows(sites: Sites) -> list[Site[TableCohort]]:
    """Scale with the moments of training and test rows together: the mistake of scaling before the split."""
    everybody = [
        replace(site, train=join([site.train, site.validation, site.test], site.name)) for site in sites
    ]
    return statistics.standardise(everybody, minimum=1).apply(sites)


def by_test_rows(sites: Sites) -> list[Site[TableCohort]]:
    """Scale training rows with their own moments and test rows with theirs: the mistake of fitting twice."""
    tested = by_sums([replace(site, train=site.test) for site in sites])
    return [replace(site, test=other.test) for site, other in zip(by_sums(sites), tested, strict=True)]


SCALINGS: Mapping[str, Scaling] = {
    "federated sums": by_sums,
    "one table": by_pooled_rows,
    "each hospital its own": by_each_hospital,
    "training and test rows": by_all_rows,
    "test rows by themselves": by_test_rows,
}
"""The ways by what tables call them; the first is the one of all other studies."""


def furthest(sites: Sites, others: Sites) -> float:
    """Return the largest difference between the test features of two scalings of the same hospitals."""
    return max(
        float(np.abs(site.test.features.numpy() - other.test.features.numpy()).max())
        for site, other in zip(sites, others, strict=True)
    )
