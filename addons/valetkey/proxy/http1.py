"""HTTP/1 as mitmproxy reads it, with bounds, and without what nobody asked for.

mitmproxy's reader holds a head of any length for any time, dies of trailers, and takes an interim answer (RFC 9110, 15.2) for
the final one. `HttpLayer` looks the two classes up by their module names for every connection, so `install` replaces those
names and `uninstall` puts them back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise
from types import CodeType

from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer, blank_line_regex
from mitmproxy import connection
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http import Http1Client, Http1Server, ResponseHeaders
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._http1 import Http1Connection
from mitmproxy.utils import human

from ..formats import EVENT_STREAM
from ..model import Refusal
from ..policy.framing import HEAD_LIMIT
from . import heads, refusals
from .alarms import Alarms, Bell, Rung, Timer

logger = logging.getLogger(__name__)

_SERVER, _CLIENT = Http1Server, Http1Client

HEAD_SECONDS = 30.0
"""Seconds from the first byte of a request's head to its last. A connection on which nothing was sent may idle."""
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


class _Reader(Http1Connection):
    """What both sides do alike."""

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
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
        if len(self.buf) > HEAD_LIMIT and self.state == self.read_body:
            yield from self._fail(f"more than {HEAD_LIMIT} bytes around a chunk")

    def _received(self, pieces: list[bytes]) -> Iterator[ReceiveHttp]:
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
        is_request = isinstance(self, Http1Server)
        yield from self.mark_done(request=is_request, response=not is_request)

    def _fail(self, text: str) -> layer.CommandGenerator[None]:
        """End the connection and the call on it, as the parent does for what it cannot read."""
        assert self.stream_id is not None
        self.buf = ReceiveBuffer()
        self.state = self.done
        yield commands.CloseConnection(self.conn)
        yield ReceiveHttp(self.ReceiveProtocolError(self.stream_id, text, self.ReceiveProtocolError.code))

    def _head_is_too_long(self) -> bool:
        return len(self.buf) > HEAD_LIMIT and not blank_line_regex.search(bytes(self.buf)[:HEAD_LIMIT])

    def _skip_empty_lines(self) -> None:
        held = bytes(self.buf).lstrip(b"\r\n")
        self.buf = ReceiveBuffer()
        self.buf += held


class ValetHttp1Server(_Reader, Http1Server):
    """Reads what an agent sends."""

    alarms: Alarms
    timer: Timer | None = None
    """Set while a head is not complete."""

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """As the parent does, within bounds of size and time."""
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
            if isinstance(above, http_layers.HttpLayer):
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
        self.buf = ReceiveBuffer()


class _Late:
    """Takes the event for a reader: in which state that is by now is seen when it comes."""

    def __init__(self, reader: ValetHttp1Server) -> None:
        self._reader = reader

    def handle_event(self, _: events.Event) -> Iterator[commands.Command]:
        return self._reader.is_late()


class ValetHttp1Client(_Reader, Http1Client):
    """Reads what a provider sends."""

    _interim = 0
    """Bytes of interim answers since the request."""

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
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
    "ChunkedReader.__call__": (
        ChunkedReader.__call__,
        2,
        "_reading_trailer maybe_extract_lines EndOfMessage list _decode_header_lines _bytes_to_discard maybe_extract_at_most len "
        "LocalProtocolError _bytes_in_chunk maybe_extract_next_line validate chunk_header_re int Data",
    ),
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
