"""Client mods: what stands between a site's client app and the network, and may change what passes.

A **mod** is Flower's word for a function ``(message, context, call_next) -> message`` around a client app:
it may change the message, calls the app (or the next mod) by ``call_next(message, context)``, and may
change the reply. Of several, the first is the outermost: it sees a message first and the reply last.

The mods here are frozen dataclasses of plain values. So they go to the programs of the deployment engine, and
a checkpoint knows its run by them. For whom: a federation that does not trust its server clips and adds noise
at the sites, with `ClipUpdate` and `AddNoise`; who tests a defence attacks it with `ScaleUpdate`.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType

from hemafl_lib.aggregation import Parameters
from hemafl_lib.errors import FederationError, HemaflError, one_line
from hemafl_lib.federation.client import partition_of, whole_number
from hemafl_lib.federation.exchange import from_record, get_record, to_record
from hemafl_lib.federation.flower_private import ClientAppCallable, Mod
from hemafl_lib.seeds import numpy_generator
from hemafl_lib.settings import NotNegative, Positive, Settings, Whole

__all__ = [
    "AddNoise",
    "ClipUpdate",
    "Defence",
    "Mod",
    "ScaleUpdate",
    "UpdateMod",
    "check_mods",
    "clip_update",
    "update_of",
]

KINDS = (MessageType.TRAIN, MessageType.EVALUATE, MessageType.QUERY)
"""The types of message that a site answers to."""


@dataclass(frozen=True)
class UpdateMod(Settings):
    """Change the **update**: what a site sends after training, less what it received.

    A subclass overrides `change`. By itself it changes nothing. A setting that is not allowed raises
    `FederationError`.

    It changes what a site answers to "train" and lets everything else pass. Against a server that is not
    trusted that is not enough: Flower hands "train.default" to the same function as "train", so that such a
    server gets the plain update past the mod. **Who defends a site subclasses** `Defence`, which refuses such
    a message. The nodes of this library refuse it before any mod does.

    Attributes
    ----------
    sites
        Numbers of the sites that it works on, in the order of the run's sites; None for all. `run` refuses a
        number that no site has.
    """

    ERROR: ClassVar[type[HemaflError]] = FederationError

    sites: tuple[Whole, ...] | None = field(default=None, kw_only=True)

    def change(self, update: Parameters, site: int, round_number: int) -> Parameters:
        """Return the changed update, float64 by array; ``site`` is the site's number.

        ``update`` holds no integer arrays: those are counters and pass unchanged.
        """
        return update

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Return the client's reply, with the changed update if it has trained."""
        reply = call_next(message, context)
        site = partition_of(context)
        trained = message.metadata.message_type == MessageType.TRAIN
        chosen = self.sites is None or site in self.sites
        if not (trained and chosen and reply.has_content() and "arrays" in reply.content):
            return reply
        received, sent = (
            from_record(get_record(each.content, "arrays", ArrayRecord)) for each in (message, reply)
        )
        round_number = whole_number(get_record(message.content, "config", ConfigRecord), "server-round")
        changed = self.change(update_of(sent, received), site, round_number)
        moved = {name: (received[name] + value).astype(sent[name].dtype) for name, value in changed.items()}
        reply.content["arrays"] = to_record(sent | moved)
        return reply


@dataclass(frozen=True)
class Defence(UpdateMod):
    """An update mod against the server: what it does to an update, no kind of question leaves out.

    Subclass this one, and not `UpdateMod`, for a mod of your own that protects a site, whatever node runs it.
    """

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """As `UpdateMod`; raise `FederationError` for a message whose type names a function.

        And for a reply that is coded or masked already, which would pass unchanged.
        """
        check_kind(message)
        return super().__call__(message, context, lambda *asked: check_plain(message, call_next(*asked)))


@dataclass(frozen=True)
class ClipUpdate(Defence):
    """Shorten an update to a norm of at most ``limit``, over all its arrays together."""

    limit: Positive = 1.0

    def change(self, update: Parameters, site: int, round_number: int) -> Parameters:
        """Return the update, scaled if it is too long."""
        return clip_update(update, self.limit)


@dataclass(frozen=True)
class AddNoise(Defence):
    """Add normal noise of standard deviation ``deviation`` to every coordinate before it leaves the site.

    After `ClipUpdate` (``mods=[AddNoise(...), ClipUpdate(...)]``: the last mod is next to the client) this is
    the local model of differential privacy, which trusts no server and pays for it with much more noise than
    `hemafl_lib.privacy.ClientPrivacy`. The noise comes from ``seed``; who knows it can take it off.
    """

    deviation: NotNegative = 0.01
    seed: int = 0

    def change(self, update: Parameters, site: int, round_number: int) -> Parameters:
        """Return the update plus noise that is its own for every site and round."""
        generator = numpy_generator(self.seed, "noise on an update", site, round_number)
        return {
            name: value + generator.normal(0, self.deviation, value.shape) for name, value in update.items()
        }


@dataclass(frozen=True)
class ScaleUpdate(UpdateMod):
    """Multiply an update by ``factor``: a negative one turns it against the others."""

    factor: float = 1.0

    def change(self, update: Parameters, site: int, round_number: int) -> Parameters:
        """Return the multiple."""
        return {name: self.factor * value for name, value in update.items()}


def check_kind(message: Message) -> None:
    """Raise `FederationError` unless a message is of one of Flower's kinds and nothing more.

    Flower hands "train.default" to the same function as "train", so that a server could have a site train
    behind the back of a mod that waits for "train".
    """
    kind = message.metadata.message_type
    if kind not in KINDS:
        raise FederationError(
            f"the server asks for '{one_line(kind)}', and this site answers to {', '.join(KINDS)} only; "
            "let the server send one of these."
        )


def check_plain(message: Message, reply: Message) -> Message:
    """Return the reply; raise `FederationError` if it holds other arrays than the message.

    Those of codes and masks are others, and hold no update that a mod could change.
    """
    trained = message.metadata.message_type == MessageType.TRAIN and reply.has_content()
    sent = reply.content.array_records if trained else {}
    received = message.content.array_records
    if sent and (set(sent) != {"arrays"} or not set(sent["arrays"]) <= set(received.get("arrays", {}))):
        raise FederationError(
            "the reply holds other arrays than the message, so that there is no update to change; put this "
            "mod after the one that codes or masks replies, nearer to the client."
        )
    return reply


def check_mods(mods: object, sites: int) -> None:
    """Raise `FederationError` if ``mods`` cannot stand around the client apps of that many sites."""
    if not isinstance(mods, Sequence):
        raise FederationError(f"mods={mods!r} is not a list; give a list of mods, such as [ClipUpdate()].")
    for mod in mods:
        if not is_mod(mod):
            raise FederationError(
                f"mods holds {mod!r}, which cannot be called with (message, context, call_next); give a "
                "function of these three, or one of hemafl_lib.federation.mods."
            )
        named = mod.sites if isinstance(mod, UpdateMod) and mod.sites else ()
        if outside := [number for number in named if number >= sites]:
            raise FederationError(
                f"{type(mod).__name__} names site {outside[0]}, which is not in this run; give numbers from "
                f"0 to {sites - 1}."
            )


def is_mod(mod: object) -> bool:
    """Return whether ``mod`` can be called as a mod, with three arguments."""
    if not callable(mod):
        return False
    try:
        inspect.signature(mod).bind("message", "context", "call_next")
    except TypeError:
        return False
    except ValueError:  # written in C: it does not tell its arguments
        return True
    return True


def update_of(sent: Parameters, received: Parameters) -> Parameters:
    """Return what a site has changed, float64 by array; integer arrays are counters, and no part of it."""
    return {
        name: value.astype(np.float64) - received[name]
        for name, value in sent.items()
        if not np.issubdtype(value.dtype, np.integer)
    }


def clip_update(update: Parameters, limit: float) -> Parameters:
    """Return the update scaled to a Euclidean norm of at most ``limit``, over all its arrays together."""
    norm = float(np.sqrt(sum(np.sum(value**2) for value in update.values())))
    return {name: value * min(1.0, limit / norm) if norm else value for name, value in update.items()}
