"""Server-sent events, taken apart without losing a byte.

Follows the event stream grammar of the HTML standard (section 9.2.6): a line ends with LF, CRLF or CR; a blank line ends an
event. Unlike a browser's parser, each piece also keeps the bytes it came from, so that a stream can be passed on as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import methodcaller
from typing import NamedTuple

DEFAULT_LIMIT = 8 * 1024 * 1024
"""Largest event whose data is kept, in bytes. Text events are a few hundred; images inside events reach megabytes."""

_BOM = b"\xef\xbb\xbf"

# Possessive `?+`: the LF of a CRLF must never be taken for a second line end.
_EVENT_END = re.compile(rb"(?:\r\n?+|\n)(?:\r\n?+|\n)")
_LINE_END = re.compile(rb"\r\n?+|\n")


_is_data = methodcaller("startswith", b"data: ")
_COMMON = 8 * 1024
"""Bytes that are looked at anew with each chunk; an event that is larger already is taken apart step by step."""


class SseEvent(NamedTuple):
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

    @property
    def between(self) -> bool:
        """Whether the stream stands between two events, and nothing of it is held."""
        return not self._buffer and not self._at_start and not self._in_oversized

    def feed(self, data: bytes) -> list[SseEvent]:
        """Take the next bytes of the stream; returns the pieces they complete."""
        return [*self.feed_each(data)]

    def feed_each(self, data: bytes) -> Iterator[SseEvent]:
        """Like `feed`, for those who may need only the first pieces: the others are not read. All of `data` is taken at once."""
        common = self._take_common(data)
        if common is None:
            return iter(self._take_any())
        blocks, line_end = common
        blank = line_end + line_end
        return (SseEvent(*_fields(block, line_end), block + blank) for block in blocks)

    def feed_data(self, data: bytes) -> list[tuple[str | None, bytes]]:
        """Like `feed`, for those who need no `raw`: names and data of the pieces."""
        if not self._buffer and not self._at_start and (single := single_event(data)) and len(data) <= self._limit:
            return [single]
        common = self._take_common(data)
        if common is None:
            return [(event.event, event.data) for event in self._take_any()]
        blocks, line_end = common
        # In most streams each event is one line of data.
        if b"".join(blocks).find(line_end) < 0 and all(map(_is_data, blocks)):
            return [(None, block[6:]) for block in blocks]
        return [_fields(block, line_end) for block in blocks]

    def skip(self, data: bytes) -> bool:
        """Take bytes that need not be cut, since they are whole events; False leaves them to `feed`."""
        # A bare CR may be half of a line end.
        if self._buffer or self._in_oversized or data[-2:] != b"\n\n":
            return False
        self._at_start = False
        return True

    def end(self) -> list[SseEvent]:
        """The stream is over: returns what is left, an event without its blank line included."""
        return [self._take(len(self._buffer))] if self._buffer else []

    def _take_common(self, data: bytes) -> tuple[list[bytes], bytes] | None:
        """The complete events without their blank lines, and their line end; None where it is not as simple as in most streams.

        There all lines end alike, and one blank line stands after each event. `data` is in the buffer afterwards, but for what
        is given.
        """
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) > _COMMON:
                return None
            data = bytes(buffer)
        line_end = b"\r\n" if data.find(b"\r") >= 0 else b"\n"
        blocks = data.split(line_end + line_end)
        rest = blocks.pop()
        if self._is_common(data, line_end, blocks):
            self._at_start = self._at_start and not blocks
            buffer[:] = rest
            self._searched = 0
            return blocks, line_end
        buffer[:] = data
        return None

    def _is_common(self, data: bytes, line_end: bytes, blocks: list[bytes]) -> bool:
        if self._in_oversized or len(data) > self._limit or (self._at_start and data[:1] == _BOM[:1]):
            return False
        if line_end == b"\r\n" and not data.count(b"\r") == data.count(b"\n") == data.count(b"\r\n"):
            return False
        # A blank line that stands alone is a piece of its own.
        return data[:1] not in (b"\r", b"\n") and data.find(line_end + line_end + line_end) < 0

    def _take_any(self) -> list[SseEvent]:
        """The pieces that are complete in the buffer."""
        events = []
        while (end := self._find_end()) is not None:
            events.append(self._take(end))
        if self._in_oversized or len(self._buffer) > self._limit:
            events.extend(self._take_part())
        return events

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
    return SseEvent(*_fields_of(text.splitlines()), raw)


def single_event(data: bytes) -> tuple[str | None, bytes] | None:
    """Name and data of a chunk that is just one event of the most usual form, where the stream stands between two."""
    start = 0
    if data.startswith(b"event: "):
        start = data.find(b"\n") + 1
    end = len(data) - 2
    if not data.startswith(b"data: ", start) or data.find(b"\n", start) != end or data[-1:] != b"\n" or data.find(b"\r") >= 0:
        return None
    return data[7 : start - 1].decode("utf-8", "replace") if start else None, data[start + 6 : end]


def _fields(block: bytes, line_end: bytes) -> tuple[str | None, bytes]:
    """Name and data of an event; most have one line of data, some a name before it."""
    if block.startswith(b"data: ") and block.find(line_end) < 0:
        return None, block[6:]
    if block.startswith(b"event: "):
        name, _, rest = block[7:].partition(line_end)
        if rest.startswith(b"data: ") and rest.find(line_end) < 0:
            return name.decode("utf-8", "replace"), rest[6:]
    return _fields_of(block.split(line_end))


def _fields_of(lines: list[bytes]) -> tuple[str | None, bytes]:
    name: bytes | None = None
    data: list[bytes] = []
    for line in lines:
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return None if name is None else name.decode("utf-8", "replace"), b"\n".join(data)
