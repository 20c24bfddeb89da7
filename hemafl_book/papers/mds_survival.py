"""Chapter 4: survival of patients with myelodysplastic syndromes, over hospitals of unequal size.

The protocol of Carota et al. (Physica Medica 142, 2026): a DeepSurv network, three clients, isolated,
federated and centralised, judged by the C-index. The paper names neither layers, features nor the clients'
sizes; those here are our choice. Its registry is not public. The nearest public one is that of the
International Working Group for Prognosis in MDS (IPSS-M, Bernard et al. 2022); without it the experiment
runs on the free light chain cohort that comes with scikit-survival.

A seed decides the deal to hospitals, the split of each into training, validation and test patients, the
network's initial weights, and the order of the patients. Unknown values are filled with the training mean:
nothing is drawn for them.

Every setting is chosen anew for each seed, by validation patients (`tries`): each arm by the pairs within
hospitals that its models put in the right order. Then it is trained again on training and validation
patients, and the test patients are looked at once. Of isolated models one setting is chosen for all
hospitals together, which a hospital alone could not do: a favour to them.

Beside the networks stand ridge Cox regression, by each hospital alone and, exactly and by all together from
sums (which reveal rows all the same, see `hemafl_lib.statistics.cox`), a model of age and sex, and the
scores that were published for these patients.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemafl_book.papers import dealing
from hemafl_book.papers.arms import Arm, Tables, Trial, federated_name
from hemafl_book.papers.changes import OPTIONS, UNCHANGED, Changes
from hemafl_book.papers.dealing import Deal
from hemafl_book.papers.offer import Offer
from hemafl_book.papers.platform import on_every_engine
from hemafl_book.papers.protocol import OfStudies, describe
from hemafl_book.papers.scaling import SCALINGS, by_sums, furthest
from hemafl_book.papers.scores import interval_table, report_studies
from hemafl_book.papers.studies import Piece, Series, each_study, run_studies, with_titles
from hemafl_book.papers.studies import join as join_tables
from hemafl_book.papers.survival_scores import (
    TIMES,
    WITHIN,
    Fitted,
    joint,
    judge,
    linear_risk,
    network_risk,
    of_scores,
    pairs_of,
    shared_pairs,
    site_table,
)
from hemafl_book.papers.where import HERE, Where
from hemafl_book.results import Results, Seconds
from hemafl_lib import data, evaluation, federation, statistics
from hemafl_lib.aggregation import AGGREGATORS, FedAvg, FedTrimmedMean
from hemafl_lib.data.cohort import TableCohort, join
from hemafl_lib.data.sheets import read_sheet
from hemafl_lib.data.survival_cohorts import TABLES
from hemafl_lib.errors import DataError
from hemafl_lib.federation import Run
from hemafl_lib.models import ridge_cox, table_model
from hemafl_lib.partition import Site, natural
from hemafl_lib.training import Pairs, Recipe

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

VALIDATION, TEST = 0.14, 0.3
"""Shares of a hospital's patients: a fifth of those who are not for the test chooses the settings."""

RIDGES = (30.0, 100.0, 300.0)
"""Strengths of the ridge among which validation chooses, for one hospital alone and for all."""

SIMPLE, SIMPLE_RIDGE = ("age", "male"), 1.0
"""The features of the trivial model, and its ridge."""

SCALING_RIDGE = 200.0
"""Ridge of the Cox models that are compared by who scales the features."""

MARGIN = 0.01
"""Two models are equivalent if the 90 % interval of their difference in C lies within this margin."""

CAPS = {"ipssm": {"marrow_blasts": 20.0, "neutrophils": 3.8, "platelets": 250.0}}
"""Values beyond which more counts no more, by cohort: for myelodysplastic syndromes only, where 20 % blasts
begin another disease. The caps are our choice.
"""

PUBLISHED = {"ipssm": ("df_clinical.tsv", "ID", {"IPSS-R": "IPSSR_SCORE", "IPSS-M": "IPSSM_SCORE"})}
"""Published scores of a cohort's patients: the file, its column of names, and a column for each score.

IPSS-M was made on these very patients, so that its C is too good; IPSS-R was made on others.
"""


@dataclass(frozen=True)
class Setting:
    """One try: the network's hidden layers, the weight decay, and a server's learning rate if it has one."""

    hidden: tuple[int, ...]
    weight_decay: float
    server_rate: float | None = None

    def of(self, arm: Arm) -> Arm:
        """Return an arm with this setting."""
        recipe = replace(arm.recipe, weight_decay=self.weight_decay)
        if self.server_rate is None:
            return replace(arm, recipe=recipe)
        stepping: Any = arm.aggregator
        return replace(arm, recipe=recipe, aggregator=replace(stepping, learning_rate=self.server_rate))


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
        The networks that are trained, for how many rounds, and the seeds.
    deal
        Another way to deal the patients than by ``proportions``.
    hidden, weight_decays, server_rates
        The settings among which validation chooses: units of the hidden layers and weight decays in all
        combinations, or for a server with an optimiser its learning rates, with the first of ``hidden``.
    scaling, platform
        Seeds for which ways of scaling are compared with these patients (`scaling_piece`), and engines
        (`engine_piece`).
    """

    title: str
    cohort: str
    proportions: tuple[float, ...]
    arms: tuple[Arm, ...]
    rounds: int
    seeds: tuple[int, ...]
    smallest: int = 0
    deal: Deal | None = None
    hidden: tuple[tuple[int, ...], ...] = ((16,), (32, 32))
    weight_decays: tuple[float, ...] = (0.3, 3.0)
    server_rates: tuple[float, ...] = (0.01, 0.03, 0.1, 1.0)
    scaling: tuple[int, ...] = ()
    platform: tuple[int, ...] = ()

    def way(self) -> Deal:
        """Return how the patients become hospitals."""
        own = dealing.quantity(self.proportions) if self.proportions else Deal("natural", 3)
        return self.deal or own

    def tries(self, arm: Arm) -> list[Setting]:
        """Return the settings tried for an arm; none for one that follows the first federated arm."""
        if has_rate(arm):
            return [Setting(self.hidden[0], arm.recipe.weight_decay, rate) for rate in self.server_rates]
        if arm.kind == "federated" and arm.name != federated_name(self.arms):
            return []
        return [Setting(*both) for both in product(self.hidden, self.weight_decays)]


def has_rate(arm: Arm) -> bool:
    """Tell whether an arm's server has a learning rate."""
    return arm.kind == "federated" and hasattr(arm.aggregator, "learning_rate")


@dataclass(frozen=True)
class Protocol(OfStudies):
    """Everything that decides the numbers, apart from the data's bytes and the seeds."""

    preset: str
    source: str
    studies: tuple[Study, ...]
    changes: Changes = UNCHANGED

    def with_first_seed(self) -> "Protocol":
        """Return the protocol with the first seed of each study."""
        studies = [replace(s, seeds=s.seeds[:1], scaling=s.scaling[:1]) for s in self.studies]
        return replace(self, studies=tuple(studies))

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain JSON values."""
        tries = {s.title: {arm.name: len(s.tries(arm)) for arm in s.arms} for s in self.studies}
        return describe(
            self,
            split={"validation": VALIDATION, "test": TEST},
            tries=tries,
            ridges=list(RIDGES),
            simple={"features": list(SIMPLE), "ridge": SIMPLE_RIDGE},
            scalings={"ways": list(SCALINGS), "ridge": SCALING_RIDGE},
            margin=MARGIN,
            times=TIMES.tolist(),
            caps=CAPS,
            filled="with the mean of the training rows; nothing is drawn",
            seed="decides deal, split, initial weights and order of patients",
        )


def recipe(**changes: Any) -> Recipe:
    """Return how a hospital trains, before validation chooses the weight decay.

    A centre of twenty patients makes one step an epoch, so the study of centres takes five epochs a round.
    """
    ours = Recipe(loss="cox", learning_rate=4e-3, weight_decay=1.0, batch_size=128, schedule="cosine")
    return replace(ours, **changes)


ISOLATED = Arm("isolated", kind="isolated", recipe=recipe(), network="deepsurv")
FEDERATED = Arm("FedAvg", recipe=recipe(), network="deepsurv")
CENTRALISED = Arm("centralised", kind="centralised", recipe=recipe(), network="deepsurv")
TRIMMED = FedTrimmedMean(trim=0.34)
"""Of three clients it leaves out the highest and the lowest: the median."""

OTHERS = (
    replace(FEDERATED, name="FedAvg, equal weights", aggregator=FedAvg(equal_weights=True)),
    replace(FEDERATED, name="FedProx", recipe=recipe(proximal=0.1)),
    replace(FEDERATED, name="FedTrimmedMean", aggregator=TRIMMED),
    *(
        replace(FEDERATED, name=name, aggregator=kind())
        for name, kind in AGGREGATORS.items()
        if kind not in (FedAvg, FedTrimmedMean)
    ),
)
"""Every other aggregator of the registry, and FedProx."""


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
        quick = Study("registry", registry, (6, 3, 1), few, changes.rounds or 5, (0,))
        quick = replace(quick, hidden=((16,),), weight_decays=(0.3, 1.0))
        return Protocol(preset, source, changes.studies([quick]), changes)
    all_arms, rounds, seeds = (*three[:2], *OTHERS, CENTRALISED), changes.rounds or 10, tuple(range(10))
    full = Study("registry", registry, (6, 3, 1), all_arms, rounds, seeds)
    full = replace(full, scaling=changes.seeds(seeds), platform=changes.seeds((0,)))
    longer = tuple(replace(arm, recipe=recipe(local_epochs=5)) for arm in three)
    centres = Study("centres", "amlsg", (), longer, rounds, seeds[:5], smallest=20, hidden=((16,),))
    thirds = replace(centres, title="thirds", proportions=(1, 1, 1))
    others = () if changes.data else (centres,) if changes.deals else (centres, thirds)
    studies = changes.studies((full,) if source == "embedded" else (full, *others))
    return Protocol(preset, source, studies, changes)


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


def published_scores(study: Study, root: Path | None) -> pd.DataFrame | None:
    """Return the published scores of a study's patients by their names, those who have all; None without any.

    Raises `DataError` if the file of the scores is gone.
    """
    if study.cohort not in PUBLISHED:
        return None
    file, names, columns = PUBLISHED[study.cohort]
    found = TABLES[study.cohort].find(root) if root is not None else None
    if found is None:
        raise DataError(f"the folder of '{study.cohort}' is not under {root}; restore it.")
    rows = read_sheet(found.folder / file, "\t").rows
    scores = pd.DataFrame({name: pd.to_numeric(rows[column], "coerce") for name, column in columns.items()})
    return scores.set_axis([f"{study.cohort}/{name}" for name in rows[names]]).dropna()


def hospitals(cohort: TableCohort, study: Study, seed: int) -> list[Site[TableCohort]]:
    """Return the hospitals: 56 % of the patients of each for training, 14 % to choose, 30 % for the test."""
    return study.way().sites(cohort, seed=seed, validation=VALIDATION, test=TEST)


def with_validation(sites: Sequence[Site[TableCohort]]) -> list[Site[TableCohort]]:
    """Return the hospitals with their validation patients among the training patients."""
    return [
        Site(site.name, join([site.train, site.validation], site.name), site.test.take([]), site.test)
        for site in sites
    ]


def by_age(cohort: TableCohort, proportions: Sequence[float], seed: int) -> list[Site[TableCohort]]:
    """Return hospitals of these sizes that differ in age: the first has the youngest, the last the oldest."""
    years = cohort.features[:, cohort.feature_names.index("age")].double().numpy()
    ends = np.nanquantile(years, np.cumsum(proportions)[:-1] / np.sum(proportions))
    places = np.array([f"site-{1 + k}" for k in np.searchsorted(ends, years, side="left")])
    return natural(replace(cohort, site=places), seed=seed, validation=0.0, test=TEST)


# The experiment


def run(asked: Protocol, where: Where = HERE) -> Results:
    """Choose the settings of all studies by validation, then train again and test; see `Paper`."""
    cohorts = {study.title: patients(study, where.root) for study in asked.studies}
    data = tuple({study.cohort: cohorts[study.title].provenance for study in asked.studies}.values())
    tuning = each_study(asked.studies, lambda study: partial(try_piece, study, cohorts[study.title]))
    tried = run_studies(asked, [replace(one, title=tries_of(one.title)) for one in tuning], where, data)
    chosen = {s.title: with_choice(tried[tries_of(s.title)]["settings"]) for s in asked.studies}

    def test(study: Study) -> Callable[[int], Piece]:
        known = published_scores(study, where.root)
        return partial(test_piece, study, cohorts[study.title], chosen[study.title], known)

    def scaled(study: Study) -> Callable[[int], Piece]:
        return partial(scaling_piece, study, cohorts[study.title])

    def engines(study: Study) -> Callable[[int], Piece]:
        return partial(engine_piece, study, cohorts[study.title], chosen[study.title], where)

    series = [
        *each_study(asked.studies, test),
        *(Series(f"{s.title}, scaling", s.scaling, partial(scaled, s)) for s in asked.studies if s.scaling),
        *(
            Series(f"{s.title}, platform", s.platform, partial(engines, s))
            for s in asked.studies
            if s.platform
        ),
    ]
    found = run_studies(asked, series, where, data)
    settings = {f"{title}: settings": table for title, table in chosen.items()}
    seconds = Seconds(
        tried.seconds.earlier + found.seconds.earlier, {**tried.seconds.parts, **found.seconds.parts}
    )
    return Results(asked, with_titles(found.tables) | settings, data, seconds)


def tries_of(title: str) -> str:
    """Return the title under which the tries of a study are kept."""
    return f"{title}, settings"


# Settings, by validation patients


def try_piece(study: Study, cohort: TableCohort, seed: int) -> Piece:
    """Return the trainings of all tries on the training patients of one seed."""
    sites = by_sums(hospitals(cohort, study, seed))
    trials = [
        trial_of(study, sites, arm, setting, seed, {"try": number})
        for arm in study.arms
        for number, setting in enumerate(study.tries(arm))
    ]
    return Piece(trials=trials, examine=partial(examine_try, study))


def trial_of(
    study: Study,
    sites: Sequence[Site[TableCohort]],
    arm: Arm,
    setting: Setting,
    seed: int,
    labels: Mapping[str, Any] | None = None,
) -> Trial:
    """Return the training of an arm with a setting, from the initial weights of the seed."""
    model = table_model("deepsurv", sites[0].train.features.shape[1], hidden=setting.hidden, seed=seed)
    return Trial(
        arm=setting.of(arm), seed=seed, rounds=study.rounds, sites=sites, model=model, labels=labels or {}
    )


def examine_try(study: Study, trial: Trial, runs: Mapping[str, Run], where: Where) -> Tables:
    """Return how many pairs of a hospital's validation patients the models of a try put in order."""
    models = models_of(trial, runs)
    setting = study.tries(trial.arm)[trial.labels["try"]]
    row = {
        "arm": trial.arm.name,
        "seed": trial.seed,
        **trial.labels,
        "hidden": " ".join(map(str, setting.hidden)),
        "weight decay": setting.weight_decay,
        "server rate": np.nan if setting.server_rate is None else setting.server_rate,
        **validated(models, trial.sites),
    }
    return {"settings": pd.DataFrame([row])}


def models_of(trial: Trial, runs: Mapping[str, Run]) -> list[Fitted]:
    """Return the models of a trial."""
    names = [site.name for site in trial.sites] if trial.arm.kind == "isolated" else [None]
    return [
        Fitted(trial.arm.name, trial.seed, partial(network_risk, run.model), name)
        for name, run in zip(names, runs.values(), strict=True)
    ]


def validated(models: Sequence[Fitted], sites: Sequence[Site[TableCohort]]) -> dict[str, float]:
    """Return the pairs of validation patients of the same hospital, and the C of all of them together.

    Hospitals need to tell counts only. Each pair is judged by the hospital's own model if there is one.
    """
    own = models if len(models) == len(sites) else [*models] * len(sites)
    counts = [pairs_of(model, site.validation) for model, site in zip(own, sites, strict=True)]
    total = sum(counts, Pairs())
    return {"pairs": total.comparable, "validation C": total.c_index}


def with_choice(table: pd.DataFrame) -> pd.DataFrame:
    """Return tries with a column that tells which of an arm's, with a seed, first has the highest C."""
    best = table["validation C"].fillna(0.0).groupby([table["arm"], table["seed"]]).idxmax()
    return table.assign(chosen=table.index.isin(best))


def chosen_setting(study: Study, arm: Arm, seed: int, table: pd.DataFrame) -> Setting:
    """Return the setting that validation chose for an arm, or for the arm that it follows."""
    leader = next(one for one in study.arms if one.name == federated_name(study.arms))
    judged = arm if study.tries(arm) else leader
    rows = table[table["chosen"] & (table["arm"] == judged.name) & (table["seed"] == seed)]
    return study.tries(judged)[rows["try"].item()]


# The test


def test_piece(
    study: Study, cohort: TableCohort, chosen: pd.DataFrame, published: pd.DataFrame | None, seed: int
) -> Piece:
    """Return the trainings of a study with the chosen settings, beside what needs no network."""
    dealt = hospitals(cohort, study, seed)
    sites = by_sums(with_validation(dealt))
    trials = [
        trial_of(study, sites, arm, chosen_setting(study, arm, seed, chosen), seed) for arm in study.arms
    ]
    beside = partial(tables_beside, by_sums(dealt), sites, published, seed)
    return Piece(trials=trials, examine=partial(examine, published), beside=beside)


def examine(published: pd.DataFrame | None, trial: Trial, runs: Mapping[str, Run], where: Where) -> Tables:
    """Return what the networks of a trial are worth, and what each cost."""
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
    return {**judge(models_of(trial, runs), trial.sites, published), "cost": pd.DataFrame(cost)}


def tables_beside(
    tuning: Sequence[Site[TableCohort]],
    sites: Sequence[Site[TableCohort]],
    published: pd.DataFrame | None,
    seed: int,
) -> Tables:
    """Return what the models without a network are worth, what they cost, and who the patients are.

    ``tuning`` are the same hospitals with validation patients of their own.
    """
    ridges = with_choice(ridge_table(tuning, seed))
    best = ridges[ridges["chosen"]].set_index("arm")["ridge"]
    exact = statistics.cox(sites, ridge=best["exact federated Cox"], minimum=1)
    simple = ridge_of(federation.pooled(sites).train, SIMPLE_RIDGE, SIMPLE)
    models = [
        *alone(sites, best["isolated ridge"], seed),
        Fitted("exact federated Cox", seed, partial(linear_risk, exact.coefficients)),
        Fitted("age and sex", seed, partial(linear_risk, simple)),
    ]
    cost = {"rounds": exact.account.rounds, "bytes sent": exact.account.bytes_sent}
    scores = [] if published is None else [of_scores(published, seed, sites)]
    return join_tables(
        [
            judge(models, sites, published),
            *scores,
            {
                "exact": pd.DataFrame([{"arm": "exact federated Cox", "seed": seed, **cost}]),
                "sites": site_table(sites).assign(seed=seed),
                "ridges": ridges,
            },
        ]
    )


def alone(sites: Sequence[Site[TableCohort]], strength: float, seed: int) -> list[Fitted]:
    """Return the ridge Cox model of each hospital alone."""
    return [
        Fitted("isolated ridge", seed, partial(linear_risk, ridge_of(site.train, strength)), site.name)
        for site in sites
    ]


def ridge_table(sites: Sequence[Site[TableCohort]], seed: int) -> pd.DataFrame:
    """Return what every strength of the ridge is worth on validation patients, alone and of all together.

    The model of all is fitted to one table here; from sums it would be the same (`statistics.cox`).
    """
    rows = []
    train = federation.pooled(sites).train
    for number, strength in enumerate(RIDGES):
        together = [Fitted("exact federated Cox", seed, partial(linear_risk, ridge_of(train, strength)))]
        for models in (alone(sites, strength, seed), together):
            row = {"arm": models[0].arm, "seed": seed, "try": number, "ridge": strength}
            rows.append(row | validated(models, sites))
    return pd.DataFrame(rows)


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


# Who scales the features


def scaling_piece(study: Study, cohort: TableCohort, seed: int) -> Piece:
    """Return the first federated arm by every way of scaling, of hospitals dealt at random and by age."""
    dealt = {
        "at random": with_validation(hospitals(cohort, study, seed)),
        "by age": by_age(cohort, study.proportions, seed),
    }
    scaled = {(deal, way): scale(sites) for deal, sites in dealt.items() for way, scale in SCALINGS.items()}
    arm = next(one for one in study.arms if one.name == federated_name(study.arms))
    setting = Setting(study.hidden[0], arm.recipe.weight_decay)
    trials = [
        trial_of(study, sites, arm, setting, seed, {"hospitals": deal, "scaling": way})
        for (deal, way), sites in scaled.items()
    ]
    return Piece(trials=trials, examine=examine_scaling, beside=partial(scaled_cox, scaled, seed))


def examine_scaling(trial: Trial, runs: Mapping[str, Run], where: Where) -> Tables:
    """Return what the network of a trial is worth by its way of scaling."""
    (model,) = models_of(trial, runs)
    return {"scores": pd.DataFrame([{**trial.labels, **scaled_scores(model, trial.sites)}])}


def scaled_cox(scaled: Mapping[tuple[str, str], Sequence[Site[TableCohort]]], seed: int) -> Tables:
    """Return what a ridge Cox model of all patients is worth by every way of scaling.

    ``moved`` is the largest difference between its test features and those of the first way, in standard
    deviations.
    """
    rows = []
    for (deal, way), sites in scaled.items():
        beta = ridge_of(federation.pooled(sites).train, SCALING_RIDGE)
        model = Fitted("ridge Cox of all", seed, partial(linear_risk, beta))
        moved = furthest(sites, scaled[deal, next(iter(SCALINGS))])
        rows.append({"hospitals": deal, "scaling": way, **scaled_scores(model, sites), "moved": moved})
    return {"scores": pd.DataFrame(rows)}


def scaled_scores(model: Fitted, sites: Sequence[Site[TableCohort]]) -> dict[str, Any]:
    """Return a model's C of all test patients, of the pairs within hospitals, and its Brier score."""
    within = shared_pairs(model, sites).set_index("where").loc[WITHIN, "c_index"]
    return {**joint(model, sites), "C within": within}


# Every engine


def engine_piece(study: Study, cohort: TableCohort, chosen: pd.DataFrame, where: Where, seed: int) -> Piece:
    """Return the first federated arm of a study on every engine, and its C-index."""
    sites = by_sums(with_validation(hospitals(cohort, study, seed)))
    arm = next(one for one in study.arms if one.name == federated_name(study.arms))
    trial = trial_of(study, sites, arm, chosen_setting(study, arm, seed, chosen), seed)
    test = federation.pooled(sites).test

    def c_index(runs: Sequence[Run]) -> float:
        return evaluation.harrell_c(test.targets.numpy(), network_risk(runs[0].model, test))

    def engines() -> Tables:
        return {"engines": on_every_engine([trial], c_index, where, "C").assign(arm=arm.name, seed=seed)}

    return Piece(beside=engines)


# In words


def report(results: Results) -> str:
    """Return each study's C-index by arm, and the hash of the federated parameters, as text."""
    return report_studies(results, partial(about, results.tables))


def about(tables: Tables, study: Study, scores: pd.DataFrame) -> str:
    """Return one study's C-index by arm and place, and the hash of its federated parameters, as text."""
    table = interval_table(scores, "C", digits=3)
    cost = tables[f"{study.title}: cost"]
    name = federated_name(study.arms)
    hashes = cost[cost["arm"] == name][["seed", "hash"]].itertuples(index=False)
    lines = [f"{name}'s parameters, seed {seed}: {digest}" for seed, digest in hashes]
    return "\n".join([f"{study.title}: C-index", table.to_string(na_rep=""), *lines])
