"""One cohort becomes sites, and how different those sites are.

Rows are first dealt to sites, then the rows of each site to training, validation and test. Two
arguments say what is dealt as a whole, ``"row"`` or ``"patient"``:

``by``
    what goes to a site. ``"row"`` may send cells of one patient to several sites.
``split_by``
    what goes to training, validation or test. With ``"patient"``, the default, no patient is on two
    sides, even where the patient's cells are at several sites: the sites share a model, so a patient
    trained on at one site and tested at another would leak. Where the patients are not known, every
    row counts as its own patient and the two settings are the same.

The label of a row is its class, or in a survival table whether death was observed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.optimize import linprog
from scipy.special import rel_entr
from scipy.stats import wasserstein_distance
from torch import Tensor

from hemafl_lib.data.cohort import Cohort, ImageCohort, LabelledCohort, TableCohort
from hemafl_lib.errors import PartitionError
from hemafl_lib.seeds import derive, numpy_generator

Unit = Literal["row", "patient"]
AnyCohort = TypeVar("AnyCohort", bound=Cohort)

PARTS = ("train", "validation", "test")
ATTEMPTS = 1000


@dataclass(frozen=True)
class Site:
    """A hospital: its name and three cohorts that share no row. Its length is its training rows."""

    name: str
    train: Cohort
    validation: Cohort
    test: Cohort

    def __len__(self) -> int:
        return len(self.train)


# Cutting a cohort


def split(
    cohort: AnyCohort,
    *,
    validation: float = 0.15,
    test: float = 0.2,
    by: Unit = "patient",
    seed: int,
) -> tuple[AnyCohort, AnyCohort, AnyCohort]:
    """Split a cohort into training, validation and test, each with about the same share of every class.

    Parameters
    ----------
    validation, test
        Shares of the rows, at least 0 and together below 1. A share of 0 gives an empty cohort.
    by
        ``"patient"`` keeps the rows of a patient on one side; shares and classes are then met as well
        as whole patients allow. ``"row"`` ignores patients. If every row is its own patient, as in the
        public data that name no patients, both give the same split: near-duplicate images of one
        patient may then be on two sides, and nothing in the data can prevent it.

    Raises
    ------
    PartitionError
        If the shares are impossible, or a side that was asked for would have no row.
    """
    one_site = np.zeros(len(cohort), dtype=np.int64)
    side = _sides(cohort, one_site, ("the cohort",), validation, test, by, seed)
    train_rows, validation_rows, test_rows = (cohort.take(np.flatnonzero(side == part)) for part in range(3))
    return train_rows, validation_rows, test_rows


def natural(
    cohort: Cohort,
    *,
    seed: int,
    validation: float = 0.15,
    test: float = 0.2,
    split_by: Unit = "patient",
) -> list[Site]:
    """Make one site of each hospital that the cohort names in ``site``, in sorted order.

    Raises `PartitionError` if a site is too small to be split.
    """
    assignment = np.searchsorted(np.array(cohort.sites), cohort.site)
    return _sites(cohort, assignment, cohort.sites, validation, test, split_by, seed)


def iid(
    cohort: Cohort,
    *,
    sites: int,
    seed: int,
    by: Unit = "row",
    validation: float = 0.15,
    test: float = 0.2,
    split_by: Unit = "patient",
) -> list[Site]:
    """Deal a cohort to ``sites`` sites of equal size and equal class shares.

    Raises `PartitionError` if there are more sites than rows or a site is too small to be split.
    """
    _check_site_count(cohort, sites)
    return quantity(
        cohort,
        proportions=np.ones(sites),
        seed=seed,
        by=by,
        validation=validation,
        test=test,
        split_by=split_by,
    )


def quantity(
    cohort: Cohort,
    *,
    proportions: Sequence[float] | np.ndarray,
    seed: int,
    by: Unit = "row",
    validation: float = 0.15,
    test: float = 0.2,
    split_by: Unit = "patient",
) -> list[Site]:
    """Deal a cohort to sites of different size and equal class shares (quantity skew).

    ``proportions`` are the relative sizes of the sites, for example ``[6, 3, 1]`` or `power_law`'s.
    Raises `PartitionError` if one is not positive or a site is too small to be split.
    """
    weights = np.asarray(proportions, dtype=np.float64)
    if weights.ndim != 1 or not np.all(np.isfinite(weights)) or not np.all(weights > 0):
        raise PartitionError("'proportions' must be positive numbers, one a site.")
    _check_site_count(cohort, len(weights))
    labels = _labels(cohort)
    strata = np.stack([labels, np.full_like(labels, labels.max() + 1)], axis=1)
    units = _shuffled_units(cohort, by, numpy_generator(seed, "quantity"))
    assignment = _deal(strata, units, weights / weights.sum())
    return _sites(cohort, assignment, _names(len(weights)), validation, test, split_by, seed)


def power_law(sites: int, exponent: float) -> np.ndarray:
    """Return shares float64[sites] in proportion to rank ** -exponent; exponent 0 gives equal shares."""
    if sites < 1:
        raise PartitionError(f"'sites' is {sites}; ask for at least 1.")
    weights = np.arange(1, sites + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def dirichlet(
    cohort: Cohort,
    *,
    sites: int,
    alpha: float,
    seed: int,
    minimum: int = 10,
    by: Unit = "row",
    validation: float = 0.15,
    test: float = 0.2,
    split_by: Unit = "patient",
) -> list[Site]:
    """Deal each class to the sites in shares drawn from a symmetric Dirichlet distribution (label skew).

    A small ``alpha`` gives each class to few sites; a large one approaches `iid`. The shares are drawn
    again until every site has ``minimum`` rows. The scheme is that of Yurochkin et al., "Bayesian
    nonparametric federated learning of neural networks", ICML 2019, and of Li et al., "Federated
    learning on non-IID data silos", ICDE 2022.

    Raises
    ------
    PartitionError
        If ``alpha`` is not positive, ``minimum`` cannot be met, a site is too small to be split, or
        ``by="patient"`` is asked for patients with rows of several classes.
    """
    if not (np.isfinite(alpha) and alpha > 0):
        raise PartitionError(f"'alpha' is {alpha}; give a positive number, such as 0.3.")
    _check_site_count(cohort, sites, minimum)
    generator = numpy_generator(seed, "dirichlet")
    for _ in range(ATTEMPTS):
        assignment = np.empty(len(cohort), dtype=np.int64)
        for units in _units_by_class(cohort, by, generator):
            ends = np.cumsum(generator.dirichlet(np.full(sites, alpha)))[:-1]
            for site, part in enumerate(_cut(units, ends)):
                assignment[_rows(part)] = site
        if np.bincount(assignment, minlength=sites).min() >= minimum:
            return _sites(cohort, assignment, _names(sites), validation, test, split_by, seed)
    raise PartitionError(
        f"no draw of 'alpha' {alpha} gave each of {sites} sites {minimum} rows in {ATTEMPTS} attempts; "
        "raise 'alpha', or lower 'minimum' or 'sites'."
    )


def pathological(
    cohort: Cohort,
    *,
    sites: int,
    classes_per_site: int,
    seed: int,
    by: Unit = "row",
    validation: float = 0.15,
    test: float = 0.2,
    split_by: Unit = "patient",
) -> list[Site]:
    """Give every site rows of exactly ``classes_per_site`` classes, the hardest label skew.

    The classes are laid on a circle in random order and the sites take turns along it, so that all
    classes have, within one, equally many sites, which share the class evenly. This is the "#C = k"
    setting of Li et al. (ICDE 2022), after McMahan et al. (AISTATS 2017).

    Raises
    ------
    PartitionError
        If the cohort has fewer classes, the sites together could not hold every class, or a class has
        too few rows for its sites.
    """
    _check_site_count(cohort, sites)
    generator = numpy_generator(seed, "pathological")
    by_class = list(_units_by_class(cohort, by, generator))
    if not 1 <= classes_per_site <= len(by_class):
        raise PartitionError(
            f"'classes_per_site' is {classes_per_site}; the cohort has rows of {len(by_class)} classes, "
            f"so choose 1 to {len(by_class)}."
        )
    turns = sites * classes_per_site
    if turns < len(by_class):
        raise PartitionError(
            f"{sites} sites of {classes_per_site} classes cannot hold all {len(by_class)} classes; "
            "raise 'sites' or 'classes_per_site'."
        )
    circle = generator.permutation(len(by_class))
    taken = circle[np.arange(turns) % len(by_class)]
    assignment = np.empty(len(cohort), dtype=np.int64)
    for number, units in enumerate(by_class):
        holders = np.flatnonzero(taken == number) // classes_per_site
        if len(units) < len(holders):
            raise PartitionError(
                f"a class has {len(units)} {by}s for {len(holders)} sites; "
                "lower 'sites' or 'classes_per_site'."
            )
        ends = np.arange(1, len(holders)) / len(holders)
        for site, part in zip(holders, _cut(units, ends), strict=True):
            assignment[_rows(part)] = site
    return _sites(cohort, assignment, _names(sites), validation, test, split_by, seed)


# The machinery of cutting


def _labels(cohort: Cohort) -> np.ndarray:
    """Return the class of every row, the observed event of a survival table, or zeros: int64[N]."""
    labels: Tensor | None = None
    if isinstance(cohort, LabelledCohort):
        labels = cohort.labels
    elif isinstance(cohort, TableCohort):
        labels = cohort.label if cohort.label is not None else cohort.event
    if labels is None:
        return np.zeros(len(cohort), dtype=np.int64)
    return labels.numpy().astype(np.int64)


def _names(sites: int) -> tuple[str, ...]:
    """Return names that sort in the order of the sites: site-1, or site-01 where there are ten or more."""
    width = len(str(sites))
    return tuple(f"site-{number:0{width}d}" for number in range(1, sites + 1))


def _check_site_count(cohort: Cohort, sites: int, minimum: int = 1) -> None:
    """Refuse fewer than one site, or more than the rows can fill."""
    if sites < 1:
        raise PartitionError(f"'sites' is {sites}; ask for at least 1.")
    if sites * minimum > len(cohort):
        raise PartitionError(
            f"{sites} sites of at least {minimum} rows need {sites * minimum} rows and the cohort has "
            f"{len(cohort)}; ask for fewer sites or rows."
        )


def _rows(units: Sequence[np.ndarray]) -> np.ndarray:
    """Return the row numbers of several units, int64."""
    return np.concatenate([np.empty(0, dtype=np.int64), *units])


def _shuffled_units(cohort: Cohort, by: Unit, generator: np.random.Generator) -> list[np.ndarray]:
    """Return what is dealt as a whole, in random order: the row numbers of each row or patient."""
    if by == "row":
        keys = np.arange(len(cohort))
    elif by == "patient":
        keys = pd.factorize(cohort.patient)[0]
    else:
        raise PartitionError(f"'by' or 'split_by' is '{by}'; choose 'row' or 'patient'.")
    order = np.argsort(keys, kind="stable")
    units = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
    return [units[number] for number in generator.permutation(len(units))]


def _units_by_class(cohort: Cohort, by: Unit, generator: np.random.Generator) -> Iterator[list[np.ndarray]]:
    """Yield, for each class that occurs, its units in random order."""
    labels = _labels(cohort)
    units = _shuffled_units(cohort, by, generator)
    if any(len(np.unique(labels[rows])) > 1 for rows in units):
        raise PartitionError(
            "by='patient' needs patients whose rows are all of one class, and this cohort has others; "
            "use by='row'."
        )
    first = np.array([labels[rows[0]] for rows in units])
    for label in np.unique(labels):
        yield [units[number] for number in np.flatnonzero(first == label)]


def _cut(units: list[np.ndarray], ends: np.ndarray) -> list[list[np.ndarray]]:
    """Cut a list of units at the shares ``ends``, ascending in 0..1, into ``len(ends) + 1`` parts."""
    places = [0, *np.rint(ends * len(units)).astype(int).tolist(), len(units)]
    return [units[start:end] for start, end in pairwise(places)]


def _deal(strata: np.ndarray, units: list[np.ndarray], shares: np.ndarray) -> np.ndarray:
    """Deal units to parts, largest first, each to the part that is furthest behind its share.

    Parameters
    ----------
    strata
        int64[N, 2]: the groups of each row in which every part should get its share, for example
        its class and the whole cohort. Groups are numbered from 0.
    units
        Row numbers that stay together; units of one size are dealt in the order given.
    shares
        float64[P], with sum 1.

    Returns
    -------
    numpy.ndarray
        int64[N]: the part of every row.
    """
    part_of = np.empty(len(strata), dtype=np.int64)
    dealt = np.zeros(strata.max() + 1)
    held = np.zeros((len(shares), strata.max() + 1))
    for rows in sorted(units, key=len, reverse=True):
        groups = strata[rows].ravel()
        np.add.at(dealt, groups, 1)
        behind = shares[:, None] * dealt[groups] - held[:, groups]
        part = int(np.argmax(behind.sum(axis=1)))
        np.add.at(held[part], groups, 1)
        part_of[rows] = part
    return part_of


def _sides(
    cohort: Cohort,
    assignment: np.ndarray,
    names: Sequence[str],
    validation: float,
    test: float,
    split_by: Unit,
    seed: int,
) -> np.ndarray:
    """Return 0 (training), 1 (validation) or 2 (test) for every row, int64[N].

    The shares are met within each site and each class of a site.
    """
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise PartitionError(
            f"'validation' is {validation} and 'test' is {test}; give shares from 0 with a sum below 1."
        )
    if len(cohort) == 0:
        raise PartitionError("the cohort has no rows; give one that has.")
    shares = np.array([1 - validation - test, validation, test])
    labels = _labels(cohort)
    of_class = assignment * (labels.max() + 1) + labels
    strata = np.stack([of_class, of_class.max() + 1 + assignment], axis=1)
    units = _shuffled_units(cohort, split_by, numpy_generator(seed, "split"))
    side = _deal(strata, units, shares)
    held = np.zeros((len(names), len(PARTS)), dtype=np.int64)
    np.add.at(held, (assignment, side), 1)
    for site, part in np.argwhere((held == 0) & (shares > 0)):
        raise PartitionError(
            f"{names[site]} has {held[site].sum()} rows and its {PARTS[part]} part would have none; "
            "give more rows or patients, fewer sites, or other shares."
        )
    return side


def _sites(
    cohort: Cohort,
    assignment: np.ndarray,
    names: Sequence[str],
    validation: float,
    test: float,
    split_by: Unit,
    seed: int,
) -> list[Site]:
    """Make the sites of an assignment int64[N]."""
    side = _sides(cohort, assignment, names, validation, test, split_by, seed)
    by_site = np.split(np.argsort(assignment, kind="stable"), np.cumsum(np.bincount(assignment))[:-1])
    return [
        Site(name, *(cohort.take(rows[side[rows] == part]) for part in range(len(PARTS))))
        for name, rows in zip(names, by_site, strict=True)
    ]


# Stain shift

# Optical density of methylene blue and of eosin in red, green and blue, as measured for the "Giemsa"
# vectors of ImageJ's Colour Deconvolution (G. Landini); the third row is what neither explains.
_DYES = np.array([[0.834750233, 0.513556283, 0.196330403], [0.092789, 0.954111, 0.283111]])
DYES = np.vstack([_DYES, np.cross(*_DYES)])


@dataclass(frozen=True)
class Stain:
    """How one laboratory's colours differ from those of the images as they are.

    ``blue`` and ``eosin`` multiply the amount of each dye; ``gain`` multiplies the light in red, green
    and blue (white balance and background). The default changes nothing.
    """

    blue: float = 1.0
    eosin: float = 1.0
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)


def draw_stain(strength: float, generator: np.random.Generator) -> Stain:
    """Draw a laboratory at random: log-normal factors around 1.

    The logarithms have a standard deviation of 0.3 ``strength`` for the dyes and 0.1 ``strength`` for
    the gains. Five public collections of smears (Barcelona, Tecom, CellaVision, BCCD and Taleqani)
    differ by 0.24 in blue, 0.75 in eosin and 0.09 to 0.13 in gain; eosin is drawn more narrowly here,
    because scaling it also scales the tint of the background.

    Raises `PartitionError` if ``strength`` is negative or not finite.
    """
    if not (np.isfinite(strength) and strength >= 0):
        raise PartitionError(f"'strength' is {strength}; give 0 (unchanged) or more, 1 being typical.")
    spread = np.array([0.3, 0.3, 0.1, 0.1, 0.1])
    blue, eosin, *gain = np.exp(strength * spread * generator.standard_normal(5)).tolist()
    return Stain(blue, eosin, tuple(gain))


def restain_images(images: Tensor, stain: Stain) -> Tensor:
    """Return images uint8[N, 3, H, W] (RGB) as another laboratory would have stained and lit them.

    By the law of Beer and Lambert, optical density is the sum of the dyes' densities, each in
    proportion to its amount (Ruifrok and Johnston, 2001): the image is unmixed into dyes, their
    amounts are scaled, and the mixture is turned back into light.
    """
    amounts = np.diag([stain.blue, stain.eosin, 1.0])
    mixing = torch.from_numpy((np.linalg.inv(DYES) @ amounts @ DYES).T.astype(np.float32))
    gain = torch.tensor(stain.gain, dtype=torch.float32).reshape(3, 1, 1)
    result = torch.empty_like(images)
    for start in range(0, len(images), 64):
        density = -torch.log((images[start : start + 64].float() + 1) / 256)
        light = torch.exp(-torch.einsum("oc,nchw->nohw", mixing, density)) * gain
        result[start : start + 64] = (light * 256 - 1).round().clamp(0, 255).to(torch.uint8)
    return result


def restain(cohort: Cohort, stain: Stain) -> ImageCohort:
    """Return an image cohort in another laboratory's colours, with a provenance that says so.

    Raises `PartitionError` for anything but an `ImageCohort`.
    """
    if not isinstance(cohort, ImageCohort):
        raise PartitionError(
            f"stains are for images, and this is a {type(cohort).__name__}; give an ImageCohort."
        )
    if stain == Stain():
        return cohort
    provenance = replace(
        cohort.provenance,
        name=f"{cohort.provenance.name}, restained",
        checksum=f"{derive(0, cohort.provenance.checksum, str(stain)):016x}",
    )
    return replace(cohort, images=restain_images(cohort.images, stain), provenance=provenance)


def stained(sites: Sequence[Site], *, strength: float, seed: int) -> list[Site]:
    """Give each site the colours of a laboratory of its own (see `draw_stain`); strength 0 changes nothing.

    Raises `PartitionError` if the sites hold no images.
    """
    stains = [draw_stain(strength, numpy_generator(seed, "stain", site.name)) for site in sites]
    return [
        Site(site.name, *(restain(getattr(site, part), stain) for part in PARTS))
        for site, stain in zip(sites, stains, strict=True)
    ]


# How different are the sites?


def label_distribution(part: Site | Cohort, classes: int | None = None) -> np.ndarray:
    """Return the share of each class, float64[C], in a cohort or in the training rows of a site.

    ``classes`` is C; by default the cohort's own number of classes, or in a table the classes up to
    the largest label. Raises `PartitionError` if there are no rows.
    """
    cohort = part.train if isinstance(part, Site) else part
    if len(cohort) == 0:
        raise PartitionError("a cohort without rows has no label distribution; give one that has.")
    labels = _labels(cohort)
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
