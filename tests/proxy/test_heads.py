from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http

from valetkey.formats import Scrubber
from valetkey.proxy import heads

FIELDS = st.lists(st.tuples(st.sampled_from([b"A", b"a", b"b-c", b"x-valetkey-id"]), st.binary(max_size=5)), max_size=6)


@given(FIELDS)
def test_it_says_what_mitmproxys_mapping_says(fields):
    headers = http.Headers(fields)
    assert heads.plain(headers) == {name.lower(): headers[name] for name in headers}


@given(FIELDS)
def test_what_a_provider_must_not_say_is_taken_off(fields):
    headers = http.Headers([*fields, (b"Alt-Svc", b"h3")])
    heads.clean(headers)
    assert list(headers.fields) == [field for field in fields if field[0] != b"x-valetkey-id"]


def test_marks_are_put_on():
    headers = http.Headers([(b"a", b"b")])
    heads.mark(headers, {"x-valetkey-id": "1"})
    assert headers.fields == ((b"a", b"b"), (b"x-valetkey-id", b"1"))


KEY = "sk-proj-REALrealREALrealREALreal0001"


def test_keys_are_hidden():
    headers = http.Headers([(b"a", b"b"), (b"x", KEY.encode())])
    assert (heads.scrub(headers, Scrubber([KEY])), headers["x"]) == (True, "*" * len(KEY))


def test_a_key_does_not_stand_in_two_fields():
    headers = http.Headers([(b"a", KEY[:20].encode()), (KEY[20:].encode(), b"b")])
    assert not heads.scrub(headers, Scrubber([KEY]))
