"""Answers inside an answer."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.formats.results import ResultsTap, inside

LINE = {"custom_id": "a", "response": {"body": {"usage": {"x": 1}}}}


def lines(*documents):
    return b"".join(json.dumps(each).encode() + b"\n" for each in documents)


def tapped(body, size=None, paths=("response.body",), encoding=None, limit=10_000, **options):
    found = []
    tap = ResultsTap(paths, lambda number, document: found.append((number, document)), encoding, limit, **options)
    for at in range(0, len(body), size or len(body) or 1):
        tap.feed(body[at : at + (size or len(body))])
    tap.end()
    return found, tap


@pytest.mark.parametrize("size", [1, 7, None])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n\n"])
def test_every_line_is_given_with_its_number(size, end):
    found, tap = tapped(lines(LINE, LINE).rstrip() + end, size)
    assert (found, tap.events, tap.complete) == ([(0, {"usage": {"x": 1}}), (1, {"usage": {"x": 1}})], 2, True)


def test_lines_that_hold_no_answer_are_passed_over():
    body = lines({"error": "x"}, [1], {"response": {"body": "x"}}) + b"nonsense\n" + b"[" * 9000 + b"\n" + lines(LINE)
    assert [number for number, _ in tapped(body)[0]] == [0]


def test_a_compressed_body_is_read():
    assert len(tapped(gzip.compress(lines(LINE)), 3, encoding="gzip")[0]) == 1


@pytest.mark.parametrize("encoding", ["gzip", "telepathy"])
def test_what_cannot_be_decoded_is_a_problem(encoding):
    assert tapped(lines(LINE), encoding=encoding)[1].problem


def test_a_document_is_read_as_a_whole():
    body = json.dumps({"a": {"b": [{"c": {"x": 1}}, {"d": 1}, {"c": {"x": 2}}]}}).encode()
    assert [document["x"] for _, document in tapped(body, 5, ("nothing", "a.b.*.c"), lines=False)[0]] == [1, 2]


def test_a_document_that_is_too_large_is_a_problem():
    found, tap = tapped(json.dumps({"a": {"x": "y" * 100}}).encode(), 9, ("a",), limit=50, lines=False)
    assert (found, "larger" in tap.problem, tap.complete) == ([], True, False)


@pytest.mark.parametrize(("path", "count"), [("", 1), ("a", 1), ("a.b", 0), ("a.b.*", 2), ("*", 0), ("x", 0)])
def test_a_path_leads_to_objects(path, count):
    assert len(inside({"a": {"b": [{}, 1, {}]}}, [path])) == count


def test_many_lines_take_no_memory():
    tap, chunk = ResultsTap(("x",), lambda number, document: None), lines(*[{"x": {"y": "z" * 1000}}] * 100)
    tap.feed(chunk)
    tracemalloc.start()
    for _ in range(50):
        tap.feed(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * len(chunk)


@given(st.binary(), st.integers(1, 9), st.booleans())
def test_garbage_raises_nothing(body, size, by_line):
    tapped(body, size, lines=by_line)
