"""Newline-delimited JSON, line by line."""

from __future__ import annotations


class LineParser:
    """Cuts a stream into lines; a line beyond `limit` bytes is dropped, never kept in part."""

    def __init__(self, limit: int) -> None:
        self.oversized = 0
        """Lines that were dropped."""
        self._limit = limit
        self._buffer = bytearray()
        self._dropping = False

    @property
    def between(self) -> bool:
        """Whether the stream stands between two lines."""
        return not self._buffer and not self._dropping

    def feed(self, data: bytes) -> list[tuple[str | None, bytes]]:
        """The lines that `data` completes; they have no name."""
        if not self._buffer and not self._dropping and data.find(b"\n") == len(data) - 1 and 0 < len(data) <= self._limit:
            return [(None, data.strip())]
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n") if b"\n" in data else [self._buffer]
        self._buffer = bytearray(rest) if lines else self._buffer
        found: list[tuple[str | None, bytes]] = []
        for line in lines:
            too_large = len(line) > self._limit
            self.oversized += too_large and not self._dropping
            if not self._dropping and not too_large:
                found.append((None, bytes(line).strip()))
            self._dropping = False
        if len(self._buffer) > self._limit:
            self.oversized += not self._dropping
            self._buffer.clear()
            self._dropping = True
        return found

    def end(self) -> list[tuple[str | None, bytes]]:
        """The last line, if it did not end."""
        rest, self._buffer = bytes(self._buffer).strip(), bytearray()
        return [(None, rest)] if rest and not self._dropping else []
