"""A provider that answers at once from prepared bytes: OpenAI chat, whole and streamed, over HTTP/1.1, plain and with TLS.

A program of its own that needs nothing but the standard library. It prints its ports as a line of JSON and ends with its stdin.
What it shall do stands in the prompt, which every gateway hands on: `bench EVENTS PACE HOLD` asks for a stream of EVENTS content
events, PACE ms apart (0: each as soon as the event loop comes round), and for a stop after HOLD of them (0: none) until SIGUSR1.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import ssl
import sys
from collections.abc import Callable
from functools import cache

WORD = "valet"
"""In every content event, and nowhere else in a stream."""
_INSTRUCTION = re.compile(rb"bench (\d+) (\d+) (\d+)")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_BACKLOG = 1024
_MODEL = "gpt-4o-2024-08-06"
_USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 50,
    "total_tokens": 170,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
_HEAD = (
    "HTTP/1.1 200 OK\r\ndate: Fri, 21 Nov 2025 09:00:00 GMT\r\ncontent-type: {kind}\r\n{framing}\r\n"
    "access-control-expose-headers: X-Request-ID\r\nopenai-organization: bench\r\nopenai-processing-ms: 1\r\n"
    "openai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 30000000\r\nx-ratelimit-limit-tokens: 150000000000\r\n"
    "x-ratelimit-remaining-requests: 29999999\r\nx-ratelimit-remaining-tokens: 149999999000\r\n"
    "x-ratelimit-reset-requests: 2ms\r\nx-ratelimit-reset-tokens: 0s\r\nx-request-id: req_0123456789abcdef0123456789abcdef\r\n"
    "strict-transport-security: max-age=31536000; includeSubDomains; preload\r\ncf-cache-status: DYNAMIC\r\n"
    "x-content-type-options: nosniff\r\nserver: cloudflare\r\ncf-ray: 8e4a1b2c3d4e5f60-FRA\r\n\r\n"
)


@cache
def whole() -> bytes:
    """A whole answer, of about 800 bytes without its head."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": " ".join([WORD] * 50), "refusal": None, "annotations": []},
        "logprobs": None,
        "finish_reason": "stop",
    }
    document = {"id": "chatcmpl-bench", "object": "chat.completion", "created": 1763715600, "model": _MODEL}
    body = json.dumps(document | {"choices": [choice], "usage": _USAGE, "system_fingerprint": "fp_bench"}).encode()
    return _HEAD.format(kind="application/json", framing=f"content-length: {len(body)}").encode() + body


@cache
def stream(events: int, with_usage: bool) -> tuple[bytes, ...]:
    """A streamed answer: its head with an event without content, `events` pieces with one content event each, the end."""
    head = _HEAD.format(kind="text/event-stream; charset=utf-8", framing="transfer-encoding: chunked").encode()
    first = _event({"role": "assistant", "content": "", "refusal": None}, None, with_usage)
    content = _event({"content": f" {WORD}"}, None, with_usage)
    last = [_event({}, "stop", with_usage)]
    if with_usage:
        last.append(_chunk(json.dumps(_chunk_document() | {"choices": [], "usage": _USAGE}, separators=(",", ":"))))
    return (head + first, *([content] * events), b"".join([*last, _chunk("[DONE]"), b"0\r\n\r\n"]))


def _event(delta: object, finish: str | None, with_usage: bool) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    document = _chunk_document() | {"choices": [choice]} | ({"usage": None} if with_usage else {})
    return _chunk(json.dumps(document, separators=(",", ":")))


def _chunk_document() -> dict[str, object]:
    document = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1763715600, "model": _MODEL}
    return document | {"service_tier": "default", "system_fingerprint": "fp_bench"}


def _chunk(data: str) -> bytes:
    payload = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(payload), payload)


class Provider(asyncio.Protocol):
    """One connection. Requests come one after the other."""

    held: list[Callable[[], None]] = []
    """Of all connections: what goes on with SIGUSR1."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._needed = 0
        self._pieces: tuple[bytes, ...] = ()
        self._next = self._pace = self._hold = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._needed and (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, end)
            self._needed = end + 4 + (int(length[1]) if length else 0)
        if self._needed and len(self._received) >= self._needed:
            request = bytes(self._received[: self._needed])
            del self._received[: self._needed]
            self._needed = 0
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        instruction = _INSTRUCTION.search(request)
        events, self._pace, self._hold = map(int, instruction.groups()) if instruction else (0, 0, 0)
        if not events:
            self._transport.write(whole())
            return
        self._pieces, self._next = stream(events, b"include_usage" in request), 0
        self._step()

    def _step(self) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(self._pieces[self._next])
        self._next += 1
        if self._next == len(self._pieces):
            return
        if self._hold and self._next == self._hold + 1:
            self.held.append(self._step)
        elif self._pace:
            self._loop.call_later(self._pace / 1000, self._step)
        else:
            self._loop.call_soon(self._step)


def _release() -> None:
    held, Provider.held[:] = list(Provider.held), []
    for step in held:
        step()


async def serve(cert: str, key: str) -> None:
    """Answer until stdin ends. The ports, plain and TLS, are free ones."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["http/1.1"])
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, _release)
    plain = await loop.create_server(Provider, "127.0.0.1", 0, backlog=_BACKLOG)
    tls = await loop.create_server(Provider, "127.0.0.1", 0, backlog=_BACKLOG, ssl=context)
    ports = (server.sockets[0].getsockname()[1] for server in (plain, tls))
    print(json.dumps(dict(zip(("plain", "tls"), ports, strict=True))), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
