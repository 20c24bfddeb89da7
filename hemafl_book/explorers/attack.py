"""What the attack explorer of chapter 2 varies: what corrupted clients do, and who withstands them.

The cells, the clients and the head are those of the federation explorer, with little label skew and no stain
shift, so that what is to be seen comes from the corruption.
"""

import threading

from hemafl_book.explorers import curves, leukaemia
from hemafl_book.explorers.corruption import CORRUPTIONS
from hemafl_book.explorers.curves import FederationOutcome, Report
from hemafl_lib.aggregation import by_name

ALPHA = 10.0
CHOICES = {
    each.name: each
    for each in (
        by_name("FedAvg"),
        by_name("FedMedian"),
        by_name("FedTrimmedMean", trim=0.2),
        by_name("Krum", malicious=1),
    )
}
"""The aggregators to choose from."""

CONTROLS = {
    "clients": (5, 10),
    "corrupted": (0, 1, 2),
    "corruption": tuple(CORRUPTIONS),
    "aggregator": tuple(CHOICES),
}
"""The settings that are recorded, by the argument of `explore`."""


def explore(
    clients: int,
    corrupted: int,
    corruption: str,
    aggregator: str,
    *,
    seed: int = 0,
    report: Report = lambda curves: None,
    stop: threading.Event | None = None,
) -> FederationOutcome:
    """Train a federation some of whose clients are corrupted, and follow its accuracies.

    Parameters
    ----------
    clients
        Number of clients.
    corrupted
        How many of them are corrupted, from the first on.
    corruption
        A key of `hemafl_book.explorers.corruption.CORRUPTIONS`.
    aggregator
        A key of `CHOICES`. Krum is told to expect one corrupted client.
    seed, report, stop
        As in the federation explorer.

    Returns
    -------
    FederationOutcome
        Its curves leave the corrupted clients out. The test cells carry the right labels.
    """
    kind = CORRUPTIONS[corruption]
    dealt = leukaemia.deal(clients, ALPHA, 0.0, seed)
    honest = dealt[corrupted:]
    return curves.follow(
        [*map(kind.site, dealt[:corrupted]), *honest],
        followed=honest,
        shared_test=leukaemia.join_tests(clients, 0.0),
        report=report,
        model=leukaemia.head(seed),
        aggregator=CHOICES[aggregator],
        recipe=leukaemia.RECIPE,
        mods=kind.mods(tuple(range(corrupted)), seed),
        rounds=leukaemia.ROUNDS,
        seed=seed,
        stop=stop,
    )


SWEEP = curves.sweep(
    "What corrupted clients do, and which aggregator withstands them", CONTROLS, explore, CHOICES, alpha=ALPHA
)
