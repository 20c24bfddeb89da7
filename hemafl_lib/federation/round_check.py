"""Whether a round over hospitals counts, and what the operator is told of it."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.replies import EXAMPLES
from hemafl_lib.federation.run_folder import write_history
from hemafl_lib.federation.strategy import AggregatorStrategy

LOGGER = logging.getLogger("flwr")
"""Flower's log: what a server app writes to it is what ``flwr run --stream`` shows."""

DIVERGED = 10.0
"""A model has diverged if every hospital finds its loss more than this many times that of guessing."""


@dataclass
class RoundCheck:
    """Called by the `Server` once the replies of a phase are in: it writes, tells, and judges.

    Attributes
    ----------
    strategy
        Which has read the replies.
    guessing
        The loss of a model for which all classes are equally likely.
    folder, settings
        Where the history is written, and the run's settings that stand beside it.
    rows
        What a hospital's rows are called.
    summed
        Whether the replies to a training are known by their sum only.
    """

    strategy: AggregatorStrategy
    guessing: float
    folder: Path
    settings: Mapping[str, Any]
    rows: str = "images"
    summed: bool = False

    def __call__(self, number: int, phase: str) -> None:
        """Raise `FederationError`, with each hospital's reason, if the round cannot count."""
        write_history(self.folder, self.settings, self.strategy.history, self.strategy.refused)
        reasons, losses = self.reasons(number, phase), self.losses(number, phase)
        for site, reason in reasons.items():
            LOGGER.warning("round %d, %s: %s was not used: %s", number, phase, site, reason)
        if not losses:
            said = "; ".join(f"{site}: {reason}" for site, reason in reasons.items()) or "none was asked"
            done = {"train": "trained", "evaluate": "evaluated the model"}[phase]
            raise FederationError(
                f"no hospital {done} in round {number}; mend what each says and start the same run again: "
                f"{said}."
            )
        self.tell(number, phase)
        if phase == "train":
            LOGGER.info("round %d of %d: trained by %s", number, self.strategy.rounds, ", ".join(losses))
            return
        found = ", ".join(f"{site} {loss:.3g}" for site, loss in losses.items())
        if not any(loss <= DIVERGED * self.guessing for loss in losses.values()):
            raise FederationError(
                f"the model diverged in round {number}; lower learning-rate and name another folder for out: "
                f"its loss on validation {self.rows} is {found}{self.beside()}."
            )
        LOGGER.info(
            "round %d of %d: loss on validation %s %s%s",
            *(number, self.strategy.rounds, self.rows, found, self.beside()),
        )

    def beside(self) -> str:
        """Return what stands beside losses: that of guessing, where it is known."""
        return f", and guessing gives {self.guessing:.3g}" if math.isfinite(self.guessing) else ""

    def tell(self, number: int, phase: str) -> None:
        """Say a line for each hospital: its examples and what it measured."""
        for site in self.losses(number, phase):
            if self.summed and phase == "train":
                LOGGER.info("round %d of %d, train: %s is in the sum", number, self.strategy.rounds, site)
                continue
            rows = [row for row in self.strategy.history if row["site"] == site]
            found = {
                row["metric"]: row["value"] for row in rows if (row["round"], row["phase"]) == (number, phase)
            }
            measured = ", ".join(f"{name} {value:.3g}" for name, value in found.items() if name != EXAMPLES)
            LOGGER.info(
                "round %d of %d, %s: %s, %d %s: %s",
                *(number, self.strategy.rounds, phase, site, found.get(EXAMPLES, 0), self.rows, measured),
            )

    def reasons(self, number: int, phase: str) -> dict[str, str]:
        """Return why hospitals were not used in a phase, by name."""
        rows = self.strategy.refused
        return {row["site"]: row["reason"] for row in rows if (row["round"], row["phase"]) == (number, phase)}

    def losses(self, number: int, phase: str) -> dict[str, float]:
        """Return the loss that each hospital found in a phase, by name; NaN if it was no number."""
        rows = [row for row in self.strategy.history if (row["round"], row["phase"]) == (number, phase)]
        found = {row["site"]: row["value"] for row in rows if row["metric"] == "loss"}
        return {row["site"]: found.get(row["site"], float("nan")) for row in rows}
