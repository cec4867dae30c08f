"""A JSON array that comes in pieces, element by element (Gemini's stream without `alt=sse`)."""

from __future__ import annotations

import re

_MARKS = re.compile(rb'[\[\]{}"\\]')


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

    def feed(self, data: bytes) -> list[tuple[str | None, bytes]]:
        """The elements that `data` completes; they have no name."""
        found: list[tuple[str | None, bytes]] = []
        start = 0
        at = 0
        while at < len(data):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            mark = _MARKS.search(data, at)
            if mark is None:
                break
            at = mark.end()
            before = self._depth
            self._turn(mark.group())
            if before == 1 and self._depth == 2:
                start = mark.start()
                self._buffer.clear()
            elif before == 2 and self._depth == 1:
                self._keep(data[start:at])
                found += self._taken()
                start = at
        if self._depth >= 2:
            self._keep(data[start:])
        return found

    def end(self) -> list[tuple[str | None, bytes]]:
        """Nothing: an element that did not end is none."""
        return []

    def _turn(self, mark: bytes) -> None:
        if self._in_string:
            self._escaped = mark == b"\\"
            self._in_string = mark != b'"'
        elif mark == b'"':
            self._in_string = True
        elif mark in b"[{":
            self._depth += 1
        elif mark in b"]}":
            self._depth -= 1

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
