"""What a user changes in a paper's protocol, and what that does to its studies."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from hemafl_book.papers import dealing
from hemafl_book.papers.arms import Arm
from hemafl_book.papers.dealing import Deal
from hemafl_lib.aggregation import AGGREGATORS, Aggregator


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a user changes in a paper's protocol; None leaves the paper's own.

    Attributes
    ----------
    aggregator
        A key of `AGGREGATORS`; it takes FedAvg's place, see `with_aggregator`.
    model
        The network of the main comparisons.
    clients, alpha, scheme
        How the training rows are dealt, see `dealing.change`.
    rounds, local_epochs
        How long is trained.
    data
        Name of a cohort to train on.
    seed
        One seed instead of the preset's.
    study
        Studies instead of all, by the `protocol.slug` of their titles.
    """

    aggregator: str | None = None
    model: str | None = None
    clients: int | None = None
    alpha: float | None = None
    scheme: str | None = None
    rounds: int | None = None
    local_epochs: int | None = None
    data: str | None = None
    seed: int | None = None
    study: tuple[str, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what is changed, by name, as plain JSON values."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

    def __bool__(self) -> bool:
        return bool(self.as_dict())

    def __str__(self) -> str:
        return ", ".join(
            f"{name.replace('_', ' ')} {in_words(value)}" for name, value in self.as_dict().items()
        )

    def network(self, own: str) -> str:
        """Return the network of the main comparisons where the experiment's own is ``own``."""
        return own if self.model is None else self.model.lower()

    def deal(self, own: Deal) -> Deal:
        """Return how the clients are dealt where the experiment's own way is ``own``."""
        return dealing.change(own, self.scheme, self.clients, self.alpha)

    @property
    def deals(self) -> bool:
        """Whether the clients are dealt in another way than the experiment's own."""
        return not (self.scheme is None and self.clients is None and self.alpha is None)

    def seeds(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """Return the seeds where the experiment's own are ``own``."""
        return own if self.seed is None else (self.seed,)

    def arms(self, own: Sequence[Arm]) -> tuple[Arm, ...]:
        """Return the arms where the experiment's own are ``own``; see `with_aggregator`."""
        arms = own if self.aggregator is None else with_aggregator(own, AGGREGATORS[self.aggregator]())
        if self.local_epochs is None:
            return tuple(arms)
        return tuple(replace(arm, recipe=replace(arm.recipe, local_epochs=self.local_epochs)) for arm in arms)

    def studies(self, own: Sequence[Any]) -> tuple[Any, ...]:
        """Return the studies with the changes; those whose federated arms have all gone are left out."""
        changed = [self.change_study(study) for study in own]
        return tuple(
            after
            for before, after in zip(own, changed, strict=True)
            if federates(after) or not federates(before)
        )

    def change_study(self, own: Any) -> Any:
        """Return a study with other arms and seeds, dealt in another way."""
        deal = self.deal(own.way()) if self.deals else None
        return replace(own, arms=self.arms(own.arms), seeds=self.seeds(own.seeds), deal=deal)


def in_words(value: Any) -> str:
    """Return a value as text, several joined by "and"."""
    return " and ".join(value) if isinstance(value, list) else str(value)


UNCHANGED = Changes()
OPTIONS = tuple(item.name for item in fields(Changes))
"""The names of all changes."""


def with_aggregator(arms: Sequence[Arm], instead: Aggregator) -> tuple[Arm, ...]:
    """Return the arms with an aggregator in FedAvg's place, in their names too.

    Arms of other aggregators go, and so does FedProx, which is FedAvg with a pull towards the global model.
    """
    kept = [arm for arm in arms if arm.kind != "federated" or is_fedavg(arm)]
    return tuple(
        replace(arm, name=arm.name.replace("FedAvg", instead.name), aggregator=instead)
        if arm.kind == "federated"
        else arm
        for arm in kept
    )


def is_fedavg(arm: Arm) -> bool:
    """Tell whether an arm is plain federated averaging, weighted by examples."""
    return arm.aggregator == AGGREGATORS["FedAvg"]() and not arm.recipe.proximal


def federates(study: Any) -> bool:
    """Tell whether a study has a federated arm."""
    return any(arm.kind == "federated" for arm in study.arms)
