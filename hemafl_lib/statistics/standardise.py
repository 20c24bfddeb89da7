"""Mean and standard deviation of every feature over all sites, without a row leaving any.

Each site sends, per feature, how many values it has, their sum and their sum of squares. Missing
values (NaN) are left out and counted, so that they can be filled with the mean of all sites.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.errors import FederationError
from hemafl_lib.partition import Site
from hemafl_lib.statistics.cells import check_cells
from hemafl_lib.statistics.messages import (
    MINIMUM,
    Account,
    Arrays,
    Form,
    Hospitals,
    Statistic,
    add_up,
    hospitals_of,
)
from hemafl_lib.statistics.plausible import check_counts, check_moments, check_sizes, require

NEGLIGIBLE = 1e-12
"""A variance below this share of the mean square is rounding, and the feature constant."""


def moments(cohort: TableCohort, question: Arrays, minimum: int = MINIMUM) -> Arrays:
    """Return a site's count, sum and sum of squares of each feature, missing values left out.

    Message: ``rows`` int64, ``count`` int64[F], ``sum`` and ``squares`` float64[F].
    Raises `FederationError` if a feature has values of fewer than ``minimum`` patients, or infinite ones.
    """
    values = cohort.features.numpy().astype(np.float64)
    if np.isinf(values).any():
        raise FederationError("a feature is infinite; mark missing values as NaN.")
    observed = ~np.isnan(values)
    count = observed.sum(axis=0)
    check_cells(count, minimum, "numbers of values of a feature", "leave the feature or the site out")
    known = np.where(observed, values, 0.0)
    return {
        "rows": np.array(len(values), dtype=np.int64),
        "count": count.astype(np.int64),
        "sum": known.sum(axis=0),
        "squares": (known**2).sum(axis=0),
    }


def moments_form(question: Arrays, features: int) -> Form:
    """Return the arrays of the message of `moments`."""
    known, sums = (np.int64, (features,)), (np.float64, (features,))
    return {"rows": (np.int64, ()), "count": known, "sum": sums, "squares": sums}


def check_moments_told(message: Arrays, question: Arrays, earlier: Mapping[str, Arrays]) -> None:
    """Raise `FederationError` if no patients could have these moments."""
    rows, count, squares = message["rows"], message["count"], message["squares"]
    check_counts(rows=rows)
    require(rows > 0 and (count >= 0).all(), "it counts no patients")
    require((count <= rows).all(), "'count' is more than the site's 'rows'")
    check_sizes(sum=message["sum"], squares=squares)
    require((squares >= 0).all(), "'squares' is negative")
    require((squares[count == 0] == 0).all(), "'squares' is of no values")
    check_moments(count.astype(np.float64), message["sum"], squares, "sum")


MOMENTS = Statistic(
    "moments",
    moments,
    "The number of patients, and per feature the number of known values, their mean and their spread at "
    "the site. Of a 0/1 feature the sum is the number of patients who have it, however few they are.",
    moments_form,
    check_moments_told,
)


@dataclass(frozen=True)
class Standardisation:
    """Mean and standard deviation of every feature over all sites.

    ``table`` has one row per feature: ``mean``, ``sd`` (divided by the count, as scikit-learn does),
    ``count`` (values known) and ``missing``.
    """

    table: pd.DataFrame
    account: Account

    def apply(self, sites: Sequence[Site[TableCohort]], *, scale: bool = True) -> list[Site[TableCohort]]:
        """Return sites whose missing values are the mean of all sites, in all three parts.

        With ``scale``, features then have mean 0 and standard deviation 1 over all training rows; a
        constant feature becomes 0. Nothing is learned from validation or test rows.
        """
        return [
            Site(site.name, *(self._fill(part, scale) for part in (site.train, site.validation, site.test)))
            for site in sites
        ]

    def _fill(self, cohort: TableCohort, scale: bool) -> TableCohort:
        if list(cohort.feature_names) != list(self.table.index):
            raise FederationError("'sites' have other features than were standardised; give the same sites.")
        mean, sd = self.table["mean"].to_numpy(), self.table["sd"].to_numpy()
        values = cohort.features.numpy().astype(np.float64)
        values = np.where(np.isnan(values), mean, values)
        if scale:
            values = (values - mean) / np.where(sd > 0, sd, 1.0)
        return replace(cohort, features=torch.from_numpy(values).to(cohort.features.dtype))


def standardise(sites: Sequence[Site[TableCohort]] | Hospitals, *, minimum: int = MINIMUM) -> Standardisation:
    """Return every feature's mean and standard deviation over the training rows of all sites; one round.

    Equal to those of the pooled rows, as far as float64 sums of squares allow: a spread below about a
    millionth of the mean counts as none.

    Raises
    ------
    FederationError
        If a site refuses (see `moments`), or a feature is missing at every site.
    """
    hospitals = hospitals_of(sites, minimum)
    total = add_up(hospitals.ask(MOMENTS))
    count = total["count"]
    if not count.all():
        name = hospitals.features[int((count == 0).argmax())]
        raise FederationError(f"feature '{name}' is missing at every site; leave it out.")
    mean, square = total["sum"] / count, total["squares"] / count
    variance = square - mean**2
    variance = np.where(variance > NEGLIGIBLE * square, variance, 0.0)
    table = pd.DataFrame(
        {"mean": mean, "sd": np.sqrt(variance), "count": count, "missing": total["rows"] - count},
        index=pd.Index(hospitals.features, name="feature"),
    )
    return Standardisation(table, hospitals.account())
