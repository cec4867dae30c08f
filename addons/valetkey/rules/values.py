"""Small notations: durations, sizes, addresses, origins. Each parser raises ValueError that says what it takes."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from ..model import Address, Upstream

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)")
_SECONDS = {
    "ms": 0.001, "s": 1, "": 1, "second": 1, "seconds": 1, "m": 60, "min": 60, "minute": 60, "minutes": 60, "h": 3600,
    "hour": 3600, "hours": 3600, "d": 86400, "day": 86400, "days": 86400,
}  # fmt: skip
_BYTES = {"": 1, "b": 1, "kb": 1024, "kib": 1024, "mb": 1024**2, "mib": 1024**2, "gb": 1024**3, "gib": 1024**3}


def duration(value: object) -> float:
    """`10s`, `500ms`, `2m`, `1h30m`, `90 days` or a number of seconds, as seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    if isinstance(value, str) and value.strip():
        parts = list(_DURATION.finditer(value.lower()))
        whole = "".join(part.group(0) for part in parts)
        if whole.strip() == value.lower().strip() and all(part.group(2) in _SECONDS for part in parts):
            return float(sum(float(part.group(1)) * _SECONDS[part.group(2)] for part in parts))
    raise ValueError("a duration is a number with a unit, such as 500ms, 10s, 2m, 1h or 90 days")


def size(value: object) -> int:
    """`64 MB`, `512kb` or a number of bytes, as bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", value.lower()) if isinstance(value, str) else None
    if found and found.group(2) in _BYTES and float(found.group(1)) > 0:
        return int(float(found.group(1)) * _BYTES[found.group(2)])
    raise ValueError("a size is a number with a unit, such as 64 MB or 512 kB")


def address(value: object) -> Address:
    """`127.0.0.1:8080` or `[::1]:8080`, on loopback."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\s]+):(\d{1,5})", value) if isinstance(value, str) else None
    if not found or not 0 < int(found.group(2)) < 65536:
        raise ValueError("an address is host:port, such as 127.0.0.1:8080")
    host = found.group(1).strip("[]")
    if not is_loopback(host):
        raise ValueError(
            "callers do not authenticate yet, so the gateway listens on loopback only; use 127.0.0.1 "
            "and a tunnel (ssh -L) for other machines"
        )
    return Address(host, int(found.group(2)))


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def upstream(value: object) -> Upstream:
    """`scheme://host[:port][/prefix]`; plain HTTP on loopback only."""
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an upstream is scheme://host[:port][/prefix], such as https://llm.example.com or http://127.0.0.1:8000")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("an upstream has no user, query or fragment; keys are written under `keys`")
    host = parts.hostname.lower()
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"plain HTTP to {host} would show the key to the network; use https, or an upstream on 127.0.0.1")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    prefix = parts.path.rstrip("/") or None
    return Upstream(parts.scheme, host, port, prefix)
