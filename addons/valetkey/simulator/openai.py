"""OpenAI's formats: chat, Responses, completions, embeddings, models; and how its relatives differ."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any

from .text import answer, dump, last_text, pieces, prompt_of, sse, tokens

Body = dict[str, Any]
CREATED = 1_760_000_000
MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "text-embedding-3-small")


def chat(body: Body, words: int | None, relative: str) -> Body:
    """A whole chat answer. `relative` is the provider: some add fields of their own."""
    tool = _tool(body)
    text = "" if tool else _text(body, words)
    message: Body = {"role": "assistant", "content": None if tool else text, "refusal": None, "annotations": []}
    if tool:
        message["tool_calls"] = [{"id": "call_sim1", "type": "function", "function": {"name": tool, "arguments": "{}"}}]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls" if tool else "stop"}
    return {
        "id": "chatcmpl-sim1", "object": "chat.completion", "created": CREATED, "model": body.get("model", ""),
        "choices": [choice], "usage": usage(body, text, relative), "service_tier": "default", "system_fingerprint": "fp_sim",
    }  # fmt: skip


def chat_stream(body: Body, words: int | None, relative: str) -> Iterator[bytes]:
    """The events of a streamed chat answer; usage as the provider reports it."""
    tool = _tool(body)
    text = "" if tool else _text(body, words)
    counts = usage(body, text, relative)
    asked = bool((body.get("stream_options") or {}).get("include_usage"))
    null = {"usage": None} if asked and relative not in ("mistral", "groq") else {}

    def chunk(delta: Body, finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse(_chunk_head(body) | {"choices": [choice]} | null | more)

    if relative == "openrouter":
        yield b": OPENROUTER PROCESSING\n\n"
    yield chunk({"role": "assistant", "content": "", "refusal": None})
    if tool:
        yield chunk(
            {"tool_calls": [{"index": 0, "id": "call_sim1", "type": "function", "function": {"name": tool, "arguments": ""}}]}
        )
        yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})
    for piece in pieces(text) if text else ():
        yield chunk({"content": piece})
    finish = "tool_calls" if tool else "stop"
    if relative == "groq":
        yield chunk({}, finish, x_groq={"id": "req_sim", "usage": counts})
    elif relative == "mistral":
        yield chunk({}, finish, usage=counts)
    else:
        yield chunk({}, finish)
    if asked and relative != "mistral":
        yield sse(_chunk_head(body) | {"choices": [], "usage": counts})
    yield b"data: [DONE]\n\n"


def completion(body: Body, words: int | None, relative: str) -> Body:
    """A whole answer of the old completions API."""
    text = _text(body, words)
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": "cmpl-sim1", "object": "text_completion", "created": CREATED, "model": body.get("model", ""),
        "choices": [choice], "usage": usage(body, text, relative),
    }  # fmt: skip


def completion_stream(body: Body, words: int | None, relative: str) -> Iterator[bytes]:
    """The events of a streamed completion."""
    text = _text(body, words)
    head = {"id": "cmpl-sim1", "object": "text_completion", "created": CREATED, "model": body.get("model", "")}
    for piece in pieces(text):
        yield sse(head | {"choices": [{"index": 0, "text": piece, "logprobs": None, "finish_reason": None}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        yield sse(head | {"choices": [], "usage": usage(body, text, relative)})
    yield b"data: [DONE]\n\n"


def responses(body: Body, words: int | None) -> Body:
    """A whole answer of the Responses API."""
    return _response(body, _text(body, words), "completed")


def responses_stream(body: Body, words: int | None) -> Iterator[bytes]:
    """A streamed Responses answer."""
    for event in responses_events(body, words):
        yield sse(event, event["type"])


def responses_events(body: Body, words: int | None) -> Iterator[Body]:
    """The events of a streamed Responses answer."""
    text = _text(body, words)
    done = _response(body, text, "completed")
    begun = done | {"status": "in_progress", "output": [], "usage": None}
    item = done["output"][0]
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    events: list[Body] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": item | {"status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **place, "part": part},
    ]
    events += [{"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in pieces(text)]
    events += [
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part | {"text": text}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": done},
    ]
    for number, event in enumerate(events):
        yield {**event, "sequence_number": number}


def embeddings(body: Body) -> Body:
    """Vectors of four numbers, as floats or base64 as asked."""
    inputs = body.get("input", "")
    texts = inputs if isinstance(inputs, list) else [inputs]
    packed = body.get("encoding_format") == "base64"
    vector = [0.5, -0.5, 0.25, 0.0]
    value: Any = base64.b64encode(struct.pack("<4f", *vector)).decode() if packed else vector
    count = sum(tokens(str(text)) for text in texts)
    data = [{"object": "embedding", "index": at, "embedding": value} for at in range(len(texts))]
    counts = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": body.get("model", ""), "usage": counts}


def models() -> Body:
    """The listing."""
    return {"object": "list", "data": [model(name) for name in MODELS]}


def model(name: str) -> Body:
    """One entry of the listing."""
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "simulator"}


def usage(body: Body, text: str, relative: str) -> Body:
    """True counts in OpenAI's words, with what a relative adds."""
    prompt = tokens(prompt_of(body.get("messages", body.get("prompt", ""))))
    output = tokens(text) if text else 1
    counts: Body = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    if relative == "openrouter":
        counts |= {"cost": 0.000123, "is_byok": False, "cost_details": {"upstream_inference_cost": None}}
    if relative == "deepseek":
        counts |= {"prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": prompt}
    if relative in ("openai", "openrouter"):
        counts["prompt_tokens_details"] = {"cached_tokens": 0, "audio_tokens": 0}
        counts["completion_tokens_details"] = {"reasoning_tokens": 0, "audio_tokens": 0}
    return counts


def error(status: int, code: str, message: str) -> bytes:
    """An error body."""
    kind = "invalid_request_error" if status < 429 else "insufficient_quota" if code == "insufficient_quota" else "requests"
    return dump({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _response(body: Body, text: str, status: str) -> Body:
    prompt, output = tokens(prompt_of(body.get("input", ""))), tokens(text)
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item = {"id": "msg_sim1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    return {
        "id": "resp_sim1", "object": "response", "created_at": CREATED, "status": status, "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"), "max_output_tokens": None, "model": body.get("model", ""), "output": [item],
        "parallel_tool_calls": True, "previous_response_id": None, "reasoning": {"effort": None, "summary": None}, "store": True,
        "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "truncation": "disabled", "metadata": {}, "service_tier": "default",
        "usage": {
            "input_tokens": prompt, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": prompt + output,
        },
    }  # fmt: skip


def _chunk_head(body: Body) -> Body:
    return {
        "id": "chatcmpl-sim1", "object": "chat.completion.chunk", "created": CREATED, "model": body.get("model", ""),
        "service_tier": "default", "system_fingerprint": "fp_sim",
    }  # fmt: skip


def _text(body: Body, words: int | None) -> str:
    return answer(last_text(body.get("messages", body.get("input", body.get("prompt", "")))), words)


def _tool(body: Body) -> str | None:
    """The tool that is called: when the request requires one, or its text asks for it."""
    tools = body.get("tools") or []
    wanted = body.get("tool_choice") == "required" or "use the tool" in prompt_of(body.get("messages", "")).lower()
    return tools[0].get("function", {}).get("name") if tools and wanted else None
