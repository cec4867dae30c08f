from __future__ import annotations

import asyncio

import pytest
from mitmproxy import http
from mitmproxy.flow import Error
from mitmproxy.test import taddons

from support import making
from support.assembling import assembled
from valetkey.proxy import views


def answered(content_type="application/json", status=200, body=b"{}", stream=False, gateway="", **headers):
    """A flow whose answer's headers have just come."""
    runtime = making.runtime(f"version: 1\ngateway: {{{gateway}}}\n")
    _, intake, answers, _ = assembled(runtime)
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


@pytest.mark.parametrize("is_watched", [True, False])
def test_settling_is_put_off_only_where_nobody_looks(monkeypatch, is_watched):
    monkeypatch.setattr(views, "is_watched", lambda master: is_watched)
    runtime = making.runtime()
    answers = assembled(runtime).answers

    async def run():
        with taddons.context():
            answers.running()
            return runtime.later is None

    assert asyncio.run(run()) is is_watched


def test_who_looks_is_found_out_anew_when_an_option_changes(monkeypatch):
    looking = []
    monkeypatch.setattr(views, "is_watched", lambda master: bool(looking))
    runtime = making.runtime()
    answers = assembled(runtime).answers

    async def run():
        with taddons.context():
            answers.running()
            looking.append("save_stream_file")
            answers.configure({"save_stream_file"})

    asyncio.run(run())
    assert runtime.later is None


def test_before_the_loop_runs_nothing_is_put_off():
    runtime = making.runtime()
    answers = assembled(runtime).answers
    with taddons.context():
        answers.configure(set())
    assert runtime.later is None


KEY = making.REAL


def finished(body, content_type="application/json", status=200, trailers=None, **headers):
    """The flow of `answered`, to its end."""
    runtime = making.runtime()
    _, intake, answers, _ = assembled(runtime)
    flow = making.flow()
    intake.requestheaders(flow)
    intake.request(flow)
    passage = making.attempt(runtime, flow)
    flow.response = http.Response.make(status, b"", {"content-type": content_type})
    flow.response.headers.update(headers)
    flow.response.raw_content, flow.response.trailers = body, trailers
    answers.responseheaders(flow)
    answers.response(flow)
    return flow, passage


def test_a_whole_answer_is_scrubbed():
    flow, passage = finished(KEY.encode())
    assert (KEY in flow.response.text, "key_echoed" in passage.notes) == (False, True)


def test_a_head_is_scrubbed_before_it_is_read():
    flow, passage = finished(b"{}", **{"x-request-id": KEY})
    assert KEY not in passage.request_id + str(flow.response.headers)


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_trailers_are_scrubbed(kind):
    flow, _ = finished(b"{}", kind, trailers=http.Headers(x=KEY))
    assert flow.response.trailers["x"] == "*" * len(KEY)


def test_an_answer_that_cannot_be_searched_is_refused():
    flow, passage = finished(b"?", **{"content-encoding": "x-unknown"})
    assert (flow.response.status_code, flow.response.headers["x-valetkey-refusal"], passage.outcome) == (
        502, "unreadable_answer", "server",
    )  # fmt: skip


def test_a_stream_of_an_unknown_encoding_is_read_whole_so_that_it_can_be_refused():
    flow, _ = finished(b"?", "text/event-stream", **{"content-encoding": "x-unknown"})
    assert flow.response.status_code == 502


def test_what_is_said_of_a_broken_answer_is_scrubbed():
    runtime = making.runtime()
    _, intake, answers, _ = assembled(runtime)
    flow = making.flow()
    intake.requestheaders(flow)
    intake.request(flow)
    making.attempt(runtime, flow)
    flow.error = Error(f"bad header {KEY}")
    answers.error(flow)
    assert KEY not in flow.error.msg
