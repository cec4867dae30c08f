"""Recording servers: they take any connection, keep every byte they get, and answer like a simple provider."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

BODY = (
    b'{"id":"x","object":"chat.completion","model":"m",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PATIENCE = 20.0


@dataclass
class Seen:
    """One request as a server read it. `raw` is its head as it came (for HTTP/2 written out like HTTP/1)."""

    raw: bytes
    body: bytes = b""
    trailers: bytes = b""

    @property
    def method(self) -> bytes:
        return self.raw.split(b" ", 1)[0]

    @property
    def target(self) -> bytes:
        return self.raw.split(b" ", 2)[1]

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        lines = [line.partition(b":") for line in self.raw.split(b"\r\n")[1:] if line]
        return [(name.strip().lower(), value.strip()) for name, _, value in lines]

    def get(self, name: bytes) -> list[bytes]:
        """All values of a header, by its lower-case name."""
        return [value for known, value in self.fields if known == name]


@dataclass
class Record:
    """One connection: whom it wanted (SNI), every byte after TLS, and the requests in them."""

    server: str
    sni: str | None = None
    data: bytearray = field(default_factory=bytearray)
    requests: list[Seen] = field(default_factory=list)


Reply = Callable[[Seen], bytes]


def plain_reply(seen: Seen) -> bytes:
    """200 with a small answer; 101 to a WebSocket handshake."""
    if b"websocket" in b"".join(seen.get(b"upgrade")).lower():
        key = b"".join(seen.get(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
            % accept
        )
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Server:
    """A listening port on loopback. `contexts` by server name, "" for all others; without any it talks plainly."""

    def __init__(self, name: str, contexts: dict[str, ssl.SSLContext] | None = None, port: int = 0) -> None:
        self.name = name
        self.records: list[Record] = []
        self.reply: Reply = plain_reply
        self._contexts = contexts or {}
        for context in self._contexts.values():
            context.sni_callback = self._choose
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Close the port and all connections."""
        self._listener.close()
        for each in list(self._open):
            each.close()

    def _choose(self, connection: ssl.SSLSocket, name: str | None, _: object) -> None:
        connection.asked_for = name  # type: ignore[attr-defined]
        connection.context = self._contexts.get(name or "", self._contexts[""])

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                accepted.settimeout(_PATIENCE)
                threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        record = Record(self.name)
        self.records.append(record)
        self._open.add(connection)
        try:
            if self._contexts:
                connection = self._contexts[""].wrap_socket(connection, server_side=True)
                record.sni = getattr(connection, "asked_for", None)
            if isinstance(connection, ssl.SSLSocket) and connection.selected_alpn_protocol() == "h2":
                self._serve_h2(connection, record)
            else:
                _Http1(connection, record, self).run()
        except (OSError, ValueError, h2.exceptions.ProtocolError):
            pass  # a caller that went away; what it sent is kept
        finally:
            self._open.discard(connection)
            connection.close()

    def _serve_h2(self, connection: ssl.SSLSocket, record: Record) -> None:
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, validate_inbound_headers=False))
        state.initiate_connection()
        connection.sendall(state.data_to_send())
        streams: dict[int, Seen] = {}
        while data := connection.recv(65536):
            for event in state.receive_data(data):
                self._on_h2(event, streams, state, record)
            connection.sendall(state.data_to_send())

    def _on_h2(self, event: h2.events.Event, streams: dict[int, Seen], state: h2.connection.H2Connection, record: Record) -> None:
        if isinstance(event, h2.events.RequestReceived):
            fields = dict(event.headers)
            lines = [b"%s: %s" % pair for pair in event.headers]
            head = b"\r\n".join([b"%s %s HTTP/2" % (fields[b":method"], fields[b":path"]), *lines, b"", b""])
            streams[event.stream_id] = seen = Seen(head)
            record.requests.append(seen)
            record.data += head
        elif isinstance(event, h2.events.DataReceived):
            streams[event.stream_id].body += event.data
            record.data += event.data
            state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            streams[event.stream_id].trailers = b"\r\n".join(b"%s: %s" % pair for pair in event.headers)
            record.data += streams[event.stream_id].trailers
        elif isinstance(event, h2.events.StreamEnded):
            state.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/json")])
            state.send_data(event.stream_id, BODY, end_stream=True)


class _Http1:
    """Reads requests in the plainest way: a chunked body wins over a length, as at many origins."""

    def __init__(self, connection: socket.socket, record: Record, server: Server) -> None:
        self._connection, self._record, self._server = connection, record, server
        self._buffer = b""

    def run(self) -> None:
        """Until the other side closes."""
        while self._until(b"\r\n\r\n"):
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            seen = Seen(head + b"\r\n\r\n")
            self._record.requests.append(seen)
            self._read_body(seen)
            answer = self._server.reply(seen)
            self._connection.sendall(answer)
            if answer.startswith(b"HTTP/1.1 101"):
                while self._more():
                    pass
            if b"connection: close" in answer.lower():
                return

    def _read_body(self, seen: Seen) -> None:
        if b"chunked" in b",".join(seen.get(b"transfer-encoding")).lower():
            while self._until(b"\r\n"):
                line, _, self._buffer = self._buffer.partition(b"\r\n")
                size = int(line.split(b";")[0], 16)
                if size == 0:
                    self._until(b"\r\n")
                    seen.trailers, _, self._buffer = self._buffer.partition(b"\r\n")
                    return
                self._least(size + 2)
                seen.body += self._buffer[:size]
                self._buffer = self._buffer[size + 2 :]
            return
        length = int((seen.get(b"content-length") or [b"0"])[0])
        self._least(length)
        seen.body, self._buffer = self._buffer[:length], self._buffer[length:]

    def _until(self, mark: bytes) -> bool:
        while mark not in self._buffer:
            if not self._more():
                return False
        return True

    def _least(self, count: int) -> None:
        while len(self._buffer) < count and self._more():
            pass

    def _more(self) -> bool:
        data = self._connection.recv(65536)
        self._record.data += data
        self._buffer += data
        return bool(data) and not self._buffer.startswith(b"\x16")  # TLS where none is spoken
