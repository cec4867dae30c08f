"""The spellings of a key: whole encodings as fixed byte strings, escapes of single characters as something to be undone.

Known limits: one escape may nest in JSON up to four times and in percent-encoding twice; hex with separators, base64 broken into
lines, mixed-case hex, and any other change that an upstream may think of are not recognised.
"""

from __future__ import annotations

import base64
import html
import json
import re
from bisect import bisect_right
from itertools import accumulate
from urllib.parse import quote

_AMBIGUOUS = frozenset("\\\"%&<>'")
"""Characters of a key that begin an escape themselves, or are always written as one."""

_CODE = rb"(?:(?:u00|x)([0-9a-fA-F]{2})|(/))"
_PERCENT = rb"%(?:25)?([0-9a-fA-F]{2})"
_REFERENCE = rb"&#(?:[xX]([0-9a-fA-F]{2})|([0-9]{2,3}));"
_ESCAPE = re.compile(rb"\\\\{0,7}" + _CODE + b"|" + _PERCENT + b"|" + _REFERENCE)
"""One character as JSON (RFC 8259 section 7; each string within a string doubles the backslashes), as `\\x73` of a program's
`repr`, percent-encoded (RFC 3986 section 2.1; `%25` is an encoded `%`), or as a numeric character reference of HTML."""

_UNFINISHED = re.compile(
    rb"(?:\\{1,8}(?:u(?:0(?:0[0-9a-fA-F]?)?)?|x[0-9a-fA-F]?)?|%(?:25)?[0-9a-fA-F]?|&(?:#(?:[xX][0-9a-fA-F]{0,2}|[0-9]{0,3}))?)\Z"
)
"""The beginning of an escape at the end of the data. A whole `%25` counts: it may become `%2573`."""

LONGEST_ESCAPE = 13
"""Bytes: eight backslashes and `u0073`."""
ESCAPE_BYTES = rb"\%&#;/uxX0123456789abcdefABCDEF"
"""All bytes that an escape is made of."""

_escaped, _percent, _reference = (re.compile(part).search for part in (rb"\\" + _CODE, _PERCENT, _REFERENCE))
_DECIMAL, _SLASH = 5, 2


def variants(secret: str) -> tuple[bytes, ...]:
    """The byte strings that give `secret` (ASCII) away: itself, reversed, hex, base64 and base64url at each alignment.

    Escapes of single characters, of these as well, are not listed: `unescape` undoes them.
    """
    raw = secret.encode()
    whole = [raw, raw[::-1], raw.hex().encode(), raw.hex().upper().encode()]
    for shift in range(3):
        middle = _base64_middle(raw, shift)
        whole += [middle, middle.translate(bytes.maketrans(b"+/", b"-_"))]
    if not _AMBIGUOUS.isdisjoint(secret):
        # Undoing escapes would also undo what only looks like one in the key.
        whole += [unescape(raw), json.dumps(secret)[1:-1].encode(), quote(secret, safe="").encode(), html.escape(secret).encode()]
    return tuple(dict.fromkeys(whole))


def _base64_middle(raw: bytes, shift: int) -> bytes:
    """The base64 digits that depend on `raw` alone when `shift` bytes (modulo 3) stand before it and anything behind."""
    digits = base64.b64encode(bytes(shift) + raw)
    return digits[-(-8 * shift // 6) : 8 * (shift + len(raw)) // 6]


def has_escapes(data: bytes) -> bool:
    """Whether any escape stands in `data`; fast where there is none of the characters that begin one."""
    # One by one they begin with a fixed byte, and `re` skips to the next of those ten times faster than to one of several.
    return (
        (b"\\" in data and _escaped(data) is not None)
        or (b"%" in data and _percent(data) is not None)
        or (b"&" in data and _reference(data) is not None)
    )


def unescape(data: bytes) -> bytes:
    """`data` with each escape replaced by its character."""
    return _ESCAPE.sub(_character, data)


def unfinished(data: bytes) -> int:
    """Where an escape begins that `data` breaks off; its length if there is none."""
    start = max(0, len(data) - LONGEST_ESCAPE)
    match = _UNFINISHED.search(data, start)
    return match.start() if match else len(data)


def _character(match: re.Match[bytes]) -> bytes:
    kind = match.lastindex or 0
    if kind == _SLASH:
        return b"/"
    code = int(match[kind], 10 if kind == _DECIMAL else 16)
    # No key holds a character beyond ASCII, nor a NUL; so those are all the same here.
    return bytes((code,)) if code < 128 else b"\0"


class Unescaped:
    """Unescaped text that knows where in the data each of its characters stood."""

    def __init__(self, data: bytes) -> None:
        self.text = unescape(data)
        self._tokens = [match.span() for match in _ESCAPE.finditer(data)]
        self._starts = [start for start, _ in self._tokens]
        self._saved = list(accumulate((end - start - 1 for start, end in self._tokens), initial=0))
        self._places = [start - saved for start, saved in zip(self._starts, self._saved, strict=False)]

    def origin(self, place: int) -> int:
        """Where in the data the character at `place` of the text begins; past the last one, where the data ends."""
        # Escapes that end before it: those whose own character stands before `place`.
        return place + self._saved[bisect_right(self._places, place - 1)]

    def outside(self, position: int) -> int:
        """`position` in the data, or the beginning of the escape that it lies within."""
        index = bisect_right(self._starts, position) - 1
        if index >= 0 and position < self._tokens[index][1]:
            return self._tokens[index][0]
        return position
