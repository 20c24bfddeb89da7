"""What an experiment is asked for: a preset, a source of data, and changes of the paper's protocol."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hemafl_book.papers import dealing
from hemafl_book.papers.arms import Arm
from hemafl_book.papers.dealing import Deal
from hemafl_lib.aggregation import AGGREGATORS
from hemafl_lib.data.cards import CARDS
from hemafl_lib.errors import HemaflError
from hemafl_lib.partition import SCHEMES

PRESETS = ("quick", "paper")


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a user changes in a paper's protocol; None leaves the paper's own.

    Attributes
    ----------
    aggregator
        A key of `AGGREGATORS`; it takes FedAvg's place, and the arms of other aggregators go.
    model
        The network of the main comparisons.
    clients, alpha, scheme
        How the training rows are dealt, see `dealing.changed`.
    rounds, local_epochs
        How long is trained.
    data
        Name of a cohort to train on.
    seed
        One seed instead of the preset's.
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

    def given(self) -> dict[str, Any]:
        """Return what is changed, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __bool__(self) -> bool:
        return bool(self.given())

    def __str__(self) -> str:
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.given().items())

    def network(self, own: str) -> str:
        """Return the network of the main comparisons where the experiment's own is ``own``."""
        return own if self.model is None else self.model.lower()

    def deal(self, own: Deal) -> Deal:
        """Return how the clients are dealt where the experiment's own way is ``own``."""
        return dealing.changed(own, self.scheme, self.clients, self.alpha)

    @property
    def deals(self) -> bool:
        """Whether the clients are dealt in another way than the experiment's own."""
        return not (self.scheme is None and self.clients is None and self.alpha is None)

    def seeds(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """Return the seeds where the experiment's own are ``own``."""
        return own if self.seed is None else (self.seed,)

    def arms(self, own: Sequence[Arm]) -> tuple[Arm, ...]:
        """Return the arms where the experiment's own are ``own``.

        A named aggregator takes FedAvg's place, in the arms' names too. Arms of other aggregators go, and so
        does FedProx, which is FedAvg with a pull towards the global model.
        """
        arms = tuple(own)
        if self.aggregator is not None:
            instead = AGGREGATORS[self.aggregator]()
            arms = tuple(
                replace(arm, name=arm.name.replace("FedAvg", instead.name), aggregator=instead)
                if arm.kind == "federated"
                else arm
                for arm in arms
                if arm.kind != "federated" or is_fedavg(arm)
            )
        if self.local_epochs is not None:
            arms = tuple(
                replace(arm, recipe=replace(arm.recipe, local_epochs=self.local_epochs)) for arm in arms
            )
        return arms

    def studies(self, own: Sequence[Any]) -> tuple[Any, ...]:
        """Return the studies with the changes; those whose federated arms have all gone are left out."""
        changed = [self.study(study) for study in own]
        return tuple(
            after
            for before, after in zip(own, changed, strict=True)
            if federates(after) or not federates(before)
        )

    def study(self, own: Any) -> Any:
        """Return a study with other arms and seeds, dealt in another way."""
        deal = self.deal(own.way()) if self.deals else None
        return replace(own, arms=self.arms(own.arms), seeds=self.seeds(own.seeds), deal=deal)


UNCHANGED = Changes()


def is_fedavg(arm: Arm) -> bool:
    """Tell whether an arm is plain federated averaging, weighted by examples."""
    return arm.aggregator == AGGREGATORS["FedAvg"]() and not arm.recipe.proximal


def federates(study: Any) -> bool:
    """Tell whether a study has a federated arm."""
    return any(arm.kind == "federated" for arm in study.arms)


def federated_name(arms: Sequence[Arm]) -> str:
    """Return the name of the first federated arm, of which the tables show more than of others."""
    return next(arm.name for arm in arms if arm.kind == "federated")


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What can be asked of an experiment.

    Attributes
    ----------
    name, title
        Of the experiment, and in a few words what it is about.
    sources
        The sources of its data: the real one first, the one that needs no files last.
    embedded
        Says in words what the last source is.
    takes
        The fields of `Changes` that it takes.
    models
        The networks that its main comparisons can have.
    cohorts
        The sources by the name of their cohort.
    kind
        "images" or "tables", whichever a cohort to train on must be.
    """

    name: str
    title: str
    sources: tuple[str, ...]
    embedded: str
    takes: tuple[str, ...]
    models: tuple[str, ...] = ()
    cohorts: Mapping[str, str] = field(default_factory=dict)
    kind: str = "images"

    def source(self, root: Path | None, changes: Changes) -> tuple[str, Changes]:
        """Return the source of a run, and its changes without a cohort that is one of the sources.

        Without a ``root`` the experiment runs on what needs no files, unless a cohort is named.
        """
        if changes.data is not None and changes.data in self.cohorts:
            return self.cohorts[changes.data], replace(changes, data=None)
        real = root is not None or changes.data is not None
        return self.sources[0 if real else -1], changes

    def check(self, preset: str, source: str, changes: Changes) -> None:
        """Raise `HemaflError` if something that is asked for is unknown, or refused by this experiment."""
        check_choices(preset=(preset, PRESETS), source=(source, self.sources))
        refused = [name for name in changes.given() if name not in self.takes]
        if refused:
            names = [option(name) for name in (refused[0], *self.takes)]
            raise HemaflError(
                f"experiment '{self.name}' takes no {names[0]}; it takes {', '.join(names[1:])}."
            )
        cohorts = [name for name, card in CARDS.items() if card.kind == self.kind]
        given = {
            "aggregator": (changes.aggregator, AGGREGATORS),
            "model": (changes.model and changes.model.lower(), self.models),
            "scheme": (changes.scheme, SCHEMES),
            "data": (changes.data, cohorts),
        }
        check_choices(**{name: (value, known) for name, (value, known) in given.items() if value is not None})
        check_numbers(changes)


def option(name: str) -> str:
    """Return the option of the command that sets a field of `Changes`."""
    return f"--{name.replace('_', '-')}"


def check_numbers(changes: Changes) -> None:
    """Raise `HemaflError` if a number is too small, or belongs to another scheme than the one asked for."""
    for name in ("clients", "rounds", "local_epochs"):
        value = getattr(changes, name)
        if value is not None and value < 1:
            raise HemaflError(f"{option(name)} is {value}; give at least 1.")
    if changes.alpha is not None and not changes.alpha > 0:
        raise HemaflError(f"--alpha is {changes.alpha:g}; give a positive number, such as 0.3.")
    if changes.alpha is not None and changes.scheme not in (None, "dirichlet"):
        raise HemaflError(f"--alpha belongs to the scheme 'dirichlet'; leave it out with '{changes.scheme}'.")
    if changes.clients is not None and changes.scheme == "natural":
        raise HemaflError("--clients goes with a scheme that deals; 'natural' takes the cohort's own sites.")


def check_choices(**choices: tuple[str, Collection[str]]) -> None:
    """Raise `HemaflError` if a value is not among the known ones; each argument is (value, known)."""
    for name, (value, known) in choices.items():
        if value not in known:
            raise HemaflError(f"{name}='{value}' is unknown; choose one of {', '.join(known)}.")


def describe(protocol: Any, **fixed: Any) -> dict[str, Any]:
    """Return a protocol as plain JSON values, with what is ``fixed`` beside its fields.

    Changes are named where there are any, so that a changed protocol never has the hash of the paper's.
    """
    plain = asdict(protocol)
    plain["studies"] = [describe_study(study) for study in protocol.studies]
    del plain["changes"]
    named = {"changes": protocol.changes.given()} if protocol.changes else {}
    return {**plain, **fixed, **named}


def describe_study(study: Any) -> dict[str, Any]:
    """Return a study as plain JSON values, its arms with the names of their aggregators.

    Another deal than the study's own is named among the protocol's changes.
    """
    plain = asdict(study)
    plain.pop("deal", None)
    if "arms" in plain:
        plain["arms"] = [arm.described() for arm in study.arms]
    return plain


def all_seeds(studies: Sequence[Any]) -> tuple[int, ...]:
    """Return the seeds of all studies, each once, in order."""
    return tuple(sorted({seed for study in studies for seed in study.seeds}))


OPTIONS = tuple(item.name for item in fields(Changes))
