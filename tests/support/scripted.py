"""Calls to a provider that answers as scripted, played: what it is sent, what the agent gets, what is remembered."""

from __future__ import annotations

import json

from support import making
from support.playing import Play

PORT = 8999
RULES = """
version: 1
gateway: {egress_allow: ["127.0.0.1:%d"]%s}
providers:
  lab: {like: LIKE, upstream: "http://127.0.0.1:%d", keys: [env:LAB_API_KEY], rotation: round_robin%s}
%s
"""
A, B = "sk-proj-AAAAaaaaAAAAaaaa0001", "sk-proj-BBBBbbbbBBBBbbbb0002"
BODY = b'{"model":"m","messages":[]}'
STREAM = b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}'


def request(body=BODY, path=b"/v1/chat/completions", extra=b""):
    return (
        b"POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer sk-dummy\r\n" % (path, PORT)
        + b"content-type: application/json\r\n" + extra + b"content-length: %d\r\n\r\n" % len(body) + body
    )  # fmt: skip


HI = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'


def answer(body=HI, status=200, kind=b"application/json", extra=b"", length=None):
    head = b"HTTP/1.1 %d X\r\ncontent-type: %s\r\n%scontent-length: %d\r\n\r\n"
    return head % (status, kind, extra, length or len(body)) + body


def error(status, extra=b"", **details):
    return answer(json.dumps({"error": {"message": "no", **details}}).encode(), status, extra=extra)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunks(*events):
    return b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)


def event(**document):
    return b"data: " + json.dumps(document).encode() + b"\n\n"


ROLE = event(choices=[{"delta": {"role": "assistant"}}])
WORD = event(choices=[{"delta": {"content": "hi"}}])
STOP = event(choices=[{"delta": {}, "finish_reason": "stop"}])
DONE = b"data: [DONE]\n\n"
GOOD_STREAM = HEAD + chunks(ROLE, WORD, STOP, DONE) + b"0\r\n\r\n"
OVERLOADED = event(error={"message": "overloaded", "code": "server_is_overloaded"})
RESET = ConnectionError


class Provider:
    """Answers the requests it gets, one after the other, as scripted; the last answer is repeated."""

    def __init__(self, *answers):
        self.answers, self.requests = list(answers), 0

    def __call__(self, data):
        if data.count(b"POST ") == self.requests or not data.rpartition(b"\r\n\r\n")[2]:
            return None
        self.requests += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if found is RESET:
            raise ConnectionError
        return found


class Receipts:
    healthy = True

    def __init__(self):
        self.all = []

    def submit(self, receipt):
        self.all.append(receipt)


def play(
    *answers,
    body=BODY,
    keys=2,
    gateway="",
    provider="",
    routes="",
    connect_error=None,
    leave=False,
    patience=60.0,
    times=1,
    **options,
):
    held = {"lab/a": A, "lab/b": B} if keys == 2 else {"lab/a": A}
    text = RULES.replace("LIKE", options.pop("like", "openai"))
    made = making.runtime(text % (PORT, gateway, PORT, provider, routes), keys=held | options.pop("more", {}))
    made.writer = Receipts()
    path, requests = options.pop("path", b"/v1/chat/completions"), options.pop("requests", ())
    one = Play(made, PORT, Provider(*answers), connect_error, patience)
    for name, value in options.items():
        setattr(one, name, value)
    return one.run(*(requests or [request(body, path)] * times), leave=leave)


def tries(one):
    (receipt,) = one.runtime.writer.all
    return [(attempt.key, attempt.outcome) for attempt in receipt.attempts]


def receipt(one):
    (found,) = one.runtime.writer.all
    return found


def status(one):
    return int(one.to_client.split(b" ", 2)[1])
