"""Server-sent events: cut right, and not a byte lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.chunks import randomly, singly
from valetkey.formats.sse import SseParser

CASES = [
    pytest.param(b"data: a\n\n", [(None, b"a")], id="lf"),
    pytest.param(b"data: a\r\n\r\n", [(None, b"a")], id="crlf"),
    pytest.param(b"data: a\r\rdata: b\r\r", [(None, b"a"), (None, b"b")], id="cr"),
    pytest.param(b"data: a\n\r\ndata: b\r\n\n", [(None, b"a"), (None, b"b")], id="mixed line ends"),
    pytest.param(b"event: ping\ndata: {}\n\n", [("ping", b"{}")], id="named"),
    pytest.param(b"event: ping\r\ndata: {}\r\n\r\n", [("ping", b"{}")], id="named, crlf"),
    pytest.param(b"event: a\nevent: b\ndata: c\n\n", [("b", b"c")], id="the last name counts"),
    pytest.param(b"data: a\ndata: b\n\n", [(None, b"a\nb")], id="data lines are joined with LF"),
    pytest.param(b"data:a\n\n", [(None, b"a")], id="no space"),
    pytest.param(b"data:  a \n\n", [(None, b" a ")], id="only one space is taken"),
    pytest.param(b"data\n\n", [], id="a field without colon is empty"),
    pytest.param(b": keep-alive\n\ndata: a\n\n", [(None, b"a")], id="comment"),
    pytest.param(b": keep-alive\ndata: a\n\n", [(None, b"a")], id="comment beside data"),
    pytest.param(b"\n\n\r\ndata: a\n\n", [(None, b"a")], id="blank lines before"),
    pytest.param(b"\xef\xbb\xbfdata: a\n\n", [(None, b"a")], id="byte order mark"),
    pytest.param(b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [(None, b"a")], id="byte order mark later is no field"),
    pytest.param(b"id: 1\nretry: 5\ndata: a\n\n", [(None, b"a")], id="id and retry are read over"),
    pytest.param(b"data: a\n\ndata: b", [(None, b"a"), (None, b"b")], id="the last one without its blank line"),
    pytest.param(b"data: \xc3\xa4\n\n", [(None, b"\xc3\xa4")], id="utf-8"),
]


def pieces(chunks, limit=1000):
    parser = SseParser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)] + parser.end()


def meant(events):
    return [(event.event, event.data) for event in events if event.data]


@pytest.mark.parametrize("stream, expected", CASES)
def test_a_stream_in_one_chunk_gives_its_events(stream, expected):
    assert meant(pieces([stream])) == expected


@pytest.mark.parametrize("stream, expected", CASES)
def test_a_stream_byte_by_byte_gives_the_same_events(stream, expected):
    assert meant(pieces(singly(stream))) == expected


@pytest.mark.parametrize("stream, expected", CASES)
def test_the_raw_bytes_are_the_stream(stream, expected):
    assert b"".join(event.raw for event in pieces(singly(stream))) == stream


@pytest.mark.parametrize("stream", [b"data: a\n\n", b"data: a\r\n\r\n", b"data: a\n\r\n", b"data: a\r\r"])
def test_an_event_does_not_wait_for_more_than_its_blank_line(stream):
    parser = SseParser()
    assert meant([event for byte in singly(stream) for event in parser.feed(byte)]) == [(None, b"a")]


def test_bytes_that_look_like_no_event_pass():
    assert b"".join(event.raw for event in pieces([b"<html>\n\n<p>\0\xff"])) == b"<html>\n\n<p>\0\xff"


def test_an_event_beyond_the_limit_passes_whole():
    stream = b"data: " + b"x" * 5000 + b"\n\ndata: b\n\n"
    assert b"".join(event.raw for event in pieces(randomly(stream, 3), limit=100)) == stream


def test_an_event_beyond_the_limit_keeps_no_data():
    stream = b"data: " + b"x" * 5000 + b"\n\ndata: b\n\n"
    assert meant(pieces(randomly(stream, 3), limit=1000)) == [(None, b"b")]


@pytest.mark.parametrize("chunks", [1, 7, 5000], ids="largest chunk {}".format)
def test_the_limit_does_not_depend_on_the_chunks(chunks):
    sizes = [size for size in range(90, 110) if meant(pieces(randomly(b"x" * (size - 10) + b"\ndata: a\n\n", 3, chunks), 100))]
    assert sizes == list(range(90, 101))


def test_an_event_beyond_the_limit_is_counted_once():
    parser = SseParser(100)
    for chunk in randomly(b"data: " + b"x" * 5000 + b"\n\n", 3, largest=50):
        parser.feed(chunk)
    assert parser.oversized == 1


def test_an_event_beyond_the_limit_is_counted_when_it_comes_whole():
    parser = SseParser(100)
    parser.feed(b"data: " + b"x" * 5000 + b"\n\n")
    assert parser.oversized == 1


def test_an_event_beyond_the_limit_does_not_wait_for_its_end():
    assert sum(len(event.raw) for event in SseParser(100).feed(b"data: " + b"x" * 5000)) > 4900


def test_memory_stays_bounded_without_any_blank_line():
    parser = SseParser(1000)
    held = sum(len(event.raw) for _ in range(200) for event in parser.feed(b"data: x\n" * 100))
    assert 200 * 800 - held <= 1000


@given(st.lists(st.sampled_from([b"\r", b"\n", b"data: x", b"event: e", b":", b"\xff", b"\xef\xbb\xbf"])), st.integers(0, 9))
def test_any_bytes_come_out_as_they_went_in(parts, seed):
    stream = b"".join(parts)
    assert b"".join(event.raw for event in pieces(randomly(stream, seed, 5), limit=20)) == stream


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"data: x", b"event: e", b":"])), st.integers(0, 9))
def test_chunks_do_not_change_what_is_read(parts, seed):
    stream = b"".join(parts)
    assert meant(pieces(randomly(stream, seed, 5))) == meant(pieces([stream]))


# The short way for common streams gives what the long way gives.

BITS = [
    b"data: x",
    b"data:y",
    b"event: a",
    b"event:b",
    b"id: 1",
    b": c",
    b"x",
    b"\xef\xbb\xbf",
    b"\n",
    b"\n\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\r",
]


class LongWay(SseParser):
    def _take_common(self, data):
        self._buffer += data


@settings(max_examples=500)
@given(
    chunks=st.lists(st.lists(st.sampled_from(BITS), max_size=8).map(b"".join), max_size=6), limit=st.sampled_from([5, 20, 10**6])
)
def test_the_short_way_is_the_long_way(chunks, limit):
    short, data_only, long = SseParser(limit), SseParser(limit), LongWay(limit)
    for chunk in chunks:
        events = long.feed(chunk)
        assert short.feed(chunk) == events
        assert data_only.feed_data(chunk) == [(event.event, event.data) for event in events]
    assert short.end() == long.end() and short.oversized == data_only.oversized == long.oversized


def test_an_event_that_comes_in_many_pieces_is_not_looked_at_anew_each_time():
    parser = SseParser()
    parser.feed(b"data: " + b"x" * 10_000)
    assert parser._take_common(b"x") is None


@pytest.mark.parametrize(
    ("before", "data", "taken"),
    [
        (b"", b"data: a\n\n", True),
        (b"data: a\n\n", b"data: b\n\ndata: c\n\n", True),
        (b"", b"data: a\n", False),
        (b"", b"data: a\r\n\r\n", False),
        (b"data: a", b"\n\n", False),
    ],
    ids=["one", "two", "not the end", "another line end", "the rest of one"],
)
def test_whole_events_can_be_skipped(before, data, taken):
    parser = SseParser()
    parser.feed(before)
    assert parser.skip(data) is taken


def test_what_follows_a_skipped_event_is_cut():
    parser = SseParser()
    parser.skip(b"data: a\n\n")
    assert [event.data for event in parser.feed(b"data: b\n\n")] == [b"b"]


@pytest.mark.parametrize(
    ("chunk", "between"), [(b"", False), (b"data: a\n\n", True), (b"data: a\n\ndata:", False), (b"data: " + b"x" * 99, False)]
)
def test_a_stream_stands_between_two_events(chunk, between):
    parser = SseParser(limit=50)
    parser.feed(chunk)
    assert parser.between is between
