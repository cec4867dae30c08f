"""An agent that speaks HTTP/2, with every frame in its own hands."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.events

from . import roads


@dataclass
class Stream:
    """What came on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    trailers: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    reset: int | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self.ended or self.reset is not None

    @property
    def status(self) -> int:
        return int(self.headers[":status"])


class Http2:
    """One connection; `acknowledge` off leaves the windows closed as they fill."""

    def __init__(self, connected: socket.socket, *, acknowledge: bool = True) -> None:
        self._socket = connected
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._acknowledge = acknowledge
        self._unread: dict[int, int] = {}
        self.streams: dict[int, Stream] = {}
        self._http.initiate_connection()
        self._flush()

    def ask(self, host: str, path: str, body: object, headers: Mapping[str, str]) -> int:
        """Begin a POST; the stream's number."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        number = self._http.get_next_available_stream_id()
        pseudo = [(":method", "POST"), (":scheme", "https"), (":authority", host), (":path", path)]
        fields = [("content-type", "application/json"), ("content-length", str(len(data))), *headers.items()]
        self.streams[number] = Stream()
        self._http.send_headers(number, [*pseudo, *fields])
        while data:
            room = min(self._http.local_flow_control_window(number), self._http.max_outbound_frame_size)
            if room <= 0:
                self._hear()
                continue
            self._http.send_data(number, data[:room])
            data = data[room:]
            self._flush()
        self._http.end_stream(number)
        self._flush()
        return number

    def cancel(self, number: int) -> None:
        """Reset a stream."""
        self._http.reset_stream(number, 8)
        self.streams[number].reset = 8
        self._flush()

    def read(self, number: int) -> None:
        """Open the window again by as much as came on a stream."""
        self._http.acknowledge_received_data(self._unread.pop(number, 0), number)
        self._acknowledge = True
        self._flush()

    def until(self, done: Callable[[], bool]) -> None:
        """Hear what comes until `done`."""
        while not done():
            self._hear()

    def finish(self, numbers: Sequence[int]) -> list[Stream]:
        """Hear until all these streams are over."""
        found = [self.streams[number] for number in numbers]
        self.until(lambda: all(stream.over for stream in found))
        return found

    def _hear(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("closed")
        for event in self._http.receive_data(data):
            self._take(event)
        self._flush()

    def _take(self, event: h2.events.Event) -> None:
        stream = self.streams.get(getattr(event, "stream_id", None) or 0)
        if stream is None:
            return
        match event:
            case h2.events.ResponseReceived():
                stream.headers = dict(event.headers or ())  # type: ignore[arg-type]
            case h2.events.TrailersReceived():
                stream.trailers = dict(event.headers or ())  # type: ignore[arg-type]
            case h2.events.DataReceived():
                stream.body += event.data or b""
                length = event.flow_controlled_length or 0
                if self._acknowledge:
                    self._http.acknowledge_received_data(length, event.stream_id or 0)
                else:
                    self._unread[event.stream_id or 0] = self._unread.get(event.stream_id or 0, 0) + length
            case h2.events.StreamEnded():
                stream.ended = True
            case h2.events.StreamReset():
                stream.reset = int(event.error_code or 0)

    def _flush(self) -> None:
        data = self._http.data_to_send()
        if data:
            self._socket.sendall(data)

    def __enter__(self) -> Http2:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def http2(proxy_port: int, host: str, ca: Path, **options: bool) -> Http2:
    """A connection to `host` through a proxy."""
    return Http2(roads.tls(roads.tunnelled(proxy_port, host), ca, host, "h2"), **options)
