"""HTTP/1.1 and HTTP/2 on a socket: read requests, play scripts. The protocols themselves are `h11` and `h2`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import NoReturn

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h11

from . import sockets
from .wire_types import Broken, Fields, Piece, Request, Script

Answer = Callable[[Request], Script]
_CHUNK = 65536


class Cut(Exception):
    """A script breaks the connection here."""


class End(Exception):
    """A script ends the connection here, in good order."""


async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
    """Speak whatever was negotiated until the client is done. Broken connections end it quietly."""
    tls = writer.get_extra_info("ssl_object")
    talk = _Http2 if tls is not None and tls.selected_alpn_protocol() == "h2" else _Http1
    try:
        with contextlib.suppress(End):
            await talk(reader, writer, answer).run()
    except (ConnectionError, Cut, h11.RemoteProtocolError, h2.exceptions.ProtocolError, TimeoutError, ssl.SSLError):
        writer.transport.abort()
    finally:
        writer.close()


def _sni(writer: asyncio.StreamWriter) -> str | None:
    tls = writer.get_extra_info("ssl_object")
    return getattr(tls, "valetkey_sni", None) if tls is not None else None


class _Http1:
    """One HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
        self._reader, self._writer, self._answer = reader, writer, answer
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1024 * 1024)

    async def run(self) -> None:
        while (request := await self._request()) is not None:
            script = self._answer(request)
            if script.socket is not None:
                await self._talk(request, script)
                return
            await self._play(script, request.method == "HEAD")
            if self._connection.our_state is h11.MUST_CLOSE or self._connection.their_state is h11.MUST_CLOSE:
                return
            self._connection.start_next_cycle()

    async def _request(self) -> Request | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                if self._connection.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    self._writer.write(self._connection.send(go_on) or b"")
                self._connection.receive_data(await self._reader.read(_CHUNK))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return self._read(head, bytes(body))
            else:
                return None

    def _read(self, head: h11.Request, body: bytes) -> Request:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers.raw_items()]
        host = next((value for name, value in headers if name.lower() == "host"), "")
        method, path = head.method.decode(), head.target.decode()
        return Request(method, path, host, headers, body, "http/1.1", _sni(self._writer))

    async def _play(self, script: Script, head_only: bool) -> None:
        await asyncio.sleep(script.delay)
        if script.broken is not None:
            await self._break(script.broken)
        pieces = list(script.pieces) if script.whole else script.pieces
        headers: Fields = list(script.headers)
        if script.whole:
            headers.append(("content-length", str(sum(len(piece.data) for piece in pieces))))
        out = self._connection.send(h11.Response(status_code=script.status, headers=headers)) or b""
        for piece in pieces if not head_only else ():
            if piece.delay or piece.cut or piece.hold:
                await self._send(out)
                out = b""
                await _wait(piece, self._client_left)
            if piece.data:
                out += self._connection.send(h11.Data(data=piece.data)) or b""
            if not script.whole:
                await self._send(out)
                out = b""
        await self._send(out + (self._connection.send(h11.EndOfMessage()) or b""))
        script.sent()

    async def _talk(self, request: Request, script: Script) -> None:
        """Go over to a WebSocket."""
        assert script.socket is not None
        headers, extensions = sockets.handshake(request)
        switched = h11.InformationalResponse(status_code=script.status, headers=[*script.headers, *headers])
        await self._send(self._connection.send(switched) or b"")
        left = self._connection.trailing_data[0]
        try:
            await sockets.Socket(self._reader, self._writer, script.socket, extensions, left).run()
        except sockets.Broken:
            raise Cut from None

    async def _break(self, how: Broken) -> NoReturn:
        match how:
            case "eof":
                raise End
            case "headers_stall":
                await self._client_left()
            case "reset":
                _reset_on_close(self._writer)
        raise Cut

    async def _client_left(self) -> None:
        while await self._reader.read(_CHUNK):
            pass

    async def _send(self, data: bytes) -> None:
        if data:
            self._writer.write(data)
            await self._writer.drain()


class _Http2:
    """One HTTP/2 connection; each stream is played in a task of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
        self._reader, self._writer, self._answer = reader, writer, answer
        self._connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self._heads: dict[int, Fields] = {}
        self._bodies: dict[int, bytearray] = {}
        self._window = asyncio.Event()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        self._connection.initiate_connection()
        self._flush()
        try:
            while data := await self._reader.read(_CHUNK):
                for event in self._connection.receive_data(data):
                    self._handle(event)
                self._flush()
                await self._writer.drain()
        finally:
            for task in self._tasks.values():
                task.cancel()

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                assert event.stream_id is not None and event.headers is not None
                self._heads[event.stream_id] = [(str(name), str(value)) for name, value in event.headers]
                self._bodies[event.stream_id] = bytearray()
            case h2.events.DataReceived():
                assert event.stream_id is not None and event.data is not None
                self._bodies[event.stream_id] += event.data
                self._connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            case h2.events.StreamEnded():
                assert event.stream_id is not None
                self._begin(event.stream_id)
            case h2.events.StreamReset():
                assert event.stream_id is not None
                self._forget(event.stream_id)
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._window.set()

    def _forget(self, stream: int) -> None:
        self._heads.pop(stream, None)
        self._bodies.pop(stream, None)
        task = self._tasks.pop(stream, None)
        if task is not None:
            task.cancel()

    def _begin(self, stream: int) -> None:
        head, body = self._heads.pop(stream), bytes(self._bodies.pop(stream))
        pseudo = {name: value for name, value in head if name.startswith(":")}
        plain = [(name, value) for name, value in head if not name.startswith(":")]
        host = pseudo.get(":authority", "")
        request = Request(pseudo[":method"], pseudo[":path"], host, plain, body, "h2", _sni(self._writer))
        self._tasks[stream] = asyncio.get_running_loop().create_task(self._play(stream, self._answer(request)))

    async def _play(self, stream: int, script: Script) -> None:
        try:
            await asyncio.sleep(script.delay)
            if script.broken is not None:
                await self._break(script.broken)
            pieces = list(script.pieces) if script.whole else script.pieces
            headers = [(":status", str(script.status)), *((name.lower(), value) for name, value in script.headers)]
            if script.whole:
                headers.append(("content-length", str(sum(len(piece.data) for piece in pieces))))
            self._connection.send_headers(stream, headers)
            for piece in pieces:
                self._flush()
                await _wait(piece, _forever)
                await self._data(stream, piece.data)
            self._connection.end_stream(stream)
            self._flush()
            script.sent()
        except End:
            self._connection.close_connection(last_stream_id=max(0, stream - 2))
            self._flush()
            self._writer.close()
        except Cut:
            self._connection.reset_stream(stream, 2)
            self._flush()
        except (h2.exceptions.ProtocolError, ConnectionError):
            return
        finally:
            self._tasks.pop(stream, None)

    async def _break(self, how: Broken) -> NoReturn:
        if how == "headers_stall":
            await _forever()
        raise End if how == "eof" else Cut

    async def _data(self, stream: int, data: bytes) -> None:
        while data:
            room = min(self._connection.local_flow_control_window(stream), self._connection.max_outbound_frame_size)
            if room <= 0:
                self._window.clear()
                await self._window.wait()
                continue
            self._connection.send_data(stream, data[:room])
            data = data[room:]
            self._flush()
            await self._writer.drain()

    def _flush(self) -> None:
        data = self._connection.data_to_send()
        if data:
            self._writer.write(data)


async def _wait(piece: Piece, client_left: Callable[[], Awaitable[None]]) -> None:
    if piece.delay:
        await asyncio.sleep(piece.delay)
    if piece.hold:
        await client_left()
    if piece.cut or piece.hold:
        raise Cut


async def _forever() -> None:
    """Until the task is cancelled, which it is when the client resets its stream or leaves."""
    await asyncio.Event().wait()


def _reset_on_close(writer: asyncio.StreamWriter) -> None:
    """Let the end of a connection be seen as a reset (RST), not as its orderly end."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
