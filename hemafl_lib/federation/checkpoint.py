"""A run that was interrupted goes on from its last finished round, to the same bits.

One safetensors file holds the global arrays, the server optimiser's state, what the sites keep, and
the history so far. It is replaced as a whole after each round, so it is never half a round; a checksum
tells whether it was changed since.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from pydantic import Field, TypeAdapter, with_config
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from typing_extensions import TypedDict

from hemafl_lib.aggregation import Parameters, State
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.exchange import from_record, parameter_hash, to_record
from hemafl_lib.federation.fingerprint import Parts, difference
from hemafl_lib.files import check_target, replace_file
from hemafl_lib.settings import Whole

FORMAT = 2
"""The number of what is written here: it goes up whenever an older file could not be gone on from."""

PLAIN_RECORDS = {"metric": MetricRecord, "config": ConfigRecord}


@dataclass
class Checkpoint:
    """Everything that a run needs to go on after round ``round``.

    ``parts`` tells runs apart; ``site_states`` maps a site's number to its Flower state.
    """

    parts: Parts
    round: int
    arrays: Parameters
    server_state: State | None
    site_states: dict[int, RecordDict] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    bytes_sent: int = 0
    aggregated_rounds: int = 0


@with_config(extra="forbid", strict=True)
class MetricRow(TypedDict):
    """A row of the history."""

    round: Whole
    phase: str
    site: str
    metric: str
    value: int | float


@with_config(extra="forbid", strict=True)
class RefusedRow(TypedDict):
    """A reply that was not used."""

    round: Whole
    phase: str
    site: str
    reason: str


SiteNumber = Annotated[str, Field(pattern=r"^(0|[1-9]\d{0,8})$")]


@with_config(extra="forbid", strict=True)
class Head(TypedDict):
    """What a checkpoint holds beside the arrays."""

    format: Literal[2]
    parts: dict[str, str]
    round: Whole
    has_server_state: bool
    plain: dict[SiteNumber, dict[Literal["metric", "config"], dict[str, dict[str, Any]]]]
    history: list[MetricRow]
    refused: list[RefusedRow]
    bytes_sent: Whole
    aggregated_rounds: Whole


HEAD = TypeAdapter(Head)


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Replace the file at ``path`` by this checkpoint.

    Raises
    ------
    DataError
        If the file cannot be written; it names where the checkpoint is instead.
    FederationError
        If a mod or trainer keeps something at its site that the file could not hold.
    """
    tensors = {f"global|{name}": value for name, value in checkpoint.arrays.items()}
    for slot, values in (checkpoint.server_state or {}).items():
        tensors |= {f"server|{slot}|{name}": value for name, value in values.items()}
    plain: dict[str, dict] = {}
    for site, state in checkpoint.site_states.items():
        for record_name, record in state.array_records.items():
            tensors |= {f"site|{site}|{record_name}|{k}": v for k, v in from_record(record).items()}
        plain[str(site)] = {
            "metric": {k: dict(v) for k, v in state.metric_records.items()},
            "config": {k: dict(v) for k, v in state.config_records.items()},
        }
    head = {
        "format": FORMAT,
        "parts": checkpoint.parts,
        "round": checkpoint.round,
        "has_server_state": checkpoint.server_state is not None,
        "plain": plain,
        "history": checkpoint.history,
        "refused": checkpoint.refused,
        "bytes_sent": checkpoint.bytes_sent,
        "aggregated_rounds": checkpoint.aggregated_rounds,
    }
    contiguous = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    try:
        text = json.dumps(head)
    except TypeError as error:
        raise FederationError(
            f"a checkpoint cannot hold what a mod or trainer keeps at its site ({error}); let it keep "
            "numbers, texts and arrays."
        ) from None
    described = {"checkpoint": text, "checksum": checksum(text, contiguous)}
    replace_file(path, lambda temporary: save_file(contiguous, temporary, metadata=described), rescue=True)


def checksum(text: str, tensors: Parameters) -> str:
    """Return the SHA-256 of all that a checkpoint holds."""
    return hashlib.sha256(f"{text}{parameter_hash(tensors)}".encode()).hexdigest()


def find_checkpoint(path: Path, start: Checkpoint) -> Checkpoint | None:
    """Return the checkpoint at ``path``, or None if there is nothing yet.

    ``start`` is what a run starts from, with the number of all its rounds: whose parts the checkpoint must
    have, and arrays of whose names and shapes.

    Raises
    ------
    DataError
        If ``path`` could not be written.
    FederationError
        If it is no checkpoint, is damaged, or belongs to another run.
    """
    check_target(path)
    if not path.exists():
        return None
    saved = read_checkpoint(path)
    if (differ := difference(start.parts, saved.parts)) is not None:
        raise FederationError(
            f"checkpoint {path} belongs to another run, which differs in {differ}; name another file, or "
            "delete it to start again."
        )
    if not fits(saved, start):
        raise damaged(path, "it does not hold what this run would have written")
    return saved


def fits(saved: Checkpoint, start: Checkpoint) -> bool:
    """Return whether a checkpoint could have been written by the run that begins with ``start``."""
    begun, kept = start.server_state or {}, saved.server_state
    return (
        saved.aggregated_rounds <= saved.round <= start.round
        and shapes(saved.arrays) == shapes(start.arrays)
        and (kept is None) == (saved.aggregated_rounds == 0)
        and (kept is None or all(shapes(kept.get(slot, {})) == shapes(begun[slot]) for slot in begun))
    )


def shapes(arrays: Parameters) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array."""
    return {name: value.shape for name, value in arrays.items()}


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what `write_checkpoint` wrote; raise `FederationError` if it is anything else, or damaged."""
    try:
        with safe_open(path, framework="np") as file:
            described = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise damaged(path, f"it cannot be read: {error}") from None
    if "checkpoint" not in described:
        raise FederationError(f"{path} is there and is no checkpoint; name another file.")
    text = described["checkpoint"]
    check_format(path, text)
    if described.get("checksum") != checksum(text, tensors):
        raise damaged(path, "its checksum does not fit")
    try:
        return restore(HEAD.validate_json(text), tensors)
    except (TypeError, ValueError) as error:
        raise damaged(path, str(error).partition("\n")[0]) from None


def check_format(path: Path, text: str) -> None:
    """Raise `FederationError` if a checkpoint was written by another version of the library."""
    try:
        head = json.loads(text)
    except (ValueError, RecursionError):
        raise damaged(path, "its head is no JSON") from None
    found = head.get("format", 1) if isinstance(head, dict) else None
    if not isinstance(found, int):
        raise damaged(path, "it does not say its format")
    if found != FORMAT:
        age = "an older" if found < FORMAT else "a newer"
        raise FederationError(
            f"checkpoint {path} was written by {age} version of hemafl_lib (format {found} instead of "
            f"{FORMAT}); end the run with that version, or delete the file to start again."
        )


def damaged(path: Path, reason: str) -> FederationError:
    """Return the error for a checkpoint that cannot be gone on from."""
    return FederationError(
        f"checkpoint {path} is damaged or is something else ({reason}); name another file, or delete it to "
        "start again."
    )


def restore(head: Head, tensors: Parameters) -> Checkpoint:
    """Return the checkpoint that a file held."""
    return Checkpoint(
        parts=head["parts"],
        round=head["round"],
        arrays=_under(tensors, "global"),
        server_state=_server_state(tensors) if head["has_server_state"] else None,
        site_states={
            int(site): _site_state(site, tensors, records) for site, records in head["plain"].items()
        },
        history=[dict(row) for row in head["history"]],
        refused=[dict(row) for row in head["refused"]],
        bytes_sent=head["bytes_sent"],
        aggregated_rounds=head["aggregated_rounds"],
    )


def _under(tensors: Parameters, prefix: str) -> Parameters:
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(prefix + "|")}


def _slots(tensors: Parameters) -> list[str]:
    return sorted({name.split("|")[0] for name in tensors})


def _server_state(tensors: Parameters) -> State:
    values = _under(tensors, "server")
    return {slot: _under(values, slot) for slot in _slots(values)}


def _site_state(site: str, tensors: Parameters, plain: Mapping[Any, dict]) -> RecordDict:
    values = _under(tensors, f"site|{site}")
    state = RecordDict({name: to_record(_under(values, name)) for name in _slots(values)})
    for kind, records in plain.items():
        for name, record in records.items():
            state[name] = PLAIN_RECORDS[kind](record)
    return state
