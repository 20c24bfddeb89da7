"""A simulated cohort of children with sickle cell anaemia, some of whom have a silent cerebral infarct.

No patient behind it is real. Each is drawn in two steps: what would be known of the child (`_covariates`),
and then, from that, whether an MRI would show an infarct that is already there (`RISK`, a logistic model).
A prevalent infarct is a finding on the day of the scan; an infarct that comes later (incident) is another
outcome, which this cohort does not have.

Sources. [1] DeBaun et al. 2012, Blood 119(16): 814 children aged 5 to 15 with HbSS or HbS-beta-0, none
with a stroke before, 251 with a silent infarct; in a multivariable logistic regression lower haemoglobin
(P < .001), higher systolic blood pressure (P = .018) and male sex (P = .030) go with one. [2] Houwing et
al. 2020, BMC Medicine 18:393: a pooled prevalence of 29.5 % in HbSS and HbS-beta-0, rising with the mean
age of a study; no other risk factor with a clear association.

The abstracts give no odds ratios. Where a size is needed it is derived from the P value: with n patients
and prevalence p, the log odds ratio per standard deviation of a covariate has a standard error near
1 / sqrt(n p (1 - p)) = 0.076, so P = .018 (z = 2.37) means 0.18, P = .030 (z = 2.17) for a half-and-half
covariate (standard deviation 0.5) means 0.33, and P < .001 (z > 3.29) means at least 0.25.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import torch

from hemafl_lib.data.cohort import Provenance, TableCohort
from hemafl_lib.errors import DataError
from hemafl_lib.seeds import numpy_generator

MOST_PATIENTS = 1_000_000
"""As many as are drawn within minutes."""

VERSION = "1"
"""Changes whenever the same settings would give other patients."""

PREVALENCE = 0.295
"""Share of patients with a silent infarct that a large draw comes to [2]."""

TYPICAL: Mapping[str, float] = {
    "age": 9.1,
    "male": 0.507,
    "haemoglobin": 8.1,
    "systolic_pressure": 105.0,
    "foetal_haemoglobin": 10.0,
    "white_cells": 12.0,
}
"""Mean (share of boys for ``male``) of every feature: age in years and sex from [1], the others our choice.

Units: haemoglobin g/dl, systolic pressure mmHg, foetal haemoglobin % of haemoglobin, white cells 10^9/l.
"""

RISK: Mapping[str, float] = {
    "age": 0.05,
    "male": 0.33,
    "haemoglobin": -0.32,
    "systolic_pressure": 0.018,
    "foetal_haemoglobin": 0.0,
    "white_cells": 0.0,
}
"""Log odds ratio of an infarct per unit of each feature.

``male`` 0.33 (odds ratio 1.4) and ``systolic_pressure`` 0.18 per standard deviation of 10 mmHg follow from
the P values of [1]. ``haemoglobin`` -0.32 per g/dl (0.35 per standard deviation of 1.1) is our choice
beyond the least that P < .001 allows. ``age`` 0.05 a year is our choice; that it is positive is [2]. The
last two are 0 by our choice, after [2]: features that a model should learn to ignore.
"""

INTERCEPT = -0.91
"""Log odds at the means of `TYPICAL`; numerically chosen so that a large draw has `PREVALENCE`."""


def simulate(patients: int = 65, *, seed: int = 0) -> TableCohort:
    """Draw a cohort of children with sickle cell anaemia (HbSS or HbS-beta-0).

    Parameters
    ----------
    patients
        How many; 65 as in the study of chapter 4.
    seed
        Another seed gives other patients. The first patients of a large draw are those of a small one.

    Returns
    -------
    TableCohort
        Features float32[N, 6] in the order of `TYPICAL`, without unknown values; ``label`` int64[N], 1 where
        a silent infarct is present; one site, one row a patient. The provenance says SIMULATED.

    Raises
    ------
    DataError
        If ``patients`` is not a whole number from 1 to `MOST_PATIENTS`.
    """
    if type(patients) is not int or not 1 <= patients <= MOST_PATIENTS:
        raise DataError(
            f"patients={patients!r} is not valid; give a whole number from 1 to {MOST_PATIENTS:,}."
        )
    drawn = [_patient(numpy_generator(seed, "sickle cell", number)) for number in range(patients)]
    settings = json.dumps([VERSION, patients, seed])
    return TableCohort(
        features=torch.tensor([features for features, _ in drawn], dtype=torch.float32),
        feature_names=tuple(TYPICAL),
        label=torch.tensor([infarct for _, infarct in drawn], dtype=torch.int64),
        site=np.array(["sickle-cell"] * patients),
        patient=np.array([f"sickle-cell/{number}" for number in range(patients)]),
        provenance=Provenance(
            name="sickle-cell",
            source=f"SIMULATED patients with sickle cell anaemia (n={patients}, seed {seed}); none is real.",
            licence="Apache-2.0",
            simulated=True,
            checksum=hashlib.sha256(settings.encode()).hexdigest(),
        ),
    )


def log_odds(features: Mapping[str, float]) -> float:
    """Return the log odds of a silent infarct of one patient (the model that `simulate` draws from)."""
    return INTERCEPT + sum(RISK[name] * (features[name] - TYPICAL[name]) for name in RISK)


def _patient(generator: np.random.Generator) -> tuple[list[float], bool]:
    """Draw one patient: the features in the order of `TYPICAL`, and whether there is an infarct."""
    features = _covariates(generator)
    chance = 1 / (1 + np.exp(-log_odds(features)))
    return [features[name] for name in TYPICAL], bool(generator.random() < chance)


def _covariates(generator: np.random.Generator) -> dict[str, float]:
    """Draw what is known of one child.

    Ages lie between 5 and 15 years as in [1]; blood pressure rises by 1 mmHg a year and more foetal
    haemoglobin goes with more haemoglobin (known directions, sizes our choice). The spreads of haemoglobin
    (1.1 g/dl in all), pressure (10 mmHg in all) and the rest are our choice.
    """
    age = 5 + 10 * generator.beta(2.0, 2.878)  # mean 9.1
    foetal = 10 * generator.gamma(4.0, 0.25)  # mean 10, standard deviation 5
    haemoglobin = 8.1 + 0.08 * (foetal - 10) + generator.normal(0, 1.02)
    pressure = 105 + 1.0 * (age - 9.1) + generator.normal(0, 9.8)
    return {
        "age": age,
        "male": float(generator.random() < TYPICAL["male"]),
        "haemoglobin": float(np.clip(haemoglobin, 4.5, 13)),
        "systolic_pressure": float(np.clip(pressure, 75, 145)),
        "foetal_haemoglobin": float(min(foetal, 40.0)),
        "white_cells": float(12 * generator.lognormal(-0.045, 0.3)),  # mean 12
    }
