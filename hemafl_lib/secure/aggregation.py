"""Secure aggregation as a wire: the settings, and the site's end of it, a client mod."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Annotated, Any, ClassVar, cast

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from pydantic import Field

from hemafl_lib.aggregation import Aggregator, FedAvg
from hemafl_lib.errors import HemaflError, PrivacyError, one_line
from hemafl_lib.federation.client import whole_number
from hemafl_lib.federation.exchange import from_record, get_record, to_record
from hemafl_lib.federation.flower_private import ClientAppCallable
from hemafl_lib.federation.mods import check_kind
from hemafl_lib.federation.replies import EXAMPLES, NUMBER
from hemafl_lib.federation.wire import Wire, WireGrid, trained_arrays
from hemafl_lib.partition import Site
from hemafl_lib.secure.bundle import unbundled
from hemafl_lib.secure.grid import MASKED, SECURE, SUMMED, SecureGrid, asked_of, digest_of
from hemafl_lib.secure.keys import PublicKeys, digest
from hemafl_lib.secure.packing import pack_sums, pack_update
from hemafl_lib.secure.session import Party, threshold_of
from hemafl_lib.settings import Count, Positive, Settings

LAST = "secure-round"
"""Record of a site's state: the last round for which it has sent its update."""


@dataclass(frozen=True)
class SecureAggregation(Settings, Wire):
    """The server learns the weighted mean of the sites' updates, and no single one (Bonawitz et al. 2017).

    Use it as ``federation.run_over(SecureAggregation(), sites, ...)``. Each site must have the same settings,
    which are its own and not the server's.

    Attributes
    ----------
    threshold
        How many sites must stay to the end of a round; with fewer it is lost. None for more than half, and
        at least three. Against a server that lies and has c of n sites on its side it must exceed
        (n + c) / 2.
    bits
        Binary digits after the point of an update's coordinates; the mean is off by at most 2^-(bits + 1).
    limit
        Largest size of a coordinate. A site whose update is beyond it sends nothing and says so.
    weighted
        Whether a site counts by its examples; False for ``FedAvg(equal_weights=True)``.
    told
        Names of training metrics that each site tells the server as they are, such as "loss" or
        "num-examples"; without them the server knows none of a single site.

    Raises
    ------
    PrivacyError
        If a setting is not allowed.
    """

    ERROR: ClassVar[type[HemaflError]] = PrivacyError

    threshold: Count | None = None
    bits: Annotated[int, Field(ge=1, le=48)] = 32
    limit: Positive = 64.0
    weighted: bool = True
    told: tuple[str, ...] = ()

    def check(self, aggregator: Aggregator, sites: Sequence[Site]) -> None:
        """Raise `PrivacyError` if the sites are too few, or if the aggregator needs more than their mean."""
        threshold_of(self.threshold, len(sites))
        self.check_rule(aggregator)

    def check_rule(self, aggregator: Aggregator) -> None:
        """Raise `PrivacyError` if the aggregator needs more than the mean, or weighs sites otherwise."""
        rule = type(aggregator)
        means = (Aggregator.combine, FedAvg.combine)
        if rule.combine not in means or rule.combine_updates is not Aggregator.combine_updates:
            raise PrivacyError(
                f"aggregator={aggregator.name} needs the update of each site, and secure aggregation tells "
                "the server only their mean; choose FedAvg, FedAvgM, FedAdam, FedYogi or FedAdagrad."
            )
        if self.weighted == (isinstance(aggregator, FedAvg) and aggregator.equal_weights):
            raise PrivacyError(
                f"SecureAggregation(weighted={self.weighted}) and aggregator={aggregator!r} weigh sites "
                f"differently; give weighted={not self.weighted}."
            )

    def behind(self, grid: Grid) -> WireGrid:
        """Return the server's end of it."""
        return SecureGrid(grid, self.threshold, self.bits, self.limit)

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Take the session's next step; raise `PrivacyError` if it would tell what it must not."""
        check_kind(message)
        if message.metadata.message_type not in SUMMED:
            return call_next(message, context)
        if SECURE not in message.content:
            raise PrivacyError(
                "the server asks for this site's own update, which secure aggregation does not give; let the "
                "server use it too."
            )
        asked = get_record(message.content, SECURE, ConfigRecord)
        match asked.get("step"):
            case "keys":
                return self._keys(message, context, asked)
            case "deal":
                return self._deal(message, context, asked)
            case "mask":
                return self._mask(message, context, asked, call_next)
            case "agree":
                return self._agree(message, context, asked)
            case "reveal":
                return self._reveal(message, context, asked)
        raise PrivacyError(f"the server asks for the step {asked.get('step')!r}, which there is not.")

    def _keys(self, message: Message, context: Context, asked: ConfigRecord) -> Message:
        party = Party(told_by(asked, "session", bytes))
        keys = party.keys()
        keep(party, context)
        return answer(message, ConfigRecord({**vars(keys)}))

    def _deal(self, message: Message, context: Context, asked: ConfigRecord) -> Message:
        party = take(context, asked)
        columns = [told_by(asked, name, list) for name in ("mask", "seal", "commitment")]
        members = [PublicKeys(*each) for each in zip_longest(*columns)]
        sealed = party.deal(members, self.threshold)
        keep(party, context)
        return answer(message, ConfigRecord({"sealed": sealed}))

    def _mask(
        self, message: Message, context: Context, asked: ConfigRecord, call_next: ClientAppCallable
    ) -> Message:
        party = take(context, asked)
        party.accept(told_by(asked, "present", list), told_by(asked, "sealed", list))
        question = question_of(message, context)
        message.content = unbundled(message.content)
        training = message.metadata.message_type == MessageType.TRAIN
        if training:
            refuse_again(message, context)
        else:
            refuse_some(len(party.present), context)
        # For the mods within, such as `NoiseShare`; what the server calls so is written over.
        settings = {"threshold": party.threshold, "weighted": self.weighted}
        message.content[SECURE] = ConfigRecord({**dict(asked), **settings})
        reply = call_next(message, context)
        if not reply.has_content() or "arrays" not in reply.content:
            return without_numbers(reply, message)
        metrics = dict(get_record(reply.content, "metrics", MetricRecord))
        if training:
            sent, received = trained_arrays(message, reply)
            vector = pack_update(
                sent,
                received,
                cast(int, metrics[EXAMPLES]),
                weighted=self.weighted,
                bits=self.bits,
                limit=self.limit,
                parties=len(party.present),
            )
            form = ""
        else:
            vector, form = pack_sums(from_record(get_record(reply.content, "arrays", ArrayRecord)))
        masked = party.mask(vector, question)
        keep(party, context)
        told = {name: value for name, value in metrics.items() if name in (NUMBER, *self.told)}
        found = ConfigRecord({"form": form, "question": question})
        content = RecordDict({"metrics": MetricRecord(told), SECURE: found})
        content["arrays"] = to_record({MASKED: masked})
        content["site"] = get_record(reply.content, "site", ConfigRecord)
        return Message(content, reply_to=message)

    def _agree(self, message: Message, context: Context, asked: ConfigRecord) -> Message:
        party = take(context, asked)
        tags = party.agree(told_by(asked, "survivors", list))
        keep(party, context)
        return answer(message, ConfigRecord({"tags": tags}))

    def _reveal(self, message: Message, context: Context, asked: ConfigRecord) -> Message:
        party, survivors = take(context, asked), told_by(asked, "survivors", list)
        if message.metadata.message_type != MessageType.TRAIN:
            refuse_some(len(survivors), context)
        tags = told_by(asked, "tags", list) if "tags" in asked else []
        return answer(message, ConfigRecord({"shares": party.reveal(survivors, tags)}))


def keep(party: Party, context: Context) -> None:
    """Keep what a site knows in the session until the next message, in the site's own state."""
    context.state[SECURE] = ConfigRecord({**vars(party)})


def take(context: Context, asked: ConfigRecord) -> Party:
    """Return what the site knows in the session, and forget it: a step that fails ends the session here.

    Raises `PrivacyError` if the session is another.
    """
    kept = dict(context.state.config_records.pop(SECURE, ConfigRecord()))
    if kept.get("session") != asked.get("session") or not kept:
        raise PrivacyError("this site is in no such session, or has left it; begin another round.")
    return Party(**kept)  # type: ignore[arg-type]


def told_by(asked: ConfigRecord, name: str, kind: type) -> Any:
    """Return a value of the server's record; raise `PrivacyError` if it is not of that kind."""
    value = asked.get(name)
    if not isinstance(value, kind):
        raise PrivacyError(
            f"the server's message holds no {kind.__name__} '{name}'; let it run this library."
        )
    return value


def answer(message: Message, record: ConfigRecord) -> Message:
    """Return the reply of a step that brings no arrays."""
    return Message(RecordDict({SECURE: record}), reply_to=message)


def without_numbers(reply: Message, message: Message) -> Message:
    """Return a reply that brings no arrays as it may be told: who it is of, and why.

    Raises `PrivacyError` if it brings arrays under another name, which would pass as they are.
    """
    if not reply.has_content():
        return reply
    if reply.content.array_records:
        raise PrivacyError(
            f"its arrays are called '{one_line(next(iter(reply.content.array_records)))}', and only what is "
            "called 'arrays' is masked; let the client app call them so."
        )
    metrics = reply.content.metric_records.get("metrics", MetricRecord())
    told = RecordDict(dict(reply.content.config_records.items()))
    told["metrics"] = MetricRecord({name: value for name, value in metrics.items() if name == NUMBER})
    return Message(told, reply_to=message)


def question_of(message: Message, context: Context) -> bytes:
    """Return a digest of all that a server tells a site before it answers.

    That is the message's kind, its records as they travelled, whoever reads them and when, and the run's
    settings, which a SuperLink sends beside the messages and could send to each site otherwise.
    """
    kind = message.metadata.message_type.encode()
    return digest(kind, digest_of(asked_of(message.content)), digest_of({"run": context.run_config}))


def refuse_again(message: Message, context: Context) -> None:
    """Note the round; raise `PrivacyError` if it is no later than the last.

    Two sums of the same updates over different sites would differ by what one of them sent.
    """
    number = whole_number(get_record(message.content, "config", ConfigRecord), "server-round")
    last = cast(int, context.state.config_records.get(LAST, ConfigRecord({"round": 0}))["round"])
    if number <= last:
        raise PrivacyError(
            f"the server asks for the update of round {number} after that of round {last}; a second sum over "
            "other sites would tell what one of them sent, so ask who runs the server."
        )
    context.state[LAST] = ConfigRecord({"round": number})


def refuse_some(count: int, context: Context) -> None:
    """Raise `PrivacyError` unless a statistic is summed over all sites, of which the node was told how many.

    A statistic can be asked again, and two sums over different sites differ by what one of them sent.
    """
    every = context.node_config.get("num-partitions")
    if count != every:
        raise PrivacyError(
            f"the server sums a statistic over {count} sites, and this node was told of {every}; start each "
            "node with --node-config 'num-partitions=N', and ask who runs the server if N is right."
        )
