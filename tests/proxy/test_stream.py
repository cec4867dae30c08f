"""The stream layer, played: bytes from the agent, bytes to the provider, and what comes back."""

from __future__ import annotations

import pytest
from mitmproxy.proxy.layers import http as http_layers

from support import making
from support.playing import Play, broken
from support.scripted import Receipts
from valetkey.proxy import attempting, dispatch, hearing, holding, intake, stream, traffic, wire

PORT = 8999
RULES = f"""
version: 1
gateway: {{egress_allow: ["127.0.0.1:{PORT}"], max_body: 1 KB}}
providers:
  lab: {{like: openai, upstream: "http://127.0.0.1:{PORT}", keys: [env:LAB_API_KEY]}}
"""
BODY = b'{"model":"m","messages":[]}'
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


def head(length=27, extra=b""):
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer sk-dummy\r\n" % PORT
        + b"content-type: application/json\r\n" + extra + b"content-length: %d\r\n\r\n" % length
    )  # fmt: skip


def runtime():
    made = making.runtime(RULES, keys={"lab/main": making.REAL})
    made.writer = Receipts()
    return made


def play(server, *chunks, connect_error=None, leave=False):
    one = Play(runtime(), PORT, server, connect_error)
    return one.run(*(chunks or (head() + BODY,)), leave=leave)


def whole(data):
    return OK if data.endswith(BODY) else None


def outcomes(one):
    return [receipt.outcome for receipt in one.runtime.writer.all]


def test_the_key_goes_out_once():
    assert play(whole).to_server.count(making.REAL.encode()) == 1


def test_the_dummy_does_not_go_out():
    assert b"sk-dummy" not in play(whole).to_server


def test_the_flow_keeps_what_the_agent_sent():
    state = str(play(whole).flows[0].get_state())
    assert "sk-dummy" in state and making.REAL not in state


def test_the_body_goes_out_as_it_came():
    assert play(whole).to_server.endswith(b"\r\n\r\n" + BODY)


def test_a_good_call_has_one_receipt():
    assert outcomes(play(whole)) == ["ok"]


def test_a_refused_connection_is_a_502_and_a_receipt():
    one = play(whole, connect_error="refused")
    assert one.to_client.startswith(b"HTTP/1.1 502") and outcomes(one) == ["network"]


def test_a_reset_before_the_answer_is_a_502_and_a_receipt():
    def reset(data):
        raise ConnectionError

    one = play(reset)
    assert one.to_client.startswith(b"HTTP/1.1 502") and outcomes(one) == ["network"]


def test_a_client_that_leaves_while_waiting_has_a_receipt():
    one = play(lambda data: None, leave=True)
    assert outcomes(one) == ["client"]


def test_a_client_that_leaves_closes_the_upstream():
    one = play(lambda data: None, leave=True)
    assert one.upstream in one.closed


def test_a_body_beyond_the_limit_is_refused_while_it_comes():
    chunked = head().replace(b"content-length: %d" % len(BODY), b"transfer-encoding: chunked")
    big = b"800\r\n" + b"x" * 2048 + b"\r\n"
    one = play(whole, chunked, big, big, b"0\r\n\r\n")
    assert one.to_client.startswith(b"HTTP/1.1 413") and outcomes(one) == ["refused"]


def test_after_a_refused_body_the_connection_can_be_used_again():
    chunked = head().replace(b"content-length: %d" % len(BODY), b"transfer-encoding: chunked")
    big = b"800\r\n" + b"x" * 2048 + b"\r\n"
    one = play(whole, chunked, big, big, b"0\r\n\r\n", head() + BODY)
    assert outcomes(one) == ["refused", "ok"]


def test_an_announced_body_beyond_the_limit_is_refused():
    one = play(whole, head(4096), b"x" * 4096)
    assert one.to_client.startswith(b"HTTP/1.1 413") and one.to_server == b""


def test_an_answer_beyond_the_limit_is_streamed():
    body = b'{"x":"' + b"y" * 4096 + b'"}'
    chunk = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk += b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert body in play(lambda data: chunk if data.endswith(BODY) else None).to_client


def test_two_calls_on_one_connection_are_two_receipts():
    one = play(whole, head() + BODY, head() + BODY)
    assert outcomes(one) == ["ok", "ok"]


def broken_stream(path, event):
    """A stream of which one event comes before the provider's connection breaks."""
    start = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    request = head().replace(b"/v1/chat/completions", path) + BODY

    one = Play(runtime(), PORT, lambda data: start + b"%x\r\n%s\r\n" % (len(event), event) if data.endswith(BODY) else None)
    one.break_after_answer = True
    return one.run(request)


def test_a_broken_responses_stream_ends_with_its_error_event():
    one = broken_stream(b"/v1/responses", b"event: x\ndata: {}\n\n")
    assert b"event: response.failed" in one.to_client and outcomes(one) == ["server"]


def test_a_broken_chat_stream_ends_without_done():
    one = broken_stream(b"/v1/chat/completions", b"data: {}\n\n")
    assert b"error" not in one.to_client and b"[DONE]" not in one.to_client and outcomes(one) == ["server"]


STEPS = [
    (wire, "request"),
    (wire, "body"),
    (dispatch.Dispatch, "begin"),
    (dispatch.Dispatch, "attempt"),
    (dispatch.Dispatch, "answered"),
    (hearing.Hearing, "begin"),
    (hearing.Hearing, "end"),
    (attempting.AttemptingStream, "_dial"),
    (holding.HoldingStream, "_let_pass"),
    (traffic.Traffic, "wire_request"),
    (stream.ValetStream, "_to_server"),
    (stream.ValetStream, "make_server_connection"),
    (intake.planning, "read"),
    (intake.admission, "identify"),
    (intake.admission, "by_address"),
]


@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
def test_a_defect_ends_the_call_with_a_502(caplog, owner, name):
    with broken(owner, name):
        assert play(whole).to_client.startswith(b"HTTP/1.1 502")


@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
def test_a_defect_leaves_one_receipt(caplog, owner, name):
    with broken(owner, name):
        assert outcomes(play(whole)) == ["gateway"]


@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
def test_a_defect_sends_no_key(caplog, owner, name):
    with broken(owner, name):
        one = play(whole)
    assert making.REAL.encode() not in one.to_client


def test_the_original_class_comes_back():
    original = http_layers.HttpStream
    play(whole)
    assert http_layers.HttpStream is original


UPGRADE = (
    b"GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"sec-websocket-protocol: realtime, openai-insecure-api-key.sk-dummy\r\nauthorization: Bearer sk-dummy\r\n\r\n" % PORT
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: realtime\r\n\r\n"
)


def upgraded():
    return play(lambda data: SWITCH if data.endswith(b"\r\n\r\n") else None, UPGRADE)


def test_an_upgrade_carries_the_key_and_no_dummy():
    sent = upgraded().to_server
    assert (sent.count(making.REAL.encode()), b"dummy" in sent, b"sec-websocket-protocol: realtime\r\n" in sent) == (
        1,
        False,
        True,
    )


def test_an_upgrade_is_answered():
    assert upgraded().to_client.startswith(b"HTTP/1.1 101")


def test_a_websocket_leaves_one_receipt_when_it_closes():
    one = upgraded()
    one.addons[2].websocket_end(one.flows[0])
    assert outcomes(one) == ["ok"]
