"""The beginning of an answer: what is content, what is noise and what is an error, however the bytes are cut."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from support.chunks import chunkings, randomly, singly
from support.frames import CLAUDE, KIND, RECORDED, converse, exception
from support.frames import chunk as framed
from support.streams import (
    ANTHROPIC_START,
    ANTHROPIC_TEXT,
    CHAT_END,
    DONE,
    NDJSON,
    PLAIN,
    RESPONSES_START,
    RESPONSES_TEXT,
    SSE,
    STREAMS,
    anthropic,
    chat,
    event,
    gemini,
    responses,
)
from valetkey.formats.failures import Failure
from valetkey.formats.opening import Opening, read_whole
from valetkey.model import Format

CHAT, COMPLETIONS, RESPONSES = Format.OPENAI_CHAT, Format.OPENAI_COMPLETIONS, Format.OPENAI_RESPONSES
MESSAGES, GEMINI = Format.ANTHROPIC_MESSAGES, Format.GEMINI_GENERATE
OLLAMA, OLLAMA_GENERATE = Format.OLLAMA_CHAT, Format.OLLAMA_GENERATE
CONVERSE, INVOKE = Format.BEDROCK_CONVERSE, Format.BEDROCK_INVOKE
ENCODINGS = {None: bytes, "gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress}


def fed(format, kind, chunks, encoding=None, **more):
    """The decision that stands after these chunks."""
    opening, decision = Opening(format, kind, encoding, **more), False
    for chunk in chunks:
        decision = opening.feed(chunk)
    return decision


def decided(format, kind, chunks, encoding=None, **more):
    """The decision at the end of the answer."""
    opening = Opening(format, kind, encoding, **more)
    for chunk in chunks:
        opening.feed(chunk)
    return opening.end()


def choice(**more):
    return event({"id": "c1", "object": "chat.completion.chunk", "choices": [{"index": 0, **more}]})


def ollama(**more):
    return json.dumps({"model": "l", "created_at": "x", **more}).encode() + b"\n"


def part(**more):
    return event({"candidates": [{"content": {"role": "model", "parts": [more]}}]})


def block(**more):
    return anthropic("content_block_start", index=0, content_block=more)


NOISE = [
    pytest.param(CHAT, SSE, b": OPENROUTER PROCESSING\n\n", id="comment"),
    pytest.param(CHAT, SSE, b"\n\r\n\n", id="blank lines"),
    pytest.param(CHAT, SSE, b"event: ping\ndata: 17\n\n", id="a named ping"),
    pytest.param(CHAT, SSE, b"id: 1\nretry: 3\n\n", id="fields without data"),
    pytest.param(CHAT, SSE, b"data\n\ndata:\n\ndata: {}\n\n", id="empty data"),
    pytest.param(CHAT, SSE, DONE, id="chat: done"),
    pytest.param(CHAT, SSE, CHAT_END, id="chat: usage"),
    pytest.param(CHAT, SSE, event({"id": "c1", "model": "m", "usage": {"prompt_tokens": 1}}), id="chat: usage, no choices"),
    pytest.param(CHAT, SSE, event({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}), id="chat: azure's first"),
    pytest.param(CHAT, SSE, chat(role="assistant"), id="chat: role"),
    pytest.param(CHAT, SSE, chat(role="assistant", content=""), id="chat: empty content"),
    pytest.param(CHAT, SSE, chat(role="assistant", content=None, refusal=None, tool_calls=[], reasoning=""), id="chat: nulls"),
    pytest.param(CHAT, SSE, choice(delta={}, content_filter_results={"hate": {"filtered": False}}), id="chat: azure's filters"),
    pytest.param(CHAT, SSE, event({"choices": [{"delta": {"role": "assistant"}}], "x_groq": {"id": "r"}}), id="groq's first"),
    pytest.param(COMPLETIONS, SSE, choice(text="", logprobs=None, finish_reason=None), id="completions: empty"),
    pytest.param(RESPONSES, SSE, RESPONSES_START + responses("response.in_progress", response={}), id="responses: start"),
    pytest.param(RESPONSES, SSE, responses("response.queued", response={}), id="responses: queued"),
    pytest.param(RESPONSES, SSE, responses("response.output_item.added", item={"type": "message"}), id="responses: item"),
    pytest.param(RESPONSES, SSE, responses("response.content_part.added", part={"text": ""}), id="responses: part"),
    pytest.param(RESPONSES, SSE, event({"type": "keepalive", "sequence_number": 4}), id="responses: keepalive"),
    pytest.param(MESSAGES, SSE, ANTHROPIC_START + anthropic("ping"), id="anthropic: start and ping"),
    pytest.param(MESSAGES, SSE, block(type="text", text=""), id="anthropic: empty block"),
    pytest.param(MESSAGES, SSE, anthropic("content_block_stop", index=0), id="anthropic: end of a block"),
    pytest.param(MESSAGES, SSE, anthropic("message_delta", delta={}, usage={"output_tokens": 1}), id="anthropic: usage"),
    pytest.param(MESSAGES, SSE, anthropic("message_stop"), id="anthropic: stop"),
    pytest.param(GEMINI, SSE, event({"usageMetadata": {"promptTokenCount": 1}}), id="gemini: usage"),
    pytest.param(GEMINI, SSE, event({"candidates": [{"index": 0}], "modelVersion": "g"}), id="gemini: no content"),
    pytest.param(GEMINI, SSE, event({"candidates": [{"content": {"role": "model"}}]}), id="gemini: no parts"),
    pytest.param(GEMINI, SSE, part(text="", thought=True), id="gemini: empty thought"),
    pytest.param(GEMINI, SSE, event({"promptFeedback": {"safetyRatings": []}}), id="gemini: not blocked"),
    pytest.param(GEMINI, PLAIN, b'[{"usageMetadata":{}}', id="gemini: array"),
    pytest.param(OLLAMA, NDJSON, ollama(message={"role": "assistant", "content": ""}, done=False) + b"\n", id="ollama"),
    pytest.param(OLLAMA_GENERATE, NDJSON, ollama(response="", done=False), id="ollama: generate"),
    pytest.param(CONVERSE, KIND, converse("messageStart", role="assistant", p="abc"), id="converse: start"),
    pytest.param(CONVERSE, KIND, converse("contentBlockDelta", delta={"text": ""}, p="abc"), id="converse: empty text"),
    pytest.param(CONVERSE, KIND, converse("contentBlockStop", contentBlockIndex=0), id="converse: end of a block"),
    pytest.param(CONVERSE, KIND, RECORDED[:200], id="converse: half a frame"),
    pytest.param(INVOKE, KIND, CLAUDE[:900], id="invoke: start"),
]  # fmt: skip
CONTENT = [
    pytest.param(CHAT, SSE, chat(content="x"), id="chat: text"),
    pytest.param(CHAT, SSE, chat(content=[{"type": "thinking"}]), id="chat: parts"),
    pytest.param(CHAT, SSE, chat(content="", reasoning_content="x"), id="chat: reasoning"),
    pytest.param(CHAT, SSE, chat(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": ""}}]), id="chat: tool"),
    pytest.param(CHAT, SSE, chat(refusal="no"), id="chat: refusal"),
    pytest.param(CHAT, SSE, chat(audio={"id": "a"}), id="chat: audio"),
    pytest.param(CHAT, SSE, choice(delta={}, finish_reason="stop"), id="chat: end"),
    pytest.param(CHAT, SSE, choice(delta={}, finish_reason="content_filter"), id="chat: filtered"),
    pytest.param(CHAT, SSE, event({"something": "new"}), id="chat: unknown"),
    pytest.param(CHAT, SSE, b"event: news\ndata: {}\n\n", id="chat: unknown name"),
    pytest.param(CHAT, SSE, b'data: {"choices": [{"delta"\n\n', id="chat: broken"),
    pytest.param(CHAT, SSE, b"data: null\n\n", id="chat: null"),
    pytest.param(CHAT, SSE, b"no healthy upstream\n\n", id="chat: no event"),
    pytest.param(COMPLETIONS, SSE, choice(text="x"), id="completions: text"),
    pytest.param(CONVERSE, KIND, converse("contentBlockDelta", delta={"text": "x"}), id="converse: text"),
    pytest.param(CONVERSE, KIND, converse("contentBlockDelta", delta={"reasoningContent": {"text": "x"}}), id="converse: why"),
    pytest.param(CONVERSE, KIND, converse("contentBlockStart", start={"toolUse": {"name": "f"}}), id="converse: tool"),
    pytest.param(CONVERSE, KIND, converse("messageStop", stopReason="guardrail_intervened"), id="converse: blocked"),
    pytest.param(CONVERSE, KIND, converse("somethingNew"), id="converse: unknown"),
    pytest.param(CONVERSE, KIND, b"no healthy upstream", id="converse: no frames"),
    pytest.param(INVOKE, KIND, framed(type="content_block_delta", delta={"text": "x"}), id="invoke: text"),
    pytest.param(INVOKE, KIND, framed(generation="x"), id="invoke: another model"),
    pytest.param(RESPONSES, SSE, RESPONSES_TEXT, id="responses: text"),
    pytest.param(RESPONSES, SSE, responses("response.refusal.delta", delta="no"), id="responses: refusal"),
    pytest.param(RESPONSES, SSE, responses("response.web_search_call.searching"), id="responses: search"),
    pytest.param(RESPONSES, SSE, responses("response.completed", response={"output": []}), id="responses: end"),
    pytest.param(RESPONSES, SSE, responses("response.incomplete", response={"error": None}), id="responses: cut"),
    pytest.param(MESSAGES, SSE, ANTHROPIC_TEXT, id="anthropic: text"),
    pytest.param(MESSAGES, SSE, block(type="text", text="x"), id="anthropic: text at once"),
    pytest.param(MESSAGES, SSE, block(type="thinking", thinking="", signature=""), id="anthropic: thinking"),
    pytest.param(MESSAGES, SSE, block(type="tool_use", name="f", input={}), id="anthropic: tool"),
    pytest.param(MESSAGES, SSE, anthropic("message_delta", delta={"stop_reason": "refusal"}), id="anthropic: refusal"),
    pytest.param(MESSAGES, SSE, anthropic("tomorrows_event"), id="anthropic: unknown"),
    pytest.param(GEMINI, SSE, event(gemini("x")), id="gemini: text"),
    pytest.param(GEMINI, SSE, part(functionCall={"name": "f"}), id="gemini: tool"),
    pytest.param(GEMINI, SSE, part(functionCall={}), id="gemini: empty tool"),
    pytest.param(GEMINI, SSE, part(text="", thoughtSignature="x"), id="gemini: signature"),
    pytest.param(GEMINI, SSE, event({"candidates": [{"finishReason": "SAFETY"}]}), id="gemini: safety"),
    pytest.param(GEMINI, SSE, event({"promptFeedback": {"blockReason": "SAFETY"}}), id="gemini: blocked"),
    pytest.param(GEMINI, PLAIN, b'[{"usageMetadata":{}},\r\n{"candidates":[{"finishReason":"STOP"}]}', id="gemini: array"),
    pytest.param(OLLAMA, NDJSON, ollama(message={"content": "x"}, done=False), id="ollama: text"),
    pytest.param(OLLAMA, NDJSON, ollama(message={"content": "", "thinking": "x"}), id="ollama: thinking"),
    pytest.param(OLLAMA, NDJSON, ollama(message={"content": "", "tool_calls": [{}]}), id="ollama: tool"),
    pytest.param(OLLAMA_GENERATE, NDJSON, ollama(response="x", done=False), id="ollama: generate"),
    pytest.param(OLLAMA, NDJSON, ollama(message={"content": ""}, done=True), id="ollama: end"),
    pytest.param(OLLAMA, NDJSON, b"{broken\n", id="ollama: broken"),
    pytest.param(CHAT, "text/html", b"<html>", id="a page"),
    pytest.param(CHAT, "audio/mpeg", b"\xff\xfb", id="sound"),
]
ERROR = {"code": "rate_limit_exceeded", "message": "x"}
GOOGLE = {"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}}
ERRORS = [
    pytest.param(CONVERSE, KIND, exception("throttlingException", "x"), 429, id="converse"),
    pytest.param(
        CONVERSE, KIND, converse("messageStart", role="assistant") + exception("serviceUnavailableException", "x"), 503,
        id="converse: after the start",
    ),
    pytest.param(INVOKE, KIND, exception("modelTimeoutException", "x"), 408, id="invoke"),
    pytest.param(INVOKE, KIND, framed(type="error", error={"type": "overloaded_error", "message": "x"}), 529, id="claude"),
    pytest.param(CHAT, SSE, event({"error": ERROR}), 429, id="chat"),
    pytest.param(CHAT, SSE, chat(role="assistant") + event({"error": ERROR}) + DONE, 429, id="chat: after a role"),
    pytest.param(CHAT, SSE, event({"error": "boom"}), 500, id="chat: text"),
    pytest.param(CHAT, SSE, b": OPENROUTER PROCESSING\n\n" + event(
        {"choices": [{"delta": {"content": ""}, "finish_reason": "error"}], "error": {"code": 502, "message": "x"}}), 502,
        id="openrouter"),
    pytest.param(CHAT, SSE, choice(delta={"content": ""}, finish_reason="error"), 500, id="chat: ends in an error"),
    pytest.param(CHAT, SSE, event({"choices": [], "x_groq": {"id": "r", "error": ERROR}}), 429, id="groq"),
    pytest.param(CHAT, SSE, event(ERROR, "error"), 429, id="an event called error"),
    pytest.param(CHAT, SSE, b"event: error\ndata: too many requests\n\n", 429, id="an event called error, no JSON"),
    pytest.param(CHAT, SSE, event({"object": "error", "type": "rate_limited", "code": "1300"}), 429, id="mistral"),
    pytest.param(CHAT, SSE, json.dumps({"error": ERROR}).encode(), 429, id="a body under the type of a stream"),
    pytest.param(CHAT, PLAIN, b"\n\n\n" + json.dumps({"error": ERROR}).encode(), 429, id="deepseek: after blank lines"),
    pytest.param(CHAT, PLAIN, json.dumps([GOOGLE]).encode(), 503, id="gemini's list in chat"),
    pytest.param(MESSAGES, SSE, ANTHROPIC_START + anthropic("ping") + anthropic("error", error={"type": "overloaded_error"}), 529,
        id="anthropic"),
    pytest.param(MESSAGES, SSE, event({"type": "error", "error": {"type": "rate_limit_error"}}), 429, id="anthropic: no name"),
    pytest.param(RESPONSES, SSE, RESPONSES_START + responses("error", **ERROR), 429, id="responses: event"),
    pytest.param(RESPONSES, SSE, responses("response.failed", response={"error": {"code": "server_error"}}), 500,
        id="responses: failed"),
    pytest.param(RESPONSES, PLAIN, json.dumps({"status": "failed", "output": [], "error": ERROR}).encode(), 429,
        id="responses: body"),
    pytest.param(GEMINI, SSE, event(GOOGLE), 503, id="gemini"),
    pytest.param(GEMINI, SSE, event([GOOGLE]), 503, id="gemini: list in an event"),
    pytest.param(GEMINI, PLAIN, json.dumps([{"usageMetadata": {}}, GOOGLE]).encode(), 503, id="gemini: array"),
    pytest.param(GEMINI, PLAIN, json.dumps(GOOGLE, indent=2).encode(), 503, id="gemini: body"),
    pytest.param(OLLAMA, NDJSON, b'{"error":"no memory"}\n', 500, id="ollama"),
    pytest.param(OLLAMA, NDJSON, b'{"error":"no memory"}', 500, id="ollama: no line end"),
]  # fmt: skip


@pytest.mark.parametrize("format, kind, stream", NOISE)
def test_noise_decides_nothing(format, kind, stream):
    assert [fed(format, kind, chunks) for chunks in (([stream]), singly(stream))] == [False, False]


@pytest.mark.parametrize("format, kind, stream", NOISE)
def test_noise_shows_that_the_provider_is_alive(format, kind, stream):
    opening = Opening(format, kind, None)
    before = opening.noise
    opening.feed(stream)
    assert (before, opening.noise) == (False, True)


@pytest.mark.parametrize("format, kind, stream", [case for case in NOISE if case.id != "gemini: array"])
def test_an_answer_of_noise_is_empty(format, kind, stream):
    assert decided(format, kind, [stream]) is False


@pytest.mark.parametrize("format, kind, stream", CONTENT)
def test_content_passes_at_once(format, kind, stream):
    assert [fed(format, kind, chunks) for chunks in (([stream]), singly(stream))] == [True, True]


@pytest.mark.parametrize("format, kind, stream, status", ERRORS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_error_is_found_whatever_the_chunks_and_the_encoding(format, kind, stream, status, encoding):
    expected = decided(format, kind, [stream])
    assert isinstance(expected, Failure) and expected.status == status
    for chunks in chunkings(ENCODINGS[encoding](stream)):
        assert decided(format, kind, chunks, encoding) == expected


@pytest.mark.parametrize(
    "format, kind, stream, status", [case for case in ERRORS if case.values[1] == SSE and case.values[2][:1] != b"{"]
)
def test_an_error_is_found_before_the_end(format, kind, stream, status):
    assert isinstance(fed(format, kind, [stream]), Failure)


@pytest.mark.parametrize("format, kind, stream, status", ERRORS)
def test_an_answer_read_whole_is_the_same_error(format, kind, stream, status):
    assert read_whole(format, kind, None, stream) == decided(format, kind, [stream])


def test_the_error_in_the_shape_of_the_dialect():
    failure = fed(MESSAGES, SSE, [anthropic("error", error={"type": "overloaded_error", "message": "Overloaded"})])
    assert json.loads(failure.body) == {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


@pytest.mark.parametrize("format, kind, stream", STREAMS)
def test_an_error_after_content_is_none(format, kind, stream):
    assert fed(format, kind, [stream, event({"error": ERROR}), event({"type": "error", **ERROR}, "error")]) is True


def test_an_error_before_content_stays():
    assert isinstance(decided(CHAT, SSE, [event({"error": ERROR}), chat(content="x")]), Failure)


@pytest.mark.parametrize("format, kind, stream", STREAMS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_good_stream_passes_before_its_end(format, kind, stream, encoding):
    for chunks in chunkings(ENCODINGS[encoding](stream)):
        assert fed(format, kind, chunks, encoding) is True


@pytest.mark.parametrize("kind", [None, "", "text/plain", PLAIN])
def test_a_stream_is_known_by_its_first_bytes_too(kind):
    assert isinstance(fed(CHAT, kind, singly(event({"error": ERROR}))), Failure)


@pytest.mark.parametrize("format", sorted(set(Format) - {*(case.values[0] for case in STREAMS), COMPLETIONS, OLLAMA_GENERATE}))
def test_formats_without_a_known_stream_pass(format):
    assert (fed(format, SSE, [event({"error": ERROR})]), decided(format, SSE, [])) == (True, True)


@pytest.mark.parametrize("format, kind, stream", STREAMS)
def test_no_answer_at_all_is_empty(format, kind, stream):
    opening = Opening(format, kind, None)
    assert (opening.feed(b""), opening.end(), opening.noise) == (False, False, False)


@pytest.mark.parametrize("filler", [b": x\n\n", b"\n", b"data: {}\n\n", b'{"a":"', b"x: y\n"])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_what_says_nothing_within_the_limit_passes(filler, size):
    opening, stream = Opening(CHAT, SSE, None, limit=1000), filler * 1000
    head = opening.feed(stream[:900])
    decision = [opening.feed(stream[at : at + size]) for at in range(900, len(stream), size)][-1]
    assert (head in (False, True), decision) == (True, True)


@pytest.mark.parametrize("cut", [1, 999, 1000, 1001, 2000])
def test_an_error_beyond_the_limit_is_not_seen(cut):
    stream = b":" + b"x" * 997 + b"\n\n" + event({"error": ERROR})
    assert fed(CHAT, SSE, [stream[:cut], stream[cut:]], limit=1000) is True


@pytest.mark.parametrize("encoding", ["snappy", "gzip, gzip, gzip, gzip, gzip"])
def test_an_unknown_encoding_passes(encoding):
    assert fed(CHAT, SSE, [event({"error": ERROR})], encoding) is True


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_what_is_not_encoded_as_it_says_passes(encoding):
    assert decided(CHAT, SSE, [b"data: " + b"not compressed at all" * 9], encoding) is True


def test_an_encoding_cut_off_passes():
    assert decided(CHAT, SSE, [gzip.compress(b": x\n\n")[:-9]], "gzip") is True


def test_a_bomb_is_read_to_the_limit():
    assert fed(CHAT, SSE, [gzip.compress(b": " + b"x" * 50_000_000)], "gzip") is True


BODIES = [
    (CHAT, {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}, True),
    (CHAT, {"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]}, True),
    (CHAT, {"choices": [{"message": {"role": "assistant", "content": None}, "finish_reason": None}]}, False),
    (CHAT, {"id": "c1", "object": "chat.completion", "model": "m", "choices": [], "usage": {"total_tokens": 1}}, False),
    (CHAT, {"id": "c1", "model": "m"}, False),
    (CHAT, {"object": "list", "data": []}, True),
    (CHAT, {}, False),
    (COMPLETIONS, {"choices": [{"text": "x"}]}, True),
    (RESPONSES, {"status": "completed", "output": [{"type": "message"}]}, True),
    (RESPONSES, {"status": "completed", "output": []}, False),
    (RESPONSES, {"status": "incomplete", "output": [], "incomplete_details": {"reason": "content_filter"}}, True),
    (RESPONSES, {"status": "queued", "output": [], "error": None}, True),
    (MESSAGES, {"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn"}, True),
    (MESSAGES, {"type": "message", "content": [{"type": "tool_use", "input": {}}]}, True),
    (MESSAGES, {"type": "message", "content": [], "stop_reason": "end_turn"}, False),
    (MESSAGES, {"type": "message", "content": [{"type": "text", "text": ""}], "stop_reason": "end_turn"}, False),
    (MESSAGES, {"type": "message", "content": [], "stop_reason": "refusal"}, True),
    (GEMINI, {"candidates": [{"content": {"parts": [{"text": "x"}]}}]}, True),
    (GEMINI, {"candidates": [{"finishReason": "SAFETY"}]}, True),
    (GEMINI, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, True),
    (GEMINI, {"usageMetadata": {"promptTokenCount": 1}, "modelVersion": "g"}, False),
    (GEMINI, [{"candidates": [{"content": {"parts": [{"text": "x"}]}}]}], True),
    (GEMINI, [], False),
    (GEMINI, [1], True),
    (OLLAMA, {"message": {"content": "x"}, "done": True}, True),
    (OLLAMA_GENERATE, {"response": "", "done": False}, False),
    (Format.OPENAI_EMBEDDINGS, {"data": []}, True),
    (Format.OPENAI_OTHER, {"object": "batch", "error": ERROR}, True),
    (Format.OPENAI_MODELS, {"error": ERROR}, True),
]


@pytest.mark.parametrize("format, body, expected", BODIES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_whole_body(format, body, expected, encoding):
    assert read_whole(format, PLAIN, encoding, ENCODINGS[encoding](json.dumps(body).encode())) is expected


@pytest.mark.parametrize("format", [Format.OPENAI_EMBEDDINGS, Format.ANTHROPIC_COUNT_TOKENS, Format.GEMINI_EMBED])
def test_an_error_in_place_of_an_answer_that_never_streams(format):
    assert isinstance(read_whole(format, PLAIN, None, json.dumps({"error": ERROR}).encode()), Failure)


@pytest.mark.parametrize("body", [b"", b"\n\n ", b"\xef\xbb\xbf"])
def test_a_body_of_nothing_is_empty(body):
    assert read_whole(CHAT, PLAIN, None, body) is False


@pytest.mark.parametrize(
    "body", [b"<html>", b'{"choices": [', b"{} {}", b"null", b'"text"', b"[{]", b"\xff" * 9, b"internal error"]
)
def test_a_body_that_cannot_be_read_passes(body):
    assert read_whole(CHAT, PLAIN, None, body) is True


def test_a_whole_body_larger_than_an_opening_is_read():
    body = json.dumps({"padding": "x" * 600_000, "choices": [], "error": ERROR}).encode()
    assert isinstance(read_whole(CHAT, PLAIN, None, body), Failure)


FOLDER = Path(os.environ.get("VALETKEY_RECORDINGS") or Path(__file__).resolve().parents[2].parent / "shared" / "recordings")
PATHS = (
    ("/chat/completions", CHAT), ("/responses", RESPONSES), ("/embeddings", Format.OPENAI_EMBEDDINGS),
    ("/messages/count_tokens", Format.ANTHROPIC_COUNT_TOKENS), ("/messages", MESSAGES), ("enerateContent", GEMINI),
    (":countTokens", Format.GEMINI_COUNT_TOKENS), ("mbedContent", Format.GEMINI_EMBED),
)  # fmt: skip


def recordings(streamed):
    for path in sorted(FOLDER.glob("*.json")):
        exchange = json.loads(path.read_text())
        kind, body = exchange["headers"].get("content-type", ""), (exchange["response"] or "").encode()
        format = next((format for part, format in PATHS if part in exchange["path"]), None)
        if exchange["status"] == 200 and format and body and kind.startswith("text/event-stream") == streamed:
            yield pytest.param(format, kind, body, id=path.stem)


RECORDED, WHOLE = list(recordings(True)), list(recordings(False))
needs_recordings = pytest.mark.skipif(not RECORDED, reason=f"no recordings in {FOLDER} (set VALETKEY_RECORDINGS)")


@needs_recordings
def test_there_are_recordings_of_streams_and_bodies():
    assert (len(RECORDED) > 15, len(WHOLE) > 80) == (True, True)


@needs_recordings
@pytest.mark.parametrize("format, kind, stream", RECORDED)
def test_a_recorded_stream_passes_within_its_opening(format, kind, stream):
    for chunks in ([stream], singly(stream), randomly(stream, 1)):
        assert fed(format, kind, chunks) is True


@needs_recordings
@pytest.mark.parametrize("format, kind, stream", RECORDED)
@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_a_recorded_stream_passes_compressed(format, kind, stream, encoding):
    assert fed(format, kind, singly(ENCODINGS[encoding](stream)), encoding) is True


@needs_recordings
@pytest.mark.parametrize("format, kind, body", WHOLE + RECORDED)
def test_a_recorded_answer_read_whole_passes(format, kind, body):
    assert read_whole(format, kind, None, body) is True


PIECES = [case.values[2] for case in (*NOISE, *CONTENT, *ERRORS)] + [
    b"[",
    b"{",
    b"]",
    b"\r",
    b"\n",
    b"data:",
    b"\xef",
    b"\xbb\xbf",
]
BYTES = st.lists(st.sampled_from(PIECES) | st.binary(max_size=30), max_size=8).map(b"".join)
KINDS = st.sampled_from([SSE, NDJSON, PLAIN, "text/plain", "", None])


@given(st.sampled_from(Format), KINDS, st.sampled_from([None, "gzip", "br", "zstd", "deflate", "x"]), BYTES)
def test_garbage_raises_nothing(format, kind, encoding, data):
    for decision in (decided(format, kind, randomly(data, 1, 9), encoding), read_whole(format, kind, encoding, data)):
        assert isinstance(decision, bool | Failure)


@given(
    st.sampled_from(Format), KINDS, st.sampled_from([*ENCODINGS]), BYTES, st.integers(0, 99), st.sampled_from([90, 256 * 1024])
)
def test_the_decision_does_not_hang_on_the_cuts(format, kind, encoding, data, seed, limit):
    wire = ENCODINGS[encoding](data)
    decisions = {
        decided(format, kind, chunks, encoding, limit=limit) for chunks in ([wire], singly(wire), randomly(wire, seed, 40))
    }
    assert len(decisions) == 1


USUAL = [
    (CHAT, chat(role="assistant", content=""), chat(content="x")),
    (CHAT, chat(role="assistant", content=""), chat(role="assistant", content="x")),
    (MESSAGES, ANTHROPIC_START, ANTHROPIC_TEXT),
    (RESPONSES, RESPONSES_START, RESPONSES_TEXT),
    (GEMINI, event({"usageMetadata": {}}), event({"candidates": [{"content": {"parts": [{"text": "x"}]}}]})),
]


@pytest.mark.parametrize(("format", "noise", "content"), USUAL)
def test_usual_content_is_not_parsed(monkeypatch, format, noise, content):
    opening = Opening(format, SSE, None)
    opening.feed(noise)
    monkeypatch.setattr(json, "loads", lambda _: 1 / 0)
    assert opening.feed(content) is True


@pytest.mark.parametrize(("format", "noise", "content"), USUAL)
@pytest.mark.parametrize("also", [{"error": {"message": "x"}}, {"error": None}])
def test_usual_content_that_may_be_an_error_is(format, noise, content, also):
    data = content.replace(b'data: {"', b'data: {"error": %s, "' % json.dumps(also["error"]).encode())
    assert fed(format, SSE, [noise, data]) == fed(format, SSE, singly(noise + data))


WORDS_OF_TEXT = st.lists(
    st.sampled_from(['"delta":{"content":"x', '"type":"content_block_delta"', '"parts":[{"text":"x', "\n\ndata: ", "\\", '"']),
    max_size=5,
).map("".join)


@given(WORDS_OF_TEXT, st.sampled_from([CHAT, MESSAGES, GEMINI]))
def test_what_looks_like_content_inside_a_text_is_none(text, format):
    noise = [event({"choices": [], "usageMetadata": {"x": text}, "type": "ping"}), event({"type": "ping", "usage": {"x": text}})]
    assert fed(format, SSE, [*noise, *noise]) == fed(format, SSE, singly(b"".join(noise)))


@given(KINDS, BYTES, st.integers(0, 99))
def test_the_decision_before_the_end_does_not_hang_on_the_cuts(kind, data, seed):
    assert fed(CHAT, kind, [data]) == fed(CHAT, kind, singly(data)) == fed(CHAT, kind, randomly(data, seed, 40))
