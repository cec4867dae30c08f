"""Ollama's own formats: chat and generate, whole and as lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .text import answer, dump, last_text, pieces, prompt_of, tokens

Body = dict[str, Any]
MODELS = ("llama3:latest",)


def whole(body: Body, words: int | None, chat: bool) -> Body:
    """A whole answer."""
    text = _text(body, words)
    return _line(body, text, chat) | _last(body, text)


def stream(body: Body, words: int | None, chat: bool) -> Iterator[bytes]:
    """The lines of a streamed answer."""
    text = _text(body, words)
    for piece in pieces(text):
        yield dump(_line(body, piece, chat) | {"done": False}) + b"\n"
    yield dump(_line(body, "", chat) | _last(body, text)) + b"\n"


def tags() -> Body:
    """The listing."""
    return {"models": [{"name": name, "model": name, "size": 1} for name in MODELS]}


def _line(body: Body, text: str, chat: bool) -> Body:
    said: Body = {"message": {"role": "assistant", "content": text}} if chat else {"response": text}
    return {"model": body.get("model", ""), "created_at": "2025-10-09T00:00:00Z"} | said


def _last(body: Body, text: str) -> Body:
    prompt = tokens(prompt_of(body.get("messages", body.get("prompt", ""))))
    return {"done": True, "done_reason": "stop", "prompt_eval_count": prompt, "eval_count": tokens(text)}


def _text(body: Body, words: int | None) -> str:
    return answer(last_text(body.get("messages", body.get("prompt", ""))), words)
