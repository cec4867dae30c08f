"""Headers as plain data. mitmproxy's own mapping walks all fields for every look, which a call cannot afford dozens of times."""

from __future__ import annotations

from itertools import chain

from mitmproxy import http

from ..formats import Scrubber

OURS = b"x-valetkey-"


def plain(headers: http.Headers) -> dict[str, str]:
    """Lower-case names and values; fields of one name are joined with a comma, as mitmproxy does."""
    found: dict[str, str] = {}
    for raw, value in headers.fields:
        name, text = raw.decode("utf-8", "surrogateescape").lower(), value.decode("utf-8", "surrogateescape")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def get(headers: http.Headers, name: bytes, default: str = "") -> str:
    """The value of the first field of that (lower-case) name."""
    for raw, value in headers.fields:
        if raw.lower() == name:
            return value.decode("utf-8", "surrogateescape")
    return default


def get_all(headers: http.Headers, name: bytes) -> tuple[str, ...]:
    """The values of all fields of that (lower-case) name."""
    return tuple([value.decode("utf-8", "surrogateescape") for raw, value in headers.fields if raw.lower() == name])


def clean(headers: http.Headers) -> None:
    """Take off what a provider must not say: marks that are ours, and an alternative service, which leads past the gateway."""
    kept = [field for field in headers.fields if not _is_ours(field[0].lower())]
    if len(kept) != len(headers.fields):
        headers.fields = tuple(kept)


def scrub(headers: http.Headers, scrubber: Scrubber) -> bool:
    """Hide keys in names and values; whether there was one."""
    fields = headers.fields
    # One search for all fields: nearly always there is nothing to be found.
    if not scrubber.suspects(b"\n".join(chain.from_iterable(fields))):
        return False
    headers.fields = tuple((scrubber.scrub(name), scrubber.scrub(value)) for name, value in fields)
    return headers.fields != fields


def mark(headers: http.Headers, marks: dict[str, str]) -> None:
    """Put our own marks on."""
    headers.fields += tuple((name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in marks.items())


def _is_ours(name: bytes) -> bool:
    return name == b"alt-svc" or name.startswith(OURS)
