"""What the survival explorers of chapter 4 vary: a small hospital, unequal hazards, and who gets the drug.

The patients are simulated, so the log hazard ratios are known (`EFFECTS`). Whether a patient gets the drug
is a matter of chance within a hospital, but one hospital gives it more often than another, and patients of
that hospital may die sooner for reasons that no feature tells: the hospital confounds the drug's effect.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from hemafl_book.explorers.sweep import Sweep
from hemafl_lib import evaluation, statistics
from hemafl_lib.data.cohort import Provenance, TableCohort
from hemafl_lib.errors import Stopped
from hemafl_lib.partition import Site
from hemafl_lib.seeds import numpy_generator

VERSION = "1"
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

HOSPITALS = ("large", "middle", "small")
PATIENTS, TESTED = 600, 200
"""Training patients of all hospitals together, and held-out patients of each hospital."""

REPETITIONS = 30
RIDGE = 3.0
"""Ridge of a hospital alone. A dozen patients have no finite estimate without one; between 1 and 20 it moves
the mean C-index of none of the hospitals by more than 0.005."""

ARMS = ("isolated", "federated, stratified", "federated, pooled")
ESTIMATES = ("pooled Cox", "stratified Cox", "mean of local fits")

CONTROLS = {
    "smallest": (0.2, 0.15, 0.1, 0.05, 0.02),
    "shift": (1, 2, 4, 8),
    "uneven": (0.0, 0.3, 0.6),
}
"""The settings that are recorded, by the argument of `explore`."""

HOSPITAL_TABLE, EFFECT_TABLE = "hospitals", "effects"
"""The titles of the recording's tables."""

BETWEEN = (0.1, 0.9)
"""Quantiles of the repetitions that are shown: 8 of 10 repetitions lie between them."""


@dataclass(frozen=True)
class SurvivalOutcome:
    """What a setting gives, over repetitions with new patients: ``mean``, and ``low`` to ``high``.

    ``hospitals`` holds C-indices on held-out patients, one row for each ``hospital`` (from small to large,
    with its number of training ``patients``) and ``model`` (`ARMS`). ``effects`` holds estimates of the
    drug's log hazard ratio, one row for each ``estimate`` (`ESTIMATES`).
    """

    hospitals: pd.DataFrame
    effects: pd.DataFrame


def explore(
    smallest: float,
    shift: float,
    uneven: float,
    *,
    repetitions: int = REPETITIONS,
    report: Callable[[int], object] = lambda done: None,
    stop: threading.Event | None = None,
) -> SurvivalOutcome:
    """Let three unequal hospitals learn alone and together, on new patients in every repetition.

    Parameters
    ----------
    smallest
        Share of the training patients whom the small hospital has; the large one has two thirds of the
        others.
    shift
        The hazard of every patient of the middle hospital is multiplied by this.
    uneven
        Share of patients who get the drug at the middle hospital less that at the large one, 0 to 1.
    repetitions
        How many. All settings share their random numbers, so that they differ by the setting only.
    report
        Called after every repetition with the number of those that are done.
    stop
        Set it from another thread to end with `hemafl_lib.errors.Stopped`.

    Returns
    -------
    SurvivalOutcome
        "isolated" is a ridge Cox model of each hospital alone. "federated, pooled" is the exact Cox model
        of all rows, "federated, stratified" the one in which each hospital has a baseline hazard of its
        own. "mean of local fits" weights the isolated models by their patients.
    """
    judged: list[pd.DataFrame] = []
    estimated: list[pd.DataFrame] = []
    for seed in range(repetitions):
        if stop is not None and stop.is_set():
            raise Stopped
        sites = deal(smallest, shift, uneven, seed)
        fits = fit(sites)
        judged.append(c_indices(sites, fits))
        estimated.append(drug_effects(sites, fits))
        report(seed + 1)
    return SurvivalOutcome(
        summarise(pd.concat(judged), ["hospital", "patients", "model"]),
        summarise(pd.concat(estimated), ["estimate"]),
    )


def summarise(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the mean and the quantiles of the repetitions' ``value``, one row for each of the ``keys``."""
    value = rows.groupby(keys, sort=False)["value"]
    low, high = (value.quantile(share) for share in BETWEEN)
    return pd.DataFrame({"mean": value.mean(), "low": low, "high": high}).reset_index()


# The hospitals and their patients


def sizes(smallest: float) -> tuple[int, int, int]:
    """Return the numbers of training patients of the large, the middle and the small hospital."""
    small = round(PATIENTS * smallest)
    large = round(2 / 3 * (PATIENTS - small))
    return large, PATIENTS - small - large, small


def deal(smallest: float, shift: float, uneven: float, seed: int) -> list[Site[TableCohort]]:
    """Return the large, the middle and the small hospital with new patients; see `explore`."""
    hazards = (1.0, float(shift), 1.0)
    treated = (0.5 - uneven / 2, 0.5 + uneven / 2, 0.5)
    sites = []
    for name, count, hazard, share in zip(HOSPITALS, sizes(smallest), hazards, treated, strict=True):
        train, test = (
            simulate(number, numpy_generator(seed, part, name), name=name, hazard=hazard, treated=share)
            for part, number in (("train", count), ("test", TESTED))
        )
        sites.append(Site(name, train, train.take([]), test))
    return sites


def simulate(
    patients: int, generator: np.random.Generator, *, name: str, hazard: float, treated: float
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

    Returns
    -------
    TableCohort
        Features float32[N, 6] in the order of `EFFECTS`: the drug is 0 or 1, the others are standard
        normal. Times in months.
    """
    features = generator.standard_normal((patients, len(EFFECTS)))
    features[:, 0] = generator.random(patients) < treated
    rate = hazard / SURVIVAL * np.exp(features @ np.array(list(EFFECTS.values())))
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
        "tested": TESTED,
    }


def provenance() -> Provenance:
    """Return where the patients come from."""
    return Provenance(
        name="three hospitals with survival",
        source="SIMULATED patients of three hospitals; none is real.",
        licence="Apache-2.0",
        simulated=True,
        checksum=hashlib.sha256(json.dumps(setup()).encode()).hexdigest(),
    )


# What they learn


@dataclass(frozen=True)
class Fits:
    """Log hazard ratios float64[6]: of each hospital alone, in order, and of the two exact federations."""

    local: list[np.ndarray]
    stratified: np.ndarray
    pooled: np.ndarray


def fit(sites: Sequence[Site[TableCohort]]) -> Fits:
    """Fit the Cox model of every hospital alone, and the stratified and the pooled one of all."""
    return Fits(
        [statistics.cox([site], ridge=RIDGE, minimum=1).coefficients for site in sites],
        statistics.cox_stratified(sites, minimum=1).coefficients,
        statistics.cox(sites, minimum=1).coefficients,
    )


def c_indices(sites: Sequence[Site[TableCohort]], fits: Fits) -> pd.DataFrame:
    """Return the C-index of every model on the held-out patients of every hospital, from small to large."""
    rows = [
        (site.name, len(site.train), model, c_index(site.test, coefficients))
        for site, alone in reversed(list(zip(sites, fits.local, strict=True)))
        for model, coefficients in zip(ARMS, (alone, fits.stratified, fits.pooled), strict=True)
    ]
    return pd.DataFrame(rows, columns=["hospital", "patients", "model", "value"])


def c_index(cohort: TableCohort, coefficients: np.ndarray) -> float:
    """Return Harrell's C of a Cox model."""
    return evaluation.harrell_c(cohort.targets.numpy(), cohort.features.double().numpy() @ coefficients)


def drug_effects(sites: Sequence[Site[TableCohort]], fits: Fits) -> pd.DataFrame:
    """Return the three estimates of the drug's log hazard ratio."""
    mean = np.average(fits.local, axis=0, weights=[len(site.train) for site in sites])
    drug = [coefficients[0] for coefficients in (fits.pooled, fits.stratified, mean)]
    return pd.DataFrame({"estimate": ESTIMATES, "value": drug})


# In words and over the shifts


def describe_hospitals(found: SurvivalOutcome) -> str:
    """Return in a sentence or two what the C-indices of a setting say."""
    table = found.hospitals.set_index(["hospital", "model"])["mean"]
    patients = found.hospitals.groupby("hospital", sort=False)["patients"].first()
    isolated, stratified, pooled = ARMS
    said = [
        f"{name} ({patients[name]} patients) {table[name, isolated]:.2f} alone and "
        f"{table[name, stratified]:.2f} federated"
        for name in patients.index
    ]
    return (
        f"Mean C-index: {'; '.join(said)}. A federation that compares patients of different hospitals "
        f"reaches {', '.join(f'{table[name, pooled]:.2f}' for name in patients.index)}."
    )


def effects_by_shift(
    found: Mapping[tuple[float, float, float], SurvivalOutcome], smallest: float, uneven: float
) -> pd.DataFrame:
    """Return the estimates of the drug's effect for every ``shift``, and the "true value" beside them.

    Columns ``estimate``, ``shift``, ``mean``, ``low`` and ``high``.
    """
    parts = [
        found[smallest, shift, uneven].effects.assign(shift=shift)
        for small, shift, unequal in found
        if (small, unequal) == (smallest, uneven)
    ]
    table = pd.concat(parts, ignore_index=True)
    truth = table.drop_duplicates("shift").assign(estimate="true value")
    truth[["mean", "low", "high"]] = EFFECTS["drug"]
    return pd.concat([table, truth], ignore_index=True)[["estimate", "shift", "mean", "low", "high"]]


def describe_effects(effects: pd.DataFrame) -> str:
    """Return in two sentences what a table of `effects_by_shift` says."""
    mean = effects.pivot(index="shift", columns="estimate", values="mean")
    moves = [f"{name} from {mean[name].iloc[0]:.2f} to {mean[name].iloc[-1]:.2f}" for name in ESTIMATES]
    return (
        f"As the hazard at the middle hospital grows {mean.index[-1]:g}-fold, the drug's estimated effect "
        f"goes: {', '.join(moves)}. The true value is {EFFECTS['drug']:.2f}."
    )


# The recording


def protocol() -> dict:
    """Return what decides the recorded numbers, as plain JSON values."""
    return {
        **setup(),
        "ridge": RIDGE,
        "quantiles": list(BETWEEN),
        "controls": {name: list(values) for name, values in CONTROLS.items()},
    }


def to_rows(found: SurvivalOutcome) -> dict[str, pd.DataFrame]:
    """Return the rows of the recording's two tables, rounded to four decimals."""
    return {HOSPITAL_TABLE: found.hospitals.round(4), EFFECT_TABLE: found.effects.round(4)}


def from_rows(rows: Mapping[str, pd.DataFrame]) -> SurvivalOutcome:
    """Return the outcome that these rows hold."""
    hospitals, effects = (
        rows[title].drop(columns=list(CONTROLS)) for title in (HOSPITAL_TABLE, EFFECT_TABLE)
    )
    return SurvivalOutcome(hospitals, effects)


SWEEP = Sweep(
    title="A small hospital, unequal hazards, and who gets the drug",
    controls=CONTROLS,
    explore=explore,
    tables={HOSPITAL_TABLE: tuple(CONTROLS), EFFECT_TABLE: tuple(CONTROLS)},
    to_rows=to_rows,
    from_rows=from_rows,
    protocol=protocol,
    data=lambda: [provenance()],
    seeds=range(REPETITIONS),
)
