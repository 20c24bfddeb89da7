"""What the explorer of left-out hospitals varies: drawn hospitals, real ones, and whose statistics.

Every hospital of `hemafl_book.papers.leave_one_out` is left out in turn, by that study's recipe, splits and
seeds. Who trains instead? None or all of the other real hospitals, each a client, and none to twenty of the
hospitals that the study draws with a seed, which are one more client. With all twenty drawn, the last round
is that of the study's arms.

The frozen network sees every cell once; a setting then trains linear classifiers only.
"""

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hemafl_book.explorers.repetitions import BETWEEN, repeated, summarise
from hemafl_book.explorers.sweep import RealSweep
from hemafl_book.papers import leave_one_out as study
from hemafl_book.papers.arms import probabilities
from hemafl_book.papers.baselines import colour_statistics
from hemafl_book.papers.leave_one_out import HOSPITALS, MEAN, REAL, Clients, Fold, Protocol, Way
from hemafl_book.papers.where import HERE
from hemafl_lib import evaluation, federation
from hemafl_lib.data import smear
from hemafl_lib.data.cohort import ImageCohort, Provenance, VariantCohort, join
from hemafl_lib.errors import HemaflError
from hemafl_lib.models import backbone

NOBODY, EVERYBODY = "none", "all others"
"""Which of the other real hospitals train."""

CONTROLS = {"drawn": (0, 5, 20), "others": (NOBODY, EVERYBODY), "statistics": ("pooled", "own")}
"""The settings that are recorded, by the argument of `explore`."""

PLACES = ("barcelona", "barcelona-2", "bccd", "tecom", "cellavision", MEAN)
"""Where a reader may have the models judged: at a batch of a real hospital that is left out, or at all."""

TOGETHER, ONE_PLACE, COLOUR = "trained together", "in one place", "colour alone"
"""FedAvg over the clients, the same rows in one place, and what fifteen colour statistics of them say."""

ON_REAL, EMBEDDED = study.protocol("paper", "real"), study.protocol("paper", "smear")
"""Data, recipe and sizes: of the recording, and for whoever has no real images here."""

SEEDS = ON_REAL.studies[0].seeds

Report = Callable[[int], object]


def explore(
    drawn: int,
    others: str,
    statistics: str,
    *,
    asked: Protocol = ON_REAL,
    root: Path | None = None,
    seeds: Sequence[int] = SEEDS,
    report: Report = lambda done: None,
    stop: threading.Event | None = None,
) -> pd.DataFrame:
    """Leave every hospital out in turn, and judge what is trained without it after every round.

    Parameters
    ----------
    drawn
        How many drawn hospitals train: the first of those of ``asked``.
    others
        `NOBODY` or `EVERYBODY`.
    statistics
        By whose mean and standard deviation features are standardised, see `leave_one_out.Way`.
    asked
        Data, recipe and sizes.
    root
        Folder of the real images; by default the one that ``HEMAFL_DATA`` names.
    seeds
        Of splits, first weights, order of the cells, and drawn hospitals.
    report
        Called after every seed with the number of those that are done.
    stop
        Set it from another thread to end with `hemafl_lib.errors.Stopped`.

    Returns
    -------
    DataFrame
        Balanced accuracy, one row for each ``place`` (a batch of a hospital that is left out, or the mean of
        the hospitals), ``model`` (`TOGETHER`, `ONE_PLACE`, `COLOUR`) and ``round``: ``mean``, ``low`` and
        ``high``. Where nobody trains, `TOGETHER` has its first weights, and nothing else is there.

    Raises
    ------
    HemaflError
        If there are not so many drawn hospitals.
    DataError
        If the real images are not here.
    """
    if drawn not in range(asked.drawn.hospitals + 1):
        raise HemaflError(f"drawn={drawn} is not possible; give 0 to {asked.drawn.hospitals} hospitals.")
    setting = Setting(drawn, others, statistics, asked)

    def once(number: int) -> pd.DataFrame:
        return judge(setting, root, seeds[number])

    done = list(repeated(len(seeds), once, report, lambda: stop is not None and stop.is_set()))
    return summarise(pd.concat(done), ["place", "model", "round"])


@dataclass(frozen=True)
class Setting:
    """A value of every control, and the data, recipe and sizes; see `explore`."""

    drawn: int
    others: str
    statistics: Any
    asked: Protocol

    @property
    def batches(self) -> Mapping[str, Sequence[str]]:
        """The batches of every hospital."""
        return HOSPITALS[self.asked.source]

    @property
    def way(self) -> Way:
        """The setting as `leave_one_out.fold` reads it."""
        clients: Clients = "drawn" if self.others == NOBODY else "both" if self.drawn else "real"
        return Way(TOGETHER, clients=clients, statistics=self.statistics)


@dataclass(frozen=True)
class Seen:
    """The same cells as the frozen network sees them, and as fifteen colour statistics."""

    features: VariantCohort
    colours: VariantCohort

    def of_first(self, hospitals: int) -> "Seen":
        """Return the cells of the first hospitals by name."""
        names = sorted(self.features.sites)[:hospitals]
        rows = np.flatnonzero(np.isin(self.features.site, names))
        return Seen(self.features.take(rows), self.colours.take(rows))


# Who trains, and on whom it is judged


def folds(setting: Setting, real: VariantCohort, drawn: VariantCohort | None, seed: int) -> list[Fold]:
    """Return what is trained on and judged, once for each hospital that is left out.

    Where no real hospital trains, nothing changes with the one that is left out, and one fold judges all.
    """
    if setting.others == EVERYBODY:
        parts = [
            study.split_hospitals(real, name, setting.batches, test=setting.asked.test, seed=seed)
            for name in setting.batches
        ]
        return [study.fold(setting.way, sites, unseen, drawn) for sites, unseen in parts]
    unseen = {name: real.of_site(name) for own in setting.batches.values() for name in own}
    if drawn is not None:
        return [study.fold(setting.way, [], unseen, drawn)]
    own = setting.statistics == "own"
    return [Fold([], {name: standardised(each) if own else each for name, each in unseen.items()}, {})]


def standardised(cohort: VariantCohort) -> VariantCohort:
    """Return rows less their own mean and over their own deviation."""
    return study.standardise(cohort, study.values_of(cohort))


# What they learn, and what it is worth


def judge(setting: Setting, root: Path | None, seed: int) -> pd.DataFrame:
    """Return what the models of a seed are worth: columns ``place``, ``model``, ``round`` and ``value``."""
    real = _real(setting.asked, root)
    drawn = _drawn(setting.asked, seed).of_first(setting.drawn) if setting.drawn else None
    of_features = folds(setting, real.features, drawn.features if drawn else None, seed)
    of_colours = folds(setting, real.colours, drawn.colours if drawn else None, seed)
    rows = [learn(ready, setting.asked, seed) for ready in of_features]
    rows += [judge_colours(ready, setting.asked.rounds) for ready in of_colours if ready.sites]
    return with_mean(pd.concat(rows, ignore_index=True), setting.batches)


def learn(ready: Fold, asked: Protocol, seed: int) -> pd.DataFrame:
    """Return the balanced accuracy of a linear classifier by round: `TOGETHER`, and in `ONE_PLACE`.

    One client is one place, and nobody keeps the first weights.
    """
    place = next(iter(ready.unseen.values()))
    model = study.start(place.variants.shape[-1], seed)
    if not ready.sites:
        untrained = {
            name: evaluation.balanced_accuracy(each.labels.numpy(), probabilities(model, each).argmax(axis=1))
            for name, each in ready.unseen.items()
        }
        return level(untrained, TOGETHER, asked.rounds)
    settings: dict[str, Any] = {
        "model": model,
        "recipe": asked.studies[0].recipe,
        "rounds": asked.rounds,
        "seed": seed,
        "workers": 1,
        "evaluate": False,
        "monitor": ready.unseen,
        "progress": False,
    }
    runs = {TOGETHER: federation.run(ready.sites, **settings)}
    if len(ready.sites) > 1:
        runs[ONE_PLACE] = federation.centralised(ready.sites, **settings)
    curves = {name: run.curve("balanced-accuracy", "monitor") for name, run in runs.items()}
    return pd.concat([long(curve, name) for name, curve in curves.items()], ignore_index=True)


def judge_colours(ready: Fold, rounds: int) -> pd.DataFrame:
    """Return what colours alone are worth, standardised as the features are, learnt in one place."""
    train = join([site.train for site in ready.sites], "training rows")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
    model.fit(train.variants[:, 0].numpy(), train.labels.numpy())
    worth = {
        name: evaluation.balanced_accuracy(each.labels.numpy(), model.predict(each.variants[:, 0].numpy()))
        for name, each in ready.unseen.items()
    }
    return level(worth, COLOUR, rounds)


def level(worth: Mapping[str, float], model: str, rounds: int) -> pd.DataFrame:
    """Return what does not learn by rounds as a level line, at the first and the last round."""
    return long(pd.DataFrame([worth, worth], index=[0, rounds]), model)


def long(curve: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return values by round (rows) and place (columns) as rows of their own."""
    rows = curve.rename_axis("round").reset_index().melt("round", var_name="place")
    return rows.assign(model=model)


def with_mean(rows: pd.DataFrame, batches: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return the rows, and the mean over the hospitals, each with all its batches once."""
    hospital = {batch: name for name, own in batches.items() for batch in own}
    each = rows.assign(hospital=rows["place"].map(hospital))
    of_hospital = each.groupby(["model", "round", "hospital"], sort=False)["value"].mean()
    mean = of_hospital.groupby(["model", "round"], sort=False).mean().reset_index().assign(place=MEAN)
    return pd.concat([rows, mean], ignore_index=True)


# Computed once: cells, and what the network and the colours say of them


@functools.cache
def _real(asked: Protocol, root: Path | None) -> Seen:
    return _see(asked, study.hospitals(asked, root))


@functools.cache
def _drawn(asked: Protocol, seed: int) -> Seen:
    return _see(asked, study.drawn_cells(asked, seed))


def _see(asked: Protocol, images: ImageCohort) -> Seen:
    network = backbone(study.BACKBONE, len(images.classes), size=asked.size)
    features = study.features_of(network, images, HERE)
    colours = torch.from_numpy(colour_statistics(images.images))[:, None]
    return Seen(features, replace(features, variants=colours))


# In words, and the recording


def at(found: pd.DataFrame, place: str) -> pd.DataFrame:
    """Return ``mean``, ``low`` and ``high`` after the last round, by model."""
    rows = found[(found["place"] == place) & (found["round"] == found["round"].max())]
    return rows.set_index("model")[["mean", "low", "high"]]


def protocol() -> dict[str, Any]:
    """Return what decides the recorded numbers, as plain JSON values."""
    return {
        "source": ON_REAL.source,
        "hospitals": {name: list(own) for name, own in REAL.items()},
        "network": f"{study.BACKBONE}, frozen",
        "size": ON_REAL.size,
        "cells of a batch": ON_REAL.cells,
        "drawn hospitals": asdict(ON_REAL.drawn),
        "smear": smear.VERSION,
        "test": ON_REAL.test,
        "rounds": ON_REAL.rounds,
        "recipe": asdict(ON_REAL.studies[0].recipe),
        "quantiles": list(BETWEEN),
        "controls": {name: list(values) for name, values in CONTROLS.items()},
        "places": list(PLACES),
    }


def provenances(root: Path | None = None) -> list[Provenance]:
    """Return where the real cells come from; `DataError` if they are not here."""
    return [_real(ON_REAL, root).features.provenance]


def to_rows(found: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of a recording, rounded to thousandths."""
    return {TABLE: found.round(3)}


def from_rows(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the outcome that these rows hold."""
    return rows[TABLE][["place", "model", "round", "mean", "low", "high"]]


TABLE = "balanced accuracy"
"""The title of the recording's table."""

SWEEP = RealSweep(
    title="A hospital that nobody trained on: drawn hospitals, real ones, and whose statistics",
    controls=CONTROLS,
    explore=explore,
    tables={TABLE: tuple(CONTROLS)},
    to_rows=to_rows,
    from_rows=from_rows,
    protocol=protocol,
    data=provenances,
    seeds=SEEDS,
    reads=study.OFFER.reads,
)
