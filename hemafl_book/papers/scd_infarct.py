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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import brier_score_loss, roc_auc_score

from hemafl_book.papers import dealing
from hemafl_book.papers.arms import Arm, Tables, Trial
from hemafl_book.papers.changes import OPTIONS, UNCHANGED, Changes
from hemafl_book.papers.dealing import Deal
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.protocol import OfStudies, describe
from hemafl_book.papers.scores import interval_table, report_studies
from hemafl_book.papers.studies import Piece, each_study, run_studies, with_titles
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results
from hemafl_lib import evaluation, federation, statistics
from hemafl_lib.data import sickle_cell
from hemafl_lib.data.cohort import TableCohort
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
class Protocol(OfStudies):
    """Everything that decides the numbers, apart from the seeds."""

    preset: str
    source: str
    studies: tuple[Study, ...]
    arms: tuple[Arm, ...] = NETWORKS
    rounds: int = ROUNDS
    changes: Changes = UNCHANGED

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
    number: int
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
    splits = evaluation.repeated_folds(cohort.targets.numpy(), folds=FOLDS, repeats=1, seed=seed)
    for number, (train, test) in enumerate(splits):
        held = cohort.take(test)
        dealt = deal.sites(cohort.take(train), seed=seed, validation=0.0, test=0.0)
        known = statistics.standardise(dealt, minimum=1)
        away = known.apply([Site("held out", held.take([]), held.take([]), held)])[0]
        found.append(Fold(seed, number, known.apply(dealt), away.test, test))
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
            labels={"fold": fold.number},
        )
        for arm in asked.arms
    ]


def network_answers(trial: Trial, runs: Mapping[str, Run]) -> dict[str, Answers]:
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


def answer_table(fold: Fold, found: Mapping[str, Answers]) -> pd.DataFrame:
    """Return one row for each arm and held-out patient of a fold."""
    known = {"seed": fold.seed, "patient": fold.rows, "infarct": fold.test.targets.numpy()}
    return pd.concat(
        pd.DataFrame({"arm": arm, **known, "probability": one.probability, "predicted": one.predicted})
        for arm, one in found.items()
    )


def repetition_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Return each arm's measures from the `answer_table` of one cross-validation of all patients."""
    ordered = answers.sort_values("patient", kind="stable")
    parts = [measures(arm, ordered[ordered["arm"] == arm]) for arm in answers["arm"].unique()]
    labels = answers.groupby("patient")["infarct"].first().to_numpy()
    everybody = {"arm": "all positive", "F1": evaluation.all_positive_f1(labels), "predicted": len(labels)}
    table = pd.DataFrame([*parts, everybody])
    return table.assign(seed=answers["seed"].iloc[0], where="all", infarcts=int(labels.sum()))


def measures(arm: str, answers: pd.DataFrame) -> dict[str, str | float]:
    """Return F1 with its bootstrap interval, what one patient can change, AUROC and Brier score."""
    labels, probability = answers["infarct"].to_numpy(), answers["probability"].to_numpy()
    predicted = answers["predicted"].to_numpy().astype(int)
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
    """Run all studies of a protocol and return their tables; see `Paper`."""
    cohorts = [cohort_of(study, seed) for study in asked.studies for seed in study.seeds]
    data = tuple({cohort.provenance.checksum: cohort.provenance for cohort in cohorts}.values())
    series = each_study(asked.studies, lambda study: partial(piece, study, asked))
    found = run_studies(asked, series, where, data)
    tables = {study.title: {"scores": score_table(found[study.title])} for study in asked.studies}
    return Results(asked, with_titles(tables), data, found.seconds)


def cohort_of(study: Study, seed: int) -> TableCohort:
    """Return the patients of a repetition."""
    return sickle_cell.simulate(PATIENTS, seed=seed if study.own_cohort else 0)


def piece(study: Study, asked: Protocol, seed: int) -> Piece:
    """Return the trainings of one cross-validation, beside what needs no network."""
    folds = cross_validation(cohort_of(study, seed), seed, asked.way())
    return Piece(
        trials=[trial for fold in folds for trial in trials(fold, asked)],
        examine=partial(examine, folds),
        beside=partial(answers_beside, folds),
    )


def examine(folds: Sequence[Fold], trial: Trial, runs: Mapping[str, Run], where: Where) -> Tables:
    """Return what the networks of a trial answer for the held-out patients of its fold."""
    return {"answers": answer_table(folds[trial.labels["fold"]], network_answers(trial, runs))}


def answers_beside(folds: Sequence[Fold]) -> Tables:
    """Return what models without a network answer for the held-out patients of each fold."""
    return {"answers": pd.concat(answer_table(fold, answers_without_networks(fold)) for fold in folds)}


def score_table(found: Tables) -> pd.DataFrame:
    """Return each arm's measures from every cross-validation of a study."""
    repetitions = found["answers"].groupby("seed", sort=False)
    return pd.concat([repetition_table(answers) for _, answers in repetitions], ignore_index=True)


def report(results: Results) -> str:
    """Return each study's F1 and AUROC by arm, as text."""
    return report_studies(results, about)


def about(study: Study, scores: pd.DataFrame) -> str:
    """Return one study's F1 and AUROC by arm, as text."""
    columns = {name: interval_table(scores.dropna(subset=name), name)["all"] for name in ("F1", "AUROC")}
    return f"{study.title}: {PATIENTS} patients\n{pd.DataFrame(columns).to_string(na_rep='')}"
