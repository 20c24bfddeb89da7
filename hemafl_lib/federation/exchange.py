"""What travels: the arrays of a model that clients and server exchange, as Flower records."""

import functools
import hashlib
import re
from collections.abc import Iterable
from io import BytesIO
from typing import TypeVar

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.lib.format import dtype_to_descr, read_array_header_2_0, write_array_header_1_0
from torch import nn

from hemafl_lib.aggregation import Parameters
from hemafl_lib.errors import FederationError, one_line, quote

Record = TypeVar("Record", ArrayRecord, ConfigRecord, MetricRecord)

NUMPY = Array(np.zeros(0)).stype
"""What Flower calls an array that travels as the bytes of an .npy file."""

NPY = b"\x93NUMPY"
"""The first bytes of an .npy file."""

WIDTH_OF_LENGTH = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
"""Bytes that state the length of the head, by the version of the .npy format."""


def exchanged_names(model: nn.Module, keep_local: str | None = None) -> tuple[str, ...]:
    """Return the names of the arrays that travel, in the order of the state dict.

    These are the trained parameters and the buffers of the layers that hold any. Frozen parameters
    and the buffers beside them are the same everywhere already. ``keep_local`` is a regular
    expression: the names that it finds stay at the site (FedBN, Li et al. 2021: the batch norms).
    """
    frozen_layers = {
        name
        for name, layer in model.named_modules()
        if (own := list(layer.parameters(recurse=False))) and not any(p.requires_grad for p in own)
    }
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    return tuple(
        name
        for name in model.state_dict()
        if name not in frozen
        and name.rpartition(".")[0] not in frozen_layers
        and not (keep_local and re.search(keep_local, name))
    )


def trained_names(model: nn.Module) -> frozenset[str]:
    """Return the names of the parameters that take gradient steps (buffers do not)."""
    return frozenset(name for name, value in model.named_parameters() if value.requires_grad)


def get_arrays(model: nn.Module, names: Iterable[str]) -> Parameters:
    """Return copies of the named arrays of a model, on the CPU."""
    state = model.state_dict()
    return {name: state[name].numpy(force=True).copy() for name in names}


@torch.no_grad()
def set_arrays(model: nn.Module, arrays: Parameters) -> None:
    """Copy arrays into a model, by name; raises KeyError for a name that the model lacks."""
    state = model.state_dict()
    for name, value in arrays.items():
        state[name].copy_(torch.from_numpy(np.array(value)))


def to_record(arrays: Parameters) -> ArrayRecord:
    """Return Flower's record of the arrays; raise ValueError if one holds Python objects."""
    record = ArrayRecord()
    for name, value in arrays.items():
        record[name] = write_array(value)
    return record


def write_array(value: np.ndarray) -> Array:
    """Return the array as Flower sends it: ``Array(value)`` to the byte, without composing its header.

    Flower's own ``Array`` composes the header from text, each time anew, which takes longer for small
    arrays than all else about a message.
    """
    if value.dtype.hasobject:
        return Array(value)
    columns_first = value.flags.f_contiguous and not value.flags.c_contiguous
    head = write_header(value.dtype, value.shape, columns_first)
    data = head + value.tobytes("F" if columns_first else "C")
    return Array(str(value.dtype), value.shape, NUMPY, data)


@functools.lru_cache(maxsize=1024)
def write_header(dtype: np.dtype, shape: tuple[int, ...], columns_first: bool) -> bytes:
    """Return the head of an .npy file of version 1."""
    head = BytesIO()
    described = {"descr": dtype_to_descr(dtype), "fortran_order": columns_first, "shape": shape}
    write_array_header_1_0(head, described)
    return head.getvalue()


def from_record(record: ArrayRecord) -> Parameters:
    """Return the arrays of Flower's record, read-only; raise `FederationError` if one cannot be read."""
    return {name: read_array(name, value) for name, value in record.items()}


def read_array(name: str, value: Array) -> np.ndarray:
    """Return the array that Flower sent as the bytes of an .npy file, without copying them.

    Flower's own ``Array.numpy`` parses the header as Python source, each time anew; for small arrays that
    takes longer than training, and a model has the same few headers in every message. It also opens an
    archive, and sets memory aside for whatever size a header states. Here nothing but numbers is read, and
    no more of them than there are bytes. Raises `FederationError` for anything else.
    """
    data = value.data
    if value.stype != NUMPY or data[:6] != NPY or data[6:8] not in WIDTH_OF_LENGTH:
        raise FederationError(f"array '{one_line(name)}' is not in the .npy format; send NumPy arrays.")
    start = 8 + (width := WIDTH_OF_LENGTH[data[6:8]])
    start += int.from_bytes(data[8:start], "little")
    try:
        shape, columns_first, dtype = read_header(data[8 + width : start])
        return np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if columns_first else "C")
    except Exception as error:  # bytes from elsewhere may make NumPy fail in any way
        raise FederationError(f"array '{one_line(name)}' is damaged: {quote(str(error))}.") from None


@functools.lru_cache(maxsize=1024)
def read_header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether columns come first, and dtype from the text in the head of an .npy file.

    The versions of the format differ in how long that text may be; what it says of numbers is the same.
    """
    return read_array_header_2_0(BytesIO(len(head).to_bytes(4, "little") + head))


def get_record(content: RecordDict, name: str, kind: type[Record]) -> Record:
    """Return a record of a message or of a site's state; raise `FederationError` if it is not there."""
    found = content.get(name)
    if not isinstance(found, kind):
        raise FederationError(f"the message holds no {kind.__name__} '{name}'; put one into its content.")
    return found


def byte_count(record: ArrayRecord) -> int:
    """Return the bytes of the arrays as they travel."""
    return sum(len(value.data) for value in record.values())


def parameter_hash(arrays: Parameters) -> str:
    """Return the SHA-256 over names, types, shapes and bytes: equal hashes mean equal bits."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = arrays[name]
        digest.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
