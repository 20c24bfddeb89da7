"""How an experiment's rows become clients: a scheme of `hemafl_lib.partition` and its settings."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hemafl_lib.data.cohort import CohortKind
from hemafl_lib.partition import SCHEMES, Site
from hemafl_lib.seeds import numpy_generator

ALPHA = 0.5
"""Strength of the label skew where neither the paper nor the user names one."""

SKEWED, EQUAL = "dirichlet", "iid"
"""The schemes that a user asks for by an ``alpha`` or a number of clients alone."""


@dataclass(frozen=True)
class Deal:
    """A scheme for a number of clients.

    Attributes
    ----------
    scheme
        A key of `hemafl_lib.partition.SCHEMES`.
    clients
        How many there are; a scheme that takes no number has as many as the cohort has sites.
    alpha, minimum
        Strength of the clients' label skew, and the fewest rows of a client, all sides together; they matter
        to the schemes that take them.
    proportions
        Relative sizes of the clients, where they differ in size.
    """

    scheme: str
    clients: int
    alpha: float = ALPHA
    minimum: int = 10
    proportions: tuple[float, ...] = ()

    def sites(self, cohort: CohortKind, *, seed: int, **sides: Any) -> list[Site[CohortKind]]:
        """Deal a cohort; ``sides`` are what every scheme takes: shares, and what a split keeps together."""
        return SCHEMES[self.scheme].cut(cohort, seed=seed, **self.settings(), **sides)

    def settings(self) -> dict[str, Any]:
        """Return what the scheme takes besides the seed and the sides."""
        settings = SCHEMES[self.scheme].settings(self.clients, self.alpha)
        if "minimum" in SCHEMES[self.scheme].takes:
            settings["minimum"] = self.minimum
        if self.proportions:
            settings["proportions"] = self.proportions
        return settings

    def describe(self) -> dict[str, Any]:
        """Return the deal as plain JSON values, with all settings of its scheme."""
        return {"scheme": self.scheme, **self.settings()}

    def __str__(self) -> str:
        takes = SCHEMES[self.scheme].takes
        if "sites" not in takes:
            return f"{self.scheme} clients"
        alpha = f", alpha {self.alpha:g}" if "alpha" in takes else ""
        return f"{self.clients} clients, {self.scheme}{alpha}"


def quantity(proportions: tuple[float, ...], minimum: int = 10) -> Deal:
    """Return a deal to clients of these relative sizes, with the same shares of the classes."""
    return Deal("quantity", len(proportions), minimum=minimum, proportions=proportions)


def change(own: Deal, scheme: str | None, clients: int | None, alpha: float | None) -> Deal:
    """Return an experiment's own deal with what a user asks for; None leaves a setting as it is.

    Without a ``scheme`` a deal of skewed labels stays one of its scheme, and another becomes `SKEWED` by an
    ``alpha`` and `EQUAL` by a number of ``clients``. Unequal sizes fall as 1, 1/2, 1/3 and so on.
    """
    if scheme is None and clients is None and alpha is None:
        return own
    count = clients or own.clients
    if scheme is None:
        skewed = "alpha" in SCHEMES[own.scheme].takes
        scheme = own.scheme if skewed else EQUAL if alpha is None else SKEWED
    return Deal(scheme, count, alpha or own.alpha, own.minimum)


def at_most(cohort: CohortKind, cells: int | None) -> CohortKind:
    """Return at most ``cells`` randomly chosen cells of each site, always the same ones; None keeps all."""
    if cells is None:
        return cohort
    kept = []
    for site in cohort.sites:
        rows = np.flatnonzero(cohort.site == site)
        chosen = numpy_generator(0, "at most", site).permutation(rows)[:cells]
        kept.append(np.sort(chosen))
    return cohort.take(np.concatenate(kept))
