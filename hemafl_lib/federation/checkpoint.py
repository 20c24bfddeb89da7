"""A run that was interrupted goes on from its last finished round, to the same bits.

One safetensors file holds the global arrays, the server optimiser's state, what the sites keep, and
the history so far. It is replaced as a whole after each round, so it is never half a round.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hemafl_lib.aggregation import Parameters, State
from hemafl_lib.errors import FederationError
from hemafl_lib.federation.exchange import from_record, to_record
from hemafl_lib.files import replacing

PLAIN_RECORDS = {"metric": MetricRecord, "config": ConfigRecord}


@dataclass
class Checkpoint:
    """Everything that a run needs to go on after round ``round``.

    ``fingerprint`` tells runs apart; ``site_states`` maps a site's number to its Flower state.
    """

    fingerprint: str
    round: int
    arrays: Parameters
    server_state: State | None
    site_states: dict[int, RecordDict] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    bytes_sent: int = 0
    aggregated_rounds: int = 0


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Replace the file at ``path`` by this checkpoint."""
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
        "fingerprint": checkpoint.fingerprint,
        "round": checkpoint.round,
        "has_server_state": checkpoint.server_state is not None,
        "plain": plain,
        "history": checkpoint.history,
        "refused": checkpoint.refused,
        "bytes_sent": checkpoint.bytes_sent,
        "aggregated_rounds": checkpoint.aggregated_rounds,
    }
    contiguous = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    with replacing(path) as temporary:
        save_file(contiguous, temporary, metadata={"checkpoint": json.dumps(head)})


def read_checkpoint(path: Path, fingerprint: str) -> Checkpoint:
    """Read a checkpoint; raise `FederationError` if it is damaged or belongs to another run."""
    try:
        with safe_open(path, framework="np") as file:
            head = json.loads(file.metadata()["checkpoint"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FederationError(f"checkpoint {path} is damaged ({error}); delete it to start again.") from None
    if head["fingerprint"] != fingerprint:
        raise FederationError(f"checkpoint {path} belongs to another run; delete it or name another file.")
    return Checkpoint(
        fingerprint=fingerprint,
        round=head["round"],
        arrays=_under(tensors, "global"),
        server_state=_server_state(tensors) if head["has_server_state"] else None,
        site_states={
            int(site): _site_state(site, tensors, records) for site, records in head["plain"].items()
        },
        history=head["history"],
        refused=head["refused"],
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


def _site_state(site: str, tensors: Parameters, plain: dict[str, dict]) -> RecordDict:
    values = _under(tensors, f"site|{site}")
    state = RecordDict({name: to_record(_under(values, name)) for name in _slots(values)})
    for kind, records in plain.items():
        for name, record in records.items():
            state[name] = PLAIN_RECORDS[kind](record)
    return state
