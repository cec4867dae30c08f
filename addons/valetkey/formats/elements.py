"""A JSON array that comes in pieces, element by element (Gemini's stream without `alt=sse`)."""

from __future__ import annotations

import re

_INSIDE = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_inside = re.compile(_INSIDE, re.DOTALL)
"""Up to the end of a string, or of the data. A backslash without what it escapes is left."""
_outside = re.compile(rb'[^"\[\]{}]*+(?:"' + _INSIDE + rb'"[^"\[\]{}]*+)*+', re.DOTALL)
"""Up to the next bracket, over all complete strings; or to a string that does not end in the data."""


class ElementParser:
    """Cuts the objects out of an array, wherever the chunks break. An element beyond `limit` bytes is dropped whole."""

    def __init__(self, limit: int) -> None:
        self.oversized = 0
        """Elements that were dropped."""
        self._limit = limit
        self._buffer = bytearray()
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._dropping = False

    @property
    def between(self) -> bool:
        """No chunk is an element by itself: commas stand between them."""
        return False

    def feed(self, data: bytes) -> list[tuple[str | None, bytes]]:
        """The elements that `data` completes; they have no name."""
        found: list[tuple[str | None, bytes]] = []
        if not data:
            return found
        start = 0
        at = self._after_string(data) if self._in_string else 0
        while not self._in_string and (at := _end(_outside, data, at)) < len(data):
            mark = data[at : at + 1]
            at += 1
            if mark == b'"':
                at = self._open_string(data, at)
            elif mark in b"[{":
                self._depth += 1
                if self._depth == 2:
                    start = at - 1
                    self._buffer.clear()
            else:
                self._depth -= 1
                if self._depth == 1:
                    self._keep(data[start:at])
                    found += self._taken()
                    start = at
        if self._depth >= 2:
            self._keep(data[start:])
        return found

    def end(self) -> list[tuple[str | None, bytes]]:
        """Nothing: an element that did not end is none."""
        return []

    def _open_string(self, data: bytes, at: int) -> int:
        """Step into a string that does not end in the data; where to go on."""
        self._in_string = True
        return self._after_string(data, at)

    def _after_string(self, data: bytes, at: int = 0) -> int:
        """The offset after the string that `at` stands in; it is still inside where that does not end in the data."""
        at += self._escaped
        end = _end(_inside, data, at)
        self._escaped = data[end : end + 1] == b"\\"
        self._in_string = data[end : end + 1] != b'"'
        return min(end + 1, len(data))

    def _keep(self, data: bytes) -> None:
        if not self._dropping:
            self._buffer += data
        if len(self._buffer) > self._limit:
            self.oversized += 1
            self._dropping = True
            self._buffer.clear()

    def _taken(self) -> list[tuple[str | None, bytes]]:
        element, dropped = bytes(self._buffer), self._dropping
        self._buffer.clear()
        self._dropping = False
        return [] if dropped else [(None, element)]


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    match = pattern.match(data, at)
    return match.end() if match else at
