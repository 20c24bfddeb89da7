"""A federation's folder at the server, and the bundle that each hospital gets.

The folder holds the server's keys, the public key of every hospital that may take part, and a bundle a
hospital: a ZIP file with its private key, the certificate by which it knows the server, and who it is. A
bundle is as secret as a key.
"""

import json
import secrets
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from hemafl_lib.errors import FederationError
from hemafl_lib.federation.engines.deployment import keys
from hemafl_lib.federation.roster import LONGEST
from hemafl_lib.files import read_json, write_json
from hemafl_lib.secure import threshold_of
from hemafl_lib.settings import Settings, Whole

DESCRIPTION, SECRET, PRIVATE = "federation.json", "server.secret", "hospital.key"

LARGEST = 100_000
"""Bytes of the largest file in a bundle; a key or a certificate has a few thousand at most."""

PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How a bundle may be packed: these two are unpacked piece by piece, up to the size that was announced."""


@dataclass(frozen=True)
class Federation:
    """A federation's folder: where its server is reached, and the hospitals in the order of their numbers."""

    folder: Path
    address: str
    hospitals: tuple[str, ...]
    secure: bool

    @property
    def port(self) -> int:
        """The server's port."""
        return int(self.address.rpartition(":")[2])

    def public_key(self, hospital: str) -> bytes:
        """Return a hospital's public key (PEM)."""
        return (self.folder / "public" / f"{hospital}.pub").read_bytes()


@dataclass(frozen=True)
class Bundle(Settings):
    """What a hospital is told: the federation, its own name and number, and all hospitals' count."""

    ERROR: ClassVar[type[FederationError]] = FederationError

    federation: str
    address: str
    name: str
    number: Whole
    hospitals: Whole
    secure: bool


def create(folder: Path, hospitals: list[str], address: str, *, secure: bool) -> list[Path]:
    """Make a federation's folder, which must be new; return the bundles in the order of the hospitals.

    Parameters
    ----------
    folder
        Its name is that of the federation.
    hospitals
        Their names: letters, digits, "-" and "_".
    address
        "HOST:PORT", by which the hospitals reach the server.
    secure
        Whether the server is to see updates and statistics as sums only, for which there have to be at
        least three hospitals.

    Raises
    ------
    FederationError
        If the folder is there, or a name or the address will not do.
    PrivacyError
        If there are too few hospitals for ``secure``.
    """
    check_names(hospitals)
    host = check_address(address)
    if secure:
        threshold_of(None, len(hospitals))
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise FederationError(
            f"{folder} cannot be made ({error.strerror}); name a new folder for the federation."
        ) from None
    keys.make_certificates(folder, *dict.fromkeys([host, "localhost", "127.0.0.1"]))
    keys.write_secret(folder / SECRET, secrets.token_bytes(32))
    described = {"address": address, "hospitals": hospitals, "secure": secure}
    write_json(folder / DESCRIPTION, described)
    (folder / "public").mkdir()
    (folder / "bundles").mkdir(mode=0o700)
    return [
        write_bundle(folder, Bundle(folder.name, address, name, number, len(hospitals), secure))
        for number, name in enumerate(hospitals)
    ]


def check_names(hospitals: list[str]) -> None:
    """Raise `FederationError` unless each hospital has a plain name of its own."""
    for name in hospitals:
        if not name.replace("-", "").replace("_", "").isalnum() or len(name) > LONGEST:
            raise FederationError(f"the hospital's name '{name}' will not do; use letters, digits, - and _.")
    if len({name.casefold() for name in hospitals}) < len(hospitals) or not hospitals:
        raise FederationError(f"hospitals={','.join(hospitals)} must be names, each once.")


def check_address(address: str) -> str:
    """Return the host of "HOST:PORT"; raise `FederationError` if it is none."""
    host, _, port = address.rpartition(":")
    plain = host.isprintable() and not any(letter in host for letter in "/: ")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if not host or not plain or not 0 < number < 65536:
        raise FederationError(f"address='{address}' is no HOST:PORT; give one such as fl.example.org:9092.")
    return host


def write_bundle(folder: Path, bundle: Bundle) -> Path:
    """Make a hospital's key pair and its bundle; return the bundle's path."""
    private = folder / "bundles" / f"{bundle.name}.key"
    (folder / "public" / f"{bundle.name}.pub").write_bytes(keys.make_node_key(private))
    path = folder / "bundles" / f"{bundle.name}.zip"
    keys.write_secret(path, b"")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bundle.json", json.dumps(asdict(bundle), indent=1))
        archive.write(folder / keys.AUTHORITY, keys.AUTHORITY)
        archive.write(private, PRIVATE)
    private.unlink()
    return path


def open_federation(folder: Path) -> Federation:
    """Return the federation of a folder; raise `FederationError` if it holds none."""
    if not (folder / DESCRIPTION).is_file():
        raise FederationError(f"{folder} holds no federation; make one with 'hemafl federation init'.")
    described: dict[str, Any] = read_json(folder / DESCRIPTION)
    return Federation(
        folder.absolute(), described["address"], tuple(described["hospitals"]), described["secure"]
    )


def open_bundle(path: Path, into: Path) -> Bundle:
    """Unpack a bundle into a folder that only its owner may read; return what it tells.

    Raises `FederationError` if it is no bundle.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            told = Bundle(**json.loads(read_entry(archive, "bundle.json")))
            check_bundle(told)
            (into / keys.AUTHORITY).write_bytes(read_entry(archive, keys.AUTHORITY))
            keys.write_secret(into / PRIVATE, read_entry(archive, PRIVATE))
        return told
    except OSError as error:
        raise FederationError(
            f"the bundle {path} cannot be read ({error.strerror}); check the path."
        ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, TypeError, ValueError):
        # RuntimeError: it is encrypted, packed in an unknown way, or its JSON is nested without end
        raise FederationError(
            f"{path} is no bundle of a federation; ask its coordinator for yours."
        ) from None


def read_entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a file of a bundle; raise `zipfile.BadZipFile` if it is larger than any bundle's."""
    entry = archive.getinfo(name)
    if entry.file_size > LARGEST or entry.compress_type not in PACKED:
        raise zipfile.BadZipFile(f"{name} is too large, or packed in another way")
    return archive.read(entry)


def check_bundle(told: Bundle) -> None:
    """Raise `FederationError` unless a bundle tells what `create` writes."""
    check_names([told.name])
    check_address(told.address)
    if told.number >= told.hospitals:
        raise FederationError(f"number={told.number} must be below hospitals={told.hospitals}.")
