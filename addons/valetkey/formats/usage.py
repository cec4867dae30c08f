"""Read usage on the side of an answer, whatever the chunks, in memory that does not grow with a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..model import Format
from .decode import DecodeError, Decoder, decoder
from .elements import ElementParser
from .folding import Fold, OllamaFold, fold_for
from .jsonscan import JsonScanError, pick
from .lines import LineParser
from .sse import SseParser

BODY_LIMIT = 64 * 1024 * 1024
EVENT_LIMIT = 8 * 1024 * 1024
_WHOLE = (
    "model", "usage", "usageMetadata", "modelVersion", "id", "responseId", "service_tier", "x_groq", "error", "tools",
    "done", "prompt_eval_count", "eval_count",
)  # fmt: skip
_BYTES_PER_TOKEN = 4


class UsageTap:
    """Fed with an answer's body as it passes; `document` then is the body that usage is extracted from, None without any.

    Never raises: what goes wrong is in `problem`. `complete` means that the format's end marker, or a whole body, was seen;
    `error` is an error that came inside a 200.
    """

    def __init__(
        self, format: Format, content_type: str | None, content_encoding: str | None = None, limit: int = BODY_LIMIT
    ) -> None:
        self.problem: str | None = None
        self.events = 0
        self.output_chars = 0
        self.saw_content = False
        self._fold = fold_for(format)
        self._whole: bytearray | None = None
        self._whole_document: dict[str, Any] | None = None
        self._limit = limit
        self._decoder: Decoder | None = None
        kind = (content_type or "").partition(";")[0].strip().lower()
        self._parser = _parser_for(kind, self._fold)
        if self._parser is None:
            self._whole = bytearray()
        try:
            self._decoder = decoder(content_encoding) if content_encoding else None
        except DecodeError as error:
            self.problem = str(error)

    @property
    def document(self) -> Mapping[str, Any] | None:
        """What usage is extracted from."""
        return self._whole_document or self._fold.document or None

    @property
    def error(self) -> Mapping[str, Any] | None:
        """The error event inside a stream, if there was one."""
        return self._fold.error

    @property
    def complete(self) -> bool:
        """Whether the answer was seen to its end."""
        return self._fold.complete or self._whole_document is not None

    def feed(self, data: bytes) -> None:
        """Take a chunk as it came over the wire."""
        if self.problem is not None:
            return
        try:
            for piece in self._decoder.feed_iter(data) if self._decoder else (data,):
                self._take(piece)
        except DecodeError as error:
            self.problem = str(error)

    def end(self) -> None:
        """The answer is over, or nothing more will be seen of it."""
        if self.problem is not None:
            return
        if self._whole is not None:
            self._read_whole()
        elif self._parser is not None:
            self._read_events(self._parser.end())

    def _take(self, data: bytes) -> None:
        if self._whole is None:
            assert self._parser is not None
            self._read_events(self._parser.feed(data))
            return
        if not self._whole and not data.strip():
            return  # keep-alive blank lines before a body (DeepSeek)
        if not self._whole and data.lstrip()[:1] == b"[":
            self._whole, self._parser = None, ElementParser(EVENT_LIMIT)
            self._take(data)
            return
        self._whole += data
        if len(self._whole) > self._limit:
            self.problem = f"the answer is larger than {self._limit} bytes"
            self._whole = bytearray()

    def _read_events(self, events: list[tuple[str | None, bytes]]) -> None:
        fold = self._fold
        for name, data in events:
            if not data:
                continue
            self.events += 1
            fold.mark(name, data)
            if fold.is_content(name, data):
                self.saw_content = True
                self.output_chars += _content_length(data)
            if fold.wants(name, data):
                event = _decoded(data)
                if isinstance(event, dict):
                    fold.read(name, event)

    def _read_whole(self) -> None:
        body, self._whole = bytes(self._whole or b"").strip(), bytearray()
        if not body:
            return
        try:
            found = pick(body, _WHOLE)
        except JsonScanError as error:
            self.problem = f"the answer is no JSON object: {error}"
            return
        self.events, self.saw_content = 1, True
        self.output_chars = len(body)
        if isinstance(self._fold, OllamaFold):
            self._fold.read(None, found)
            found = dict(self._fold.document)
        elif "usage" not in found and isinstance(found.get("x_groq"), dict):
            found["usage"] = found["x_groq"].get("usage")
        self._whole_document = found | _billed_beside(body)


def estimate_usage(request_bytes: int, output_chars: int) -> dict[str, int]:
    """A rough count where nothing was reported: four bytes to a token."""
    return {"input_tokens": request_bytes // _BYTES_PER_TOKEN, "output_tokens": output_chars // _BYTES_PER_TOKEN}


def _parser_for(kind: str, fold: Fold) -> _Events | None:
    if kind == "text/event-stream":
        return _Sse()
    if kind == "application/x-ndjson" or (isinstance(fold, OllamaFold) and kind != "application/json"):
        return LineParser(EVENT_LIMIT)
    return None


class _Sse:
    """The SSE parser, giving names and data only."""

    def __init__(self) -> None:
        self._inner = SseParser(EVENT_LIMIT)

    def feed(self, data: bytes) -> list[tuple[str | None, bytes]]:
        return [(event.event, event.data) for event in self._inner.feed(data)]

    def end(self) -> list[tuple[str | None, bytes]]:
        return [(event.event, event.data) for event in self._inner.end()]


_Events = _Sse | LineParser | ElementParser


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _content_length(data: bytes) -> int:
    """About how many characters of answer an event holds: what stands between the quotes of its longest string, at least one."""
    return max(1, max((len(part) for part in data.split(b'"')), default=1))


def _billed_beside(body: bytes) -> dict[str, Any]:
    """What stands outside `usage` and is billed: grounded searches of Gemini, tool calls of Responses."""
    names = [name for name in ("candidates", "output") if b"groundingMetadata" in body or b"_call" in body]
    try:
        return pick(body, names) if names else {}
    except JsonScanError:
        return {}
