"""Attempts inside a flow: an `HttpStream` that can send its request again, as long as nothing has reached the agent.

Every further attempt has a stream id of its own, a negative number that is registered beside the agent's own id, so that late
events of an earlier attempt are known and dropped.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import ClassVar
from weakref import ref

from mitmproxy import connection, http
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    GetHttpConnection,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
    SendHttp,
)
from mitmproxy.proxy.layers.http import (
    GetHttpConnectionCompleted as Connected,
)

from ..model import Outcome
from ..policy.failover import Ending, Pause, Step, Try
from . import refusals
from .alarms import RestOver
from .hearing import Trouble
from .passage import Passage
from .waiting import WaitingStream

_FROM_PROVIDER = (ResponseHeaders, ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)
_ENDS_OF_WAITS = (RestOver, Connected)
_RETRY_LATER = (429, 503, 529)


def no() -> layer.CommandGenerator[bool]:
    """The answer to a question that commands nothing."""
    return False
    yield


class OwnConnection(GetHttpConnection):
    """Asks for a connection that nobody else uses, and so for a new one."""

    def connection_spec_matches(self, connection: connection.Connection) -> bool:
        """No connection that is there will do."""
        return False


class AttemptingStream(WaitingStream):
    """One request, sent as often as its plan says."""

    _passage: Passage | None = None
    _ids: ClassVar[itertools.count[int]] = itertools.count(1)
    _attempt_id: int | None = None
    """The stream id of the present attempt, where it is not the agent's own."""
    _open = False
    """Whether a request is on its way whose answer is not complete."""

    @property
    def passage(self) -> Passage | None:
        """The call that this is, once its head was read; None for a flow that is no call."""
        if self._passage is None:
            self._passage = self.traffic.passage(getattr(self, "flow", None))
        return self._passage

    @property
    def current_id(self) -> int:
        """The stream id of the present attempt."""
        return self.stream_id if self._attempt_id is None else self._attempt_id

    def forget_attempt(self) -> None:
        """Let nothing of the present attempt arrive here any more."""
        if self._attempt_id is not None:
            self._parent.streams.pop(self._attempt_id, None)
        self.no_alarm()
        self.traffic.runtime.alarms.cancel(self)

    def is_stale(self, event: events.Event) -> bool:
        """Whether an event belongs to an attempt that was given up, or to a wait that is over."""
        if isinstance(event, _FROM_PROVIDER):
            return event.stream_id != (self.stream_id if self._attempt_id is None else self._attempt_id)
        return isinstance(event, _ENDS_OF_WAITS)

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """Connect to where the plan goes, which need not be where the agent thinks it calls."""
        passage = self.passage
        if passage is None:
            return (yield from super().make_server_connection())
        if passage.dispatch is None:
            raise RuntimeError("a call without a plan must not reach an upstream")
        held = ref(self)
        passage.wake = lambda: stream.wake() if (stream := held()) is not None else None
        return (yield from self._work(passage, passage.dispatch.begin()))

    def _work(self, passage: Passage, step: Step | Ending) -> layer.CommandGenerator[bool]:
        """Follow the plan until an upstream is connected (True), or the call is over."""
        dispatch = passage.dispatch
        assert dispatch is not None
        while True:
            match step:
                case Pause():
                    yield from self.wait(step.seconds)
                    if (yield from self._is_over()):
                        return False
                    step = dispatch.resume()
                case Try():
                    dispatch.attempt(step)
                    trouble = yield from self._dial(passage)
                    if (yield from self._is_over()):
                        return False
                    if trouble is None:
                        return True
                    step = dispatch.failed(trouble)
                case Ending():
                    yield from self._give_up(passage, step)
                    return False

    def _is_over(self) -> layer.CommandGenerator[bool]:
        """Whether the agent has left, or an addon has killed the flow, while this stream waited."""
        return (yield from self.check_killed(True))

    def check_killed(self, emit_error_hook: bool) -> layer.CommandGenerator[bool]:
        """As the parent does; but its receipt is written, and it is not kept for as long as the agent's connection lives."""
        if not self._paused_event_queue and self.flow.error is None:
            return no()
        return self._check_killed(emit_error_hook)

    def _check_killed(self, emit_error_hook: bool) -> layer.CommandGenerator[bool]:
        passage = self.passage
        if passage is not None and not passage.settled and self._has_left():
            self.traffic.broke_off(passage, by_agent=True)
        if not (yield from super().check_killed(emit_error_hook)):
            return False
        if passage is not None and not emit_error_hook:
            self.traffic.settle(self.flow)  # a WebSocket that was killed before it began: no further hook comes
        yield http_layers.DropStream(self.stream_id)
        return True

    def _has_left(self) -> bool:
        return any(isinstance(event, RequestProtocolError) for event in self._paused_event_queue)

    def _dial(self, passage: Passage) -> layer.CommandGenerator[Trouble | None]:
        """Connect to the attempt's upstream, or take a connection that is there; tells what went wrong."""
        plan = passage.plan
        assert plan is not None
        upstream = plan.provider.upstream
        via = None if plan.provider.named_on_loopback else self.flow.server_conn.via
        limit = passage.snapshot.rules.gateway.timeouts.connect
        self._late = False
        self._drop_ended_connections()
        self.set_alarm(limit)
        wanted = ((upstream.host, upstream.port), upstream.scheme == "https", via)
        asked = GetHttpConnection(*wanted)
        server, error = self._at_hand(asked) or (yield asked)
        if server is not None and self._is_taken(server):
            server, error = yield OwnConnection(*wanted)
        self.no_alarm()
        if error:
            self._forget_failed_connections()
            text = f"no connection within {limit:g} s" if self._late else error
            return Trouble(text, None, Outcome.TIMEOUT if self._late else Outcome.NETWORK)
        self.context.server = self.flow.server_conn = server
        return None

    def _at_hand(self, asked: GetHttpConnection) -> tuple[connection.Server, None] | None:
        """The connection that mitmproxy would choose, if it is open and the choice is plain: it takes a long way to ask."""
        parent = self._parent
        for known in parent.connections:
            if asked.connection_spec_matches(known):
                is_plain = known.connected and not known.error and known not in parent.waiting_for_establishment
                if not is_plain or self.context.client.alpn == b"h2":
                    return None
                assert isinstance(known, connection.Server)
                reader = parent.connections[known]
                if type(reader) is http_layers.HttpClient:  # it does nothing any more but to pass on
                    parent.connections[known] = reader.child_layer
                return known, None
        return None

    def _is_taken(self, server: connection.Server) -> bool:
        """Whether another stream of this HTTP/3 connection uses an upstream connection that carries one call at a time.

        mitmproxy sees to this for HTTP/2 itself.
        """
        if server.alpn == b"h2" or not http_layers.is_h3_alpn(self.context.client.alpn):
            return False
        return any(stream.context.server is server for stream in self._parent.streams.values() if stream is not self)

    def _drop_ended_connections(self) -> None:
        """mitmproxy keeps every closed connection with its TLS layers as long as the client's lives: 70 kB for each failure.

        `timestamp_end` is set after the last event of a connection, so none can still come.
        """
        parent = self._parent
        if not any(known.timestamp_end for known in parent.connections):
            return
        used = {stream.context.server for stream in parent.streams.values()}
        for known in [each for each in parent.connections if isinstance(each, connection.Server) and each.timestamp_end]:
            if known not in used and not known.connected:
                del parent.connections[known]

    def _forget_failed_connections(self) -> None:
        """mitmproxy keeps a failed connection as an answer for all later calls of this client; a host may come back."""
        for known in self._parent.connections:
            if isinstance(known, connection.Server) and known.error and not known.connected:
                known.error = None

    def attempt_failed(self, passage: Passage, trouble: Trouble) -> layer.CommandGenerator[None]:
        """The present attempt gave no answer that may pass: go on as the plan says."""
        self.no_alarm()
        self.response_body_buf.clear()
        assert passage.dispatch is not None
        passage.dispatch.note(trouble)
        yield from self._forsake()
        # HTTP/1 gives its connection free only when it has done with the event that led here.
        yield from self.wait(0)
        if (yield from self._is_over()):
            return
        # A request that streamed through was not kept.
        step = passage.dispatch.go_on(final=bool(self.flow.request.stream))
        if (yield from self._work(passage, step)):
            yield from self._send_again()

    def _forsake(self) -> layer.CommandGenerator[None]:
        """Ask for no more of the present attempt."""
        self.drop_held()
        if self._open and self.context.server.connected:
            yield SendHttp(RequestProtocolError(self.stream_id, "another attempt is made", ErrorCode.CANCEL), self.context.server)
        self._open = False
        self.forget_attempt()
        self._attempt_id = -next(self._ids)

    def _send_again(self) -> layer.CommandGenerator[None]:
        """Send the request once more, under the new stream id."""
        self._parent.streams[self.current_id] = self
        self.flow.response = self.flow.error = None
        self.server_state = self.state_wait_for_response_headers
        request, server = self.flow.request, self.context.server
        content, trailers = request.raw_content, request.trailers
        yield SendHttp(RequestHeaders(self.stream_id, request, not (content or trailers)), server)
        if content:
            yield SendHttp(RequestData(self.stream_id, content), server)
        if trailers:
            yield SendHttp(RequestTrailers(self.stream_id, trailers), server)
        yield SendHttp(RequestEndOfMessage(self.stream_id), server)

    def sent(self, event: http_layers.HttpEvent) -> http_layers.HttpEvent:
        """An event that goes to the provider, under the id of the present attempt."""
        if isinstance(event, RequestHeaders):
            self._open = True
        elif isinstance(event, RequestEndOfMessage) and self.server_state == self.state_wait_for_response_headers:
            passage = self.passage
            if passage is not None:
                times = passage.snapshot.rules.gateway.timeouts
                streamed = passage.call is None or passage.call.streamed
                self.set_alarm(times.first_byte if streamed else times.whole)
        return event if event.stream_id == self.current_id else replace(event, stream_id=self.current_id)

    def _give_up(self, passage: Passage, ending: Ending) -> layer.CommandGenerator[None]:
        """No attempt is left: the best error, as the provider gave it, or a refusal of ours."""
        dispatch = passage.dispatch
        assert dispatch is not None
        best = dispatch.best
        if best is not None and best.answer is not None and best.outcome is not Outcome.BAD_KEY:
            answer, passage.plan = best.answer, best.plan
            if ending.retry_after is not None and answer.status_code in _RETRY_LATER and "retry-after" not in answer.headers:
                answer.headers["retry-after"] = str(max(1, math.ceil(ending.retry_after)))
        else:
            passage.refusal = dispatch.ending(ending)
            answer = refusals.response(passage.refusal, passage.dialect)
        passage.outcome = best.outcome if best is not None else Outcome.REFUSED
        yield from self.answer(answer)

    def answer(self, answer: http.Response) -> layer.CommandGenerator[None]:
        """Give an answer that is known as a whole."""
        raise NotImplementedError

    def drop_held(self) -> None:
        """Forget what was held and made ready of the present attempt's answer."""
        raise NotImplementedError
