"""The way back: let the answer through as it comes but for real keys in it, read it on the side, and settle."""

from __future__ import annotations

import asyncio
from functools import partial
from weakref import ref

from mitmproxy import ctx, http

from ..errors import WireError
from ..formats import UsageChunkFilter
from ..model import Outcome, Refusal
from . import bindings, echo, heads, listing, measuring, refusals, turns, views
from .guard import guarded
from .passage import Passage, Ready
from .pump import Pump
from .runtime import Runtime
from .settlement import Settlement
from .sockets import Sockets

_REQUEST_IDS = (b"x-request-id", b"request-id", b"x-goog-request-id", b"x-amzn-requestid", b"cf-ray")


class ValetAnswers:
    """`responseheaders` opens the Pump; `response`, `error` and the end of the process write the receipt."""

    def __init__(self, runtime: Runtime, settlement: Settlement) -> None:
        self.runtime = runtime
        self.settlement = settlement
        self.sockets = Sockets(runtime, settlement)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._log_scrub = echo.LogScrub(self._redact)

    def configure(self, updated: set[str]) -> None:
        """Look again who may read flows."""
        self._choose()

    def running(self) -> None:
        """From now on there is a later."""
        self._loop = asyncio.get_running_loop()
        self._choose()
        echo.CONNECTIONS.addFilter(self._log_scrub)

    @guarded
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Headers are here: note them, and stream whatever need not be read whole."""
        passage = self.runtime.passages.of(flow)
        if passage is None or flow.response is None:
            return
        ready, passage.ready = passage.ready, None
        if ready is None or not ready.is_for(flow.response):
            ready = self.prepare(flow.response, passage)
        if ready.is_providers:
            passage.first_byte = self.runtime.monotonic()
            passage.request_id = ready.request_id
        if ready.pump is not None:
            flow.response.stream = passage.pump = ready.pump

    @guarded
    def response(self, flow: http.HTTPFlow) -> None:
        """The answer is complete."""
        passage = self.runtime.passages.of(flow)
        if passage is None or flow.response is None:
            self.settlement.settle(flow)
            return
        self._scrub(flow, flow.response, passage)
        if flow.websocket is not None:
            return
        if passage.plan and passage.place and not passage.refusal and not flow.response.stream:
            listing.trim(flow.response, passage.plan.provider, passage.place.endpoint.format)
        self.settlement.settle_call(flow, passage)

    @guarded
    def error(self, flow: http.HTTPFlow) -> None:
        """The call broke: the agent left, or the provider did. What it said last is shown and kept."""
        passage = self.runtime.passages.of(flow)
        if passage is not None:
            if flow.response is not None:
                echo.scrub_head(flow.response, passage)
            if flow.error is not None:
                flow.error.msg = passage.snapshot.vault.redact(flow.error.msg)
            self.sockets.ended(flow, passage, "provider")
        self.settlement.settle(flow)

    @guarded
    def websocket_message(self, flow: http.HTTPFlow) -> None:
        """A message of a WebSocket, put together from its frames."""
        passage = self.runtime.passages.of(flow)
        if passage is None or flow.websocket is None:
            return
        self.sockets.arrived(flow, passage)
        if not flow.websocket.messages[-1].from_client:
            echo.scrub_message(flow.websocket.messages[-1], passage)
        self.sockets.passed(flow, passage)

    @guarded
    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """A WebSocket closed; its connection gets one receipt, after those of its answers."""
        passage, socket = self.runtime.passages.of(flow), flow.websocket
        if passage is not None and socket is not None:
            if socket.close_reason:
                socket.close_reason = passage.snapshot.vault.redact(socket.close_reason)
            self.sockets.ended(flow, passage, "agent" if socket.closed_by_client else "provider")
        self.settlement.settle(flow)

    def done(self) -> None:
        """The process ends: every call gets its receipt now, also one that still runs."""
        self._loop = self.runtime.later = None
        echo.CONNECTIONS.removeFilter(self._log_scrub)
        self.settlement.drain()
        for flow, passage in self.runtime.passages.unsettled():
            passage.outcome = Outcome.SHUTDOWN
            self.sockets.ended(flow, passage, "us")
            self.settlement.settle(flow)

    def _redact(self, text: str) -> str:
        return self.runtime.snapshot.vault.redact(text) if self.runtime.ready else text

    def _choose(self) -> None:
        """Settle later where nobody looks at flows."""
        loop = self._loop
        self.runtime.later = None if loop is None or views.is_watched(ctx.master) else partial(turns.later, loop)
        if loop is not None:
            self.runtime.is_busy = partial(turns.is_busy, loop)

    def prepare(self, answer: http.Response, passage: Passage) -> Ready:
        """Make the head of an answer fit for the agent, and find out how its body is to pass. The call stays as it is."""
        echo.scrub_head(answer, passage)
        request_id = pump = None
        is_providers = passage.plan is not None and passage.refusal is None
        if is_providers:
            request_id = _request_id(answer.headers)
            heads.clean(answer.headers)
            if _streams(answer, passage) and echo.is_readable(answer):
                pump = passage.pump or self._open_pump(answer, passage)
        if passage.snapshot.rules.gateway.headers:
            _mark(answer, passage)
        told = answer.data
        return Ready(answer, told.headers.fields, told.status_code, told.reason, is_providers, request_id, pump)

    def pump(self, flow: http.HTTPFlow) -> Pump:
        """The Pump of an answer; one per flow, also when streaming begins late."""
        passage = self.runtime.passages.of(flow)
        assert passage is not None and flow.response is not None
        if passage.pump is None:
            passage.pump = self._open_pump(flow.response, passage)
        return passage.pump

    def reopen(self, flow: http.HTTPFlow) -> None:
        """Let the Pump of an answer start anew: another addon stands before it, and gives it all once more."""
        passage = self.runtime.passages.of(flow)
        if passage is not None and passage.pump is not None and flow.response is not None:
            passage.pump.start_anew(self._open_pump(flow.response, passage))

    def _scrub(self, flow: http.HTTPFlow, answer: http.Response, passage: Passage) -> None:
        """Hide keys in what is known only now; an answer that cannot be searched is refused."""
        echo.scrub_trailers(answer, passage)
        if answer.stream:
            return
        try:
            echo.scrub_body(answer, passage)
        except WireError as error:
            passage.refusal, passage.outcome = Refusal(error.status, error.reason, str(error)), Outcome.SERVER
            flow.response = refusals.response(passage.refusal, passage.dialect)
            if passage.snapshot.rules.gateway.headers:
                _mark(flow.response, passage)

    def _open_pump(self, answer: http.Response, passage: Passage) -> Pump:
        plan = passage.plan
        tap = measuring.open_tap(self.runtime, answer, passage)
        held = ref(passage)  # which holds the pump
        strip = plan is not None and plan.strip_usage_chunk and not heads.get(answer.headers, b"content-encoding")
        return Pump(
            tap, UsageChunkFilter() if strip else None, self.runtime.monotonic, bindings.tap(answer, passage),
            scrub=echo.stream(answer, passage), on_echo=lambda: echo.note(marked) if (marked := held()) is not None else None,
        )  # fmt: skip


def _request_id(headers: http.Headers) -> str | None:
    """The provider's own id of the call; several fields of a name are joined."""
    names = heads.by_name(headers)
    for name in _REQUEST_IDS:
        if (names is None or name in names) and (values := heads.raw_values(headers, name)):
            return b", ".join(values).decode("utf-8", "surrogateescape")
    return None


def _streams(answer: http.Response, passage: Passage) -> bool:
    """JSON is read whole, unless it is large or a stream by its endpoint; everything else passes as it comes."""
    if answer.status_code == 101:
        return False
    call, most, names = passage.call, passage.snapshot.rules.gateway.max_body, heads.by_name(answer.headers)
    if names is not None and names.get(b"content-type") == b"application/json" and not (call is not None and call.streamed):
        size = names.get(b"content-length", b"")  # so are most, and say how long
        if type(size) is bytes and size.isdigit():
            return int(size) > most
    kind = heads.get(answer.headers, b"content-type").partition(";")[0].strip().lower()
    if kind != "application/json" and answer.status_code < 400:
        return bool(kind) or not heads.get(answer.headers, b"content-length")
    if call is not None and call.streamed and answer.status_code < 400:
        return True
    length = heads.get(answer.headers, b"content-length")
    return length.isdecimal() and int(length) > most


def _mark(answer: http.Response, passage: Passage) -> None:
    """Say on the answer which call it was and where it went; never the key, only its id."""
    plan = passage.plan
    if plan is None:
        heads.mark(answer.headers, [(b"x-valetkey-id", passage.id.encode())])
        return
    marks = [
        (b"x-valetkey-id", passage.id.encode()),
        (b"x-valetkey-provider", plan.provider.name.encode("utf-8", "surrogateescape")),
    ]
    if plan.model:
        marks.append((b"x-valetkey-model", plan.model.encode("utf-8", "surrogateescape")))
    if plan.key:
        marks.append((b"x-valetkey-key", plan.key.id.encode("utf-8", "surrogateescape")))
    marks.append((b"x-valetkey-attempts", b"%d" % len(passage.attempts)))
    heads.mark(answer.headers, marks)
