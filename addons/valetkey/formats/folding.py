"""Fold the events of a stream into the body that the provider would have answered whole, as far as usage needs it.

One small class per format. `read` gets a decoded event that may matter and keeps what does; nothing grows with the stream.

Every event passes here, so it is looked at in its bytes, and with `find`: `in` takes three times as long, for bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..model import Format
from .model_counts import COUNTS, METRICS, counts_in, totals

Event = Mapping[str, Any]

_STRING = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'

# Text of an answer, under the names that the formats have for it. A quote inside a JSON string is escaped, so text that only
# quotes such a member is no match.
_NAMES = rb'(?:content|reasoning_content|reasoning|refusal|text|thinking|partial_json|arguments|delta|response)"\s*:\s*"'
_TEXT = re.compile(rb'"' + _NAMES + rb"(" + _STRING + rb')"', re.DOTALL)
_GAP = re.compile(
    rb'"(?:' + _NAMES + rb"(?P<text>" + _STRING + rb')"'
    rb'|(?:obfuscation|created_at|p)"\s*:\s*"(?P<noise>' + _STRING + rb')"'
    rb'|\w++(?:(?<=_tokens)|(?<=okenCount)|(?<=sequence_number))"\s*:\s*(?P<number>\d++))'
    rb"|(?P<spaces> ++)(?=\}\Z)",
    re.DOTALL,
)  # fmt: skip
"""What differs between two events of a stream: text, noise, numbers, spaces. `obfuscation` pads events to hide their length
(https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options), as do `p` (Cloudflare) and spaces before
the last brace (Anthropic)."""
_end_of_string = re.compile(_STRING, re.DOTALL)
_end_of_bare = {"number": re.compile(rb"\d*+"), "spaces": re.compile(rb" *+")}

_WORDS = frozenset({
    b"usage", b"usageMetadata", b"error", b"x_groq", b"choices", b"model", b"finishReason", b"promptFeedback",
    b"content_block_delta", b"message_stop", b"groundingMetadata",
})  # fmt: skip
"""What a fold looks for between two quotes."""
_LONGEST_WORD = max(map(len, _WORDS))
_SMALL = 2048
"""Largest event that is kept to know others by, in bytes. Text events are a few hundred; others hold images."""
_KEPT = ("model", "id", "service_tier", "created", "system_fingerprint", "provider")


def text_length(data: bytes) -> int:
    """About how many characters of answer a JSON text holds: the bytes between the quotes of its text members."""
    return sum(map(len, _TEXT.findall(data)))


class Likeness:
    """An event that brought nothing but text, or text and totals, to know the next ones by that differ in nothing else.

    Such events make up most of a stream. What differs stands inside strings, or is a number: neither can hold what any `Fold`
    looks for, except a string as a whole.
    """

    __slots__ = ("_before", "_breaks", "_gaps", "_head", "_tail", "has_totals", "name", "used")

    def __init__(self, name: str | None, before: bytes, gaps: list[tuple[str, bytes]], has_totals: bool) -> None:
        self.used = 0
        """How many events were like it."""
        self.name = name
        self.has_totals = has_totals
        """Whether events like it hold totals so far."""
        self._before = before
        self._gaps = [(kind == "text", _end_of_bare.get(kind), after, len(after)) for kind, after in gaps]
        self._breaks: tuple[int, int] | None = None
        self._head = self._tail = 0

    @classmethod
    def of(cls, name: str | None, data: bytes, has_totals: bool = False) -> Likeness | None:
        """What `data` can be known by; None unless it is small and has text, which says nothing by itself."""
        if len(data) > _SMALL:
            return None
        spans = [(str(found.lastgroup), *found.span(str(found.lastgroup))) for found in _GAP.finditer(data)]
        says = any(kind == "text" and end > start for kind, start, end in spans)
        if not says or not all(_is_neutral(data[start:end]) for _, start, end in spans):
            return None
        ends = [*(start for _, start, _ in spans[1:]), len(data)]
        gaps = [(kind, data[end:after]) for (kind, _, end), after in zip(spans, ends, strict=True)]
        return cls(name, data[: spans[0][1]], gaps, has_totals)

    def within(self, chunk: bytes, data: bytes) -> Likeness | None:
        """The same for chunks that are one event each, by one of them and its data; None where that is cut up."""
        at = chunk.find(data)
        if at < 0 or len(chunk) > _SMALL:
            return None
        found = Likeness(self.name, chunk[:at] + self._before, [], self.has_totals)
        last = len(self._gaps) - 1
        tail = chunk[at + len(data) :]
        found._gaps = [
            (text, bare, after + tail, size + len(tail)) if index == last else (text, bare, after, size)
            for index, (text, bare, after, size) in enumerate(self._gaps)
        ]
        found._breaks = chunk.count(b"\n"), chunk.count(b"\r")
        found._head, found._tail = at, len(tail)
        return found

    def row(self, events: Sequence[tuple[str | None, bytes]], start: int) -> tuple[int, int]:
        """How many events from `start` on differ in nothing but their text, and the length of the text of all those."""
        own, measure, total, at = self.name, self._length, 0, start
        for at in range(start, len(events)):
            name, data = events[at]
            length = measure(data) if name == own else -1
            if length < 0:
                return at - start, total
            total += length
        return len(events) - start, total

    def length_in(self, chunk: bytes) -> int:
        """The length of the text of a chunk that is one event, and differs only in that; -1 for any other chunk."""
        length = self._length(chunk)
        # A line may end inside a string, where no JSON has one.
        is_one = length >= 0 and len(chunk) <= _SMALL and (chunk.count(b"\n"), chunk.count(b"\r")) == self._breaks
        return length if is_one else -1

    def data_in(self, chunk: bytes) -> bytes:
        """The data of the event that a chunk is which is like this."""
        return chunk[self._head : len(chunk) - self._tail]

    def _length(self, data: bytes) -> int:
        before = self._before
        if not data.startswith(before):
            return -1
        at, total = len(before), 0
        for is_text, bare, after, size in self._gaps:
            if bare is not None:
                match = bare.match(data, at)
                end = match.end() if match else at
            else:
                end = data.find(b'"', at)
                if data.find(b"\\", at, end) >= 0 and (match := _end_of_string.match(data, at)):
                    end = match.end()
            if end < 0 or not data.startswith(after, end):
                return -1
            if bare is None and end - at <= _LONGEST_WORD and data[at:end] in _WORDS:
                return -1
            if is_text:
                total += end - at
            at = end + size
        if at != len(data):
            return -1
        self.used += 1
        return total


def _is_neutral(text: bytes) -> bool:
    return text not in _WORDS and not text.endswith(b".delta")


class Fold:
    """The state after the events so far. `other_content` finds what is content besides text."""

    other_content: re.Pattern[bytes] = re.compile(rb"(?!)")
    reads_whole = False
    """Whether a whole body is folded too, since its usage stands under names of its own."""
    members: tuple[str, ...] = ()
    """What it needs of a whole body, besides the members that every format has."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {}
        self.error: Event | None = None
        self.complete = False
        self.has_usage = False

    def read(self, name: str | None, event: Event) -> None:
        """Keep what matters of an event; `name` is the SSE event's."""
        raise NotImplementedError

    def mark(self, name: str | None, data: bytes) -> None:
        """Look at an event that is not decoded, for end markers."""

    def wants(self, name: str | None, data: bytes) -> bool:
        """Whether an event must be decoded. The model stands in every chunk; it is read once."""
        if data.find(b'"usage"') >= 0 or data.find(b'"error"') >= 0 or data.find(b'"usageMetadata"') >= 0:
            return True
        return not self.document and data.find(b'"model') >= 0

    def has_totals(self, data: bytes) -> bool:
        """Whether an event that is wanted has totals so far, which take the place of those before."""
        return False

    def has_more(self, data: bytes) -> bool:
        """Whether an event with totals has something else that must be read, too."""
        return True

    def length(self, name: str | None, data: bytes) -> int:
        """The characters of answer in an event. An event that repeats earlier ones has none."""
        return text_length(data)

    def is_content(self, name: str | None, data: bytes) -> bool:
        """Whether an event without text carries part of the answer: no ping, no chunk with only a role."""
        return self.other_content.search(data) is not None

    def _keep(self, event: Event, names: tuple[str, ...] = _KEPT) -> None:
        for name in names:
            if event.get(name) is not None:
                self.document[name] = event[name]

    def _use(self, usage: object) -> None:
        if isinstance(usage, Mapping) and usage:
            self.document["usage"] = dict(usage)
            self.has_usage = True


def _has_outermost(data: bytes, name: bytes, begin: re.Pattern[bytes]) -> bool:
    """Whether the member `name`, with an object that begins so, stands at the outermost level of a JSON object."""
    at = data.rfind(name)
    return at >= 0 and begin.match(data, at) is not None and data.count(b"}", at) - data.count(b"{", at) == 1


class ChatFold(Fold):
    """OpenAI chat and completions; Groq reports in `x_groq`, others in the last chunk with choices."""

    other_content = re.compile(
        rb'"finish_reason"\s*:\s*"|"(?:tool_calls|images)"\s*:\s*\[\s*\{|"(?:function_call|audio)"\s*:\s*\{'
    )
    _TOTALS = re.compile(rb'"usage"\s*:\s*\{\s*"')

    def read(self, name: str | None, event: Event) -> None:
        if isinstance(event.get("error"), Mapping | str):
            self.error = event
        self._keep(event)
        self._use(event.get("usage"))
        groq = event.get("x_groq")
        if isinstance(groq, Mapping):
            if not self.has_usage:
                self._use(groq.get("usage"))
            if isinstance(groq.get("error"), Mapping | str):
                self.error = groq

    def wants(self, name: str | None, data: bytes) -> bool:
        # Chunks carry `"usage":null` until the last one when usage was asked for. Groq's own may stand beside it.
        at = data.find(b'"usage"')
        if at >= 0 and (data.find(b'"usage":null', at) >= 0 or data.find(b'"usage": null', at) >= 0):
            is_first = not self.document and data.find(b'"model"') >= 0
            return is_first or data.find(b'"error"') >= 0 or data.find(b'"x_groq"') >= 0
        return at >= 0 or super().wants(name, data)

    def has_totals(self, data: bytes) -> bool:
        # xAI's and Perplexity's chunks have them, and vLLM's when asked.
        return _has_outermost(data, b'"usage"', self._TOTALS)

    def has_more(self, data: bytes) -> bool:
        return data.find(b'"error"') >= 0 or data.find(b'"x_groq"') >= 0

    def mark(self, name: str | None, data: bytes) -> None:
        if data[:1] != b"{" and data.strip() == b"[DONE]":
            self.complete = True

    def length(self, name: str | None, data: bytes) -> int:
        return text_length(data) if data.find(b'"choices"') >= 0 else 0


class ResponsesFold(Fold):
    """OpenAI Responses: usage stands in the last event's `response`."""

    _LAST = ("response.completed", "response.incomplete", "response.failed")
    _READ = re.compile(rb'"type"\s*:\s*"(?:response\.(?:created|completed|incomplete|failed)|error)"')

    def read(self, name: str | None, event: Event) -> None:
        kind = event.get("type", name)
        response = event.get("response")
        if isinstance(response, Mapping):
            self._keep(response, (*_KEPT, "status", "tools", "background"))
            self._use(response.get("usage"))
            if kind in self._LAST and isinstance(response.get("output"), list):
                self.document["output"] = [{"type": o.get("type")} for o in response["output"] if isinstance(o, Mapping)]
            if kind == "response.failed":
                self.error = {"error": response.get("error")}
        if kind == "error":
            self.error = event if "error" in event else {"error": event}
        self.complete = self.complete or kind in self._LAST

    def wants(self, name: str | None, data: bytes) -> bool:
        if name is not None:
            return name in ("error", "response.created", *self._LAST)
        return self._READ.search(data) is not None

    def length(self, name: str | None, data: bytes) -> int:
        # The `.done` events and the last one repeat what the deltas brought.
        return text_length(data) if self.is_content(name, data) else 0

    def is_content(self, name: str | None, data: bytes) -> bool:
        return name.endswith(".delta") if name is not None else data.find(b'.delta"') >= 0


class AnthropicFold(Fold):
    """Anthropic: `message_start` has the input, each `message_delta` the totals so far; the last one counts."""

    def read(self, name: str | None, event: Event) -> None:
        kind = event.get("type", name)
        if kind == "error":
            self.error = event
        message = event.get("message")
        if kind == "message_start" and isinstance(message, Mapping):
            self._keep(message)
            self._merge(message.get("usage"))
        elif kind == "message_delta":
            self._merge(event.get("usage"))

    def _merge(self, usage: object) -> None:
        if isinstance(usage, Mapping):
            known = {key: value for key, value in usage.items() if value is not None}
            self._use({**self.document.get("usage", {}), **known})

    def wants(self, name: str | None, data: bytes) -> bool:
        if name is not None:
            return name in ("message_start", "message_delta", "error")
        return data.find(b'"usage"') >= 0 or data.find(b'"error"') >= 0

    def mark(self, name: str | None, data: bytes) -> None:
        self.complete = self.complete or self._is("message_stop", name, data)

    def length(self, name: str | None, data: bytes) -> int:
        return text_length(data) if self.is_content(name, data) else 0

    def is_content(self, name: str | None, data: bytes) -> bool:
        return self._is("content_block_delta", name, data)

    @staticmethod
    def _is(kind: str, name: str | None, data: bytes) -> bool:
        return name == kind if name is not None else data.find(b'"' + kind.encode() + b'"') >= 0


class GeminiFold(Fold):
    """Gemini: totals so far in most chunks; the last that is not empty counts, which may come without candidates."""

    other_content = re.compile(
        rb'"finishReason"\s*:\s*"|"(?:functionCall|inlineData|fileData|executableCode|codeExecutionResult)"\s*:\s*\{'
    )
    _TOTALS = re.compile(rb'"usageMetadata"\s*:\s*\{[^{}]*TokenCount"\s*:')
    _MORE = (b'"error"', b'"finishReason"', b'"promptFeedback"', b'"groundingMetadata"')

    def wants(self, name: str | None, data: bytes) -> bool:
        if super().wants(name, data):
            return True
        return data.find(b'"finishReason"') >= 0 or data.find(b'"promptFeedback"') >= 0

    def has_totals(self, data: bytes) -> bool:
        return _has_outermost(data, b'"usageMetadata"', self._TOTALS)

    def has_more(self, data: bytes) -> bool:
        return any(data.find(word) >= 0 for word in self._MORE)

    def read(self, name: str | None, event: Event) -> None:
        if isinstance(event.get("error"), Mapping):
            self.error = event
        self._keep(event, ("modelVersion", "responseId"))
        usage = event.get("usageMetadata")
        # Some chunks carry metadata that counts nothing (`trafficType` alone).
        if isinstance(usage, Mapping) and any(str(key).endswith("TokenCount") for key in usage):
            self.document["usageMetadata"] = dict(usage)
        feedback = event.get("promptFeedback")
        if isinstance(feedback, Mapping) and feedback.get("blockReason"):
            self.complete = True
        candidates = event.get("candidates")
        if isinstance(candidates, list):
            first = candidates[0] if candidates and isinstance(candidates[0], Mapping) else {}
            if first.get("finishReason"):
                self.complete = True
            grounding = first.get("groundingMetadata")
            if isinstance(grounding, Mapping) and grounding:  # chunks without any carry an empty object
                self.document["candidates"] = [{"groundingMetadata": dict(grounding)}]


class OllamaFold(Fold):
    """Ollama's own lines: counts stand in the last, under names of their own; folded to OpenAI's."""

    other_content = re.compile(rb'"tool_calls"\s*:\s*\[\s*\{')
    reads_whole = True
    _DONE = re.compile(rb'"done"\s*:\s*true')

    def read(self, name: str | None, event: Event) -> None:
        if "error" in event:
            self.error = event
        self._keep(event)
        if event.get("done") is True:
            self.complete = True
            prompt, output = event.get("prompt_eval_count", 0), event.get("eval_count", 0)
            if isinstance(prompt, int) and isinstance(output, int) and ("eval_count" in event or "prompt_eval_count" in event):
                self._use({"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output})

    def wants(self, name: str | None, data: bytes) -> bool:
        return self._DONE.search(data) is not None or super().wants(name, data)


class ConverseFold(Fold):
    """Bedrock's Converse: usage stands in `metadata`, after the end.

    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html
    """

    _INPUT = re.compile(rb'"input"\s*:\s*"(' + _STRING + rb')"', re.DOTALL)
    _READ = ("messageStart", "metadata", "error")

    def read(self, name: str | None, event: Event) -> None:
        if name == "error":
            self.error = event
        self._keep(event, ("role",))
        self._use(event.get("usage"))

    def wants(self, name: str | None, data: bytes) -> bool:
        return name in self._READ

    def mark(self, name: str | None, data: bytes) -> None:
        self.complete = self.complete or name == "messageStop"

    def length(self, name: str | None, data: bytes) -> int:
        if name != "contentBlockDelta":
            return 0
        return text_length(data) or sum(map(len, self._INPUT.findall(data)))

    def is_content(self, name: str | None, data: bytes) -> bool:
        return name == "contentBlockDelta"


class InvokeFold(Fold):
    """Bedrock's InvokeModel: the events and counts of whoever made the model, and Bedrock's own counts in the last one.

    The model is the one that was asked for: prices depend on the region that its name begins with, which answers leave out.
    """

    reads_whole = True
    members = (*COUNTS, METRICS)
    _SAID = re.compile(rb'"(?:generation|outputText)"\s*:\s*"(' + _STRING + rb')"', re.DOTALL)

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, Any] = {}
        self._metrics: dict[str, Any] = {}

    def read(self, name: str | None, event: Event) -> None:
        if name == "error" or event.get("type") == "error":
            self.error = event
        for place in (event.get("message"), event.get("metadata"), event):
            if isinstance(place, Mapping):
                self._keep(place, ("id",))
                self._counts |= counts_in(place)
        metrics = event.get(METRICS)
        if isinstance(metrics, Mapping):
            self._metrics = counts_in(metrics)
            self.complete = True
        self._use(totals({**self._metrics, **self._counts}))

    def wants(self, name: str | None, data: bytes) -> bool:
        return data.find(b'"usage"') >= 0 or data.find(b"invocationMetrics") >= 0 or data.find(b'"error"') >= 0

    def length(self, name: str | None, data: bytes) -> int:
        return text_length(data) or sum(map(len, self._SAID.findall(data)))

    def is_content(self, name: str | None, data: bytes) -> bool:
        return data.find(b'"content_block_delta"') >= 0 or data.find(b'"contentBlockDelta"') >= 0


_FOLDS: Mapping[Format, type[Fold]] = {
    Format.OPENAI_CHAT: ChatFold,
    Format.OPENAI_COMPLETIONS: ChatFold,
    Format.OPENAI_RESPONSES: ResponsesFold,
    Format.ANTHROPIC_MESSAGES: AnthropicFold,
    Format.GEMINI_GENERATE: GeminiFold,
    Format.OLLAMA_CHAT: OllamaFold,
    Format.OLLAMA_GENERATE: OllamaFold,
    Format.BEDROCK_CONVERSE: ConverseFold,
    Format.BEDROCK_INVOKE: InvokeFold,
}


def fold_for(format: Format) -> Fold:
    """The fold of a format; formats that never stream get chat's."""
    return _FOLDS.get(format, ChatFold)()
