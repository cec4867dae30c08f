"""The beginning of an answer, read to know whether it went well before any of it goes to the agent.

What commits a provider to an answer is a table per format (`_STREAMED`); an error that comes before it can still be answered by
another key. Whatever cannot be told passes: a wrong guess must never take an answer from an agent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model import Dialect, Format
from .decode import DecodeError, Decoder, decoder
from .elements import ElementParser
from .eventstream import EVENT_STREAM, EventStreamParser
from .failures import ERROR_EVENTS, Failure, failure_in, failure_of, holds, may_fail
from .lines import LineParser
from .sse import SseEvent, SseParser, single_event
from .usage import BODY_LIMIT

OPENING_LIMIT = 256 * 1024
"""Bytes of a stream, decoded, that are read for a decision. What says nothing within them passes."""

_IDLE = frozenset({"ping", "keepalive", "keep-alive", "keep_alive", "heartbeat"})
"""Kinds of events that only keep a connection open. OpenAI's `keepalive`: https://github.com/openai/openai-node/issues/1964"""

_PADDING = b" \t\r\n\xef\xbb\xbf"
"""What may stand before an answer: blank lines (DeepSeek), a byte order mark."""

_FIELD = re.compile(rb"(?:data|event|id|retry)?(?::|$)")
"""How a line of a stream of events begins."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is content in a format, as conditions of `failures.holds`: one of them is enough, none at all means noise.

    `events` has them by the kind of event; a kind that is not listed is content. `chunk` is for events without kinds: those that
    have one of the members `marks`. `whole` is for a whole body, which is empty without any, if it has one of `marks` at all.
    `failed` marks an answer that ended in an error without any content. Data in which `surely` is found are content: JSON has
    no such text inside a string, whose quotes are escaped.
    """

    marks: frozenset[str]
    whole: tuple[str, ...]
    chunk: tuple[str, ...] | None = None
    events: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    surely: re.Pattern[bytes] | None = None

    def conditions(self, name: str | None, event: Mapping[str, Any]) -> tuple[str, ...] | None:
        """What makes this event content; None when it is of an unknown kind."""
        if self.chunk is not None and not self.marks.isdisjoint(event):
            return self.chunk
        kind = found if isinstance(found := event.get("type"), str) else name
        if kind is None:
            return None if event else ()
        return () if kind in _IDLE else self.events.get(kind)


# A block is an answer: finish_reason `content_filter`, stop_reason `refusal`, blockReason count like any other ending.
_CHAT_SAYS = ("choices.*.finish_reason!=error", "choices.*.text", "choices.*.delta.^role", "choices.*.message.^role")
_CHAT = _Shape(
    marks=frozenset({"choices", "usage", "x_groq", "model"}),
    chunk=_CHAT_SAYS,  # Azure's first chunk and the one with usage have no choices
    whole=_CHAT_SAYS,
    failed=("choices.*.finish_reason=error",),
    surely=re.compile(rb'"delta": ?\{(?:"role": ?"assistant", ?)?"content": ?"[^"]'),
)
_RESPONSES = _Shape(
    marks=frozenset({"output", "model"}),
    events=dict.fromkeys(
        (
            "response.created", "response.in_progress", "response.queued", "response.output_item.added",
            "response.content_part.added", "response.reasoning_part.added", "response.reasoning_summary_part.added",
        ),
        (),
    ),
    whole=("output", "status!=completed"),  # in the background: `queued`, `in_progress`
    surely=re.compile(rb'"type": ?"response\.output_text\.delta"'),
)  # fmt: skip
_ANTHROPIC = _Shape(
    marks=frozenset({"content", "model"}),
    events={
        "message_start": ("message.content", "message.stop_reason"),
        "content_block_start": ("content_block.text", "content_block.type!=text"),
        "content_block_stop": (),
        "message_delta": ("delta.stop_reason",),
        "message_stop": (),
    },
    whole=("content.*.text", "content.*.type!=text", "stop_reason!=end_turn"),
    surely=re.compile(rb'"type": ?"content_block_delta"'),
)
_GEMINI_SAYS = ("promptFeedback.blockReason", "candidates.*.finishReason", "candidates.*.content.parts.*.^thought")
_GEMINI = _Shape(
    marks=frozenset({"candidates", "promptFeedback", "usageMetadata", "modelVersion", "responseId"}),
    chunk=_GEMINI_SAYS,
    whole=_GEMINI_SAYS,
    surely=re.compile(rb'"parts": ?\[ ?\{ ?"text": ?"[^"]'),
)
_OLLAMA_SAYS = ("message.^role", "response", "thinking", "done")
_OLLAMA = _Shape(marks=frozenset({"message", "response", "done"}), chunk=_OLLAMA_SAYS, whole=_OLLAMA_SAYS)

_CONVERSE = _Shape(
    marks=frozenset({"output", "stopReason"}),
    events={
        "messageStart": (),
        "contentBlockStart": ("start",),
        "contentBlockDelta": ("delta.^type",),
        "contentBlockStop": (),
        "messageStop": ("stopReason",),
        "metadata": (),
    },
    whole=("output.message.content.*.^type", "stopReason!=end_turn"),
)
# The model's own events; those of Anthropic's say what they are, others pass as they come.
_INVOKE = _Shape(marks=frozenset(), events=_ANTHROPIC.events, whole=())

_STREAMED: Mapping[Format, _Shape] = {
    Format.OPENAI_CHAT: _CHAT,
    Format.OPENAI_COMPLETIONS: _CHAT,
    Format.OPENAI_RESPONSES: _RESPONSES,
    Format.ANTHROPIC_MESSAGES: _ANTHROPIC,
    Format.GEMINI_GENERATE: _GEMINI,
    Format.OLLAMA_CHAT: _OLLAMA,
    Format.OLLAMA_GENERATE: _OLLAMA,
    Format.BEDROCK_CONVERSE: _CONVERSE,
    Format.BEDROCK_INVOKE: _INVOKE,
}
_ANY = _Shape(marks=frozenset(), whole=())
"""An answer that is always whole: it can be an error, and is not judged else. A batch or a file may rightly hold an `error`."""

_SHAPES: Mapping[Format, _Shape] = {
    **_STREAMED,
    **dict.fromkeys(
        (Format.OPENAI_EMBEDDINGS, Format.ANTHROPIC_COUNT_TOKENS, Format.GEMINI_COUNT_TOKENS, Format.GEMINI_EMBED), _ANY
    ),
}


class _Reader:
    """Reads an answer of a shape up to a decision, which then stays. Without a shape it is made: pass."""

    def __init__(
        self, format: Format, shape: _Shape | None, content_type: str | None, content_encoding: str | None, limit: int
    ) -> None:
        self.noise = False
        self._format = format
        self._shape = shape or _ANY
        self._kind = (content_type or "").partition(";")[0].strip().lower()
        self._limit = self._left = limit
        self._parser: _Sse | LineParser | ElementParser | EventStreamParser | None = None
        self._held: bytearray | None = None
        self._decoder: Decoder | None = None
        self._is_plain = content_encoding in (None, "", "identity")
        self._decision: Failure | bool = shape is None
        if self._kind == EVENT_STREAM:
            self._parser = EventStreamParser(self._limit)
        try:
            self._decoder = decoder(content_encoding)
        except DecodeError:
            self._decision = True

    def feed(self, data: bytes) -> Failure | bool:
        """Take a chunk as it came over the wire: True to pass the answer, False to wait for more of it, or the error it is."""
        self.noise = self.noise or bool(data)
        if self._is_surely_content(data):
            self._decision = True
        if self._decision is False and self._decoder is not None:
            try:
                for piece in self._decoder.feed_iter(data):
                    self._take(piece)
                    if self._decision is not False:
                        break
            except DecodeError:
                self._decision = True
        return self._decision

    def _is_surely_content(self, data: bytes) -> bool:
        """Whether this is an event of the most usual form, with content: an agent waits for it, and parsing takes longer."""
        surely, parser = self._shape.surely, self._parser
        if surely is None or type(parser) is not _Sse or not parser.between or not self._is_plain or len(data) > self._left:
            return False
        found = single_event(data)
        if found is None or found[0] in _IDLE or may_fail(*found) or self._decision is not False:
            return False
        return surely.search(found[1]) is not None

    def end(self) -> Failure | bool:
        """The answer is over: True to pass it, False when it was empty, or the error it was."""
        if self._decision is False and self._decoder is not None:
            try:
                self._take(self._decoder.end())
            except DecodeError:
                self._decision = True
        if self._decision is False and self._held is not None:
            self._decision = self._judge_whole(bytes(self._held))
        elif self._decision is False and self._parser is not None:
            self._judge_all(self._parser.end())
        return self._decision

    def _take(self, data: bytes) -> None:
        # No byte beyond the limit is looked at, so that the decision does not hang on how the bytes were cut.
        data = data[: self._left]
        self._left -= len(data)
        if self._parser is None and self._held is None:
            data = data.lstrip(_PADDING)
            self._begin(data[:1])
        if self._held is not None:
            self._held += data
        if self._parser is not None:
            self._judge_all(self._parser.feed(data))
        unreadable = isinstance(self._parser, EventStreamParser) and self._parser.lost
        if (self._left == 0 or unreadable) and self._decision is False:
            self._decision = True

    def _begin(self, first: bytes) -> None:
        """What kind of answer begins so. Its first byte tells more than its content type, for errors come as they like."""
        lines = self._kind == "application/x-ndjson" or (
            self._format.dialect is Dialect.OLLAMA and self._kind != "application/json"
        )
        if first == b"{" and lines:
            self._parser = LineParser(self._limit)
        elif first == b"{":
            self._held = bytearray()
        elif first == b"[":
            self._held, self._parser = bytearray(), ElementParser(self._limit)
        elif first and (self._kind == "text/event-stream" or first in b"de:ir"):  # data, event, comment, id, retry
            self._parser = _Sse(self._limit)
        elif first:
            self._decision = True

    def _judge_all(self, events: Iterable[tuple[str | None, bytes]]) -> None:
        for name, data in events:
            self._decision = self._judge(name, data)
            if self._decision is not False:
                return

    def _judge(self, name: str | None, data: bytes) -> Failure | bool:
        """What an event of a stream decides."""
        data = data.strip()
        if name in _IDLE or data in (b"", b"[DONE]"):
            return False
        document = _decoded(data)
        if name in ERROR_EVENTS and not isinstance(document, Mapping | list):
            return failure_of(self._format, data.decode("utf-8", "replace"))
        is_safe = not may_fail(name, data)
        for event in document if isinstance(document, list) else (document,):
            verdict = self._judge_event(name, event, is_safe)
            if verdict is not False:
                return verdict
        return False

    def _judge_event(self, name: str | None, event: Any, is_safe: bool) -> Failure | bool:
        if not isinstance(event, Mapping):
            return True
        failure = None if is_safe else failure_in(self._format, name, event)
        if failure is not None:
            return failure
        conditions = self._shape.conditions(name, event)
        return True if conditions is None else self._says(event, conditions)

    def _judge_whole(self, body: bytes) -> Failure | bool:
        """What a whole body decides. The elements of an array were judged as they came."""
        document = _decoded(body)
        if isinstance(document, list):
            return not all(isinstance(element, Mapping) for element in document)
        if not isinstance(document, Mapping):
            return True
        said = failure_in(self._format, None, document) or self._says(document, self._shape.whole)
        # Without a single member that belongs to the format it is something else, which nobody here can judge.
        return said or (bool(document) and self._shape.marks.isdisjoint(document))

    def _says(self, event: Mapping[str, Any], conditions: tuple[str, ...]) -> Failure | bool:
        for condition in conditions:
            if holds(event, condition):
                return True
        for condition in self._shape.failed:
            if holds(event, condition):
                return failure_of(self._format, "The provider ended the answer with an error.")
        return False


class Opening(_Reader):
    """Reads the beginning of a streamed answer. Never raises.

    `feed` gives True once content has come, or it cannot be told (an unknown kind of event or answer, broken JSON or encoding,
    `limit` decoded bytes without a decision): let it pass. False: nothing to tell yet. A `Failure`: an error came first. A
    decision, once made, stays. A whole body in a stream's place is judged at its `end`, as by `read_whole`. `noise` is whether
    anything at all has come (pings, comments, role chunks), which tells a provider that is alive from one that stalls.
    """

    def __init__(
        self, format: Format, content_type: str | None, content_encoding: str | None, limit: int = OPENING_LIMIT
    ) -> None:
        super().__init__(format, _STREAMED.get(format), content_type, content_encoding, limit)


def read_whole(format: Format, content_type: str | None, content_encoding: str | None, body: bytes) -> Failure | bool:
    """A whole 200 answer: the `Failure` that it is in truth, False when it is empty, else True. Never raises.

    Empty is a body of the format without choices, content, candidates or output. One that tells why there is none is not: a
    finish reason, a refusal, a block, an answer in the background.
    """
    reader = _Reader(format, _SHAPES.get(format), content_type, content_encoding, BODY_LIMIT)
    decision = reader.feed(body)
    return reader.end() if decision is False else decision


class _Sse:
    """The SSE parser, giving names and data only. `message` is the name of an event without one."""

    def __init__(self, limit: int) -> None:
        self._inner = SseParser(limit)

    @property
    def between(self) -> bool:
        """Whether the stream stands between two events."""
        return self._inner.between

    def feed(self, data: bytes) -> Iterator[tuple[str | None, bytes]]:
        return map(_named, self._inner.feed_each(data))

    def end(self) -> list[tuple[str | None, bytes]]:
        return [_named(event) for event in self._inner.end()]


def _named(event: SseEvent) -> tuple[str | None, bytes]:
    """Name and data. Text that is no event at all, such as a proxy's error, is given as data: nothing can be told from it."""
    if not event.data and not all(_FIELD.match(line) for line in event.raw.splitlines()):
        return None, event.raw
    return (None if event.event == "message" else event.event), event.data


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
