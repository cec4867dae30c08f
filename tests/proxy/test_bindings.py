from __future__ import annotations

import gzip
import json

import pytest
from mitmproxy import http

from support import making
from support.assembling import assembled
from valetkey.proxy import bindings

TWO = {"openai/1": making.REAL, "openai/2": making.REAL[:-1] + "2"}
JSON = {"content-type": "application/json"}
RESPONSE = json.dumps({"id": "resp_1", "object": "response", "output": []}).encode()
CREATED = b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1","object":"response"}}\n\n'


def attempted(keys=TWO, body=b'{"model":"gpt-4o","input":"hi"}', path="/v1/responses"):
    """A routed flow whose first attempt is made, with its passage and the addon for answers."""
    runtime = making.runtime(keys=keys)
    _, intake, answers, _ = assembled(runtime)
    flow = making.flow(path=path, body=body)
    intake.requestheaders(flow)
    intake.request(flow)
    return flow, making.attempt(runtime, flow), answers


def answer(status=200, body=RESPONSE, **headers):
    return http.Response.make(status, body, JSON | {name.replace("_", "-"): value for name, value in headers.items()})


def made(given, **options):
    flow, passage, answers = attempted(**options)
    flow.response = given
    answers.responseheaders(flow)
    return bindings.created(flow, passage)


def test_a_whole_answer_names_what_it_made():
    assert made(answer()) == ("response:resp_1",)


def test_a_compressed_answer_names_what_it_made():
    zipped = answer(content_encoding="gzip")
    zipped.raw_content = gzip.compress(RESPONSE)
    assert made(zipped) == ("response:resp_1",)


def test_with_a_single_key_it_does_not_matter():
    assert made(answer(), keys={"openai/1": making.REAL}) == ()


@pytest.mark.parametrize("status", [301, 404, 500])
def test_what_went_wrong_made_nothing(status):
    assert made(answer(status)) == ()


def test_an_answer_without_a_body_made_nothing():
    assert made(answer(204, b"")) == ()


def test_a_chat_makes_nothing():
    assert made(answer(body=b'{"id":"chatcmpl-1","choices":[]}'), path="/v1/chat/completions") == ()


def test_a_call_without_an_answer_made_nothing():
    flow, passage, _ = attempted()
    assert bindings.created(flow, passage) == ()


def test_a_call_that_was_never_sent_made_nothing():
    flow, passage, _ = attempted()
    passage.plan, flow.response = None, answer()
    assert bindings.created(flow, passage) == ()


def streamed(*chunks, keys=TWO):
    flow, passage, answers = attempted(keys, b'{"model":"gpt-4o","input":"hi","stream":true}')
    flow.response = http.Response.make(200, b"", {"content-type": "text/event-stream"})
    answers.responseheaders(flow)
    for chunk in chunks:
        flow.response.stream(chunk)
    return bindings.created(flow, passage)


def test_a_stream_names_what_it_made():
    assert streamed(CREATED, b"") == ("response:resp_1",)


def test_a_stream_names_it_byte_by_byte():
    assert streamed(*(CREATED[at : at + 1] for at in range(len(CREATED)))) == ("response:resp_1",)


def test_a_stream_with_a_single_key_does_not_matter():
    assert streamed(CREATED, b"", keys={"openai/1": making.REAL}) == ()
