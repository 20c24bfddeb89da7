"""What the federation explorer of chapter 2 varies: clients, label skew, stain shift and the aggregator."""

import threading

from hemafl_book.explorers import curves, leukaemia
from hemafl_book.explorers.curves import FederationOutcome, Report
from hemafl_lib.aggregation import by_name

CHOICES = {
    each.name: each for each in (by_name("FedAvg"), by_name("FedMedian"), by_name("FedAvgM", momentum=0.7))
}
"""The aggregators to choose from."""

CONTROLS = {
    "clients": (2, 3, 5, 10, 20),
    "alpha": (0.1, 0.3, 1.0, 10.0),
    "stain": (0.0, 0.5, 1.0),
    "aggregator": tuple(CHOICES),
}
"""The settings that are recorded, by the argument of `explore`."""


def explore(
    clients: int,
    alpha: float,
    stain: float,
    aggregator: str,
    *,
    seed: int = 0,
    report: Report = lambda curves: None,
    stop: threading.Event | None = None,
) -> FederationOutcome:
    """Train a federation of one setting and follow its accuracies.

    All settings share the same training cells, so that more clients means fewer cells for each.

    Parameters
    ----------
    clients
        Number of clients.
    alpha
        Of the Dirichlet distribution that deals the classes: small is much label skew.
    stain
        How far the five laboratories' stains lie apart (see `hemafl_lib.partition.draw_stain`): 0 not at
        all, 1 as far as five public collections. The clients take turns with the laboratories.
    aggregator
        A key of `CHOICES`.
    seed
        Of the deal, of the initial head and of the training.
    report
        Called before the first round and after each, with the curves so far.
    stop
        Set it from another thread to end with `hemafl_lib.errors.Stopped`.

    Returns
    -------
    FederationOutcome
        The shared test holds every test cell in the stain of every client's laboratory. A client's own
        curve is for cells in its stain and with its mix of classes, of the same test patients.
    """
    sites = leukaemia.deal(clients, alpha, stain, seed)
    return curves.follow(
        sites,
        followed=sites,
        shared_test=leukaemia.join_tests(clients, stain),
        report=report,
        model=leukaemia.head(seed),
        aggregator=CHOICES[aggregator],
        recipe=leukaemia.RECIPE,
        rounds=leukaemia.ROUNDS,
        seed=seed,
        stop=stop,
    )


SWEEP = curves.sweep("Clients, label skew, stain shift and the aggregator", CONTROLS, explore, CHOICES)
