"""Take the chunk out of a chat stream that the agent did not ask for.

With `stream_options.include_usage` an OpenAI chat stream ends with one more chunk: no choices, and the usage. Where the
gateway asked for it and the agent did not, the agent must not see it. Nothing else is touched; an event passes with its
last byte.
"""

from __future__ import annotations

import json
import re

from .sse import SseEvent, SseParser

_HELD = 1024 * 1024
"""Bytes of an unfinished event that are held back; beyond, it passes in parts, for the extra chunk is far smaller."""

_USAGE = re.compile(rb'"usage"\s*:\s*\{')


class UsageChunkFilter:
    """A transducer over the bytes of the stream, which must not be compressed."""

    def __init__(self) -> None:
        self._parser = SseParser(_HELD)
        self._taken_cr = False

    def feed(self, data: bytes) -> bytes:
        """The bytes of all events that are complete now, but for the extra chunk."""
        # Chunks of the stream carry no usage, or none but null, until the extra one.
        if not self._taken_cr and data.count(b'"usage"') == data.count(b'"usage":null') and self._parser.skip(data):
            return data
        return b"".join([self._passed(event) for event in self._parser.feed(data)])

    def end(self) -> bytes:
        """What was held back."""
        return b"".join(self._passed(event) for event in self._parser.end())

    def _passed(self, event: SseEvent) -> bytes:
        # The LF of a blank line CRLF that came apart: its CR went with the chunk taken out.
        raw = event.raw.removeprefix(b"\n") if self._taken_cr else event.raw
        extra = _is_extra(event)
        self._taken_cr = extra and raw.endswith(b"\r")
        return _comments(raw) if extra else raw


def _is_extra(event: SseEvent) -> bool:
    """Whether this is the chunk: no choices, usage, no error. All others have choices, or `usage` null or absent."""
    if not _USAGE.search(event.data):
        return False
    try:
        chunk = json.loads(event.data)
    except (ValueError, RecursionError):
        return False
    if not isinstance(chunk, dict) or chunk.get("error"):
        return False
    return chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict)


def _comments(raw: bytes) -> bytes:
    """The comment lines that stand in one block with the chunk."""
    return b"".join(line for line in raw.splitlines(keepends=True) if line.startswith(b":"))
