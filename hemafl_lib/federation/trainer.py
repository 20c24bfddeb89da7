"""How a site trains in one round: by `hemafl_lib.training.fit`, or by what a subclass puts in its place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from flwr.app import RecordDict
from torch import nn

from hemafl_lib.data.cohort import Cohort
from hemafl_lib.settings import Settings
from hemafl_lib.training import Recipe, fit


@dataclass(frozen=True)
class Trainer(Settings):
    """One round of training at one site; by itself it is `fit`.

    A subclass is a frozen dataclass of plain values, so that every engine can hand it to the sites.

    Attributes
    ----------
    keeps_state
        Whether a later round needs what an earlier one left in the site's state.
    """

    keeps_state: ClassVar[bool] = False

    def check(self, model: nn.Module, cohort: Cohort, recipe: Recipe) -> None:
        """Raise `HemaflError` if the model cannot be trained so on the rows of a site."""

    def train(
        self,
        model: nn.Module,
        cohort: Cohort,
        recipe: Recipe,
        generator: torch.Generator,
        state: RecordDict,
        *,
        progress: float = 0.0,
        device: str | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, float]:
        """Train ``model`` in place, as `fit` does; return the metrics that the site reports.

        ``state`` is the site's own Flower state, which lasts from round to round and never travels.
        Raises `BudgetSpent` if the site must not train any more, which ends the run.
        """
        report = fit(model, cohort, recipe, generator, progress=progress, device=device, stop=stop)
        return {"loss": report.loss, "steps": report.steps}
