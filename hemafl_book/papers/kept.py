"""Finished pieces of an experiment, kept in a folder: a run that was interrupted goes on from them.

Beside the pieces stands `ABOUT`, which says what decides their numbers; a folder of anything else is refused.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from hemafl_book.fingerprint import Fingerprint
from hemafl_book.papers.arms import Tables
from hemafl_book.papers.where import Where
from hemafl_book.results import describe_device, installed_versions, plain
from hemafl_lib.data.cohort import Provenance
from hemafl_lib.errors import DataError
from hemafl_lib.files import read_json, write_json

ABOUT = "about.json"
"""The file that says what the pieces of a folder were computed from, and by what."""

OTHER = {
    "protocol": "another protocol",
    "data": "other data",
    "code": "other code",
    "versions": "other versions of packages",
    "device": "another device",
}
"""What is said of a folder whose `ABOUT` differs in a field."""


@dataclass(frozen=True)
class KeptPiece:
    """The tables of one study with one seed, the seconds that they took, and whether they were held."""

    tables: Tables
    seconds: float
    held: bool = True


@dataclass(frozen=True)
class Kept:
    """The pieces in a folder; without a ``folder`` nothing is kept.

    ``about`` is the checksum of what they are computed from, and by.
    """

    folder: Path | None
    about: str = ""

    def read(self, title: str, seed: int) -> KeptPiece | None:
        """Return a piece, None if it is not there.

        Raises `DataError` if its file is damaged, was edited, or came from another folder.
        """
        if self.folder is None or not (path := path_of(self.folder, title, seed)).exists():
            return None
        content = read_json(path)
        held = content.pop("checksum", None) if isinstance(content, dict) else None
        if held != checksum(content) or content["of"] != self.key(title, seed):
            raise DataError(f"{path} is damaged or was changed; delete it, and that piece is computed again.")
        tables = {name: read_table(columns) for name, columns in content["tables"].items()}
        return KeptPiece(tables, content["seconds"])

    def write(self, title: str, seed: int, tables: Tables, *, seconds: float) -> None:
        """Keep a piece."""
        if self.folder is not None:
            columns = {name: plain_table(table) for name, table in tables.items()}
            content = {"of": self.key(title, seed), "seconds": seconds, "tables": columns}
            write_json(path_of(self.folder, title, seed), {**content, "checksum": checksum(content)})

    def key(self, title: str, seed: int) -> dict[str, Any]:
        """Return what a piece is a piece of."""
        return {"about": self.about, "study": title, "seed": seed}


def open_kept(
    where: Where, protocol: Mapping[str, Any], data: Sequence[Provenance], code: Fingerprint
) -> Kept:
    """Return the pieces in the folder that ``where`` names, which is made if need be.

    Raises `DataError` if it holds anything else than pieces of this protocol, data, code and device.
    """
    folder = where.checkpoint
    if folder is None:
        return Kept(None)
    about = plain(
        {
            "protocol": protocol,
            "data": [{"name": source.name, "checksum": source.checksum} for source in data],
            "code": code,
            "versions": installed_versions(),
            "device": describe_device(where.device),
        }
    )
    if (folder / ABOUT).exists():
        check_about(folder, read_json(folder / ABOUT), about)
    elif folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} holds other files; name a new folder for what is finished.")
    else:
        write_json(folder / ABOUT, about)
    return Kept(folder, checksum(about))


def check_about(folder: Path, held: Any, about: Mapping[str, Any]) -> None:
    """Raise `DataError` if the pieces of a folder were computed from, or by, something else."""
    for name, other in OTHER.items():
        if not isinstance(held, dict) or held.get(name) != about[name]:
            raise DataError(f"{folder} keeps pieces of {other}; name another folder, or remove it.")


def checksum(content: Any) -> str:
    """Return the SHA-256 of plain JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def path_of(folder: Path, title: str, seed: int) -> Path:
    """Return the file of a piece."""
    return folder / f"{quote(title, safe=' ,')}, seed {seed}.json"


def plain_table(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table as plain JSON values that `read_table` makes equal to it, to the last digit."""
    return [
        {"name": name, "type": str(column.dtype), "values": [plain_value(v) for v in column.tolist()]}
        for name, column in table.items()
    ]


def plain_value(value: Any) -> Any:
    """Return a value for JSON, which knows no infinity and no missing number: these become words."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def read_table(columns: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the table of its plain JSON values."""
    read = {"float64": float}
    return pd.DataFrame(
        {
            column["name"]: pd.Series(
                [read.get(column["type"], lambda value: value)(value) for value in column["values"]],
                dtype=column["type"],
            )
            for column in columns
        }
    )
