"""What routing needs from a request's body, without decoding the body."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .jsonscan import JsonScanError, Members, scan, scan_inner, value

_FIELD_LIMIT = 1024
"""Longest model name in a form; real ones stay below 100."""


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
    model = _value(body, members, "model")
    if model is not None and not isinstance(model, str):
        raise JsonScanError("the member model is no string")
    return RequestFacts(model, _value(body, members, "stream") is True, _include_usage(body, members), members)


def read_multipart_model(body: bytes, content_type: str) -> str | None:
    """The field `model` of a multipart form (audio, images); None where there is none. Never raises."""
    boundary = re.search(r'boundary="?([^";]+)"?', content_type, re.IGNORECASE)
    if boundary is None:
        return None
    mark = re.escape(b"--" + boundary.group(1).encode("latin-1", "replace"))
    pattern = (
        mark
        + rb'\r\n(?:[^\r\n]*\r\n)*?[^\r\n]*;\s*name="?model"?[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,%d})\r\n' % _FIELD_LIMIT
    )
    found = re.search(pattern, body, re.IGNORECASE)
    return found.group(1).decode("utf-8", "replace").strip() if found else None


def _value(body: bytes, members: Members, name: str) -> object:
    span = members.get(name)
    return None if span is None else value(body, span)


def _include_usage(body: bytes, members: Members) -> bool | None:
    span = members.get("stream_options")
    inner = scan_inner(body, span) if span else None
    found = _value(body, inner, "include_usage") if inner else None
    return found if isinstance(found, bool) else None
