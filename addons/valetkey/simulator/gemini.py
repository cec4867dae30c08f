"""Gemini's formats: generateContent, its streams with and without `alt=sse`, countTokens, embeddings, models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .text import answer, dump, last_text, pieces, prompt_of, sse, tokens

Body = dict[str, Any]
MODELS = ("gemini-2.5-flash", "gemini-2.5-pro")


def generate(body: Body, model: str, words: int | None) -> Body:
    """A whole answer."""
    text = _text(body, words)
    return _chunk(body, model, text, text, "STOP")


def stream(body: Body, model: str, words: int | None, as_sse: bool) -> Iterator[bytes]:
    """A streamed answer: server-sent events, or one JSON array in pieces."""
    parts, text = pieces(_text(body, words)), ""
    for at, part in enumerate(parts):
        text += part
        last = at == len(parts) - 1
        chunk = _chunk(body, model, part, text, "STOP" if last else None)
        if as_sse:
            yield sse(chunk).replace(b"\n\n", b"\r\n\r\n")
        else:
            yield (b"[" if at == 0 else b",\r\n") + dump(chunk) + (b"]" if last else b"")


def count(body: Body) -> Body:
    """What a prompt would use."""
    total = tokens(prompt_of(body.get("contents", (body.get("generateContentRequest") or {}).get("contents", ""))))
    return {"totalTokens": total, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}]}


def embed(body: Body) -> Body:
    """One vector, or one per request of a batch."""
    if "requests" in body:
        return {"embeddings": [{"values": [0.5, -0.5, 0.25]} for _ in body["requests"]]}
    return {"embedding": {"values": [0.5, -0.5, 0.25]}}


def models() -> Body:
    """The listing."""
    return {"models": [model(name) for name in MODELS]}


def model(name: str) -> Body:
    """One entry of the listing."""
    methods = ["generateContent", "countTokens"]
    return {"name": f"models/{name}", "version": "001", "displayName": name, "supportedGenerationMethods": methods}


def error(status: int, word: str, message: str, reason: str | None = None) -> bytes:
    """An error body."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}
    details = {"details": [info]} if reason else {}
    return dump({"error": {"code": status, "message": message, "status": word} | details})


def live_turn(turns: Any, sound_in: int, speaks: bool, words: int | None) -> tuple[list[Body], Body]:
    """The messages of an answer of Live before its last one, and the totals of that; `sound_in` in tokens.

    https://ai.google.dev/api/live#UsageMetadata
    """
    text = answer(last_text(turns), words)
    said: list[Body] = [{"text": piece} for piece in pieces(text)]
    if speaks:
        said = [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": "AAAA" * len(piece)}} for piece in pieces(text)]
    messages: list[Body] = [{"serverContent": {"modelTurn": {"parts": [part]}}} for part in said]
    if speaks:
        messages.append({"serverContent": {"outputTranscription": {"text": text}}})
    words_in, out = tokens(prompt_of(turns)) if turns else 0, tokens(text)
    heard = {"TEXT": words_in, "AUDIO": sound_in}
    return [*messages, {"serverContent": {"generationComplete": True}}], {
        "promptTokenCount": words_in + sound_in, "responseTokenCount": out, "totalTokenCount": words_in + sound_in + out,
        "promptTokensDetails": [{"modality": kind, "tokenCount": count} for kind, count in heard.items() if count],
        "responseTokensDetails": [{"modality": "AUDIO" if speaks else "TEXT", "tokenCount": out}],
    }  # fmt: skip


def _chunk(body: Body, model: str, part: str, so_far: str, finish: str | None) -> Body:
    candidate: Body = {"content": {"parts": [{"text": part}], "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    prompt, output = tokens(prompt_of(body.get("contents", ""))), tokens(so_far)
    counts = {"promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": prompt + output}
    counts["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": prompt}]  # type: ignore[assignment]
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": model, "responseId": "sim1"}


def _text(body: Body, words: int | None) -> str:
    return answer(last_text(body.get("contents", "")), words)
