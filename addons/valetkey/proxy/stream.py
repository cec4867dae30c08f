"""The stream layer: mitmproxy's `HttpStream`, except for what leaves it towards the provider.

`flow.request` stays what the agent sent. Each command of the parent class passes through `_leaving`; the ones that carry the
request to the server are replaced by copies made from the passage's plan (`wire.py`), which alone hold the credential.
`make_stream` of mitmproxy's `HttpLayer` looks the class up by its module name for every flow, so `install` replaces that name
and `uninstall` puts it back.

An exception inside a layer would hang the agent without any hook being run; so every step is guarded here as well.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from mitmproxy import connection, http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpRequestHeadersHook,
    HttpResponseHeadersHook,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
)
from mitmproxy.proxy.layers.http._http1 import Http1Connection
from mitmproxy.proxy.utils import ReceiveBuffer

from ..errors import StartError, WireError
from ..model import Outcome, Refusal
from . import driving, echo, heads, refusals, tunnelling, wire
from .alarms import Rung
from .attempting import no
from .guard import DEFECT
from .hearing import Trouble
from .holding import HoldingStream
from .http1 import HeadOfWholeAnswer, HeadOfWholeRequest
from .passage import Arrival, Passage, TargetForm
from .traffic import Traffic

logger = logging.getLogger(__name__)

_ORIGINAL = HttpStream
_USED = (
    "state_wait_for_request_headers", "start_request_stream", "make_server_connection", "handle_protocol_error",
    "check_body_size", "check_killed", "send_response", "flow_done", "passthrough", "start_response_stream",
    "state_stream_response_body", "check_invalid",
)  # fmt: skip


def install(traffic: Traffic) -> None:
    """Make every HTTP stream from now on one of ours. Raises StartError when this mitmproxy's internals differ."""
    missing = [name for name in _USED if not hasattr(_ORIGINAL, name)]
    if missing:
        raise StartError(f"this mitmproxy has no HttpStream.{missing[0]}; install a version >=12.2.2,<14")
    http_layers.HttpStream = type("BoundStream", (ValetStream,), {"traffic": traffic})  # type: ignore[assignment,misc]


def uninstall() -> None:
    """Give mitmproxy its own class back."""
    http_layers.HttpStream = _ORIGINAL  # type: ignore[misc]


State = Callable[[Any], layer.CommandGenerator[None]]


class ValetStream(HoldingStream):
    """One request and its answer."""

    _arrival: Arrival | None = None
    _answering = False
    """Whether response headers have gone to the agent."""
    _asked = False
    """Whether request headers have gone to the provider."""
    _has_begun = False
    """Whether something has come through this tunnel."""
    _is_dropped = False
    """Whether mitmproxy has done with this stream."""

    # The short way for the pieces of a stream, of which there are many.

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the parent does; what it does with a piece of a stream that passes is done at once, without seven generators."""
        if type(event) is not ResponseData or self._paused is not None or self.debug is not None:
            return super().handle_event(event)
        if "_handle_event" in vars(self):  # a tunnel or a WebSocket
            return super().handle_event(event)
        return self.piece_passes(event) or super().handle_event(event)

    def piece_passes(self, event: ResponseData) -> layer.CommandGenerator[None] | None:
        """What a piece leads to if the body passes as it comes; None where mitmproxy's states are to be asked."""
        if self.server_state != self.state_stream_response_body:
            return None
        assert self.flow.response is not None
        stream = self.flow.response.stream
        return self._pass_on(event.data, stream) if callable(stream) and event.stream_id == self.current_id else None

    def _pass_on(self, data: bytes, stream: Callable[[bytes], Iterable[bytes] | bytes]) -> layer.CommandGenerator[None]:
        self._last = self.traffic.runtime.monotonic()
        try:
            pieces = stream(data)
        except Exception as error:
            defect = error
            return self._guard(lambda _: _failing(defect), events.Event())
        return self.send_pieces((pieces,) if isinstance(pieces, bytes) else pieces)

    # The guard around every step.

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if self._is_dropped:
            return _nothing()
        kind = type(event)
        if kind is RequestHeaders or kind is RequestData or kind is RequestEndOfMessage:
            return self._guard(self.client_state, event)
        if self.is_stale(event):
            return _nothing()
        if kind is ResponseHeaders or kind is ResponseData or kind is ResponseEndOfMessage:
            # A piece may have come while a hook ran.
            short_way = self.piece_passes(event) if type(event) is ResponseData else None
            return short_way or self._guard(self.server_state, event)
        if isinstance(event, Rung) and event.command.owner is self:
            return self._guard(lambda _: self.time_is_up(), event)
        if isinstance(event, events.Wakeup):
            return _nothing()
        if isinstance(event, RequestTrailers) and self.passage is not None:
            return _nothing()  # no provider reads any, and a credential in them would be neither stripped nor masked
        return self._guard(super()._handle_event, event)

    def passthrough(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Events after a CONNECT or a 101, guarded like all others."""
        if not (isinstance(event, Rung) and event.command.owner is self) and not self.is_stale(event):
            if not self._has_begun:
                self._has_begun = True
                tunnelling.step_aside(self)
            yield from self._guard(super().passthrough, event)

    def _guard(self, state: State, event: events.Event) -> layer.CommandGenerator[None]:
        steps: layer.CommandGenerator[None] | None = None
        reply: Any = None
        while True:
            try:
                if steps is None:
                    steps = state(event)  # which may fail as well: mitmproxy's states check what they are given
                command = self._leaving(steps.send(reply))
            except StopIteration:
                if self._is_dropped:
                    self._let_go()
                return
            except WireError as error:
                yield from self._end_on(Refusal(error.status, error.reason, str(error)), Outcome.REFUSED)
                return
            except Exception:
                logger.exception("valetkey: defect in the stream layer; the call is refused")
                yield from self._end_on(DEFECT, Outcome.GATEWAY)
                return
            if command.blocking is True and isinstance(command, commands.StartHook) and self._is_over_at_once(command):
                reply = None  # blocking is a layer where one inside waits for the end: in a tunnel
            elif type(command) is SendHttp and (reader := self._reader_of(command.connection)) is not None:
                yield from reader.send(command.event)
                reply = None
            else:
                reply = yield command

    def _let_go(self) -> None:
        """Leave nothing behind that holds this stream, or it and all of its call lie in memory until they are looked for.

        What is freed now is used for the next call, and is still in the processor's caches.
        """
        if self.context.layers[-1] is self:
            del self.context.layers[-1]
        self.client_state = self.server_state = _deaf

    def _is_over_at_once(self, hook: commands.StartHook) -> bool:
        return self.debug is None and driving.hook_is_over(hook)

    def _reader_of(self, to: connection.Connection) -> Http1Connection | None:
        """Where a command for a connection leads to, if nothing lies between: an HTTP/1 reader that waits for nothing."""
        reader: Any = self._parent.connections.get(to)
        kind = type(reader)
        # Not `isinstance`: these are abstract classes, for which it is a call of some length.
        is_plain = kind is http_layers.Http1Server or kind is http_layers.Http1Client
        return reader if is_plain and reader._paused is None and reader.debug is None else None

    def _end_on(self, refusal: Refusal, outcome: Outcome) -> layer.CommandGenerator[None]:
        """End the call here and now: no hook is trusted to run any more."""
        flow: http.HTTPFlow | None = getattr(self, "flow", None)
        passage = self.passage
        if self._asked and self.context.server.connected:
            yield SendHttp(RequestProtocolError(self.current_id, refusal.reason, ErrorCode.CANCEL), self.context.server)
        self.forget_attempt()
        if not self._answering:
            answer = refusals.response(refusal, passage.dialect) if passage else refusals.plain(refusal)
            if flow is not None:
                flow.response = answer
            yield SendHttp(ResponseHeaders(self.stream_id, answer, end_stream=False), self.context.client)
            yield SendHttp(ResponseData(self.stream_id, answer.raw_content or b""), self.context.client)
        if not self._answering and self.client_state == self.state_done:
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        else:
            error = ResponseProtocolError(self.stream_id, refusal.reason, ErrorCode.GENERIC_SERVER_ERROR)
            yield SendHttp(error, self.context.client)
        self.client_state = self.server_state = self.state_errored
        if flow is not None:
            flow.live = False
            self.traffic.ended(flow, refusal, outcome)
        yield http_layers.DropStream(self.stream_id)

    # What leaves this layer.

    def _leaving(self, command: commands.Command) -> commands.Command:
        if type(command) is not SendHttp:
            if isinstance(command, HttpRequestHeadersHook) and self._arrival is not None:
                self.traffic.runtime.passages.arrived(self.flow, self._arrival)
            elif isinstance(command, http_layers.DropStream):
                self.forget_attempt()
                self._is_dropped = True
            return command
        if command.connection is not self.context.client:
            return self._to_server(command)
        self._answering = self._answering or _is_final(command.event)
        passage = self._passage or self.passage
        event = echo.scrub_event(command.event, passage, framed=passage is not None and self.flow.websocket is not None)
        if event.stream_id != self.stream_id:  # mitmproxy passes a provider's event on as it came
            event = replace(event, stream_id=self.stream_id)
        if type(event) is ResponseHeaders and self._answer_follows(event):
            event = HeadOfWholeAnswer(event.stream_id, event.response, event.end_stream)
        return command if event is command.event else SendHttp(event, command.connection)

    def _answer_follows(self, event: ResponseHeaders) -> bool:
        answer = event.response
        return answer is self.flow.response and not answer.stream and bool(answer.raw_content) and answer.status_code != 101

    def _to_server(self, command: SendHttp) -> commands.Command:
        event = command.event
        passage = self.passage
        if isinstance(event, RequestHeaders):
            assert isinstance(command.connection, connection.Server)
            request = self.traffic.wire_request(self.flow, passage, command.connection)
            self._asked = True
            if passage is not None:
                passage.asked = True
            is_whole = not self.flow.request.stream and bool(self.flow.request.raw_content)
            event = (HeadOfWholeRequest if is_whole else RequestHeaders)(event.stream_id, request, event.end_stream)
        elif isinstance(event, RequestData) and not self.flow.request.stream and self.flow.websocket is None:
            event = RequestData(event.stream_id, wire.body(event.data, passage))
        return SendHttp(self.sent(event), command.connection)

    # The request.

    def state_consume_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the parent does; a body that does not come at once must come within the deadline."""
        answered: layer.CommandGenerator[None] = super().state_consume_request_body(event)
        if isinstance(event, RequestData) and not self.request_body_buf and self.passage is not None:
            if heads.get(self.flow.request.headers, b"content-length") != str(len(event.data)):
                self.set_alarm(self.passage.snapshot.rules.gateway.deadline)
        elif isinstance(event, RequestEndOfMessage):
            self.no_alarm()
        return answered

    def body_is_late(self) -> layer.CommandGenerator[None]:
        """The body did not come within the deadline."""
        text = f"the request body did not come within {self._limit:g} s (gateway.deadline)"
        yield from self._end_on(Refusal(408, "slow_request", text), Outcome.REFUSED)

    def state_wait_for_request_headers(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        """Remember the request target as it came; mitmproxy fills in host and authority right after."""
        self._arrival = Arrival(_form(event.request), event.request.authority, self.mode is http_layers.HTTPMode.transparent)
        yield from super().state_wait_for_request_headers(event)

    def check_body_size(self, request: bool) -> layer.CommandGenerator[bool]:
        """Never hold more than `max_body`: stream it where host and path suffice to route, else 413."""
        passage = self._passage or self.passage
        buffer = self.request_body_buf if request else self.response_body_buf
        if passage is None or len(buffer) <= passage.snapshot.rules.gateway.max_body:
            return no()
        return self._too_large(request, buffer)

    def _too_large(self, request: bool, buffer: ReceiveBuffer) -> layer.CommandGenerator[bool]:
        held = bytes(buffer)
        buffer.clear()
        if not request:
            yield from self._stream_answer(held)
        elif self.flow.response is not None:
            pass  # refused already: what still comes is dropped
        elif self.traffic.stream_request(self.flow):
            self.flow.request.stream = True
            yield from self.start_request_stream()
            yield from self.client_state(RequestData(self.stream_id, held))
        else:
            assert self.flow.response is not None
            yield from self.answer(self.flow.response)
        return True

    def start_request_stream(self) -> layer.CommandGenerator[None]:
        """As the parent does, but an answer that is already known is given at once, and the rest of the body dropped."""
        if self.flow.response is not None:
            self.server_state = self.state_wait_for_response_headers
            yield from self.answer(self.flow.response)
            return
        yield from super().start_request_stream()
        if self._answering and self.client_state == self.state_errored:
            self.client_state = self.state_drain

    def state_drain(self, event: events.Event) -> layer.CommandGenerator[None]:
        """The answer is given; read what the agent still sends, so that it can read ours."""
        if isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            yield from self.flow_done()

    # The answer.

    def _stream_answer(self, held: bytes) -> layer.CommandGenerator[None]:
        assert self.flow.response is not None
        self.flow.response.stream = self.traffic.pump(self.flow)
        yield from self.start_response_stream()
        yield from self.server_state(ResponseData(self.stream_id, held))

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> layer.CommandGenerator[None]:
        """While nothing has reached the agent, a broken upstream is a failed attempt, not a closed connection."""
        passage = self.passage
        if isinstance(event, ResponseProtocolError):
            event = echo.scrub_event(event, passage)
            self._open = False
            if passage is not None and passage.dispatch is not None and self.is_heard() and self._agent_waits():
                yield from self.attempt_failed(passage, Trouble(event.message))
                return
        if passage is not None and not passage.settled:
            self.traffic.broke_off(passage, by_agent=isinstance(event, RequestProtocolError))
            if isinstance(event, ResponseProtocolError) and self.server_state == self.state_stream_response_body:
                yield from self._say_that_it_broke(passage, event.message)
        yield from super().handle_protocol_error(event)

    def _say_that_it_broke(self, passage: Passage, error: str) -> layer.CommandGenerator[None]:
        """End a stream that broke after its first byte in the words of its format, where the format has any."""
        last = self.traffic.last_words(self.flow, passage, error)
        if last and self.client_state != self.state_errored:
            yield SendHttp(ResponseData(self.stream_id, last), self.context.client)

    def _agent_waits(self) -> bool:
        return not self._answering and self.client_state != self.state_errored

    def answer(self, answer: http.Response) -> layer.CommandGenerator[None]:
        """Give an answer of our own, with the hooks that an answer has."""
        self.flow.response = answer
        answer.timestamp_start = time.time()
        if self.client_state != self.state_done:
            self.client_state = self.state_drain
        yield HttpResponseHeadersHook(self.flow)
        if not (yield from self.check_killed(True)):
            yield from self.send_response()


def _failing(error: Exception) -> layer.CommandGenerator[None]:
    raise error
    yield


def _deaf(_: events.Event) -> layer.CommandGenerator[None]:
    """The state after the end."""
    return _nothing()


def _nothing() -> layer.CommandGenerator[None]:
    yield from ()


def _is_final(event: http_layers.HttpEvent) -> bool:
    """Whether this is the head of an answer, and not `100 Continue`, which mitmproxy says to whoever expects it."""
    return isinstance(event, ResponseHeaders) and event.response.status_code != 100


def _form(request: http.Request) -> TargetForm:
    if request.method == "CONNECT" or request.is_http2 or request.is_http3:
        return "authority"
    return "absolute" if request.authority else "origin"
