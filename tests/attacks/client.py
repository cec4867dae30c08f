"""The attacker's side: raw bytes to the proxy's port, through tunnels, with any TLS name, as HTTP/1 or HTTP/2.

Nothing here checks anything: an attacker is not polite. Every byte that comes back is kept.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from .canaries import DUMMY, OPENAI

CHAT = b"/v1/chat/completions"
BODY = b'{"model":"gpt-4o","messages":[]}'
Headers = Sequence[tuple[bytes, bytes]]


def call(
    *, host: bytes | None = OPENAI.encode(), path: bytes = CHAT, target: bytes | None = None, method: bytes = b"POST",
    credential: bytes | None = b"Authorization: Bearer " + DUMMY, extra: bytes = b"", body: bytes = BODY,
    length: bytes | None = None, version: bytes = b"HTTP/1.1", close: bool = True,
) -> bytes:  # fmt: skip
    """A good call to a provider, unless something in it is changed. `extra` are raw header lines, each with its CRLF."""
    lines = [b"%s %s %s" % (method, target or path, version)]
    lines += [b"Host: " + host] if host is not None else []
    lines += [credential] if credential else []
    lines += [b"Content-Type: application/json"]
    lines += [b"Content-Length: " + (length or b"%d" % len(body))] if length != b"" else []
    lines += [b"Connection: close"] if close else []
    return b"\r\n".join(lines) + b"\r\n" + extra + b"\r\n" + body


def message(host: str = "api.anthropic.com", **changes: object) -> bytes:
    """The same, as a call to Anthropic."""
    body = b'{"model":"claude-sonnet-4-5","max_tokens":1,"messages":[]}'
    basics = {"host": host.encode(), "path": b"/v1/messages", "credential": b"x-api-key: " + DUMMY, "body": body}
    return call(**(basics | changes))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Answer:
    """One answer. HTTP/2 resets and GOAWAYs have the status 0."""

    status: int
    raw: bytes


def answers(data: bytes) -> list[Answer]:
    """The answers in a stream of bytes, as far as they can be read."""
    found = []
    while data.startswith(b"HTTP/") and b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        size = _body_size(head, rest)
        found.append(Answer(int(head.split(b" ")[1]), head + b"\r\n\r\n" + rest[:size]))
        data = rest[size:]
    return found


def _body_size(head: bytes, rest: bytes) -> int:
    status, lowered = int(head.split(b" ")[1]), head.lower()
    if status < 200 or status in (204, 304):
        return 0
    for line in lowered.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    end = rest.find(b"0\r\n\r\n") if b"transfer-encoding: chunked" in lowered else -1
    return end + 5 if end >= 0 else len(rest)


def _is_complete(data: bytes, count: int) -> bool:
    head = data.partition(b"\r\n\r\n")[0].lower()
    found = [answer for answer in answers(data) if answer.status >= 200 or answer.status == 101]
    if len(found) < count:
        return False
    last = found[-1].raw
    _, _, body = last.partition(b"\r\n\r\n")
    lowered = last.lower()
    if found[-1].status == 101 or b"content-length: 0" in lowered:
        return True
    return len(body) >= _body_size(last.partition(b"\r\n\r\n")[0], b"") and bool(body or b"content-length" not in head)


class Client:
    """One connection to the proxy. `closed`: the proxy ended it. `hung`: it was waited for in vain."""

    def __init__(self, port: int, host: str = "127.0.0.1", patience: float = 3.0) -> None:
        self.socket = socket.create_connection((host, port), timeout=patience)
        self.patience = patience
        self.seen = bytearray()
        self.answers: list[Answer] = []
        self.refused_tunnel = self.closed = self.hung = False

    # The way in.

    def connect(self, authority: str | bytes, extra: bytes = b"", host: bytes | None = None) -> bool:
        """Open a tunnel; whether it was."""
        raw = authority.encode("latin-1") if isinstance(authority, str) else authority
        self.send(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (raw, raw if host is None else host, extra))
        found = self._head()
        opened = found.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))
        if not opened:
            self.refused_tunnel = True
            self.answers += answers(found) or ([Answer(int(found.split(b" ")[1]), found)] if found.startswith(b"HTTP/") else [])
        return opened

    def tls(self, name: str | None, alpn: Sequence[str] = (), ca: Path | None = None) -> bool:
        """TLS with any server name, trusting anybody unless `ca` is given; whether it came about."""
        context = ssl.create_default_context(cafile=str(ca)) if ca else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ca is None:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(list(alpn))
        try:
            self.socket = context.wrap_socket(self.socket, server_hostname=name)
        except TimeoutError:
            self.hung = True
        except (OSError, ValueError):
            self.closed = True
        return isinstance(self.socket, ssl.SSLSocket)

    # Bytes.

    def send(self, data: bytes) -> None:
        """Send; that the proxy has closed already is no failure."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True

    def read(self, count: int = 1) -> bytes:
        """What comes until `count` answers are complete, the proxy closes, or patience ends."""
        data = bytearray()
        deadline = time.monotonic() + self.patience
        while not _is_complete(bytes(data), count) and (chunk := self._receive(deadline)):
            data += chunk
        self.answers += answers(bytes(data))
        return bytes(data)

    def listen(self, seconds: float = 0.3) -> bytes:
        """What comes within so many seconds; silence is no hanging."""
        data, hung, deadline = bytearray(), self.hung, time.monotonic() + seconds
        while chunk := self._receive(deadline):
            data += chunk
        self.hung = hung
        return bytes(data)

    def close(self) -> None:
        self.socket.close()

    def _head(self) -> bytes:
        data, deadline = bytearray(), time.monotonic() + self.patience
        while b"\r\n\r\n" not in data and (chunk := self._receive(deadline)):
            data += chunk
        return bytes(data) + (self.listen(0.05) if data and not data.startswith(b"HTTP/1.1 200") else b"")

    def _receive(self, deadline: float) -> bytes:
        try:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            chunk = self.socket.recv(65536)
        except TimeoutError:
            self.hung = True
            return b""
        except OSError:
            chunk = b""
        self.closed = self.closed or not chunk
        self.seen += chunk
        return chunk

    # HTTP/2.

    def h2(self, headers: Headers, body: bytes = BODY, trailers: Headers = (), *, end: bool = True) -> None:
        """One HTTP/2 request with headers as they are given, and its answer."""
        loose = h2.config.H2Configuration(
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
            header_encoding=None,
        )
        state = h2.connection.H2Connection(loose)
        state.initiate_connection()
        state.send_headers(1, headers)
        state.send_data(1, body, end_stream=end and not trailers)
        if trailers:
            state.send_headers(1, trailers, end_stream=True)
        self.send(state.data_to_send())
        self.answers.append(self._h2_answer(state))

    def _h2_answer(self, state: h2.connection.H2Connection) -> Answer:
        status, plain, deadline = 0, bytearray(), time.monotonic() + self.patience
        while data := self._receive(deadline):
            try:
                events = state.receive_data(data)
            except h2.exceptions.ProtocolError:
                break
            for event in events:
                if isinstance(event, h2.events.ResponseReceived):
                    fields = list(event.headers or ())
                    status = int(dict(fields)[b":status"])
                    plain += b"\r\n".join(b"%s: %s" % pair for pair in fields)
                elif isinstance(event, h2.events.DataReceived):
                    plain += event.data or b""
                elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated):
                    self.seen += plain
                    return Answer(status, bytes(plain))
            self.send(state.data_to_send())
        self.seen += plain
        return Answer(status, bytes(plain))


def h2_headers(
    authority: bytes = OPENAI.encode(), path: bytes = CHAT, extra: Headers = (), body: bytes = BODY, method: bytes = b"POST"
) -> list[tuple[bytes, bytes]]:
    """A good call as HTTP/2 headers."""
    pseudo = [(b":method", method), (b":scheme", b"https"), (b":authority", authority), (b":path", path)]
    plain = [
        (b"authorization", b"Bearer " + DUMMY),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    return [*pseudo, *plain, *extra]
