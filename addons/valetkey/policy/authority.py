"""Reading `host[:port]` strictly: one spelling per host, or nothing.

Everything that names a destination (CONNECT, `:authority`, `Host`, SNI) is compared in this spelling. What has two readings is
not read at all: user names, trailing dots, percent signs, control characters, non-ASCII letters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

_LONGEST = 253
"""Characters of a host (RFC 1035, section 2.3.4, without the last dot). Nothing longer is kept, or agents could fill memory."""
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_AUTHORITY = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Authority:
    """A host in its one spelling (an IPv6 address without brackets) and the port, None where none is written."""

    host: str
    port: int | None = None


def parse_authority(text: str) -> Authority | None:
    """`host`, `host:port` or `[address]:port`; None when it is malformed or can be read in two ways."""
    return _authority(text) if len(text) <= _LONGEST + len("[]:65535") else None


@lru_cache(maxsize=4096)
def _authority(text: str) -> Authority | None:
    match = _AUTHORITY.fullmatch(text.lower()) if text.isascii() else None
    if match is None:
        return None
    host = parse_host(match["six"] or match["name"])
    port = int(match["port"]) if match["port"] else None
    if host is None or (match["six"] and ":" not in host) or (port is not None and not 0 < port < 65536):
        return None
    return Authority(host, port)


def parse_host(text: str) -> str | None:
    """The one spelling of a host name or an address without brackets; None when it is malformed."""
    return _host(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=4096)
def _host(text: str) -> str | None:
    if not text.isascii() or "%" in text:
        return None  # `%` also begins a zone (`fe80::1%eth0`), which means something only on one machine
    lowered = text.lower()
    if ":" not in lowered:
        return lowered if _HOST.fullmatch(lowered) else None
    try:
        return str(ip_address(lowered))
    except ValueError:
        return None


def is_address(host: str) -> bool:
    """Whether a host is an IP address in its usual spelling."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
