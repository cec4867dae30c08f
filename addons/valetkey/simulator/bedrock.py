"""Bedrock's formats: Converse, and InvokeModel with Claude and Nova behind it, whole and as event streams."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from ..formats import event_frame
from .anthropic import Anthropic
from .text import answer, dump, last_text, pieces, prompt_of, tokens

Body = dict[str, Any]
_PADDING = "abcdefghijklmnopqrstuvwxyz"


def speak(path: str, body: Body, words: int | None, claude: Anthropic) -> Body | Iterator[bytes] | None:
    """The answer to a call: a document, or the frames of a stream; None for a path that is none of these."""
    model, _, action = path.removeprefix("/model/").partition("/")
    is_claude = "anthropic" in unquote(model)
    match action:
        case "converse":
            return converse(body, words)
        case "converse-stream":
            return converse_stream(body, words)
        case "invoke":
            return claude.messages(body, words) if is_claude else converse(body, words)
        case "invoke-with-response-stream":
            return _invoke_stream(claude.stream(body, words)) if is_claude else _nova_stream(body, words)
        case "count-tokens":
            return {"inputTokens": tokens(prompt_of(body.get("input", {}).get("converse", {}).get("messages", "")))}
        case _:
            return None


def converse(body: Body, words: int | None) -> Body:
    """A whole answer."""
    text = _text(body, words)
    message = {"role": "assistant", "content": [{"text": text}]}
    return {"metrics": {"latencyMs": 189}, "output": {"message": message}, "stopReason": "end_turn", "usage": _usage(body, text)}


def converse_stream(body: Body, words: int | None) -> Iterator[bytes]:
    """The frames of a streamed answer."""
    for name, event in _events(body, words):
        yield event_frame(name, dump(event | {"p": _PADDING[: len(name)]}))


def says(text: str) -> bytes:
    """A frame with a piece of text."""
    return event_frame("contentBlockDelta", dump({"contentBlockIndex": 0, "delta": {"text": text}}))


def noise(path: str) -> bytes:
    """A frame that says nothing."""
    return _chunk({"type": "ping"}) if "/invoke" in path else event_frame("contentBlockStop", dump({"contentBlockIndex": 0}))


def exception(kind: str, message: str) -> bytes:
    """An exception in the place of an event."""
    return event_frame(kind[:1].lower() + kind[1:], dump({"message": message}), "exception")


def _events(body: Body, words: int | None) -> Iterator[tuple[str, Body]]:
    text = _text(body, words)
    yield "messageStart", {"role": "assistant"}
    for piece in pieces(text):
        yield "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}}
    yield "contentBlockStop", {"contentBlockIndex": 0}
    yield "messageStop", {"stopReason": "end_turn"}
    yield "metadata", {"metrics": {"latencyMs": 391}, "usage": _usage(body, text)}


def _nova_stream(body: Body, words: int | None) -> Iterator[bytes]:
    """The same events, each in an object under its name, as Nova gives them to InvokeModel."""
    for name, event in _events(body, words):
        usage = event.get("usage", {})
        metrics = {"inputTokenCount": usage.get("inputTokens"), "outputTokenCount": usage.get("outputTokens")}
        yield _chunk({name: event} | ({"amazon-bedrock-invocationMetrics": metrics} if usage else {}))


def _invoke_stream(events: Iterator[bytes]) -> Iterator[bytes]:
    """The events of Anthropic's own stream, each in a chunk; the last one has Bedrock's counts."""
    counts = {"inputTokenCount": 0, "outputTokenCount": 0, "invocationLatency": 891, "firstByteLatency": 313}
    for sent in events:
        event = json.loads(sent.partition(b"data: ")[2])
        usage = event.get("message", event).get("usage", {})
        counts["inputTokenCount"] = usage.get("input_tokens", counts["inputTokenCount"])
        counts["outputTokenCount"] = usage.get("output_tokens", counts["outputTokenCount"])
        last = {"amazon-bedrock-invocationMetrics": counts} if event["type"] == "message_stop" else {}
        if event["type"] != "ping":
            yield _chunk(event | last)


def _chunk(event: Body) -> bytes:
    return event_frame("chunk", dump({"bytes": b64encode(dump(event)).decode(), "p": _PADDING[:7]}))


def _usage(body: Body, text: str) -> Body:
    asked, said = tokens(prompt_of(body.get("system", "")) + prompt_of(body.get("messages", ""))), tokens(text)
    return {"inputTokens": asked, "outputTokens": said, "serverToolUsage": {}, "totalTokens": asked + said}


def _text(body: Body, words: int | None) -> str:
    return answer(last_text(body.get("messages", "")), words)
