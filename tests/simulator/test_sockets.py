from __future__ import annotations

import json

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from valetkey.simulator import run_in_thread
from valetkey.simulator.sockets import handshake, is_asked_for
from valetkey.simulator.wire_types import Request

CREATE = json.dumps({"type": "response.create", "model": "gpt-4.1", "input": "hello " * 100})


@pytest.fixture(scope="module")
def simulator():
    with run_in_thread() as made:
        yield made


def opened(simulator, path="/v1/responses", **options):
    url = simulator.url.replace("http", "ws") + path
    return connect(url, proxy=None, additional_headers={"authorization": "Bearer key"} | options.pop("headers", {}), **options)


def answer(socket):
    """The events of an answer."""
    events = [json.loads(socket.recv())]
    while events[-1]["type"] != "response.completed":
        events.append(json.loads(socket.recv()))
    return events


@pytest.mark.parametrize("compression", ["deflate", None])
def test_an_answer_comes_whole_in_fragments_and_compressed(simulator, compression):
    with opened(simulator, compression=compression) as socket:
        socket.send(CREATE)
        assert "hello" in answer(socket)[-1]["response"]["output"][0]["content"][0]["text"]


def test_a_message_in_fragments_is_heard(simulator):
    with opened(simulator) as socket:
        socket.send([CREATE[:20], CREATE[20:]])
        assert answer(socket)[0]["type"] == "response.created"


def test_a_subprotocol_is_chosen(simulator):
    with opened(simulator, "/v1/realtime?model=m", subprotocols=["realtime"]) as socket:
        assert socket.subprotocol == "realtime"


def test_answers_are_counted(simulator):
    before = simulator.counts.spent
    with opened(simulator) as socket:
        socket.send(CREATE)
        usage = answer(socket)[-1]["response"]["usage"]
    now = simulator.counts.spent
    assert [b - a for a, b in zip(before, now, strict=True)] == [1, usage["input_tokens"], usage["output_tokens"]]


def test_a_fault_cuts_the_connection(simulator):
    with opened(simulator, headers={"x-simulate": "cut=2"}) as socket:
        socket.send(CREATE)
        with pytest.raises(ConnectionClosed):
            answer(socket)


@pytest.mark.parametrize(("path", "headers"), [("/v1/nothing", {}), ("/v1/responses", {"x-simulate": "status=429"})])
def test_what_is_refused_is_no_socket(simulator, path, headers):
    with pytest.raises(InvalidStatus):
        opened(simulator, path, headers=headers)


def test_a_ping_is_answered(simulator):
    with opened(simulator) as socket:
        assert socket.ping().wait(5)


def request(**headers):
    return Request(
        "GET", "/v1/responses", "h", [(name.replace("_", "-"), value) for name, value in headers.items()], b"", "http/1.1"
    )


@pytest.mark.parametrize("headers", [{}, {"upgrade": "h2c", "sec_websocket_key": "x"}, {"upgrade": "websocket"}])
def test_other_requests_ask_for_no_socket(headers):
    assert not is_asked_for(request(**headers))


def test_an_unknown_extension_is_not_taken():
    headers, extensions = handshake(request(sec_websocket_key="x", sec_websocket_extensions="x-webkit-deflate-frame"))
    assert (extensions, [name for name, _ in headers if "extensions" in name]) == ([], [])
