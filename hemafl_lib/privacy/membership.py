"""Membership inference: was this patient's cell among those that a model was trained on?

A model is surer of what it has seen. Two attacks measure how much surer: a threshold on the loss (Yeom et al.
2018), and the likelihood ratio against models trained with and without the cell (LiRA; Carlini et al. 2022).
What counts is how many members are found while hardly any non-member is accused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score
from torch import nn

from hemafl_lib.data.cohort import Cohort
from hemafl_lib.errors import PrivacyError
from hemafl_lib.seeds import derive, numpy_generator, torch_generator
from hemafl_lib.training import Recipe, fit, has_survival, predict

Train = Callable[[nn.Module, Cohort, Recipe, torch.Generator], object]

FALSE_POSITIVE_RATES = (0.001, 0.01, 0.1)

# What an attack sees of a model


def confidence(scores: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return how sure a model is of the true class, as log-odds, float64[N].

    log(p / (1 - p)) of the true class's probability p (Carlini et al. 2022), from the
    logits [N, C] and labels [N]; near to normally distributed over trainings, and finite where p rounds to 1.
    """
    logits, true = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if logits.ndim != 2 or true.shape != (len(logits),) or logits.shape[1] < 2:
        raise PrivacyError(
            f"scores {logits.shape} do not fit labels {true.shape}; give logits [N, C] of two classes or "
            "more, and labels [N]."
        )
    own = true[:, None] == np.arange(logits.shape[1])
    return logits[own] - logsumexp(np.where(own, -np.inf, logits), axis=1)


def losses(confidences: ArrayLike) -> np.ndarray:
    """Return the cross-entropy of each row, float64[N], from its `confidence`."""
    return np.logaddexp(0, -np.asarray(confidences, dtype=np.float64))


# Attacks: a higher score means rather a member


def loss_threshold(loss: ArrayLike) -> np.ndarray:
    """Return the score of Yeom et al. (2018), float64[N]: the lower the loss, the rather a member."""
    return -np.asarray(loss, dtype=np.float64)


def likelihood_ratio(confidences: ArrayLike, shadows: ArrayLike, member: ArrayLike) -> np.ndarray:
    """Return the score of LiRA, online, float64[N] (Carlini et al. 2022, algorithm 1).

    log p(confidence | trained with the row) - log p(confidence | trained without it), both normal with a
    mean of the row's own. For a handful of shadow models a variance of each row's own would be noise; it is
    pooled over the rows, as they advise there.

    Parameters
    ----------
    confidences
        Of the attacked model, float[N].
    shadows, member
        Confidences of S shadow models, float[S, N], and whether each was trained with the row, bool[S, N].
        Each row needs a model with and one without it, and more than that on average.

    Raises
    ------
    PrivacyError
        If the shapes do not fit, a value is not finite, or there are too few models.
    """
    observed, values, inside = _as_shadows(confidences, shadows, member)
    mean_in, deviation_in = _normal(values, inside, "with")
    mean_out, deviation_out = _normal(values, ~inside, "without")
    log_in = stats.norm.logpdf(observed, mean_in, deviation_in)
    return log_in - stats.norm.logpdf(observed, mean_out, deviation_out)


def offline_ratio(confidences: ArrayLike, shadows: ArrayLike, member: ArrayLike) -> np.ndarray:
    """Return the score of LiRA, offline, float64[N] (Carlini et al. 2022).

    It only uses models trained without the row, as an attacker must who meets it after they were trained: by
    how many standard deviations is the attacked model surer than they are? Arguments and errors as in
    `likelihood_ratio`.
    """
    observed, values, inside = _as_shadows(confidences, shadows, member)
    mean, deviation = _normal(values, ~inside, "without")
    return (observed - mean) / deviation


def _by_loss(confidences: ArrayLike, shadows: ArrayLike, member: ArrayLike) -> np.ndarray:
    """Return `loss_threshold`, which needs no shadow models."""
    return loss_threshold(losses(confidences))


ATTACKS: dict[str, Callable[[ArrayLike, ArrayLike, ArrayLike], np.ndarray]] = {
    "loss": _by_loss,
    "online": likelihood_ratio,
    "offline": offline_ratio,
}
"""The attacks by name: from confidences, those of shadow models and their members to scores."""


def _as_shadows(
    confidences: ArrayLike, shadows: ArrayLike, member: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    observed, values = (np.asarray(array, dtype=np.float64) for array in (confidences, shadows))
    inside = np.asarray(member, dtype=bool)
    if observed.ndim != 1 or values.shape != inside.shape or values.shape[1:] != observed.shape:
        raise PrivacyError(
            f"confidences {observed.shape}, shadows {values.shape} and member {inside.shape} do not fit; "
            "give [N], [S, N] and [S, N]."
        )
    if not (np.all(np.isfinite(observed)) and np.all(np.isfinite(values))):
        raise PrivacyError("a confidence is not finite; check that the models' training did not diverge.")
    return observed, values, inside


def _normal(values: np.ndarray, chosen: np.ndarray, which: str) -> tuple[np.ndarray, float]:
    """Return each row's mean over the chosen models, and the standard deviation within rows."""
    count = chosen.sum(axis=0)
    if count.min() < 1 or count.max() < 2:
        raise PrivacyError(f"a row has too few shadow models trained {which} it; train more of them.")
    mean = np.sum(values, axis=0, where=chosen) / count
    squares = np.sum((values - mean) ** 2, where=chosen)
    deviation = float(np.sqrt(squares / (count - 1).sum()))
    if deviation == 0:
        raise PrivacyError(f"shadow models trained {which} a row all agree; give each another seed.")
    return mean, deviation


# How good an attack is


class Estimate(NamedTuple):
    """A share with the ends of its interval."""

    estimate: float
    low: float
    high: float


def tpr_at_fpr(scores: ArrayLike, member: ArrayLike, fpr: float, level: float = 0.95) -> Estimate:
    """Return the share of members found while at most the share ``fpr`` of non-members is accused.

    The threshold is the lowest that keeps to ``fpr`` among the non-members given: with fewer than 1 / ``fpr``
    of them, none may be accused, and the true false-positive rate is known no better than that. The
    interval is exact (Clopper and Pearson 1934) for the members, given the threshold.
    """
    inside, outside = _two_groups(scores, member)
    if not (0 < fpr < 1 and 0 < level < 1):
        raise PrivacyError(f"fpr={fpr} and level={level} must lie between 0 and 1.")
    allowed = int(fpr * len(outside) + 1e-9)
    threshold = np.sort(outside)[::-1][allowed]
    found = stats.binomtest(int((inside > threshold).sum()), len(inside))
    interval = found.proportion_ci(level, method="exact")
    return Estimate(float(found.statistic), float(interval.low), float(interval.high))


def auroc(scores: ArrayLike, member: ArrayLike, level: float = 0.95) -> Estimate:
    """Return the area under the ROC curve: how often a member scores higher than a non-member.

    The interval holds all areas that the data do not contradict, their variance taken as Hanley and McNeil
    (1982) give it for exponential scores (Newcombe 2006, method 5). It has a width also at 0 and at 1.
    """
    inside, outside = _two_groups(scores, member)
    if not 0 < level < 1:
        raise PrivacyError(f"level={level} must lie between 0 and 1.")
    area = float(roc_auc_score(np.r_[np.ones(len(inside)), np.zeros(len(outside))], np.r_[inside, outside]))
    z = float(stats.norm.ppf((1 + level) / 2))
    pairs, other = len(inside) * len(outside), (len(inside) + len(outside)) / 2 - 1

    def excess(true: float) -> float:
        spread = 1 + other * (1 - true) / (2 - true) + other * true / (1 + true)
        return (true - area) ** 2 - z**2 * true * (1 - true) * spread / pairs

    # At an area of 0 or 1 the variance is 0 too, and the area itself would be taken for the end.
    low = brentq(excess, 0, area - 1e-12) if area > 0 else 0.0
    high = brentq(excess, area + 1e-12, 1) if area < 1 else 1.0
    return Estimate(area, low, high)


def _two_groups(scores: ArrayLike, member: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of members and of non-members."""
    values, inside = np.asarray(scores, dtype=np.float64), np.asarray(member, dtype=bool)
    if values.ndim != 1 or values.shape != inside.shape or not np.all(np.isfinite(values)):
        raise PrivacyError(
            f"scores {values.shape} and member {inside.shape} must be finite numbers and truths, [N] each."
        )
    if inside.all() or not inside.any():
        raise PrivacyError("an attack is scored on members and non-members; give some of both.")
    return values[inside], values[~inside]


# Shadow models


@dataclass(frozen=True)
class Audit:
    """Models that were attacked, T of them, and S shadow models of the attacker, on the same N rows.

    ``member`` and ``shadow_member`` say which rows each was trained on, bool[T, N] and bool[S, N];
    ``confidence`` and ``shadow_confidence`` hold the `confidence` in each row, float64 of the same shapes.
    """

    member: np.ndarray
    confidence: np.ndarray
    shadow_member: np.ndarray
    shadow_confidence: np.ndarray

    def scores(self, attack: str) -> np.ndarray:
        """Return the score of every row by every attacked model, float64[T, N]; attacks are `ATTACKS`."""
        if attack not in ATTACKS:
            raise PrivacyError(f"attack '{attack}' is unknown; choose one of: {', '.join(ATTACKS)}.")
        shadows = (self.shadow_confidence, self.shadow_member)
        return np.stack([ATTACKS[attack](own, *shadows) for own in self.confidence])

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """Return every attack on every attacked model, one measure a line.

        Columns ``attack``, ``model`` (from 0), ``measure`` ("auroc" or for example "tpr at fpr 0.01"),
        ``estimate``, ``low`` and ``high``. The attacked models share their rows: their numbers can be
        averaged, but their intervals must not be shrunk as if more rows had been seen.
        """
        lines = []
        for attack in ATTACKS:
            for model, (scores, member) in enumerate(zip(self.scores(attack), self.member, strict=True)):
                lines.append((attack, model, "auroc", *auroc(scores, member, level)))
                for fpr in FALSE_POSITIVE_RATES:
                    estimate = tpr_at_fpr(scores, member, fpr, level)
                    lines.append((attack, model, f"tpr at fpr {fpr:g}", *estimate))
        return pd.DataFrame(lines, columns=["attack", "model", "measure", "estimate", "low", "high"])


def audit(
    cohort: Cohort,
    make_model: Callable[[int], nn.Module],
    recipe: Recipe,
    *,
    models: int = 1,
    shadows: int = 16,
    seed: int = 0,
    train: Train = fit,
) -> Audit:
    """Train models on random halves of a cohort and shadow models on others, and see how sure each is.

    Parameters
    ----------
    cohort
        With labels. Rows of one patient resemble each other; where they do, give one row a patient.
    make_model
        From a seed to an untrained model that returns logits [B, C].
    recipe, train
        How each is trained, in one round: called as ``train(model, cohort, recipe, generator)``. Give a
        private training to see what it hides.
    models, shadows
        Numbers of attacked models and of shadow models. Shadow models come in pairs that are trained on
        the two halves of a cut, so that every row is in half of them.
    seed
        Of the halves, the initial parameters and the training.

    Raises
    ------
    PrivacyError
        If the cohort has no labels or fewer than four rows, there is no model to attack, or the number of
        shadow models is odd or below four.
    """
    if has_survival(cohort) or len(cohort) < 4:
        raise PrivacyError("audit needs a cohort with labels and at least four rows; give it another.")
    if models < 1 or shadows < 4 or shadows % 2:
        raise PrivacyError(
            f"models={models} must be at least 1 and shadows={shadows} an even number from 4 on."
        )
    member = np.stack([_half(len(cohort), seed, "attacked", k) for k in range(models)])
    first = [_half(len(cohort), seed, "shadow", k) for k in range(shadows // 2)]
    shadow_member = np.stack([half for one in first for half in (one, ~one)])

    def sure(kind: str, number: int, rows: np.ndarray) -> np.ndarray:
        model = make_model(derive(seed, "audit model", kind, number))
        generator = torch_generator(seed, "audit training", kind, number)
        train(model, cohort.take(np.flatnonzero(rows)), recipe, generator)
        return confidence(predict(model, cohort).numpy(), cohort.targets.numpy())

    return Audit(
        member=member,
        confidence=np.stack([sure("attacked", k, rows) for k, rows in enumerate(member)]),
        shadow_member=shadow_member,
        shadow_confidence=np.stack([sure("shadow", k, rows) for k, rows in enumerate(shadow_member)]),
    )


def _half(rows: int, seed: int, kind: str, number: int) -> np.ndarray:
    """Return which rows are in a random half, bool[N]."""
    generator = numpy_generator(seed, "audit half", kind, number)
    return generator.permutation(rows) < rows // 2
