"""What routing needs from a request's body, without decoding the body."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from .jsonscan import JsonScanError, Members, scan, scan_inner, value

_FIELD_LIMIT = 1024
"""Longest model name in a form, in bytes; real ones stay below 100."""

_HEADERS_LIMIT = 8 * 1024
"""Longest headers of one part of a form, in bytes."""

_PARTS_LIMIT = 1000
"""Most places in a form that look like the beginning of a part."""

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;",]{1,70}))', re.IGNORECASE)
_AFTER_MARK = re.compile(rb"(--)?[ \t]*+(?:\r\n|\Z)")
_NAMED = rb"^content-disposition:[^\r\n]*;[ \t]*name"
_IS_MODEL = re.compile(_NAMED + rb'[ \t]*=[ \t]*(?:"model"|model(?=[\s;]|\Z))', re.IGNORECASE | re.MULTILINE)
_IS_ENCODED = re.compile(_NAMED + rb'(?:[ \t]*\*|[ \t]*=[ \t]*"[^"\r\n]*\\)', re.IGNORECASE | re.MULTILINE)
"""A name that some servers decode and others do not: `name*=utf-8''model`, `name*0=mo`, or a backslash inside the quotes."""

_FOLD = re.compile(rb"\r\n[ \t]+")

_ROUTING = ("model", "stream", "stream_options")


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """The members that decide: `include_usage` is what `stream_options` says, None where it says nothing."""

    model: str | None
    stream: bool
    include_usage: bool | None
    members: Members


def read_request(body: bytes) -> RequestFacts:
    """Read a JSON request. Raises `JsonScanError` for anything that two parsers could read differently."""
    members = scan(body)
    for name in members:
        # Servers written in Go match names without regard to case: `Model` there overrides `model`.
        if name not in _ROUTING and name.casefold() in _ROUTING:
            raise JsonScanError(f"a member at byte {members[name].key_start} is called {name.casefold()!r} in another case")
    model = _value(body, members, "model")
    if model is not None and not isinstance(model, str):
        raise JsonScanError("the member model is no string")
    _check_model(model)
    return RequestFacts(model, _value(body, members, "stream") is True, _include_usage(body, members), members)


def read_multipart_model(body: bytes, content_type: str) -> str | None:
    """The field `model` of a multipart form (audio, images); None where there is none.

    Raises `JsonScanError` when two servers would not agree: the form has the field twice, it is longer than any name, or the
    name of a field is encoded.
    """
    parts = [(_FOLD.sub(b" ", headers), content) for headers, content in _parts(body, content_type)]
    if any(_IS_ENCODED.search(headers) for headers, _ in parts):
        raise JsonScanError('the form has a field whose name is encoded; write it plainly, as in name="model"')
    found = [content for headers, content in parts if _IS_MODEL.search(headers)]
    if len(found) > 1:
        raise JsonScanError("the form has the field model more than once")
    if found and len(found[0]) > _FIELD_LIMIT:
        raise JsonScanError(f"the form's field model is longer than {_FIELD_LIMIT} bytes")
    model = found[0].decode("utf-8", "surrogateescape").strip() if found else None
    _check_model(model)
    return model


def _check_model(model: str | None) -> None:
    """Half a surrogate pair is no text, and what ends a line or a string may end the name for one server and not for another."""
    if model is not None and not model.isprintable():
        raise JsonScanError("the model's name holds a character that cannot be printed")


def _parts(body: bytes, content_type: str) -> Iterator[tuple[bytes, bytes]]:
    """The headers and the first bytes of the content of each part of a form (RFC 7578). No file is copied."""
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        return
    lines = _delimiters(body, b"--" + (boundary[1] or boundary[2]).encode("latin-1", "replace"))
    for (_, begin), (end, _) in pairwise(lines):
        blank = body.find(b"\r\n\r\n", begin - 2, min(end, begin + _HEADERS_LIMIT))
        if blank >= 0:
            yield body[begin:blank], body[blank + 4 : min(end - 2, blank + 4 + _FIELD_LIMIT + 1)]


def _delimiters(body: bytes, mark: bytes) -> Iterator[tuple[int, int]]:
    """Where the lines that delimit parts begin and end, up to the closing one; the end of the body closes as well."""
    at = body.find(mark)
    for _ in range(_PARTS_LIMIT):
        if at < 0:
            yield len(body) + 2, len(body)
            return
        rest = _AFTER_MARK.match(body, at + len(mark))
        if rest and (at == 0 or body[at - 2 : at] == b"\r\n"):
            yield at, rest.end()
            if rest[1]:
                return
        at = body.find(mark, at + len(mark))
    raise JsonScanError(f"the form has more than {_PARTS_LIMIT} parts")


def _value(body: bytes, members: Members, name: str) -> object:
    span = members.spans.get(name)
    return None if span is None else value(body, span)


def _include_usage(body: bytes, members: Members) -> bool | None:
    span = members.spans.get("stream_options")
    inner = scan_inner(body, span) if span else None
    found = _value(body, inner, "include_usage") if inner else None
    return found if isinstance(found, bool) else None
