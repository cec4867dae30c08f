"""Lines of JSON that come in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.chunks import chunkings, randomly
from valetkey.formats.lines import LineParser

STREAM = b'{"a":1}\n{"b":2}\r\n\n{"c":3}'


def lines(chunks, limit=1000):
    parser = LineParser(limit)
    found = [event for chunk in chunks for event in parser.feed(chunk)] + parser.end()
    return [data for _, data in found if data]


def test_lines_come_out_whatever_the_chunks():
    assert all(lines(chunks) == [b'{"a":1}', b'{"b":2}', b'{"c":3}'] for chunks in chunkings(STREAM))


def test_a_line_comes_out_with_its_line_end():
    assert LineParser(100).feed(b'{"a":1}\n') == [(None, b'{"a":1}')]


@pytest.mark.parametrize("largest", [7, 90, 10_000])
def test_a_line_beyond_the_limit_is_dropped_and_the_next_is_read(largest):
    assert lines(randomly(b"a\n" + b"x" * 5000 + b"\nb\n", 1, largest), limit=100) == [b"a", b"b"]


def test_a_line_beyond_the_limit_is_counted_once():
    parser = LineParser(100)
    for chunk in randomly(b"x" * 5000 + b"\nb\n", 1, 50):
        parser.feed(chunk)
    assert parser.oversized == 1


def test_nothing_of_a_dropped_line_comes_out_at_the_end():
    assert lines(randomly(b"x" * 5000, 1, 50), limit=100) == []


@given(st.binary(), st.integers(0, 9))
def test_chunks_do_not_change_the_lines(data, seed):
    assert lines(randomly(data, seed, 3)) == lines([data])


@pytest.mark.parametrize(("chunk", "between"), [(b"a\n", True), (b"a", False), (b"x" * 200, False)])
def test_a_stream_stands_between_two_lines(chunk, between):
    parser = LineParser(100)
    parser.feed(chunk)
    assert parser.between is between
