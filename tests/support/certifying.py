"""Certificates for tests: authorities and others, good and expired."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

KEY = ec.generate_private_key(ec.SECP256R1())


@cache
def certificate(name: str = "Company", *, ca: bool | None = True, days: int = 365, since: int = -400) -> str:
    """A self-signed certificate as PEM. `ca`: what its basic constraints say, None: it has none; `days` until its end."""
    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(named, named, KEY.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now + timedelta(days=since)).not_valid_after(now + timedelta(days=days))
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return builder.sign(KEY, SHA256()).public_bytes(Encoding.PEM).decode()


def private_key() -> str:
    """The key of them all."""
    return KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
