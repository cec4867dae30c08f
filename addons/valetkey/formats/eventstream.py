"""AWS event streams (`application/vnd.amazon.eventstream`), taken apart into events, and made.

A frame is the length of the whole, the length of its headers, the CRC-32 of both; headers; a payload; and the CRC-32 of all that.
https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from struct import Struct
from typing import Any
from zlib import crc32

EVENT_STREAM = "application/vnd.amazon.eventstream"

Event = tuple[str | None, bytes]
"""Name and JSON."""

_PRELUDE = Struct(">III")
_CRC = Struct(">I")
_LEAST = _PRELUDE.size + _CRC.size

_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type: true, false, byte, short, integer, long, timestamp, UUID."""
_COUNTED = {6: "bytes", 7: "text"}
"""Types whose value begins with its own length, in two bytes."""


class EventStreamParser:
    """Cuts a byte stream into the events of its frames, whatever the chunks it comes in. Never raises.

    An event has the name that its frame gives it. The `chunk` of an InvokeModelWithResponseStream is the model's own event,
    without a name. An exception, and an error that the service has no type for, is an event called `error` as other APIs have
    it: `{"error": {"type": "throttlingException", "message": ...}}`.

    A frame beyond `limit` bytes is skipped. Where lengths or sums are wrong, nothing after it can be told: `lost` is set, and
    no event comes any more.
    """

    between = False
    """No chunk is known by the one before it: a sum over its content is part of each."""

    def __init__(self, limit: int) -> None:
        self.oversized = 0
        """Frames that were skipped."""
        self.lost = False
        self._limit = limit
        self._buffer = bytearray()
        self._skipping = 0

    @property
    def at_rest(self) -> bool:
        """Whether the stream stands between two frames, so that another one could follow."""
        return not (self._buffer or self._skipping or self.lost)

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes of the stream; returns the events they complete."""
        if self.lost:
            return []
        self._buffer += data
        found: list[Event] = []
        while (frame := self._next()) is not None:
            event = _event(frame)
            if event is None:
                self._lose()
                break
            found.append(event)
        return found

    def end(self) -> list[Event]:
        """Nothing: a frame that is not complete is none."""
        return []

    def _next(self) -> bytes | None:
        """The next frame, if all of it is there."""
        buffer = self._buffer
        while True:
            if self._skipping:
                skipped = min(self._skipping, len(buffer))
                del buffer[:skipped]
                self._skipping -= skipped
            if len(buffer) < _PRELUDE.size:
                return None
            total, headers, crc = _PRELUDE.unpack_from(buffer)
            if crc32(buffer[:8]) != crc or total < headers + _LEAST:
                self._lose()
                return None
            if total <= self._limit:
                break
            self.oversized += 1
            self._skipping = total
        if len(buffer) < total:
            return None
        frame = bytes(buffer[:total])
        del buffer[:total]
        return frame

    def _lose(self) -> None:
        self.lost = True
        self._buffer.clear()


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A frame with headers of text."""
    texts = [(name.encode(), value.encode()) for name, value in headers.items()]
    block = b"".join(bytes((len(name),)) + name + b"\7" + len(value).to_bytes(2) + value for name, value in texts)
    lengths = (_LEAST + len(block) + len(payload)).to_bytes(4) + len(block).to_bytes(4)
    made = lengths + _CRC.pack(crc32(lengths)) + block + payload
    return made + _CRC.pack(crc32(made))


def event_frame(name: str, payload: bytes, kind: str = "event") -> bytes:
    """A frame with an event, or another `kind` of message (`exception`), of JSON."""
    return frame({f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}, payload)


def _event(data: bytes) -> Event | None:
    """What a frame says; None where its sum is wrong or its headers cannot be read."""
    _, length, _ = _PRELUDE.unpack_from(data)
    if crc32(data[:-4]) != _CRC.unpack(data[-4:])[0]:
        return None
    headers = _texts(data[_PRELUDE.size : _PRELUDE.size + length])
    if headers is None:
        return None
    payload = data[_PRELUDE.size + length : -4]
    match headers.get(":message-type"):
        case "exception":
            return "error", _error(headers.get(":exception-type"), _object(payload), payload)
        case "error":
            return "error", _error(headers.get(":error-code"), {"message": headers.get(":error-message")}, payload)
        case _:
            name = headers.get(":event-type")
            return (None, _inner(payload)) if name == "chunk" else (name, payload)


def _texts(block: bytes) -> dict[str, str] | None:
    """The headers that are text, by name; None where the lengths do not fit."""
    found: dict[str, str] = {}
    at = 0
    while at < len(block):
        start = at + 1 + block[at]
        kind = block[start] if start < len(block) else -1
        value = start + 1
        if kind in _COUNTED:
            size, value = int.from_bytes(block[value : value + 2]), value + 2
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            return None
        if _COUNTED.get(kind) == "text":
            found[block[at + 1 : start].decode("utf-8", "replace")] = block[value : value + size].decode("utf-8", "replace")
        at = value + size
    return found if at == len(block) else None


def _inner(payload: bytes) -> bytes:
    """The model's own event in a chunk; the payload itself where there is none.

    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_PayloadPart.html
    """
    text = _object(payload).get("bytes")
    try:
        return b64decode(text) if isinstance(text, str) else payload
    except ValueError:
        return payload


def _error(kind: str | None, details: Mapping[str, Any], payload: bytes) -> bytes:
    said = details or {"message": payload.decode("utf-8", "replace")}
    return json.dumps({"error": {**said, "type": kind or "internalServerException"}}).encode()


def _object(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
