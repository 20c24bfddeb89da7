"""The picture of the explorer of left-out hospitals: balanced accuracy by round, beside colour and chance.

What is recorded is of real hospitals. What Jupyter computes is, too, where the real images are; elsewhere
simulated hospitals stand for them, and the picture says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from hemafl_book.explorers import left_out
from hemafl_book.explorers.left_out import COLOUR, EVERYBODY, ONE_PLACE, PLACES, TOGETHER
from hemafl_book.papers.leave_one_out import CHANCE, MEAN
from hemafl_book.results import FrozenResult
from hemafl_book.show.explorer import Control, Explorer, Prediction, Setting
from hemafl_book.show.federations import tell
from hemafl_book.show.pictures import Chart, Picture, Series
from hemafl_book.show.request import Request
from hemafl_lib import data

PLACE_NAMES = {
    "barcelona": "Barcelona",
    "barcelona-2": "Barcelona, second batch",
    "bccd": "BCCD",
    "tecom": "Tecom",
    "cellavision": "CellaVision",
    MEAN: "Mean of the four hospitals",
}
"""What the list of left-out hospitals calls them."""

WHOSE = {"pooled": "all that train, pooled", "own": "each site its own, unlabelled"}
"""What the list of statistics calls them."""

STANDS_FOR = {
    "barcelona": "north",
    "barcelona-2": "harbour",
    "bccd": "south",
    "tecom": "east",
    "cellavision": "west",
    MEAN: MEAN,
}
"""Simulated hospitals where the real ones are not here; harbour is a second batch of north."""

LIVE = (2, 10)
"""Numbers of drawn hospitals that are computed in Jupyter."""

MODELS = (TOGETHER, COLOUR, ONE_PLACE)
"""In the order of their colours: of one client alone there is no further place."""


def explorer(name: str, recording: FrozenResult, *, initial: Setting, prediction: Prediction) -> Explorer:
    """Return the explorer of a recording.

    Parameters
    ----------
    name
        The HTML id.
    recording
        What `hemafl_book.explorers.left_out` recorded.
    initial
        The setting to open on, see `setting`.
    prediction
        What the reader is asked first.
    """
    recorded = {
        setting(drawn, others, statistics, place): picture(found, (drawn, others, statistics), place)
        for (drawn, others, statistics), found in left_out.SWEEP.read(recording).items()
        for place in PLACES
    }
    return Explorer(
        name,
        controls(),
        "Balanced accuracy by round at a hospital that nobody trained on, for FedAvg and for training in one "
        f"place, with bands that hold 8 of {len(left_out.SEEDS)} seeds, beside colour alone and chance.",
        recorded,
        compute=Live().compute,
        initial=initial,
        packed=True,
        prediction=prediction,
    )


def controls() -> list[Control]:
    """Return who trains, whose statistics standardise, and where it is judged."""
    drawn, others, _ = left_out.CONTROLS.values()
    return [
        Control("drawn", "Drawn hospitals that train", drawn, live=LIVE),
        Control("others", "Real hospitals that train", others),
        Control("statistics", "Statistics to standardise by", tuple(WHOSE.values())),
        Control("place", "Left out, and judged", tuple(PLACE_NAMES.values())),
    ]


def setting(drawn: int, others: str, statistics: str, place: str) -> Setting:
    """Return where the controls stand, from the arguments of `left_out.explore` and one of its places."""
    return drawn, others, WHOSE[statistics], PLACE_NAMES[place]


@dataclass(frozen=True)
class Live:
    """Computes settings in Jupyter; ``held`` keeps what was found, since all places come from one."""

    held: dict[tuple[Any, ...], pd.DataFrame] = field(default_factory=dict)

    def compute(self, asked: dict[str, Any], request: Request) -> Picture:
        """Compute a setting, on real images where they are here, and tell how many seeds are done."""
        statistics, place = key_of(WHOSE, asked["statistics"]), key_of(PLACE_NAMES, asked["place"])
        values = (asked["drawn"], asked["others"], statistics)
        here = set(left_out.SWEEP.reads) <= set(data.available())
        if (*values, here) not in self.held:
            self.held[*values, here] = left_out.explore(
                *values,
                asked=left_out.ON_REAL if here else left_out.EMBEDDED,
                report=lambda done: request.say(f"Seed {done} of {len(left_out.SEEDS)}."),
                stop=request.cancelled,
            )
        return picture(self.held[*values, here], values, place, real=here)


def key_of(names: dict[str, str], name: str) -> str:
    """Return the key of a name."""
    return next(key for key, value in names.items() if value == name)


def picture(found: pd.DataFrame, values: Sequence[Any], place: str, *, real: bool = True) -> Chart:
    """Return the curves of a setting at a place; ``real`` tells what ``found`` was computed on."""
    rows = found[found["place"] == (place if real else STANDS_FOR[place])]
    series, rounds = [], int(found["round"].max())
    for model in MODELS:
        part = rows[rows["model"] == model].sort_values("round")
        if len(part):
            band = None if model == COLOUR else (part["low"].tolist(), part["high"].tolist())
            series.append(Series(model, part["round"].tolist(), part["mean"].tolist(), band=band))
    series.append(Series("chance", [0, rounds], [CHANCE, CHANCE], quiet=True))
    return Chart(
        kind="lines",
        series=series,
        x_title="round",
        y_title="balanced accuracy" if real else "balanced accuracy, SIMULATED hospitals",
        x_range=(0, rounds),
        y_range=(0, 1),
        summary=describe(found, values, place, real=real),
    )


def describe(found: pd.DataFrame, values: Sequence[Any], place: str, *, real: bool = True) -> str:
    """Return in three sentences who trained, and what it is worth at a place."""
    last = left_out.at(found, place if real else STANDS_FOR[place])
    means = last["mean"].to_dict()
    told = {model: tell(last.loc[model].to_numpy(dtype=float)) for model in MODELS if model in means}
    if COLOUR in told:
        told[COLOUR] = f"{means[COLOUR]:.2f}"  # a level line without a band
    worth = ", ".join(f"{model} {text}" for model, text in told.items())
    stand_in = "" if real else f"No real images are here: SIMULATED hospitals, {STANDS_FOR[place]} for this. "
    turn = "each left out in turn" if place == MEAN else "left out"
    return (
        f"{stand_in}{PLACE_NAMES[place]}, {turn}: {who_trains(*values)}. "
        f"After {int(found['round'].max())} rounds: {worth}; chance {CHANCE:.2f}."
    )


def who_trains(drawn: int, others: str, statistics: str) -> str:
    """Return in words who trains, and by whose statistics features are standardised."""
    parts = [
        *(["all other hospitals"] if others == EVERYBODY else []),
        *([f"{drawn} drawn, SIMULATED hospitals"] if drawn else []),
    ]
    if not parts:
        return "nobody trains, and the classifier keeps its first weights"
    standard = "each by its own statistics" if statistics == "own" else "standardised by what they pool"
    return f"{' and '.join(parts)} train, {standard}"
