"""The simulated model: a deterministic answer, and honest counts of its tokens."""

from __future__ import annotations

import json
from typing import Any

_FILLER = ["valet", "keys", "start", "the", "car", "and", "open", "nothing", "else"]


def tokens(text: str) -> int:
    """Four characters to a token, at least one: the same for whole answers and streams."""
    return max(1, (len(text) + 3) // 4)


def prompt_of(value: Any) -> str:
    """All text in a request's messages, input, contents or prompt."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, (prompt_of(each) for each in value)))
    if isinstance(value, dict):
        return "\n".join(prompt_of(value[name]) for name in ("text", "content", "parts", "input", "prompt") if name in value)
    return ""


def last_text(value: Any) -> str:
    """The last piece of text of a prompt."""
    return prompt_of(value).strip().rsplit("\n", 1)[-1]


def answer(prompt: str, words: int | None) -> str:
    """What the model says: an echo, or as many words as asked for."""
    if words is not None:
        return " ".join(_FILLER[at % len(_FILLER)] for at in range(words))
    return f"Simulated answer to: {prompt[:200]}"


def pieces(text: str) -> list[str]:
    """An answer in the pieces that a stream sends: a word with the space after it."""
    words = text.split(" ")
    return [word + (" " if at < len(words) - 1 else "") for at, word in enumerate(words)]


def dump(document: Any) -> bytes:
    """JSON as providers send it."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def sse(document: Any, event: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: " + dump(document) + b"\n\n"
