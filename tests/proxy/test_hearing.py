from __future__ import annotations

import gzip
import json

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http

from support import making
from support.assembling import assembled
from valetkey.model import Outcome
from valetkey.proxy import hearing
from valetkey.proxy.hearing import ERROR_LIMIT, Hearing, Trouble

JSON, SSE = "application/json", "text/event-stream"
GOOD = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"model":"gpt-4o"}'
EMPTY = b'{"choices":[],"model":"gpt-4o"}'
HIDDEN = b'{"error":{"message":"upstream failed","code":502}}'
CHAT = b'{"model":"gpt-4o","messages":[]}'
STREAM = b'{"model":"gpt-4o","messages":[],"stream":true}'
ROLE = b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
WORD = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
FAILED = b'data: {"error":{"message":"overloaded","code":"server_is_overloaded"}}\n\n'
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"


def routed(body=CHAT, path="/v1/chat/completions", host="api.openai.com", gateway="{}"):
    """The passage of a call that was routed."""
    keys = {"openai/main": making.REAL, "anthropic/main": "sk-ant-api03-REALrealREALrealREALreal"}
    runtime = making.runtime(f"version: 1\ngateway: {gateway}\nproviders: {{openai: {{open: [files]}}}}\n", keys=keys)
    _, intake, *_ = assembled(runtime)
    flow = making.flow(host=host, path=path, body=body)
    intake.requestheaders(flow)
    intake.request(flow)
    passage = runtime.passages.of(flow)
    assert passage.dispatch is not None, flow.response
    return passage


def heard(status=200, kind=JSON, passage=None, **headers):
    fields = [(b"content-type", kind.encode())] if kind else []
    fields += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    answer = http.Response(b"HTTP/1.1", status, b"", http.Headers(fields), None, None, 1.0, None)
    return Hearing(answer, passage or routed())


def whole(body, **options):
    """What becomes of an answer that comes in one piece."""
    one = heard(**options)
    word = one.begin()
    if word == "wait":
        word = one.feed(body)
    return one.end() if word == "wait" else word


# Which answers are heard at all.


@pytest.mark.parametrize("status", [101, 201, 202, 204, 206, 301, 304])
def test_other_answers_pass_at_once(status):
    assert heard(status).begin() == "pass"


@pytest.mark.parametrize("kind", ["text/plain", "audio/mpeg", "application/octet-stream", None])
def test_what_is_no_document_passes_at_once(kind):
    assert heard(kind=kind).begin() == "pass"


def test_a_stream_that_nobody_asked_for_passes_at_once():
    assert heard(kind=SSE).begin() == "pass"


def test_an_endpoint_without_usage_passes_at_once():
    assert heard(passage=routed(b"", "/v1/files")).begin() == "pass"


@pytest.mark.parametrize("kind", [JSON, "application/json; charset=utf-8", "Application/JSON"])
def test_a_document_is_heard(kind):
    assert heard(kind=kind).begin() == "wait"


@pytest.mark.parametrize(("length", "word"), [("1000", "wait"), ("1001", "pass"), ("nonsense", "wait")])
def test_a_document_that_is_announced_as_large_passes_at_once(length, word):
    assert heard(passage=routed(gateway="{max_body: 1000 B}"), content_length=length).begin() == word


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503, 599])
def test_an_error_is_heard(status):
    assert heard(status).begin() == "wait"


def test_an_error_is_heard_whatever_the_endpoint():
    assert heard(500, passage=routed(b"", "/v1/files")).begin() == "wait"


def test_a_stream_in_an_unknown_encoding_passes_at_once():
    assert heard(kind=SSE, passage=routed(STREAM), content_encoding="snappy").begin() == "pass"


@pytest.mark.parametrize(("body", "kind", "holds"), [(STREAM, SSE, True), (STREAM, JSON, True), (CHAT, JSON, False)])
def test_the_head_of_a_stream_is_held_for_a_limited_time(body, kind, holds):
    assert heard(kind=kind, passage=routed(body)).holds is holds


# Errors.


def test_an_error_is_a_trouble_with_its_answer():
    trouble = whole(b'{"error":{}}', status=429, x_request_id="req_1")
    assert (trouble.answer.status_code, trouble.answer.raw_content, trouble.answer.headers["x-request-id"]) == (
        429, b'{"error":{}}', "req_1",
    )  # fmt: skip


def test_the_class_of_an_error_follows_from_its_answer():
    assert whole(b"{}", status=500).outcome is None


def test_an_error_without_a_body_is_a_trouble():
    one = heard(503)
    assert (one.begin(), one.end().message) == ("wait", "status 503")


def test_a_compressed_error_is_kept_as_it_came():
    body = gzip.compress(b'{"error":{"code":"rate_limit_exceeded"}}')
    trouble = whole(body, status=429, content_encoding="gzip")
    assert (trouble.answer.raw_content, trouble.answer.text) == (body, '{"error":{"code":"rate_limit_exceeded"}}')


def test_an_error_that_came_in_pieces_is_whole():
    one = heard(500)
    for piece in (b'{"a":', b"1", b"}"):
        assert one.feed(piece) == "wait"
    assert one.end().answer.raw_content == b'{"a":1}'


@pytest.mark.parametrize(("size", "word"), [(ERROR_LIMIT, "wait"), (ERROR_LIMIT + 1, "pass")])
def test_a_long_error_passes_as_it_is(size, word):
    assert heard(500).feed(b"x" * size) == word


def test_the_answer_itself_is_not_changed_by_hearing_it():
    one = heard(500)
    one.feed(b"x")
    one.end()
    assert one._answer.raw_content is None


# Whole answers.


def test_a_good_answer_passes_at_its_end():
    one = heard()
    assert [one.begin(), one.feed(GOOD), one.end()] == ["wait", "wait", "pass"]


@pytest.mark.parametrize("encode", [None, gzip.compress, brotli.compress])
def test_an_error_inside_a_good_answer_is_an_error(encode):
    names = {} if encode is None else {"content_encoding": "gzip" if encode is gzip.compress else "br"}
    trouble = whole(encode(HIDDEN) if encode else HIDDEN, **names)
    assert (trouble.answer.status_code, json.loads(trouble.answer.raw_content)["error"]["message"]) == (502, "upstream failed")


def test_an_error_inside_keeps_what_tells_when_to_come_back():
    names = {"retry_after": "7", "x_ratelimit_remaining_tokens": "0", "date": "Tue, 14 Nov 2023 22:13:20 GMT"}
    answer = whole(HIDDEN, **names, server="nginx", set_cookie="a=b").answer
    assert {*answer.headers} == {"content-type", "content-length", "retry-after", "x-ratelimit-remaining-tokens", "date"}


def test_the_encoding_of_an_error_inside_is_not_kept():
    answer = whole(gzip.compress(HIDDEN), content_encoding="gzip").answer
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", b'{"object":"response","status":"failed","error":{"code":"server_error","message":"x"},"output":[]}'),
        ("/v1/responses", b'{"type":"response.failed","response":{"error":{"code":"server_error","message":"x"}}}'),
        ("/v1/responses", b'{"object":"response","status":"failed","output":[]}'),
        ("/v1/chat/completions", b'{"object":"error","message":"x"}'),
        ("/v1/chat/completions", b'{"choices":[{"error":{"message":"x"},"finish_reason":"error"}]}'),
        ("/v1/chat/completions", b'{"x_groq":{"error":{"message":"x"}}}'),
        ("/v1/chat/completions", b'{"type":"response.error","message":"x"}'),
    ],
)
def test_every_sign_of_an_error_is_heard(path, body):
    assert isinstance(whole(body, passage=routed(b'{"model":"gpt-4o","input":"x"}', path)), Trouble)


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        GOOD.replace(b"hi", b'an \\"error\\": {}'),
        b'{"error": null, "status": "completed", "output": []}',
        b'{"error" :null}',
        b"no json at all",
        b"",
    ],
)
def test_what_cannot_be_an_error_is_not_parsed(body, monkeypatch):
    monkeypatch.setattr(hearing, "read_whole", None)
    assert whole(body) == "pass"


def test_a_compressed_answer_is_not_parsed_either(monkeypatch):
    monkeypatch.setattr(hearing, "read_whole", None)
    assert whole(gzip.compress(GOOD), content_encoding="gzip") == "pass"


def test_a_whole_answer_is_not_copied_while_it_is_heard():
    one, body = heard(), b"x" * 1000
    one.feed(body)
    assert one._pieces[0] is body


@pytest.mark.parametrize("encoding", ["gzip", "snappy"])
def test_what_cannot_be_decoded_passes(encoding):
    assert whole(HIDDEN, content_encoding=encoding) == "pass"


def test_a_compressed_answer_that_stops_in_the_middle_passes():
    assert whole(gzip.compress(HIDDEN)[:-9], content_encoding="gzip") == "pass"


def test_an_answer_that_unpacks_to_more_than_is_heard_passes():
    bomb = gzip.compress(HIDDEN + b" " * 1_000_000)
    assert whole(bomb, passage=routed(gateway="{max_body: 100 kB}"), content_encoding="gzip") == "pass"


def test_an_answer_that_is_too_large_passes():
    assert heard(passage=routed(gateway="{max_body: 1000 B}")).feed(b"x" * 1001) == "pass"


@pytest.mark.parametrize(("gateway", "passes"), [("{}", True), ("{retry_empty: true}", False)])
@pytest.mark.parametrize("body", [EMPTY, b""])
def test_an_empty_answer_passes_unless_the_rules_say_otherwise(gateway, passes, body):
    assert (whole(body, passage=routed(gateway=gateway)) == "pass") is passes


def test_an_empty_answer_is_the_providers_fault():
    assert whole(EMPTY, passage=routed(gateway="{retry_empty: true}")).outcome is Outcome.SERVER


@pytest.mark.parametrize("body", [GOOD, b'{"something":"else"}', b'{"choices":[{"finish_reason":"content_filter"}]}'])
def test_an_answer_that_is_not_empty_passes(body):
    assert whole(body, passage=routed(gateway="{retry_empty: true}")) == "pass"


# Streams.


def stream(*pieces, passage=None, end=False, **options):
    """What becomes of a stream, piece by piece."""
    one = heard(kind=SSE, passage=passage or routed(STREAM), **options)
    words = [one.begin(), *(one.feed(piece) for piece in pieces)]
    return [*words, one.end()] if end else words


def test_a_stream_is_heard_until_it_says_something():
    assert stream(PING, ROLE, WORD) == ["wait", "wait", "wait", "pass"]


@pytest.mark.parametrize("noise", [(), (PING,), (ROLE,), (PING, ROLE)])
def test_an_error_that_comes_first_is_a_trouble(noise):
    assert stream(*noise, FAILED)[-1].answer.status_code == 503


def test_an_error_after_content_is_not_heard():
    assert stream(WORD + FAILED)[-1] == "pass"


@pytest.mark.parametrize("gateway", ["{}", "{retry_empty: true}"])
def test_an_empty_stream_passes_unless_the_rules_say_otherwise(gateway):
    last = stream(ROLE, DONE, passage=routed(STREAM, gateway=gateway), end=True)[-1]
    assert (last if gateway == "{}" else last.outcome) == ("pass" if gateway == "{}" else Outcome.SERVER)


def test_a_document_in_place_of_a_stream_is_heard_to_its_end():
    one = heard(kind=JSON, passage=routed(STREAM))
    assert (one.feed(HIDDEN), one.end().answer.status_code) == ("wait", 502)


def test_a_compressed_stream_is_read():
    assert isinstance(stream(gzip.compress(FAILED), content_encoding="gzip")[-1], Trouble)


def test_an_error_event_of_anthropic_has_its_status():
    event = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    body = b'{"model":"claude-sonnet-4-5","messages":[],"max_tokens":9,"stream":true}'
    assert stream(event, passage=routed(body, "/v1/messages", "api.anthropic.com"))[-1].answer.status_code == 529


def test_a_stream_that_only_pings_is_let_through():
    one = heard(kind=SSE, passage=routed(STREAM))
    one.feed(PING)
    assert one.out_of_time() == "pass"


def test_a_stream_that_sends_nothing_is_given_up():
    assert heard(kind=SSE, passage=routed(STREAM)).out_of_time().outcome is Outcome.TIMEOUT


@pytest.mark.parametrize("status", [200, 500])
def test_a_whole_answer_that_takes_long_is_let_through(status):
    assert heard(status).out_of_time() == "pass"


# Whatever comes.


@given(st.lists(st.binary(max_size=50), max_size=5), st.sampled_from([200, 500]), st.sampled_from([CHAT, STREAM]))
def test_garbage_passes_or_is_a_trouble(pieces, status, body):
    one = heard(status, passage=PASSAGES[body])
    words = [one.begin(), *map(one.feed, pieces), one.end()]
    assert all(word in ("wait", "pass") or isinstance(word, Trouble) for word in words)


@pytest.mark.parametrize("events", [PING + ROLE + FAILED, ROLE + WORD, PING + DONE])
def test_how_a_stream_is_cut_does_not_matter(events):
    def said(*pieces):
        words = stream(*pieces, end=True)
        return next((word.answer.raw_content if isinstance(word, Trouble) else word for word in words if word != "wait"), "wait")

    assert said(*(events[at : at + 1] for at in range(len(events)))) == said(events)


PASSAGES = {body: routed(body) for body in (CHAT, STREAM)}
