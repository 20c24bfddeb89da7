"""All arrays of a message end to end as one, since Flower carries each array as an object of its own.

A SuperLink spends some milliseconds on every object, for each site and both ways. The attention CNN has 37
arrays for its 34 thousand numbers, on which a SuperLink spends more than on the masks and shares.
"""

import json

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict

from hemafl_lib.errors import FederationError, PrivacyError
from hemafl_lib.federation.exchange import from_record, get_record, to_record

BUNDLE = "bundle"
"""The record, and its one array, that stand for all."""

LENGTH = 8
"""Bytes, in front of all else, that say how long the list of what follows is."""


def bundled(content: RecordDict) -> RecordDict:
    """Return the records with all arrays as one: uint8[N], a list in JSON before their bytes."""
    records = content.array_records
    form = {
        name: {key: (each.dtype, each.shape, each.stype, len(each.data)) for key, each in record.items()}
        for name, record in records.items()
    }
    head = json.dumps(form).encode()
    parts = [each.data for record in records.values() for each in record.values()]
    data = np.frombuffer(b"".join([len(head).to_bytes(LENGTH), head, *parts]), np.uint8)
    others = {name: record for name, record in content.items() if name not in records}
    return RecordDict({**others, BUNDLE: to_record({BUNDLE: data})})


def unbundled(content: RecordDict) -> RecordDict:
    """Return the records that `bundled` was given, to the byte; what is no bundle stays as it is.

    Raises `PrivacyError` if a bundle cannot be undone.
    """
    if BUNDLE not in content:
        return content
    records = {name: record for name, record in content.items() if name != BUNDLE}
    try:
        data = from_record(get_record(content, BUNDLE, ArrayRecord))[BUNDLE].tobytes()
        start = LENGTH + int.from_bytes(data[:LENGTH])
        for name, arrays in json.loads(data[LENGTH:start]).items():
            if name in content:
                raise ValueError("a record is both in the bundle and beside it, or is a bundle itself")
            records[name] = record = ArrayRecord()
            for key, (dtype, shape, kind, size) in arrays.items():
                if not 0 <= size <= len(data) - start:
                    raise ValueError("an array has more bytes than there are")
                record[key] = Array(str(dtype), tuple(shape), str(kind), data[start : start + size])
                start += size
    except (AttributeError, FederationError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise PrivacyError(
            f"the server's arrays cannot be told apart ({type(error).__name__}); let it run this library."
        ) from None
    return RecordDict(records)
