"""Frames of AWS: real ones, all types of headers, and whatever is wrong."""

from __future__ import annotations

import json
import tracemalloc
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.chunks import chunkings, randomly, singly
from support.frames import CLAUDE, RECORDED, chunk, converse, exception
from valetkey.formats.eventstream import EventStreamParser, event_frame, frame

LIMIT = 1 << 20
NAMES = ["messageStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"]


def parsed(pieces, limit=LIMIT):
    parser = EventStreamParser(limit)
    return [event for piece in pieces for event in parser.feed(piece)] + parser.end(), parser


def events(*pieces):
    return parsed(pieces)[0]


def built(block, payload=b"{}", headers_length=None):
    """A frame around a block of headers, with sums that are right."""
    length = len(block) if headers_length is None else headers_length
    lengths = (16 + len(block) + len(payload)).to_bytes(4) + length.to_bytes(4)
    made = lengths + crc32(lengths).to_bytes(4) + block + payload
    return made + crc32(made).to_bytes(4)


@pytest.mark.parametrize("pieces", chunkings(RECORDED), ids=["whole", "singly", "random-1", "random-2"])
def test_recorded_frames_are_read(pieces):
    assert [name for name, _ in events(*pieces)] == NAMES


def test_the_payload_is_the_data():
    assert json.loads(events(RECORDED)[-1][1])["usage"]["outputTokens"] == 82


def test_a_frame_is_made_as_bedrock_makes_it():
    first = RECORDED[: int.from_bytes(RECORDED[:4])]
    assert event_frame("messageStart", events(first)[0][1]) == first


# The message without headers and payload of the test vectors that the SDKs of AWS share.
def test_a_frame_may_be_empty():
    assert events(bytes.fromhex("000000100000000005c248eb7d98c8ff")) == [(None, b"")]


VALUES = {
    0: b"", 1: b"", 2: b"\x7f", 3: b"\x01\x02", 4: b"\1\2\3\4", 5: bytes(8), 6: b"\0\3abc", 7: b"\0\2hi", 8: bytes(8), 
    9: bytes(16),
}  # fmt: skip


@pytest.mark.parametrize("kind", VALUES)
def test_every_type_of_header_is_stepped_over(kind):
    before = b"\1x" + bytes((kind,)) + VALUES[kind]
    assert events(built(before + b"\x0b:event-type\7\0\1e", b"{}")) == [("e", b"{}")]


@pytest.mark.parametrize(
    "block",
    [
        b"\1x\x0a", b"\1", b"\5ab", b"\1x", b"\1x\6", b"\1x\7\0", b"\1x\7\xff\xff", b"\1x\5\1", b"\xff",
    ],
)  # fmt: skip
def test_headers_that_cannot_be_read_end_the_reading(block):
    found, parser = parsed([built(block), RECORDED])
    assert (found, parser.lost) == ([], True)


def test_a_chunk_is_the_event_of_the_model():
    assert next((name, json.loads(data)["type"]) for name, data in events(CLAUDE)) == (None, "message_start")


@pytest.mark.parametrize("payload", [b"no json", b"[]", b'{"bytes":1}', b'{"bytes":"a"}', b"[" * 100_000])
def test_a_chunk_without_an_event_is_given_as_it_is(payload):
    assert events(event_frame("chunk", payload)) == [(None, payload)]


def test_an_exception_is_an_error():
    ((name, data),) = events(exception("throttlingException", "Too many requests"))
    assert (name, json.loads(data)) == ("error", {"error": {"message": "Too many requests", "type": "throttlingException"}})


def test_an_exception_without_json_is_told_by_its_text():
    ((_, data),) = events(event_frame("validationException", b"no", "exception"))
    assert json.loads(data)["error"]["message"] == "no"


def test_an_error_without_a_type_of_its_own_is_an_error():
    ((name, data),) = events(frame({":message-type": "error", ":error-code": "InternalError", ":error-message": "oh"}, b""))
    assert (name, json.loads(data)) == ("error", {"error": {"message": "oh", "type": "InternalError"}})


@pytest.mark.parametrize("at", [0, 3, 5, 9, 40, len(RECORDED) - 1, -240])
def test_a_byte_that_is_wrong_ends_the_reading(at):
    broken = bytearray(RECORDED)
    broken[at] ^= 0x01
    found, parser = parsed([bytes(broken), RECORDED])
    assert parser.lost and len(found) < len(NAMES)


def test_lengths_that_contradict_each_other_end_the_reading():
    assert parsed([built(b"", headers_length=3, payload=b"")])[1].lost


@pytest.mark.parametrize("cut", [randomly, lambda data, _: [data], lambda data, _: singly(data)])
def test_a_frame_that_is_too_large_is_skipped(cut):
    large = converse("contentBlockDelta", delta={"text": "x" * 5000})
    found, parser = parsed(cut(RECORDED + large + RECORDED, 1), limit=1000)
    assert ([name for name, _ in found], parser.oversized) == (NAMES * 2, 1)


def test_memory_does_not_grow_with_a_frame_that_is_too_large():
    parser, piece = EventStreamParser(1000), bytes(64 * 1024)
    lengths = (1 << 30).to_bytes(4) + bytes(4)
    tracemalloc.start()
    try:
        parser.feed(lengths + crc32(lengths).to_bytes(4))
        for _ in range(64):
            parser.feed(piece)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(piece)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("sent", "rests"), [(b"", True), (RECORDED, True), (RECORDED[:-1], False), (RECORDED + b"\0", False), (b"garbage" * 3, False)]
)
def test_a_frame_may_follow_only_a_frame(sent, rests):
    assert parsed([sent])[1].at_rest is rests


@given(st.lists(st.sampled_from([RECORDED, chunk(a=1), exception("x", "y"), b"\0", b"\xff", bytes(16)]) | st.binary(max_size=40)))
def test_chunks_make_no_difference(parts):
    data = b"".join(parts)
    whole, parser = parsed([data])
    single, other = parsed(singly(data))
    assert (single, other.lost, other.oversized) == (whole, parser.lost, parser.oversized)


@given(st.binary())
def test_garbage_raises_nothing(data):
    assert isinstance(events(data), list)


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=40), max_size=5), st.binary())
def test_what_is_made_is_read(headers, payload):
    named = {name: value for name, value in headers.items() if not name.startswith(":")} | {":event-type": "e"}
    assert events(frame(named, payload)) == [("e", payload)]
