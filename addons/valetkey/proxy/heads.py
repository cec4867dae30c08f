"""Headers as plain data. mitmproxy's own mapping walks all fields for every look, which a call cannot afford dozens of times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from mitmproxy import http

from ..formats import Scrubber

OURS = b"x-valetkey-"

ByName = Mapping[bytes, bytes]
"""The value of each field, or SEVERAL."""
SEVERAL: Any = ()

_KEPT = "_valetkey_by_name"
_TUPLE = frozenset({tuple})


def by_name(headers: http.Headers) -> ByName | None:
    """What fields say by lower-case name, from one pass for many looks; None where they are not what mitmproxy makes."""
    if type(headers) is not http.Headers:
        return None
    kept: tuple[object, ByName] | None = headers.__dict__.get(_KEPT)
    # mitmproxy never changes `fields` in place: others are another object.
    if kept is not None and kept[0] is headers.fields:
        return kept[1]
    made = _read(headers.fields)
    if made is not None and http.Headers.__setattr__ is forget:
        headers.__dict__[_KEPT] = (headers.fields, made)
    return made


def of_fields(fields: tuple[tuple[bytes, bytes], ...], names: dict[bytes, bytes]) -> http.Headers:
    """Headers of fields whose lower-case names were read with them: the last value of each."""
    made = http.Headers.__new__(http.Headers)
    kept = made.__dict__
    kept["fields"] = fields
    if http.Headers.__setattr__ is forget:
        kept[_KEPT] = (fields, names if len(names) == len(fields) else _several(fields, names))
    return made


def forget(self: http.Headers, name: str, value: Any) -> None:
    """The `__setattr__` of headers with which what was read of fields goes when they go: one of them may have held a secret."""
    if name == "fields":
        kept = self.__dict__
        kept.pop(_KEPT, None)
        if type(self) is http.Headers:
            kept[name] = value
            return
    super(http.Headers, self).__setattr__(name, value)


def _read(fields: tuple[tuple[bytes, bytes], ...]) -> ByName | None:
    # Anything else than tuples might be changed in place.
    if type(fields) is not tuple or not _TUPLE.issuperset(map(type, fields)):
        return None
    try:
        made = {name.lower(): value for name, value in fields}
    except (AttributeError, TypeError, ValueError):
        return None
    return made if len(made) == len(fields) else _several(fields, made)


def _several(fields: tuple[tuple[bytes, bytes], ...], made: dict[bytes, bytes]) -> ByName:
    """Let the names of several fields say so."""
    once: set[bytes] = set()
    for name, _ in fields:
        if (lower := name.lower()) in once:
            made[lower] = SEVERAL
        once.add(lower)
    return made


def plain(headers: http.Headers) -> dict[str, str]:
    """Lower-case names and values; fields of one name are joined with a comma, as mitmproxy does."""
    fields = headers.fields
    found = {raw.decode("utf-8", "surrogateescape").lower(): value.decode("utf-8", "surrogateescape") for raw, value in fields}
    return found if len(found) == len(fields) else _joined(fields)


def _joined(fields: tuple[tuple[bytes, bytes], ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw, value in fields:
        name, text = raw.decode("utf-8", "surrogateescape").lower(), value.decode("utf-8", "surrogateescape")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def get(headers: http.Headers, name: bytes, default: str = "") -> str:
    """The value of the first field of that (lower-case) name."""
    kept = headers.__dict__.get(_KEPT) if type(headers) is http.Headers else None
    # The short way of `raw_values`, for the one look that is taken most often.
    if kept is not None and kept[0] is headers.fields and name not in kept[1]:
        return default
    found = raw_values(headers, name)
    return found[0].decode("utf-8", "surrogateescape") if found else default


def get_all(headers: http.Headers, name: bytes) -> tuple[str, ...]:
    """The values of all fields of that (lower-case) name."""
    found = raw_values(headers, name)
    return tuple([value.decode("utf-8", "surrogateescape") for value in found]) if found else ()


def raw_values(headers: http.Headers, name: bytes) -> Sequence[bytes]:
    """The values of all fields of that (lower-case) name, as they came."""
    # As in `by_name`, without a call: most looks at a head are this one.
    kept = headers.__dict__.get(_KEPT) if type(headers) is http.Headers else None
    names: ByName | None = kept[1] if kept is not None and kept[0] is headers.fields else by_name(headers)
    if names is not None:
        found = names.get(name)
        if found is None:
            return ()
        if type(found) is bytes:
            return (found,)
    return [value for raw, value in headers.fields if raw.lower() == name]


def clean(headers: http.Headers) -> None:
    """Take off what a provider must not say: marks that are ours, and an alternative service, which leads past the gateway."""
    names = by_name(headers)
    # One search in all names: nearly always there is nothing to be found.
    if names is not None and b"alt-svc" not in names and OURS not in b"".join(names):
        return
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


def mark(headers: http.Headers, marks: list[tuple[bytes, bytes]]) -> None:
    """Put our own marks on."""
    names = by_name(headers)
    headers.fields += (*marks,)
    if names is None or http.Headers.__setattr__ is not forget:
        return
    # What was read of the other fields need not be read again, unless one of ours has the name of another.
    more = {name.lower(): value for name, value in marks}
    if len(more) == len(marks) and more.keys().isdisjoint(names):
        headers.__dict__[_KEPT] = (headers.fields, {**names, **more})


def _is_ours(name: bytes) -> bool:
    return name == b"alt-svc" or name.startswith(OURS)
