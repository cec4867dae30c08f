"""Server-sent events, taken apart without losing a byte.

Follows the event stream grammar of the HTML standard (section 9.2.6): a line ends with LF, CRLF or CR; a blank line ends an
event. Unlike a browser's parser, each piece also keeps the bytes it came from, so that a stream can be passed on as it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_LIMIT = 8 * 1024 * 1024
"""Largest event whose data is kept, in bytes. Text events are a few hundred; images inside events reach megabytes."""

_BOM = b"\xef\xbb\xbf"

# Possessive `?+`: the LF of a CRLF must never be taken for a second line end.
_EVENT_END = re.compile(rb"(?:\r\n?+|\n)(?:\r\n?+|\n)")
_LINE_END = re.compile(rb"\r\n?+|\n")


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One piece of the stream: an event, a block of comments, a lone blank line, or a part of an event beyond the limit.

    `event` is the value of the last `event:` line; `data` the `data:` lines joined with LF, empty where there are none;
    `raw` the bytes as they came. The `raw` of all pieces, joined, is the stream.
    """

    event: str | None
    data: bytes
    raw: bytes


class SseParser:
    """Cuts a byte stream into events, whatever the chunks it comes in.

    An event is given out with the byte that completes its blank line. A stream that ends lines with a bare CR gives out the
    event at the CR; an LF that follows comes as a piece of its own. Never holds more than about `limit` bytes.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.oversized = 0
        """Events beyond the limit so far; their data was not kept."""
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0
        self._in_oversized = False
        self._at_start = True

    def feed(self, data: bytes) -> list[SseEvent]:
        """Take the next bytes of the stream; returns the pieces they complete."""
        self._buffer += data
        events = []
        while (end := self._find_end()) is not None:
            events.append(self._take(end))
        if self._in_oversized or len(self._buffer) > self._limit:
            events.extend(self._take_part())
        return events

    def end(self) -> list[SseEvent]:
        """The stream is over: returns what is left, an event without its blank line included."""
        return [self._take(len(self._buffer))] if self._buffer else []

    def _find_end(self) -> int | None:
        """Where the first piece in the buffer ends, if it is complete."""
        if not self._in_oversized and (blank := _LINE_END.match(self._buffer)):
            return blank.end()
        if match := _EVENT_END.search(self._buffer, self._searched):
            return match.end()
        # The end may begin with the last byte seen, not earlier.
        self._searched = max(0, len(self._buffer) - 1)
        return None

    def _take(self, end: int) -> SseEvent:
        self.oversized += end > self._limit and not self._in_oversized
        too_large = self._in_oversized or end > self._limit
        at_start, self._at_start = self._at_start, False
        self._in_oversized = False
        raw = self._cut(end)
        if too_large:
            return SseEvent(None, b"", raw)
        return _parse(raw, raw.removeprefix(_BOM) if at_start else raw)

    def _take_part(self) -> list[SseEvent]:
        """Pass on what is there of a too large event, but for the last byte: it may begin the blank line."""
        self.oversized += not self._in_oversized
        self._in_oversized = True
        self._at_start = False
        part = self._cut(len(self._buffer) - 1)
        return [SseEvent(None, b"", part)] if part else []

    def _cut(self, end: int) -> bytes:
        with memoryview(self._buffer) as view:
            head = bytes(view[:end])
        del self._buffer[:end]
        self._searched = 0
        return head


def _parse(raw: bytes, text: bytes) -> SseEvent:
    name: bytes | None = None
    data: list[bytes] = []
    for line in text.splitlines():
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return SseEvent(None if name is None else name.decode("utf-8", "replace"), b"\n".join(data), raw)
