"""Failover in the stream layer, the rarer endings: killed flows, agents that leave, large requests."""

from __future__ import annotations

import logging

import pytest
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import events

from support import making
from support.playing import Play
from support.scripted import Receipts

PORT = 8999
RULES = """
version: 1
gateway: {egress_allow: ["127.0.0.1:%d"]%s}
providers:
  lab: {like: openai, upstream: "http://127.0.0.1:%d", keys: [env:LAB_API_KEY], rotation: round_robin, open: [files]}
"""
KEYS = {"lab/a": "sk-proj-AAAAaaaaAAAAaaaa0001", "lab/b": "sk-proj-BBBBbbbbBBBBbbbb0002"}
HI = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'
RESET = ConnectionError


def request(body=b'{"model":"m","messages":[]}', path=b"/v1/chat/completions", extra=b""):
    head = b"POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer sk-dummy\r\n" % (path, PORT)
    return head + extra + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def answer(body=HI, status=200, length=None, extra=b""):
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n%s" % (status, extra)
    return head + b"content-length: %d\r\n\r\n" % (length or len(body)) + body


THROTTLED = answer(b'{"error":{"message":"no","code":"rate_limit_exceeded"}}', 429)
FAILED = answer(b'{"error":{"message":"no"}}', 500)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM = request(b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}')


def chunks(*parts):
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


ROLE = b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
WORD = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
GOOD = HEAD + chunks(ROLE, WORD, b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Provider:
    """Answers each head of a request it gets as scripted, at once; the last answer is repeated."""

    def __init__(self, *answers):
        self.answers, self.requests = list(answers), 0

    def __call__(self, data):
        heads = data.count(b" HTTP/1.1\r\n")
        if heads == self.requests:
            return None
        self.requests = heads
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if found is RESET:
            raise ConnectionError
        return found


class Disturbed(Play):
    """A play in which something happens before the event number `at`, or when a hook was called."""

    disturb = staticmethod(lambda play, number: None)

    async def _play(self, layer):
        end, self.steps = self.time.now + self.patience, 0
        while self._queue or self.time.advance(end):
            if self._queue:
                self.disturb(self, self.steps)
                self.steps += 1
                for command in list(layer.handle_event(self._queue.popleft())):
                    await self._perform(command)

    def leave(self):
        self._client.state = ConnectionState.CAN_WRITE
        self._queue.appendleft(events.ConnectionClosed(self._client))

    def kill(self):
        if self.flows and self.flows[0].killable:
            self.flows[0].kill()


class Shaking(Disturbed):
    """The first connection opens, and its TLS handshake never ends."""

    def _connect(self, command):
        first = self.upstream is None
        if not first:
            super()._connect(command)
            return
        self.upstream = command.connection
        command.connection.state = ConnectionState.OPEN


def play(*answers, kind=Disturbed, requests=(), gateway="", patience=60.0, connect_error=None, disturb=None, keys=2, leave=False):
    made = making.runtime(RULES % (PORT, gateway, PORT), keys=dict(list(KEYS.items())[:keys]))
    made.writer = Receipts()
    one = kind(made, PORT, Provider(*answers), connect_error, patience)
    if disturb is not None:
        one.disturb = disturb
    return one.run(*(requests or [request()]), leave=leave)


def receipt(one):
    (found,) = one.runtime.writer.all
    return found


def outcomes(one):
    return [attempt.outcome for attempt in receipt(one).attempts]


# Expect: 100-continue.

EXPECTING = request(extra=b"expect: 100-continue\r\n")


@pytest.mark.parametrize("trouble", [RESET, THROTTLED, FAILED])
def test_a_call_that_was_told_to_continue_is_spared_an_error(trouble):
    assert b"HTTP/1.1 200" in play(trouble, answer(), requests=[EXPECTING]).to_client


def test_a_call_that_was_told_to_continue_gets_the_refusal_of_a_defect():
    one = play(answer(), requests=[EXPECTING], disturb=lambda play, _: setattr(play.runtime, "own_ports", None))
    assert b"x-valetkey-refusal: gateway_error" in one.to_client


# Requests that stream through.

LARGE = request(b"x" * 1000, b"/v1/files")
PARTS = [LARGE[:-500], LARGE[-500:]]
SMALL = ", max_body: 10 B"


def test_a_streamed_request_that_is_not_connected_is_tried_again_and_sent_once():
    one = play(None, requests=PARTS, gateway=SMALL, connect_error=["refused"], patience=1.0)
    assert one.to_server.count(b"x" * 1000) == 1


@pytest.mark.parametrize(("trouble", "status"), [(FAILED, b"500"), (RESET, b"502")])
def test_a_streamed_request_that_fails_half_way_leaves_the_connection_usable(trouble, status):
    one = play(trouble, answer(), requests=[*PARTS, request(b"x", b"/v1/files")], gateway=SMALL)
    assert (one.to_client.count(b"HTTP/1.1 " + status), one.to_client.count(b"HTTP/1.1 200")) == (1, 1)


# Whoever ends a call, and whenever: one receipt, one last hook, nothing kept.

SCENES = {
    "throttled": ((THROTTLED, GOOD), {"requests": [STREAM]}),
    "failed": ((FAILED, FAILED, GOOD), {"requests": [STREAM]}),
    "reset": ((RESET, answer()), {}),
    "refused": ((answer(),), {"connect_error": ["refused"]}),
    "hanging": ((answer(),), {"connect_error": ["hangs"]}),
    "no answer": ((None, GOOD), {"requests": [STREAM], "gateway": ", timeouts: {first_byte: 5s}"}),
    "silent": ((HEAD, GOOD), {"requests": [STREAM], "gateway": ", timeouts: {hold: 2s}"}),
    "stalled": ((answer(b"{", 200, 1000), answer()), {"patience": 2000.0}),
    "broken": ((THROTTLED, HEAD + chunks(ROLE, WORD)), {"requests": [STREAM], "patience": 2000.0}),
    "pausing": ((answer(b"{}", 429, extra=b"retry-after: 7\r\n"), answer()), {"keys": 1}),
}


def endings(name, how):
    """What is wrong after each play of a scene that was disturbed at one of its moments."""
    answers, options = SCENES[name]
    found, moment, last = [], 2, 3
    while moment < last:
        one = play(*answers, disturb=lambda play, number, at=moment: getattr(play, how)() if number == at else None, **options)
        held = (one.layer.streams, [one.runtime.pools.slots.active(key) for key in KEYS])
        ends = one.hooks.count("response") + one.hooks.count("error")
        if (len(one.runtime.writer.all), ends, held) != (1, 1, ({}, [0, 0])):
            found.append((moment, one.runtime.writer.all, one.hooks, held))
        moment, last = moment + 1, min(one.steps, 60)
        # mitmproxy's handlers outlive the event loop that they write to.
        for handler in [each for each in logging.getLogger().handlers if "mitmproxy" in type(each).__module__]:
            logging.getLogger().removeHandler(handler)
    return found


@pytest.mark.parametrize("how", ["leave", "kill"])
@pytest.mark.parametrize("name", SCENES)
def test_a_call_that_is_ended_at_any_moment_is_settled_once_and_leaves_nothing(name, how):
    assert endings(name, how) == []


def test_a_client_that_leaves_during_a_pause_is_noted():
    one = play(answer(b"{}", 429, extra=b"retry-after: 50\r\n"), keys=1, leave=True, patience=10.0)
    assert "client_left" in receipt(one).notes


def test_a_pause_that_ends_with_the_process_is_no_fault_of_the_agent():
    def disturb(play, number):
        play.runtime.ending = lambda: True

    one = play(answer(b"{}", 429, extra=b"retry-after: 50\r\n"), keys=1, leave=True, patience=10.0, disturb=disturb)
    assert receipt(one).outcome == "shutdown"


def test_a_handshake_that_does_not_end_in_time_is_given_up():
    assert outcomes(play(answer(), kind=Shaking)) == ["timeout", "ok"]


def test_a_client_that_leaves_during_a_handshake_ends_the_call():
    one = play(answer(), kind=Shaking, leave=True, patience=0.0)
    assert (receipt(one).outcome, one.layer.streams) == ("client", {})


# WebSockets.

UPGRADE = (
    b"GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer sk-dummy\r\n\r\n" % PORT
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
FRAME = b"\x81\x85\x00\x00\x00\x00hello"


def test_a_websocket_that_was_throttled_first_is_opened():
    assert play(THROTTLED, SWITCHED, requests=[UPGRADE]).to_client.startswith(b"HTTP/1.1 101")


def test_messages_go_to_the_provider_that_opened_the_websocket():
    one = play(THROTTLED, SWITCHED, requests=[UPGRADE], patience=0.0, disturb=_say_something)
    assert one.flows[0].websocket.messages[0].content == b"hello"


def _say_something(play, number):
    if b" 101 " in play.to_client and not getattr(play, "said", False):
        play.said = True
        play._queue.append(events.DataReceived(play._client, FRAME))


def test_a_websocket_that_is_killed_before_it_begins_is_settled():
    one = play(SWITCHED, requests=[UPGRADE], disturb=lambda play, _: "response" in play.hooks and play.kill())
    assert (len(one.runtime.writer.all), one.layer.streams, one.runtime.pools.slots.active("lab/a")) == (1, {}, 0)
