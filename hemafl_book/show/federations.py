"""The picture of explorers whose hospitals train heads: accuracy by round, beside the trivial models."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hemafl_book.explorers.heads import (
    ALONE,
    CENTRALISED,
    COLOUR,
    COMMONEST,
    FEDERATED,
    ROUNDS,
    SEEDS,
    Outcome,
)
from hemafl_book.results import FrozenResult
from hemafl_book.show.explorer import Control, Explorer, Prediction, Setting
from hemafl_book.show.pictures import Chart, Picture, Series
from hemafl_book.show.request import Compute, Request

LEARNING, TRIVIAL = (FEDERATED, ALONE, CENTRALISED), (COLOUR, COMMONEST)
"""Models that learn by rounds, and those that every model has to beat."""

LABELS = {
    "hospitals": "Hospitals",
    "alpha": "Evenness of the kinds of cell (alpha)",
    "smallest": "Share of the smallest hospital",
    "stain": "Difference of stains",
    "clients": "Clients",
    "corrupted": "Corrupted clients",
    "corruption": "What they do",
    "aggregator": "Aggregator",
}
FORMATS = {"smallest": "{:.0%}"}
JUDGED = "judged"
"""The key of the list of places, which decides what of an outcome is shown."""


def explorer(
    name: str,
    module: Any,
    recording: FrozenResult,
    *,
    initial: Setting,
    live: Mapping[str, Sequence[float]],
    prediction: Prediction,
    further: Callable[[Any], str] = lambda found: "",
    of: str = "a federation",
) -> Explorer:
    """Return an explorer of a recorded sweep.

    Parameters
    ----------
    name
        The HTML id.
    module
        Its module in `hemafl_book.explorers`: ``SWEEP``, ``PLACES``, on whose cells the reader may have the
        models judged, and ``explore(**setting, report=..., stop=...)``.
    recording
        What was recorded of the sweep.
    initial
        The setting to open on, the place last.
    live
        Further values by control, which are computed in Jupyter.
    prediction
        What the reader is asked first.
    further
        What the sentence below the picture says of an outcome at its end.
    of
        Whose accuracy the picture shows first; no two explorers of a page are named alike.
    """
    controls = [
        *(
            Control(key, LABELS[key], values, FORMATS.get(key, "{}"), live.get(key, ()))
            for key, values in module.SWEEP.controls.items()
        ),
        Control(JUDGED, "Judged on", module.PLACES),
    ]
    recorded = {
        (*setting, place): picture(found, place, further(found))
        for setting, found in module.SWEEP.read(recording).items()
        for place in module.PLACES
    }
    return Explorer(
        name,
        controls,
        f"Accuracy by round of {of}, of hospitals alone and of one model of all cells, with bands "
        f"that hold 8 of {len(SEEDS)} seeds, beside colours alone and the commonest kind.",
        recorded,
        compute=computed(module.explore, further),
        initial=initial,
        packed=True,
        prediction=prediction,
    )


def picture(found: Outcome, place: str, further: str = "") -> Chart:
    """Return the curves at a place; ``further`` ends the sentence below."""
    rows = found.curves[found.curves["place"] == place]
    by_model = {model: part.sort_values("round") for model, part in rows.groupby("model")}
    series = []
    for model in (*LEARNING, *TRIVIAL):
        part, mean = by_model[model], by_model[model]["mean"].tolist()
        band = (part["low"].tolist(), part["high"].tolist()) if model in LEARNING else None
        series.append(Series(model, part["round"].tolist(), mean, quiet=model == COMMONEST, band=band))
    return Chart(
        kind="lines",
        series=series,
        x_title="round",
        y_title="accuracy",
        x_range=(0, ROUNDS),
        y_range=(0, 1),
        summary=describe(found, place) + further,
    )


def describe(found: Outcome, place: str) -> str:
    """Return in two sentences what an outcome says of a place."""
    last = found.last(place)
    learnt = ", ".join(f"{model} {tell(last.loc[model].to_numpy(dtype=float))}" for model in LEARNING)
    means = last["mean"].to_dict()
    trivial = ", ".join(f"{model} {means[model]:.2f}" for model in TRIVIAL)
    return (
        f"After {ROUNDS} rounds, {place}: {learnt}; {trivial}. "
        f"Two hospitals' mixes of kinds lie {found.unlike:.2f} apart on average."
    )


def tell(spread: np.ndarray) -> str:
    """Return a mean with its low and its high end."""
    mean, low, high = spread.tolist()
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def computed(explore: Callable[..., Outcome], further: Callable[[Any], str] = lambda found: "") -> Compute:
    """Return what computes a setting in Jupyter and tells how many seeds are done."""

    def compute(setting: dict[str, Any], request: Request) -> Picture:
        values = {key: value for key, value in setting.items() if key != JUDGED}
        found = explore(
            **values,
            report=lambda done: request.say(f"Seed {done} of {len(SEEDS)}."),
            stop=request.cancelled,
        )
        return picture(found, setting[JUDGED], further(found))

    return compute
