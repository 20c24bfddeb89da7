"""How an experiment's rows become clients: a scheme of `hemafl_lib.partition` and its settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hemafl_lib import partition
from hemafl_lib.partition import Site

SCHEMES: dict[str, Callable[..., list[Site]]] = {
    "natural": partition.natural,
    "iid": partition.iid,
    "quantity": partition.quantity,
    "dirichlet": partition.dirichlet,
    "pathological": partition.pathological,
}

ALPHA = 0.5
"""Dirichlet parameter where neither the paper nor the user names one."""

CLASSES = 2
"""Classes of a client in the pathological scheme."""


@dataclass(frozen=True)
class Deal:
    """A scheme for a number of clients.

    Attributes
    ----------
    scheme
        A key of `SCHEMES`.
    clients
        How many there are; the natural scheme takes as many as the cohort has sites.
    settings
        What else the scheme takes, besides the seed and the shares of the three sides.
    minimum
        Fewest rows of a client in the Dirichlet scheme, all sides together.
    """

    scheme: str
    clients: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    minimum: int = 10

    def sites(self, cohort: Any, *, seed: int, **sides: Any) -> list[Site]:
        """Deal a cohort; ``sides`` are what every scheme takes: shares, and what a split keeps together."""
        return SCHEMES[self.scheme](cohort, seed=seed, **self.settings, **sides)

    def __str__(self) -> str:
        alpha = f", alpha {self.settings['alpha']:g}" if self.scheme == "dirichlet" else ""
        return (
            f"{self.scheme} clients"
            if self.scheme == "natural"
            else f"{self.clients} clients, {self.scheme}{alpha}"
        )


def natural(clients: int) -> Deal:
    """Every site of the cohort is a client."""
    return Deal("natural", clients)


def iid(clients: int, minimum: int = 10) -> Deal:
    """All clients have equally many rows, and the same shares of the classes."""
    return Deal("iid", clients, {"sites": clients}, minimum)


def quantity(proportions: tuple[float, ...], minimum: int = 10) -> Deal:
    """The clients differ in size and have the same shares of the classes."""
    return Deal("quantity", len(proportions), {"proportions": proportions}, minimum)


def dirichlet(clients: int, alpha: float, minimum: int = 10) -> Deal:
    """The clients differ in their classes; the smaller ``alpha``, the more."""
    return Deal("dirichlet", clients, {"sites": clients, "alpha": alpha, "minimum": minimum}, minimum)


def pathological(clients: int) -> Deal:
    """Every client has rows of `CLASSES` classes only."""
    return Deal("pathological", clients, {"sites": clients, "classes_per_site": CLASSES})


def changed(own: Deal, scheme: str | None, clients: int | None, alpha: float | None) -> Deal:
    """Return an experiment's own deal with what a user asks for; None leaves a setting as it is.

    An ``alpha`` asks for the Dirichlet scheme, and a number of ``clients`` for equal ones where the own
    scheme cannot have another number. Unequal sizes fall as 1, 1/2, 1/3 and so on.
    """
    if scheme is None and clients is None and alpha is None:
        return own
    count = clients or own.clients
    if scheme is None:
        scheme = "dirichlet" if alpha is not None or own.scheme == "dirichlet" else "iid"
    if scheme == "dirichlet":
        return dirichlet(count, alpha or own.settings.get("alpha", ALPHA), own.minimum)
    if scheme == "quantity":
        return quantity(tuple(partition.power_law(count, 1.0).tolist()))
    return {"natural": natural, "iid": iid, "pathological": pathological}[scheme](count)
