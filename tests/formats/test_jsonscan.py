"""The JSON scanner: finds what a full parser finds, refuses what two parsers could read differently."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valetkey.formats.jsonscan import MAX_DEPTH, JsonScanError, pick, scan, scan_inner, value

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=25,
)
OBJECTS = st.dictionaries(st.text(), JSON)
BAD = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"   ", id="white space"),
    pytest.param(b"[1]", id="array"),
    pytest.param(b"null", id="null"),
    pytest.param(b"{", id="open"),
    pytest.param(b'{"a"', id="name only"),
    pytest.param(b'{"a" 1}', id="no colon"),
    pytest.param(b'{"a":}', id="no value"),
    pytest.param(b'{"a":1,}', id="trailing comma"),
    pytest.param(b'{,"a":1}', id="leading comma"),
    pytest.param(b'{"a":1 "b":2}', id="no comma"),
    pytest.param(b'{"a":[1,]}', id="trailing comma in an array"),
    pytest.param(b'{"a":[1 2]}', id="no comma in an array"),
    pytest.param(b'{"a":{"b":1,}}', id="trailing comma in an inner object"),
    pytest.param(b'{"a":[1}}', id="wrong closer"),
    pytest.param(b'{"a":[[[[[[1}]]]]]}', id="wrong closer, deep"),
    pytest.param(b'{"a":1]', id="wrong closer outside"),
    pytest.param(b"{a:1}", id="bare name"),
    pytest.param(b"{'a':1}", id="single quotes"),
    pytest.param(b'{"a":NaN}', id="NaN"),
    pytest.param(b'{"a":-Infinity}', id="infinity"),
    pytest.param(b'{"a":01}', id="leading zero"),
    pytest.param(b'{"a":1.}', id="no digit after the point"),
    pytest.param(b'{"a":+1}', id="plus"),
    pytest.param(b'{"a":0x10}', id="hex"),
    pytest.param(b'{"a":tru}', id="half a word"),
    pytest.param(b'{"a":truex}', id="a word and more"),
    pytest.param(b'{"a":"\n"}', id="line end in a string"),
    pytest.param(b'{"a":"\\x"}', id="unknown escape"),
    pytest.param(b'{"a":"\\u12g4"}', id="half an escape"),
    pytest.param(b'{"a":"b}', id="open string"),
    pytest.param(b'{"a":1} {"b":2}', id="two objects"),
    pytest.param(b'{"a":1}x', id="something after"),
    pytest.param(b'{"a":1/*c*/}', id="comment"),
    pytest.param(b'{"\xff":1}', id="name that is not UTF-8"),
]


def read(body):
    members = scan(body)
    return {name: value(body, span) for name, span in members.items()}


@settings(max_examples=50)
@given(OBJECTS, st.sampled_from([None, 0, 2]))
def test_it_reads_what_a_full_parser_reads(document, indent):
    body = json.dumps(document, indent=indent, ensure_ascii=bool(indent)).encode("utf-8", "surrogatepass")
    try:
        body.decode()
    except UnicodeDecodeError:
        return  # a lone surrogate has no UTF-8
    assert read(body) == document


@settings(max_examples=50)
@given(OBJECTS)
def test_members_stand_in_the_order_of_the_body(document):
    assert list(scan(json.dumps(document).encode())) == list(document)


@pytest.mark.parametrize("body", BAD)
def test_bad_json_is_refused(body):
    with pytest.raises(JsonScanError):
        scan(body)


@given(st.binary() | st.text('{}[]",:\\ \n019.-+eEtrufalsn\x00u').map(str.encode))
def test_garbage_raises_nothing_else(body):
    try:
        scan(body)
    except JsonScanError:
        return
    assert isinstance(json.loads(body), dict)


@given(st.text('{}[]",:\\ \n019.-eEtrufalsn').map(lambda text: ('{"a":' + text + "}").encode()))
def test_what_is_accepted_a_strict_parser_accepts(body):
    try:
        scan(body)
    except JsonScanError:
        return
    json.loads(body, parse_constant=lambda name: pytest.fail(name))


def outcome(body):
    """What a scan gives: the members with their spans, or that it refuses."""
    try:
        members = scan(body)
    except JsonScanError:
        return "refused"
    return members.start, members.end, dict(members)


NEARLY_JSON = st.one_of(
    OBJECTS.map(json.dumps),
    OBJECTS.map(lambda document: json.dumps(document, indent=1, ensure_ascii=False)),
    st.text('{}[]",:\\ \n019.-eEtrufalsn\u00e9').map(lambda text: '{"a":' + text + "}"),
    st.tuples(OBJECTS.map(json.dumps), st.integers(0), st.sampled_from('{}[]",:\\ 0-e\n')).map(
        lambda drawn: drawn[0][: drawn[1] % len(drawn[0])] + drawn[2] + drawn[0][drawn[1] % len(drawn[0]) + 1 :]
    ),
).map(lambda text: text.encode("utf-8", "surrogatepass"))


@settings(max_examples=80)
@given(NEARLY_JSON)
def test_a_parsed_body_and_a_matched_one_give_the_same(body):
    parsed = outcome(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("valetkey.formats.jsonscan.PARSED", 0)
        assert outcome(body) == parsed


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH])
@pytest.mark.parametrize("padding", [0, 20_000], ids=["counted", "walked"])
@pytest.mark.parametrize(
    "shape", ["%s", '{"b":%s,"b":1}', '[%s,"[[["]', '{"b":[1,{}],"c":%s}'], ids=["alone", "hidden", "in a list", "a member"]
)
def test_both_ways_count_levels_alike(shape, padding, depth):
    deep = "[" * (depth - 1) + "]" * (depth - 1)
    body = f'{{"a":{shape % deep},"p":[[["{"[" * padding}"]]]}}'.encode()
    parsed = outcome(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("valetkey.formats.jsonscan.PARSED", 0)
        assert outcome(body) == parsed


def test_a_long_value_is_refused_for_its_depth_alone(monkeypatch):
    monkeypatch.setattr("valetkey.formats.jsonscan._COUNTED", 0)
    assert list(scan(b'{"a":[' + b"[[]]," * 1000 + b"0]}")) == ["a"]


def test_an_error_names_the_offset():
    with pytest.raises(JsonScanError, match="byte 9"):
        scan(b'{"model":oops}')


def test_an_error_does_not_quote_the_body():
    with pytest.raises(JsonScanError) as caught:
        scan(b'{"model":sk-secret}')
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"model":"a","model":"b"}', id="plain"),
        pytest.param(b'{"model":"a","mod\\u0065l":"b"}', id="escaped"),
        pytest.param(b'{"model":"a","\\u006Dodel":"b"}', id="escaped in capitals"),
    ],
)
def test_a_name_twice_is_refused(body):
    with pytest.raises(JsonScanError, match="twice"):
        scan(body)


def test_a_name_twice_deeper_down_is_the_providers_matter():
    assert list(scan(b'{"a":{"b":1,"b":2}}')) == ["a"]


@pytest.mark.parametrize("opener, closer", [("[", "]"), ('{"a":', "}")], ids=["arrays", "objects"])
def test_nesting_to_the_limit_is_read(opener, closer):
    levels = MAX_DEPTH - 1
    assert list(scan(f'{{"a":{opener * levels}1{closer * levels}}}'.encode())) == ["a"]


@pytest.mark.parametrize("opener, closer", [("[", "]"), ('{"a":', "}")], ids=["arrays", "objects"])
def test_nesting_beyond_the_limit_is_refused(opener, closer):
    with pytest.raises(JsonScanError, match="deeper than 200"):
        scan(f'{{"a":{opener * MAX_DEPTH}1{closer * MAX_DEPTH}}}'.encode())


def test_a_million_open_brackets_are_refused():
    with pytest.raises(JsonScanError, match="deeper"):
        scan(b'{"a":' + b"[" * 1_000_000)


def test_deep_bombs_are_given_up(monkeypatch):
    monkeypatch.setattr("valetkey.formats.jsonscan.MAX_STEPS", 1000)
    with pytest.raises(JsonScanError, match="too many"):
        scan(b'{"a":[' + b"[[[[[1]]]]]," * 2000 + b"1]}")


def test_many_members_are_given_up(monkeypatch):
    monkeypatch.setattr("valetkey.formats.jsonscan.MAX_STEPS", 1000)
    with pytest.raises(JsonScanError, match="too many"):
        scan(json.dumps({str(i): i for i in range(2000)}).encode())


def test_a_byte_order_mark_is_tolerated():
    assert read(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_refused_by_name(encoding):
    with pytest.raises(JsonScanError, match="not UTF-8"):
        scan('{"a":1}'.encode(encoding))


def test_a_value_that_is_not_utf8_passes_the_scan():
    assert list(scan(b'{"a":"\xff"}')) == ["a"]


@pytest.mark.parametrize("body", [b'{"a":"\xff"}', b'{"a":' + b"1" * 5000 + b"}"], ids=["not utf-8", "a number too long"])
def test_a_value_that_cannot_be_held_is_an_error_of_ours(body):
    with pytest.raises(JsonScanError, match="cannot be decoded"):
        value(body, scan(body)["a"])


def test_a_span_is_the_bytes_of_the_value():
    body = b' { "a" : [1, 2] , "b":3}'
    span = scan(body)["a"]
    assert body[span.value_start : span.value_end] == b"[1, 2]"


def test_a_span_begins_at_the_name():
    body = b' { "a" : [1, 2] , "b":3}'
    assert body[scan(body)["b"].key_start :] == b'"b":3}'


def test_the_object_itself_is_located():
    body = b' {"a":1} '
    members = scan(body)
    assert body[members.start : members.end] == b'{"a":1}'


def test_inner_members_are_found():
    body = b'{"a":{"b":1,"c":2}}'
    assert list(scan_inner(body, scan(body)["a"]) or ()) == ["b", "c"]


def test_a_value_that_is_no_object_has_no_inner_members():
    body = b'{"a":[1]}'
    assert scan_inner(body, scan(body)["a"]) is None


def test_pick_decodes_only_what_is_asked():
    assert pick(b'{"a":1,"b":[2],"c":"\xff"}', ("a", "b", "x")) == {"a": 1, "b": [2]}


def test_pick_follows_a_path():
    assert pick(b'{"a":{"b":{"c":1,"d":2}}}', ("c",), within=("a", "b")) == {"c": 1}


@pytest.mark.parametrize("within", [("x",), ("a", "x"), ("a", "b", "c", "d")])
def test_pick_finds_nothing_where_the_path_leads_nowhere(within):
    assert pick(b'{"a":{"b":{"c":1}}}', ("c",), within=within) == {}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"image":"' + b"A" * 8_000_000 + b'"}', id="one long string"),
        pytest.param(b'{"text":"' + rb"\n\"" * 2_000_000 + b'"}', id="escapes only"),
        pytest.param(b'{"a":[' + b'{"role":"user","content":[{"type":"text","text":"hi"}]},' * 120_000 + b"0]}", id="messages"),
    ],
)
def test_eight_megabytes_take_well_under_a_second(body):
    began = time.perf_counter()
    scan(body)
    assert time.perf_counter() - began < 3  # 0.1 s; the machine may be busy
