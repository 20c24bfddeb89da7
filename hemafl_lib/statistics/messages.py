"""What a site tells and what a server hears: small sums instead of rows, and a record of each.

A `Statistic` is what a site computes from its rows, together with a plain account of what its message
reveals. `Hospitals` puts one question to all sites and returns their messages; the server side of
every method is written against it, so that the same lines run over sites in memory and over Flower.

No message is used before it was checked: it holds the arrays that the statistic promises, in their types and
shapes, finite, and with numbers that sums over patients can be. An exact result needs every site: one whose
message cannot be used is never left out without a word, but named in an error with the reason.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hemafl_lib.data.cohort import TableCohort
from hemafl_lib.errors import FederationError, quote
from hemafl_lib.federation.casting import NotFinite, fitted
from hemafl_lib.partition import Site

Arrays = dict[str, np.ndarray]
"""A question or a message: float64 and int64 arrays by name."""

Send = Callable[["Statistic", Arrays], list[Arrays]]
"""Puts a question to every site and returns the messages in the order of the sites."""

MINIMUM = 5
"""Patients below which a site does not tell a count, unless it was told otherwise."""

Form = dict[str, tuple[type, tuple[int, ...]]]
"""Type and shape of each array of a message."""

ANY_LENGTH = (-1,)
"""The shape of an array of one dimension, whose length the site decides."""

Check = Callable[[Arrays, Arrays, Mapping[str, Arrays]], None]
"""Takes a message, its question and the site's first message of each statistic; raises `FederationError`."""

COLUMNS = ["round", "site", "statistic", "asked", "answered", "reveals"]


@dataclass(frozen=True)
class Statistic:
    """One kind of message.

    Attributes
    ----------
    name
        By which a server asks for it.
    compute
        What a site does: takes its rows, the question and the minimum cell count; returns the message.
    reveals
        What a reader of the message learns about the site's patients.
    form
        Takes the question and the number of features; returns the arrays that the message holds.
    check
        Raises `FederationError` if no patients could give such a message.
    infinite
        Names of arrays that may be infinite.
    """

    name: str
    compute: Callable[[TableCohort, Arrays, int], Arrays]
    reveals: str
    form: Callable[[Arrays, int], Form]
    check: Check
    infinite: frozenset[str] = frozenset()


class UnusableMessage(FederationError):
    """A site's message cannot be used; without it there is no exact result."""


class BeyondNumbers(UnusableMessage):
    """A site's message holds infinite numbers or none at all, as sums at wild coefficients may."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """What was sent to obtain an estimate.

    ``messages`` has one row per round and site: ``round``, ``site``, ``statistic``, ``asked`` and
    ``answered`` (bytes of the arrays, in either direction) and ``reveals``.
    """

    messages: pd.DataFrame

    @property
    def rounds(self) -> int:
        """How often the server asked."""
        return self.messages["round"].nunique()

    @property
    def bytes_sent(self) -> int:
        """Bytes of the arrays, both directions and all sites together."""
        return int(self.messages["asked"].sum() + self.messages["answered"].sum())

    @property
    def reveals(self) -> pd.DataFrame:
        """One row per kind of message: how many, how many bytes, and what each reveals."""
        kinds = self.messages.groupby(["statistic", "reveals"], sort=False)
        return kinds.agg(messages=("site", "size"), bytes=("answered", "sum")).reset_index()[
            ["statistic", "messages", "bytes", "reveals"]
        ]


class Hospitals:
    """The sites as the server sees them: names, the features all have, and a way to ask.

    Parameters
    ----------
    names, features
        Of the sites and of the columns of their tables, in order.
    send
        How a question reaches the sites.
    """

    def __init__(self, names: Sequence[str], features: Sequence[str], send: Send) -> None:
        self.names, self.features, self.send = tuple(names), tuple(features), send
        self.rounds = 0
        self.messages: list[tuple[int, str, str, int, int, str]] = []
        self.first: dict[str, dict[str, Arrays]] = {name: {} for name in self.names}

    def ask(self, statistic: Statistic, question: Arrays | None = None) -> list[Arrays]:
        """Put one question to all sites; return their messages in order. This is one round.

        Raises `UnusableMessage`, which names the site, if a message is none that the statistic can have.
        """
        question = question or {}
        replies = self.send(statistic, question)
        self.rounds += 1
        for name, reply in zip(self.names, replies, strict=True):
            sizes = (size(question), size(reply))
            self.messages.append((self.rounds, name, statistic.name, *sizes, statistic.reveals))
        return [self.checked(*each, statistic, question) for each in zip(self.names, replies, strict=True)]

    def checked(self, site: str, message: Arrays, statistic: Statistic, question: Arrays) -> Arrays:
        """Return a site's message in its types; raise `UnusableMessage` if it cannot be used."""
        earlier = self.first[site]
        try:
            message = formed(message, statistic.form(question, len(self.features)), statistic.infinite)
            statistic.check(message, question, earlier)
        except FederationError as error:
            kind = BeyondNumbers if isinstance(error, NotFinite) else UnusableMessage
            raise kind(
                f"site '{site}': its message '{statistic.name}' cannot be used: {quote(str(error))}; mend it "
                "there or leave the site out."
            ) from None
        earlier.setdefault(statistic.name, message)
        return message

    def fresh(self) -> "Hospitals":
        """Return the same sites with an empty account."""
        return Hospitals(self.names, self.features, self.send)

    def account(self) -> Account:
        """Return what was sent so far."""
        return Account(messages=pd.DataFrame(self.messages, columns=COLUMNS))


def formed(message: Arrays, form: Form, infinite: frozenset[str]) -> Arrays:
    """Return a message in the types of its form; raise `FederationError` if it does not fit."""
    like: Arrays = {}
    for name, (kind, shape) in form.items():
        if shape == ANY_LENGTH:
            shape = (message[name].size,) if name in message else (0,)
        like[name] = np.broadcast_to(np.zeros((), kind), shape)
    return fitted(message, like, infinite)


def size(arrays: Mapping[str, np.ndarray]) -> int:
    """Return the bytes of the arrays."""
    return sum(value.nbytes for value in arrays.values())


def add_up(messages: Iterable[Arrays]) -> Arrays:
    """Return the sum of messages, array by array: all that most estimates need to know."""
    total: Arrays = {}
    for message in messages:
        total = {name: total[name] + value if total else value for name, value in message.items()}
    return total


def hospitals_of(sites: Sequence[Site[TableCohort]] | Hospitals, minimum: int = MINIMUM) -> Hospitals:
    """Return the sites as the server sees them, with an empty account.

    Sites in memory answer from their training rows and obey ``minimum``; `Hospitals` that were made
    elsewhere, over Flower for example, obey the minimum that they were started with.
    """
    if isinstance(sites, Hospitals):
        return sites.fresh()
    check_sites(sites)
    features = sites[0].train.feature_names

    def send(statistic: Statistic, question: Arrays) -> list[Arrays]:
        return [answer(statistic, site, question, features, minimum) for site in sites]

    return Hospitals([site.name for site in sites], features, send)


def check_sites(sites: Sequence[Site]) -> None:
    """Raise `FederationError` if the sites cannot be asked."""
    if not sites:
        raise FederationError("sites is empty; give at least one site.")
    if len({site.name for site in sites}) < len(sites):
        raise FederationError("two sites have the same name; give each its own.")
    for site in sites:
        table_of(site)


def table_of(site: Site) -> TableCohort:
    """Return a site's training rows; raise `FederationError` if they are not those of a table."""
    if not isinstance(site.train, TableCohort):
        raise FederationError(f"site '{site.name}' holds no table; give sites of a TableCohort.")
    return site.train


def answer(
    statistic: Statistic, site: Site, question: Arrays, features: Sequence[str], minimum: int
) -> Arrays:
    """Return one site's message, computed from its training rows.

    Raises
    ------
    FederationError
        If the site's features are not those of the question, or the site refuses; names the site.
    """
    try:
        return message_of(statistic, site, question, features, minimum)
    except FederationError as error:
        raise FederationError(f"site '{site.name}': {error}") from None


def message_of(
    statistic: Statistic, site: Site, question: Arrays, features: Sequence[str], minimum: int
) -> Arrays:
    """As `answer`, with errors that do not name the site: who asked it knows which it is."""
    table = table_of(site)
    check_features(table, features)
    return statistic.compute(table, question, minimum)


def check_features(cohort: TableCohort, features: Sequence[str]) -> None:
    """Raise `FederationError` if the table has no rows or other columns than the question is about."""
    if len(cohort) == 0:
        raise FederationError("it has no training rows; leave it out.")
    if cohort.feature_names != tuple(features):
        different = sorted(set(cohort.feature_names) ^ set(features))
        raise FederationError(
            f"its features differ from the other sites' (in {', '.join(different) or 'their order'}); "
            "give all sites the same columns."
        )


def covariates(cohort: TableCohort) -> np.ndarray:
    """Return the features as float64[N, F]; raise `FederationError` if a value is missing."""
    values = cohort.features.numpy().astype(np.float64)
    missing = ~np.isfinite(values).all(axis=0)
    if missing.any():
        place = int(missing.argmax())
        name, infinite = cohort.feature_names[place], np.isinf(values[:, place]).any()
        wrong = "infinite values; mark them as NaN and" if infinite else "missing values;"
        raise FederationError(f"feature '{name}' has {wrong} fill them with 'standardise' first.")
    return values
