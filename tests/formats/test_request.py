"""What routing reads from a request."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valetkey.formats.jsonscan import JsonScanError
from valetkey.formats.request import read_multipart_model, read_request

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


FORMS = [
    pytest.param(field(b"model", b"whisper-1") + CLOSE, "whisper-1", id="alone"),
    pytest.param(field(b"file", b"\0\xff" * 50) + field(b"model", b"whisper-1") + CLOSE, "whisper-1", id="after a file"),
    pytest.param(b"preamble\r\n" + field(b"model", b"whisper-1") + CLOSE, "whisper-1", id="after a preamble"),
    pytest.param(field(b"file", b"x") + CLOSE, None, id="absent"),
    pytest.param(part(b"content-disposition: FORM-DATA; NAME=model", b"a"), "a", id="bare and in capitals, never closed"),
    pytest.param(part(b'X: y\r\nContent-Disposition: form-data; name="model"', b"a") + CLOSE, "a", id="second header"),
    pytest.param(field(b"models", b"a") + CLOSE, None, id="another name"),
    pytest.param(part(b'Content-Disposition: form-data; filename="model"', b"a") + CLOSE, None, id="a file called so"),
    pytest.param(field(b"file", b'\r\nContent-Disposition: form-data; name="model"\r\n\r\nx') + CLOSE, None, id="inside a file"),
    pytest.param(field(b"file", b'x--xYz\r\nContent-Disposition: form-data; name="model"\r\n\r\nx') + CLOSE, None, id="mid-line"),
    pytest.param(b'--xYzz\r\nContent-Disposition: form-data; name="model"\r\n\r\nx\r\n' + CLOSE, None, id="longer boundary"),
    pytest.param(CLOSE + field(b"model", b"a"), None, id="after the end"),
    pytest.param(b"", None, id="empty"),
]


@pytest.mark.parametrize("body, expected", FORMS)
def test_the_model_of_a_form(body, expected):
    assert read_multipart_model(body, FORM) == expected


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=xYz", "multipart/form-data;charset=x;BOUNDARY=xYz"])
def test_the_boundary_may_stand_bare(kind):
    assert read_multipart_model(field(b"model", b"a") + CLOSE, kind) == "a"


@pytest.mark.parametrize("kind", ["multipart/form-data", "application/json", "", "multipart/form-data; boundary="])
def test_without_a_boundary_there_is_no_form(kind):
    assert read_multipart_model(field(b"model", b"a") + CLOSE, kind) is None


def test_threat_47_a_form_with_two_models_is_refused():
    with pytest.raises(JsonScanError, match="more than once"):
        read_multipart_model(field(b"model", b"cheap") + field(b"model", b"dear") + CLOSE, FORM)


def test_a_model_longer_than_any_name_is_refused():
    with pytest.raises(JsonScanError, match="longer"):
        read_multipart_model(field(b"model", b"x" * 5000) + CLOSE, FORM)


def test_a_form_of_too_many_parts_is_refused():
    with pytest.raises(JsonScanError, match="more than 1000"):
        read_multipart_model(field(b"a", b"") * 1001 + CLOSE, FORM)


@given(st.lists(st.sampled_from([b"--xYz", b"\r\n", b"--", b'Content-Disposition: form-data; name="model"', b"a", b" "])))
def test_any_form_raises_nothing_else(parts):
    with suppress(JsonScanError):
        read_multipart_model(b"".join(parts), FORM)


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
        read_multipart_model(field(b"model", model) + CLOSE, FORM)


@pytest.mark.parametrize("name", [b"name*=utf-8''model", b"name*0=mo; name*1=del", b"name * = utf-8''model", b'name="mod\\el"'])
def test_threat_47_an_encoded_name_in_a_form_is_refused(name):
    with pytest.raises(JsonScanError, match="encoded"):
        read_multipart_model(part(b"Content-Disposition: form-data; " + name, b"gpt-4o-transcribe") + CLOSE, FORM)


def test_the_name_of_a_file_may_be_encoded():
    file = part(b"Content-Disposition: form-data; name=\"file\"; filename*=utf-8''a.wav", b"RIFF")
    assert read_multipart_model(file + field(b"model", b"whisper-1") + CLOSE, FORM) == "whisper-1"


@pytest.mark.parametrize(
    "written", [b'form-data;\r\n name="model"', b'form-data; name = "model"', b'form-data;\r\n\tname="model"']
)
def test_threat_47_a_name_is_read_with_blanks_and_folds(written):
    form = field(b"model", b"whisper-1") + part(b"Content-Disposition: " + written, b"gpt-4o-transcribe") + CLOSE
    with pytest.raises(JsonScanError, match="more than once"):
        read_multipart_model(form, FORM)
