"""The tap: usage read on the side, whatever the chunks, never raising, in bounded memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import frames
from support.chunks import chunkings, randomly
from support.frames import KIND, RECORDED, converse, exception
from support.streams import (
    ANTHROPIC,
    ANTHROPIC_START,
    ANTHROPIC_TEXT,
    CHAT,
    CHAT_END,
    CHAT_USAGE,
    DOCUMENTS,
    GEMINI,
    GEMINI_ARRAY,
    NDJSON,
    OLLAMA,
    PLAIN,
    RESPONSES,
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
from valetkey.formats.usage import Unread, UsageTap, estimate_usage, usage_of
from valetkey.model import Format


def tapped(format, kind, chunks, encoding=None, **more):
    tap = UsageTap(format, kind, encoding, **more)
    for chunk in chunks:
        tap.feed(chunk)
    tap.end()
    return tap


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_stream_folds_to_its_document_whatever_the_chunks(name):
    format, kind, stream = next(case.values for case in STREAMS if case.id == name)
    assert all(tapped(format, kind, chunks).document == DOCUMENTS[name] for chunks in chunkings(stream))


@pytest.mark.parametrize("format, kind, stream", STREAMS)
def test_a_stream_that_came_to_its_end_is_complete(format, kind, stream):
    tap = tapped(format, kind, [stream])
    assert (tap.complete, tap.saw_content, tap.problem, tap.error) == (True, True, None, None)


@pytest.mark.parametrize("format, kind, stream", STREAMS)
def test_a_stream_cut_in_the_middle_is_not_complete(format, kind, stream):
    assert tapped(format, kind, [stream[: len(stream) // 2]]).complete is False


@pytest.mark.parametrize("format, kind, stream", STREAMS)
def test_the_text_is_counted_once(format, kind, stream):
    assert tapped(format, kind, [stream]).output_chars in (3, 5, 8, 9)


@pytest.mark.parametrize("format, kind, stream", STREAMS)
def test_bytes_of_another_format_raise_nothing(format, kind, stream):
    for other in Format:
        for encoding in (None, "gzip", "br"):
            tapped(other, kind, randomly(stream, 1), encoding)


@pytest.mark.parametrize("kind", [None, "", "text/plain", PLAIN])
def test_a_stream_is_known_by_its_first_bytes_too(kind):
    assert tapped(Format.OPENAI_CHAT, kind, [CHAT[:1], CHAT[1:]]).document == DOCUMENTS["chat"]


def test_a_stream_may_begin_with_comments_and_blank_lines():
    tap = tapped(Format.OPENAI_CHAT, "text/plain", [b"\n\n: keep-alive\n\n" + CHAT])
    assert tap.document == DOCUMENTS["chat"]


def test_the_event_name_message_is_no_name():
    stream = RESPONSES.replace(b"event: response.completed", b"event: message")
    assert tapped(Format.OPENAI_RESPONSES, SSE, [stream]).document == DOCUMENTS["responses"]


@pytest.mark.parametrize("name", ["chat", "anthropic", "responses", "gemini"])
def test_events_without_names_are_known_by_their_type(name):
    format, kind, stream = next(case.values for case in STREAMS if case.id == name)
    nameless = b"".join(line for line in stream.splitlines(keepends=True) if not line.startswith(b"event:"))
    tap = tapped(format, kind, [nameless])
    assert (tap.document, tap.complete, tap.saw_content) == (DOCUMENTS[name], True, True)


NO_CONTENT = [
    pytest.param(Format.OPENAI_CHAT, SSE, b": OPENROUTER PROCESSING\n\n", id="comment"),
    pytest.param(Format.OPENAI_CHAT, SSE, chat(role="assistant", content=""), id="chat: role only"),
    pytest.param(Format.OPENAI_CHAT, SSE, chat(role="assistant", content=None, refusal=None, tool_calls=None), id="chat: nulls"),
    pytest.param(Format.OPENAI_CHAT, SSE, event({"choices": [], "prompt_filter_results": [{}]}), id="azure: filter results"),
    pytest.param(
        Format.OPENAI_CHAT, SSE, event({"error": {"message": "x"}, "choices": [{"finish_reason": "error"}]}), id="error"
    ),
    pytest.param(Format.ANTHROPIC_MESSAGES, SSE, ANTHROPIC_START + anthropic("ping"), id="anthropic: start and ping"),
    pytest.param(
        Format.ANTHROPIC_MESSAGES, SSE, event({"type": "error", "error": {"message": "x"}}, "error"), id="anthropic: error"
    ),
    pytest.param(Format.OPENAI_RESPONSES, SSE, RESPONSES_START + responses("response.in_progress"), id="responses: start"),
    pytest.param(
        Format.OPENAI_RESPONSES, SSE, responses("response.failed", response={"error": {"code": "x"}}), id="responses: failed"
    ),
    pytest.param(Format.GEMINI_GENERATE, SSE, event({"usageMetadata": {"promptTokenCount": 1}}), id="gemini: counts only"),
    pytest.param(Format.GEMINI_GENERATE, SSE, event(gemini("")), id="gemini: empty text"),
    pytest.param(Format.GEMINI_GENERATE, PLAIN, b"[", id="gemini: begin of the array"),
    pytest.param(Format.OLLAMA_CHAT, NDJSON, b'{"message":{"content":""},"done":false}\n', id="ollama: empty"),
    pytest.param(Format.OPENAI_CHAT, PLAIN, b"\n\n  ", id="blank lines before a body"),
]
CONTENT = [
    pytest.param(Format.OPENAI_CHAT, SSE, chat(content="x"), id="chat: text"),
    pytest.param(Format.OPENAI_CHAT, SSE, chat(content="", reasoning="x"), id="chat: reasoning"),
    pytest.param(
        Format.OPENAI_CHAT, SSE, chat(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": ""}}]), id="chat: tool"
    ),
    pytest.param(Format.OPENAI_CHAT, SSE, event({"choices": [{"delta": {}, "finish_reason": "stop"}]}), id="chat: end"),
    pytest.param(Format.OPENAI_COMPLETIONS, SSE, event({"choices": [{"text": "x"}]}), id="completions: text"),
    pytest.param(Format.ANTHROPIC_MESSAGES, SSE, ANTHROPIC_TEXT, id="anthropic: text"),
    pytest.param(Format.ANTHROPIC_MESSAGES, SSE, anthropic("message_stop"), id="anthropic: end"),
    pytest.param(Format.OPENAI_RESPONSES, SSE, RESPONSES_TEXT, id="responses: text"),
    pytest.param(Format.OPENAI_RESPONSES, SSE, responses("response.completed", response={}), id="responses: end"),
    pytest.param(Format.GEMINI_GENERATE, SSE, event(gemini("x")), id="gemini: text"),
    pytest.param(
        Format.GEMINI_GENERATE, SSE, event({"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]}), id="gemini: tool"
    ),
    pytest.param(Format.GEMINI_GENERATE, SSE, event({"candidates": [{"finishReason": "SAFETY"}]}), id="gemini: end"),
    pytest.param(Format.GEMINI_GENERATE, SSE, event({"promptFeedback": {"blockReason": "SAFETY"}}), id="gemini: blocked"),
    pytest.param(Format.OLLAMA_GENERATE, NDJSON, b'{"response":"x","done":false}\n', id="ollama: text"),
    pytest.param(Format.OPENAI_CHAT, PLAIN, b"\n {", id="the begin of a whole body"),
]


@pytest.mark.parametrize("format, kind, stream", NO_CONTENT)
def test_what_commits_to_no_answer_is_no_content(format, kind, stream):
    tap = UsageTap(format, kind)
    tap.feed(stream)
    assert tap.saw_content is False


@pytest.mark.parametrize("format, kind, stream", CONTENT)
def test_content_is_seen_at_once(format, kind, stream):
    tap = UsageTap(format, kind)
    tap.feed(stream)
    assert tap.saw_content is True


ERROR = {"code": "x", "message": "overloaded"}
ERRORS = [
    pytest.param(Format.OPENAI_CHAT, SSE, event({"error": ERROR}), id="chat"),
    pytest.param(Format.OPENAI_CHAT, SSE, event({"choices": [{"finish_reason": "error"}], "error": ERROR}), id="openrouter"),
    pytest.param(Format.OPENAI_CHAT, SSE, event({"x_groq": {"error": ERROR}}), id="groq"),
    pytest.param(Format.OPENAI_RESPONSES, SSE, event({"type": "error", **ERROR}, "error"), id="responses, flat"),
    pytest.param(Format.OPENAI_RESPONSES, SSE, event({"type": "error", "error": ERROR}, "error"), id="responses, nested"),
    pytest.param(Format.OPENAI_RESPONSES, SSE, responses("response.failed", response={"error": ERROR}), id="responses, failed"),
    pytest.param(Format.ANTHROPIC_MESSAGES, SSE, event({"type": "error", "error": ERROR}, "error"), id="anthropic"),
    pytest.param(Format.ANTHROPIC_MESSAGES, SSE, event({"type": "error", "error": ERROR}), id="anthropic without a name"),
    pytest.param(Format.GEMINI_GENERATE, SSE, event({"error": ERROR}), id="gemini"),
    pytest.param(Format.GEMINI_GENERATE, PLAIN, json.dumps([{"error": ERROR}]).encode(), id="gemini array"),
    pytest.param(Format.OPENAI_CHAT, PLAIN, json.dumps({"error": ERROR}).encode(), id="whole body"),
]


@pytest.mark.parametrize("format, kind, stream", ERRORS)
def test_an_error_inside_a_200_is_found_under_one_name(format, kind, stream):
    error = tapped(format, kind, [stream]).error or {}
    assert error["error"]["message"] == "overloaded"


def test_an_error_of_ollama_is_found():
    assert tapped(Format.OLLAMA_CHAT, NDJSON, [b'{"error":"no memory"}\n']).error == {"error": "no memory"}


def test_an_error_that_is_null_is_none():
    assert tapped(Format.OPENAI_RESPONSES, PLAIN, [b'{"error":null,"usage":{"input_tokens":1}}']).error is None


@pytest.mark.parametrize(
    "format, stream, expected", [(Format.OPENAI_CHAT, CHAT, "c1"), (Format.ANTHROPIC_MESSAGES, ANTHROPIC, "msg_1"),
                                 (Format.OPENAI_RESPONSES, RESPONSES, "resp_1"), (Format.GEMINI_GENERATE, GEMINI, "r1")],
)  # fmt: skip
def test_the_id_of_the_answer_is_known_from_its_first_event(format, stream, expected):
    first = stream[: max(stream.find(b"\n\n") + 2, stream.find(b"\r\n\r\n") + 4)]
    assert tapped(format, SSE, [first]).response_id == expected


def test_an_answer_without_an_id_has_none():
    assert tapped(Format.OLLAMA_CHAT, NDJSON, [OLLAMA]).response_id is None


WHOLE = {"id": "c1", "model": "m", "choices": [{"message": {"role": "assistant", "content": "hello"}}], "usage": CHAT_USAGE}


def test_a_whole_body_is_reduced_to_what_counts():
    assert tapped(Format.OPENAI_CHAT, PLAIN, [json.dumps(WHOLE).encode()]).document == DOCUMENTS["chat"]


@pytest.mark.parametrize("before", [b"\n\n\n", b"  ", b"\r\n \n"])
def test_blank_lines_before_a_body_are_read_over(before):
    body = before + json.dumps(WHOLE).encode() + b"\n"
    assert all(tapped(Format.OPENAI_CHAT, PLAIN, chunks).document == DOCUMENTS["chat"] for chunks in chunkings(body))


def test_a_byte_order_mark_is_read_over():
    assert tapped(Format.OPENAI_CHAT, PLAIN, [b"\xef\xbb\xbf", json.dumps(WHOLE).encode()]).document == DOCUMENTS["chat"]


def test_a_body_with_nan_is_read():
    body = json.dumps({**WHOLE, "logprobs": float("nan")}).encode()
    assert tapped(Format.OPENAI_CHAT, PLAIN, [body]).document == DOCUMENTS["chat"]


def test_a_whole_body_counts_its_text():
    assert tapped(Format.OPENAI_CHAT, PLAIN, [json.dumps(WHOLE).encode()]).output_chars == 5


def test_a_whole_body_with_the_usage_of_groq():
    body = json.dumps({"model": "m", "x_groq": {"usage": CHAT_USAGE}}).encode()
    assert (tapped(Format.OPENAI_CHAT, PLAIN, [body]).document or {})["usage"] == CHAT_USAGE


def test_a_stream_with_the_usage_of_groq_beside_a_null():
    last = event({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": None, "x_groq": {"usage": CHAT_USAGE}})
    assert (tapped(Format.OPENAI_CHAT, SSE, [chat(content="x") + last]).document or {})["usage"] == CHAT_USAGE


def test_a_whole_body_with_the_usage_of_groq_beside_a_null():
    body = json.dumps({"model": "m", "usage": None, "x_groq": {"usage": CHAT_USAGE}}).encode()
    assert (tapped(Format.OPENAI_CHAT, PLAIN, [body]).document or {})["usage"] == CHAT_USAGE


def test_searches_are_read_from_a_body_with_nan():
    candidate = {"avgLogprobs": float("nan"), "groundingMetadata": {"webSearchQueries": ["x"]}}
    body = json.dumps({"candidates": [candidate], "usageMetadata": {"promptTokenCount": 1}}).encode()
    document = tapped(Format.GEMINI_GENERATE, PLAIN, [body]).document or {}
    assert document["candidates"] == [{"groundingMetadata": {"webSearchQueries": ["x"]}}]


def test_a_whole_body_of_ollama():
    body = OLLAMA.splitlines()[1]
    assert tapped(Format.OLLAMA_CHAT, PLAIN, [body]).document == DOCUMENTS["ollama"]


def test_a_body_cut_off_is_a_problem():
    tap = tapped(Format.OPENAI_CHAT, PLAIN, [json.dumps(WHOLE).encode()[:-9]])
    assert (tap.document, tap.complete, bool(tap.problem)) == (None, False, True)


def test_a_body_cut_off_can_still_be_estimated():
    tap = tapped(Format.OPENAI_CHAT, PLAIN, [json.dumps(WHOLE).encode()[:-9]])
    assert (tap.events, tap.output_chars) == (1, 5)


def test_an_empty_answer_is_no_problem():
    tap = tapped(Format.OPENAI_CHAT, PLAIN, [])
    assert (tap.document, tap.problem, tap.events) == (None, None, 0)


@pytest.mark.parametrize("body", [b"<html></html>", b"\x89PNG\r\n", b"null", b'"text"'])
def test_a_body_that_is_no_object_is_a_problem(body):
    assert tapped(Format.OPENAI_CHAT, "application/octet-stream", [body]).problem


def test_a_body_that_is_no_object_is_not_kept():
    tap = UsageTap(Format.OPENAI_OTHER, "audio/mpeg")
    tracemalloc.start()
    for _ in range(100):
        tap.feed(b"ID3" + bytes(100_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_body_beyond_the_limit_is_given_up():
    tap = tapped(Format.OPENAI_CHAT, PLAIN, randomly(json.dumps(WHOLE | {"x": "y" * 5000}).encode(), 1), limit=1000)
    assert (tap.document, "1000 bytes" in (tap.problem or "")) == (None, True)


def test_an_event_beyond_the_limit_is_a_problem(monkeypatch):
    monkeypatch.setattr("valetkey.formats.usage.EVENT_LIMIT", 500)
    assert "500 bytes" in (tapped(Format.OPENAI_CHAT, SSE, [chat(content="x" * 1000) + CHAT_END]).problem or "")


def test_what_follows_an_event_beyond_the_limit_is_read(monkeypatch):
    monkeypatch.setattr("valetkey.formats.usage.EVENT_LIMIT", 500)
    tap = tapped(Format.OPENAI_CHAT, SSE, randomly(chat(content="x" * 1000) + CHAT_END, 1))
    assert (tap.document or {})["usage"] == CHAT_USAGE


@pytest.mark.parametrize("format, kind, stream", STREAMS)
def test_memory_does_not_grow_with_a_stream(format, kind, stream):
    tap, middle = UsageTap(format, kind), stream[: len(stream) // 2]
    tap.feed(middle)
    tracemalloc.start()
    filler = {SSE: b": x\n\ndata: {}\n\n", NDJSON: b"{}\n", PLAIN: b"", KIND: converse("contentBlockStop")}[kind] * 1000
    for _ in range(50):
        tap.feed(filler)
    left = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert left < 200_000  # of 800,000 that went through


def test_chunks_that_cannot_hold_usage_are_not_parsed(monkeypatch):
    parsed = []
    monkeypatch.setattr("valetkey.formats.usage._decoded", lambda data: parsed.append(data))
    tap = UsageTap(Format.ANTHROPIC_MESSAGES, SSE)
    tap.feed(ANTHROPIC_TEXT * 1000)
    assert parsed == []


def test_chat_chunks_with_null_usage_are_parsed_once(monkeypatch):
    parsed = []
    decoded = json.loads
    monkeypatch.setattr("valetkey.formats.usage._decoded", lambda data: parsed.append(data) or decoded(data))
    tap = UsageTap(Format.OPENAI_CHAT, SSE)
    tap.feed(chat(content="x") * 1000)
    assert len(parsed) == 1


CONVERSE, INVOKE = Format.BEDROCK_CONVERSE, Format.BEDROCK_INVOKE


def test_an_exception_in_the_middle_is_an_error():
    tap = tapped(
        CONVERSE, KIND, [converse("contentBlockDelta", delta={"text": "a"}), exception("modelStreamErrorException", "x")]
    )
    assert tap.error == {"error": {"message": "x", "type": "modelStreamErrorException"}}


def test_frames_that_cannot_be_read_are_a_problem():
    tap = tapped(CONVERSE, KIND, [RECORDED[:-4], b"oops"])
    assert (tap.problem, tap.complete) == ("the frames of the answer cannot be read", True)


@pytest.mark.parametrize(("sent", "takes"), [(RECORDED, True), (RECORDED[:-1], False)])
def test_a_frame_may_follow_a_frame(sent, takes):
    tap = UsageTap(CONVERSE, KIND)
    tap.feed(sent)
    assert tap.takes_frame is takes


def test_other_answers_take_no_frame():
    assert UsageTap(Format.OPENAI_CHAT, SSE).takes_frame is False


def test_what_a_model_asks_of_a_tool_counts_as_said():
    asked = converse("contentBlockDelta", delta={"toolUse": {"input": '{"city":"Rome"}'}})
    assert tapped(CONVERSE, KIND, [asked]).output_chars == len(r"{\"city\":\"Rome\"}")


WHOLE_INVOKE = {
    "Claude": {"id": "msg_1", "model": "claude", "content": [], "usage": {"input_tokens": 3, "output_tokens": 4}},
    "Llama": {"generation": "a", "prompt_token_count": 3, "generation_token_count": 4},
    "Titan": {"inputTextTokenCount": 3, "results": [{"tokenCount": 4, "outputText": "a"}]},
}


@pytest.mark.parametrize("answer", WHOLE_INVOKE.values(), ids=WHOLE_INVOKE)
def test_a_whole_answer_of_a_model_has_the_names_of_converse(answer):
    document = tapped(INVOKE, PLAIN, [json.dumps(answer).encode()]).document
    assert document["usage"] == {"inputTokens": 3, "outputTokens": 4}


def test_the_model_of_an_answer_does_not_replace_the_one_that_was_asked():
    assert "model" not in tapped(INVOKE, PLAIN, [json.dumps(WHOLE_INVOKE["Claude"]).encode()]).document


def test_a_model_without_usage_of_its_own_has_the_counts_of_bedrock():
    metrics = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 3, "outputTokenCount": 4}}
    tap = tapped(INVOKE, KIND, [frames.chunk(generation="abc"), frames.chunk(generation="", **metrics)])
    assert (tap.document["usage"], tap.output_chars) == ({"inputTokens": 3, "outputTokens": 4}, 3)


def test_an_unknown_encoding_is_a_problem():
    assert "snappy" in (tapped(Format.OPENAI_CHAT, PLAIN, [json.dumps(WHOLE).encode()], "snappy").problem or "")


def test_corrupt_data_is_a_problem():
    assert tapped(Format.OPENAI_CHAT, PLAIN, [b"not gzip at all"], "gzip").problem


def test_a_compressed_stream_that_stops_keeps_what_was_read():
    compressor = zlib.compressobj(wbits=31)
    flushed = compressor.compress(ANTHROPIC_START + ANTHROPIC_TEXT) + compressor.flush(zlib.Z_SYNC_FLUSH)
    tap = tapped(Format.ANTHROPIC_MESSAGES, SSE, [flushed], "gzip")
    assert (tap.document, "middle" in (tap.problem or "")) == (
        {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 9, "output_tokens": 1}}, True,
    )  # fmt: skip


def test_a_bomb_takes_no_memory():
    bomb = gzip.compress(CHAT + b": " + b"x" * 100_000_000)
    tracemalloc.start()
    tapped(Format.OPENAI_CHAT, SSE, randomly(bomb, 1, 20_000), "gzip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80_000_000  # one event at most, which is bounded by 32 MiB and copied once


def test_the_end_may_come_twice():
    tap = tapped(Format.OPENAI_CHAT, PLAIN, [json.dumps(WHOLE).encode()])
    tap.end()
    assert tap.document == DOCUMENTS["chat"]


@pytest.mark.parametrize(
    "bytes_, chars, expected", [(0, 0, (0, 0)), (4000, 400, (1000, 100)), (4003, 403, (1000, 100))],
)  # fmt: skip
def test_an_estimate_is_four_bytes_to_a_token(bytes_, chars, expected):
    assert estimate_usage(bytes_, chars) == {"input_tokens": expected[0], "output_tokens": expected[1]}


PIECES = [CHAT, ANTHROPIC[:300], GEMINI_ARRAY[:99], OLLAMA, b"[", b"{", b"data: ", b"\n\n", b'{"usage":']


@given(
    st.sampled_from(Format),
    st.sampled_from([SSE, NDJSON, PLAIN, None]),
    st.sampled_from([None, "gzip", "br", "zstd", "x"]),
    st.lists(st.binary() | st.sampled_from(PIECES)),
)
def test_garbage_raises_nothing(format, kind, encoding, chunks):
    tap = tapped(format, kind, chunks, encoding)
    assert isinstance(tap.document, dict | None) and isinstance(tap.response_id, str | None)


# Events that are known by the one before are read as they would be alone.

TEXTS = st.sampled_from(["", "a", "two words", "usage", "error", "model", 'a "quote"', "\\", "é", "text", "[DONE]", "x_groq"])
CHUNKS = {
    Format.OPENAI_CHAT: lambda text, extra: {"id": "c", "model": "m", "choices": [{"delta": {"content": text}}]} | extra,
    Format.ANTHROPIC_MESSAGES: lambda text, extra: {"type": "content_block_delta", "delta": {"text": text}} | extra,
    Format.OPENAI_RESPONSES: lambda text, extra: {"type": "response.output_text.delta", "delta": text} | extra,
    Format.GEMINI_GENERATE: lambda text, extra: {"candidates": [{"content": {"parts": [{"text": text}]}}]} | extra,
    Format.OLLAMA_CHAT: lambda text, extra: {"model": "m", "message": {"content": text}, "done": False} | extra,
}
COUNTS = st.integers(0, 12)
EXTRAS = st.one_of(
    st.sampled_from(
        [{}] * 5 + [{"usage": None}, {"usage": {}}, {"error": {"message": "x"}}, {"model": "n"}, {"x_groq": {"a": 1}}]
    ),
    COUNTS.map(lambda count: {"usage": {"prompt_tokens": 1, "completion_tokens": count}}),
    COUNTS.map(lambda count: {"usageMetadata": {"promptTokenCount": 1, "totalTokenCount": count}, "modelVersion": "v"}),
    COUNTS.map(lambda count: {"usageMetadata": {"trafficType": "x"}, "args": {"usageMetadata": {"totalTokenCount": count}}}),
    COUNTS.map(lambda count: {"obfuscation": "x" * count}),
    COUNTS.map(lambda count: {"sequence_number": count}),
)
ROWS = st.tuples(TEXTS, EXTRAS, st.integers(1, 6)).map(lambda row: [row[:2]] * row[2])


class Forgetful(UsageTap):
    def _learn(self, name, data, has_totals):
        """Nothing."""


@given(
    format=st.sampled_from(sorted(CHUNKS)), said=st.lists(ROWS, max_size=6).map(lambda rows: [*chain(*rows)]), named=st.booleans()
)
def test_events_are_read_alike_whatever_came_before(format, said, named):
    quick, slow = UsageTap(format, "text/event-stream"), Forgetful(format, "text/event-stream")
    for text, extra in [("hello", {"model": "m"}), *[("word", said[0][1] if said else {})] * 5, *said]:
        event = CHUNKS[format](text, extra)
        head = f"event: {event['type']}\n" if named and "type" in event else ""
        for tap in (quick, slow):
            tap.feed(f"{head}data: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n".encode())
        assert seen(quick) == seen(slow)
    assert (quick.document, quick.response_id) == (slow.document, slow.response_id)


@given(
    format=st.sampled_from(sorted(CHUNKS)),
    said=st.lists(ROWS, max_size=6).map(lambda rows: [*chain(*rows)]),
    seed=st.integers(0, 9),
)
def test_events_are_read_alike_however_they_are_cut(format, said, seed):
    stream = b"".join(
        b"data: " + json.dumps(CHUNKS[format](text, extra), separators=(",", ":")).encode() + b"\r\n\r\n"
        for text, extra in [("hello", {"model": "m"}), *[("word", {})] * 5, *said]
    )
    whole, cut = (tapped(format, SSE, chunks) for chunks in ([stream], randomly(stream, seed, 200)))
    assert (seen(whole), whole.document) == (seen(cut), cut.document)


def seen(tap):
    return tap.events, tap.output_chars, tap.saw_content, tap.error, tap.complete, tap.problem


@pytest.mark.parametrize("line", [b"\n\ndata: {}", b"\rdata: {}", b"\nevent: error"])
def test_a_line_that_ends_in_a_text_is_no_text(line):
    tap, chunk = UsageTap(Format.OPENAI_CHAT, SSE), b'data: {"model":"m","choices":[{"delta":{"content":"%b"}}]}\n\n'
    for text in [b"x"] * 9 + [line]:
        tap.feed(chunk % text)
    other = Forgetful(Format.OPENAI_CHAT, SSE)
    for text in [b"x"] * 9 + [line]:
        other.feed(chunk % text)
    assert seen(tap) == seen(other)


TOTALS = [
    pytest.param(Format.GEMINI_GENERATE, "usageMetadata", lambda n: {"promptTokenCount": 5, "totalTokenCount": n}, id="gemini"),
    pytest.param(Format.OPENAI_CHAT, "usage", lambda n: {"prompt_tokens": 5, "completion_tokens": n}, id="chat"),
]


def with_totals(format, name, totals, count, last=None):
    """A stream whose every event has the totals so far."""
    return [
        event({"model": "m", "modelVersion": "m", **CHUNKS[format]("word", {}), name: totals(number)}) for number in range(count)
    ] + [event(last)] * (last is not None)


@pytest.mark.parametrize("format, name, totals", TOTALS)
def test_of_totals_the_last_counts(format, name, totals):
    tap = tapped(format, SSE, with_totals(format, name, totals, 20))
    assert (tap.document or {})[name] == totals(19)


@pytest.mark.parametrize("format, name, totals", TOTALS)
def test_totals_are_read_before_what_comes_after_them(format, name, totals):
    tap = tapped(format, SSE, with_totals(format, name, totals, 20, {"error": {"message": "x"}}))
    assert ((tap.document or {})[name], tap.error is not None) == (totals(19), True)


@pytest.mark.parametrize("format, name, totals", TOTALS)
def test_only_the_first_and_the_last_totals_are_parsed(monkeypatch, format, name, totals):
    parsed = []
    decoded = json.loads
    monkeypatch.setattr("valetkey.formats.usage._decoded", lambda data: parsed.append(data) or decoded(data))
    assert tapped(format, SSE, with_totals(format, name, totals, 200)).document and len(parsed) == 2


def test_events_that_differ_only_in_their_text_are_not_searched_again(monkeypatch):
    tap = UsageTap(Format.OPENAI_CHAT, "text/event-stream")
    chunks = [b'data: {"model":"m","choices":[{"delta":{"content":"%d"}}]}\n\n' % number for number in range(20)]
    for chunk in chunks[:5]:
        tap.feed(chunk)
    monkeypatch.setattr(tap, "_read_event", None)
    for chunk in chunks[5:]:
        tap.feed(chunk)
    assert (tap.events, tap.output_chars) == (20, 30)


def test_a_stream_whose_events_all_differ_is_not_learned_for_ever():
    tap = UsageTap(Format.OPENAI_CHAT, "text/event-stream")
    for number in range(100):
        tap.feed(b'data: {"model":"m","choices":[{"delta":{"content":"x"}}],"elapsed":"%d"}\n\n' % number)
    assert tap._lessons <= 0


DOCUMENT = st.dictionaries(
    st.sampled_from(["model", "usage", "id", "error", "x_groq", "choices", "candidates", "output", "responseId", "\u00e9"]),
    st.recursive(
        st.none() | st.text(max_size=8) | st.integers() | st.just({"usage": {"total_tokens": 3}}),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["type", "content", "groundingMetadata", "error"]), inner)
        ),
        max_leaves=5,
    ),
)
BODIES = st.one_of(
    DOCUMENT.map(lambda each: json.dumps(each).encode()),
    DOCUMENT.map(lambda each: json.dumps(each).replace("error", "\\u0065rror").encode()),
    DOCUMENT.map(lambda each: json.dumps(each).encode("utf-16-le")),
    DOCUMENT.map(lambda each: json.dumps(each).encode()[:-1]),
    st.sampled_from([b"{}", b'{"usage":NaN}', b"{", b" {}", b"[{}]", b"data: {}\n\n", b"\xef\xbb\xbf{}", b'{"error":"no"}']),
)
KINDS = st.sampled_from(["application/json", "Application/JSON ; charset=utf-8", "text/event-stream", "text/html", ""])


def told(usage):
    found = usage.read() if isinstance(usage, Unread) else usage
    return (found.problem, found.document, found.error, found.complete, found.events, found.output_chars, found.response_id)


@given(BODIES, KINDS, st.sampled_from(["", "identity", "gzip"]), st.sampled_from(list(Format)), st.sampled_from([10, 10**6]))
def test_a_whole_body_tells_what_a_tap_that_is_fed_with_it_does(body, kind, encoding, format, limit):
    assert told(usage_of(format, kind, encoding, limit, body)) == told(tapped(format, kind, [body], encoding, limit=limit))


@given(BODIES, st.sampled_from(list(Format)))
def test_what_is_left_unread_has_no_error(body, format):
    usage = usage_of(format, "application/json", "", 10**6, body)
    assert not isinstance(usage, Unread) or (usage.error, usage.read().error) == (None, None)


def test_a_small_document_is_left_unread():
    assert isinstance(usage_of(Format.OPENAI_CHAT, "application/json", "", 10**6, b'{"usage":{}}'), Unread)
