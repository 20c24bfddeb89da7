"""Simulated patients with survival, whose true risks are known, for the explorers of chapter 4."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import torch

from hemafl_lib.data.cohort import Provenance, TableCohort

VERSION = "2"
"""Changes whenever the same settings would give other patients."""

EFFECTS = {
    "drug": -0.5,
    "age": 0.3,
    "marrow_blasts": 0.5,
    "haemoglobin": -0.4,
    "platelets": -0.3,
    "neutrophils": 0.0,
}
"""True log hazard ratios, our choice: of the drug (given or not), of the others per standard deviation."""

SURVIVAL = 60.0
"""Mean months to death of an untreated, average patient where the hazard is not multiplied."""

FOLLOW_UP = (12.0, 96.0)
"""Months after which a patient leaves the study alive, uniform between these."""

PATIENTS = 600
"""Training patients of all hospitals together."""


def simulate(
    patients: int,
    generator: np.random.Generator,
    *,
    name: str,
    hazard: float = 1.0,
    treated: float = 0.5,
    effects: Sequence[float] = tuple(EFFECTS.values()),
) -> TableCohort:
    """Draw patients of one hospital, who die at a constant rate.

    Parameters
    ----------
    patients
        How many.
    generator
        Draws them.
    name
        Of the hospital.
    hazard
        Multiplies the hazard of every patient.
    treated
        Share of patients who get the drug, 0 to 1.
    effects
        Log hazard ratios at this hospital, in the order of `EFFECTS`.

    Returns
    -------
    TableCohort
        Features float32[N, 6] in the order of `EFFECTS`: the drug is 0 or 1, the others are standard
        normal. Times in months.
    """
    features = generator.standard_normal((patients, len(EFFECTS)))
    features[:, 0] = generator.random(patients) < treated
    rate = hazard / SURVIVAL * np.exp(features @ np.asarray(effects))
    death = generator.standard_exponential(patients) / rate
    leaves = generator.uniform(*FOLLOW_UP, patients)
    return TableCohort(
        site=np.full(patients, name),
        patient=np.array([f"{name}/{number}" for number in range(patients)]),
        provenance=provenance(),
        features=torch.tensor(features, dtype=torch.float32),
        feature_names=tuple(EFFECTS),
        time=torch.tensor(np.minimum(death, leaves), dtype=torch.float32),
        event=torch.tensor(death <= leaves),
    )


def setup() -> dict:
    """Return what decides which patients are drawn, as plain JSON values."""
    return {
        "version": VERSION,
        "effects": EFFECTS,
        "mean months to death": SURVIVAL,
        "follow-up": list(FOLLOW_UP),
        "patients": PATIENTS,
    }


def provenance() -> Provenance:
    """Return where the patients come from."""
    return Provenance(
        name="hospitals with survival",
        source="SIMULATED patients of hospitals; none is real.",
        licence="Apache-2.0",
        simulated=True,
        checksum=hashlib.sha256(json.dumps(setup()).encode()).hexdigest(),
    )
