"""How different the classes of two sites are."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import rel_entr

from hemafl_lib.data.cohort import Cohort, LabelledCohort
from hemafl_lib.errors import PartitionError
from hemafl_lib.partition.dealing import labels_of
from hemafl_lib.partition.sites import Site


def label_distribution(part: Site | Cohort, classes: int | None = None) -> np.ndarray:
    """Return the share of each class, float64[C], in a cohort or in the training rows of a site.

    ``classes`` is C; by default the cohort's own number of classes, or in a table the classes up to
    the largest label. Raises `PartitionError` if there are no rows.
    """
    cohort = part.train if isinstance(part, Site) else part
    if len(cohort) == 0:
        raise PartitionError("a cohort without rows has no label distribution; give one that has.")
    labels = labels_of(cohort)
    if classes is None:
        classes = len(cohort.classes) if isinstance(cohort, LabelledCohort) else int(labels.max()) + 1
    return np.bincount(labels, minlength=classes) / len(labels)


def _distributions(p: ArrayLike, q: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return two distributions as float64[C]; refuse what is not one."""
    p, q = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    if p.ndim != 1 or p.shape != q.shape:
        raise PartitionError(
            f"'p' has shape {p.shape} and 'q' {q.shape}; give one probability a class in both."
        )
    for name, value in (("p", p), ("q", q)):
        if not (np.all(value >= 0) and abs(value.sum() - 1) < 1e-6):
            raise PartitionError(f"'{name}' is no distribution; give shares of at least 0 that sum to 1.")
    return p / p.sum(), q / q.sum()


def total_variation(p: ArrayLike, q: ArrayLike) -> float:
    """Return the total variation distance, half the sum of ``|p - q|``, in 0..1."""
    p, q = _distributions(p, q)
    return float(np.abs(p - q).sum() / 2)


def kl(p: ArrayLike, q: ArrayLike, *, smoothing: float = 0.0) -> float:
    """Return the Kullback-Leibler divergence of ``p`` from ``q``, in bits.

    A class with ``p = 0`` adds nothing. A class with ``q = 0`` and ``p > 0`` makes the result infinite;
    ``smoothing`` avoids this by adding so much to every share before they are scaled to sum 1 again.
    """
    p, q = _distributions(p, q)
    if not smoothing >= 0:
        raise PartitionError(f"'smoothing' is {smoothing}; give 0 or a small positive number.")
    p, q = ((value + smoothing) / (1 + smoothing * len(value)) for value in (p, q))
    return float(max(rel_entr(p, q).sum(), 0.0) / np.log(2))


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> float:
    """Return the Jensen-Shannon divergence in bits, 0..1 (Lin, 1991).

    This is the divergence; its square root is the distance that SciPy's ``jensenshannon`` returns.
    """
    p, q = _distributions(p, q)
    middle = (p + q) / 2
    return float(np.clip((rel_entr(p, middle) + rel_entr(q, middle)).sum() / (2 * np.log(2)), 0, 1))


def earth_movers(p: ArrayLike, q: ArrayLike, ground: ArrayLike | None = None) -> float:
    """Return the earth mover's (first Wasserstein) distance: the least cost of moving ``p`` onto ``q``.

    ``ground`` float[C, C] is the cost of moving from class to class. Without it the classes count as
    ordered and a step to the next costs 1, which suits stages of maturation. For classes without order,
    a ground distance of 1 between any two gives `total_variation`.
    """
    from scipy.optimize import linprog  # both are heavy to import, and every node loads this module
    from scipy.stats import wasserstein_distance

    p, q = _distributions(p, q)
    count = len(p)
    if ground is None:
        return float(wasserstein_distance(np.arange(count), np.arange(count), p, q))
    cost = np.asarray(ground, dtype=np.float64)
    if cost.shape != (count, count) or not np.all(np.isfinite(cost)) or np.any(cost < 0):
        raise PartitionError(f"'ground' must hold {count} x {count} finite costs of at least 0.")
    leaving = np.kron(np.eye(count), np.ones(count))
    arriving = np.kron(np.ones(count), np.eye(count))
    # The last constraint follows from the others; with rounded shares it could contradict them.
    constraints = np.vstack([leaving, arriving])[:-1]
    plan = linprog(cost.ravel(), A_eq=constraints, b_eq=np.concatenate([p, q])[:-1])
    return float(plan.fun)


def divergence_table(sites: Sequence[Site], *, ground: ArrayLike | None = None) -> pd.DataFrame:
    """Return the divergences between the training labels of every two sites, one row a pair.

    Columns: ``first``, ``second``, ``jensen_shannon``, ``total_variation``, ``earth_movers`` (with
    ``ground``), ``kl_first_second`` and ``kl_second_first`` (infinite where a site lacks a class).
    """
    classes = max(len(label_distribution(site)) for site in sites)
    shares = {site.name: label_distribution(site, classes) for site in sites}
    return pd.DataFrame(
        [
            {
                "first": first,
                "second": second,
                "jensen_shannon": jensen_shannon(shares[first], shares[second]),
                "total_variation": total_variation(shares[first], shares[second]),
                "earth_movers": earth_movers(shares[first], shares[second], ground),
                "kl_first_second": kl(shares[first], shares[second]),
                "kl_second_first": kl(shares[second], shares[first]),
            }
            for first, second in combinations(shares, 2)
        ]
    )
