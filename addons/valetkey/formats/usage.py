"""Read usage on the side of an answer, whatever the chunks, in memory that does not grow with a stream."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ..model import Format
from .decode import DecodeError, Decoder, decoder
from .elements import ElementParser
from .eventstream import EVENT_STREAM, EventStreamParser
from .folding import Fold, Likeness, OllamaFold, fold_for, text_length
from .jsonscan import JsonScanError, pick
from .lines import LineParser
from .sse import SseParser

BODY_LIMIT = 64 * 1024 * 1024
"""Largest whole body that is read, in bytes."""

EVENT_LIMIT = 32 * 1024 * 1024
"""Largest event of a stream that is read. Gemini puts an image and the usage into one; a large image takes 20 MB."""

_WHOLE = frozenset({
    "model", "usage", "meta", "usageMetadata", "modelVersion", "id", "responseId", "service_tier", "x_groq", "error", "tools",
    "done", "prompt_eval_count", "eval_count", "usage_info", "duration", "background",
})  # fmt: skip
_MEDIA = re.compile(r"\s*(?:(?:audio|image|video)/|text/(?:plain|vtt)|application/(?:x-subrip|ogg))", re.IGNORECASE)
"""Content types of answers that rightly are no JSON."""
_BYTES_PER_TOKEN = 4
_PLAIN = (None, "", "identity")
"""Content encodings that are none."""
_LESSONS = 8
"""Events that may differ in more than their text, until a stream is taken for one where all do."""
_LESSON = 12
"""Events that must have been known by another until it pays to know the next ones by a new one."""
_BEGIN, _ROW = 40, 3
"""Bytes that tell whether events may be alike, and how many in a row must begin so. A lesson costs as much as reading four."""
_SMALL = 64 * 1024
"""Bytes of a body that may be decoded as a whole. A larger one may hold images, and only what matters of it is decoded."""


class UsageTap:
    """Fed with an answer's body as it passes; `document` then is the body that usage is extracted from, None without any.

    Never raises: what goes wrong is in `problem`, a sentence or None, and what was read until then stays. `events` counts
    what the stream brought (1 for a whole body), `output_chars` the characters of answer in it, to estimate from.
    `saw_content` turns true with the first byte of a whole body, or the first event that commits the provider to an
    answer: text, a tool call, an end; not a comment, a ping, a chunk with only a role, or an error.
    """

    def __init__(
        self, format: Format, content_type: str | None, content_encoding: str | None = None, limit: int = BODY_LIMIT
    ) -> None:
        self.problem: str | None = None
        self.events = 0
        self.output_chars = 0
        self.saw_content = False
        self._fold = fold_for(format)
        self._like: Likeness | None = None
        self._alike: Likeness | None = None
        """Chunks that are one event like that of `_like`."""
        self._totals: tuple[str | None, bytes] | None = None
        """The last event that has nothing but totals, which is read when it is asked for, or another one must be read."""
        self._lessons = _LESSONS
        self._begin, self._row = b"", 0
        self._limit = limit
        self._decoder: Decoder | None = None
        self._is_plain = content_encoding in _PLAIN
        self._parser: _Events | None = _parser_for((content_type or "").partition(";")[0].strip().lower(), self._fold)
        self._is_media = _MEDIA.match(content_type or "") is not None
        self._is_opaque = False
        """Whether the answer is sound, an image or plain text, and reports nothing."""
        self._whole = bytearray()
        self._whole_document: dict[str, Any] | None = None
        try:
            self._decoder = decoder(content_encoding)
        except DecodeError as error:
            self.problem = str(error)

    @property
    def document(self) -> Mapping[str, Any] | None:
        """What usage is extracted from."""
        self._read_totals()
        return self._whole_document or self._fold.document or None

    @property
    def error(self) -> Mapping[str, Any] | None:
        """The error that came inside a 200, in the shape of the provider's error bodies: the details stand under `error`."""
        return self._fold.error

    @property
    def complete(self) -> bool:
        """Whether the answer was seen to its end: the format's end marker, or a whole body."""
        return self._fold.complete or self._whole_document is not None

    @property
    def response_id(self) -> str | None:
        """The provider's own id of the answer."""
        return _id_of(self.document)

    @property
    def takes_frame(self) -> bool:
        """Whether the answer is a stream of frames, and stands between two."""
        return isinstance(self._parser, EventStreamParser) and self._parser.at_rest

    def feed(self, data: bytes) -> None:
        """Take a chunk as it came over the wire."""
        if self.problem is not None or self._decoder is None:
            return
        if self._is_plain:
            if self._parser is not None:
                self._read_chunk(self._parser, data)
            else:
                self._take(data)
            return
        try:
            for piece in self._decoder.feed_iter(data):
                self._take(piece)
        except DecodeError as error:
            self.problem = str(error)

    def end(self) -> None:
        """The answer is over, or nothing more will be seen of it."""
        if self.problem is not None or self._decoder is None:
            return
        try:
            self._take(self._decoder.end())
        except DecodeError as error:
            self.problem = str(error)
        if self._parser is None:
            self._read_whole()
            return
        self._read_events(self._parser.end())
        if isinstance(self._parser, EventStreamParser) and self._parser.lost:
            self.problem = self.problem or "the frames of the answer cannot be read"
        if self._parser.oversized:
            self.problem = self.problem or f"an event is larger than {EVENT_LIMIT} bytes"

    def _take(self, data: bytes) -> None:
        if self.problem is not None or self._is_opaque or not data:
            return
        if self._parser is None and not self._whole:
            # Blank lines keep a connection alive until the body begins (DeepSeek); its first bytes tell what it is.
            data = data.lstrip()
            self._parser = _parser_by_look(data)
        if self._parser is not None:
            self._read_chunk(self._parser, data)
            return
        if not self._whole and data and data[:1] not in (b"{", b"\xef"):
            if self._is_media:
                self._is_opaque = self.saw_content = True
                self.events = 1
            else:
                self.problem = "the answer is no JSON object"  # a page: not worth its memory
            return
        self._whole += data
        self.saw_content = self.saw_content or bool(data)
        if len(self._whole) > self._limit:
            self.problem = f"the answer is larger than {self._limit} bytes"
            self._whole.clear()

    def _read_chunk(self, parser: _Events, data: bytes) -> None:
        alike = self._alike
        if alike is not None and (length := alike.length_in(data)) >= 0 and parser.between:
            self.events += 1
            self.output_chars += length
            if alike.has_totals:
                self._totals = alike.name, alike.data_in(data)
            return
        is_new = alike is None and self._like is not None and parser.between
        events = parser.feed(data)
        self._read_events(events)
        if is_new and self._like is not None and self._like.used and len(events) == 1 and parser.between:
            self._alike = self._like.within(data, events[0][1])

    def _read_events(self, events: list[tuple[str | None, bytes]]) -> None:
        at = 0
        while at < len(events):
            like = self._like
            count, length = like.row(events, at) if like is not None else (0, 0)
            if like is not None and count:
                at += count
                self.events += count
                self.output_chars += length
                if like.has_totals:
                    self._totals = events[at - 1]
                continue
            name, data = events[at]
            at += 1
            if data:
                self.events += 1
                self._read_event(None if name == "message" else name, data)  # so SSE calls an event without a name

    def _read_event(self, name: str | None, data: bytes) -> None:
        fold = self._fold
        fold.mark(name, data)
        wanted = fold.wants(name, data)
        has_totals = bool(wanted and fold.document and fold.has_totals(data))
        only_totals = has_totals and not fold.has_more(data)
        if only_totals:
            self._totals = name, data
        elif wanted:
            self._totals = None if has_totals else self._totals
            self._read_totals()
            self._decode(name, data)
        if fold.error is not None:
            self._like = self._alike = None
            return
        length = fold.length(name, data)
        self.output_chars += length
        self.saw_content = self.saw_content or length > 0 or fold.complete or fold.is_content(name, data)
        if length and fold.document and (only_totals or not wanted):
            self._learn(name, data, only_totals)

    def _read_totals(self) -> None:
        totals, self._totals = self._totals, None
        if totals is not None:
            self._decode(*totals)

    def _decode(self, name: str | None, data: bytes) -> None:
        event = _decoded(data)
        if isinstance(event, dict):
            self._fold.read(name, event)

    def _learn(self, name: str | None, data: bytes, has_totals: bool) -> None:
        """Know the next events by this one, where it begins like those before, and as long as that pays."""
        begin, self._begin = self._begin, data[:_BEGIN]
        self._row = self._row + 1 if begin == self._begin else 1
        if self._row < _ROW:
            return
        earned = sum(like.used for like in (self._like, self._alike) if like is not None) // _LESSON
        self._lessons = min(_LESSONS, self._lessons + earned) - 1
        self._like = Likeness.of(name, data, has_totals) if self._lessons > 0 else None
        self._alike = None

    def _read_whole(self) -> None:
        body = bytes(self._whole)
        self._whole.clear()
        if not body:
            return
        self.events = 1
        self.output_chars = text_length(body)
        small = _decoded(body) if len(body) <= _SMALL else None
        found = _members(body, _WHOLE.union(self._fold.members) if self._fold.members else _WHOLE, small)
        if found is None:
            self.problem = self.problem or "the answer is no JSON object, or not all of one"
            return
        if isinstance(found.get("error"), Mapping | str):
            self._fold.error = {"error": found["error"]}
        self._whole_document = self._native(found) | _billed_beside(body, small)

    def _native(self, found: dict[str, Any]) -> dict[str, Any]:
        """The members of a whole body with `usage` where the extractors look for it."""
        if self._fold.reads_whole:
            self._fold.read(None, found)
            return dict(self._fold.document)
        return _with_usage(found)


class WholeUsage(NamedTuple):
    """What a tap tells at the end of a small whole body."""

    body: bytes
    document: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    problem: str | None = None
    events: int = 1
    complete: bool = True

    @property
    def output_chars(self) -> int:
        """The characters of answer, to estimate from."""
        return text_length(self.body)

    @property
    def response_id(self) -> str | None:
        """The provider's own id of the answer."""
        return _id_of(self.document)


class Unread(NamedTuple):
    """A small whole body that surely reports no error, so that nobody need read it before its usage is asked for."""

    format: Format
    body: bytes

    @property
    def error(self) -> None:
        """None."""
        return

    def read(self) -> UsageTap | WholeUsage:
        """What it reports."""
        return _read_small(self.body) or _tapped(UsageTap(self.format, "application/json"), self.body)


Usage = UsageTap | WholeUsage


def usage_of(format: Format, content_type: str, content_encoding: str, limit: int, body: bytes) -> Usage | Unread:
    """What a tap fed with all of an answer tells. Most are small documents, for which there is a shorter way."""
    is_small = body.startswith(b"{") and len(body) <= min(_SMALL, limit) and content_encoding in _PLAIN
    if is_small and format in _PLAIN_FORMATS and _is_json(content_type):
        unread = Unread(format, body)
        # An error cannot hide: these are all ways to write the word.
        return unread.read() if b'"error"' in body or b"\\u00" in body or b"\0" in body else unread
    return _tapped(UsageTap(format, content_type, content_encoding, limit), body)


def _tapped(tap: UsageTap, body: bytes) -> UsageTap:
    tap.feed(body)
    tap.end()
    return tap


_PLAIN_FORMATS = frozenset(each for each in Format if not fold_for(each).reads_whole and not fold_for(each).members)
"""Formats whose whole bodies are no matter for a fold."""


def _is_json(content_type: str) -> bool:
    return content_type == "application/json" or content_type.partition(";")[0].strip().lower() == "application/json"


def _read_small(body: bytes) -> WholeUsage | None:
    decoded = _decoded(body)
    if not isinstance(decoded, dict):
        return None
    found = {name: decoded[name] for name in _WHOLE.intersection(decoded)}
    error = found.get("error")
    document = _with_usage(found) | _billed_beside(body, decoded)
    return WholeUsage(body, document or None, {"error": error} if isinstance(error, Mapping | str) else None)


def _with_usage(found: dict[str, Any]) -> dict[str, Any]:
    groq = found.get("x_groq")
    if not found.get("usage") and isinstance(groq, Mapping) and "usage" in groq:
        found["usage"] = groq["usage"]
    return found


def _id_of(document: Mapping[str, Any] | None) -> str | None:
    found = document or {}
    return next((value for name in ("id", "responseId") if isinstance(value := found.get(name), str)), None)


def estimate_usage(request_bytes: int, output_chars: int) -> dict[str, int]:
    """A rough count where nothing was reported: four bytes to a token."""
    return {"input_tokens": request_bytes // _BYTES_PER_TOKEN, "output_tokens": output_chars // _BYTES_PER_TOKEN}


class _Sse:
    """The SSE parser, giving names and data only."""

    def __init__(self) -> None:
        self._inner = SseParser(EVENT_LIMIT)
        self.feed = self._inner.feed_data

    @property
    def oversized(self) -> int:
        return self._inner.oversized

    @property
    def between(self) -> bool:
        return self._inner.between

    def end(self) -> list[tuple[str | None, bytes]]:
        return [(event.event, event.data) for event in self._inner.end()]


_Events = _Sse | LineParser | ElementParser | EventStreamParser


def _parser_for(kind: str, fold: Fold) -> _Events | None:
    """The parser that a content type asks for; None leaves it to the first bytes."""
    if kind == "text/event-stream":
        return _Sse()
    if kind == EVENT_STREAM:
        return EventStreamParser(EVENT_LIMIT)
    if kind == "application/x-ndjson" or (isinstance(fold, OllamaFold) and kind != "application/json"):
        return LineParser(EVENT_LIMIT)
    return None


def _parser_by_look(data: bytes) -> _Events | None:
    """The parser for a stream whose content type does not say that it is one; None for anything else."""
    if data.startswith(b"["):
        return ElementParser(EVENT_LIMIT)
    if data[:1] in (b"d", b"e", b":", b"i", b"r"):  # data, event, comment, id, retry: no JSON object begins so
        return _Sse()
    return None


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _members(body: bytes, names: Collection[str], decoded: Any) -> dict[str, Any] | None:
    """The members of a whole body that are called `names`; `decoded` is all of it, where that has succeeded.

    None where it is no JSON object, even by the lenient parser (NaN).
    """
    if decoded is None:
        try:
            return pick(body, names)
        except JsonScanError:
            decoded = _decoded(body) if len(body) > _SMALL else None
    return {name: value for name, value in decoded.items() if name in names} if isinstance(decoded, dict) else None


def _billed_beside(body: bytes, decoded: Any) -> dict[str, Any]:
    """What stands outside `usage` and is billed, as the streams fold it: grounded searches of Gemini, tool calls of Responses."""
    if body.find(b"groundingMetadata") < 0 and body.find(b"_call") < 0:
        return {}
    found = _members(body, ("candidates", "output"), decoded) or {}
    kept: dict[str, Any] = {}
    for name, wanted in (("candidates", "groundingMetadata"), ("output", "type")):
        items = found.get(name)
        if isinstance(items, list):
            kept[name] = [{wanted: item[wanted]} for item in items if isinstance(item, Mapping) and wanted in item]
    return kept
