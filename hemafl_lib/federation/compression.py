"""Updates in fewer bytes: each number in 8 bits, or only the largest numbers.

Both are a `Wire`: a site codes its update, the server's end reads it back before the strategy looks. What the
code loses can be kept at the site and added to the next update (**error feedback**), so that over the rounds
everything is sent (Seide et al. 2014; Stich et al. 2018), but for replies that do not arrive or are refused:
a site hears nothing of these. Counters and batch norm's running statistics, which are few and must stay what
they are, travel as they are.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType
from flwr.serverapp import Grid
from pydantic import Field

from hemafl_lib.aggregation import Parameters
from hemafl_lib.errors import FederationError, HemaflError
from hemafl_lib.federation.casting import fitted
from hemafl_lib.federation.client import partition_of, whole_number
from hemafl_lib.federation.exchange import from_record, get_record, to_record
from hemafl_lib.federation.flower_private import ClientAppCallable, node_absence
from hemafl_lib.federation.mods import check_kind, update_of
from hemafl_lib.federation.wire import Wire, WireGrid, flat, stand_in, trained_arrays, unflat
from hemafl_lib.seeds import numpy_generator
from hemafl_lib.settings import Settings

CODED = "coded"
"""Record of a reply: the arrays of the code."""

KEPT = "not-sent"
"""Record of a site's state: what the codes of earlier rounds have lost."""

STATISTICS = ("running_mean", "running_var")
"""Ends of the names of batch norm's running statistics; an error could make a variance negative."""

LEVELS = 255
"""Steps between the lowest and the highest number of an array in 8 bits."""


@dataclass(frozen=True)
class Compression(Settings, Wire):
    """What the codes have in common; a subclass says how a vector is coded and read.

    Attributes
    ----------
    feedback
        Whether a site adds to an update what the codes of earlier rounds have lost.
    """

    ERROR: ClassVar[type[HemaflError]] = FederationError

    feedback: bool = field(default=True, kw_only=True)

    @abstractmethod
    def code(self, vector: np.ndarray, ends: np.ndarray, generator: np.random.Generator) -> Parameters:
        """Return the arrays of a vector's code.

        ``vector`` is float64[N], the numbers of all arrays end to end, and ``ends`` int64[arrays] says where
        each of them ends.
        """

    @abstractmethod
    def read(self, coded: Parameters, ends: np.ndarray) -> np.ndarray:
        """Return the vector of a code, float64[N]; raise `FederationError` if it is none of this size."""

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Return the client's reply, with its update coded if it has trained."""
        check_kind(message)
        reply = call_next(message, context)
        trained = message.metadata.message_type == MessageType.TRAIN
        if not (trained and reply.has_content() and "arrays" in reply.content):
            return reply
        sent, received = trained_arrays(message, reply)
        like = coded_arrays(received)
        vector, ends = flat(update_of({name: sent[name] for name in like}, like)), ends_of(like)
        if self.feedback and KEPT in context.state:
            vector += kept_update(context, vector.size)
        round_number = whole_number(get_record(message.content, "config", ConfigRecord), "server-round")
        coded = self.code(vector, ends, self._generator(partition_of(context), round_number))
        if self.feedback:
            context.state[KEPT] = to_record({"update": vector - self.read(coded, ends)})
        reply.content["arrays"] = to_record({name: v for name, v in sent.items() if name not in like})
        reply.content[CODED] = to_record(coded)
        return reply

    def behind(self, grid: Grid) -> WireGrid:
        """Return the server's end of it."""
        return ReadingGrid(grid, self)

    def decoded(self, coded: Parameters, whole: Parameters, received: Parameters) -> Parameters:
        """Return a site's arrays from its code, those that came whole, and what it had received.

        Raises `FederationError` if they do not fit together.
        """
        like = coded_arrays(received)
        update = unflat(self.read(coded, ends_of(like)), like)
        moved = {name: (like[name] + value).astype(like[name].dtype) for name, value in update.items()}
        return fitted(whole | moved, received)

    def _generator(self, site: int, round_number: int) -> np.random.Generator:
        """Return the generator of a site's draws in a round; a code that draws has a seed."""
        return numpy_generator(getattr(self, "seed", 0), "compression", site, round_number)


@dataclass(frozen=True)
class Quantise(Compression):
    """Send each number as one byte: one of 256 levels between the lowest and the highest of its array.

    Attributes
    ----------
    rounding
        "nearest" level, off by at most half a step, or "stochastic": the one below or above by chance, off by
        at most a step and by nothing on average (Alistarh et al. 2017).
    seed
        Of the draws.
    """

    rounding: Literal["nearest", "stochastic"] = "stochastic"
    seed: int = 0

    def code(self, vector: np.ndarray, ends: np.ndarray, generator: np.random.Generator) -> Parameters:
        """Return ``levels`` uint8[N], and ``lowest`` and ``step`` float32[arrays]."""
        parts = np.split(vector, ends[:-1]) if len(ends) else []
        lowest = np.array([part.min() if part.size else 0.0 for part in parts], np.float32)
        highest = np.array([part.max() if part.size else 0.0 for part in parts])
        step = ((highest - lowest) / LEVELS).astype(np.float32)
        sizes = np.diff(ends, prepend=0)
        steps = np.repeat(step.astype(np.float64), sizes)
        height = np.divide(
            vector - np.repeat(lowest, sizes), steps, where=steps > 0, out=np.zeros(len(vector))
        )
        up = generator.random(len(vector)) if self.rounding == "stochastic" else 0.5
        return {
            "levels": np.floor(height + up).clip(0, LEVELS).astype(np.uint8),
            "lowest": lowest,
            "step": step,
        }

    def read(self, coded: Parameters, ends: np.ndarray) -> np.ndarray:
        """Return lowest + step * level for each number."""
        count = len(ends)
        like = {"levels": np.zeros(ends[-1] if count else 0, np.uint8)}
        like |= {name: np.zeros(count, np.float32) for name in ("lowest", "step")}
        coded, sizes = fitted(coded, like), np.diff(ends, prepend=0)
        lowest, step = (np.repeat(coded[name].astype(np.float64), sizes) for name in ("lowest", "step"))
        return lowest + step * coded["levels"]


@dataclass(frozen=True)
class TopK(Compression):
    """Send the numbers of the largest size, and where they belong (Aji and Heafield 2017).

    Attributes
    ----------
    share
        Which share of all numbers is sent, in (0, 1]; at least one. Each takes 8 bytes.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 0.05

    def code(self, vector: np.ndarray, ends: np.ndarray, generator: np.random.Generator) -> Parameters:
        """Return ``places`` uint32[K] in order, and ``values`` float32[K]."""
        count = int(np.ceil(self.share * len(vector)))
        places = np.sort(np.argsort(-np.abs(vector), kind="stable")[:count]).astype(np.uint32)
        return {"places": places, "values": vector[places].astype(np.float32)}

    def read(self, coded: Parameters, ends: np.ndarray) -> np.ndarray:
        """Return the values at their places, and 0 elsewhere."""
        size = int(ends[-1]) if len(ends) else 0
        count = int(np.ceil(self.share * size))
        coded = fitted(coded, {"places": np.zeros(count, np.uint32), "values": np.zeros(count, np.float32)})
        places = coded["places"].astype(np.int64)
        if (np.diff(places) <= 0).any() or (places >= size).any():
            raise FederationError("'places' are not in order, or beyond the arrays")
        vector = np.zeros(size)
        vector[places] = coded["values"]
        return vector


class ReadingGrid(WireGrid):
    """The server's end: replies are read back into arrays, as if they had never been coded."""

    def __init__(self, grid: Grid, compression: Compression) -> None:
        super().__init__(grid)
        self.compression = compression

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Return the replies; one whose code cannot be read is an error that says why."""
        asked = {message.metadata.dst_node_id: message for message in messages}
        replies = self.carry(list(asked.values()), timeout)
        return [self._read(asked[node], reply) for node, reply in replies.items()]

    def _read(self, message: Message, reply: Message) -> Message:
        if not reply.has_content() or CODED not in reply.content:
            return reply
        try:
            received, coded, whole = (
                from_record(get_record(each.content, name, ArrayRecord))
                for each, name in ((message, "arrays"), (reply, CODED), (reply, "arrays"))
            )
            return stand_in(message, reply, self.compression.decoded(coded, whole, received))
        except FederationError as error:
            return node_absence(message, str(error))


def coded_arrays(arrays: Mapping[str, np.ndarray]) -> Parameters:
    """Return the arrays of numbers that may be off a little, in the order of their names."""
    return {
        name: arrays[name]
        for name in sorted(arrays)
        if arrays[name].dtype.kind == "f" and not name.endswith(STATISTICS)
    }


def kept_update(context: Context, size: int) -> np.ndarray:
    """Return what the codes of earlier rounds have lost, float64[size].

    Raises `FederationError` if it is of another model: Flower hands a site's state on from run to run.
    """
    kept = from_record(get_record(context.state, KEPT, ArrayRecord))["update"]
    if kept.shape != (size,):
        raise FederationError(
            f"this site keeps {kept.size} numbers of another model's updates, and this one has {size}; begin "
            "a new series of runs."
        )
    return kept


def ends_of(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return where each array ends when all lie end to end, int64[arrays]."""
    return np.cumsum([arrays[name].size for name in sorted(arrays)], dtype=np.int64)
