"""What can be asked of a paper's experiment, and the sentences for what cannot."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hemafl_book.papers.changes import Changes
from hemafl_lib.aggregation import AGGREGATORS
from hemafl_lib.data.cards import CARDS
from hemafl_lib.errors import HemaflError
from hemafl_lib.partition import SCHEMES

PRESETS = ("quick", "paper")
IMAGES = tuple(name for name, card in CARDS.items() if card.kind == "images")


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
    data
        The cohorts that it can train on.
    reads
        The real cohorts that its own protocol reads.
    parts
        Experiments of their own that are asked for as a study of this one: the paper's name, by the study's.
    """

    name: str
    title: str
    sources: tuple[str, ...]
    embedded: str
    takes: tuple[str, ...]
    models: tuple[str, ...] = ()
    cohorts: Mapping[str, str] = field(default_factory=dict)
    data: tuple[str, ...] = IMAGES
    reads: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)

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
        refused = [name for name in changes.as_dict() if name not in self.takes]
        if refused:
            names = [option(name) for name in (refused[0], *self.takes)]
            raise HemaflError(
                f"experiment '{self.name}' takes no {names[0]}; it takes {', '.join(names[1:])}."
            )
        given = {
            "aggregator": (changes.aggregator, AGGREGATORS),
            "model": (changes.model and changes.model.lower(), self.models),
            "scheme": (changes.scheme, SCHEMES),
            "data": (changes.data, self.data),
        }
        check_choices(**{name: (value, known) for name, (value, known) in given.items() if value is not None})
        check_numbers(changes)


def option(name: str) -> str:
    """Return the option of the command that sets a field of `Changes`."""
    return f"--{name.replace('_', '-')}"


def check_numbers(changes: Changes) -> None:
    """Raise `HemaflError` if a number means nothing, or belongs to another scheme than the one asked for."""
    for name in ("clients", "rounds", "local_epochs"):
        value = getattr(changes, name)
        if value is not None and value < 1:
            raise HemaflError(f"{option(name)} is {value}; give at least 1.")
    if changes.seed is not None and changes.seed < 0:
        raise HemaflError(f"--seed is {changes.seed}; give 0 or more.")
    if changes.alpha is not None and not 0 < changes.alpha < math.inf:
        raise HemaflError(f"--alpha is {changes.alpha:g}; give a positive number, such as 0.3.")
    for name, taken in (("clients", "sites"), ("alpha", "alpha")):
        if changes.scheme is not None and getattr(changes, name) is not None:
            check_taken(option(name), taken, changes.scheme)


def check_taken(named: str, taken: str, scheme: str) -> None:
    """Raise `HemaflError` if an option sets what a scheme does not take; name the schemes that take it."""
    if taken not in SCHEMES[scheme].takes:
        fitting = ", ".join(f"'{name}'" for name, other in SCHEMES.items() if taken in other.takes)
        raise HemaflError(f"{named} belongs to the scheme {fitting}; leave it out with '{scheme}'.")


def check_choices(**choices: tuple[str, Collection[str]]) -> None:
    """Raise `HemaflError` if a value is not among the known ones; each argument is (value, known)."""
    for name, (value, known) in choices.items():
        if value not in known:
            raise HemaflError(f"{name}='{value}' is unknown; choose one of {', '.join(known)}.")
