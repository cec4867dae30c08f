"""C.7: money (61-71). Budgets come later; what is attacked here is that every call is booked, once, and at its price."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from support.processes import wait_for

from .canaries import ANTHROPIC, OPENAI
from .client import call, message
from .evidence import Evidence, Expectation, absent, all_of, attack, calls_at_most, refused
from .range import Range
from .servers import Reply, Seen

_NEVER_FREE = "booked by an estimate, never as free"
_MODEL = b'{"model":"gpt-4o","messages":[{"role":"user","content":"tell me a long story about money"}]}'
_STREAM = _MODEL[:-1] + b',"stream":true}'
_CLAUDE = b'{"model":"claude-sonnet-4-5","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"tell me a story"}]}'
_MOST = 10**12
"""No answer has more tokens."""


# What the provider says, and what was booked.


def _whole(usage: object, model: str = "gpt-4o") -> Reply:
    """A whole answer of OpenAI's or Anthropic's with this usage; None leaves it out."""
    document = {"id": "x", "model": model, "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}
    document |= {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"}
    return _json(document | ({} if usage is None else {"usage": usage}))


def _json(document: object, status: bytes = b"200 OK") -> Reply:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    return lambda _: head + body


def _events(*events: object, ends: bool = True) -> Reply:
    """A stream of events; one that does not end leaves the connection open."""
    lines = [b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n" for event in events]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines) + (b"0\r\n\r\n" if ends else b"")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return lambda _: head + chunks


def _chunk(**members: object) -> dict[str, object]:
    choice = {"index": 0, "delta": {"content": "Once upon a time there was a key. "}, "finish_reason": None}
    return {"id": "x", "object": "chat.completion.chunk", "model": "gpt-4o", "choices": [choice]} | members


_BEGUN = {"type": "message_start", "message": {"id": "m", "model": "claude-sonnet-4-5", "usage": {"input_tokens": 1000}}}
_TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Once upon a time there was a key."}}


def _named(here: Range, data: bytes, reply: Reply, host: str = OPENAI) -> None:
    """Make a call under a name of its own, and look up what was booked for it."""
    agent = _name(here)
    here.script(reply)
    here.inside(_as(data, agent), host)
    _book(here, agent)


def _name(here: Range) -> str:
    return f"c7-{time.monotonic_ns()}"


def _as(data: bytes, agent: str) -> bytes:
    return data.replace(b"sk-dummy", b"sk-dummy-" + agent.encode(), 1)


def _book(here: Range, agent: str) -> None:
    assert here.started is not None
    gateway = here.started
    here._receipts += wait_for(lambda: [each for each in gateway.receipts() if each["agent"] == agent], "the receipt")


def _booked(judge: Callable[[Mapping[str, Any]], str | None]) -> Expectation:
    """One receipt was written, and nothing speaks against it."""

    def expect(evidence: Evidence) -> str | None:
        if len(evidence.receipts) != 1:
            return f"{len(evidence.receipts)} receipts were written, not one"
        return judge(evidence.receipts[0])

    return expect


def _cost(receipt: Mapping[str, Any]) -> Decimal | None:
    return None if receipt["cost_usd"] is None else Decimal(receipt["cost_usd"])


def _costs(wanted: str | None) -> Expectation:
    """The price, to the last digit; None where there is none."""

    def judge(receipt: Mapping[str, Any]) -> str | None:
        cost = _cost(receipt)
        right = cost is None if wanted is None else cost == Decimal(wanted)
        return None if right else f"it was booked with {cost}, not {wanted}"

    return _booked(judge)


def _is_estimated(receipt: Mapping[str, Any]) -> str | None:
    cost = _cost(receipt)
    if receipt["usage_source"] == "estimated" and cost is not None and cost > 0:
        return None
    return f"it was booked with {cost}, usage {receipt['usage_source']}"


# 60 and 61: budgets.

absent("C6", 60, "one agent uses up another's budget", "there are no budgets and no limits per agent yet")
absent("C7", 61, "a thousand calls at the last cent", "there are no budgets yet, so there is nothing to exceed")


# 62. The agent leaves before usage arrives.


def _late(_: Seen) -> bytes:
    time.sleep(0.6)
    return b""


@attack(
    62,
    "the agent leaves",
    _NEVER_FREE,
    _booked(_is_estimated),
    each={
        "in a stream of chunks": (OPENAI, call(body=_STREAM), _events(_chunk(), _chunk(), ends=False)),
        "in a stream of messages": (ANTHROPIC, message(body=_CLAUDE), _events(_BEGUN, _TEXT, ends=False)),
        "before the answer": (OPENAI, call(body=_MODEL), _late),
    },
    own_process=True,
)
def leaving(here: Range, what: tuple[str, bytes, Reply]) -> None:
    host, data, reply = what
    agent = _name(here)
    here.script(reply)
    client = here.tunnel(host)
    client.send(_as(data, agent))
    client.listen(0.3)
    client.close()
    _book(here, agent)


# 63. Usage is left out.


def _asked_for(evidence: Evidence) -> str | None:
    asked = all(b'"include_usage":true' in seen.body for seen in evidence.requests)
    return None if asked else "usage was not asked for"


@attack(
    63,
    "usage is left out",
    _NEVER_FREE,
    _booked(_is_estimated),
    each={
        "of a body": (call(body=_MODEL), _whole(None)),
        "of a body: null": (
            call(body=_MODEL),
            _json(b'{"model":"gpt-4o","usage":null,"choices":[{"message":{"content":"hi"}}]}'),
        ),
        "of a body: empty": (call(body=_MODEL), _whole({})),
        "of a stream": (call(body=_STREAM), _events(_chunk(), b"[DONE]")),
        "of a stream: null": (call(body=_STREAM), _events(_chunk(usage=None), b"[DONE]")),
    },
    own_process=True,
)
def omitted(here: Range, what: tuple[bytes, Reply]) -> None:
    _named(here, *what)


@attack(
    63,
    "usage is not asked for",
    "the gateway asks for it, and hides what the agent did not ask for",
    all_of(_asked_for, _booked(lambda receipt: None if receipt["usage_source"] == "reported" else "it was not reported")),
    each={"no word": _STREAM, "false": _STREAM[:-1] + b',"stream_options":{"include_usage":false}}'},
    own_process=True,
)
def not_asked(here: Range, body: bytes) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    _named(here, call(body=body), _events(_chunk(), _chunk(choices=[], usage=usage), b"[DONE]"))


# 64. Zero is not nothing.


@attack(
    64,
    "usage is reported as zero",
    "booked as zero, as reported: not the same as left out",
    all_of(_costs("0"), _booked(lambda receipt: None if receipt["usage"].get("output_tokens") == 0 else "the zero is not there")),
    own_process=True,
)
def zeros(here: Range) -> None:
    _named(here, call(), _whole({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}))


# 65 and 66. Prices, worked out by hand from the providers' pages.

_CACHED = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 400_000}}
_WRITES = {"ephemeral_5m_input_tokens": 20_000, "ephemeral_1h_input_tokens": 30_000}
_CACHES = {
    "input_tokens": 1_000,
    "cache_read_input_tokens": 100_000,
    "cache_creation_input_tokens": 50_000,
    "cache_creation": _WRITES,
    "output_tokens": 1_000,
}
_MILLION = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000}


@attack(65, "cached tokens: read", "counted once, at their own price", _costs("2.00"), own_process=True)
def cache_read(here: Range) -> None:
    _named(here, call(), _whole(_CACHED))  # 600 000 at $2.50 and 400 000 at $1.25 per million


@attack(65, "cached tokens: written and read", "each at its own price", _costs("0.303"), own_process=True)
def cache_written(here: Range) -> None:
    # Per million: $3.00 input, $0.30 read, $3.75 written for 5 minutes, $6.00 for an hour, $15.00 output.
    _named(here, message(), _whole(_CACHES, "claude-sonnet-4-5"), ANTHROPIC)


@attack(65, "a model nobody knows", "no price, and said so: not zero", _costs(None), own_process=True)
def unknown_model(here: Range) -> None:
    _named(here, call(body=b'{"model":"no-such-model","messages":[]}'), _whole(_MILLION, "no-such-model"))


@attack(
    66,
    "another model than was asked for",
    "priced as the model that answered",
    _costs("2.50"),
    each={"a dearer one": "gpt-4o", "with a date": "gpt-4o-2024-08-06"},
    own_process=True,
)
def alias(here: Range, model: str) -> None:
    _named(here, call(body=b'{"model":"gpt-4o-mini","messages":[]}'), _whole(_MILLION, model))


@attack(66, "a long context", "at the price of long ones", _costs("1.8225"), own_process=True)
def long_context(here: Range) -> None:
    usage = {"input_tokens": 300_000, "output_tokens": 1_000}  # above 200 000: $6.00 and $22.50 per million
    _named(here, message(), _whole(usage, "claude-sonnet-4-5"), ANTHROPIC)


# 67. Free and dear endpoints.


@attack(
    67,
    "a free endpoint",
    "no cost",
    _booked(lambda receipt: f"it was booked with {receipt['cost_usd']}" if _cost(receipt) else None),
    each={
        "models": (OPENAI, call(method=b"GET", path=b"/v1/models", body=b""), {"data": []}),
        "counting": (ANTHROPIC, message(path=b"/v1/messages/count_tokens"), {"input_tokens": 12}),
    },
    own_process=True,
)
def free(here: Range, what: tuple[str, bytes, object]) -> None:
    host, data, document = what
    _named(here, data, _json(document), host)


@attack(
    67,
    "a dear endpoint without a price",
    "closed unless the rules open it",
    refused(403, 405),
    each={
        "files": b"/v1/files",
        "batches": b"/v1/batches",
        "fine tuning": b"/v1/fine_tuning/jobs",
        "assistants": b"/v1/assistants",
        "videos": b"/v1/videos",
        "containers": b"/v1/containers",
        "realtime": b"/v1/realtime/sessions",
    },
)
def dear(here: Range, path: bytes) -> None:
    here.inside(call(path=path))


_SOUND = b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 4\r\n\r\nID3\0"
_SPEECH = b'{"model":"tts-1","voice":"alloy","input":"%s"}' % (b"a" * 1000)


@attack(67, "speech, which reports no usage", "priced by the character", _costs("0.015"), own_process=True)
def speech(here: Range) -> None:
    _named(here, call(path=b"/v1/audio/speech", body=_SPEECH), lambda _: _SOUND)


@attack(67, "image variations, which report no usage", "priced by the image", _costs("0.036"), own_process=True)
def variations(here: Range) -> None:
    body = b'{"model":"dall-e-2","n":2,"size":"512x512"}'
    _named(here, call(path=b"/v1/images/variations", body=body), _json({"created": 1, "data": [{"url": "x"}, {"url": "y"}]}))


_FILES = "providers: {openai: {open: [files, batches]}}"
_LINE = b'{"response":{"body":{"model":"gpt-4o","usage":{"prompt_tokens":1000000,"completion_tokens":0}}}}\n'
_RESULTS = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % len(_LINE) + _LINE


def _costs_once(evidence: Evidence) -> str | None:
    found = [each["cost_usd"] for each in evidence.receipts]
    return None if found == ["1.25", None] else f"two fetches were booked with {found}"


@attack(67, "the results of a batch, fetched twice", "counted once, at the price of batches", _costs_once, own_process=True)
def batch_results(here: Range) -> None:
    with here.gateway(rules=_FILES) as started:
        here.script(lambda _: _RESULTS)
        for _ in range(2) if started else ():
            here.inside(call(method=b"GET", path=b"/v1/files/file-1/content", body=b""))


# 68. Failover.

_SECOND = {"OPENAI_API_KEY_2": "sk-proj-SECOND1openaiGGGGGGGGGGGGGGGGGGGGGG"}


def _first(one: Reply, other: Reply) -> Reply:
    """One answer to the first call, another to all that follow."""
    replies = [one]
    return lambda seen: (replies.pop() if replies else other)(seen)


def _charged_once(receipt: Mapping[str, Any]) -> str | None:
    if len(receipt["attempts"]) != 2:
        return f"{len(receipt['attempts'])} attempts are in the receipt, not two"
    return None if _cost(receipt) == Decimal("2.50") else f"it was booked with {_cost(receipt)}"


@attack(
    68,
    "an attempt fails and is made again",
    "one receipt with both attempts, charged once",
    _booked(_charged_once),
    each={
        "500 that names usage": _json({"error": {"message": "no"}, "usage": _MILLION, "model": "gpt-4o"}, b"500 Oops"),
        "error in a 200": _json({"error": {"message": "no", "type": "server_error"}, "usage": _MILLION, "model": "gpt-4o"}),
    },
    own_process=True,
)
def failing_over(here: Range, failure: Reply) -> None:
    with here.gateway(env=_SECOND) as started:
        here.script(_first(failure, _whole(_MILLION)))
        if started:
            here.inside(call(body=_MODEL))


# 69. Storms of retries.


@attack(
    69,
    "an upstream that always fails",
    "few attempts, one deadline",
    all_of(calls_at_most(16), _booked(lambda receipt: "more than 16 attempts" if len(receipt["attempts"]) > 16 else None)),
    each={
        "500": _json({"error": {"message": "no"}}, b"500 Oops"),
        "429 at once again": lambda _: b"HTTP/1.1 429 No\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\n{}",
        "error as first event": _events({"error": {"message": "overloaded", "type": "overloaded_error"}}),
        "no answer at all": lambda _: b"",
        "an empty answer": _json({"choices": [], "model": "gpt-4o"}),
    },
    own_process=True,
)
def storm(here: Range, failure: Reply) -> None:
    def reply(seen: Seen) -> bytes:
        return failure(seen) or b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\n"

    with here.gateway(env=_SECOND) as started:
        here.script(reply)
        if started:
            here.inside(call(body=_STREAM))


# 70. Clocks and restarts.


@attack(70, "a restart while a key rests", "the rest goes on", calls_at_most(1), own_process=True)
def restart(here: Range) -> None:
    with here.gateway() as started:
        here.script(lambda _: b"HTTP/1.1 429 No\r\nRetry-After: 900\r\nContent-Length: 2\r\n\r\n{}")
        for again in (False, True) if started else ():
            if again:
                started.stop()
                started.start()
            here.inside(call(body=_MODEL))


@attack(
    70,
    "an upstream whose clock is wrong",
    "the next call is not made a century later",
    _booked(lambda receipt: None if receipt["status"] == 200 else f"ended with {receipt['status']}"),
    each={"past": b"Thu, 01 Jan 1970 00:00:00 GMT", "future": b"Fri, 01 Jan 2199 00:00:00 GMT"},
    own_process=True,
)
def wrong_clock(here: Range, date: bytes) -> None:
    body = _whole(_MILLION)

    def reply(seen: Seen) -> bytes:
        return body(seen).replace(b"\r\n", b"\r\nDate: %s\r\n" % date, 1)

    _named(here, call(body=_MODEL), reply)


# 71. Hostile numbers.


def _sane(receipt: Mapping[str, Any]) -> str | None:
    counts = list(receipt["usage"].values())
    if not all(isinstance(count, int) and 0 <= count <= _MOST for count in counts):
        return f"booked usage {counts}"
    cost = _cost(receipt)
    if cost is None or not 0 < cost < 1000:
        return f"it was booked with {cost}"
    return None


_HOSTILE = {
    "negative": b'{"prompt_tokens":-1000000,"completion_tokens":-5}',
    "negative output": b'{"prompt_tokens":10,"completion_tokens":-1000000}',
    "NaN": b'{"prompt_tokens":NaN,"completion_tokens":1}',
    "infinite": b'{"prompt_tokens":Infinity,"completion_tokens":1}',
    "too large for a float": b'{"prompt_tokens":1e999,"completion_tokens":1}',
    "huge": b'{"prompt_tokens":1000000000000000000000,"completion_tokens":1}',
    "five thousand digits": b'{"prompt_tokens":' + b"9" * 5000 + b',"completion_tokens":1}',
    "text": b'{"prompt_tokens":"-7","completion_tokens":"many"}',
    "a list": b'{"prompt_tokens":[1],"completion_tokens":{}}',
    "a list in place of all": b"[1,2,3]",
    "text in place of all": b'"free"',
    "more cached than sent": b'{"prompt_tokens":10,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":1000000}}',
    "negative cached": b'{"prompt_tokens":10,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":-1000000}}',
    "nested deeply": b'{"prompt_tokens":' + b"[" * 3000 + b"]" * 3000 + b"}",
}


@attack(
    71,
    "hostile numbers",
    "no count of the ledger is one that cannot be; booked by an estimate",
    _booked(_sane),
    each={f"{name}, {kind}": (kind, usage) for name, usage in _HOSTILE.items() for kind in ("whole", "stream")},
    own_process=True,
)
def hostile(here: Range, what: tuple[str, bytes]) -> None:
    kind, usage = what
    if kind == "whole":
        body = b'{"model":"gpt-4o","choices":[{"message":{"content":"hi there, all of you"}}],"usage":%s}' % usage
        _named(here, call(body=_MODEL), _json(body))
    else:
        last = b'{"model":"gpt-4o","choices":[],"usage":%s}' % usage
        _named(here, call(body=_STREAM), _events(_chunk(), last, b"[DONE]"))
