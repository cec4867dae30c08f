from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mitmproxy import http

from valetkey.formats import Scrubber
from valetkey.proxy import heads, shortcuts

QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FIELDS = st.lists(st.tuples(st.sampled_from([b"A", b"a", b"b-c", b"x-valetkey-id"]), st.binary(max_size=5)), max_size=6)


@given(FIELDS)
def test_it_says_what_mitmproxys_mapping_says(fields):
    headers = http.Headers(fields)
    assert heads.plain(headers) == {name.lower(): headers[name] for name in headers}


# What is found by name is kept beside the fields.

NAMES = st.sampled_from(
    [b"A", b"a", b"b-c", b"", b"\n", b"a\nb", "Σ".encode(), "ας".encode(), "AΣ".encode(), "É".encode(), b"\xc3", b"\xff"]
)
VALUES = st.sampled_from([b"", b"x", b"x\r\n y", b"\xc3", b"\x89", "é".encode(), b"\n"])
ANY = st.lists(st.tuples(NAMES, VALUES), max_size=5)


class Sub(bytes):
    pass


ODD = [
    (b"a", b"1"), (b"A", bytearray(b"2")), (bytearray(b"a"), b"3"), [b"a", b"4"], (Sub(b"a"), Sub(b"5")), ("a", b"6"),
    (b"a", "7"),    (b"a", b"8", b"9"), (b"a",), (b"a", [b"b"]), (b"a", None), (None, b"a"), b"ab", "ab", 5,
]  # fmt: skip


@pytest.fixture
def kept():
    assert shortcuts.install()
    yield
    shortcuts.uninstall()


def slow(headers, name):
    return [value.decode("utf-8", "surrogateescape") for raw, value in headers.fields if raw.lower() == name]


def slow_plain(headers):
    found = {}
    for raw, value in headers.fields:
        name, text = raw.decode("utf-8", "surrogateescape").lower(), value.decode("utf-8", "surrogateescape")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def told(call):
    try:
        return call()
    except Exception as error:
        return type(error)


def made_of(fields):
    headers = http.Headers()
    headers.fields = tuple(fields)
    return headers


@given(ANY)
def test_plain_headers_are_those_of_one_field_after_the_other(fields):
    assert list(heads.plain(made_of(fields)).items()) == list(slow_plain(made_of(fields)).items())


@given(ANY | st.lists(st.sampled_from(ODD), max_size=4))
def test_odd_fields_are_looked_at_one_after_the_other(fields):
    headers = made_of(fields)
    assert told(lambda: heads.plain(headers)) == told(lambda: slow_plain(headers))


@given(ANY | st.lists(st.sampled_from(ODD), max_size=4), NAMES)
def test_all_values_of_a_name(fields, name):
    headers = made_of(fields)
    assert told(lambda: list(heads.get_all(headers, name))) == told(lambda: slow(headers, name))


@given(ANY, NAMES)
def test_the_first_value_of_a_name(fields, name):
    headers = made_of(fields)
    assert heads.get(headers, name, "none") == [*slow(headers, name), "none"][0]


STEPS = st.lists(st.sampled_from(["look", "set", "add", "delete", "replace", "pop", "update"]), max_size=8)


@QUIET
@given(ANY, STEPS)
def test_a_change_between_two_looks_is_seen(kept, fields, steps):
    headers = made_of(fields)
    for step in steps:
        change(headers, step)
        assert (heads.get_all(headers, b"a"), "a" in headers) == (tuple(slow(headers, b"a")), bool(slow(headers, b"a")))


def change(headers, step):
    match step:
        case "set":
            headers["A"] = "new"
        case "add":
            headers.add("a", "another")
        case "delete" if "a" in headers:
            del headers["a"]
        case "replace":
            headers.fields = tuple([(name, b"other") for name, _ in headers.fields])
        case "pop":
            headers.pop("a", None)
        case "update":
            headers.__dict__["fields"] = headers.fields[1:]


def test_a_list_of_fields_may_change_in_place(kept):
    headers = http.Headers()
    headers.fields = [(b"a", b"1")]
    heads.get(headers, b"a")
    headers.fields.append((b"b", b"2"))
    assert heads.get(headers, b"b") == "2"


def test_a_field_that_is_a_list_may_change_in_place(kept):
    headers = made_of([[b"a", b"1"]])
    heads.get(headers, b"a")
    headers.fields[0][1] = b"2"
    assert heads.get(headers, b"a") == "2"


def looked_at(kind=http.Headers):
    headers = kind([(b"authorization", b"secret"), (b"a", b"b")])
    heads.get(headers, b"a")
    return headers


def test_one_pass_is_enough(kept):
    headers = looked_at()
    assert heads.by_name(headers) is heads.by_name(headers)


@pytest.mark.parametrize("change", [lambda one: one.pop("authorization"), lambda one: setattr(one, "fields", ())])
def test_what_is_taken_off_is_kept_nowhere(kept, change):
    headers = looked_at()
    change(headers)
    assert list(vars(headers)) == ["fields"]


@QUIET
@given(ANY, st.lists(st.tuples(st.sampled_from([b"a", b"A", b"x-valetkey-id", b"x-Valetkey-Id"]), st.sampled_from([b"", b"1"]))))
def test_marks_are_found_with_what_was_read_before(kept, fields, marks):
    headers = http.Headers(fields)
    heads.by_name(headers)
    heads.mark(headers, marks)
    assert heads.by_name(headers) == heads.by_name(http.Headers(headers.fields))


def test_without_a_way_to_forget_nothing_is_kept():
    assert list(vars(looked_at())) == ["fields"]


def test_of_headers_of_another_kind_nothing_is_kept(kept):
    assert list(vars(looked_at(type("Other", (http.Headers,), {})))) == ["fields"]


@pytest.mark.parametrize("of", [http.Headers.get_state, http.Headers.copy, repr, bytes, dict, lambda one: vars(one.copy())])
def test_what_is_kept_shows_nowhere(kept, of):
    assert of(looked_at()) == of(http.Headers([(b"authorization", b"secret"), (b"a", b"b")]))


def test_headers_of_another_kind_are_set_as_ever(kept):
    class Other:
        def __setattr__(self, name, value):
            object.__setattr__(self, name, value)
            object.__setattr__(self, "last", name)

    made = type("Mixed", (http.Headers, Other), {})()
    made.fields = ((b"a", b"b"),)
    assert made.last == "fields"


@given(FIELDS)
def test_what_a_provider_must_not_say_is_taken_off(fields):
    headers = http.Headers([*fields, (b"Alt-Svc", b"h3")])
    heads.clean(headers)
    assert list(headers.fields) == [field for field in fields if field[0] != b"x-valetkey-id"]


KEY = "sk-proj-REALrealREALrealREALreal0001"


def test_keys_are_hidden():
    headers = http.Headers([(b"a", b"b"), (b"x", KEY.encode())])
    assert (heads.scrub(headers, Scrubber([KEY])), headers["x"]) == (True, "*" * len(KEY))


def test_a_key_does_not_stand_in_two_fields():
    headers = http.Headers([(b"a", KEY[:20].encode()), (KEY[20:].encode(), b"b")])
    assert not heads.scrub(headers, Scrubber([KEY]))
