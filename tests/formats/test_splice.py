"""Edits in place: the same result as on the decoded body, and every other byte as it was."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valetkey.formats.jsonscan import JsonScanError
from valetkey.formats.splice import splice

CASES = [
    pytest.param(b"{}", {"a": 1}, [], b'{"a":1}', id="into an empty object"),
    pytest.param(b"{ }", {"a": 1}, [], b'{"a":1 }', id="into an empty object with a space"),
    pytest.param(b'{"a": 1}', {"b": [True, None]}, [], b'{"a": 1,"b":[true,null]}', id="at the end"),
    pytest.param(b'{ "a" : 1 , "b" : 2 }', {"a": "x"}, [], b'{ "a" : "x" , "b" : 2 }', id="in place"),
    pytest.param(b'{"a":1, "b":2, "c":3}', {}, ["a"], b'{"b":2, "c":3}', id="the first out"),
    pytest.param(b'{"a":1, "b":2, "c":3}', {}, ["b"], b'{"a":1, "c":3}', id="one between out"),
    pytest.param(b'{"a":1, "b":2, "c":3}', {}, ["c"], b'{"a":1, "b":2}', id="the last out"),
    pytest.param(b'{"a":1, "b":2, "c":3}', {}, ["b", "c"], b'{"a":1}', id="the last two out"),
    pytest.param(b'{"a":1, "b":2, "c":3}', {}, ["a", "c"], b'{"b":2}', id="the ends out"),
    pytest.param(b'{ "a":1 }', {}, ["a"], b"{  }", id="the only one out"),
    pytest.param(b'{"a":1}', {"b": 2}, ["a"], b'{"b":2}', id="one out, one in"),
    pytest.param(b'{"a":1,"b":2}', {"c": 3}, ["b"], b'{"a":1,"c":3}', id="the last out, one in"),
    pytest.param(b'{"a":1, "b":2, "c":3}', {}, ["a", "b", "c"], b"{}", id="all out"),
    pytest.param(b'{"a":1, "b":2, "c":3}', {"d": 4}, ["c", "b", "a"], b'{"d":4}', id="all out, one in"),
    pytest.param(b'{"a":1}', {}, ["x", "x.y", "a.b"], b'{"a":1}', id="out what is not there"),
    pytest.param(b'{"a":{"b":1, "c":2} }', {"a.c": 3}, [], b'{"a":{"b":1, "c":3} }', id="inner"),
    pytest.param(b'{"a":{"b":1}}', {}, ["a.b"], b'{"a":{}}', id="inner out"),
    pytest.param(b'{"a":1}', {"x.y.z": 1}, [], b'{"a":1,"x":{"y":{"z":1}}}', id="inner that is not there"),
    pytest.param(b'{"a":null,"b":2}', {"a.x": 1}, [], b'{"a":{"x":1},"b":2}', id="inner of null"),
    pytest.param(b'{"mod\\u0065l":"a"}', {"model": "b"}, [], b'{"mod\\u0065l":"b"}', id="escaped name"),
    pytest.param(b'\xef\xbb\xbf {"a":1}\n', {"a": 2}, [], b'\xef\xbb\xbf {"a":2}\n', id="what stands around"),
    pytest.param(b'{"a":"\xff","b":1}', {"b": 2}, [], b'{"a":"\xff","b":2}', id="beside bytes that are not UTF-8"),
    pytest.param(b'{"a":1}', {"a": 2}, ["a"], b"{}", id="set and removed"),
    pytest.param(b'{"a":1}', {"a": {"x": 1}, "a.y": 2}, [], b'{"a":{"x":1,"y":2}}', id="one path through another"),
    pytest.param(b'{"a":{"b":1}}', {"a.c": 2}, ["a"], b"{}", id="removed whole after an inner edit"),
]
NAMES = st.sampled_from(["a", "b", "c", "model", "ä", 'q"', ""])
VALUES = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner))
PATHS = st.lists(NAMES.filter(lambda name: "." not in name), min_size=1, max_size=3).map(".".join)
BODIES = st.dictionaries(NAMES, VALUES)


def on_the_document(document, edits, removals):
    """The same operation on the decoded body."""
    document = deepcopy(document)
    for path, new in edits.items():
        if path in removals:
            continue
        *parents, last = path.split(".")
        place = document
        for name in parents:
            if not isinstance(place.get(name), dict):
                place[name] = {}
            place = place[name]
        place[last] = deepcopy(new)
    for path in removals:
        *parents, last = path.split(".")
        place = document
        for name in parents:
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.pop(last, None)
    return document


@pytest.mark.parametrize("body, edits, removals, expected", CASES)
def test_an_edit_changes_only_its_bytes(body, edits, removals, expected):
    assert splice(body, edits, removals) == expected


@settings(max_examples=50)
@given(BODIES, st.dictionaries(PATHS, VALUES, max_size=4), st.lists(PATHS, max_size=3), st.sampled_from([None, 1]))
def test_it_is_the_operation_on_the_document(document, edits, removals, indent):
    body = json.dumps(document, indent=indent).encode()
    assert json.loads(splice(body, edits, removals)) == on_the_document(document, edits, removals)


@settings(max_examples=50)
@given(BODIES, st.dictionaries(PATHS, VALUES, max_size=4), st.lists(PATHS, max_size=3))
def test_twice_is_once(document, edits, removals):
    once = splice(json.dumps(document).encode(), edits, removals)
    assert splice(once, edits, removals) == once


@settings(max_examples=50)
@given(BODIES, NAMES, VALUES, st.sampled_from([(", ", ": "), (",", ":"), (" ,\n ", "\t:  ")]))
def test_members_that_are_not_named_keep_their_bytes(document, name, new, separators):
    kept = {key: inner for key, inner in document.items() if key != name}
    spliced = splice(json.dumps(document, separators=separators).encode(), {name: new})
    assert all(json.dumps(inner, separators=separators).encode() in spliced for inner in kept.values())


@settings(max_examples=50)
@given(BODIES)
def test_no_edit_changes_no_byte(document):
    body = json.dumps(document, indent=3).encode()
    assert splice(body) == body


@given(st.binary())
def test_garbage_raises_nothing_else(body):
    with suppress(JsonScanError):
        splice(body, {"a": 1}, ["b"])


def test_a_name_twice_on_the_way_is_refused():
    with pytest.raises(JsonScanError, match="twice"):
        splice(b'{"a":{"b":1,"b":2}}', {"a.b": 3})


def test_a_value_json_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="Out of range"):
        splice(b"{}", {"a": float("nan")})
