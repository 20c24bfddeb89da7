"""What the explorers repeat over seeds, and how they sum it up: a mean, and where 8 of 10 repetitions lie."""

from collections.abc import Callable, Iterator

import pandas as pd

from hemafl_lib.errors import Stopped

BETWEEN = (0.1, 0.9)
"""Quantiles of the repetitions that are shown: 8 of 10 repetitions lie between them."""


def repeated(
    repetitions: int,
    once: Callable[[int], pd.DataFrame],
    report: Callable[[int], object],
    stopped: Callable[[], bool],
) -> Iterator[pd.DataFrame]:
    """Yield what every repetition gives, by its seed; call ``report`` with the number of those done.

    Raises `Stopped` once ``stopped()`` is true.
    """
    for seed in range(repetitions):
        if stopped():
            raise Stopped
        yield once(seed)
        report(seed + 1)


def summarise(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the mean and the quantiles of the repetitions' ``value``, one row for each of the ``keys``."""
    value = rows.groupby(keys, sort=False)["value"]
    low, high = (value.quantile(share) for share in BETWEEN)
    return pd.DataFrame({"mean": value.mean(), "low": low, "high": high}).reset_index()
