"""Keys of one session: two sites agree on a secret that the server between them does not learn.

Key agreement is X25519, key derivation HKDF with SHA-256, sealing ChaCha20-Poly1305, and a mask is the
keystream of AES-256 in counter mode; all are those of the package ``cryptography``. Secrets are drawn by the
system's generator and not from a seed, unlike every other draw of the library: what can be drawn again could
be drawn by the server too.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hemafl_lib.errors import PrivacyError
from hemafl_lib.secure.fixed_point import Vector

KEY = 32
"""Bytes of every key, seed and commitment."""

FIELD = 2**255 - 19
"""X25519 takes a number modulo this, so that a larger one would be the same key in other bytes."""

NONCE = bytes(12)
"""A key of this module seals one text, so its nonce need not differ."""

SEAL = 16
"""Bytes by which a sealed text is longer than what it holds."""


@dataclass(frozen=True)
class PublicKeys:
    """What a site shows of itself in one session: 32 bytes each.

    ``mask`` is for the pairwise masks, ``seal`` for the shares that pass through the server, and
    ``commitment`` is the SHA-256 of the seed of its own mask.
    """

    mask: bytes
    seal: bytes
    commitment: bytes

    def __post_init__(self) -> None:
        """Raise `PrivacyError` unless each has 32 bytes, and two sites can agree on a secret by the keys."""
        for name, value in vars(self).items():
            if not isinstance(value, bytes) or len(value) != KEY:
                raise PrivacyError(f"its {name} key is not {KEY} bytes; let it run this library.")
        for name in ("mask", "seal"):
            if not is_public_key(getattr(self, name)):
                raise PrivacyError(f"its {name} key is none of X25519; let it run this library.")


def new_secret() -> bytes:
    """Return 32 bytes from the system's generator: a private key, or the seed of a mask."""
    return secrets.token_bytes(KEY)


def public_key(secret: bytes) -> bytes:
    """Return the public key of a private one."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def is_public_key(public: bytes) -> bool:
    """Tell whether 32 bytes are a public key, written in the one way, by which not everybody agrees."""
    if int.from_bytes(public, "little") >= FIELD:
        return False
    try:  # a key of low order gives the same secret with every private one, so any will do
        X25519PrivateKey.from_private_bytes(bytes(KEY)).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return False
    return True


def commitment(seed: bytes) -> bytes:
    """Return what fixes a seed without telling it."""
    return hashlib.sha256(seed).digest()


def agreed_keys(
    secret: bytes, publics: Iterable[bytes], about: bytes, purpose: str, length: int = KEY
) -> list[bytes]:
    """Return the keys that who has ``secret`` has in common with the owners of public keys.

    Both come to the same bytes if they agree on what they are ``about`` and on the purpose; nobody else does.
    Raises `PrivacyError` for a public key with which everybody would.
    """
    own, info = X25519PrivateKey.from_private_bytes(secret), f"hemafl {purpose}".encode()
    keys = []
    for public in publics:
        try:
            shared = own.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise PrivacyError("a public key is none of X25519; let every site run this library.") from None
        keys.append(HKDF(SHA256(), length, salt=about, info=info).derive(shared))
    return keys


def seal(key: bytes, text: bytes, about: bytes) -> bytes:
    """Return a text that only who has the key can read; ``about`` is bound to it and not hidden."""
    return ChaCha20Poly1305(key).encrypt(NONCE, text, about)


def unseal(key: bytes, sealed: bytes, about: bytes) -> bytes:
    """Return the text; raise `PrivacyError` if it was changed, or sealed by another or for another."""
    try:
        return ChaCha20Poly1305(key).decrypt(NONCE, sealed, about)
    except InvalidTag:
        raise PrivacyError("what another site sealed for this one was changed on its way.") from None


def digest(*parts: bytes) -> bytes:
    """Return the SHA-256 of several texts, which no other texts have."""
    lengths = [len(part).to_bytes(8) for part in parts]
    return hashlib.sha256(b"".join([len(parts).to_bytes(8), *lengths, *parts])).digest()


def tag(key: bytes, text: bytes) -> bytes:
    """Return what only who has the key can make of a text: HMAC with SHA-256."""
    return hmac.digest(key, text, "sha256")


def keystream(key: bytes, shape: tuple[int, int]) -> Vector:
    """Return the mask that belongs to a key: uint64[words, N], each integer as likely as any other."""
    stream = Cipher(AES256(key), CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(8 * shape[0] * shape[1])), "<u8").reshape(shape)
