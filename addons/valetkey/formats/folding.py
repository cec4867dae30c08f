"""Fold the events of a stream into the body that the provider would have answered whole, as far as usage needs it.

One small class per format. `read` gets a decoded event that may matter and keeps what does; nothing grows with the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model import Format

Event = Mapping[str, Any]
_KEPT = ("model", "id", "service_tier", "created", "system_fingerprint", "provider")


class Fold:
    """The state after the events so far. `hints` are byte strings of which an event must hold one to be decoded at all."""

    hints: tuple[bytes, ...] = (b'"usage"', b'"error"', b'"model"')
    content_hints: tuple[bytes, ...] = (b'"content"', b'"delta"')
    role_only: bytes | None = None

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
        if b'"usage"' in data or b'"error"' in data or b'"usageMetadata"' in data:
            return True
        return not self.document and b'"model' in data

    def is_content(self, name: str | None, data: bytes) -> bool:
        """Whether an event carries part of the answer: no ping, no comment, no chunk with only a role."""
        raise NotImplementedError

    def _keep(self, event: Event, names: tuple[str, ...] = _KEPT) -> None:
        for name in names:
            if event.get(name) is not None:
                self.document[name] = event[name]

    def _use(self, usage: object) -> None:
        if isinstance(usage, Mapping) and usage:
            self.document["usage"] = dict(usage)
            self.has_usage = True


class ChatFold(Fold):
    """OpenAI chat and completions; Groq reports in `x_groq`, others in the last chunk with choices."""

    def read(self, name: str | None, event: Event) -> None:
        if isinstance(event.get("error"), Mapping | str):
            self.error = event
            return
        self._keep(event)
        self._use(event.get("usage"))
        groq = event.get("x_groq")
        if isinstance(groq, Mapping):
            if not self.has_usage:
                self._use(groq.get("usage"))
            if isinstance(groq.get("error"), Mapping | str):
                self.error = groq

    def wants(self, name: str | None, data: bytes) -> bool:
        # Chunks carry `"usage":null` until the last one when usage was asked for.
        if b'"usage":null' in data or b'"usage": null' in data:
            return (not self.document and b'"model"' in data) or b'"error"' in data
        return super().wants(name, data)

    def mark(self, name: str | None, data: bytes) -> None:
        if data.strip() == b"[DONE]":
            self.complete = True

    def is_content(self, name: str | None, data: bytes) -> bool:
        if b'"choices"' not in data:
            return False
        if any(mark in data for mark in (b'"text":"', b'"text": "', b'"tool_calls"', b'"reasoning', b'"refusal":"')):
            return True
        return b'"content":"' in data.replace(b" ", b"") and b'"content":""' not in data.replace(b" ", b"")


class ResponsesFold(Fold):
    """OpenAI Responses: usage stands in the last event's `response`."""

    _LAST = ("response.completed", "response.incomplete", "response.failed")

    def read(self, name: str | None, event: Event) -> None:
        kind = event.get("type", name)
        response = event.get("response")
        if isinstance(response, Mapping):
            self._keep(response, (*_KEPT, "status", "tools"))
            self._use(response.get("usage"))
            if kind in self._LAST and isinstance(response.get("output"), list):
                self.document["output"] = [{"type": o.get("type")} for o in response["output"] if isinstance(o, Mapping)]
        if kind == "error" or (kind == "response.failed"):
            self.error = event
        self.complete = self.complete or kind in self._LAST

    def wants(self, name: str | None, data: bytes) -> bool:
        if name == "error" or name in self._LAST or b'"type":"error"' in data.replace(b" ", b"")[:200]:
            return True
        return name is None and any(kind.encode() in data[:200] for kind in self._LAST)

    def is_content(self, name: str | None, data: bytes) -> bool:
        return b".delta" in (name or "").encode() or b'.delta"' in data[:200]


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
        return name in ("message_start", "message_delta", "error") or (name is None and b'"usage"' in data)

    def mark(self, name: str | None, data: bytes) -> None:
        self.complete = self.complete or name == "message_stop" or b'"message_stop"' in data[:60]

    def is_content(self, name: str | None, data: bytes) -> bool:
        return name == "content_block_delta" or b'"content_block_delta"' in data[:60]


class GeminiFold(Fold):
    """Gemini: totals so far in most chunks; the last that is not empty counts, which may come without candidates."""

    def read(self, name: str | None, event: Event) -> None:
        if isinstance(event.get("error"), Mapping):
            self.error = event
        self._keep(event, ("modelVersion", "responseId"))
        usage = event.get("usageMetadata")
        if isinstance(usage, Mapping) and usage:
            self.document["usageMetadata"] = dict(usage)
            self.has_usage = True
        candidates = event.get("candidates")
        if isinstance(candidates, list):
            first = candidates[0] if candidates and isinstance(candidates[0], Mapping) else {}
            if first.get("finishReason"):
                self.complete = True
            grounding = first.get("groundingMetadata")
            if isinstance(grounding, Mapping):
                self.document["candidates"] = [{"groundingMetadata": dict(grounding)}]

    def is_content(self, name: str | None, data: bytes) -> bool:
        return b'"parts"' in data


class OllamaFold(Fold):
    """Ollama's own lines: counts stand in the last, under names of their own; folded to OpenAI's."""

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
        return b'"done":true' in data.replace(b" ", b"") or super().wants(name, data)

    def is_content(self, name: str | None, data: bytes) -> bool:
        return b'"done"' in data


_FOLDS: Mapping[Format, type[Fold]] = {
    Format.OPENAI_CHAT: ChatFold,
    Format.OPENAI_COMPLETIONS: ChatFold,
    Format.OPENAI_RESPONSES: ResponsesFold,
    Format.ANTHROPIC_MESSAGES: AnthropicFold,
    Format.GEMINI_GENERATE: GeminiFold,
    Format.OLLAMA_CHAT: OllamaFold,
    Format.OLLAMA_GENERATE: OllamaFold,
}


def fold_for(format: Format) -> Fold:
    """The fold of a format; formats that never stream get chat's."""
    return _FOLDS.get(format, ChatFold)()
