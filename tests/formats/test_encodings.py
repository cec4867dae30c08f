"""Spellings of a key, and the undoing of escapes."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.formats.encodings import LONGEST_ESCAPE, Unescaped, has_escapes, unescape, unfinished, variants

KEY = "sk-proj-Ab/9+x_Yz~01T3BlbkFJ77"
ESCAPES = {
    "json": (rb"\u0073", b"s"), "json, upper hex": (rb"\u004B", b"K"), "json in json": (rb"\\u0073", b"s"),
    "json in json in json": (rb"\\\\u0073", b"s"), "five levels": (rb"\\\\\\\\u0073", b"s"), "slash": (rb"\/", b"/"),
    "slash in a string in a string": (rb"\\\/", b"/"), "repr": (rb"\x73", b"s"), "percent": (b"%73", b"s"),
    "percent, lower hex": (b"%2f", b"/"), "percent twice": (b"%2573", b"s"), "html decimal": (b"&#115;", b"s"),
    "html decimal, two digits": (b"&#45;", b"-"), "html hex": (b"&#x73;", b"s"), "html hex, upper": (b"&#X2D;", b"-"),
    "several": (rb"a%73\u0074&#117;", b"astu"), "none": (rb"a\n\" 100% & &#1;", rb"a\n\" 100% & &#1;"),
    "beyond ASCII": (rb"\u00e9%C3%A9&#999;", b"\0\0\0\0"), "not Latin": (rb"\u4e16", rb"\u4e16"),
}  # fmt: skip


def b64(text: str) -> bytes:
    return base64.b64encode(text.encode())


@pytest.mark.parametrize(
    "spelling",
    [KEY.encode(), KEY[::-1].encode(), KEY.encode().hex().encode(), KEY.encode().hex().upper().encode()],
    ids=["raw", "reversed", "hex", "upper hex"],
)
def test_a_whole_spelling_is_listed(spelling):
    assert spelling in variants(KEY)


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", ["", "u", "u:", "me:", "user:"])
@pytest.mark.parametrize("behind", ["", ":", ":x", "\n\n\n"])
def test_base64_at_any_alignment_contains_a_variant(encode, before, behind):
    encoded = encode((before + KEY + behind).encode())
    assert any(text in encoded for text in variants(KEY))


@pytest.mark.parametrize("length", range(16, 40))
@pytest.mark.parametrize("before", range(3))
def test_base64_leaves_at_most_one_digit_at_each_end(length, before):
    """The digits at the ends that hold bits of the neighbours; each gives away at most four bits of the key."""
    key = (KEY * 2)[:length]
    encoded = b64("x" * before + key).rstrip(b"=")
    middle = next(text for text in sorted(variants(key), key=len, reverse=True) if text in encoded)
    assert encoded.index(middle) <= before + 1 and len(encoded) - encoded.index(middle) - len(middle) <= 1


def test_no_spelling_is_listed_twice():
    assert len(set(variants(KEY))) == len(variants(KEY))


@pytest.mark.parametrize("key", ['sk-"quoted"-0123456789', "sk-back\\slash-0123456789", "sk-per%41cent-0123456789"])
@pytest.mark.parametrize("write", [lambda key: json.dumps(key)[1:-1], lambda key: quote(key, safe="")], ids=["json", "url"])
def test_the_usual_encoding_of_an_unusual_key_is_listed(key, write):
    assert write(key).encode() in variants(key)


@pytest.mark.parametrize("data, text", ESCAPES.values(), ids=ESCAPES)
def test_escapes_are_undone(data, text):
    assert unescape(data) == text


@pytest.mark.parametrize("data, text", ESCAPES.values(), ids=ESCAPES)
def test_escapes_are_noticed(data, text):
    assert has_escapes(data) == (data != text)


@pytest.mark.parametrize(
    "whole, most",
    [(rb"\u0073", 5), (rb"\\\\\\\\u0073", 12), (rb"\x73", 3), (b"%73", 2), (b"&#115;", 5), (b"&#x73;", 5), (rb"\/", 1)],
)
def test_each_part_of_an_escape_is_unfinished(whole, most):
    assert [unfinished(b"-" + whole[:length]) for length in range(1, most + 1)] == [1] * most


@pytest.mark.parametrize("data", [b"%25", b"%257", b"%2"])
def test_a_percent_sign_may_be_encoded_twice(data):
    assert unfinished(b"ab" + data) == 2


@pytest.mark.parametrize("data", [b"", b"abc", rb"\u0073", b"%73", b"%2573", b"&#115;", b"&#x73;", rb"\n", rb"\u4e", b"100%."])
def test_nothing_else_is_unfinished(data):
    assert unfinished(data) == len(data)


def test_of_many_backslashes_only_those_of_an_escape_wait():
    assert unfinished(b"\\" * 20) == 12


PIECES = st.sampled_from(
    [b"\\", b"u00", b"73", b"\\u0073", b"%", b"25", b"%73", b"&#", b"115;", b"x73;", b"/", b"a", b"\xff", b"\\x"]
)
SOUP = st.lists(PIECES, max_size=30).map(b"".join)


@given(SOUP)
def test_every_character_knows_its_origin(data):
    plain = Unescaped(data)
    pieces = [data[plain.origin(i) : plain.origin(i + 1)] for i in range(len(plain.text))]
    assert (b"".join(pieces), b"".join(map(unescape, pieces))) == (data, plain.text)


@given(SOUP)
def test_what_is_outside_of_escapes_is_the_origin_of_a_character(data):
    plain = Unescaped(data)
    origins = {plain.origin(i) for i in range(len(plain.text) + 1)}
    assert {plain.outside(position) for position in range(len(data) + 1)} == origins


@given(SOUP, SOUP)
def test_a_cut_at_what_is_unfinished_changes_nothing(first, second):
    cut = unfinished(first)
    assert unescape(first[:cut]) + unescape(first[cut:] + second) == unescape(first + second)


@given(SOUP)
def test_no_unfinished_escape_is_longer_than_the_longest(data):
    assert len(data) - unfinished(data) < LONGEST_ESCAPE


@given(SOUP)
def test_data_without_escapes_is_left_alone(data):
    assert (unescape(data) == data) or has_escapes(data)
