"""Times of death that all sites share: the exact ones, or a grid.

Exact times make exact estimates, and they give away when patients died: a time at which one patient
died is that patient's. A grid, months for example, rounds every time up to its next point before
anything is computed; the estimates are then exactly those of the pooled rounded times.
"""

from collections.abc import Mapping

import numpy as np

from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.errors import FederationError
from hemafl_lib.statistics.cells import check_cells
from hemafl_lib.statistics.messages import ANY_LENGTH, MINIMUM, Arrays, Form, Hospitals, Statistic
from hemafl_lib.statistics.plausible import MOST_PATIENTS, check_counts, check_fall, check_sizes, require

COARSER = "give a coarser 'grid'"


def on_grid(time: np.ndarray, event: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return times rounded up to the next point of ``grid`` and events, float64[N] and bool[N].

    Follow-up ends with the last point: whoever was followed for longer counts as alive there.
    """
    beyond = time > grid[-1]
    place = np.minimum(np.searchsorted(grid, time, side="left"), len(grid) - 1)
    return grid[place], event & ~beyond


def follow_up(cohort: TableCohort, question: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return time float64[N] in months and event bool[N], on the question's ``grid`` if it has one.

    Raises `FederationError` if the cohort has no survival outcome or a time is missing or negative.
    """
    if cohort.time is None or cohort.event is None:
        raise FederationError("it has no 'time' and 'event'; give a cohort with a survival outcome.")
    time, event = cohort.time.numpy().astype(np.float64), cohort.event.numpy().astype(bool)
    if not (np.isfinite(time) & (time >= 0)).all():
        raise FederationError("a 'time' is missing or negative; leave those patients out.")
    return on_grid(time, event, question["grid"]) if "grid" in question else (time, event)


def risk_times(question: Arrays) -> np.ndarray:
    """Return the times at which sums are asked for: the grid's points, or ``times``; float64[J]."""
    return question["grid"] if "grid" in question else question["times"]


def exits(time: np.ndarray, event: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many died at each of ``times``, and how many withdrew from there to the next; int64[J].

    Sums over those at risk at two neighbouring times differ by exactly these patients. Who left before
    the first time is in no sum and not counted.
    """
    place = np.searchsorted(times, time, side="right") - 1
    inside = place >= 0
    deaths = np.bincount(place[inside & event], minlength=len(times))
    withdrawn = np.bincount(place[inside & ~event], minlength=len(times))
    return deaths.astype(np.int64), withdrawn.astype(np.int64)


def checked_exits(time: np.ndarray, event: np.ndarray, times: np.ndarray, minimum: int) -> np.ndarray:
    """Return the deaths at each of ``times``; raise `FederationError` if fewer than ``minimum`` left."""
    deaths, withdrawn = exits(time, event, times)
    cells = np.concatenate([deaths, withdrawn])
    check_cells(cells, minimum, "numbers of deaths or withdrawals at a time", COARSER)
    return deaths


def event_times(cohort: TableCohort, question: Arrays, minimum: int = MINIMUM) -> Arrays:
    """Return the distinct times at which patients of a site died, ``times`` float64[K].

    Raises `FederationError` if at one of them fewer than ``minimum`` died, which is the rule.
    """
    time, event = follow_up(cohort, question)
    times, deaths = np.unique(time[event], return_counts=True)
    check_cells(deaths, minimum, "numbers of deaths at a time", "give a 'grid' of times")
    return {"times": times}


def event_times_form(question: Arrays, features: int) -> Form:
    """Return the arrays of the message of `event_times`."""
    return {"times": (np.float64, ANY_LENGTH)}


def check_event_times(message: Arrays, question: Arrays, earlier: Mapping[str, Arrays]) -> None:
    """Raise `FederationError` unless the times are not negative and each stands once, in order."""
    times = message["times"]
    require(len(times) <= MOST_PATIENTS, f"it names {len(times)} times")
    require((times >= 0).all(), f"it names the time {times.min(initial=0):g}")
    require((np.diff(times) > 0).all(), "its times do not rise from one to the next")
    check_sizes(times=times)


EVENT_TIMES = Statistic(
    "event times",
    event_times,
    "After how many months each patient died: with the month of diagnosis, the date of death.",
    event_times_form,
    check_event_times,
)


def check_deaths(deaths: np.ndarray, question: Arrays, earlier: Mapping[str, Arrays]) -> None:
    """Require deaths int64[J] at exactly the times that the site has named, if it was asked for them."""
    if "times" in question and EVENT_TIMES.name in earlier:
        named = np.isin(question["times"], earlier[EVENT_TIMES.name]["times"])
        require(((deaths > 0) == named).all(), "'deaths' are not at the times of death that it has named")


def check_at_risk(message: Arrays, question: Arrays, earlier: Mapping[str, Arrays]) -> None:
    """Require ``deaths`` int64[J] and ``risk0`` float64[J] that belong together.

    Where all coefficients are 0, ``risk0`` counts the patients at risk.
    """
    deaths, risk0 = message["deaths"], message["risk0"]
    check_counts(deaths=deaths)
    check_deaths(deaths, question, earlier)
    check_fall(risk0=risk0)
    if not question["beta"].any():
        require(risk0.max(initial=0) <= MOST_PATIENTS, f"{risk0.max(initial=0):,.0f} patients are at risk")
        require((risk0 == np.round(risk0)).all(), "'risk0' is no number of patients")
        leaving = risk0 - np.append(risk0[1:], 0)
        require((deaths <= leaving).all(), "'deaths' are more than the patients who leave the risk set")


def shared_times(hospitals: Hospitals, grid: np.ndarray | None) -> Arrays:
    """Return the part of a question that says at which times: a checked ``grid``, or ``times``.

    Without a grid this costs a round, in which the sites send their distinct event times.
    """
    if grid is not None:
        return {"grid": check_grid(grid)}
    times = np.unique(np.concatenate([reply["times"] for reply in hospitals.ask(EVENT_TIMES)]))
    if len(times) == 0:
        raise FederationError("no site has a death among its training rows; there is nothing to estimate.")
    return {"times": times}


def check_grid(grid: np.ndarray) -> np.ndarray:
    """Return the grid as float64[J]; raise `FederationError` unless it is positive and rises."""
    points = np.asarray(grid, dtype=np.float64)
    if points.ndim != 1 or not len(points) or not np.isfinite(points).all() or points[0] <= 0:
        raise FederationError("'grid' must be positive times in months, such as np.arange(1, 121).")
    if not (np.diff(points) > 0).all():
        raise FederationError("'grid' must rise from one time to the next; sort it and drop duplicates.")
    return points
