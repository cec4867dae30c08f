"""Faster twins of mitmproxy's functions that read and check a head. The plain case is done here; they are asked for any other.

Plain is what cannot be read in two ways: fields of tokens, one length in digits, and no transfer coding.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import methodcaller

from mitmproxy import http
from mitmproxy.net.http import http1, validate
from mitmproxy.net.http.http1 import read

from . import heads

_EXPECTED_SIZE, _VALIDATE, _READ_HEADERS = http1.expected_http_body_size, validate.validate_headers, read._read_headers
_CHECK_VERSION = read.raise_if_http_version_unknown

_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BYTES = frozenset({bytes})
_DIGITS = 18
"""A length of more is no length."""
_halves = methodcaller("partition", b":")


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
    if names and b"transfer-encoding" not in names and b"" not in names and not b"".join(names).translate(None, _TOKEN):
        length = names.get(b"content-length", b"0")
        if type(length) is bytes:
            validate.parse_content_length(length)
            return
    _VALIDATE(message)


def read_headers(lines: Iterable[bytes]) -> http.Headers:
    """As in mitmproxy."""
    if type(lines) is not list or not lines or not _BYTES.issuperset(map(type, lines)):
        return _READ_HEADERS(lines)
    names, colons, values = zip(*map(_halves, lines), strict=True)
    joined = b"".join(names)
    # A blank may be the start of a line that goes on with the field before it.
    if b"" in names or b"" in colons or b" " in joined or b"\t" in joined:
        return _READ_HEADERS(lines)
    return http.Headers(zip(names, map(bytes.strip, values), strict=True))


def raise_if_http_version_unknown(http_version: bytes) -> None:
    """As in mitmproxy."""
    if http_version != b"HTTP/1.1":
        _CHECK_VERSION(http_version)
