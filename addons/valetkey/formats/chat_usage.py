"""Take the chunk out of a chat stream that the agent did not ask for.

With `stream_options.include_usage` an OpenAI chat stream ends with one more chunk: no choices, and the usage. Where the
gateway asked for it and the agent did not, the agent must not see it. Nothing else is touched; an event passes with its last byte.
"""

from __future__ import annotations

import json

from .sse import SseEvent, SseParser

_HELD = 1024 * 1024
"""Bytes of an unfinished event that are held back; beyond, it passes in parts, for the extra chunk is far smaller."""


class UsageChunkFilter:
    """A transducer over the bytes of the stream."""

    def __init__(self) -> None:
        self._parser = SseParser(_HELD)

    def feed(self, data: bytes) -> bytes:
        """The bytes of all events that are complete now, but for the extra chunk."""
        return b"".join(event.raw for event in self._parser.feed(data) if not _is_extra(event))

    def end(self) -> bytes:
        """What was held back."""
        return b"".join(event.raw for event in self._parser.end() if not _is_extra(event))


def _is_extra(event: SseEvent) -> bool:
    if b'"usage"' not in event.data or b'"choices"' not in event.data:
        return False
    try:
        chunk = json.loads(event.data)
    except (ValueError, RecursionError):
        return False
    return isinstance(chunk, dict) and chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict)
