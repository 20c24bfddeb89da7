"""Whether a round over hospitals counts, and what the operator is told of it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hemafl_lib.errors import FederationError
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
    """

    strategy: AggregatorStrategy
    guessing: float
    folder: Path
    settings: Mapping[str, Any]

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
        if phase == "train":
            LOGGER.info("round %d of %d: trained by %s", number, self.strategy.rounds, ", ".join(losses))
            return
        found = ", ".join(f"{site} {loss:.3g}" for site, loss in losses.items())
        if not any(loss <= DIVERGED * self.guessing for loss in losses.values()):
            raise FederationError(
                f"the model diverged in round {number}; lower learning-rate and name another folder for out: "
                f"its loss on validation images is {found}, and guessing gives {self.guessing:.3g}."
            )
        LOGGER.info(
            "round %d of %d: loss on validation images %s (guessing gives %.3g)",
            *(number, self.strategy.rounds, found, self.guessing),
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
