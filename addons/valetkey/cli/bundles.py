"""Files of certificates for agents: what they trusted before, and the gateway's CA.

A file in a *replacing* variable becomes the only trust, so it holds the public authorities, those of files that were set
already, and the CA. A file in an *adding* variable needs the CA alone, and what was set there.
"""

from __future__ import annotations

import base64
import binascii
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore
from cryptography.utils import CryptographyDeprecationWarning

from ..errors import ConfigurationError

REPLACING = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", "CODEX_CA_CERTIFICATE",
)  # fmt: skip
"""Variables whose file becomes the only trust. (Codex adds the file to its own; the larger one does no harm there.)"""
ADDING = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
"""Variables whose file is trusted beside what is built in."""
JAVA_PASSWORD = "changeit"  # noqa: S105 - Java's own default; the file holds no secret, but needs a password to be read
_SYSTEM = tuple(
    map(
        Path,
        (
            "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
            "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
        ),
    )
)  # fmt: skip
"""Where systems keep their authorities as one file: Debian, Fedora, older Red Hat, SUSE, Alpine and macOS."""
_PUBLIC, _SET, _OURS = (
    "# valetkey: public authorities",
    "# valetkey: from files that were set already",
    "# valetkey: the CA of mitmproxy",
)
"""The sections of a bundle of ours, in order."""
_BLOCK = re.compile(r"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----(.*?)-----END (?:TRUSTED |X509 )?CERTIFICATE-----", re.DOTALL)
_SOMEBODYS = "mitmproxy"
"""The name in every CA that mitmproxy makes: another gateway's, or our own from before, is not taken over."""


@dataclass(frozen=True, slots=True)
class Trust:
    """The files for the variables. `notices` tell people what was left out of them, and why."""

    authority: Path
    bundle: Path
    added: Path
    java: Path
    notices: tuple[str, ...] = ()


def ensure_authority(confdir: Path) -> Path:
    """mitmproxy's CA certificate, made now when this is its first use. Raises ConfigurationError."""
    from mitmproxy.certs import CertStore

    path = (confdir / "mitmproxy-ca-cert.pem").absolute()
    try:
        CertStore.from_store(confdir, "mitmproxy", 2048)
        text = path.read_text(errors="replace")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"{getattr(error, 'filename', None) or confdir} cannot be read or made: {reason}") from error
    if not any(problem(der) is None for der in certificates(text)):
        raise ConfigurationError(f"{path} holds no certificate authority; delete it, and the next start makes one")
    return path


def trust_at(authority: Path, ledger: Path) -> Trust:
    """Where the files of a gateway are: beside its ledger, always the same."""
    folder, name = ledger.parent, ledger.stem
    stem = "" if name == "ledger" else f"{name}."
    return Trust(authority, folder / f"{stem}ca-bundle.pem", folder / f"{stem}ca-added.pem", folder / f"{stem}ca-bundle.p12")


def write_trust(authority: Path, ledger: Path, environ: Mapping[str, str], *, java: bool = False) -> Trust:
    """Make the files, or make them anew where something has changed. Raises ConfigurationError."""
    place = trust_at(authority, ledger)
    own = next(certificates(authority.read_text()), b"")
    notices: list[str] = []
    before = list(_already_set(environ, REPLACING, notices))
    added = list(_already_set(environ, ADDING, notices))
    try:
        _write(place.bundle, combine(public_authorities(), [*before, *added], own).encode())
        if added:
            _write(place.added, combine("", added, own).encode())
        if java:
            _write(place.java, _java_truststore(place.bundle.read_text(), place.java))
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be made: {error.strerror}") from error
    return Trust(authority, place.bundle, place.added if added else authority, place.java, tuple(dict.fromkeys(notices)))


def combine(public: str, before: Iterable[bytes], own: bytes) -> str:
    """One text of PEM: each certificate once, in one spelling, the gateway's CA last. Certificates are DER."""
    seen = {own}
    parts = [_PUBLIC, *_fresh(certificates(public), seen), _SET, *_fresh(before, seen), _OURS, pem(own)]
    return "\n".join(parts) + "\n"


def certificates(text: str) -> Iterator[bytes]:
    """The certificates of a PEM text as DER; what is none, or broken, is passed over."""
    for match in _BLOCK.finditer(text):
        try:
            data = base64.b64decode("".join(match[1].split()), validate=True)
        except (binascii.Error, ValueError):
            continue
        if der := _first_element(data):
            yield der


def pem(der: bytes) -> str:
    """A certificate in the one spelling that every runtime reads."""
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----"])


def problem(der: bytes) -> str | None:
    """Why a certificate is no authority; None when it is one."""
    try:
        certificate = parse(der)
        with _old_spellings():
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except ValueError as error:
        return f"a certificate cannot be read ({error})"
    except x509.ExtensionNotFound:
        # Roots of the first version of X.509 had no extensions.
        if certificate.subject == certificate.issuer:
            return None
        return f"{certificate.subject.rfc4514_string()} is no certificate authority"
    return None if constraints.value.ca else f"{certificate.subject.rfc4514_string()} is no certificate authority"


def parse(der: bytes) -> x509.Certificate:
    """A certificate. Raises ValueError."""
    with _old_spellings():
        return x509.load_der_x509_certificate(der)


@contextmanager
def _old_spellings() -> Iterator[None]:
    """Public roots are as they are: some have serial numbers that newer rules forbid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        yield


def public_authorities() -> str:
    """The system's authorities, or those of certifi where the system keeps none in one file."""
    for path in (*_SYSTEM, Path(certifi.where())):
        text = _read(path)
        if text and _BLOCK.search(text):
            return text
    return ""


def _already_set(environ: Mapping[str, str], names: Iterable[str], notices: list[str]) -> Iterator[bytes]:
    """The authorities of the files that variables name; of a bundle of ours, what had been set before it."""
    for path, name in {environ[name]: name for name in names if environ.get(name)}.items():
        text = _read(Path(path))
        if text is None:
            notices.append(f"{name} names {path}, which cannot be read; it is replaced")
            continue
        if _OURS in text:
            text = text.partition(_SET)[2].partition(_OURS)[0]
        for der in certificates(text):
            reason = problem(der)
            if reason is not None:
                notices.append(f"{path} ({name}): {reason}; it is left out")
            elif not _is_somebodys(der):
                yield der


def _is_somebodys(der: bytes) -> bool:
    subject = parse(der).subject
    return any(attribute.value == _SOMEBODYS for attribute in subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME))


def _fresh(ders: Iterable[bytes], seen: set[bytes]) -> Iterator[str]:
    for der in ders:
        if der not in seen:
            seen.add(der)
            yield pem(der)


def _first_element(data: bytes) -> bytes | None:
    """The first element of DER: OpenSSL's trusted certificates have a second one, of which others know nothing."""
    if len(data) < 2 or data[0] != 0x30:
        return None
    if data[1] < 0x80:
        head, length = 2, data[1]
    else:
        count = data[1] & 0x7F
        head, length = 2 + count, int.from_bytes(data[2 : 2 + count])
    return data[: head + length] if length > 0 and head + length <= len(data) else None


def _java_truststore(bundle: str, path: Path) -> bytes:
    """The bundle as Java reads it. The one that is there stays when it was made of the same: each making gives other bytes."""
    mark = path.with_suffix(".sha256")
    digest = sha256(bundle.encode()).hexdigest()
    if path.exists() and _read(mark) == digest:
        return path.read_bytes()
    held = []
    for der in certificates(bundle):
        try:
            held.append(PKCS12Certificate(parse(der), None))
        except ValueError:
            continue  # a public root in an old spelling, which Java would not read either
    made = serialize_java_truststore(held, BestAvailableEncryption(JAVA_PASSWORD.encode()))
    _write(mark, digest.encode())
    return made


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except (OSError, ValueError):
        return None


def _write(path: Path, data: bytes) -> None:
    """Put `data` at `path` for all to read, at once or not at all: agents may be reading the file right now."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (path.is_file() and path.read_bytes() == data):
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=path.name, delete=False) as file:
            file.write(data)
        Path(file.name).replace(path)
    path.chmod(0o644)
