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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import brier_score_loss, roc_auc_score

from hemafl_book.papers import dealing
from hemafl_book.papers.arms import Arm, Trial, train_each
from hemafl_book.papers.changes import OPTIONS, UNCHANGED, Changes
from hemafl_book.papers.dealing import Deal
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.protocol import all_seeds, describe
from hemafl_book.papers.scores import interval_table
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results
from hemafl_lib import evaluation, federation, statistics
from hemafl_lib.data import sickle_cell
from hemafl_lib.data.cohort import Provenance, TableCohort
from hemafl_lib.federation import Run
from hemafl_lib.models import PenalisedLogistic, firth_logistic, ridge_logistic, table_model
from hemafl_lib.partition import Site
from hemafl_lib.training import Recipe, predict

OFFER = Offer(
    name="scd-infarct",
    title="silent infarcts in 65 patients with sickle cell disease (chapter 4)",
    sources=("simulated",),
    embedded="SIMULATED patients, as it always does: the paper's are not public",
    takes=tuple(name for name in OPTIONS if name not in ("model", "data")),
)

PATIENTS, PROPORTIONS, FOLDS = 65, (3, 2, 1), 5
RIDGE = 3.0
"""Strength of the ridge, of one hospital and of all."""

SMALLEST = 5
"""Fewest patients of a hospital that is dealt by their outcome, where a user asks for that."""

UNEQUAL = dealing.quantity(PROPORTIONS, SMALLEST)
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
    arms: tuple[Arm, ...] = NETWORKS
    rounds: int = ROUNDS
    changes: Changes = UNCHANGED

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all studies."""
        return all_seeds(self.studies)

    def way(self) -> Deal:
        """Return how the patients become hospitals."""
        return self.changes.deal(UNEQUAL)

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        another = {"deal": self.way().describe()} if self.changes.deals else {}
        return describe(
            self,
            **another,
            patients=PATIENTS,
            proportions=list(PROPORTIONS),
            folds=FOLDS,
            ridge=RIDGE,
            arms=[arm.describe() for arm in self.arms],
            cohort=sickle_cell.VERSION,
        )


def protocol(preset: str = "quick", source: str = "simulated", changes: Changes = UNCHANGED) -> Protocol:
    """Return the protocol of a preset, "quick" (seconds) or "paper" (twenty seeds, minutes).

    There are no other patients, and no other network.

    Raises
    ------
    HemaflError
        If something is unknown or refused.
    """
    OFFER.check(preset, source, changes)
    seeds = changes.seeds((0,) if preset == "quick" else tuple(range(20)))
    same = Study("one cohort", own_cohort=False, seeds=seeds)
    other = Study("other cohorts", own_cohort=True, seeds=seeds)
    studies = (same,) if preset == "quick" else (same, other)
    return Protocol(preset, source, studies, changes.arms(NETWORKS), changes.rounds or ROUNDS, changes)


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation: its hospitals, and the held-out patients with their ``rows`` int64[N].

    All are standardised with the hospitals' means.
    """

    seed: int
    sites: Sequence[Site[TableCohort]]
    test: TableCohort
    rows: np.ndarray


@dataclass(frozen=True)
class Answers:
    """Predicted probabilities of an infarct, float64[N], and who is predicted to have one, bool[N]."""

    probability: np.ndarray
    predicted: np.ndarray


def cross_validation(cohort: TableCohort, seed: int, deal: Deal = UNEQUAL) -> list[Fold]:
    """Hold out every patient once, and deal the others to the hospitals."""
    found = []
    for train, test in evaluation.repeated_folds(cohort.targets.numpy(), folds=FOLDS, repeats=1, seed=seed):
        held = cohort.take(test)
        dealt = deal.sites(cohort.take(train), seed=seed, validation=0.0, test=0.0)
        known = statistics.standardise(dealt, minimum=1)
        away = known.apply([Site("held out", held.take([]), held.take([]), held)])[0]
        found.append(Fold(seed, known.apply(dealt), away.test, test))
    return found


def trials(fold: Fold, asked: Protocol) -> list[Trial]:
    """Return the trainings of all networks on a fold's hospitals, to answer for its held-out patients."""
    return [
        Trial(
            arm=arm,
            seed=fold.seed,
            rounds=asked.rounds,
            sites=fold.sites,
            model=table_model("logistic_regression", fold.test.features.shape[1], classes=2),
            judged={"held out": fold.test},
        )
        for arm in asked.arms
    ]


def network_answers(trial: Trial, runs: Mapping[str, Run], where: Where) -> dict[str, Answers]:
    """Return what the networks of a trial answer for the held-out patients, by the arm's name.

    A hospital alone has only its own patients to choose a threshold on.
    """
    pooled = federation.pooled(trial.sites).train
    trained_on = [site.train for site in trial.sites] if trial.arm.kind == "isolated" else [pooled]
    return {
        name: answer(partial(network_probability, run.model), known, trial.judged["held out"])
        for (name, run), known in zip(runs.items(), trained_on, strict=True)
    }


def answers_without_networks(fold: Fold) -> dict[str, Answers]:
    """Return what ridge regressions answer, of each hospital and of all from sums, and Firth's of all."""
    pooled = federation.pooled(fold.sites).train
    found: dict[str, Answers] = {}
    for site in fold.sites:
        alone = partial(fit_probability, ridge_logistic(*rows(site.train), RIDGE))
        found[f"isolated ridge: {site.name}"] = answer(alone, site.train, fold.test)
    exact = statistics.logistic(fold.sites, ridge=RIDGE, minimum=1)
    found["exact federated ridge"] = answer(exact.probability, pooled, fold.test)
    firth = partial(fit_probability, firth_logistic(*rows(pooled)))
    return {**found, "Firth": answer(firth, pooled, fold.test)}


def rows(cohort: TableCohort) -> tuple[np.ndarray, np.ndarray]:
    """Return features float64[N, F] and labels int64[N]."""
    return cohort.features.double().numpy(), cohort.targets.numpy()


def network_probability(model: torch.nn.Module, cohort: TableCohort) -> np.ndarray:
    """Return a network's probabilities of an infarct, float64[N]."""
    return predict(model, cohort).double().softmax(dim=1)[:, 1].numpy()


def fit_probability(fit: PenalisedLogistic, cohort: TableCohort) -> np.ndarray:
    """Return a fitted model's probabilities of an infarct, float64[N]."""
    return fit.probabilities(rows(cohort)[0])


def answer(
    probability: Callable[[TableCohort], np.ndarray], train: TableCohort, test: TableCohort
) -> Answers:
    """Predict an infarct where the probability reaches the threshold that is best on training patients."""
    sweep = evaluation.threshold_sweep(train.targets.numpy(), probability(train))
    scores = probability(test)
    threshold = sweep["threshold"].iloc[int(sweep["f1"].argmax())]
    return Answers(scores, np.asarray(scores >= threshold))


def repetition_table(
    labels: np.ndarray, seed: int, folds: Sequence[tuple[Fold, Mapping[str, Answers]]]
) -> pd.DataFrame:
    """Return each arm's measures from one cross-validation of all patients, whose ``labels`` are int64[N]."""
    probability: dict[str, np.ndarray] = {}
    predicted: dict[str, np.ndarray] = {}
    for fold, found in folds:
        for arm, one in found.items():
            probability.setdefault(arm, np.full(len(labels), np.nan))[fold.rows] = one.probability
            predicted.setdefault(arm, np.ones(len(labels), dtype=int))[fold.rows] = one.predicted
    parts = [measures(arm, labels, probability[arm], predicted[arm]) for arm in probability]
    everybody = {"arm": "all positive", "F1": evaluation.all_positive_f1(labels), "predicted": len(labels)}
    return pd.DataFrame([*parts, everybody]).assign(seed=seed, where="all", infarcts=int(labels.sum()))


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


def run(asked: Protocol, where: Where = HERE) -> Results:
    """Run all studies of a protocol and return their tables.

    Parameters
    ----------
    asked
        As `protocol` returns it.
    where
        Engine and device; the patients are always simulated.
    """
    tables: dict[str, pd.DataFrame] = {}
    sources: dict[str, Provenance] = {}
    for study in asked.studies:
        cohorts = {
            seed: sickle_cell.simulate(PATIENTS, seed=seed if study.own_cohort else 0) for seed in study.seeds
        }
        sources |= {cohort.provenance.checksum: cohort.provenance for cohort in cohorts.values()}
        folds = {seed: cross_validation(cohort, seed, asked.way()) for seed, cohort in cohorts.items()}
        ways = [trial for one in folds.values() for fold in one for trial in trials(fold, asked)]
        learnt = iter(train_each(ways, where, network_answers, label=study.title))
        parts = [
            repetition_table(cohort.targets.numpy(), seed, list(answers_by_fold(folds[seed], learnt, asked)))
            for seed, cohort in cohorts.items()
        ]
        tables[f"{study.title}: scores"] = pd.concat(parts, ignore_index=True)
    return Results(asked, tables, tuple(sources.values()))


def answers_by_fold(
    folds: Sequence[Fold], learnt: Iterator[dict[str, Answers]], asked: Protocol
) -> Iterator[tuple[Fold, dict[str, Answers]]]:
    """Yield each fold with the answers of its networks, the next of ``learnt``, and of what needs none."""
    for fold in folds:
        found: dict[str, Answers] = {}
        for _ in asked.arms:
            found |= next(learnt)
        yield fold, found | answers_without_networks(fold)


def report(results: Results) -> str:
    """Return each study's F1 and AUROC by arm, as text."""
    parts = []
    for study in results.protocol.studies:
        scores = results.tables[f"{study.title}: scores"]
        columns = {name: interval_table(scores.dropna(subset=name), name)["all"] for name in ("F1", "AUROC")}
        parts.append(f"{study.title}: {PATIENTS} patients\n{pd.DataFrame(columns).to_string(na_rep='')}")
    return "\n\n".join(parts)
