from __future__ import annotations

import pytest
from mitmproxy import http

from support import making
from valetkey.assembly import assemble_on


def answered(content_type="application/json", status=200, body=b"{}", stream=False, gateway="", **headers):
    """A flow whose answer's headers have just come."""
    runtime = making.runtime(f"version: 1\ngateway: {{{gateway}}}\n")
    _, intake, answers, *_ = assemble_on(runtime)
    flow = making.flow(body=b'{"model":"gpt-4o","stream":true}' if stream else b'{"model":"gpt-4o"}')
    intake.requestheaders(flow)
    intake.request(flow)
    making.attempt(runtime, flow)
    flow.response = http.Response.make(status, body, {"content-type": content_type})
    flow.response.headers.update(headers)
    answers.responseheaders(flow)
    return flow


@pytest.mark.parametrize("kind", ["text/event-stream", "audio/mpeg", "application/x-ndjson", "image/png"])
def test_what_is_no_json_streams(kind):
    assert answered(kind).response.stream


def test_json_is_read_whole():
    assert not answered().response.stream


def test_an_error_is_read_whole():
    assert not answered("text/html", 500).response.stream


def test_a_large_json_streams():
    assert answered(**{"content-length": str(10**9)}).response.stream


def test_the_way_round_the_gateway_is_taken_out():
    assert "alt-svc" not in answered(**{"alt-svc": 'h3=":443"'}).response.headers


def test_the_answer_says_which_call_it_was():
    headers = answered().response.headers
    assert (headers["x-valetkey-provider"], headers["x-valetkey-model"], headers["x-valetkey-key"]) == (
        "openai",
        "gpt-4o",
        "openai/main",
    )


def test_the_marks_can_be_switched_off():
    assert not any(name.startswith("x-valetkey") for name in answered(gateway="headers: off").response.headers)


def test_no_mark_holds_the_key():
    assert making.REAL not in str(answered().response.headers)


def test_the_chunk_that_we_asked_for_is_taken_out_of_a_stream():
    flow = answered("text/event-stream", stream=True)
    extra = b'data: {"choices":[],"usage":{"total_tokens":4}}\n\n'
    assert flow.response.stream(extra) == ()


def test_a_stream_whose_agent_asked_itself_is_left_alone():
    flow = answered("text/event-stream")
    extra = b'data: {"choices":[],"usage":{"total_tokens":4}}\n\n'
    assert flow.response.stream(extra) == (extra,)
