"""One cohort becomes sites, each with rows for training, validation and test.

Rows are dealt twice: to sites, and to the three sides. Two arguments say what is dealt as a whole,
``"row"`` or ``"patient"``:

``by``
    what goes to a site. ``"row"`` may send cells of one patient to several sites.
``split_by``
    what goes to training, validation or test. With ``"patient"``, the default, no patient is on two
    sides, even where the patient's cells are at several sites: the sites share a model, so a patient
    trained on at one site and tested at another would leak. Where the patients are not known, every
    row counts as its own patient and the two settings are the same.

A third says where the shares of the three sides are met:

``split_within``
    With ``"site"``, the default, within every site. With ``"cohort"``, within the whole cohort, before
    there are sites: the sides are those of `split` for the same seed and shares. However the cohort is
    then cut, into three sites or into five, the sites' test rows together are the same test set, and
    results on it can be compared row by row.

The label of a row is its class, or in a survival table whether death was observed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal

import numpy as np
from typing_extensions import TypeVar

from hemafl_lib.data.cohort import Cohort, CohortKind
from hemafl_lib.errors import PartitionError, one_line
from hemafl_lib.partition.dealing import (
    Unit,
    cut,
    deal,
    labels_of,
    numbers_by_class,
    rows_of,
    shuffled_units,
    units_and_classes,
)
from hemafl_lib.seeds import numpy_generator

Within = Literal["site", "cohort"]
Choice = Literal["sites", "alpha", "minimum"]

HeldCohort = TypeVar("HeldCohort", bound=Cohort, covariant=True, default=Cohort)
"""The kind of cohort that a site holds. A site of images is a site of any cohort, so it is covariant."""

PARTS = ("train", "validation", "test")
ATTEMPTS = 1000


@dataclass(frozen=True)
class Site(Generic[HeldCohort]):
    """A hospital: its name and three cohorts that share no row. Its length is its training rows.

    A type checker reads ``Site[ImageCohort]`` as a site of images, and ``Site`` as one of any cohort.
    """

    name: str
    train: HeldCohort
    validation: HeldCohort
    test: HeldCohort

    def __post_init__(self) -> None:
        """Raise `PartitionError` for a name that could not be shown as it is."""
        if not self.name or self.name != one_line(self.name, 80):
            raise PartitionError(
                f"the site's name '{one_line(self.name, 80)}' is empty, longer than 80 characters, or cannot "
                "be shown as it is; give it another."
            )

    def __len__(self) -> int:
        return len(self.train)


def split(
    cohort: CohortKind,
    *,
    validation: float = 0.15,
    test: float = 0.2,
    by: Unit = "patient",
    seed: int,
) -> tuple[CohortKind, CohortKind, CohortKind]:
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
    shares = _shares(validation, test)
    whole = np.zeros(len(cohort), dtype=np.int64)
    side = _sides(cohort, whole, shares, by, seed)
    _check_sides(side, whole, ("the cohort",), shares)
    train_rows, validation_rows, test_rows = (cohort.take(np.flatnonzero(side == part)) for part in range(3))
    return train_rows, validation_rows, test_rows


def natural(
    cohort: CohortKind,
    *,
    seed: int,
    validation: float = 0.15,
    test: float = 0.2,
    split_by: Unit = "patient",
    split_within: Within = "site",
) -> list[Site[CohortKind]]:
    """Make one site of each hospital that the cohort names in ``site``, in sorted order.

    Raises `PartitionError` if a site is too small to be split.
    """
    assignment = np.searchsorted(np.array(cohort.sites), cohort.site)
    return _sites(cohort, assignment, cohort.sites, validation, test, split_by, split_within, seed)


def iid(
    cohort: CohortKind,
    *,
    sites: int,
    seed: int,
    by: Unit = "row",
    validation: float = 0.15,
    test: float = 0.2,
    split_by: Unit = "patient",
    split_within: Within = "site",
) -> list[Site[CohortKind]]:
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
        split_within=split_within,
    )


def quantity(
    cohort: CohortKind,
    *,
    proportions: Sequence[float] | np.ndarray,
    seed: int,
    by: Unit = "row",
    validation: float = 0.15,
    test: float = 0.2,
    split_by: Unit = "patient",
    split_within: Within = "site",
) -> list[Site[CohortKind]]:
    """Deal a cohort to sites of different size and equal class shares (quantity skew).

    ``proportions`` are the relative sizes of the sites, for example ``[6, 3, 1]`` or `power_law`'s.
    Raises `PartitionError` if one is not positive or a site is too small to be split.
    """
    weights = np.asarray(proportions, dtype=np.float64)
    if weights.ndim != 1 or not np.all(np.isfinite(weights)) or not np.all(weights > 0):
        raise PartitionError("'proportions' must be positive numbers, one a site.")
    _check_site_count(cohort, len(weights))
    labels = labels_of(cohort)
    strata = np.stack([labels, np.full_like(labels, labels.max() + 1)], axis=1)
    units = shuffled_units(cohort, by, numpy_generator(seed, "quantity"))
    assignment = deal(strata, units, weights / weights.sum())
    return _sites(cohort, assignment, _names(len(weights)), validation, test, split_by, split_within, seed)


def power_law(sites: int, exponent: float) -> np.ndarray:
    """Return shares float64[sites] in proportion to rank ** -exponent; exponent 0 gives equal shares."""
    if sites < 1:
        raise PartitionError(f"'sites' is {sites}; ask for at least 1.")
    weights = np.arange(1, sites + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def dirichlet(
    cohort: CohortKind,
    *,
    sites: int,
    alpha: float,
    seed: int,
    minimum: int = 10,
    by: Unit = "row",
    validation: float = 0.15,
    test: float = 0.2,
    split_by: Unit = "patient",
    split_within: Within = "site",
) -> list[Site[CohortKind]]:
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
    units, classes = units_and_classes(cohort, by)
    sizes = np.array([len(rows) for rows in units])
    site_of = np.empty(len(units), dtype=np.int64)
    for _ in range(ATTEMPTS):
        for numbers in numbers_by_class(classes, generator):
            ends = np.cumsum(generator.dirichlet(np.full(sites, alpha)))[:-1]
            for site, part in enumerate(cut(numbers, ends)):
                site_of[part] = site
        if np.bincount(site_of, weights=sizes, minlength=sites).min() >= minimum:
            assignment = np.empty(len(cohort), dtype=np.int64)
            assignment[rows_of(units)] = np.repeat(site_of, sizes)
            return _sites(cohort, assignment, _names(sites), validation, test, split_by, split_within, seed)
    raise PartitionError(
        f"no draw of 'alpha' {alpha} gave each of {sites} sites {minimum} rows in {ATTEMPTS} attempts; "
        "raise 'alpha', or lower 'minimum' or 'sites'."
    )


def pathological(
    cohort: CohortKind,
    *,
    sites: int,
    classes_per_site: int,
    seed: int,
    by: Unit = "row",
    validation: float = 0.15,
    test: float = 0.2,
    split_by: Unit = "patient",
    split_within: Within = "site",
) -> list[Site[CohortKind]]:
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
    units, classes = units_and_classes(cohort, by)
    by_class = list(numbers_by_class(classes, generator))
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
    for number, held in enumerate(by_class):
        holders = np.flatnonzero(taken == number) // classes_per_site
        if len(held) < len(holders):
            raise PartitionError(
                f"a class has {len(held)} {by}s for {len(holders)} sites; "
                "lower 'sites' or 'classes_per_site'."
            )
        ends = np.arange(1, len(holders)) / len(holders)
        for site, part in zip(holders, cut(held, ends), strict=True):
            assignment[rows_of([units[unit] for unit in part])] = site
    return _sites(cohort, assignment, _names(sites), validation, test, split_by, split_within, seed)


@dataclass(frozen=True)
class Scheme:
    """A way to cut a cohort into sites, and what it is told for a number of sites.

    Attributes
    ----------
    cut
        Takes a cohort, ``seed``, how rows are split (see `natural`) and its own settings.
    settings
        Returns these own settings, from the number of sites and ``alpha``, the strength of label skew.
    takes
        Which of the two a user can choose, and "minimum" where ``cut`` takes the fewest rows of a site.
    """

    cut: Callable[..., list[Site[Any]]]
    settings: Callable[[int, float], dict[str, Any]]
    takes: tuple[Choice, ...] = ("sites",)


SCHEMES: dict[str, Scheme] = {
    "natural": Scheme(natural, lambda sites, alpha: {}, takes=()),
    "iid": Scheme(iid, lambda sites, alpha: {"sites": sites}),
    "quantity": Scheme(quantity, lambda sites, alpha: {"proportions": tuple(power_law(sites, 1.0).tolist())}),
    "dirichlet": Scheme(
        dirichlet, lambda sites, alpha: {"sites": sites, "alpha": alpha}, takes=("sites", "alpha", "minimum")
    ),
    "pathological": Scheme(pathological, lambda sites, alpha: {"sites": sites, "classes_per_site": 2}),
}
"""Every way to cut a cohort by its name: the only place where the two are tied."""


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


def _shares(validation: float, test: float) -> np.ndarray:
    """Return the shares of training, validation and test, float64[3]."""
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise PartitionError(
            f"'validation' is {validation} and 'test' is {test}; give shares from 0 with a sum below 1."
        )
    return np.array([1 - validation - test, validation, test])


def _sides(cohort: Cohort, group: np.ndarray, shares: np.ndarray, by: Unit, seed: int) -> np.ndarray:
    """Return 0 (training), 1 (validation) or 2 (test) for every row, int64[N].

    The shares are met within each group of ``group`` int64[N] and each class of a group.
    """
    if len(cohort) == 0:
        raise PartitionError("the cohort has no rows; give one that has.")
    labels = labels_of(cohort)
    of_class = group * (labels.max() + 1) + labels
    strata = np.stack([of_class, of_class.max() + 1 + group], axis=1)
    units = shuffled_units(cohort, by, numpy_generator(seed, "split"))
    return deal(strata, units, shares)


def _check_sides(side: np.ndarray, assignment: np.ndarray, names: Sequence[str], shares: np.ndarray) -> None:
    """Refuse sites of which a side that was asked for has no row."""
    held = np.zeros((len(names), len(PARTS)), dtype=np.int64)
    np.add.at(held, (assignment, side), 1)
    for site, part in np.argwhere((held == 0) & (shares > 0)):
        raise PartitionError(
            f"{names[site]} has {held[site].sum()} rows and its {PARTS[part]} part would have none; "
            "give more rows or patients, fewer sites, or other shares."
        )


def _sites(
    cohort: CohortKind,
    assignment: np.ndarray,
    names: Sequence[str],
    validation: float,
    test: float,
    split_by: Unit,
    split_within: Within,
    seed: int,
) -> list[Site[CohortKind]]:
    """Make the sites of an assignment int64[N]."""
    if split_within not in ("site", "cohort"):
        raise PartitionError(f"'split_within' is '{split_within}'; choose 'site' or 'cohort'.")
    shares = _shares(validation, test)
    group = assignment if split_within == "site" else np.zeros_like(assignment)
    side = _sides(cohort, group, shares, split_by, seed)
    _check_sides(side, assignment, names, shares)
    by_site = np.split(np.argsort(assignment, kind="stable"), np.cumsum(np.bincount(assignment))[:-1])
    return [
        Site(name, *(cohort.take(rows[side[rows] == part]) for part in range(len(PARTS))))
        for name, rows in zip(names, by_site, strict=True)
    ]
