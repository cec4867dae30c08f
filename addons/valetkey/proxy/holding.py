"""The answer inside a flow: held while it is heard, let pass when it may, given up when nothing comes.

While an answer is heard (`hearing.py`) its events are held; when it may pass they are replayed into mitmproxy's own states, as
if they came just now.
"""

from __future__ import annotations

from collections.abc import Iterable

from mitmproxy import http
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
)

from ..errors import WireError
from ..model import Outcome
from .alarms import TOLERANCE
from .attempting import AttemptingStream, no
from .dispatch import Dispatch
from .hearing import Hearing, Trouble, Word
from .passage import Passage


class HoldingStream(AttemptingStream):
    """One answer, which reaches the agent only when it may."""

    _hearing: Hearing | None = None
    _last = 0.0
    """When the last piece of an answer came (monotonic, seconds)."""
    _is_valid = False
    """Whether the head that is heard has been checked."""
    _stores: bool | None = None
    """Whether the bodies of streams are kept; None: not looked up yet."""

    def __init__(self, context: object, stream_id: int) -> None:
        super().__init__(context, stream_id)
        self._held: list[http_layers.HttpEvent] = []

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
            if word == "wait":
                self._feed(passage, event.data)
            yield from self._decide(passage, word)
        elif isinstance(event, ResponseEndOfMessage):
            self._open = False
            yield from self._decide(passage, hearing.end())

    def _feed(self, passage: Passage, data: bytes) -> None:
        """Send the next piece of what is held through the pump."""
        try:
            if passage.ready is not None:
                passage.ready.feed(data)
        except WireError:
            passage.ready = None  # it ends the stream when it is let pass, if it ever is

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
        if ready is not None and ready.pump is not None and ready.fed:
            if ready.pump is self._stream():
                yield from self.send_pieces(ready.pieces)
                done += ready.fed
            elif ready.pump is passage.pump:
                self.traffic.reopen(self.flow)
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

    def drop_held(self) -> None:
        """Forget what was held and made ready of the present attempt's answer."""
        self._hearing, self._held, self._is_valid = None, [], False
        if self.passage is not None:
            self.passage.ready = None

    # Silence.

    def time_is_up(self) -> layer.CommandGenerator[None]:
        """The alarm rang: what that means depends on what is waited for."""
        passage = self.passage
        now = self.traffic.runtime.monotonic()
        if passage is None or not self.is_due():
            return
        if self.client_state == self.state_consume_request_body:
            yield from self.body_is_late()
        elif self.server_state == self.state_wait_for_response_headers and self._open:
            yield from self.attempt_failed(passage, Trouble(f"no answer within {self._limit:g} s", None, Outcome.TIMEOUT))
        elif self.server_state == self.state_hear:
            assert self._hearing is not None
            if self._hearing.holds:
                word = self._hearing.out_of_time()
                passage.silent = passage.silent or isinstance(word, Trouble)
                yield from self._decide(passage, word)
            elif (limit := self._silence(passage, now)) is not None:
                yield from self.attempt_failed(passage, Trouble(_silent(limit), None, Outcome.TIMEOUT))
        elif self._passes_on():
            yield from self._idle(passage, now)

    def body_is_late(self) -> layer.CommandGenerator[None]:
        """The agent did not send its body in time."""
        raise NotImplementedError

    def _passes_on(self) -> bool:
        """Whether the body of an answer that was let pass is still coming."""
        return self.server_state in (self.state_stream_response_body, self.state_consume_response_body)

    def _silence(self, passage: Passage, now: float) -> float | None:
        """The seconds in which nothing has come, if they were too many; else the alarm is set for the rest of them."""
        limit = passage.snapshot.rules.gateway.timeouts.between_events
        if now - self._last >= limit - TOLERANCE:
            return limit
        self.set_alarm(limit - (now - self._last))
        return None

    def _idle(self, passage: Passage, now: float) -> layer.CommandGenerator[None]:
        limit = self._silence(passage, now)
        if limit is None:
            return
        message = _silent(limit)
        passage.outcome = Outcome.TIMEOUT
        yield SendHttp(RequestProtocolError(self.stream_id, message, ErrorCode.CANCEL), self.context.server)
        self._open = False
        yield from self.handle_protocol_error(ResponseProtocolError(self.stream_id, message, ErrorCode.GENERIC_SERVER_ERROR))


def _silent(seconds: float) -> str:
    return f"the provider sent nothing for {seconds:g} s"
