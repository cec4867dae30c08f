"""Small notations: durations, sizes, addresses, origins, patterns. Each parser raises ValueError that says what it takes.

No message holds the value itself: it could be a key that was written in the wrong place.
"""

from __future__ import annotations

import re
from decimal import Decimal
from ipaddress import IPv4Address, ip_network
from urllib.parse import SplitResult, urlsplit

from ..model import Address, Upstream
from ..policy.authority import is_address, parse_authority, parse_host

_NUMBER = r"\d+(?:\.\d+)?"
_SECONDS = {
    "ms": 0.001, "s": 1, "second": 1, "seconds": 1, "m": 60, "min": 60, "minute": 60, "minutes": 60, "h": 3600,
    "hour": 3600, "hours": 3600, "d": 86400, "day": 86400, "days": 86400, "week": 604800, "weeks": 604800,
}  # fmt: skip
_LONGEST = 100 * 366 * 86400
"""Seconds; a longer time is a slip of the pen, and arithmetic on clocks would overflow."""
_BYTES = {"": 1, "b": 1, "kb": 1024, "kib": 1024, "mb": 1024**2, "mib": 1024**2, "gb": 1024**3, "gib": 1024**3}
_PERIODS = ("second", "minute", "hour", "day", "week", "month")
_TOKEN = re.compile(r"[A-Za-z0-9+=_-]{20,}")
_RUN = re.compile(r"(?=[A-Za-z]{0,19}[0-9])(?=[0-9]{0,19}[A-Za-z])[A-Za-z0-9]{20}")
"""Random letters and digits in one go; names of models and variables have marks in between."""
_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~!$&'()*+,=:@-]+")


def looks_like_key(text: str) -> bool:
    """Whether a text without slashes or dots has the look of a credential."""
    return _TOKEN.fullmatch(text) is not None and _RUN.search(text) is not None


def masked(text: str) -> str:
    """`text` with everything in it that has the look of a credential replaced by `…`."""
    return _TOKEN.sub(lambda found: "…" if looks_like_key(found[0]) else found[0], text)


def duration(value: object) -> float:
    """`10s`, `500ms`, `2m`, `1h30m`, `90 days` or a number of seconds, as seconds."""
    seconds = _seconds(value)
    if seconds is None or not 0 <= seconds <= _LONGEST:
        raise ValueError("a duration is a number with a unit, such as 500ms, 10s, 2m, 1h or 90 days")
    return float(seconds)


def _seconds(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    if re.fullmatch(_NUMBER, text):
        return float(text)
    parts = re.findall(rf"({_NUMBER})\s*([a-z]+)", text)
    whole = re.fullmatch(rf"(?:{_NUMBER}\s*[a-z]+\s*)+", text)
    if not whole or not all(unit in _SECONDS for _, unit in parts):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def retention(value: object) -> float:
    """A duration after which things are deleted; zero would delete all of them, and is meant as "never" elsewhere."""
    seconds = duration(value)
    if not seconds:
        raise ValueError("nothing would be kept; write how long receipts are kept, or leave the word out to keep them")
    return seconds


def time_limit(value: object) -> float:
    """A duration in which something has to happen; zero would end it before it began, and is meant as "no limit" elsewhere."""
    seconds = duration(value)
    if not seconds:
        raise ValueError("nothing can happen in no time; write a longer limit, or leave the word out for the default")
    return seconds


def share(value: object) -> float:
    """`10%` or a number from 0 to 1, as a number from 0 to 1."""
    found: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        found = float(value)
    elif isinstance(value, str) and (percent := re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%", value.strip())):
        found = float(percent[1]) / 100
    if found is None or not 0 <= found <= 1:
        raise ValueError("a share is meant here, such as 10% or 0.1")
    return found


def size(value: object) -> int:
    """`64 MB`, `512kb` or a number of bytes, as bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = re.fullmatch(rf"\s*({_NUMBER})\s*([a-z]*)\s*", value.lower()) if isinstance(value, str) else None
    count = Decimal(found[1]) * _BYTES[found[2]] if found and found[2] in _BYTES else 0
    if count < 1:
        raise ValueError("a size is a number with a unit, such as 64 MB or 512 kB")
    return int(count)


def address(value: object) -> Address:
    """`127.0.0.1:8080` or `[::1]:8080`."""
    named = parse_authority(value) if isinstance(value, str) else None
    if named is None or named.port is None:
        raise ValueError("an address is host:port, such as 127.0.0.1:8080")
    return Address(named.host, named.port)


def own_host(value: str) -> str:
    """`gateway.lan` or `gateway.lan:8045`, in its one spelling."""
    named = parse_authority(value)
    if named is None:
        raise ValueError("a name of the gateway is host or host:port, such as gateway.lan")
    return named.host if named.port is None else str(Address(named.host, named.port))


def is_loopback(host: str) -> bool:
    """Whether a name or address, in its one spelling, is this machine."""
    return host in ("localhost", "::1") or (is_address(host) and ":" not in host and IPv4Address(host).is_loopback)


def upstream(value: object) -> Upstream:
    """`scheme://host[:port][/prefix]`; plain HTTP on loopback only."""
    parts, port = _split(value)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("an upstream has no user, query or fragment; keys are written under `keys`")
    host = parse_host(parts.hostname or "")
    if host is None or (host.rpartition(".")[2].isdecimal() and not is_address(host)):
        raise ValueError("the host of an upstream is a plain name (in punycode, if it is international) or an address")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"plain HTTP to {host} would show the key to the network; use https, or an upstream on 127.0.0.1")
    segments = parts.path.rstrip("/").split("/")[1:]
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise ValueError("the path of an upstream is plain: no empty, . or .. segments, nothing percent-encoded")
    return Upstream(parts.scheme, host, port, "".join(f"/{segment}" for segment in segments) or None)


def _split(value: object) -> tuple[SplitResult, int]:
    """The parts of an origin and its port. Also `urlsplit` raises, with the text that it cannot read; that is not passed on."""
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("an upstream is scheme://host[:port][/prefix], such as https://llm.example.com or http://127.0.0.1:8000")
    return parts, port or {"http": 80, "https": 443}[parts.scheme]


_PATTERN = re.compile(r"(?:[a-z0-9*_-]+\.)+(?=[a-z0-9-]*[a-z])[a-z0-9-]+(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE)


def destination(value: str) -> str:
    """An entry of `egress_allow`: a host, a pattern on hosts, an address, each also with a port, or a network."""
    if "*" in value:
        return _destinations(value)
    try:
        known = ip_network(value, strict=False) if "/" in value else parse_authority(value) or parse_host(value)
    except ValueError:
        known = None
    if known is None:
        raise ValueError(
            "a destination is a host, host:port, a pattern such as *.example.com, an address or a network such as 10.0.0.0/8, "
            "not a URL"
        )
    return value


def _destinations(value: str) -> str:
    """A pattern: `*` stands for any text, also with dots in it; but the last word is plain, or foreign domains would match."""
    found = _PATTERN.fullmatch(value)
    if found is None or (found["port"] and not 0 < int(found["port"]) < 65536):
        raise ValueError("a pattern of destinations ends in a plain word, as in *.example.com or *.example.com:8443")
    return value


def ledger(value: str) -> str:
    """A URI. Which schemes there are is the ledger's to say; that of files names a file."""
    is_folder = value.startswith("sqlite:///") and value.rpartition("/")[2] in ("", ".", "..")
    if not re.match(r"[a-z][a-z0-9+.-]*://.", value) or not value.isprintable() or is_folder:
        raise ValueError("a ledger is a URI, such as sqlite:///.valetkey/ledger.db")
    return value


def pattern(value: str) -> str:
    """A glob: `*`, `?`, `[abc]`. An unclosed `[` would be taken literally and never match, so it is refused."""
    if not value or not value.isprintable():
        raise ValueError("a pattern is at least one character of text")
    if "[" in re.sub(r"\[!?+\]?+[^\]]*\]", "", value):
        raise ValueError("a [ without its ] in a pattern")
    return value


def digest(value: str) -> str:
    """`sha256:` and 64 hex digits, in lower case."""
    if not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", value):
        raise ValueError(
            "an agent's key is written as its hash, sha256: and 64 hex digits; `valetkey agents add NAME` makes both (for a key "
            "that you have: printf %s KEY | sha256sum)"
        )
    return value.lower()


def budget(value: object) -> tuple[Decimal, str]:
    """`20 USD/month`, as the amount and the period."""
    found = re.fullmatch(rf"\s*({_NUMBER})\s*USD\s*/\s*(\w+)\s*", value) if isinstance(value, str) else None
    if not found or found[2] not in _PERIODS:
        raise ValueError("a budget is an amount per period, such as 20 USD/month or 5 USD/day")
    return Decimal(found[1]), found[2]


def rate(value: object) -> tuple[int, str]:
    """`60/minute`, as the count and the period."""
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\w+)\s*", value) if isinstance(value, str) else None
    if not found or found[2] not in _PERIODS or not int(found[1][:9]):
        raise ValueError("a rate is a count per period, such as 60/minute or 1000/day")
    return int(found[1]), found[2]
