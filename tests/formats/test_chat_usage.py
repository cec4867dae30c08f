"""The chunk that the gateway asked for is taken out; nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.chunks import chunkings, randomly, singly
from valetkey.formats.chat_usage import UsageChunkFilter

EXTRA = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}\n\n'
CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}],"usage":null}\n\n'
DONE = b"data: [DONE]\n\n"
KEPT = [
    pytest.param(CHUNK, id="usage null"),
    pytest.param(b'data: {"choices":[],"prompt_filter_results":[{}]}\n\n', id="leading chunk of Azure"),
    pytest.param(b'data: {"choices":[],"usage":null}\n\n', id="no choices, usage null"),
    pytest.param(b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}\n\n', id="usage beside choices"),
    pytest.param(b'data: {"choices":[],"usage":{"prompt_tokens":1},"error":{"message":"x"}}\n\n', id="error"),
    pytest.param(b'data: {"type":"response.completed","usage":{"input_tokens":1}}\n\n', id="no chat chunk"),
    pytest.param(b'data: {"choices":[{"delta":{"content":"\\"choices\\":[],\\"usage\\":{}"}}]}\n\n', id="text about it"),
    pytest.param(b'data: {"choices":[],"usage":{"a":\n\n', id="broken JSON"),
    pytest.param(b"data: " + b"[" * 3000 + b'"usage":{"choices":[]\n\n', id="deep garbage"),
    pytest.param(b": OPENROUTER PROCESSING\n\n", id="comment"),
    pytest.param(b"\n\n\n", id="blank lines"),
    pytest.param(b'{"error":{"message":"usage"}}', id="no event at all"),
    pytest.param(b"data: x", id="unfinished"),
    pytest.param(DONE, id="end"),
]


def passed(chunks):
    transducer = UsageChunkFilter()
    return b"".join(transducer.feed(chunk) for chunk in chunks) + transducer.end()


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_the_extra_chunk_is_taken_out_whatever_the_chunks(ending):
    stream, expected = (data.replace(b"\n", ending) for data in (CHUNK + EXTRA + DONE, CHUNK + DONE))
    assert {passed(chunks) for chunks in chunkings(stream)} == {expected}


@pytest.mark.parametrize("piece", KEPT)
def test_everything_else_passes(piece):
    assert {passed(chunks) for chunks in chunkings(CHUNK + piece)} == {CHUNK + piece}


def test_the_extra_chunk_is_taken_out_with_any_spacing():
    assert passed([b'data:{ "usage" : {"total_tokens":1} , "choices" : [ ] }\n\n' + DONE]) == DONE


def test_the_extra_chunk_is_taken_out_of_a_stream_that_broke_off():
    assert passed([CHUNK + EXTRA.rstrip()]) == CHUNK


def test_a_comment_in_one_block_with_the_extra_chunk_stays():
    assert passed([b": keep-alive\n" + EXTRA + DONE]) == b": keep-alive\n" + DONE


def test_an_event_passes_with_its_last_byte():
    transducer = UsageChunkFilter()
    assert [transducer.feed(byte) for byte in singly(CHUNK)][-1] == CHUNK


def test_what_is_held_is_bounded():
    transducer = UsageChunkFilter()
    given_out = sum(len(transducer.feed(b"data: " + b"x" * 65_536)) for _ in range(64))
    assert 64 * 65_542 - given_out <= 1024 * 1024 + 65_542


def test_a_huge_event_passes_whole():
    huge = b'data: {"choices":[],"usage":{"x":"' + b"x" * 2_000_000 + b'"}}\n\n'
    assert passed(randomly(huge, 1, 100_000)) == huge


@given(
    st.lists(st.sampled_from([b"\r", b"\n", CHUNK, b"data: {", b'"usage":{}', b": c", b"\xff"]) | st.binary()), st.integers(0, 9)
)
def test_without_the_extra_chunk_any_bytes_pass(parts, seed):
    stream = b"".join(parts)
    assert passed(randomly(stream, seed, 9)) == stream


def test_chunks_without_usage_are_not_cut(monkeypatch):
    transducer = UsageChunkFilter()
    monkeypatch.setattr(transducer._parser, "feed", None)
    assert [transducer.feed(CHUNK), transducer.feed(CHUNK + CHUNK)] == [CHUNK, CHUNK + CHUNK]
