"""Chapter 4: silent cerebral infarcts in 65 patients with sickle cell disease, over three hospitals.

The protocol of Carota et al. (Physica Medica 142, 2026): a logistic regression, three clients of unequal
size, judged by F1. The paper's patients are not public, and it names neither features nor sizes; here 65
are drawn from published prevalences and risk factors (`hemafl_lib.data.sickle_cell`), and an infarct is one
that is there on the day of the scan (prevalent), not one that comes later.

Each patient is predicted once by models that never saw it (cross-validation), so that one F1 rests on all 65.
Thresholds are chosen on training patients. The study "one cohort" repeats folds and deals with the same
patients, "other cohorts" with other patients: the first shows the luck of the split, the second that of
who fell ill.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import brier_score_loss, roc_auc_score

from hemafl_book.papers import compare as compared
from hemafl_book.papers.compare import Arm, train_arm
from hemafl_book.papers.protocol import check_choices
from hemafl_book.results import Results
from hemafl_lib import evaluation, federation, partition, statistics
from hemafl_lib.data import sickle_cell
from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.models import LogisticFit, LogisticRegression, firth_logistic, ridge_logistic
from hemafl_lib.partition import Site
from hemafl_lib.progress import bar
from hemafl_lib.training import Recipe, predict

NAME = "scd-infarct"
PRESETS = ("quick", "paper")
SOURCES = ("simulated",)
EMBEDDED = "SIMULATED patients, as it always does: the paper's are not public"

PATIENTS, PROPORTIONS, FOLDS = 65, (3, 2, 1), 5
RIDGE = 3.0
"""Strength of the ridge, of one hospital and of all."""

ROUNDS = 20
RECIPE = Recipe(optimiser="sgd", learning_rate=0.1, weight_decay=0.03, batch_size=64, local_epochs=2)

NETWORKS = (
    Arm("isolated", kind="isolated", recipe=RECIPE),
    Arm("FedAvg", recipe=RECIPE),
    Arm("centralised", kind="centralised", recipe=RECIPE),
)


@dataclass(frozen=True)
class Study:
    """Repetitions with one cohort, or each with a cohort of its own; ``seeds`` are those of all draws."""

    title: str
    own_cohort: bool
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Protocol:
    """Everything that decides the numbers, apart from the seeds."""

    preset: str
    source: str
    studies: tuple[Study, ...]

    def described(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        fixed = {
            "patients": PATIENTS,
            "proportions": list(PROPORTIONS),
            "folds": FOLDS,
            "ridge": RIDGE,
            "rounds": ROUNDS,
            "arms": [arm.described() for arm in NETWORKS],
            "cohort": sickle_cell.VERSION,
        }
        return {**asdict(self), **fixed}


def protocol(preset: str = "quick", source: str = "simulated") -> Protocol:
    """Return the protocol of a preset: "quick" (seconds) or "paper" (twenty seeds, minutes).

    Raises
    ------
    HemaflError
        If one of them is unknown.
    """
    check_choices(preset=(preset, PRESETS), source=(source, SOURCES))
    seeds = (0,) if preset == "quick" else tuple(range(20))
    same = Study("one cohort", own_cohort=False, seeds=seeds)
    if preset == "quick":
        return Protocol(preset, source, (same,))
    return Protocol(preset, source, (same, Study("other cohorts", own_cohort=True, seeds=seeds)))


@dataclass(frozen=True)
class Answers:
    """Predicted probabilities of an infarct, float64[N], and who is predicted to have one, bool[N]."""

    probability: np.ndarray
    predicted: np.ndarray


def fold_answers(sites: Sequence[Site], test: TableCohort, seed: int, **settings: Any) -> dict[str, Answers]:
    """Train every arm on the hospitals and let it answer for the test patients, by the arm's name.

    A hospital alone has only its own patients to choose a threshold on.
    """
    pooled = federation.pooled(sites).train
    found = {}
    for arm in NETWORKS:
        start = LogisticRegression(test.features.shape[1])
        runs = train_arm(arm, sites, start, rounds=ROUNDS, seed=seed, evaluate=False, **settings)
        trained_on = [site.train for site in sites] if arm.kind == "isolated" else [pooled]
        for (name, run), known in zip(runs.items(), trained_on, strict=True):
            found[name] = answers(partial(network_probability, run.model), known, test)
    for site in sites:
        alone = partial(fit_probability, ridge_logistic(*rows(site.train), RIDGE))
        found[f"isolated ridge: {site.name}"] = answers(alone, site.train, test)
    exact = statistics.logistic(sites, ridge=RIDGE, minimum=1)
    found["exact federated ridge"] = answers(exact.probability, pooled, test)
    firth = partial(fit_probability, firth_logistic(*rows(pooled)))
    return {**found, "Firth": answers(firth, pooled, test)}


def rows(cohort: TableCohort) -> tuple[np.ndarray, np.ndarray]:
    """Return features float64[N, F] and labels int64[N]."""
    return cohort.features.double().numpy(), cohort.label.numpy()


def network_probability(model: torch.nn.Module, cohort: TableCohort) -> np.ndarray:
    """Return a network's probabilities of an infarct, float64[N]."""
    return predict(model, cohort).double().softmax(dim=1)[:, 1].numpy()


def fit_probability(fit: LogisticFit, cohort: TableCohort) -> np.ndarray:
    """Return a fitted model's probabilities of an infarct, float64[N]."""
    return fit.probabilities(rows(cohort)[0])


def answers(
    probability: Callable[[TableCohort], np.ndarray], train: TableCohort, test: TableCohort
) -> Answers:
    """Predict an infarct where the probability reaches the threshold that is best on training patients."""
    sweep = evaluation.threshold_sweep(train.label.numpy(), probability(train))
    scores = probability(test)
    return Answers(scores, scores >= sweep.loc[sweep["f1"].idxmax(), "threshold"])


def repetition(cohort: TableCohort, seed: int, **settings: Any) -> pd.DataFrame:
    """Return each arm's measures from one cross-validation of all patients."""
    labels = cohort.label.numpy()
    probability: dict[str, np.ndarray] = {}
    predicted: dict[str, np.ndarray] = {}
    for train, test in evaluation.repeated_folds(labels, folds=FOLDS, repeats=1, seed=seed):
        held = cohort.take(test)
        dealt = partition.quantity(
            cohort.take(train), proportions=PROPORTIONS, seed=seed, validation=0.0, test=0.0
        )
        known = statistics.standardise(dealt, minimum=1)
        sites = known.apply(dealt)
        standardised = known.apply([Site("held out", held.take([]), held.take([]), held)])[0].test
        for arm, answer in fold_answers(sites, standardised, seed, **settings).items():
            probability.setdefault(arm, np.full(len(labels), np.nan))[test] = answer.probability
            predicted.setdefault(arm, np.ones(len(labels), dtype=int))[test] = answer.predicted
    found = [measures(arm, labels, probability[arm], predicted[arm]) for arm in probability]
    everybody = {"arm": "all positive", "F1": evaluation.all_positive_f1(labels), "predicted": len(labels)}
    return pd.DataFrame([*found, everybody]).assign(seed=seed, where="all", infarcts=int(labels.sum()))


def measures(
    arm: str, labels: np.ndarray, probability: np.ndarray, predicted: np.ndarray
) -> dict[str, str | float]:
    """Return F1 with its bootstrap interval, what one patient can change, AUROC and Brier score."""
    interval = evaluation.f1_interval(labels, predicted, seed=0)
    return {
        "arm": arm,
        "F1": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "one patient": evaluation.one_patient(labels, predicted)["difference"].abs().max(),
        "F1 at 0.5": evaluation.binary_f1(labels, (probability >= 0.5).astype(int)),
        "predicted": int(predicted.sum()),
        "AUROC": roc_auc_score(labels, probability),
        "Brier": brier_score_loss(labels, probability),
    }


def run(
    asked: Protocol,
    *,
    seed: int | None = None,
    root: Path | None = None,
    engine: str = "local",
    device: str = "cpu",
    progress: bool | None = None,
) -> Results:
    """Run all studies of a protocol and return their tables; parameters as in the other experiments.

    ``root`` is not used: the patients are always simulated.
    """
    began = time.monotonic()
    settings = {"engine": engine, "device": device, "progress": False}
    tables, sources = {}, {}
    for study in asked.studies:
        seeds = study.seeds if seed is None else (seed,)
        parts = []
        for number in bar(seeds, desc=study.title, show=progress):
            cohort = sickle_cell.simulate(PATIENTS, seed=number if study.own_cohort else 0)
            sources[cohort.provenance.checksum] = cohort.provenance
            parts.append(repetition(cohort, number, **settings))
        tables[f"{study.title}: scores"] = pd.concat(parts, ignore_index=True)
    used = (seed,) if seed is not None else sorted({s for study in asked.studies for s in study.seeds})
    return Results(asked, tables, tuple(sources.values()), tuple(used), time.monotonic() - began)


def report(results: Results) -> str:
    """Return each study's F1 and AUROC by arm, as text."""
    parts = []
    for study in results.protocol.studies:
        scores = results.tables[f"{study.title}: scores"]
        shown = {name: compared.shown(scores.dropna(subset=name), name)["all"] for name in ("F1", "AUROC")}
        parts.append(f"{study.title}: {PATIENTS} patients\n{pd.DataFrame(shown).to_string(na_rep='')}")
    return "\n\n".join(parts)
