"""How to draw a blood cell as amounts of bound dye.

Every shape is a signed distance in micrometres: negative inside, zero on the edge, positive outside.
A nucleus is a chain of round lobes on an arc, joined by bridges. One lobe gives a lymphocyte's round
nucleus, many lobes with wide bridges a band, few lobes with thin bridges a segmented neutrophil.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import ndtri

from hemafl_lib.data.smear_morphology import Morphology
from hemafl_lib.data.smear_optics import BLUE, PINK, PURPLE
from hemafl_lib.seeds import numpy_generator

CYTOPLASM, NUCLEUS = 1, 2
"""Values of a mask; 0 is everything else."""

RED_CELL_RADIUS = 3.7
"""In micrometres."""


@dataclass(frozen=True)
class Drawing:
    """One cell on a square of its own.

    ``dyes`` is float32[3, S, S]; ``cover`` is float32[S, S], 1 inside the cell and 0 outside; ``mask`` is
    uint8[S, S] with 0 outside, 1 cytoplasm and 2 nucleus.
    """

    dyes: np.ndarray
    cover: np.ndarray
    mask: np.ndarray


_TILE = 512


@lru_cache
def _tile(level: int) -> np.ndarray:
    """Return smooth noise of ``0.7 * 2 ** (level / 2)`` pixels that repeats without a seam, mean 0, sd 1."""
    noise = numpy_generator(0, "smear texture", level).standard_normal((_TILE, _TILE), np.float32)
    smooth = gaussian_filter(noise, 0.7 * 2 ** (level / 2), mode="wrap")
    return (smooth - smooth.mean()) / smooth.std()


def texture(rng: np.random.Generator, side: int, scale: float) -> np.ndarray:
    """Return smooth noise, float32[side, side] with mean 0 and sd 1, whose grain is ``scale`` pixels."""
    # Noise is expensive: a few tiles are smoothed once, and every cell cuts its own piece out of one.
    level = min(max(round(2 * math.log2(scale / 0.7)), 0), 12)
    row, column = rng.integers(_TILE, size=2)
    line = np.arange(side)
    return _tile(level).take(row + line, axis=0, mode="wrap").take(column + line, axis=1, mode="wrap")


def _inside(distance: np.ndarray, scale: float) -> np.ndarray:
    """Return how much of each pixel lies inside an edge, 0 to 1 (``scale`` in pixels per micrometre)."""
    return np.clip(0.5 - distance * scale, 0, 1)


def _chain(x: np.ndarray, y: np.ndarray, lobes: np.ndarray, radii: np.ndarray, bridge: float) -> np.ndarray:
    """Return the signed distance of a chain of round lobes joined by bridges.

    ``lobes`` is float[n, 2] (centres), ``radii`` is float[n]; ``bridge`` is half the width of a bridge as
    a share of the smaller lobe it joins.
    """
    centres, sizes = lobes.tolist(), radii.tolist()  # plain numbers: this runs for every cell
    distance = _length(x - centres[0][0], y - centres[0][1]) - sizes[0]
    for k in range(1, len(centres)):
        (left, top), (right, bottom) = centres[k - 1], centres[k]
        dx, dy = right - left, bottom - top
        along = np.clip(
            (x - left) * (dx / (dx * dx + dy * dy)) + (y - top) * (dy / (dx * dx + dy * dy)), 0, 1
        )
        bridge_axis = _length(x - left - along * dx, y - top - along * dy)
        distance = _blend(distance, bridge_axis - bridge * min(sizes[k - 1], sizes[k]))
        distance = _blend(distance, _length(x - right, y - bottom) - sizes[k])
    return distance


def _length(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y)


def _blend(a: np.ndarray, b: np.ndarray, reach: float = 0.5) -> np.ndarray:
    """Return the union of two shapes whose corner is rounded over ``reach`` micrometres."""
    # A polynomial instead of the plain minimum: lobes flow into their bridges, as membranes do.
    near = np.maximum(reach - np.abs(a - b), 0)
    return np.minimum(a, b) - near * near / (4 * reach)


def _nucleus(
    x: np.ndarray, y: np.ndarray, radius: float, kind: Morphology, swelling: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the signed distance of a nucleus in a cell of ``radius`` micrometres."""
    count = int(rng.integers(kind.lobes[0], kind.lobes[1] + 1))
    arc = np.deg2rad(rng.uniform(*kind.arc))
    angles = rng.uniform(0, 2 * np.pi) + np.linspace(-arc / 2, arc / 2, count) if count > 1 else np.zeros(1)
    ring = radius * rng.uniform(*kind.ring)
    centres = ring * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    radii = radius * swelling * rng.uniform(*kind.lobe) * rng.uniform(0.88, 1.12, count)
    centres += rng.normal(0, 0.12, (count, 2)) * ring
    # First centred, then pushed off centre, but never further than the cell has room.
    centres -= centres.mean(0)
    room = max(radius - (np.hypot(*centres.T) + radii).max(), 0)
    direction = rng.uniform(0, 2 * np.pi)
    centres += room * rng.uniform(*kind.eccentric) * np.array([np.cos(direction), np.sin(direction)])
    return _chain(x, y, centres, radii, rng.uniform(*kind.bridge))


def draw_cell(kind: Morphology, scale: float, swelling: float, rng: np.random.Generator) -> Drawing:
    """Draw one cell.

    Parameters
    ----------
    kind
        What to draw.
    scale
        Pixels per micrometre.
    swelling
        Factor on the size of the nucleus (a property of the patient).
    rng
        Source of everything that differs between two cells of a kind.
    """
    radius = rng.uniform(*kind.diameter) / 2
    side = 2 * int(np.ceil((1.25 * radius + 2 * kind.ruffle) * scale)) + 1
    line = (np.arange(side, dtype=np.float32) - side // 2) / np.float32(scale)
    x, y = line, line[:, None]

    # No cell is a perfect disc: an ellipse of the same area, with a ruffled edge.
    stretch, turn = rng.uniform(0.92, 1.0), rng.uniform(0, math.pi)
    along = x * math.cos(turn) + y * math.sin(turn)
    across = y * math.cos(turn) - x * math.sin(turn)
    edge = _length(along * stretch, across / stretch) - radius
    edge += kind.ruffle * rng.uniform(0.3, 1.7) * texture(rng, side, 1.3 * scale)
    cell = _inside(edge, scale)

    dyes = np.empty((3, side, side), np.float32)
    dyes[PURPLE] = rng.uniform(*kind.purple)
    dyes[BLUE] = rng.uniform(*kind.blue) * (1 + 0.12 * texture(rng, side, 0.7 * scale))
    # Basophilic cytoplasm is darkest at its rim.
    dyes[BLUE] *= 1 + 0.5 * np.exp(np.minimum(edge, 0) / 0.6)
    dyes[PINK] = rng.uniform(*kind.pink)
    for _ in range(rng.integers(kind.vacuoles[0], kind.vacuoles[1] + 1)):
        dyes *= 1 - 0.85 * _inside(_spot(x, y, 0.85 * radius, rng.uniform(0.3, 0.8), rng), scale)

    granules = _granules(kind, side, scale, rng)
    dyes += granules
    mask = (cell > 0.5).astype(np.uint8) * CYTOPLASM
    if kind.lobes[1] > 0:
        distance = _nucleus(x, y, radius, kind, swelling, rng)
        distance += kind.fold * rng.uniform(0.3, 1.7) * texture(rng, side, scale)
        distance = np.maximum(distance, edge + 0.25)  # a rim of cytoplasm of 0.25 micrometres always stays
        nucleus = _inside(distance, scale)
        dyes *= 1 - nucleus
        dyes[PURPLE] += nucleus * _chromatin(x, y, distance, radius, kind, scale, rng)
        if kind.granules_over_nucleus:
            dyes += nucleus * granules
        mask[nucleus > 0.5] = NUCLEUS
    return Drawing(dyes, cell, mask)


def _spot(x: np.ndarray, y: np.ndarray, reach: float, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Return the signed distance of a disc of ``radius`` placed at random within ``reach`` of the centre."""
    angle, far = rng.uniform(0, 2 * math.pi), reach * math.sqrt(rng.uniform())
    return _length(x - far * math.cos(angle), y - far * math.sin(angle)) - radius


def _granules(kind: Morphology, side: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Return the dyes of the granules, float32[3, side, side]: the peaks of noise of their size."""
    share = rng.uniform(*kind.granules)
    grain = texture(rng, side, kind.granule_size * scale)
    # The noise is Gaussian, so this quantile leaves the wanted share of the area above it.
    threshold = np.float32(ndtri(1 - share))
    peaks = np.clip((grain - threshold) / 0.8 + 0.5, 0, 1)
    dye = np.asarray(kind.granule_dye, np.float32) * np.float32(rng.uniform(0.7, 1.3))
    return dye[:, None, None] * peaks


def _chromatin(
    x: np.ndarray,
    y: np.ndarray,
    distance: np.ndarray,
    radius: float,
    kind: Morphology,
    scale: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the purple dye of a nucleus: clumps, a dense membrane and pale nucleoli."""
    side = len(distance)
    coarse = texture(rng, side, kind.clump_size * scale)
    fine = texture(rng, side, 0.4 * kind.clump_size * scale)
    clumps = kind.clumps * np.tanh(0.6 * coarse + 0.6 * fine)
    membrane = 0.25 * np.exp(-((distance / 0.4) ** 2))
    purple = rng.uniform(*kind.chromatin) * (1 + clumps + membrane)
    for _ in range(rng.integers(kind.nucleoli[0], kind.nucleoli[1] + 1)):
        purple *= 1 - 0.4 * _inside(_spot(x, y, 0.5 * radius, rng.uniform(0.7, 1.2), rng), scale)
    return purple


def draw_red_cells(
    centres: np.ndarray, scale: float, pallor: float, alkalinity: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw red cells, all at once: float32[n, 3, S, S] of dyes, one square for each of n centres.

    ``pallor`` (0 to 1) is how much paler their centre is. ``alkalinity`` is the share of blue.
    """
    half = math.ceil(1.25 * RED_CELL_RADIUS * scale)
    line = np.arange(-half, half + 1, dtype=np.float32) / np.float32(scale)

    def each(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (len(centres), 1, 1)).astype(np.float32)

    radius, stretch, turn = RED_CELL_RADIUS * each(0.9, 1.1), each(0.92, 1.0), each(0, math.pi)
    along = line * np.cos(turn) + line[:, None] * np.sin(turn)
    across = line[:, None] * np.cos(turn) - line * np.sin(turn)
    reach = _length(along * stretch, across / stretch) / radius
    # Red cells are dented discs: thin, and so pale, in the middle.
    hollow = pallor * each(0.5, 1.2) * np.exp(-((reach / each(0.35, 0.6)) ** 3))
    amount = each(0.43, 0.57) * np.clip((1 - reach) * 8, 0, 1) * (1 - np.minimum(hollow, 1))
    return amount[:, None] * np.array([0, alkalinity, 1 - alkalinity], np.float32)[:, None, None]
