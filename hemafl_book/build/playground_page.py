"""What the playground is made with: simulated cells in one picture, their kinds and patients, and epsilons.

No cell is a real one. A patient has cells of one kind, and of every kind some patients are kept for testing.
"""

import base64
import functools
import io
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hemafl_lib.data.cohort import ImageCohort
from hemafl_lib.data.smear import SiteStyle, simulate
from hemafl_lib.partition.stain import DYES, Stain
from hemafl_lib.privacy.accounting import Steps, epsilon

KINDS = ("basophil", "eosinophil", "lymphocyte", "neutrophil")
SIDE = 32
"""Pixels of a picture, each way."""

STYLE = SiteStyle(field=18, noise=1, jpeg=95, red_cells=0.3, white=(248, 244, 242))
"""Cells that fill the picture; colours near neutral, which the page stains anew."""

CELLS, PATIENTS, KEPT = 225, 56, 10
"""Of every kind: cells, patients, and patients kept for testing."""

COLUMNS = 30
QUALITY = 75
"""Of the WebP file that holds all pictures."""

LABORATORIES = {
    "neutral": Stain(),
    "eosin and a yellow lamp": Stain(0.7, 1.3, (1.0, 0.93, 0.72)),
    "blue": Stain(1.35, 0.6, (0.86, 0.9, 1.0)),
    "pale": Stain(0.6, 0.6, (0.95, 1.0, 0.9)),
}
"""The four ways of staining: each differs from the first as `hemafl_lib.partition.restain` says."""

DELTA = 1e-5
NOISES = (0.25, 0.5, 1.0, 2.0, 4.0)
SAMPLINGS = (0.25, 0.5, 0.75, 1.0)
ROUNDS = (5, 10, 20, 30)
"""What the page offers, and therefore needs an epsilon for."""


def made(root: Path) -> dict[str, Any]:
    """Return the data of the page; ``root`` is not read, since all of it is computed."""
    return {"data": page_data()}


@functools.cache
def page_data() -> Mapping[str, Any]:
    """Return the cells and the table of epsilons, plain JSON values."""
    cohorts = [
        simulate(
            CELLS, size=SIDE, classes=[kind], sites={"s": STYLE}, patients=PATIENTS, seed=seed, masks=False
        )
        for seed, kind in enumerate(KINDS)
    ]
    people = [np.unique(cohort.patient, return_inverse=True) for cohort in cohorts]
    first = np.cumsum([0, *(len(names) for names, _ in people)])
    numbers = [numbers + start for (_, numbers), start in zip(people, first, strict=False)]
    kept = [(number >= end - KEPT).astype(int) for number, end in zip(numbers, first[1:], strict=True)]
    return {
        "classes": list(KINDS),
        "label": [kind for kind, cohort in enumerate(cohorts) for _ in range(len(cohort))],
        "patient": np.concatenate(numbers).tolist(),
        "test": np.concatenate(kept).tolist(),
        "columns": COLUMNS,
        "sheet": base64.b64encode(sheet(cohorts)).decode(),
        "stains": [
            {"name": name, "blue": stain.blue, "eosin": stain.eosin, "gain": list(stain.gain)}
            for name, stain in LABORATORIES.items()
        ],
        "dyes": {"colours": DYES.tolist(), "inverse": np.linalg.inv(DYES).tolist()},
        "privacy": {"delta": DELTA, "epsilons": epsilons()},
    }


def sheet(cohorts: list[ImageCohort]) -> bytes:
    """Return all cells as one WebP picture, `COLUMNS` a row, cohort by cohort."""
    cells = np.concatenate([cohort.images.numpy() for cohort in cohorts]).transpose(0, 2, 3, 1)
    rows = -(-len(cells) // COLUMNS)
    pictures = np.zeros((rows * COLUMNS, SIDE, SIDE, 3), np.uint8)
    pictures[: len(cells)] = cells
    whole = pictures.reshape(rows, COLUMNS, SIDE, SIDE, 3).swapaxes(1, 2)
    file = io.BytesIO()
    Image.fromarray(whole.reshape(rows * SIDE, COLUMNS * SIDE, 3)).save(
        file, "WEBP", quality=QUALITY, method=6
    )
    return file.getvalue()


def epsilons() -> dict[str, float]:
    """Return what a run costs at `DELTA`, by ``noise/sampling/rounds``, as `ClientPrivacy` accounts for it.

    By Renyi's accountant, an upper bound, rounded up to four digits.
    """

    def cost(noise: float, sampling: float, rounds: int) -> float:
        return float(f"{1.0005 * epsilon([Steps(noise, sampling, rounds)], DELTA, 'rdp'):.4g}")

    return {
        f"{noise:g}/{sampling:g}/{rounds}": cost(noise, sampling, rounds)
        for noise, sampling, rounds in itertools.product(NOISES, SAMPLINGS, ROUNDS)
    }
