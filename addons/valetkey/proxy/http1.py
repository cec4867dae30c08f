"""HTTP/1 as mitmproxy reads it, with bounds, and without what nobody asked for.

mitmproxy's reader holds a head of any length for any time, dies of trailers, and takes an interim answer (RFC 9110, 15.2) for
the final one. `HttpLayer` looks the two classes up by their module names for every connection, so `install` replaces those
names and `uninstall` puts them back.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from types import CodeType
from typing import ClassVar, cast

from h11._readers import ChunkedReader, ContentLengthReader
from h11._receivebuffer import ReceiveBuffer, blank_line_regex
from mitmproxy import connection
from mitmproxy.http import Request, Response
from mitmproxy.http import RequestData as RequestFields
from mitmproxy.http import ResponseData as ResponseFields
from mitmproxy.net.http import http1
from mitmproxy.net.http.http1 import assemble, read
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http import (
    Http1Client,
    Http1Server,
    HttpEvent,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
)
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._http1 import Http1Connection, make_body_reader
from mitmproxy.utils import human

from ..formats import EVENT_STREAM
from ..model import Refusal
from ..policy.framing import HEAD_LIMIT
from . import heads, reading, refusals, tunnelling
from .alarms import Alarms, Bell, Rung, Timer

logger = logging.getLogger(__name__)

_SERVER, _CLIENT = Http1Server, Http1Client

HEAD_SECONDS = 30.0
"""Seconds from the first byte of a request's head to its last. A connection on which nothing was sent may idle."""
_ASKS, _ANSWERS = (RequestData, RequestEndOfMessage), (ResponseData, ResponseEndOfMessage)
_NOTHING = cast("layer.CommandGenerator[None]", ())
"""What is done without a command, in the place of a generator."""
AHEAD_LIMIT = 1 << 20
"""Bytes that a client may send ahead while it waits for an answer; they are read after it."""


def install(alarms: Alarms) -> bool:
    """Read all HTTP/1 connections from now on here; False, with a notice in the log, when mitmproxy's internals differ."""
    problem = differences()
    if problem is not None:
        logger.warning("valetkey: heads of HTTP/1 are not bounded, and trailers end a call: %s", problem)
        return False
    http_layers.Http1Server = type("BoundServer", (ValetHttp1Server,), {"alarms": alarms})  # type: ignore[assignment,misc]
    http_layers.Http1Client = ValetHttp1Client  # type: ignore[misc]
    return True


def uninstall() -> None:
    """Give mitmproxy its own classes back."""
    if issubclass(http_layers.Http1Server, ValetHttp1Server):
        http_layers.Http1Server = _SERVER  # type: ignore[misc]
        http_layers.Http1Client = _CLIENT  # type: ignore[misc]


class _Buffer(ReceiveBuffer):
    """What came and was not read yet."""

    def plain_head(self) -> bytes:
        """A head that is here as a whole and whose lines all end alike, which stays; empty if there is none."""
        data = self._data
        found = blank_line_regex.search(data, self._multiple_lines_search)
        if found is None or data.startswith((b"\n", b"\r\n")):
            return b""
        head = bytes(data[: found.end()])
        return head if head.count(b"\n") == head.count(b"\r\n") else b""

    def skip(self, count: int) -> None:
        """Take bytes out that were read."""
        del self._data[:count]
        self._next_line_search = self._multiple_lines_search = 0

    def maybe_extract_at_most(self, count: int) -> bytearray | None:
        """As the parent does; all that is here is not copied."""
        data = self._data
        if not data or count < len(data):
            return super().maybe_extract_at_most(count)
        self._data = bytearray()
        self._next_line_search = self._multiple_lines_search = 0
        return data

    def maybe_extract_lines(self) -> list[bytes] | list[bytearray] | None:  # type: ignore[override]  # both are taken for bytes
        """As the parent does; lines that all end alike are taken apart at once."""
        head = self.plain_head()
        if not head:
            return super().maybe_extract_lines()
        self.skip(len(head))
        return head.split(b"\r\n")[:-2]


@dataclass
class HeadOfWholeRequest(RequestHeaders):
    """The head of a request whose body comes in the next event, at once."""


@dataclass
class HeadOfWholeAnswer(ResponseHeaders):
    """The head of an answer whose body comes in the next event, at once."""


class _Reader(Http1Connection):
    """What both sides do alike."""

    _head = b""
    """A head that goes out with its body: TLS would make two records of them, each with all that belongs to one."""

    reads_requests: ClassVar[bool]
    buf: _Buffer

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the parent does, without a generator around those that it calls."""
        if isinstance(event, HttpEvent):
            return self.send(event)
        if isinstance(event, events.DataReceived) and self.state != self.passthrough:
            self.buf._data += event.data
        steps: layer.CommandGenerator[None] = self.state(event)
        return steps

    def _send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        raise NotImplementedError

    def _held_back(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Send an event, but no head without its body."""
        head, self._head = self._head, b""
        if type(event) in _HEADS:
            for command in self._send(event):
                assert isinstance(command, commands.SendData)
                self._head += command.data
        elif type(event) not in _BODIES:  # there was none after all, or the call has failed
            if type(event) in _ENDS:
                yield commands.SendData(self.conn, head)
            yield from self._send(event)
        else:
            for command in self._send(event):
                if isinstance(command, commands.SendData):
                    command.data, head = head + command.data, b""
                yield command
            self._head = head

    def _stays_open(self) -> bool:
        """Whether a connection surely stays open after a call, and nothing came ahead. The parent knows about all others."""
        request, response = self.request, self.response
        if request is None or response is None or self.buf._data:
            return False
        asked, answered = request.data, response.data
        if asked.http_version != b"HTTP/1.1" or answered.http_version != b"HTTP/1.1" or asked.method.upper() == b"CONNECT":
            return False
        asks, answers = heads.by_name(asked.headers), heads.by_name(answered.headers)
        if asks is None or answers is None or b"connection" in asks or b"connection" in answers or answered.status_code == 101:
            return False
        length = answers.get(b"content-length")
        return type(length) is bytes and length != b"" and b"transfer-encoding" not in answers

    def _next_call(self) -> None:
        self.request_done = self.response_done = False
        self.request = self.response = None
        self.state = self.read_headers

    def _go_on_to_body(
        self, head: RequestHeaders | ResponseHeaders, size: int | None, event: events.ConnectionEvent
    ) -> layer.CommandGenerator[None]:
        """As the parent does when it has read a head."""
        yield ReceiveHttp(head)
        self.body_reader = make_body_reader(size)
        self.state = self.read_body
        yield from self.read_body(event)

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the parent does; a body of known length, and a chunk that is alone, take a shorter way."""
        reader = self.body_reader
        if isinstance(event, events.DataReceived):
            if type(reader) is ContentLengthReader:
                return self._read_counted(reader)
            if type(reader) is ChunkedReader and (piece := self._whole_chunk(reader)):
                return self._received([piece])
        return self._read_in_pieces(event)

    def _whole_chunk(self, reader: ChunkedReader) -> bytes:
        """A chunk that came as a whole and alone, as most events of a stream do, taken out; empty where it did not."""
        if reader._bytes_in_chunk or reader._bytes_to_discard or reader._reading_trailer:
            return b""
        data = self.buf._data
        line = _CHUNK.match(data)
        if line is None:
            return b""
        size = int(line[1], 16)
        if not size or len(data) != line.end() + size + 2 or not data.endswith(b"\r\n"):
            return b""
        piece = bytes(data[line.end() : -2])
        self.buf.skip(len(data))
        return piece

    def _read_counted(self, reader: ContentLengthReader) -> layer.CommandGenerator[None]:
        assert self.stream_id is not None
        data = self.buf.maybe_extract_at_most(reader._remaining)
        if data is not None:
            reader._remaining -= len(data)
            yield ReceiveHttp(self.ReceiveData(self.stream_id, bytes(data)))
        if reader._remaining == 0:
            assert self.request is not None
            # As in `_end_body`, without a generator around it.
            if self.request.data.method.upper() != b"CONNECT":
                yield ReceiveHttp(self.ReceiveEndOfMessage(self.stream_id))
            yield from self.mark_done(request=self.reads_requests, response=not self.reads_requests)
        if self.buf._data:
            yield from self._check_rest()

    def _read_in_pieces(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the parent does, but chunks that came together go on together, and trailers are dropped, which may hold a key."""
        pieces: list[bytes] = []
        try:
            for command in super().read_body(event):
                if isinstance(command, ReceiveHttp) and isinstance(command.event, self.ReceiveData):
                    pieces.append(command.event.data)
                    continue
                if pieces:
                    yield from self._received(pieces)
                yield command
            if pieces:
                yield from self._received(pieces)
        except NotImplementedError:  # trailers; they are out of the buffer already
            if pieces:
                yield from self._received(pieces)
            yield from self._end_body()
        yield from self._check_rest()

    def _check_rest(self) -> layer.CommandGenerator[None]:
        if len(self.buf) > HEAD_LIMIT and self.state == self.read_body:
            yield from self._fail(f"more than {HEAD_LIMIT} bytes around a chunk")

    def _received(self, pieces: list[bytes]) -> layer.CommandGenerator[None]:
        """The events for pieces of a body, which are forgotten."""
        assert self.stream_id is not None
        if len(pieces) > 1 and not self._stays_apart():
            pieces[:] = [b"".join(pieces)]
        for piece in pieces:
            yield ReceiveHttp(self.ReceiveData(self.stream_id, piece))
        pieces.clear()

    def _stays_apart(self) -> bool:
        """Whether a piece that must not pass would take those with it that came before it: the body is read aside."""
        head = self.response
        return head is not None and (
            bool(heads.get(head.headers, b"content-encoding"))
            or heads.get(head.headers, b"content-type").partition(";")[0].strip().lower() == EVENT_STREAM
        )

    def _end_body(self) -> layer.CommandGenerator[None]:
        assert self.stream_id is not None and self.request is not None
        if self.request.data.method.upper() != b"CONNECT":
            yield ReceiveHttp(self.ReceiveEndOfMessage(self.stream_id))
        yield from self.mark_done(request=self.reads_requests, response=not self.reads_requests)

    def _fail(self, text: str) -> layer.CommandGenerator[None]:
        """End the connection and the call on it, as the parent does for what it cannot read."""
        assert self.stream_id is not None
        self.buf = _Buffer()
        self.state = self.done
        yield commands.CloseConnection(self.conn)
        yield ReceiveHttp(self.ReceiveProtocolError(self.stream_id, text, self.ReceiveProtocolError.code))

    def _head_is_too_long(self) -> bool:
        return len(self.buf) > HEAD_LIMIT and not blank_line_regex.search(bytes(self.buf)[:HEAD_LIMIT])

    def _skip_empty_lines(self) -> None:
        held = bytes(self.buf)
        self.buf.maybe_extract_at_most(len(held) - len(held.lstrip(b"\r\n")))


_CHUNK = re.compile(rb"([0-9a-fA-F]{1,6})\r\n")
"""The line before a chunk, of the most usual form."""
_HEADS, _BODIES = frozenset({HeadOfWholeRequest, HeadOfWholeAnswer}), frozenset({RequestData, ResponseData})
_ENDS = frozenset({RequestEndOfMessage, ResponseEndOfMessage})


class ValetHttp1Server(_Reader, Http1Server):
    """Reads what an agent sends."""

    reads_requests = True
    alarms: Alarms
    timer: Timer | None = None
    """Set while a head is not complete."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.buf = _Buffer()

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """As the parent does; a plain head, and what follows it without a transfer coding, takes a shorter way."""
        return self._held_back(event) if self._head or type(event) is HeadOfWholeAnswer else self._send(event)

    def _send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseHeaders) and event.stream_id == self.stream_id:
            if event.response.data.http_version == b"HTTP/1.1":
                return self._send_head(event.response)
            return super().send(event)
        if (
            isinstance(event, _ANSWERS)
            and event.stream_id == self.stream_id
            and self.request is not None
            and self.response is not None
            and (names := heads.by_name(self.response.data.headers)) is not None
            and b"transfer-encoding" not in names
        ):
            return self._send_uncoded(event)
        return super().send(event)

    def _send_head(self, response: Response) -> layer.CommandGenerator[None]:
        self.response = response
        told = response.data
        line = b"%s %d %s" % (told.http_version, told.status_code, told.reason)
        yield commands.SendData(self.conn, b"%s\r\n%s\r\n" % (line, bytes(told.headers)))

    def _send_uncoded(self, event: ResponseData | ResponseEndOfMessage) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseEndOfMessage):
            yield from self.mark_done(response=True)
        elif event.data:
            yield commands.SendData(self.conn, event.data)

    def mark_done(self, *, request: bool = False, response: bool = False) -> layer.CommandGenerator[None]:
        """As the parent does; the plain end of a call takes a shorter way."""
        if request and not response and not self.response_done:
            self.request_done, self.state = True, self.wait
            return _NOTHING
        if response and self.request_done and self._stays_open():
            self._next_call()
            self.stream_id += 2
            return _NOTHING
        return super().mark_done(request=request, response=response)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """As the parent does, within bounds of size and time; a plain head that came as a whole takes a shorter way."""
        if self.timer is None and type(event) is events.DataReceived:
            head = self.buf.plain_head()
            if head and len(head) <= HEAD_LIMIT and (request := reading.request_of(head)) is not None:
                try:
                    size = http1.expected_http_body_size(request)
                except ValueError:
                    return self._read_any_head(event)
                self.buf.skip(len(head))
                self.request = request
                return self._go_on_to_body(RequestHeaders(self.stream_id, request, size == 0), size, event)
        return self._read_any_head(event)

    def _read_any_head(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        if self._head_is_too_long():
            yield from self._refuse(Refusal(431, "head_too_large", f"the head of the request is longer than {HEAD_LIMIT} bytes"))
            return
        if self.timer is not None and isinstance(event, events.ConnectionClosed):
            self._forget()  # the parent would log what came, which may hold a credential
        held = len(self.buf)
        steps = super().read_headers(event)
        first = next(steps, None)
        if first is None and 0 < len(self.buf) < held:  # it reads one empty line, and then waits for more
            self._skip_empty_lines()
            steps = super().read_headers(event)
            first = next(steps, None)
        if first is not None:
            if self.timer is not None:
                self.alarms.cancel(self)
            yield first
            yield from steps
        elif self.buf and self.timer is None:
            self.alarms.set(self, HEAD_SECONDS)

    def wait(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the parent does; who sends too much ahead is cut off."""
        if len(self.buf) <= AHEAD_LIMIT:
            return super().wait(event)
        self._forget()
        self.state = self.done
        return super().wait(events.ConnectionClosed(self.conn))

    def timer_fired(self) -> None:
        """The head did not come in time: have this connection told."""
        self.alarms.ring(self)

    def ring(self) -> tuple[connection.Client, events.Event]:
        """The event for the time being up."""
        bell = Bell(self)
        # An answer to a command goes the way that the command came; this one came no way, so each fork of it is told.
        for above, below in pairwise(self.context.layers):
            if isinstance(above, http_layers.HttpLayer) and not tunnelling.is_bypassed(above):
                above.command_sources[bell] = _Late(self) if below is self else below  # type: ignore[assignment]
        return self.context.client, Rung(bell)

    def is_late(self) -> layer.CommandGenerator[None]:
        """The time is up, if it is still the head that is waited for."""
        if self.state == self.read_headers and self.buf:
            yield from self._refuse(Refusal(408, "slow_head", f"the head of the request did not come within {HEAD_SECONDS:g} s"))

    def _refuse(self, refusal: Refusal) -> layer.CommandGenerator[None]:
        self._forget()
        self.state = self.done
        answer = refusals.plain(refusal)
        answer.headers["connection"] = "close"
        yield commands.Log(f"{human.format_address(self.conn.peername)}: {refusal.message}")
        yield commands.SendData(self.conn, http1.assemble_response(answer))
        yield commands.CloseConnection(self.conn)

    def _forget(self) -> None:
        self.alarms.cancel(self)
        self.buf = _Buffer()


class _Late:
    """Takes the event for a reader: in which state that is by now is seen when it comes."""

    def __init__(self, reader: ValetHttp1Server) -> None:
        self._reader = reader

    def handle_event(self, _: events.Event) -> Iterator[commands.Command]:
        return self._reader.is_late()


class ValetHttp1Client(_Reader, Http1Client):
    """Reads what a provider sends."""

    reads_requests = False
    _interim = 0
    """Bytes of interim answers since the request."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.buf = _Buffer()

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """As the parent does; a plain head, and what follows it without a transfer coding, takes a shorter way."""
        return self._held_back(event) if self._head or type(event) is HeadOfWholeRequest else self._send(event)

    def _send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestHeaders) and self.stream_id is None and _is_plain(event.request):
            return self._send_head(event)
        if (
            isinstance(event, _ASKS)
            and event.stream_id == self.stream_id
            and self.request is not None
            and (names := heads.by_name(self.request.data.headers)) is not None
            and b"transfer-encoding" not in names
        ):
            return self._send_uncoded(event, self.request)
        return super().send(event)

    def _send_head(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        self.stream_id, self.request = event.stream_id, event.request
        told = event.request.data
        line = b"%s %s %s" % (told.method, told.path, told.http_version)
        yield commands.SendData(self.conn, b"%s\r\n%s\r\n" % (line, bytes(told.headers)))

    def _send_uncoded(self, event: RequestData | RequestEndOfMessage, request: Request) -> layer.CommandGenerator[None]:
        if isinstance(event, RequestEndOfMessage):
            if http1.expected_http_body_size(request, self.response) == -1:
                yield commands.CloseTcpConnection(self.conn, half_close=True)
            yield from self.mark_done(request=True)
        elif event.data:
            yield commands.SendData(self.conn, event.data)

    def mark_done(self, *, request: bool = False, response: bool = False) -> layer.CommandGenerator[None]:
        """As the parent does; the plain end of a call takes a shorter way."""
        if request and not response and not self.response_done:
            self.request_done = True
            return _NOTHING
        if response and self.request_done and self._stays_open():
            self._next_call()
            self.stream_id = None
            return _NOTHING
        return super().mark_done(request=request, response=response)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """As the parent does, within a bound of size; a plain head that came as a whole takes a shorter way."""
        asked = self.request
        if asked is not None and self.stream_id is not None and type(event) is events.DataReceived:
            head = self.buf.plain_head()
            if head and len(head) <= HEAD_LIMIT and (response := reading.response_of(head)) is not None:
                try:
                    size = http1.expected_http_body_size(asked, response)
                except ValueError:
                    return self._read_any_head(event)
                self.buf.skip(len(head))
                self.response, self._interim = response, 0
                return self._go_on_to_body(ResponseHeaders(self.stream_id, response, size == 0), size, event)
        return self._read_any_head(event)

    def _read_any_head(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """As the parent does, within a bound of size; interim answers are dropped, since the gateway gives its own `100`."""
        while self.stream_id is None or not self._head_is_too_long():
            held = len(self.buf)
            steps = super().read_headers(event)
            first = next(steps, None)
            if first is None:
                return
            if not _is_interim(first):
                self._interim = 0
                yield first
                yield from steps
                return
            steps.close()
            self.response = None
            self._interim += held - len(self.buf)
            if self._interim > HEAD_LIMIT:
                break
            if not self.buf:
                return
        yield from self._fail(f"the head of the answer is longer than {HEAD_LIMIT} bytes")


def _is_plain(request: Request) -> bool:
    """Whether its head needs no other form on the way to a provider."""
    told = request.data
    return told.http_version == b"HTTP/1.1" and not told.authority and told.method.upper() != b"CONNECT"


def _is_interim(command: commands.Command) -> bool:
    """Whether this is the head of an answer that another one follows (RFC 9110, 15.2); after a 101 none does."""
    if not isinstance(command, ReceiveHttp) or not isinstance(command.event, ResponseHeaders):
        return False
    status = command.event.response.status_code
    return 100 <= status < 200 and status != 101


_RELIED_UPON: dict[str, tuple[object, int, str]] = {
    "Http1Connection._handle_event": (
        Http1Connection._handle_event, 2, "isinstance HttpEvent send events DataReceived state passthrough buf data",
    ),
    "Http1Connection.read_body": (
        Http1Connection.read_body,
        2,
        "stream_id isinstance events DataReceived body_reader buf ConnectionClosed read_eof AssertionError h11 ProtocolError "
        "commands CloseConnection conn ReceiveHttp ReceiveProtocolError code Data bytes data ReceiveData EndOfMessage request "
        "headers NotImplementedError method upper ReceiveEndOfMessage Http1Server mark_done",
    ),
    "Http1Connection.mark_done": (
        Http1Connection.mark_done,
        1,
        "request_done response_done request response should_make_pipe make_pipe http1 expected_http_body_size ValueError "
        "connection_close http_version headers is_http2 is_http3 isinstance Http1Client commands CloseConnection conn done state "
        "Http1Server stream_id read_headers buf events DataReceived",
    ),
    "Http1Server.mark_done": (
        Http1Server.mark_done, 1, "super mark_done request_done response_done wait state",
    ),
    "Http1Server.send": (
        Http1Server.send,
        2,
        "stream_id isinstance ResponseHeaders response is_http2 is_http3 copy http_version status_codes RESPONSES get "
        "status_code reason len http1 assemble_response_head commands SendData conn ResponseData headers lower data "
        "ResponseEndOfMessage request method upper mark_done ResponseProtocolError state ConnectionState CAN_WRITE code "
        "http_status_code make_error_response message CloseConnection AssertionError",
    ),
    "Http1Client.send": (
        Http1Client.send,
        2,
        "isinstance RequestProtocolError commands CloseConnection conn stream_id RequestHeaders request is_http2 is_http3 copy "
        "http_version headers authority insert get_all len join http1 assemble_request_head SendData RequestData get lower data "
        "RequestEndOfMessage expected_http_body_size response CloseTcpConnection mark_done AssertionError",
    ),
    "Http1Connection.wait": (
        Http1Connection.wait,
        2,
        "stream_id isinstance events DataReceived ConnectionClosed connection state ConnectionState CLOSED commands "
        "CloseConnection ReceiveHttp ReceiveProtocolError ErrorCode CLIENT_DISCONNECTED AssertionError",
    ),
    "Http1Connection.done": (Http1Connection.done, 2, ""),
    "Http1Server.read_headers": (
        Http1Server.read_headers,
        2,
        "isinstance events DataReceived buf maybe_extract_lines http1 read_request_head bytes request expected_http_body_size "
        "ValueError commands SendData conn make_error_response str CloseConnection ReceiveHttp RequestHeaders stream_id "
        "RequestProtocolError ErrorCode GENERIC_CLIENT_ERROR Log human format_address peername done state make_body_reader "
        "body_reader read_body ConnectionClosed strip AssertionError",
    ),
    "Http1Client.read_headers": (
        Http1Client.read_headers,
        2,
        "isinstance events DataReceived request commands Log bytes buf CloseConnection conn stream_id maybe_extract_lines http1 "
        "read_response_head response expected_http_body_size ValueError ReceiveHttp ResponseProtocolError ErrorCode "
        "GENERIC_SERVER_ERROR ResponseHeaders make_body_reader body_reader read_body state ConnectionClosed ConnectionState "
        "CAN_WRITE AssertionError",
    ),
    "ContentLengthReader.__call__": (
        ContentLengthReader.__call__, 2, "_remaining EndOfMessage maybe_extract_at_most len Data",
    ),
    "ReceiveBuffer.maybe_extract_lines": (
        ReceiveBuffer.maybe_extract_lines,
        1,
        "_data _extract blank_line_regex search _multiple_lines_search max len span split endswith",
    ),
    "ChunkedReader.__call__": (
        ChunkedReader.__call__,
        2,
        "_reading_trailer maybe_extract_lines EndOfMessage list _decode_header_lines _bytes_to_discard maybe_extract_at_most len "
        "LocalProtocolError _bytes_in_chunk maybe_extract_next_line validate chunk_header_re int Data",
    ),
    "ReceiveBuffer.__iadd__": (ReceiveBuffer.__iadd__, 2, "_data"),
    "ReceiveBuffer.maybe_extract_at_most": (ReceiveBuffer.maybe_extract_at_most, 2, "_data _extract"),
    "ReceiveBuffer._extract": (ReceiveBuffer._extract, 2, "_data _next_line_search _multiple_lines_search"),
    "read_request_head": (read.read_request_head, 1, "_read_request_line _read_headers Request time"),
    "_read_request_line": (
        read._read_request_line,
        1,
        "split startswith url parse_authority ValueError lower partition default_port parse raise_if_http_version_unknown",
    ),
    "read_response_head": (read.read_response_head, 1, "_read_response_line _read_headers Response time"),
    "_read_response_line": (
        read._read_response_line, 1, "split len append int raise_if_http_version_unknown ValueError",
    ),
    "Request.__init__": (
        Request.__init__, 13, "isinstance bytes decode str encode ValueError type __name__ Headers RequestData data",
    ),
    "RequestData.__init__": (
        RequestFields.__init__,
        13,
        "http_version headers content trailers timestamp_start timestamp_end host port method scheme authority path "
        "__post_init__",
    ),
    "Response.__init__": (
        Response.__init__, 9, "isinstance str encode ValueError type __name__ Headers ResponseData data",
    ),
    "ResponseData.__init__": (
        ResponseFields.__init__,
        9,
        "http_version headers content trailers timestamp_start timestamp_end status_code reason __post_init__",
    ),
    "assemble_request_head": (
        assemble.assemble_request_head, 1, "_assemble_request_line data _assemble_request_headers",
    ),
    "_assemble_request_line": (
        assemble._assemble_request_line, 1, "method upper authority http_version scheme path",
    ),
    "assemble_response_head": (
        assemble.assemble_response_head, 1, "_assemble_response_line data _assemble_response_headers",
    ),
    "_assemble_response_line": (assemble._assemble_response_line, 1, "http_version status_code reason"),
}  # fmt: skip
"""Methods that this module goes around or goes on from: how many arguments they take, and the names they use."""


def differences() -> str | None:
    """What is not as this module expects it in mitmproxy, or None."""
    if (http_layers.Http1Server, http_layers.Http1Client) != (_SERVER, _CLIENT):
        return "the readers of HTTP/1 are replaced already"
    for name, (function, arguments, used) in _RELIED_UPON.items():
        code = getattr(function, "__code__", None)
        if not isinstance(code, CodeType) or code.co_argcount != arguments or set(code.co_names) != set(used.split()):
            return f"{name} is not what it was in mitmproxy 12.2"
    return None
