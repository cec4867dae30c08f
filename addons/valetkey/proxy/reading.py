"""Faster twins of mitmproxy's functions that read and check a head. The plain case is done here; they are asked for any other.

Plain is what cannot be read in two ways: fields of tokens, one length in digits, and no transfer coding.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from mitmproxy import http
from mitmproxy.net.http import http1, validate
from mitmproxy.net.http.http1 import read

from . import heads

_EXPECTED_SIZE, _VALIDATE, _READ_HEADERS = http1.expected_http_body_size, validate.validate_headers, read._read_headers
_CHECK_VERSION = read.raise_if_http_version_unknown

_HTTP11 = b"HTTP/1.1"

_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NO_NAME = (b"", b" ", b"\t")
"""A line that starts with a blank goes on with the field before it."""
_DIGITS = 18
"""A length of more is no length."""


def expected_http_body_size(request: http.Request, response: http.Response | None = None) -> int | None:
    """As in mitmproxy."""
    names = heads.by_name((response or request).headers)
    length = None if names is None or b"transfer-encoding" in names else names.get(b"content-length")
    if type(length) is not bytes or not length.isdigit() or length.startswith(b"0") or len(length) > _DIGITS:
        return _EXPECTED_SIZE(request, response)
    if response and not _has_body(request.data.method, response.status_code):
        return _EXPECTED_SIZE(request, response)
    return int(length)


def _has_body(method: bytes, status: int) -> bool:
    """Whether an answer surely has a body if it says so."""
    return status >= 200 and status not in (204, 304) and method.upper() not in (b"HEAD", b"CONNECT")


def validate_headers(message: http.Message) -> None:
    """As in mitmproxy."""
    names = heads.by_name(message.headers)
    if not names or b"transfer-encoding" in names or b"" in names or not _are_tokens(names):
        _VALIDATE(message)
        return
    length = names.get(b"content-length")
    if length is None:
        return
    if type(length) is not bytes:
        _VALIDATE(message)
    elif not length.isdigit() or length.startswith(b"0"):
        validate.parse_content_length(length)


def _are_tokens(names: Iterable[bytes]) -> bool:
    try:
        return not b"".join(names).translate(None, _TOKEN)
    except TypeError:
        return False


def read_headers(lines: Iterable[bytes]) -> http.Headers:
    """As in mitmproxy."""
    lines, fields = list(lines), []
    for line in lines:
        if type(line) is not bytes:
            return _READ_HEADERS(lines)
        name, colon, value = line.partition(b":")
        if not colon or name[:1] in _NO_NAME:
            return _READ_HEADERS(lines)
        fields.append((name, value.strip()))
    headers = http.Headers()
    headers.fields = tuple(fields)
    return headers


def request_of(head: bytes) -> http.Request | None:
    """The request with this head, all of whose lines end with CRLF, the last two empty; None if it is not a plain one."""
    lines = head.split(b"\r\n")
    parts = lines[0].split()
    if len(parts) != 3 or parts[2] != _HTTP11 or not parts[1].startswith(b"/") or (headers := _fields_of(lines)) is None:
        return None
    made, data = http.Request.__new__(http.Request), http.RequestData.__new__(http.RequestData)
    # What `__init__` would do to fields of these types, which is nothing more, takes eight times as long.
    data.__dict__.update(
        http_version=_HTTP11,
        headers=headers,
        content=None,
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=None,
        host="",
        port=0,
        method=parts[0],
        scheme=b"",
        authority=b"",
        path=parts[1],
    )
    made.data = data
    return made


def response_of(head: bytes) -> http.Response | None:
    """The same for an answer, other than an interim one."""
    lines = head.split(b"\r\n")
    parts = lines[0].split(None, 2)
    if len(parts) == 2:
        parts.append(b"")
    if len(parts) != 3 or parts[0] != _HTTP11 or not _is_final(parts[1]) or (headers := _fields_of(lines)) is None:
        return None
    made, data = http.Response.__new__(http.Response), http.ResponseData.__new__(http.ResponseData)
    data.__dict__.update(
        http_version=_HTTP11,
        headers=headers,
        content=None,
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=None,
        status_code=int(parts[1]),
        reason=parts[2],
    )
    made.data = data
    return made


def _is_final(status: bytes) -> bool:
    return len(status) == 3 and status.isdigit() and status >= b"200"


def _fields_of(lines: Sequence[bytes]) -> http.Headers | None:
    """The fields of a head, and their names, in one pass."""
    fields: list[tuple[bytes, bytes]] = []
    names: dict[bytes, bytes] = {}
    for line in lines[1:-2]:
        name, colon, value = line.partition(b":")
        if not colon or name[:1] in _NO_NAME:
            return None
        value = value.strip()
        fields.append((name, value))
        names[name.lower()] = value
    return heads.of_fields(tuple(fields), names)


def raise_if_http_version_unknown(http_version: bytes) -> None:
    """As in mitmproxy."""
    if http_version != _HTTP11:
        _CHECK_VERSION(http_version)
