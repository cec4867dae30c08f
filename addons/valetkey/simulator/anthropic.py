"""Anthropic's formats: messages, count_tokens, models; with caches that are written first and read afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .text import answer, dump, last_text, pieces, prompt_of, sse, tokens

Body = dict[str, Any]
MODELS = ("claude-sonnet-4-5", "claude-haiku-4-5", "claude-opus-4-5")
REMEMBERED = 10_000
"""Prompt prefixes that are remembered; then all are forgotten at once, as caches are."""


class Anthropic:
    """Remembers which prompt prefixes were cached."""

    def __init__(self) -> None:
        self._cached: set[str] = set()

    def messages(self, body: Body, words: int | None) -> Body:
        """A whole answer."""
        tool, text = _tool(body), _text(body, words)
        content = (
            [{"type": "tool_use", "id": "toolu_sim1", "name": tool, "input": {}}] if tool else [{"type": "text", "text": text}]
        )
        return _message(body) | {
            "content": content,
            "stop_reason": "tool_use" if tool else "end_turn",
            "usage": self._input_usage(body) | {"output_tokens": tokens(text), "service_tier": "standard"},
        }

    def stream(self, body: Body, words: int | None) -> Iterator[bytes]:
        """The events of a streamed answer."""
        tool, text = _tool(body), _text(body, words)
        begun = self._input_usage(body) | {"output_tokens": 1, "service_tier": "standard"}
        yield _event({"type": "message_start", "message": _message(body) | {"content": [], "usage": begun}})
        block: Body = (
            {"type": "tool_use", "id": "toolu_sim1", "name": tool, "input": {}} if tool else {"type": "text", "text": ""}
        )
        yield _event({"type": "content_block_start", "index": 0, "content_block": block})
        yield _event({"type": "ping"})
        deltas = (
            [{"type": "input_json_delta", "partial_json": "{}"}]
            if tool
            else [{"type": "text_delta", "text": piece} for piece in pieces(text)]
        )
        for delta in deltas:
            yield _event({"type": "content_block_delta", "index": 0, "delta": delta})
        yield _event({"type": "content_block_stop", "index": 0})
        stop = {"stop_reason": "tool_use" if tool else "end_turn", "stop_sequence": None}
        yield _event({"type": "message_delta", "delta": stop, "usage": {"output_tokens": tokens(text)}})
        yield _event({"type": "message_stop"})

    def _input_usage(self, body: Body) -> Body:
        count = tokens(_prompt(body))
        usage: Body = {"input_tokens": count, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        usage["cache_creation"] = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}
        control = _cache_control(body)
        if control is None:
            return usage
        prefix = json.dumps(body.get("system", "")) + str(body.get("model"))
        cached = tokens(prefix)
        if prefix in self._cached:
            return usage | {"cache_read_input_tokens": cached}
        if len(self._cached) >= REMEMBERED:
            self._cached.clear()
        self._cached.add(prefix)
        slot = "ephemeral_1h_input_tokens" if control.get("ttl") == "1h" else "ephemeral_5m_input_tokens"
        return usage | {"cache_creation_input_tokens": cached, "cache_creation": usage["cache_creation"] | {slot: cached}}


def count_tokens(body: Body) -> Body:
    """What a prompt would use."""
    return {"input_tokens": tokens(_prompt(body))}


def models() -> Body:
    """The listing."""
    return {"data": [model(name) for name in MODELS], "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}


def model(name: str) -> Body:
    """One entry of the listing."""
    return {"type": "model", "id": name, "display_name": name, "created_at": "2025-09-29T00:00:00Z"}


def error(kind: str, message: str) -> bytes:
    """An error body."""
    return dump({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_sim1"})


def _event(document: Body) -> bytes:
    return sse(document, document["type"])


def _message(body: Body) -> Body:
    return {
        "id": "msg_sim1", "type": "message", "role": "assistant", "model": body.get("model", ""), "stop_reason": None,
        "stop_sequence": None,
    }  # fmt: skip


def _prompt(body: Body) -> str:
    return prompt_of(body.get("system", "")) + prompt_of(body.get("messages", ""))


def _text(body: Body, words: int | None) -> str:
    return answer(last_text(body.get("messages", "")), words)


def _tool(body: Body) -> str | None:
    tools = body.get("tools") or []
    wanted = (body.get("tool_choice") or {}).get("type") in ("any", "tool") or "use the tool" in _prompt(body).lower()
    return tools[0].get("name") if tools and wanted else None


def _cache_control(value: Any) -> Body | None:
    if isinstance(value, dict):
        own = value.get("cache_control")
        return own if isinstance(own, dict) else next(filter(None, map(_cache_control, value.values())), None)
    if isinstance(value, list):
        return next(filter(None, map(_cache_control, value)), None)
    return None
