"""One small answer in the words of each API, whole and as a stream, and what the streams fold to."""

from __future__ import annotations

import json

import pytest

from support import frames
from valetkey.model import Format

SSE, NDJSON, PLAIN = "text/event-stream; charset=utf-8", "application/x-ndjson", "application/json"


def event(data, name=None):
    line = f"event: {name}\n" if name else ""
    return f"{line}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def chat(**delta):
    return event({"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None})


CHAT_USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
CHAT_END = event({"id": "c1", "model": "m", "choices": [], "usage": CHAT_USAGE})
DONE = b"data: [DONE]\n\n"
CHAT = chat(role="assistant", content="") + chat(content="hello") + chat(content=" you") + CHAT_END + DONE


def anthropic(kind, **more):
    return event({"type": kind, **more}, kind)


ANTHROPIC_START = anthropic(
    "message_start", message={"id": "msg_1", "model": "claude", "usage": {"input_tokens": 9, "output_tokens": 1}}
)
ANTHROPIC_TEXT = anthropic("content_block_delta", index=0, delta={"type": "text_delta", "text": "hello"})
ANTHROPIC = (
    ANTHROPIC_START
    + anthropic("ping")
    + anthropic("content_block_start", index=0, content_block={"type": "text", "text": ""})
    + ANTHROPIC_TEXT
    + anthropic("content_block_stop", index=0)
    + anthropic("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5})
    + anthropic("message_stop")
)


def responses(kind, **more):
    return event({"type": kind, **more}, kind)


RESPONSES_START = responses("response.created", response={"id": "resp_1", "model": "gpt", "usage": None, "output": []})
RESPONSES_TEXT = responses("response.output_text.delta", delta="hello")
RESPONSES = (
    RESPONSES_START
    + responses("response.output_item.added", item={"type": "message", "content": []})
    + RESPONSES_TEXT
    + responses("response.output_text.done", text="hello")
    + responses("response.completed", response={
        "id": "resp_1", "model": "gpt", "output": [{"type": "message", "content": [{"text": "hello"}]}],
        "usage": {"input_tokens": 9, "output_tokens": 2},
    })
)  # fmt: skip


def gemini(text, **more):
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, **more}], "modelVersion": "g",
            "responseId": "r1", "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": len(text)}}  # fmt: skip


GEMINI_PARTS = [gemini("hel"), gemini("lo ]}", finishReason="STOP")]
GEMINI = b"".join(event(part).replace(b"\n", b"\r\n") for part in GEMINI_PARTS)
GEMINI_ARRAY = b"[" + b",\r\n".join(json.dumps(part, indent=1).encode() for part in GEMINI_PARTS) + b"\n]"
OLLAMA = b"".join(
    json.dumps(line).encode() + b"\n"
    for line in (
        {"model": "l", "message": {"role": "assistant", "content": "hello"}, "done": False},
        {"model": "l", "message": {"role": "assistant", "content": ""}, "done": True, "prompt_eval_count": 9, "eval_count": 2},
    )
)
STREAMS = [
    pytest.param(Format.OPENAI_CHAT, SSE, CHAT, id="chat"),
    pytest.param(Format.ANTHROPIC_MESSAGES, SSE, ANTHROPIC, id="anthropic"),
    pytest.param(Format.OPENAI_RESPONSES, SSE, RESPONSES, id="responses"),
    pytest.param(Format.GEMINI_GENERATE, SSE, GEMINI, id="gemini"),
    pytest.param(Format.GEMINI_GENERATE, PLAIN, GEMINI_ARRAY, id="gemini array"),
    pytest.param(Format.OLLAMA_CHAT, NDJSON, OLLAMA, id="ollama"),
    pytest.param(Format.BEDROCK_CONVERSE, frames.KIND, frames.RECORDED, id="converse"),
    pytest.param(Format.BEDROCK_INVOKE, frames.KIND, frames.CLAUDE, id="invoke"),
]
DOCUMENTS = {
    "chat": {"id": "c1", "model": "m", "usage": CHAT_USAGE},
    "anthropic": {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 9, "output_tokens": 5}},
    "responses": {
        "id": "resp_1",
        "model": "gpt",
        "usage": {"input_tokens": 9, "output_tokens": 2},
        "output": [{"type": "message"}],
    },
    "gemini": {"modelVersion": "g", "responseId": "r1", "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 5}},
    "gemini array": {
        "modelVersion": "g",
        "responseId": "r1",
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 5},
    },
    "ollama": {"model": "l", "usage": CHAT_USAGE},
    "converse": {
        "role": "assistant",
        "usage": {"inputTokens": 13, "outputTokens": 82, "serverToolUsage": {}, "totalTokens": 95},
    },
    "invoke": {
        "id": "msg_1",
        "usage": {
            "inputTokens": 12,
            "outputTokens": 9,
            "cacheReadInputTokens": 7,
            "cacheWriteInputTokens": 5,
            "cacheDetails": [{"ttl": "5m", "inputTokens": 3}, {"ttl": "1h", "inputTokens": 2}],
        },
    },
}
