"""Small cohorts that several tests share: tables of plain arrays, drawn survival, and deals to sites."""

import numpy as np
import torch

from builders.federated import PROVENANCE
from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.partition import Site
from hemafl_lib.seeds import numpy_generator


def cohort(features, names=None, **outcome):
    """A table from plain arrays; the outcome is ``time`` and ``event``, or ``label``."""
    values = torch.tensor(np.asarray(features, dtype=np.float32))
    types = {"time": torch.float32, "event": torch.bool, "label": torch.int64}
    rows = len(values)
    return TableCohort(
        features=values,
        feature_names=tuple(f"x{k}" for k in range(values.shape[1])) if names is None else tuple(names),
        site=np.full(rows, "a"),
        patient=np.arange(rows).astype(str),
        provenance=PROVENANCE,
        **{name: torch.tensor(np.asarray(value), dtype=types[name]) for name, value in outcome.items()},
    )


def dealt(whole, count=3, seed=0):
    """A cohort dealt to sites at random; validation and test are empty."""
    place = numpy_generator(seed, "dealt").integers(0, count, len(whole))
    nobody = whole.take([])
    return [
        Site(f"site {k}", whole.take(np.flatnonzero(place == k)), nobody, nobody)
        for k in range(count)
        if (place == k).any()
    ]


def drawn(rows, seed=0, features=3, months=40):
    """Survival times in whole months, so that many are tied, with a third of the patients censored."""
    generator = numpy_generator(seed, "drawn")
    values = generator.normal(size=(rows, features)).astype(np.float32)
    time = np.ceil(generator.exponential(12 * np.exp(-0.5 * values[:, 0])).clip(0.1, months))
    return cohort(values, time=time, event=generator.random(rows) < 0.67)
