"""Keys and certificates of one federation: made for it, and worthless after it.

The server proves who it is by a certificate that an authority made for it has signed; the
authority's own key is never written. Each node proves who it is by a key pair whose public half the
server knows before the node starts.
"""

import os
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

AUTHORITY, CERTIFICATE, KEY = "authority.crt", "server.crt", "server.key"
"""Files: what clients trust, and what belongs to the server."""


def make_certificates(folder: Path, *names: str) -> None:
    """Make an authority and a server's certificate, and write `AUTHORITY`, `CERTIFICATE` and `KEY`.

    ``names`` are those by which the server is called, by default localhost and 127.0.0.1.
    """
    authority = trustme.CA()
    server = authority.issue_cert(*(names or ("localhost", "127.0.0.1")))
    authority.cert_pem.write_to_path(folder / AUTHORITY)
    server.cert_chain_pems[0].write_to_path(folder / CERTIFICATE)
    write_secret(folder / KEY, server.private_key_pem.bytes())


def make_node_key(path: Path) -> bytes:
    """Write a node's private key to ``path``; return its public key as the server registers it (PEM)."""
    key, pem = ec.generate_private_key(ec.SECP384R1()), serialization.Encoding.PEM
    openssh = serialization.PrivateFormat.OpenSSH
    write_secret(path, key.private_bytes(pem, openssh, serialization.NoEncryption()))
    return key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)


def write_secret(path: Path, secret: bytes) -> None:
    """Write a new file that only its owner may read."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secret)
