"""Chapter 4: silent cerebral infarcts in 65 patients with sickle cell disease, over three hospitals.

The protocol of Carota et al. (Physica Medica 142, 2026): a logistic regression, three clients of unequal
size, judged by F1. The paper's patients are not public, and it names neither features nor sizes; here 65
are drawn from published prevalences and risk factors (`hemafl_lib.data.sickle_cell`), and an infarct is one
that is there on the day of the scan (prevalent), not one that comes later.

A patient belongs to one hospital and is predicted once by models that never saw it (cross-validation within
hospitals), so that one F1 rests on all 65. A seed decides the deal to hospitals, the folds, the order of
training and, in "other cohorts", who the patients are; in "one cohort" they are held fixed on purpose, which
shows the luck of deal and folds alone. Logistic regression has no random initial weights (it begins at 0),
and no value is unknown.

The ridge is chosen for every model and fold by cross-validation within its training patients, by the
likelihood (nested validation, `RIDGES`); networks take it as their weight decay. Thresholds are chosen on
training patients. A server's optimiser keeps its default settings: nothing is tried for it. The AUROC counts
pairs of patients of the same fold only, since scores of two folds come from two models.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from hemafl_book.papers import dealing
from hemafl_book.papers.arms import Arm, Tables, Trial, federated_name
from hemafl_book.papers.changes import OPTIONS, UNCHANGED, Changes
from hemafl_book.papers.dealing import Deal
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.platform import on_every_engine
from hemafl_book.papers.protocol import OfStudies, describe
from hemafl_book.papers.scaling import SCALINGS, by_sums
from hemafl_book.papers.scores import interval_table, report_studies
from hemafl_book.papers.studies import Piece, Series, each_study, run_studies, with_titles
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results
from hemafl_lib import evaluation, federation, statistics
from hemafl_lib.aggregation import AGGREGATORS, FedAvg, FedTrimmedMean
from hemafl_lib.data import sickle_cell
from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.federation import Run
from hemafl_lib.models import PenalisedLogistic, firth_logistic, ridge_logistic, table_model
from hemafl_lib.partition import Site
from hemafl_lib.seeds import numpy_generator
from hemafl_lib.training import Recipe, predict

OFFER = Offer(
    name="scd-infarct",
    title="silent infarcts in 65 patients with sickle cell disease (chapter 4)",
    sources=("simulated",),
    embedded="SIMULATED patients, as it always does: the paper's are not public",
    takes=tuple(name for name in OPTIONS if name not in ("model", "data")),
)

PATIENTS, PROPORTIONS, FOLDS = 65, (3, 2, 1), 5
RIDGES, INNER_FOLDS = (1.0, 3.0, 10.0, 30.0), 3
"""Strengths of the ridge that are tried within the training patients of each model, in so many folds."""

ALL = "all hospitals"

MARGIN = 0.05
"""Two models are equivalent if the 90 % interval of their difference in F1 lies within this margin."""

SMALLEST = 5
"""Fewest patients of a hospital that is dealt by their outcome, where a user asks for that."""

UNEQUAL = dealing.quantity(PROPORTIONS, SMALLEST)
ROUNDS = 10
RECIPE = Recipe(optimiser="sgd", learning_rate=0.1, batch_size=64, local_epochs=4)
"""How a hospital trains; the weight decay follows the ridge, see `weight_decay`."""

PLAIN = Arm("FedAvg", recipe=RECIPE, network="logistic_regression")
ISOLATED = replace(PLAIN, name="isolated", kind="isolated")
CENTRALISED = replace(PLAIN, name="centralised", kind="centralised")
NETWORKS = (ISOLATED, PLAIN, CENTRALISED)
OTHERS = (
    replace(PLAIN, name="FedAvg, equal weights", aggregator=FedAvg(equal_weights=True)),
    replace(PLAIN, name="FedProx", recipe=replace(RECIPE, proximal=0.1)),
    replace(PLAIN, name="FedTrimmedMean", aggregator=FedTrimmedMean(trim=0.34)),
    *(
        replace(PLAIN, name=name, aggregator=kind())
        for name, kind in AGGREGATORS.items()
        if kind not in (FedAvg, FedTrimmedMean)
    ),
)
"""Every other aggregator of the registry at its default settings, and FedProx."""


@dataclass(frozen=True)
class Study:
    """Repetitions with one cohort, or each with a cohort of its own, over the same way of dealing.

    ``platform`` are the seeds for which engines are compared (`engine_piece`).
    """

    title: str
    own_cohort: bool
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...] = NETWORKS
    deal: Deal | None = None
    platform: tuple[int, ...] = ()

    def way(self) -> Deal:
        """Return how the patients become hospitals."""
        return self.deal or UNEQUAL


@dataclass(frozen=True)
class Protocol(OfStudies):
    """Everything that decides the numbers, apart from the seeds."""

    preset: str
    source: str
    studies: tuple[Study, ...]
    rounds: int = ROUNDS
    changes: Changes = UNCHANGED

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        return describe(
            self,
            patients=PATIENTS,
            proportions=list(PROPORTIONS),
            folds=FOLDS,
            ridges=list(RIDGES),
            tries=len(RIDGES),
            inner_folds=INNER_FOLDS,
            margin=MARGIN,
            scalings=list(SCALINGS),
            cohort=sickle_cell.VERSION,
            seed="decides patients (in other cohorts), deal, folds and order of training",
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
    rounds = changes.rounds or ROUNDS
    if preset == "quick":
        quick = changes.studies([Study("one cohort", own_cohort=False, seeds=(0,))])
        return Protocol(preset, source, quick, rounds, changes)
    all_arms = (*NETWORKS[:2], *OTHERS, CENTRALISED)
    same = Study("one cohort", own_cohort=False, seeds=tuple(range(10)), platform=changes.seeds((0,)))
    other = Study("other cohorts", own_cohort=True, seeds=tuple(range(20)), arms=all_arms)
    return Protocol(preset, source, changes.studies([same, other]), rounds, changes)


# Hospitals and folds


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation.

    ``measured`` are its hospitals, whose test patients are held out, and ``sites`` the same, scaled with the
    moments of all training patients. ``ridges`` holds the strength that validation chose within the training
    patients of each hospital, and under `ALL` of all hospitals together.
    """

    seed: int
    number: int
    measured: Sequence[Site[TableCohort]]
    sites: Sequence[Site[TableCohort]]
    ridges: Mapping[str, float]


def cross_validation(cohort: TableCohort, seed: int, deal: Deal = UNEQUAL) -> list[Fold]:
    """Deal all patients to hospitals, and hold out every patient of each once."""
    dealt = deal.sites(cohort, seed=seed, validation=0.0, test=0.0)
    numbers = fold_numbers([site.train.targets.numpy() for site in dealt], seed)
    hospitals = list(zip(dealt, numbers, strict=True))
    return [
        make_fold(seed, fold, [held_out(site.name, site.train, own == fold) for site, own in hospitals])
        for fold in range(FOLDS)
    ]


def make_fold(seed: int, number: int, measured: Sequence[Site[TableCohort]]) -> Fold:
    """Return a fold, with what is learnt before any model: the moments, and the strengths of the ridge."""
    sites = by_sums(measured)
    known = {site.name: site.train for site in sites} | {ALL: federation.pooled(sites).train}
    ridges = {name: chosen_ridge(train, seed) for name, train in known.items()}
    return Fold(seed, number, measured, sites, ridges)


def fold_numbers(labels: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """Return each hospital's folds, int64[N]: every outcome of a hospital is spread evenly over them.

    One hospital goes on where the one before ended, so that the folds are of equal size in all.
    """
    generator = numpy_generator(seed, "folds")
    found, begin = [], 0
    for outcome in labels:
        order = generator.permutation(len(outcome))
        order = order[np.argsort(outcome[order], kind="stable")]
        numbers = np.empty(len(outcome), dtype=np.int64)
        numbers[order] = (begin + np.arange(len(outcome))) % FOLDS
        found.append(numbers)
        begin += len(outcome)
    return found


def held_out(name: str, cohort: TableCohort, out: np.ndarray) -> Site[TableCohort]:
    """Return a hospital that trains on some of its patients and is tested on those held ``out``, bool[N]."""
    return Site(name, cohort.take(np.flatnonzero(~out)), cohort.take([]), cohort.take(np.flatnonzero(out)))


# The ridge, chosen within training patients


def chosen_ridge(cohort: TableCohort, seed: int) -> float:
    """Return the strength with the best likelihood of training patients that a fit had not seen.

    Of fewer than two patients with one of the outcomes nothing can be learnt: the strongest.
    """
    features, labels = rows(cohort)
    rarest = int(np.bincount(labels, minlength=2).min())
    if rarest < 2:
        return RIDGES[-1]
    folds = min(INNER_FOLDS, rarest)
    splits = evaluation.repeated_folds(labels, folds=folds, repeats=1, seed=seed)

    def surprise(strength: float) -> float:
        return sum(
            log_loss(
                labels[out],
                ridge_logistic(features[known], labels[known], strength).probabilities(features[out]),
                labels=[0, 1],
                normalize=False,
            )
            for known, out in splits
        )

    return min(RIDGES, key=surprise)


def weight_decay(ridge: float, patients: int) -> float:
    """Return the weight decay that stands for a ridge on the log-odds of so many patients.

    A network of two classes holds each coefficient b twice, as b / 2 and -b / 2, and its loss is a mean:
    d / 2 ((b / 2)^2 + (b / 2)^2) = ridge / 2 b^2 / patients. Its constants decay too, so that a network's
    probabilities lie nearer to a half than a ridge regression's: compare networks by order and by thresholds.
    """
    return 2 * ridge / patients


# What is trained


def trials(fold: Fold, arms: Sequence[Arm], rounds: int) -> list[Trial]:
    """Return the trainings of all networks on a fold's hospitals, to answer for its held-out patients."""
    return [trial_of(fold, rounds, arm, sites, ridge) for arm in arms for sites, ridge in clients(fold, arm)]


def clients(fold: Fold, arm: Arm) -> list[tuple[Sequence[Site[TableCohort]], float]]:
    """Return the hospitals of each training of an arm, with their ridge: one at a time, or all of them."""
    if arm.kind == "isolated":
        return [([site], fold.ridges[site.name]) for site in fold.sites]
    return [(fold.sites, fold.ridges[ALL])]


def trial_of(fold: Fold, rounds: int, arm: Arm, sites: Sequence[Site[TableCohort]], ridge: float) -> Trial:
    """Return the training of one arm at some of a fold's hospitals."""
    decay = weight_decay(ridge, sum(map(len, sites)))
    return Trial(
        arm=replace(arm, recipe=replace(arm.recipe, weight_decay=decay)),
        seed=fold.seed,
        rounds=rounds,
        sites=sites,
        model=table_model("logistic_regression", sites[0].train.features.shape[1], classes=2),
        labels={"fold": fold.number},
    )


# What is answered


@dataclass(frozen=True)
class Answers:
    """Predicted probabilities of an infarct, float64[N], and who is predicted to have one, bool[N]."""

    probability: np.ndarray
    predicted: np.ndarray


Probability = Callable[[TableCohort], np.ndarray]


def answer(probability: Probability, train: TableCohort, test: TableCohort) -> Answers:
    """Predict an infarct where the probability reaches the threshold that is best on training patients.

    Who has seen no infarct predicts none.
    """
    scores, labels = probability(test), train.targets.numpy()
    if not labels.any():
        return Answers(scores, np.zeros(len(test), dtype=bool))
    sweep = evaluation.threshold_sweep(labels, probability(train))
    threshold = sweep["threshold"].iloc[int(sweep["f1"].argmax())]
    return Answers(scores, np.asarray(scores >= threshold))


def network_answers(trial: Trial, runs: Mapping[str, Run], test: TableCohort) -> dict[str, Answers]:
    """Return what the network of a trial answers for held-out patients, by the arm's name.

    A hospital alone has only its own patients to choose a threshold on.
    """
    train = federation.pooled(trial.sites).train
    return {name: answer(partial(network_probability, run.model), train, test) for name, run in runs.items()}


def answers_without_networks(fold: Fold) -> dict[str, Answers]:
    """Return what ridge regressions answer, of each hospital and of all from sums, and Firth's of all.

    Beside them stands the share of infarcts among the training patients, told to everybody.
    """
    everybody = federation.pooled(fold.sites)
    pooled, test = everybody.train, everybody.test
    found = {
        f"isolated ridge: {site.name}": answer(
            ridge_alone(site.train, fold.ridges[site.name]), site.train, test
        )
        for site in fold.sites
    }
    found["exact federated ridge"] = exact_answer(fold.sites, fold.ridges[ALL])
    found["Firth"] = answer(partial(fit_probability, firth_logistic(*rows(pooled))), pooled, test)
    return {**found, "prevalence": answer(partial(share, pooled), pooled, test)}


def exact_answer(sites: Sequence[Site[TableCohort]], ridge: float) -> Answers:
    """Return what the exact ridge regression of all hospitals answers for their test patients."""
    pooled = federation.pooled(sites)
    return answer(statistics.logistic(sites, ridge=ridge, minimum=1).probability, pooled.train, pooled.test)


def ridge_alone(train: TableCohort, ridge: float) -> Probability:
    """Return the ridge regression of a hospital alone; with one outcome only it tells everybody its share."""
    if train.targets.unique().numel() < 2:
        return partial(share, train)
    return partial(fit_probability, ridge_logistic(*rows(train), ridge))


def share(train: TableCohort, cohort: TableCohort) -> np.ndarray:
    """Return the share of infarcts among training patients for everybody, float64[N]."""
    return np.full(len(cohort), float(train.targets.double().mean()))


def rows(cohort: TableCohort) -> tuple[np.ndarray, np.ndarray]:
    """Return features float64[N, F] and labels int64[N]."""
    return cohort.features.double().numpy(), cohort.targets.numpy()


def network_probability(model: torch.nn.Module, cohort: TableCohort) -> np.ndarray:
    """Return a network's probabilities of an infarct, float64[N]."""
    return predict(model, cohort).double().softmax(dim=1)[:, 1].numpy()


def fit_probability(fit: PenalisedLogistic, cohort: TableCohort) -> np.ndarray:
    """Return a fitted model's probabilities of an infarct, float64[N]."""
    return fit.probabilities(rows(cohort)[0])


def answer_table(fold: Fold, found: Mapping[str, Answers]) -> pd.DataFrame:
    """Return one row for each arm and held-out patient of a fold."""
    test = federation.pooled(fold.measured).test
    known = {
        "seed": fold.seed,
        "fold": fold.number,
        "hospital": np.concatenate([np.full(len(site.test), site.name) for site in fold.measured]),
        "patient": test.patient,
        "infarct": test.targets.numpy(),
    }
    return pd.concat(
        pd.DataFrame({"arm": arm, **known, "probability": one.probability, "predicted": one.predicted})
        for arm, one in found.items()
    )


# What the answers are worth


def repetition_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Return each arm's measures from the `answer_table` of one cross-validation of all patients."""
    ordered = answers.sort_values("patient", kind="stable")
    parts = [{"arm": arm, **measures(ordered[ordered["arm"] == arm])} for arm in answers["arm"].unique()]
    labels = answers.groupby("patient")["infarct"].first().to_numpy()
    everybody = {"arm": "all positive", "F1": evaluation.all_positive_f1(labels), "predicted": len(labels)}
    table = pd.DataFrame([*parts, everybody])
    return table.assign(seed=answers["seed"].iloc[0], where="all", infarcts=int(labels.sum()))


def measures(answers: pd.DataFrame) -> dict[str, float]:
    """Return F1 with its bootstrap interval, what one patient can change, AUROC and Brier score."""
    labels, probability = answers["infarct"].to_numpy(), answers["probability"].to_numpy()
    predicted = answers["predicted"].to_numpy().astype(int)
    interval = evaluation.f1_interval(labels, predicted, seed=0)
    return {
        "F1": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "one patient": evaluation.one_patient(labels, predicted)["difference"].abs().max(),
        "F1 at 0.5": evaluation.binary_f1(labels, (probability >= 0.5).astype(int)),
        "predicted": int(predicted.sum()),
        "AUROC": auroc_within_folds(answers),
        "Brier": brier_score_loss(labels, probability),
    }


def auroc_within_folds(answers: pd.DataFrame) -> float:
    """Return the share of pairs of the same fold in which the patient with an infarct has the higher score.

    A fold with more infarcts leaves fewer to train on, so that its scores are lower: pairs across folds would
    pull the AUROC below a half.
    """
    right = pairs = 0.0
    for _, fold in answers.groupby("fold"):
        ill = int(fold["infarct"].sum())
        if 0 < ill < len(fold):
            right += ill * (len(fold) - ill) * roc_auc_score(fold["infarct"], fold["probability"])
            pairs += ill * (len(fold) - ill)
    return right / pairs


def own_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Return what each arm is worth on each hospital's own patients; an isolated model only on its own."""
    home = answers["arm"].str.split(": ").str[-1]
    own = answers[~answers["arm"].str.contains(": ") | (home == answers["hospital"])]
    own = own.assign(arm=own["arm"].str.split(": ").str[0])
    return pd.DataFrame(
        [own_row(place, rows) for place, rows in own.groupby(["arm", "hospital"], sort=False)]
    )


def own_row(place: tuple[Hashable, ...], own: pd.DataFrame) -> dict[str, str | float]:
    """Return what an arm is worth on the patients of one hospital."""
    labels, predicted = own["infarct"].to_numpy(), own["predicted"].to_numpy().astype(int)
    return {
        "arm": str(place[0]),
        "where": str(place[1]),
        "seed": own["seed"].iloc[0],
        "patients": len(own),
        "infarcts": int(labels.sum()),
        "F1": evaluation.binary_f1(labels, predicted),
        "all positive": evaluation.all_positive_f1(labels),
        "Brier": brier_score_loss(labels, own["probability"]),
    }


# The experiment


def run(asked: Protocol, where: Where = HERE) -> Results:
    """Run all studies of a protocol and return their tables; see `Paper`."""
    cohorts = [cohort_of(study, seed) for study in asked.studies for seed in study.seeds]
    data = tuple({cohort.provenance.checksum: cohort.provenance for cohort in cohorts}.values())
    series = each_study(asked.studies, lambda study: partial(piece, study, asked))
    engines = [
        Series(
            f"{study.title}, platform", study.platform, partial(partial, engine_piece, study, asked, where)
        )
        for study in asked.studies
        if study.platform
    ]
    found = run_studies(asked, [*series, *engines], where, data)
    tables: dict[str, Tables] = {study.title: score_tables(found[study.title]) for study in asked.studies}
    further = {one.title: found[one.title] for one in engines}
    return Results(asked, with_titles({**tables, **further}), data, found.seconds)


def cohort_of(study: Study, seed: int) -> TableCohort:
    """Return the patients of a repetition."""
    return sickle_cell.simulate(PATIENTS, seed=seed if study.own_cohort else 0)


def piece(study: Study, asked: Protocol, seed: int) -> Piece:
    """Return the trainings of one cross-validation, beside what needs no network."""
    folds = cross_validation(cohort_of(study, seed), seed, study.way())
    return Piece(
        trials=[trial for fold in folds for trial in trials(fold, study.arms, asked.rounds)],
        examine=partial(examine, folds),
        beside=partial(answers_beside, folds),
    )


def examine(folds: Sequence[Fold], trial: Trial, runs: Mapping[str, Run], where: Where) -> Tables:
    """Return what the network of a trial answers for the held-out patients of its fold."""
    fold = folds[trial.labels["fold"]]
    test = federation.pooled(fold.sites).test
    return {"answers": answer_table(fold, network_answers(trial, runs, test))}


def answers_beside(folds: Sequence[Fold]) -> Tables:
    """Return what models without a network answer for the held-out patients of each fold."""
    return {
        "answers": pd.concat(answer_table(fold, answers_without_networks(fold)) for fold in folds),
        "scaled": pd.concat(answer_table(fold, scaled_answers(fold)) for fold in folds),
    }


def scaled_answers(fold: Fold) -> dict[str, Answers]:
    """Return what the exact ridge regression of all answers, by every way of scaling, with one ridge."""
    return {name: exact_answer(scale(fold.measured), fold.ridges[ALL]) for name, scale in SCALINGS.items()}


def score_tables(found: Tables) -> Tables:
    """Return each arm's measures from every cross-validation of a study, and what scaling does to them."""
    repetitions = [answers for _, answers in found["answers"].groupby("seed", sort=False)]
    scaled = [answers for _, answers in found["scaled"].groupby("seed", sort=False)]
    return {
        "scores": pd.concat(map(repetition_table, repetitions), ignore_index=True),
        "own patients": pd.concat(map(own_table, repetitions), ignore_index=True),
        "scaling": pd.concat(map(repetition_table, scaled), ignore_index=True),
    }


# Every engine


def engine_piece(study: Study, asked: Protocol, where: Where, seed: int) -> Piece:
    """Return the first federated arm of a study on every engine: a federation a fold, and the F1 of all."""
    folds = cross_validation(cohort_of(study, seed), seed, study.way())
    arm = next(one for one in study.arms if one.name == federated_name(study.arms))
    federations = [trial for fold in folds for trial in trials(fold, [arm], asked.rounds)]

    def f1(runs: Sequence[Run]) -> float:
        parts = [
            examine(folds, trial, {arm.name: run}, where)["answers"]
            for trial, run in zip(federations, runs, strict=True)
        ]
        answers = pd.concat(parts)
        return evaluation.binary_f1(answers["infarct"], answers["predicted"].astype(int))

    def engines() -> Tables:
        return {"engines": on_every_engine(federations, f1, where, "F1").assign(arm=arm.name, seed=seed)}

    return Piece(beside=engines)


# In words


def report(results: Results) -> str:
    """Return each study's F1 and AUROC by arm, as text."""
    return report_studies(results, about)


def about(study: Study, scores: pd.DataFrame) -> str:
    """Return one study's F1 and AUROC by arm, as text."""
    columns = {name: interval_table(scores.dropna(subset=name), name)["all"] for name in ("F1", "AUROC")}
    return f"{study.title}: {PATIENTS} patients\n{pd.DataFrame(columns).to_string(na_rep='')}"
