"""Keys and certificates of one federation on one machine: made for it, and worthless after it.

The server proves who it is by a certificate that an authority made for this run has signed; the
authority's own key is never written. Each node proves who it is by a key pair whose public half the
server knows before the node starts.
"""

import datetime
import os
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=7)
CLOCK_TOLERANCE = datetime.timedelta(minutes=5)
PEM = serialization.Encoding.PEM
UNENCRYPTED = serialization.NoEncryption()


@dataclass(frozen=True)
class Certificates:
    """Files of a server that answers as ``localhost`` and 127.0.0.1.

    ``authority`` is what clients trust; ``certificate`` and ``key`` belong to the server.
    """

    authority: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make an authority and a server's certificate, and write them into ``folder``."""
    authority_key, server_key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    authority_name, server_name = common_name("authority of one federation"), common_name("localhost")
    authority = (
        unsigned(authority_name, authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    addresses = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    server = (
        unsigned(server_name, authority_name, server_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    files = Certificates(folder / "authority.crt", folder / "server.crt", folder / "server.key")
    files.authority.write_bytes(authority.public_bytes(PEM))
    files.certificate.write_bytes(server.public_bytes(PEM))
    write_secret(files.key, private_bytes(server_key, serialization.PrivateFormat.PKCS8))
    return files


def make_node_key(path: Path) -> bytes:
    """Write a node's private key to ``path``; return its public key as the server registers it (PEM)."""
    key = ec.generate_private_key(ec.SECP384R1())
    write_secret(path, private_bytes(key, serialization.PrivateFormat.OpenSSH))
    return key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def write_secret(path: Path, secret: bytes) -> None:
    """Write a new file that only its owner may read."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secret)


def private_bytes(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    """Return a private key as text."""
    return key.private_bytes(PEM, form, UNENCRYPTED)


def common_name(text: str) -> x509.Name:
    """Return a name of one part."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """Return a certificate that is valid from now on and still lacks its signature."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return what a key may be used for: to sign certificates, or to sign in a handshake."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
