"""Whether the head of a request can be read in one way only, and is of a reasonable size.

mitmproxy passes on what it tolerates, and the next parser may read it differently: a folded line or a bare CR may begin a header
there, a NUL may end one (RFC 9110, section 5.5; RFC 9112, sections 2.2, 5.2 and 6.1). So such a head is refused, not repaired.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from ..model import Refusal

HEAD_LIMIT = 64 * 1024
"""Most bytes of the target, and the names and values of the fields together."""

FIELDS_LIMIT = 256
"""Most fields; SDKs send about 20."""

METHOD_LIMIT = 32
"""Longest method, in bytes."""

Field = tuple[bytes, bytes]

_PLAIN = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
"""What may stand in a head once it is taken apart. All line ends are gone by then, except those of folded lines."""

_VERSIONS = frozenset({b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/3"})
_TRANSFER = b"transfer-encoding"


def fault(target: bytes, version: bytes, fields: Sequence[Field]) -> Refusal | None:
    """Why a head is refused: 431 for one that is too large, 400 for one that two parsers could read differently, else None.

    `target` is authority and path, `fields` are raw names and values.
    """
    if len(fields) > FIELDS_LIMIT:
        return _too_large()
    text = target + b"".join(chain.from_iterable(fields))
    if len(text) > HEAD_LIMIT:
        return _too_large()
    if version not in _VERSIONS:
        return _malformed("its HTTP version is none of 1.0, 1.1, 2 and 3")
    if text.translate(None, _PLAIN):
        return _malformed("it holds a control character, a bare CR or a folded line")
    return _coding_fault(fields) if _TRANSFER in text.lower() else None


def method_fault(method: bytes) -> Refusal | None:
    """Why a method is refused: names of methods tell upper from lower case (RFC 9110, section 9.1), and ours are upper case."""
    if method.isalpha() and method.isupper() and len(method) <= METHOD_LIMIT:
        return None
    return _malformed("its method is not a word in capital letters")


def sound(fields: Sequence[Field]) -> tuple[Field, ...]:
    """The fields of a refused head that may be shown: the first ones, none with an odd character in it."""
    kept: list[Field] = []
    size = 0
    for name, value in fields[:FIELDS_LIMIT]:
        size += len(name) + len(value)
        if size > HEAD_LIMIT:
            break
        if not (name + value).translate(None, _PLAIN):
            kept.append((name, value))
    return tuple(kept)


def _coding_fault(fields: Sequence[Field]) -> Refusal | None:
    """A body is framed once, by chunks: nobody here would undo another coding, and the next parser might."""
    codings = [value.strip().lower() for name, value in fields if name.lower() == _TRANSFER]
    if codings and codings != [b"chunked"]:
        return _malformed("its Transfer-Encoding is not chunked alone; compress a body with Content-Encoding")
    return None


def _too_large() -> Refusal:
    text = f"the request's head is larger than is read here ({HEAD_LIMIT} bytes, {FIELDS_LIMIT} fields)"
    return Refusal(431, "head_too_large", text)


def _malformed(what: str) -> Refusal:
    return Refusal(400, "malformed_head", f"the request's head is refused: {what}")
