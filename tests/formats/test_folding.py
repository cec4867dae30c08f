"""Streams folded into the body that would have been answered whole, event by event."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.formats.folding import Likeness, fold_for, text_length
from valetkey.model import Format

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([
            "usage", "error", "type", "message", "response", "candidates", "usageMetadata", "done", "eval_count", "x_groq",
            "groundingMetadata", "promptFeedback", "output", "choices", "model", "totalTokenCount",
        ]),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


def fold(format, *events):
    state = fold_for(format)
    for name, event in events:
        state.read(name, event)
    return state


def usage(format, *events):
    return fold(format, *events).document.get("usage")


@pytest.mark.parametrize(
    "text, length",
    [
        (b'{"delta":{"content":"hello"}}', 5),
        (b'{"content" : "hello"}', 5),
        (b'{"content":""}', 0),
        (b'{"content":null}', 0),
        (b'{"content":"a \\"quoted\\" word"}', 17),
        (b'{"reasoning_content":"abc","content":"de"}', 5),
        (b'{"type":"text_delta","text":"abc"}', 3),
        (b'{"id":"chatcmpl-123456789","obfuscation":"xxxxxxxx"}', 0),
        (b'{"name":"the \\"text\\":\\"x\\" in a string"}', 0),
        (b'{"text":"never ends', 0),
    ],
)
def test_text_is_measured_between_its_quotes(text, length):
    assert text_length(text) == length


def test_chat_keeps_the_last_usage():
    chunks = [(None, {"model": "m", "usage": {"prompt_tokens": 1}}), (None, {"usage": {"prompt_tokens": 2}})]
    assert usage(Format.OPENAI_CHAT, *chunks) == {"prompt_tokens": 2}


def test_chat_reads_the_usage_of_groq():
    assert usage(Format.OPENAI_CHAT, (None, {"x_groq": {"usage": {"prompt_tokens": 3}}})) == {"prompt_tokens": 3}


def test_the_standard_usage_wins_over_that_of_groq():
    chunk = {"usage": {"prompt_tokens": 1}, "x_groq": {"usage": {"prompt_tokens": 3}}}
    assert usage(Format.OPENAI_CHAT, (None, chunk)) == {"prompt_tokens": 1}


def test_the_usage_of_groq_is_read_beside_a_null():
    data = b'{"model":"m","usage":null,"x_groq":{"usage":{"prompt_tokens":3}}}'
    state = fold(Format.OPENAI_CHAT, (None, {"model": "m"}))
    assert state.wants(None, data)


def test_a_chat_chunk_without_usage_is_not_decoded_once_the_model_is_known():
    state = fold(Format.OPENAI_CHAT, (None, {"model": "m"}))
    assert not state.wants(None, b'{"model":"m","choices":[{"delta":{"content":"x"}}]}')


def test_null_is_no_usage():
    assert usage(Format.OPENAI_CHAT, (None, {"usage": {"prompt_tokens": 1}}), (None, {"usage": None})) == {"prompt_tokens": 1}


def test_usage_beside_an_error_is_kept():
    assert usage(Format.OPENAI_CHAT, (None, {"error": {"code": 502}, "usage": {"prompt_tokens": 1}})) == {"prompt_tokens": 1}


def test_responses_read_the_usage_of_the_last_event():
    last = {"type": "response.completed", "response": {"model": "m", "usage": {"input_tokens": 5}}}
    assert usage(Format.OPENAI_RESPONSES, ("response.completed", last)) == {"input_tokens": 5}


def test_a_failed_response_keeps_its_usage():
    last = {"type": "response.failed", "response": {"usage": {"input_tokens": 5}, "error": {"code": "server_error"}}}
    assert usage(Format.OPENAI_RESPONSES, ("response.failed", last)) == {"input_tokens": 5}


def test_responses_keep_the_kinds_of_output_but_no_text():
    output = [{"type": "web_search_call", "id": "x"}, {"type": "message", "content": [{"text": "long"}]}]
    last = {"type": "response.completed", "response": {"output": output}}
    document = fold(Format.OPENAI_RESPONSES, (None, last)).document
    assert document["output"] == [{"type": "web_search_call"}, {"type": "message"}]


START = {
    "type": "message_start",
    "message": {"model": "m", "usage": {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 1}},
}


def delta(**counts):
    return "message_delta", {"type": "message_delta", "usage": counts}


def test_anthropic_deltas_are_totals_and_not_added():
    merged = usage(Format.ANTHROPIC_MESSAGES, ("message_start", START), delta(output_tokens=5), delta(output_tokens=9))
    assert merged == {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 9}


def test_anthropic_deltas_override_the_start():
    merged = usage(
        Format.ANTHROPIC_MESSAGES, ("message_start", START), delta(input_tokens=90, server_tool_use={"web_search_requests": 2})
    )
    assert merged == {
        "input_tokens": 90, "cache_read_input_tokens": 4, "output_tokens": 1, "server_tool_use": {"web_search_requests": 2},
    }  # fmt: skip


def test_an_anthropic_event_with_a_name_is_known_by_it():
    data = b'{"type":"content_block_delta","delta":{"partial_json":"{"},"usage":1}'
    assert not fold_for(Format.ANTHROPIC_MESSAGES).wants("content_block_delta", data)


def test_anthropic_nulls_override_nothing():
    merged = usage(Format.ANTHROPIC_MESSAGES, ("message_start", START), delta(input_tokens=None, output_tokens=7))
    assert merged == {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 7}


def test_gemini_keeps_the_last_metadata_that_counts():
    counting = {"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2}, "modelVersion": "m"}
    state = fold(
        Format.GEMINI_GENERATE, (None, counting), (None, {"usageMetadata": {}}), (None, {"usageMetadata": {"trafficType": "X"}})
    )
    assert state.document == {"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2}, "modelVersion": "m"}


def test_gemini_reads_metadata_without_candidates():
    assert fold(Format.GEMINI_GENERATE, (None, {"usageMetadata": {"promptTokenCount": 5}})).document["usageMetadata"] == {
        "promptTokenCount": 5
    }


def grounding(state):
    return state.document["candidates"][0]["groundingMetadata"]


@pytest.mark.parametrize("last", [{}, None, "x"], ids=["empty", "null", "no object"])
def test_gemini_keeps_the_last_grounding_that_says_something(last):
    searched, after = ({"candidates": [{"groundingMetadata": each}]} for each in ({"webSearchQueries": ["a"]}, last))
    assert grounding(fold(Format.GEMINI_GENERATE, (None, searched), (None, after))) == {"webSearchQueries": ["a"]}


@pytest.mark.parametrize("candidates", [[], [None], ["x"], {}, None], ids=str)
def test_gemini_candidates_of_an_odd_shape_end_nothing(candidates):
    assert fold(Format.GEMINI_GENERATE, (None, {"candidates": candidates})).complete is False


def test_gemini_without_counts_ends_all_the_same():
    data = b'{"candidates":[{"finishReason":"STOP"}]}'
    assert fold_for(Format.GEMINI_GENERATE).wants(None, data)


def test_text_outside_of_choices_is_no_answer():
    assert fold_for(Format.OPENAI_CHAT).length(None, b'{"error":{"message":"x","text":"long"}}') == 0


def test_ollama_counts_become_those_of_openai():
    last = {"model": "m", "done": True, "prompt_eval_count": 7, "eval_count": 3}
    assert usage(Format.OLLAMA_CHAT, (None, last)) == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@pytest.mark.parametrize("name, total", [("prompt_eval_count", (7, 0)), ("eval_count", (0, 7))])
def test_a_count_that_ollama_leaves_out_is_zero(name, total):
    found = usage(Format.OLLAMA_CHAT, (None, {"done": True, name: 7})) or {}
    assert (found["prompt_tokens"], found["completion_tokens"]) == total


def test_ollama_without_counts_has_no_usage():
    assert usage(Format.OLLAMA_CHAT, (None, {"model": "m", "done": True})) is None


def test_formats_that_never_stream_have_a_fold():
    assert all(fold_for(format).document == {} for format in Format)


@given(
    st.sampled_from(Format), st.lists(st.tuples(st.none() | st.sampled_from(["error", "message_start", "response.failed"]), JSON))
)
def test_events_of_any_shape_raise_nothing(format, events):
    state = fold_for(format)
    for name, event in events:
        data = json.dumps(event).encode()
        state.mark(name, data)
        state.wants(name, data)
        state.length(name, data)
        state.is_content(name, data)
        if isinstance(event, dict):
            state.read(name, event)
    json.dumps(state.document)


@given(st.sampled_from(Format), st.none() | st.text(), st.binary())
def test_bytes_of_any_kind_raise_nothing(format, name, data):
    state = fold_for(format)
    state.mark(name, data)
    assert (state.wants(name, data), state.is_content(name, data), state.length(name, data)) is not None


# Events that differ only in their text.

BEFORE, AFTER = b'{"choices":[{"delta":{"content":"', b'"}}],"usage":null}'


def measured(like, name, data):
    """The length of the text of an event that is like another; -1 for any other event."""
    count, total = like.row([(name, data)], 0)
    return total if count else -1


@pytest.mark.parametrize("text", [b"a", b"", b"two words", "π".encode(), b"usage of the error"])
def test_an_event_that_differs_only_in_its_text_is_known(text):
    assert measured(Likeness.of(None, BEFORE + b"x" + AFTER), None, BEFORE + text + AFTER) == len(text)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("error", BEFORE + b"a" + AFTER),
        (None, BEFORE + b'a","error":"b' + AFTER),
        (None, BEFORE + b"a\\" + AFTER),
        (None, BEFORE + b"error" + AFTER),
        (None, BEFORE + b"a" + AFTER + b" "),
        (None, BEFORE[:-1] + AFTER),
    ],
    ids=["another name", "another member", "an escape", "a word that is looked for", "another end", "too short"],
)
def test_an_event_that_differs_in_more_is_not_known(name, data):
    assert measured(Likeness.of(None, BEFORE + b"x" + AFTER), name, data) == -1


@pytest.mark.parametrize(
    "data",
    [
        b'{"text":"choices"}',
        b'{"text":"a.delta"}',
        b"{}",
        BEFORE + b"x" * 5000 + AFTER,
    ],
    ids=["a word that is looked for", "an end that is looked for", "no text", "too large"],
)
def test_what_others_cannot_be_known_by(data):
    assert Likeness.of(None, data) is None


@pytest.mark.parametrize(
    ("known", "other", "length"),
    [
        (b'{"text":"ab","obfuscation":"x"}', b'{"text":"a","obfuscation":"yz"}', 1),
        (b'{"sequence_number":4,"delta":"ab"}', b'{"sequence_number":15,"delta":"abc"}', 3),
        (b'{"text":"a","usageMetadata":{"totalTokenCount":9}}', b'{"text":"b","usageMetadata":{"totalTokenCount":10}}', 1),
        (b'{"text":"a","usage":{"prompt_tokens":9}}', b'{"text":"b","usage":{"prompt_tokens":10}}', 1),
        (b'{"text":"a"}  }', b'{"text":"b"}       }', 1),
        (b'{"content":"a","reasoning":"b"}', b'{"content":"","reasoning":"bcd"}', 3),
        (b'{"text":"a"}', b'{"text":"\\n \\"b\\" \\\\"}', 11),
    ],
    ids=["noise", "number", "totals of Gemini", "totals", "padding", "two texts", "escapes"],
)
def test_an_event_may_differ_in_what_says_nothing(known, other, length):
    assert measured(Likeness.of(None, known), None, other) == length


@pytest.mark.parametrize(
    "other",
    [
        b'{"text":"a","obfuscation":"error"}',
        b'{"text":"a","obfuscation":"x","error":"y"}',
        b'{"text":"a","obfuscation":"x\\"}',
        b'{"text":"a","obfuscation":["x"]}',
    ],
    ids=["a word that is looked for", "another member", "no end", "no string"],
)
def test_noise_is_looked_at(other):
    assert measured(Likeness.of(None, b'{"text":"a","obfuscation":"x"}'), None, other) == -1


@pytest.mark.parametrize(
    ("chunk", "length"),
    [
        (b'event: x\ndata: {"text":"abc"}\n\n', 3),
        (b'event: y\ndata: {"text":"abc"}\n\n', -1),
        (b'event: x\ndata: {"text":"a\nc"}\n\n', -1),
        (b'event: x\ndata: {"text":"a\rc"}\n\n', -1),
        (b'event: x\ndata: {"text":"abc"}\n\nevent: x\ndata: {"text":"abc"}\n\n', -1),
        (b'event: x\ndata: {"text":"abc"}\n', -1),
        (b'event: x\ndata: {"text":"' + b"x" * 5000 + b'"}\n\n', -1),
    ],
    ids=["alike", "another name", "a line end", "a carriage return", "two events", "not the end", "too large"],
)
def test_a_chunk_is_known_where_it_is_one_event(chunk, length):
    data = b'{"text":"a"}'
    alike = Likeness.of("x", data).within(b"event: x\ndata: " + data + b"\n\n", data)
    assert alike.length_in(chunk) == length


def test_the_data_of_a_chunk_is_found_again():
    data = b'{"text":"a"}'
    alike = Likeness.of(None, data).within(b"data: " + data + b"\r\n\r\n", data)
    assert alike.data_in(b'data: {"text":"other"}\r\n\r\n') == b'{"text":"other"}'


def test_an_event_in_several_lines_is_not_known_as_a_chunk():
    assert Likeness.of(None, b'{"text":\n"a"}').within(b'data: {"text":\ndata: "a"}\n\n', b'{"text":\n"a"}') is None


GEMINI_TOTALS = b'{"candidates":[],"usageMetadata":{"promptTokenCount":1}}'


@pytest.mark.parametrize(
    ("format", "data", "expected"),
    [
        (Format.GEMINI_GENERATE, GEMINI_TOTALS, True),
        (Format.GEMINI_GENERATE, b'{"usageMetadata": {"trafficType":"x", "totalTokenCount" : 1}, "modelVersion": "m"}', True),
        (Format.GEMINI_GENERATE, b'{"usageMetadata":{"trafficType":"x"}}', False),
        (Format.GEMINI_GENERATE, b'{"candidates":[{"args":{"usageMetadata":{"totalTokenCount":1}}}]}', False),
        (Format.GEMINI_GENERATE, b'{"text":"usageMetadata"}', False),
        (Format.OPENAI_CHAT, b'{"usage":{"prompt_tokens":1}}', True),
        (Format.OPENAI_CHAT, b'{"usage":{}}', False),
        (Format.OPENAI_CHAT, b'{"usage":null}', False),
        (Format.OPENAI_CHAT, b'{"choices":[{"usage":{"prompt_tokens":1}}]}', False),
        (Format.ANTHROPIC_MESSAGES, b'{"usage":{"input_tokens":1}}', False),
    ],
)
def test_totals_are_known_by_their_place(format, data, expected):
    assert fold_for(format).has_totals(data) is expected


@pytest.mark.parametrize("word", ["error", "finishReason", "promptFeedback", "groundingMetadata"])
def test_an_event_with_totals_may_hold_more(word):
    assert fold_for(Format.GEMINI_GENERATE).has_more(json.dumps({word: "x"}).encode())


def test_a_row_of_events_ends_with_the_first_that_differs():
    events = [(None, BEFORE + text + AFTER) for text in (b"a", b"bc", b"error", b"d")]
    assert Likeness.of(None, BEFORE + b"x" + AFTER).row(events, 1) == (1, 2)


def test_of_many_events_a_row_tells_to_the_end():
    events = [(None, BEFORE + text + AFTER) for text in (b"a", b'\\"', b"c")]
    assert Likeness.of(None, BEFORE + b"x" + AFTER).row(events, 0) == (3, 4)
