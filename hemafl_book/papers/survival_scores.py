"""What models of survival are worth: in the right order, at the right time, within and across hospitals.

A pair of patients is counted if it is known who died first: the earlier time is a death's, or at equal times
one of the two died and the other was censored. Two deaths at one time are no pair. Of equal log-risks a pair
counts half, in Harrell's C and in Uno's. Uno's C and the Brier score look at the first `HORIZON` months.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch

from hemafl_book.papers.arms import Tables
from hemafl_lib import evaluation, federation, statistics
from hemafl_lib.data.cohort import TableCohort, join
from hemafl_lib.partition import Site
from hemafl_lib.training import Pairs, predict

TIMES = np.arange(6.0, 61.0, 6.0)
"""Months at which predicted survival is compared with what happened."""

HORIZON = float(TIMES[-1])
WITHIN, SCORED = "within sites", "scored"
"""Places: the pairs within hospitals, and the test patients who have all published scores."""

Risk = Callable[[TableCohort], np.ndarray]
"""A model of survival: from patients to log-risks float64[N]; higher means earlier."""


@dataclass(frozen=True)
class Fitted:
    """One arm's model, or of an isolated arm that of one ``hospital``."""

    arm: str
    seed: int
    risk: Risk
    hospital: str | None = None

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.arm}: {self.hospital}" if self.hospital else self.arm


def network_risk(model: torch.nn.Module, cohort: TableCohort) -> np.ndarray:
    """Return a network's log-risks, float64[N].

    A network that diverged, whose scores are not finite, says nothing: all of its log-risks are 0.
    """
    if not len(cohort):
        return np.empty(0)
    scores = predict(model, cohort)[:, 0].double()
    return (scores if torch.isfinite(scores).all() else torch.zeros_like(scores)).numpy()


def linear_risk(coefficients: np.ndarray, cohort: TableCohort) -> np.ndarray:
    """Return the log-risks of a Cox model, float64[N]."""
    return cohort.features.double().numpy() @ coefficients


def judge(
    models: Sequence[Fitted], sites: Sequence[Site[TableCohort]], published: pd.DataFrame | None = None
) -> Tables:
    """Return what models are worth on all test patients ("scores"), and by hospital ("pairs").

    ``published`` holds scores of patients by their names; with it, models of all hospitals are also judged
    on those test patients who have one.
    """
    shared = [model for model in models if model.hospital is None]
    alone = [model for model in models if model.hospital is not None]
    known = [scored(model, sites, published) for model in shared] if published is not None else []
    pairs = [shared_pairs(model, sites) for model in shared] + [own_pairs(alone, sites)]
    return {
        "scores": pd.DataFrame([*(joint(model, sites) for model in models), *known]),
        "pairs": pd.concat(pairs, ignore_index=True),
    }


def joint(model: Fitted, sites: Sequence[Site[TableCohort]]) -> dict[str, str | float]:
    """Return one model's measures on the test patients of all hospitals together.

    Survival is predicted with Breslow's baseline hazard of all training rows, which needs sums only.
    """
    pooled = federation.pooled(sites)
    outcome, known = pooled.test.targets.numpy(), pooled.train.targets.numpy()
    risk = model.risk(pooled.test)
    survival = predicted_survival(model, sites)
    return {
        **harrell(model, "joint", pooled.test, risk),
        "Uno's C": evaluation.uno_c(outcome, risk, train=known, horizon=HORIZON),
        "Brier": evaluation.integrated_brier_score(outcome, survival, TIMES, train=known),
    }


def harrell(model: Fitted, where: str, cohort: TableCohort, risk: np.ndarray) -> dict[str, str | float]:
    """Return the C-index at one place with the counts behind it."""
    counted = evaluation.concordance(cohort.targets.numpy(), risk)
    return {
        "arm": model.name,
        "seed": model.seed,
        "where": where,
        "patients": len(cohort),
        "events": int(cohort.follow_up[1].sum()),
        "pairs": int(counted.comparable),
        "C": counted.c_index,
    }


def scored(
    model: Fitted, sites: Sequence[Site[TableCohort]], published: pd.DataFrame
) -> dict[str, str | float]:
    """Return a model's C-index on the test patients who have a published score."""
    test = federation.pooled(sites).test
    test = test.take(np.flatnonzero(np.isin(test.patient, published.index)))
    return harrell(model, SCORED, test, model.risk(test))


def of_scores(published: pd.DataFrame, seed: int, sites: Sequence[Site[TableCohort]]) -> Tables:
    """Return what the published scores themselves are worth on the test patients who have them."""
    models = [Fitted(str(name), seed, partial(told, values)) for name, values in published.items()]
    return {"scores": pd.DataFrame([scored(model, sites, published) for model in models])}


def told(scores: pd.Series, cohort: TableCohort) -> np.ndarray:
    """Return the score of each patient, float64[N]."""
    return scores[cohort.patient].to_numpy()


def predicted_survival(model: Fitted, sites: Sequence[Site[TableCohort]]) -> np.ndarray:
    """Return the predicted survival of all test patients at `TIMES`, float64[N, T]."""
    test = [as_risk(site.test, model.risk(site.test)) for site in sites]
    train = [
        Site(site.name, as_risk(site.train, model.risk(site.train)), own.take([]), own)
        for site, own in zip(sites, test, strict=True)
    ]
    baseline = statistics.baseline_hazard(train, np.ones(1), minimum=1)
    return baseline.survival(join(test, "test"), TIMES)


def as_risk(cohort: TableCohort, log_risk: np.ndarray) -> TableCohort:
    """Return the patients with one feature, the log-risk that a model gives them."""
    return replace(cohort, features=torch.from_numpy(log_risk)[:, None].float(), feature_names=("log-risk",))


def shared_pairs(model: Fitted, sites: Sequence[Site[TableCohort]]) -> pd.DataFrame:
    """Return the pairs of patients within each hospital, across hospitals, and the C of each kind."""
    test = federation.pooled(sites).test
    names = np.concatenate([np.full(len(site.test), site.name) for site in sites])
    table = evaluation.concordance_by_site(test.targets.numpy(), model.risk(test), names)
    return table.rename_axis("where").reset_index().assign(arm=model.name, seed=model.seed)


def own_pairs(models: Sequence[Fitted], sites: Sequence[Site[TableCohort]]) -> pd.DataFrame:
    """Return each hospital's pairs of its own test patients by its own model, and all of them added."""
    of_site = {site.name: site for site in sites}
    parts = []
    for arm in dict.fromkeys(model.arm for model in models):
        named = {str(model.hospital): model for model in models if model.arm == arm}
        own = {name: pairs_of(model, of_site[name].test) for name, model in named.items()}
        own[WITHIN] = sum(own.values(), Pairs())
        counts = [pair_row(where, pairs) for where, pairs in own.items()]
        parts.append(pd.DataFrame(counts).assign(arm=arm, seed=models[0].seed))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def pairs_of(model: Fitted, cohort: TableCohort) -> Pairs:
    """Return the pairs of some patients by a model's log-risks."""
    return evaluation.concordance(cohort.targets.numpy(), model.risk(cohort))


def pair_row(where: str, pairs: Pairs) -> dict[str, str | float]:
    """Return pairs as a row of a table."""
    columns = ("concordant", "discordant", "tied", "comparable", "c_index")
    return {"where": where, **{column: getattr(pairs, column) for column in columns}}


def site_table(sites: Sequence[Site[TableCohort]]) -> pd.DataFrame:
    """Return patients and events of each part of each hospital."""
    return pd.DataFrame(
        [
            {"client": s.name, "part": part, "patients": len(c), "events": int(c.follow_up[1].sum())}
            for s in sites
            for part, c in (("train", s.train), ("test", s.test))
        ]
    )
