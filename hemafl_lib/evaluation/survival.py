"""Does the model know who dies first, and when?

An outcome is float[N, 2], the time to the event or to censoring (in months) and whether the event was
observed (1) or not (0): the ``targets`` of a `TableCohort` with survival. A log-risk is float[N], where
higher means earlier: what a Cox model or `DeepSurv` predicts. Measures take the outcome first, as others
take the labels, so that `bootstrap_interval` and `paired_bootstrap` work with them.

A log-risk becomes a chance to survive by a baseline hazard: `hemafl_lib.statistics.baseline_hazard`, of
cohorts whose one feature is the log-risk.
"""

from importlib import import_module
from types import ModuleType

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from hemafl_lib.errors import EvaluationError
from hemafl_lib.training import Pairs, compare_pairs


def _scikit_survival(module: str) -> ModuleType:
    """Return a module of scikit-survival, which is loaded when it is needed only."""
    try:
        return import_module(f"sksurv.{module}")
    except ImportError:
        raise EvaluationError(
            "this measure needs scikit-survival; run pip install 'hemafl_lib[survival]'."
        ) from None


def _as_outcome(outcome: ArrayLike, name: str = "outcome") -> tuple[np.ndarray, np.ndarray]:
    """Return times float64[N] and events bool[N]; refuse what is no outcome."""
    array = np.asarray(outcome, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) == 0:
        raise EvaluationError(
            f"'{name}' has shape {array.shape}; give a time and an event a patient, [N, 2]."
        )
    time, event = array.T
    if not (np.all(np.isfinite(time)) and np.all(time >= 0)):
        raise EvaluationError(f"'{name}' has a time that is missing or negative; leave such patients out.")
    if not np.all(np.isin(event, (0, 1))):
        raise EvaluationError(f"'{name}' has events other than 0 and 1; put the time first, then the event.")
    return time, event.astype(bool)


def _as_outcome_and_risk(
    outcome: ArrayLike, log_risk: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times, events and log-risks (float64[N]); refuse what does not match."""
    time, event = _as_outcome(outcome)
    risk = np.asarray(log_risk, dtype=np.float64)
    if risk.shape != time.shape or not np.all(np.isfinite(risk)):
        raise EvaluationError(
            f"'log_risk' has shape {risk.shape}; give one finite number for each of the {len(time)} patients."
        )
    return time, event, risk


def _to_scikit_survival(time: np.ndarray, event: np.ndarray) -> np.ndarray:
    """Return the outcome as scikit-survival wants it."""
    return _scikit_survival("util").Surv.from_arrays(event, time)


# Who dies first?


def concordance(outcome: ArrayLike, log_risk: ArrayLike) -> Pairs:
    """Return the counts of pairs behind Harrell's C; `Pairs` says which pairs can be compared.

    Raises
    ------
    EvaluationError
        If outcome and log-risk do not fit together.
    """
    time, event, risk = map(torch.tensor, _as_outcome_and_risk(outcome, log_risk))
    return compare_pairs(risk, time, event)


def harrell_c(outcome: ArrayLike, log_risk: ArrayLike) -> float:
    """Return Harrell's C, the share of pairs in the right order (Harrell et al., JAMA 1982).

    0.5 is chance, and 1 is best; NaN if no two patients can be compared. It depends on how long patients
    were followed; `uno_c` does so less. For its interval over patients,
    ``bootstrap_interval(harrell_c, [outcome, log_risk], seed=0)``; for the difference of two models,
    ``paired_bootstrap(harrell_c, outcome, first, second, seed=0)``.
    """
    return concordance(outcome, log_risk).c_index


def concordance_by_site(outcome: ArrayLike, log_risk: ArrayLike, site: ArrayLike) -> pd.DataFrame:
    """Return the pairs of each site, of all sites added, of those across sites, and of all patients.

    A site can compare its own patients only. The C of all patients rests also on pairs from two sites, and
    there it rewards a model that merely knows which site is the worse: it is not the mean of the sites' C.

    Parameters
    ----------
    outcome, log_risk
        Of all patients, by one model.
    site
        Where each patient was treated, [N].

    Returns
    -------
    pandas.DataFrame
        Index ``patients``: the sites in order of their names, then ``within sites``, ``across sites`` and
        ``all``. Columns ``concordant``, ``discordant``, ``tied``, ``comparable`` and ``c_index`` (NaN
        without pairs).
    """
    values, risks, names = np.asarray(outcome), np.asarray(log_risk), np.asarray(site)
    everybody = concordance(values, risks)
    if names.shape != (len(values),):
        raise EvaluationError(f"'site' has shape {names.shape}; give one name for each patient.")
    rows = {str(name): concordance(values[names == name], risks[names == name]) for name in np.unique(names)}
    within = sum(rows.values(), Pairs())
    across = Pairs(
        everybody.concordant - within.concordant,
        everybody.discordant - within.discordant,
        everybody.tied - within.tied,
    )
    rows |= {"within sites": within, "across sites": across, "all": everybody}
    columns = ["concordant", "discordant", "tied", "comparable", "c_index"]
    return pd.DataFrame(
        [[getattr(pairs, column) for column in columns] for pairs in rows.values()],
        index=pd.Index(list(rows), name="patients"),
        columns=columns,
    )


def uno_c(outcome: ArrayLike, log_risk: ArrayLike, *, train: ArrayLike, horizon: float) -> float:
    """Return Uno's C up to a horizon: Harrell's C with pairs weighted against censoring.

    A pair counts 1 / G(t)^2, where G(t) is the share of patients not yet censored when the first of the two
    had the event (Uno et al., Statistics in Medicine 30, 2011); it then estimates the same number whatever
    the follow-up. Taken from scikit-survival.

    Ties are treated as in Harrell's C. At equal times a pair counts if exactly one of the two had the event,
    who is then taken as the first; two events at one time are no pair. Of equal log-risks a pair counts half.
    In G, of events and censorings at one time the events come first, and who was censored at t has left.

    Parameters
    ----------
    outcome, log_risk
        Of the test patients.
    train
        Outcome of the patients who tell how soon censoring comes, usually those of training.
    horizon
        Only events before it count; in the unit of the times, at most the longest time of ``train``.

    Returns
    -------
    float
        NaN if no two patients can be compared.

    Raises
    ------
    EvaluationError
        If the arrays do not fit, ``train`` has no event, the horizon is out of range, or scikit-survival is
        not installed.
    """
    time, event, risk = _as_outcome_and_risk(outcome, log_risk)
    reference = _reference(train, horizon)
    early = event & (time < horizon)
    if not any(((time > moment) | ((time == moment) & ~event)).any() for moment in np.unique(time[early])):
        return float("nan")
    measure = _scikit_survival("metrics").concordance_index_ipcw
    with np.errstate(invalid="ignore"):
        return float(measure(reference, _to_scikit_survival(time, event), risk, tau=horizon, tied_tol=0.0)[0])


def _reference(train: ArrayLike, horizon: float) -> np.ndarray:
    """Return the training outcome for scikit-survival; refuse a horizon beyond it."""
    time, event = _as_outcome(train, "train")
    if not event.any():
        raise EvaluationError("'train' has no observed event; give the outcome of more patients.")
    if not 0 < horizon <= time.max():
        raise EvaluationError(
            f"the horizon {horizon} is not above 0 and at most {time.max():g}, the longest time of 'train'; "
            "choose another."
        )
    return _to_scikit_survival(time, event)


# When?


def kaplan_meier_at(outcome: ArrayLike, times: ArrayLike) -> np.ndarray:
    """Return the share of patients alive past each of ``times`` [T], float64[T] (Kaplan and Meier 1958).

    It is the prediction that uses no feature, to compare others with. NaN after the longest time, unless
    all have died by then. Taken from scikit-survival. Raises `EvaluationError` if a time is not finite.
    """
    time, event = _as_outcome(outcome)
    moments = np.asarray(times, dtype=np.float64)
    if not np.isfinite(moments).all():
        raise EvaluationError(
            "'times' holds a number that is missing or infinite; give times of the follow-up."
        )
    steps, alive = _scikit_survival("nonparametric").kaplan_meier_estimator(event, time)
    alive = np.concatenate([[1.0], alive])[np.searchsorted(steps, moments, side="right")]
    return np.where((moments > time.max()) & (alive > 0), np.nan, alive)


def brier_curve(
    outcome: ArrayLike, survival: ArrayLike, times: ArrayLike, *, train: ArrayLike
) -> pd.DataFrame:
    """Return the Brier score at each time: the mean squared error of the predicted chance to survive.

    Patients censored earlier are left out, and others weighted to stand for them (Graf et al., Statistics in
    Medicine 18, 1999). 0 is best; predicting one half for everybody gives 0.25. Taken from scikit-survival.

    Parameters
    ----------
    outcome
        Of the test patients.
    survival
        Predicted chances to live past each time, float[N, T].
    times
        Rising, float[T], from the first to before the last time of the test patients.
    train
        Outcome of the patients who tell how soon censoring comes; the last of ``times`` must lie before its
        longest time.

    Returns
    -------
    pandas.DataFrame
        Columns ``time`` and ``brier``.

    Raises
    ------
    EvaluationError
        If the arrays do not fit, no event was observed, the times are out of range, or scikit-survival is
        not installed.
    """
    time, event = _as_outcome(outcome)
    if not event.any():
        raise EvaluationError("'outcome' has no observed event; give more test patients.")
    moments, chances = np.asarray(times, dtype=np.float64), np.asarray(survival, dtype=np.float64)
    if moments.ndim != 1 or len(moments) == 0 or not np.all(np.diff(moments) > 0):
        raise EvaluationError("'times' must be a list of rising numbers.")
    if chances.shape != (len(time), len(moments)) or not np.all((chances >= 0) & (chances <= 1)):
        raise EvaluationError(
            f"'survival' has shape {chances.shape}; give a chance in 0..1 for each of the {len(time)} "
            f"patients and {len(moments)} times."
        )
    reference = _reference(train, moments[-1])
    longest = np.asarray(train, dtype=np.float64)[:, 0].max()
    last = min(time.max(), longest)
    if not (time.min() <= moments[0] and moments[-1] < last):
        raise EvaluationError(
            f"'times' go from {moments[0]:g} to {moments[-1]:g}; keep them from {time.min():g} to before "
            f"{last:g}, where there are patients to judge by."
        )
    # How long somebody lived after the last of the times makes no difference, only the weights end there.
    seen = _to_scikit_survival(np.minimum(time, longest), event & (time <= longest))
    _, brier = _scikit_survival("metrics").brier_score(reference, seen, chances, moments)
    return pd.DataFrame({"time": moments, "brier": brier})


def integrated_brier_score(
    outcome: ArrayLike, survival: ArrayLike, times: ArrayLike, *, train: ArrayLike
) -> float:
    """Return the mean of `brier_curve` over ``times``, of which there must be two or more; 0 is best.

    The area under the curve by the trapezoidal rule, over the time it covers. Compare it with that of
    `kaplan_meier_at` of the training patients, given to everybody.
    """
    curve = brier_curve(outcome, survival, times, train=train)
    if len(curve) < 2:
        raise EvaluationError("'times' holds one number; give two or more to integrate over.")
    time = curve["time"].to_numpy()
    return float(np.trapezoid(curve["brier"], time) / (time[-1] - time[0]))


def calibration_at(
    outcome: ArrayLike, survival: ArrayLike, *, horizon: float, groups: int = 5, level: float = 0.95
) -> pd.DataFrame:
    """Compare predicted and observed risk at a horizon, in groups of patients of similar predicted risk.

    Parameters
    ----------
    outcome
        Of the test patients.
    survival
        Predicted chance of each to live past the horizon, float[N].
    horizon
        In the unit of the times.
    groups
        Number of groups of equal size, from low to high predicted risk; 1 compares the means.
    level
        Of the interval of the observed risk (log-log; Borgan and Liestol 1990).

    Returns
    -------
    pandas.DataFrame
        One row a group. ``patients``; ``predicted``, the mean risk; ``observed``, 1 minus Kaplan-Meier's
        estimate at the horizon, NaN if nobody was followed so far; ``low`` and ``high``, the interval's ends,
        NaN where the observed risk is 0 or 1.

    Raises
    ------
    EvaluationError
        If the arrays do not fit, there are more groups than patients, an option is out of range, or
        scikit-survival is not installed.
    """
    time, event = _as_outcome(outcome)
    alive = np.asarray(survival, dtype=np.float64)
    if alive.shape != time.shape or not np.all((alive >= 0) & (alive <= 1)):
        raise EvaluationError(
            f"'survival' has shape {alive.shape}; give a chance in 0..1 for each of the {len(time)} patients."
        )
    if not (1 <= groups <= len(time) and horizon > 0 and 0 < level < 1):
        raise EvaluationError(
            f"'groups' is {groups}, 'horizon' {horizon} and 'level' {level}; give 1 to {len(time)} groups, a "
            "positive horizon, and a level in 0..1."
        )
    parts = np.array_split(np.argsort(-alive, kind="stable"), groups)
    rows = [
        (len(part), 1 - alive[part].mean(), *_observed_risk(time[part], event[part], horizon, level))
        for part in parts
    ]
    return pd.DataFrame(rows, columns=["patients", "predicted", "observed", "low", "high"])


def _observed_risk(
    time: np.ndarray, event: np.ndarray, horizon: float, level: float
) -> tuple[float, float, float]:
    """Return Kaplan-Meier's risk at the horizon with its interval, NaN where there is none."""
    steps, alive, ends = _scikit_survival("nonparametric").kaplan_meier_estimator(
        event, time, conf_level=level, conf_type="log-log"
    )
    place = int(np.searchsorted(steps, horizon, side="right")) - 1
    nan = float("nan")
    if place < 0:
        return 0.0, nan, nan
    risk = float(1 - alive[place])
    if horizon > time.max() and risk < 1:
        return nan, nan, nan
    if risk in (0.0, 1.0):
        return risk, nan, nan
    low, high = sorted((1 - ends[:, place]).tolist())
    return risk, low, high
