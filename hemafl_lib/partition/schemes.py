"""The registry SCHEMES: the one place where the name of a way to cut a cohort is tied to its function."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hemafl_lib.data.cohort import CohortKind
from hemafl_lib.errors import PartitionError
from hemafl_lib.partition.sites import Site, dirichlet, iid, natural, pathological, power_law, quantity


@dataclass(frozen=True)
class Scheme:
    """A way to cut a cohort into sites.

    ``cut`` takes the cohort, ``seed``, the shares and rules of the split, and the choices that ``choices``
    names, such as ``sites`` or ``alpha``; it returns a list of `Site`.
    """

    cut: Callable[..., list[Site[Any]]]
    choices: tuple[str, ...] = ()


def unequal(cohort: CohortKind, *, sites: int, **settings: Any) -> list[Site[CohortKind]]:
    """Give the k-th site a k-th of what the first one has, of all classes alike."""
    return quantity(cohort, proportions=power_law(sites, 1.0), **settings)


SCHEMES: dict[str, Scheme] = {
    "natural": Scheme(natural),
    "iid": Scheme(iid, ("sites",)),
    "dirichlet": Scheme(dirichlet, ("sites", "alpha")),
    "quantity": Scheme(unequal, ("sites",)),
    "pathological": Scheme(pathological, ("sites", "classes_per_site")),
}
"""Every way to cut a cohort by its name. To add one, write it in a module of this room and name it here."""


def make_sites(
    scheme: str,
    cohort: CohortKind,
    *,
    sites: int | None = None,
    alpha: float | None = None,
    classes_per_site: int | None = None,
    **settings: Any,
) -> list[Site[CohortKind]]:
    """Cut a cohort into sites by the name of a scheme.

    Parameters
    ----------
    scheme
        A key of `SCHEMES`: "natural" (the hospitals that the cohort names), "iid", "dirichlet" (label skew
        of strength ``alpha``), "quantity" (the k-th site has a k-th of what the first has), or
        "pathological" (every site has rows of ``classes_per_site`` classes only).
    sites, alpha, classes_per_site
        The choices of a scheme; each that it has must be given, and no other.
    settings
        ``seed``, and how rows are split, as of any of the functions: see `natural`.

    Raises
    ------
    PartitionError
        If the scheme is unknown, a choice is missing or not one of its own, or the cohort cannot be cut so.
    """
    if scheme not in SCHEMES:
        raise PartitionError(f"scheme '{scheme}' is unknown; choose one of: {', '.join(SCHEMES)}.")
    asked = {"sites": sites, "alpha": alpha, "classes_per_site": classes_per_site}
    given = {name: value for name, value in asked.items() if value is not None}
    choices = SCHEMES[scheme].choices
    if foreign := [name for name in given if name not in choices]:
        raise PartitionError(
            f"scheme '{scheme}' has no '{foreign[0]}'; it has {' and '.join(choices) or 'nothing to choose'}."
        )
    if missing := [name for name in choices if name not in given]:
        raise PartitionError(f"scheme '{scheme}' needs '{missing[0]}'; give it.")
    return SCHEMES[scheme].cut(cohort, **given, **settings)
