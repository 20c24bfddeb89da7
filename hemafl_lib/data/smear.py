"""A simulated blood smear: stained white cells of several hospitals, with masks and patients.

`simulate` draws cells from their morphology (`hemafl_lib.data.smear_cells`) and photographs them with the
stain and the camera of a hospital (`hemafl_lib.data.smear_optics`). No pixel of a real image is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hemafl_lib.data.classes import CLASS_SCHEMES
from hemafl_lib.data.cohort import ImageCohort, Provenance
from hemafl_lib.data.smear_cells import RED_CELL_RADIUS, Drawing, draw_cell, draw_red_cells
from hemafl_lib.data.smear_morphology import MORPHOLOGIES
from hemafl_lib.data.smear_optics import (
    OVERSAMPLING,
    SITE_STYLES,
    SiteStyle,
    between,
    photograph,
    random_style,
)
from hemafl_lib.errors import DataError
from hemafl_lib.seeds import derive, numpy_generator

__all__ = [
    "ELEVEN",
    "FOUR",
    "LEUKAEMIA",
    "SITE_STYLES",
    "SiteStyle",
    "between",
    "random_style",
    "simulate",
]

VERSION = "1"
"""Changes whenever the same settings would give other images."""

ELEVEN = tuple(CLASS_SCHEMES["eleven"])
"""The classes of the blood morphology paper."""

FOUR = tuple(CLASS_SCHEMES["four"])
"""The classes that every public hospital shares; a neutrophil is segmented or a band."""

LEUKAEMIA = tuple(CLASS_SCHEMES["leukaemia"])
"""The classes of the leukaemia smears: fields of several cells, one diagnosis a patient."""


@dataclass(frozen=True)
class LeukaemiaSmear:
    """What a field of view of a leukaemia smear holds.

    Parameters
    ----------
    kind
        Name of the abnormal cell in `MORPHOLOGIES`.
    cells
        Fewest and most of them in view.
    spread
        Standard deviation of their places, as a share of the view.
    apart
        Least distance between the centres of two, in micrometres.
    """

    kind: str
    cells: tuple[int, int]
    spread: float
    apart: float


LEUKAEMIA_SMEARS: dict[str, LeukaemiaSmear] = {
    "benign": LeukaemiaSmear("haematogone", (3, 8), 0.14, 7.5),
    "early": LeukaemiaSmear("early_blast", (3, 7), 0.30, 10),
    "pre": LeukaemiaSmear("pre_blast", (10, 20), 0.32, 10.5),
    "pro": LeukaemiaSmear("pro_blast", (4, 9), 0.30, 11),
}
FIELD_WIDENING = 3.0
"""A leukaemia smear shows this many times the width of a single cell's picture."""

BYSTANDERS = ("segmented_neutrophil", "lymphocyte", "monocyte")
"""Healthy cells that may lie in a leukaemia smear."""


@dataclass(frozen=True)
class Patient:
    """What the cells of one patient, all on one slide, have in common.

    Every number is a factor around 1 on the stain's strength, its share of eosin, the nucleus' radius, the
    cell's diameter and the number of red cells, but ``pallor``: how pale red cells are in their centre, 0 to
    1. ``tint``, float64[3], is a factor on the background's colour.
    """

    strength: float
    eosin: float
    swelling: float
    flatness: float
    red_cells: float
    pallor: float
    tint: np.ndarray


def _patient(seed: int, site: str, number: int, style: SiteStyle) -> Patient:
    rng = numpy_generator(seed, "smear patient", site, number)
    return Patient(
        strength=rng.lognormal(0, 0.10 + style.slide_spread),
        eosin=rng.lognormal(0, 0.15),
        swelling=float(np.clip(rng.normal(1, 0.04), 0.9, 1.1)),
        flatness=rng.lognormal(0, 0.06),
        red_cells=rng.lognormal(0, 0.3),
        pallor=rng.uniform(0.2, 1.0),
        tint=np.clip(rng.normal(1, style.slide_spread) * rng.normal(1, style.slide_spread / 2, 3), 0.7, 1.1),
    )


def simulate(
    cells: int = 1000,
    *,
    size: int = 64,
    classes: Sequence[str] = FOUR,
    sites: Sequence[str] | Mapping[str, SiteStyle] = ("north", "south", "east"),
    patients: int = 20,
    balance: Mapping[str, float] | Sequence[float] | np.ndarray | None = None,
    seed: int = 0,
    masks: bool = True,
) -> ImageCohort:
    """Draw a cohort of stained cells.

    Image i depends only on ``seed``, i and the settings, so that a smaller cohort is the beginning of a
    larger one. Sites take turns. Classes are dealt so that every site is close to ``balance`` at any length.
    Under the same seed and site name, a style with other colours stains the very same cells.

    Parameters
    ----------
    cells
        Number of images.
    size
        Side of an image in pixels, 16 to 512.
    classes
        Names from `ELEVEN`, `FOUR` and `LEUKAEMIA`.
    sites
        Names from `SITE_STYLES`, or a mapping from names of your own to styles.
    patients
        Patients of each site. They differ in the strength and colour of the stain, in the size of cells and
        nuclei and in the number and pallor of red cells. All leukaemia smears of a patient are of one class.
    balance
        Probability of each class, by name or in the order of ``classes``; None for all alike.
    seed
        Of everything.
    masks
        Whether to return the masks.

    Returns
    -------
    ImageCohort
        Images uint8[N, 3, size, size], labels int64[N] in the order of ``classes``, patients such as
        ``north-07``, masks uint8[N, size, size] with 0 background, 1 cytoplasm, 2 nucleus. Every white
        cell of a leukaemia smear is in its mask; platelets beside a white cell are background.

    Raises
    ------
    DataError
        If an argument is outside what is described here.
    """
    classes = tuple(classes)
    _check(cells, size, classes, patients)
    styles = _styles(sites)
    shares = _shares(classes, balance)
    names = list(styles)
    people = {
        name: [_patient(seed, name, number, style) for number in range(patients)]
        for name, style in styles.items()
    }
    images = np.empty((cells, size, size, 3), np.uint8)
    outlines = np.empty((cells, size, size), np.uint8)
    labels, where, who = np.empty(cells, np.int64), [], []
    for i in range(cells):
        rng = numpy_generator(seed, "smear", i)
        name = names[i % len(names)]
        labels[i] = _dealt(shares, i // len(names), derive(seed, "smear deal", name))
        number = _draw_patient(classes[labels[i]], patients, rng)
        images[i], outlines[i] = _picture(classes[labels[i]], size, styles[name], people[name][number], rng)
        where.append(name)
        who.append(f"{name}-{number:02d}")
    settings = repr((VERSION, cells, size, classes, styles, patients, shares.tolist(), seed))
    return ImageCohort(
        images=torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
        labels=torch.from_numpy(labels),
        site=np.array(where, dtype=str),
        patient=np.array(who, dtype=str),
        masks=torch.from_numpy(outlines) if masks else None,
        classes=classes,
        provenance=Provenance(
            name=f"simulated smear of {len(names)} hospital{'s' if len(names) > 1 else ''}",
            source="Drawn by hemafl_lib from the morphology of blood cells; no patient exists.",
            licence="Apache-2.0.",
            simulated=True,
            checksum=hashlib.sha256(settings.encode()).hexdigest(),
        ),
    )


def _styles(sites: Sequence[str] | Mapping[str, SiteStyle]) -> dict[str, SiteStyle]:
    """Return the style of every site asked for, by name."""
    if isinstance(sites, str):
        raise DataError(f"simulate: 'sites' is the text '{sites}'; give a list of names.")
    if not isinstance(sites, Mapping):
        unknown = [name for name in sites if name not in SITE_STYLES]
        if unknown or len(set(sites)) != len(sites):
            raise DataError(
                f"simulate: 'sites' is {list(sites)}; give different names out of {', '.join(SITE_STYLES)}, "
                "or a mapping from names of your own to styles."
            )
        sites = {name: SITE_STYLES[name] for name in sites}
    if not sites:
        raise DataError("simulate: 'sites' is empty; give at least one.")
    return dict(sites)


def _shares(
    classes: tuple[str, ...], balance: Mapping[str, float] | Sequence[float] | np.ndarray | None
) -> np.ndarray:
    """Return the probability of each class, float64[C], that adds up to one."""
    if isinstance(balance, Mapping):
        if set(balance) != set(classes):
            raise DataError(
                f"simulate: 'balance' names {sorted(balance)} and 'classes' {sorted(classes)}; "
                "give one probability for each class."
            )
        balance = [balance[name] for name in classes]
    shares = np.ones(len(classes)) if balance is None else np.asarray(balance, dtype=np.float64)
    if shares.shape != (len(classes),) or not np.all(shares >= 0) or not 0 < shares.sum() < np.inf:
        raise DataError(
            f"simulate: 'balance' is {balance}; give {len(classes)} numbers that are not negative, "
            "one for each class, with at least one above zero."
        )
    return shares / shares.sum()


def _check(cells: int, size: int, classes: tuple[str, ...], patients: int) -> None:
    """Raise `DataError` if an argument of `simulate` makes no sense."""
    known = (*ELEVEN, *LEUKAEMIA, FOUR[0])
    unknown = [name for name in classes if name not in known]
    if unknown or not classes or len(set(classes)) != len(classes):
        raise DataError(
            f"simulate: 'classes' is {list(classes)}; give different names out of {', '.join(known)}."
        )
    if cells < 1:
        raise DataError(f"simulate: 'cells' is {cells}; give at least 1.")
    if not 16 <= size <= 512:
        raise DataError(f"simulate: 'size' is {size}; give 16 to 512 pixels.")
    if patients < 1:
        raise DataError(f"simulate: 'patients' is {patients}; give at least 1 a site.")
    if patients < len(LEUKAEMIA) and set(classes) & set(LEUKAEMIA):
        raise DataError(
            f"simulate: 'patients' is {patients}; give at least {len(LEUKAEMIA)}, because a patient "
            "has one diagnosis."
        )


def _dealt(shares: np.ndarray, turn: int, start: int) -> int:
    """Return the class of a site's image number ``turn``.

    Multiples of the golden ratio, modulo 1, fill the unit interval evenly at any length, and with it
    the classes' shares.
    """
    golden = (5**0.5 - 1) / 2
    position = (start % 1000 / 1000 + turn * golden) % 1
    return int(np.searchsorted(np.cumsum(shares)[:-1], position, side="right"))


def _draw_patient(name: str, patients: int, rng: np.random.Generator) -> int:
    """Return the number of a patient who has cells of class ``name``."""
    if name in LEUKAEMIA:
        return int(rng.choice(np.arange(LEUKAEMIA.index(name), patients, len(LEUKAEMIA))))
    return int(rng.integers(patients))


def _picture(
    name: str, size: int, style: SiteStyle, patient: Patient, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return one image, uint8[size, size, 3], and its mask, uint8[size, size]."""
    field = style.field * rng.uniform(0.92, 1.08) * (FIELD_WIDENING if name in LEUKAEMIA else 1)
    side = size * OVERSAMPLING
    scale = side / field
    cells = _leukaemia(name, field, rng) if name in LEUKAEMIA else [_single(name, style, field, rng)]
    spread = scale * patient.flatness * rng.lognormal(0, 0.05)
    white_cells = [(draw_cell(MORPHOLOGIES[kind], spread, patient.swelling, rng), at) for kind, at in cells]

    # Between the cells lies a trace of plasma, which takes a trace of every dye.
    dyes = np.full((3, side, side), 0.01, np.float32)
    # A drawing's square is 2.5 radii wide and some ruffle wider: 1 / 2.6 of it is about the cell's radius.
    taken = np.array([(*at, drawing.cover.shape[0] / 2.6 / scale) for drawing, at in white_cells])
    _add_red_cells(dyes, taken, field, style, patient, rng)
    mask = np.zeros((side, side), np.uint8)
    for drawing, at in _platelets(field, scale, rng):
        _paste(dyes, None, drawing, at * scale)
    for drawing, at in white_cells:
        _paste(dyes, mask, drawing, at * scale)

    # Dyes are scaled after the cells are drawn, so that another stain colours the very same cells.
    stain = patient.strength * style.strength * np.array([1, 1, patient.eosin], np.float32)
    dyes *= stain[:, None, None]
    white = np.minimum(np.asarray(style.white) * patient.tint, 255)
    return photograph(dyes, style, white, field, rng), mask[::OVERSAMPLING, ::OVERSAMPLING]


def _single(name: str, style: SiteStyle, field: float, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Return the kind and place (x, y in micrometres) of a single cell near the centre."""
    if name == "neutrophil":
        name = "segmented_neutrophil" if rng.uniform() < 0.75 else "band_neutrophil"
    return name, field * (0.5 + np.clip(rng.normal(0, style.off_centre, 2), -0.25, 0.25))


def _leukaemia(name: str, field: float, rng: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    """Return the kinds and places of the white cells of a leukaemia smear."""
    smear = LEUKAEMIA_SMEARS[name]
    count = int(rng.integers(smear.cells[0], smear.cells[1] + 1))
    kinds = [smear.kind] * count + [BYSTANDERS[rng.integers(len(BYSTANDERS))]] * (rng.uniform() < 0.4)
    middle = field * rng.uniform(0.35, 0.65, 2)
    places: list[np.ndarray] = []
    for _ in range(20 * len(kinds)):
        place = rng.normal(middle, smear.spread * field)
        # A cell may be cut by the edge of the picture, as in real ones, but not lie outside it.
        if np.abs(place - field / 2).max() > field / 2 + 3:
            continue
        if len(places) < len(kinds) and all(np.hypot(*(place - other)) > smear.apart for other in places):
            places.append(place)
    return list(zip(kinds, places, strict=False))


def _add_red_cells(
    dyes: np.ndarray,
    taken: np.ndarray,
    field: float,
    style: SiteStyle,
    patient: Patient,
    rng: np.random.Generator,
) -> None:
    """Add red cells to ``dyes``, float32[3, S, S], around cells ``taken``, float[n, 3] (x, y, radius)."""
    scale = dyes.shape[1] / field
    share = min(style.red_cells * patient.red_cells * rng.uniform(0.6, 1.4), 0.75)
    count = int(rng.poisson(share * (field + 2 * RED_CELL_RADIUS) ** 2 / (np.pi * RED_CELL_RADIUS**2)))
    # Where cells are dense most places are taken: twice as many are tried as shall be filled.
    candidates = rng.uniform(-RED_CELL_RADIUS, field + RED_CELL_RADIUS, (2 * count, 2))
    obstacles = np.concatenate([taken, np.zeros((count, 3))])
    known = len(taken)
    for place in candidates:
        reach = obstacles[:known, 2] + 0.85 * RED_CELL_RADIUS
        apart = np.hypot(*(obstacles[:known, :2] - place).T) > reach
        if known < len(obstacles) and apart.all():
            # Red cells overlap each other a little, but hardly a white cell: theirs counts in full.
            obstacles[known] = (*place, 0.62 * RED_CELL_RADIUS)
            known += 1
    centres = obstacles[len(taken) : known, :2]
    stamps = draw_red_cells(centres, scale, patient.pallor, style.alkalinity, rng)
    for centre, stamp in zip(centres * scale, stamps, strict=True):
        here, there = _overlap(centre, stamp.shape[1], dyes.shape[1])
        dyes[:, *here] += stamp[:, *there]


def _platelets(field: float, scale: float, rng: np.random.Generator) -> list[tuple[Drawing, np.ndarray]]:
    """Return platelets and their places (x, y in micrometres): about one in a view of 36 micrometres."""
    count = min(rng.poisson(0.8 * (field / 36) ** 2), 12)
    return [
        (draw_cell(MORPHOLOGIES["platelet"], scale, 1.0, rng), rng.uniform(0, field, 2)) for _ in range(count)
    ]


def _overlap(centre: np.ndarray, side: int, whole: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part of an image of ``whole`` pixels that a square of ``side`` pixels around ``centre``
    (x, y) covers, and the part of the square that lies in the image.
    """

    def along(middle: float) -> tuple[slice, slice]:
        start = round(float(middle)) - side // 2
        low, high = min(max(start, 0), whole), min(max(start + side, 0), whole)
        return slice(low, high), slice(low - start, high - start)

    (rows, own_rows), (columns, own_columns) = along(centre[1]), along(centre[0])
    return (rows, columns), (own_rows, own_columns)


def _paste(dyes: np.ndarray, mask: np.ndarray | None, drawing: Drawing, centre: np.ndarray) -> None:
    """Lay a cell over what is already drawn, in place; a mask of None leaves the cell unmarked."""
    here, there = _overlap(centre, len(drawing.cover), dyes.shape[1])
    cover = drawing.cover[there]
    dyes[:, *here] *= 1 - cover
    dyes[:, *here] += cover * drawing.dyes[:, *there]
    if mask is not None:
        part = drawing.mask[there]
        np.copyto(mask[here], part, where=part > 0)
