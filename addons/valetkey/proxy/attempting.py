"""Attempts inside a flow: an `HttpStream` that can send its request again, as long as nothing has reached the agent.

Every further attempt has a stream id of its own, a negative number that is registered beside the agent's own id, so that late
events of an earlier attempt are known and dropped. While an answer is heard (`hearing.py`) its events are held; when it may
pass they are replayed into mitmproxy's own states, as if they came just now. Waiting is done in this layer alone, and ends at
once when the agent leaves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar
from weakref import ref

from mitmproxy import connection, http
from mitmproxy.net import server_spec
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.events import Wakeup
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    GetHttpConnection,
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
    ResponseTrailers,
    SendHttp,
)
from mitmproxy.proxy.layers.http import (
    GetHttpConnectionCompleted as Connected,
)

from ..model import Outcome
from ..policy.failover import Ending, Pause, Step, Try
from . import refusals, tunnelling
from .alarms import TOLERANCE, Bell, Rest, RestOver, Rung, Timer
from .dispatch import Dispatch
from .hearing import Hearing, Trouble, Word
from .passage import Passage
from .traffic import Traffic

_FROM_PROVIDER = (ResponseHeaders, ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)
_ENDS_OF_WAITS = (RestOver, Connected)
_ORPHAN: server_spec.ServerSpec = ("http", ("given-up.invalid", 1))
"""Marks a connection that nobody waits for any more, so that it is never matched and never used."""
_LEFT = "the agent left"
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


class AttemptingStream(HttpStream):
    """One request, sent as often as its plan says."""

    traffic: ClassVar[Traffic]
    timer: Timer | None = None
    _passage: Passage | None = None
    _ids: ClassVar[itertools.count[int]] = itertools.count(1)
    _attempt_id: int | None = None
    """The stream id of the present attempt, where it is not the agent's own."""
    _open = False
    """Whether a request is on its way whose answer is not complete."""
    _hearing: Hearing | None = None
    _deadline: float | None = None
    _fires = 0.0
    """When the timer fires, which may be before the deadline (both monotonic, seconds)."""
    _limit = 0.0
    _last = 0.0
    """When the last piece of an answer came (monotonic, seconds)."""
    _is_valid = False
    """Whether the head that is heard has been checked."""
    _stores: bool | None = None
    """Whether the bodies of streams are kept; None: not looked up yet."""
    _late = False
    """Whether the last connection was given up for lack of time."""

    def __init__(self, context: object, stream_id: int) -> None:
        super().__init__(context, stream_id)  # type: ignore[arg-type]
        parent = self.context.layers[-2]
        assert isinstance(parent, http_layers.HttpLayer)
        self._parent = parent
        self._held: list[http_layers.HttpEvent] = []

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

    # Waiting.

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the parent does; but a wait of ours ends in this layer, and at once when the agent leaves."""
        if self._paused is not None and isinstance(event, RequestProtocolError | Wakeup | Rung):
            return self._while_paused(event)
        return super().handle_event(event)

    def _while_paused(self, event: events.Event) -> layer.CommandGenerator[None]:
        assert self._paused is not None
        if isinstance(event, RequestProtocolError):
            yield from super().handle_event(event)  # it is queued, where `check_killed` finds it
            ended = self._cut_short(self._paused.command)
            if ended is None:
                return
            event = ended
        elif isinstance(event, Wakeup) or (isinstance(event, Rung) and event.command.owner is self):
            event = self._woken(self._paused.command) or event
        yield from super().handle_event(event)

    def ring(self) -> tuple[connection.Client, events.Event]:
        """The time is up, or a permit was granted: the event that tells this stream."""
        bell = Bell(self)
        # An answer to a command goes the way that the command came; this one came no way, so each fork of it is told.
        for above, below in pairwise(self.context.layers):
            if isinstance(above, http_layers.HttpLayer) and not tunnelling.is_bypassed(above):
                above.command_sources[bell] = below
        return self.context.client, Rung(bell)

    def _woken(self, command: object) -> events.Event | None:
        """The end of what this stream waits for, since its time is up; None when it waits for something else."""
        if isinstance(command, Rest):
            self._parent.command_sources.pop(command, None)
            return RestOver(command)
        if isinstance(command, GetHttpConnection) and self._is_due() and self._withdraw(command):
            self._late = True
            self._parent.command_sources.pop(command, None)
            return Connected(command, (None, "no connection in time"))
        return None

    def _is_due(self) -> bool:
        left = self._left()
        return left is not None and left <= TOLERANCE

    def _left(self) -> float | None:
        """Seconds until the alarm rings; None when none is set."""
        return None if self._deadline is None else self._deadline - self.traffic.runtime.monotonic()

    def set_alarm(self, seconds: float) -> None:
        """Ring this stream after so many seconds. A timer that fires earlier is left running, and goes on from there."""
        self._limit = seconds
        self._deadline = self.traffic.runtime.monotonic() + seconds
        if self.timer is None or self._deadline < self._fires:
            self._set_timer(seconds)

    def _set_timer(self, seconds: float) -> None:
        self._fires = self.traffic.runtime.monotonic() + seconds
        self.traffic.runtime.alarms.set(self, seconds)

    def timer_fired(self) -> None:
        """Ring, set the timer again, or do nothing: as there is something to wait for."""
        left = self._left()
        if left is not None and left > TOLERANCE:
            self._set_timer(left)
        elif left is not None:
            self.traffic.runtime.alarms.ring(self)

    def no_alarm(self) -> None:
        """Do not ring."""
        self._deadline = None

    def _cut_short(self, command: object) -> events.Event | None:
        """The end of what this stream waits for, since the agent has left; None when it cannot be cut short."""
        self.no_alarm()
        if isinstance(command, Rest):
            self._parent.command_sources.pop(command, None)
            return RestOver(command)
        if isinstance(command, GetHttpConnection) and self._withdraw(command):
            self._parent.command_sources.pop(command, None)
            return Connected(command, (None, _LEFT))
        return None

    def _withdraw(self, command: GetHttpConnection) -> bool:
        """Wait no longer for a connection, which mitmproxy goes on to make all the same."""
        for server, waiting in self._parent.waiting_for_establishment.items():
            for at, each in enumerate(waiting):
                if each is command:
                    del waiting[at]
                    if not waiting and isinstance(server, connection.Server):
                        # Otherwise the next attempt would wait for the same connection instead of making another.
                        # Around mitmproxy's own check: it may be open already, and be shaking hands.
                        object.__setattr__(server, "via", _ORPHAN)
                    return True
        return False

    def _wait(self, seconds: float) -> layer.CommandGenerator[None]:
        self.set_alarm(seconds)
        if not self.traffic.runtime.alarms.reaches(self.context.client):
            yield commands.RequestWakeup(seconds)  # a replay: only mitmproxy itself knows the way to it
        yield Rest(seconds)
        self.no_alarm()

    def _waker(self) -> None:
        if self._paused is not None and isinstance(self._paused.command, Rest):
            self.traffic.runtime.alarms.ring(self)

    def time_is_up(self) -> layer.CommandGenerator[None]:
        """The alarm rang: what that means depends on what is waited for."""
        passage = self.passage
        now = self.traffic.runtime.monotonic()
        if passage is None or not self._is_due():
            return
        if self.client_state == self.state_consume_request_body:
            yield from self.body_is_late()
        elif self.server_state == self.state_wait_for_response_headers and self._open:
            yield from self.attempt_failed(passage, Trouble(f"no answer within {self._limit:g} s", None, Outcome.TIMEOUT))
        elif self.server_state == self.state_hear:
            assert self._hearing is not None
            limit = passage.snapshot.rules.gateway.timeouts.between_events
            if not self._hearing.holds and now - self._last >= limit - TOLERANCE:
                yield from self.attempt_failed(passage, Trouble(_silent(limit), None, Outcome.TIMEOUT))
                return
            word = self._hearing.out_of_time()
            passage.silent = passage.silent or isinstance(word, Trouble)
            yield from self._decide(passage, word)
        elif self._passes_on():
            yield from self._idle(passage, now)

    def body_is_late(self) -> layer.CommandGenerator[None]:
        """The agent did not send its body in time."""
        raise NotImplementedError

    def _passes_on(self) -> bool:
        """Whether the body of an answer that was let pass is still coming."""
        return self.server_state in (self.state_stream_response_body, self.state_consume_response_body)

    def _idle(self, passage: Passage, now: float) -> layer.CommandGenerator[None]:
        limit = passage.snapshot.rules.gateway.timeouts.between_events
        if now - self._last < limit - TOLERANCE:
            self.set_alarm(limit - (now - self._last))
            return
        message = _silent(limit)
        passage.outcome = Outcome.TIMEOUT
        yield SendHttp(RequestProtocolError(self.stream_id, message, ErrorCode.CANCEL), self.context.server)
        self._open = False
        yield from self.handle_protocol_error(ResponseProtocolError(self.stream_id, message, ErrorCode.GENERIC_SERVER_ERROR))

    # Attempts.

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """Connect to where the plan goes, which need not be where the agent thinks it calls."""
        passage = self.passage
        if passage is None:
            return (yield from super().make_server_connection())
        if passage.dispatch is None:
            raise RuntimeError("a call without a plan must not reach an upstream")
        held = ref(self)
        passage.wake = lambda: stream._waker() if (stream := held()) is not None else None
        return (yield from self._work(passage, passage.dispatch.begin()))

    def _work(self, passage: Passage, step: Step | Ending) -> layer.CommandGenerator[bool]:
        """Follow the plan until an upstream is connected (True), or the call is over."""
        dispatch = passage.dispatch
        assert dispatch is not None
        while True:
            match step:
                case Pause():
                    yield from self._wait(step.seconds)
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
        yield from self._wait(0)
        if (yield from self._is_over()):
            return
        # A request that streamed through was not kept.
        step = passage.dispatch.go_on(final=bool(self.flow.request.stream))
        if (yield from self._work(passage, step)):
            yield from self._send_again()

    def _forsake(self) -> layer.CommandGenerator[None]:
        """Ask for no more of the present attempt."""
        self._hearing, self._held, self._is_valid = None, [], False
        if self.passage is not None:
            self.passage.ready = None
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

    # Hearing.

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> layer.CommandGenerator[None]:
        """The head of an answer: hear it, unless it may pass at once."""
        passage = self.passage
        if (
            passage is None
            or passage.dispatch is None
            or (event.response.status_code < 200 and event.response.status_code != 101)
        ):
            yield from super().state_wait_for_response_headers(event)
            return
        self._held = [event]
        self._hearing = hearing = Hearing(event.response, passage)
        self.server_state = self.state_hear
        self._last = self.traffic.runtime.monotonic()
        word = hearing.begin()
        if word == "wait":
            times = passage.snapshot.rules.gateway.timeouts
            self.set_alarm(times.hold if hearing.holds else times.between_events)
            if hearing.holds:
                self._prepare(passage, passage.dispatch, event.response)
        yield from self._decide(passage, word)

    def _prepare(self, passage: Passage, dispatch: Dispatch, answer: http.Response) -> None:
        """Do what can be done for a stream while its first content is waited for, since an agent waits for that, too."""
        dispatch.heard(answer)
        try:
            http_layers.validate_headers(answer)
            self._is_valid = True
        except ValueError:
            self._is_valid = False  # which is told when it is let pass
        passage.ready = self.traffic.prepare(answer, passage)

    def check_invalid(self, request: bool) -> layer.CommandGenerator[bool]:
        """As the parent does, unless that was done."""
        if not request and self._is_valid:
            return no()
        checked: layer.CommandGenerator[bool] = super().check_invalid(request)
        return checked

    def state_hear(self, event: events.Event) -> layer.CommandGenerator[None]:
        """The next piece of an answer that is being heard."""
        passage, hearing = self.passage, self._hearing
        assert passage is not None and hearing is not None
        assert isinstance(event, http_layers.HttpEvent)
        self._held.append(event)
        self._last = self.traffic.runtime.monotonic()
        if isinstance(event, ResponseData):
            word = hearing.feed(event.data)
            if word == "wait" and passage.ready is not None:
                passage.ready.feed(event.data)
            yield from self._decide(passage, word)
        elif isinstance(event, ResponseEndOfMessage):
            self._open = False
            yield from self._decide(passage, hearing.end())

    def _decide(self, passage: Passage, word: Word | Trouble) -> layer.CommandGenerator[None]:
        if isinstance(word, Trouble):
            yield from self.attempt_failed(passage, word)
        elif word == "pass":
            yield from self._let_pass(passage)

    def _let_pass(self, passage: Passage) -> layer.CommandGenerator[None]:
        """Replay what was held, and go on as mitmproxy does."""
        self.no_alarm()
        held, self._held, self._hearing = self._held, [], None
        head = held[0]
        assert isinstance(head, ResponseHeaders) and passage.dispatch is not None
        passage.dispatch.answered(head.response)
        ready, done = passage.ready, 1
        yield from super().state_wait_for_response_headers(head)
        if ready is not None and ready.pump is not None and ready.pump is self._stream():
            yield from self.send_pieces(ready.pieces)
            done += ready.fed
        for event in held[done:]:
            piece_passes = self.piece_passes(event) if type(event) is ResponseData else None
            yield from piece_passes or self.server_state(event)
        if self._passes_on():
            self._last = self.traffic.runtime.monotonic()
            self.set_alarm(passage.snapshot.rules.gateway.timeouts.between_events)

    def piece_passes(self, event: ResponseData) -> layer.CommandGenerator[None] | None:
        """The short way of a piece of a stream that passes; None where it has to go the long way."""
        raise NotImplementedError

    def _stream(self) -> object:
        """What the body of the answer goes through by now, if it passes as it comes."""
        answer = self.flow.response
        return answer.stream if answer is not None and self.server_state == self.state_stream_response_body else None

    def send_pieces(self, pieces: Iterable[bytes]) -> layer.CommandGenerator[None]:
        """Send what has gone through the stream of an answer."""
        if self._stores is None:
            self._stores = bool(self.context.options.store_streamed_bodies)  # a look of 3 µs
        for piece in pieces:
            if self._stores:
                self.response_body_buf += piece
            yield SendHttp(ResponseData(self.stream_id, piece), self.context.client)

    def state_stream_response_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the parent does; it is noted when the last piece came."""
        self._last = self.traffic.runtime.monotonic()
        if isinstance(event, ResponseEndOfMessage):
            self._open = False
            self.no_alarm()
        yield from super().state_stream_response_body(event)

    def state_consume_response_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As the parent does; it is noted when the last piece came."""
        self._last = self.traffic.runtime.monotonic()
        if isinstance(event, ResponseEndOfMessage):
            self._open = False
            self.no_alarm()
        yield from super().state_consume_response_body(event)

    def is_heard(self) -> bool:
        """Whether an answer is waited for or heard, so that the call can still be made again."""
        return self.server_state in (self.state_wait_for_response_headers, self.state_hear)


def _silent(seconds: float) -> str:
    return f"the provider sent nothing for {seconds:g} s"
