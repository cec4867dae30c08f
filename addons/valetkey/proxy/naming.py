"""What a connection itself says of where it leads, for modes in which a client dials addresses.

With SOCKS5, and where traffic is redirected or captured, the destination may be an address, and an address is no provider's. The
first bytes name the host: the server name of TLS or QUIC (SNI), or the Host header of plain HTTP. A name that is believed is also
dialled, and its certificate verified; so whoever lies about it only misleads himself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

from mitmproxy import connection
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.layers.quic import quic_parse_client_hello_from_datagrams
from mitmproxy.proxy.layers.tls import parse_client_hello

from ..policy.authority import is_address, parse_authority, parse_host

LARGEST = 65536
"""Bytes within which a connection must have said where it leads."""
MOST_PIECES = {"tcp": 256, "udp": 16}
"""Pieces within which it must have, because all are read again with each."""
_BY_ADDRESS = (
    mode_specs.Socks5Mode, mode_specs.TransparentMode, mode_specs.LocalMode, mode_specs.WireGuardMode, mode_specs.TunMode,
)  # fmt: skip
_TLS_HANDSHAKE = b"\x16\x03"
_REQUEST_LINE = re.compile(rb"[A-Z]{3,16} [^\r\n]* HTTP/1\.[01]\r?\n")
_BEGINS_LIKE_HTTP = re.compile(rb"[A-Z]{1,16}(?: [^\r\n]*\r?)?")
_HOST = re.compile(rb"\nhost:([^\r\n]*)(?=\r?\n)", re.IGNORECASE)
"""With the blanks around it: an expression that leaves them out takes hours on many of them."""
_END_OF_HEAD = re.compile(rb"\n\r?\n")


class Said(Enum):
    """What is known in place of a name."""

    MORE = "more bytes are needed"
    NOTHING = "it does not say, and need not"
    NAMELESS = "a TLS handshake without a name"
    ENDLESS = "a TLS handshake that does not come to its end"


def dials_addresses(client: connection.Client) -> bool:
    """Whether a client came by a mode in which destinations may be addresses."""
    return isinstance(client.proxy_mode, _BY_ADDRESS)


def name_of(client: connection.Client, data: Sequence[bytes]) -> str | Said:
    """The host that the first bytes of a connection name; `data` are the pieces as they came, of UDP the datagrams."""
    is_all = sum(map(len, data)) >= LARGEST or len(data) >= MOST_PIECES[client.transport_protocol]
    if client.transport_protocol == "udp":
        return _of_datagrams(data, is_all=is_all)
    return _of_stream(b"".join(data), is_all=is_all)


def handshake_of(client: connection.Client, data: Sequence[bytes]) -> str | Said:
    """The same of what begins like TLS or QUIC; of everything else NOTHING, at once."""
    is_quic = client.transport_protocol == "udp"
    begun = data and data[0] and (is_quic or data[0].startswith(_TLS_HANDSHAKE[:1]))
    return name_of(client, data) if begun else Said.NOTHING


def scheme_of(client: connection.Client, data: Sequence[bytes]) -> str:
    """`https` for what begins like TLS or comes by QUIC, `http` for everything else."""
    return "https" if client.transport_protocol == "udp" or starts_like_tls_record(b"".join(data)) else "http"


def _of_stream(data: bytes, *, is_all: bool) -> str | Said:
    """`is_all`: no more is waited for."""
    if len(data) < len(_TLS_HANDSHAKE) + 1 and _TLS_HANDSHAKE.startswith(data[:2]):
        return Said.MORE
    if starts_like_tls_record(data):
        return _of_hello(data, is_all=is_all)
    if _REQUEST_LINE.match(data):
        return _of_head(data, is_all=is_all)
    return Said.MORE if _BEGINS_LIKE_HTTP.fullmatch(data) and not is_all else Said.NOTHING


def _of_hello(data: bytes, *, is_all: bool) -> str | Said:
    try:
        hello = parse_client_hello(data)
    except ValueError:
        return Said.NOTHING  # no TLS after all
    if hello is None:
        return Said.ENDLESS if is_all else Said.MORE
    return _plain_name(hello.sni) or Said.NAMELESS


def _of_head(data: bytes, *, is_all: bool) -> str | Said:
    end = _END_OF_HEAD.search(data)
    if end is None:
        return Said.NOTHING if is_all else Said.MORE
    found = _HOST.findall(data[: end.end()])
    named = parse_authority(found[0].strip(b" \t").decode("ascii", "replace")) if len(found) == 1 else None
    return (named and _plain_name(named.host)) or Said.NOTHING


def _of_datagrams(data: Sequence[bytes], *, is_all: bool) -> str | Said:
    if not data or not data[0] or data[0][0] & 0xC0 != 0xC0:  # no long header of QUIC (RFC 9000, section 17.2)
        return Said.NOTHING
    try:
        hello = quic_parse_client_hello_from_datagrams(list(data))
    except ValueError:
        return Said.NAMELESS  # of a version, or in a shape, that cannot be read
    if hello is None:
        return Said.ENDLESS if is_all else Said.MORE
    return _plain_name(hello.sni) or Said.NAMELESS


def _plain_name(text: str | None) -> str | None:
    name = parse_host(text) if text else None
    return None if name is None or is_address(name) else name
