"""What routing reads from a request."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.formats.jsonscan import JsonScanError
from valetkey.formats.request import asked_in_form, asked_in_json, read_form_request, read_request

FORM = 'multipart/form-data; boundary="xYz"'


def part(headers, content):
    return b"--xYz\r\n" + headers + b"\r\n\r\n" + content + b"\r\n"


def field(name, content):
    return part(b'Content-Disposition: form-data; name="' + name + b'"', content)


CLOSE = b"--xYz--\r\n"


def test_the_model_is_read():
    assert read_request(b'{"model":"gpt-4o","messages":[]}').model == "gpt-4o"


def test_without_a_model_there_is_none():
    assert read_request(b"{}").model is None


def test_null_is_no_model():
    assert read_request(b'{"model":null}').model is None


def test_a_model_in_an_inner_object_is_none():
    assert read_request(b'{"metadata":{"model":"x"}}').model is None


def test_an_escaped_name_is_the_same_name():
    assert read_request(b'{"mod\\u0065l":"gpt-4o"}').model == "gpt-4o"


@pytest.mark.parametrize("model", [b"1", b"[]", b"{}", b"true"])
def test_a_model_that_is_no_string_is_refused(model):
    with pytest.raises(JsonScanError, match="no string"):
        read_request(b'{"model":' + model + b"}")


@pytest.mark.parametrize("name", [b"Model", b"MODEL", b"Stream", b"\xc5\xbftream"])
def test_threat_47_a_name_in_another_case_is_refused(name):
    with pytest.raises(JsonScanError, match="another case"):
        read_request(b'{"model":"cheap","' + name + b'":"dear"}')


def test_the_models_besides_the_first_are_read():
    assert read_request(b'{"model":"a","models":["b","c"]}').others == ("b", "c")


@pytest.mark.parametrize("models", [b"[1]", b'["a\\n"]', b"[" + b'"a",' * 64 + b'"a"]'])
def test_threat_47_models_that_are_no_names_are_refused(models):
    with pytest.raises(JsonScanError):
        read_request(b'{"model":"a","models":' + models + b"}")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-7", "application/json;charset=UTF-16", 'x; charset = "ibm037"'])
def test_threat_47_a_charset_of_other_letters_is_refused(kind):
    with pytest.raises(JsonScanError, match="charset"):
        read_request(b"{}", kind)


@pytest.mark.parametrize("kind", ["", "application/json", "application/json; charset=UTF-8", 'x; charset="iso-8859-1"'])
def test_a_charset_that_begins_as_ascii_is_read(kind):
    assert read_request(b"{}", kind).model is None


def test_threat_47_a_second_model_is_refused():
    with pytest.raises(JsonScanError, match="twice"):
        read_request(b'{"model":"cheap","model":"dear"}')


@pytest.mark.parametrize(
    "body, expected",
    [
        (b'{"stream":true}', True),
        (b'{"stream":false}', False),
        (b"{}", False),
        (b'{"stream":"true"}', False),
        (b'{"stream":1}', False),
    ],
)
def test_only_true_is_a_stream(body, expected):
    assert read_request(body).stream is expected


@pytest.mark.parametrize(
    "body, expected",
    [
        (b'{"stream_options":{"include_usage":true}}', True),
        (b'{"stream_options":{"include_usage":false}}', False),
        (b'{"stream_options":{"include_usage":null}}', None),
        (b'{"stream_options":{}}', None),
        (b'{"stream_options":null}', None),
        (b"{}", None),
    ],
)
def test_include_usage_is_what_the_client_said(body, expected):
    assert read_request(body).include_usage is expected


def test_the_members_are_kept():
    assert list(read_request(b'{"a":1,"b":2}').members) == ["a", "b"]


@given(st.binary() | st.text('{}"model:true,[]').map(str.encode))
def test_garbage_raises_nothing_else(body):
    with suppress(JsonScanError):
        read_request(body)


def test_the_model_and_the_stream_of_a_form_are_read():
    found = read_form_request(field(b"model", b" whisper-1 ") + field(b"stream", b"True") + CLOSE, FORM)
    assert (found.model, found.stream) == ("whisper-1", True)


def test_a_form_without_a_model_has_none():
    assert read_form_request(field(b"file", b"x") + CLOSE, FORM).model is None


@pytest.mark.parametrize(
    ("body", "terms"),
    [
        (
            b'{"input":"hello","n":2,"size":"1024x1024","quality":"hd"}',
            {"characters": 5, "n": 2, "size": "1024x1024", "quality": "hd"},
        ),
        (b'{"input":["hello"],"size":7,"quality":""}', {"n": 1}),
        (b'{"n":0}', {"n": 1}),
        (b'{"n":true}', {"n": 1}),
        (b'{"n":"9","size":"%s"}' % (b"x" * 50), {"n": 1}),
    ],
)
def test_what_a_price_may_depend_on(body, terms):
    assert asked_in_json(body, read_request(body)) == terms


def test_what_a_price_may_depend_on_in_a_form():
    file = part(b'Content-Disposition: form-data; name="file"; filename="a.wav"', b"RIFF")
    body = file + field(b"n", b"3") + field(b"size", b"512x512") + CLOSE
    assert asked_in_form(read_form_request(body, FORM)) == {"n": 3, "size": "512x512", "bytes": 4}


@pytest.mark.parametrize("count", [b"x", b"-1", b"0", b"99999"])
def test_a_number_that_is_none_is_one(count):
    assert asked_in_form(read_form_request(field(b"n", count) + CLOSE, FORM))["n"] == 1


@pytest.mark.parametrize(
    "model", [b"gpt-4o\\ud800", b"gpt-4o\\n", b"gpt-4o\\u0000", b"\\udc00\\ud800", b"gpt-4o\\u2028", b"gpt-4o\x7f"]
)
def test_threat_47_a_model_that_cannot_be_printed_is_refused(model):
    with pytest.raises(JsonScanError, match="cannot be printed"):
        read_request(b'{"model":"' + model + b'"}')


def test_a_whole_surrogate_pair_is_a_character():
    assert read_request(b'{"model":"x\\ud83d\\ude00"}').model == "x\U0001f600"


def test_half_a_surrogate_pair_elsewhere_is_the_agents_own():
    assert read_request(b'{"model":"x","messages":["\\ud800"]}').model == "x"


@pytest.mark.parametrize("model", [b"whisper\xff", b"whis\0per", b"whis\nper"])
def test_threat_47_a_model_of_a_form_that_cannot_be_printed_is_refused(model):
    with pytest.raises(JsonScanError, match="cannot be printed"):
        read_form_request(field(b"model", model) + CLOSE, FORM)
