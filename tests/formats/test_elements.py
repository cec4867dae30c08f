"""Elements of a JSON array that comes in pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.chunks import chunkings, randomly
from valetkey.formats.elements import ElementParser

ARRAY = [{"a": 1}, {"text": 'x ] } , [ { "quoted" \\'}, {"b": [[{"c": "}"}]], "d": {}}, {}]
OBJECTS = st.dictionaries(st.text(), st.recursive(st.text() | st.integers(), st.lists, max_leaves=5))


def elements(chunks, limit=10_000):
    parser = ElementParser(limit)
    found = [event for chunk in chunks for event in parser.feed(chunk)] + parser.end()
    return [json.loads(data) for _, data in found]


@pytest.mark.parametrize("indent", [None, 2])
def test_elements_come_out_whatever_the_chunks(indent):
    assert all(elements(chunks) == ARRAY for chunks in chunkings(json.dumps(ARRAY, indent=indent).encode()))


@settings(max_examples=50)
@given(st.lists(OBJECTS), st.integers(0, 9))
def test_any_array_of_objects_comes_apart(array, seed):
    assert elements(randomly(json.dumps(array).encode(), seed, 4), limit=10**6) == array


def test_an_element_comes_out_with_its_last_byte():
    parser = ElementParser(100)
    assert parser.feed(b'[{"a":1') + parser.feed(b"}") == [(None, b'{"a":1}')]


def test_an_element_that_did_not_end_is_none():
    assert elements([b'[{"a":1},{"b":']) == [{"a": 1}]


def test_an_element_beyond_the_limit_is_dropped():
    assert elements(randomly(json.dumps([{"a": 1}, {"b": "x" * 500}, {"c": 2}]).encode(), 1, 50), limit=100) == [
        {"a": 1},
        {"c": 2},
    ]


def test_dropped_elements_are_counted():
    parser = ElementParser(100)
    for chunk in randomly(json.dumps([{"b": "x" * 500}, {"b": "x" * 500}]).encode(), 1, 50):
        parser.feed(chunk)
    assert parser.oversized == 2


@given(st.lists(st.text('[]{}"\\,:1 ').map(str.encode) | st.binary()))
def test_garbage_raises_nothing(chunks):
    parser = ElementParser(20)
    assert all(name is None for chunk in chunks for name, _ in parser.feed(chunk))


def test_nothing_may_come_between_a_backslash_and_what_it_escapes():
    assert elements([b'[{"a":"\\', b"", b'"}"}]']) == [{"a": '"}'}]
