"""The way back: let the answer through as it comes, read it on the side, and settle."""

from __future__ import annotations

from mitmproxy import http

from ..formats import UsageChunkFilter, UsageTap
from ..model import Outcome
from . import bindings, heads, listing
from .guard import guarded
from .passage import Passage
from .pump import Pump
from .runtime import Runtime
from .settlement import Settlement

_REQUEST_IDS = ("x-request-id", "request-id", "x-goog-request-id", "cf-ray")


class ValetAnswers:
    """`responseheaders` opens the Pump; `response`, `error` and the end of the process write the receipt."""

    def __init__(self, runtime: Runtime, settlement: Settlement) -> None:
        self.runtime = runtime
        self.settlement = settlement

    @guarded
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Headers are here: note them, and stream whatever need not be read whole."""
        passage = self.runtime.passages.of(flow)
        if passage is None or flow.response is None:
            return
        if passage.plan is not None and passage.refusal is None:
            self._from_provider(flow, flow.response, passage)
        if passage.snapshot.rules.gateway.headers:
            _mark(flow.response, passage)

    @guarded
    def response(self, flow: http.HTTPFlow) -> None:
        """The answer is complete."""
        passage = self.runtime.passages.of(flow)
        if passage is None or flow.websocket is not None:
            return
        if passage.plan and passage.place and not passage.refusal and flow.response and not flow.response.stream:
            listing.trim(flow.response, passage.plan.provider, passage.place.endpoint.format)
        self.settlement.settle(flow)

    @guarded
    def error(self, flow: http.HTTPFlow) -> None:
        """The call broke: the agent left, or the provider did."""
        self.settlement.settle(flow)

    @guarded
    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """A WebSocket closed; its connection gets one receipt."""
        self.settlement.settle(flow)

    def done(self) -> None:
        """The process ends: every call that still runs gets its receipt now."""
        for flow, passage in self.runtime.passages.unsettled():
            passage.outcome = Outcome.SHUTDOWN
            self.settlement.settle(flow)

    def pump(self, flow: http.HTTPFlow) -> Pump:
        """The Pump of an answer; one per flow, also when streaming begins late."""
        passage = self.runtime.passages.of(flow)
        assert passage is not None and flow.response is not None
        if passage.pump is None:
            passage.pump = self._open_pump(flow.response, passage)
        return passage.pump

    def _from_provider(self, flow: http.HTTPFlow, answer: http.Response, passage: Passage) -> None:
        passage.first_byte = self.runtime.monotonic()
        headers = heads.plain(answer.headers)
        passage.request_id = next((headers[name] for name in _REQUEST_IDS if name in headers), None)
        heads.clean(answer.headers)
        if _streams(answer, passage):
            answer.stream = self.pump(flow)

    def _open_pump(self, answer: http.Response, passage: Passage) -> Pump:
        plan, place = passage.plan, passage.place
        tap = None
        if plan is not None and place is not None and place.endpoint.flavor is not None and answer.status_code < 300:
            headers = answer.headers
            limit = passage.snapshot.rules.gateway.max_body
            tap = UsageTap(
                place.endpoint.format, heads.get(headers, b"content-type"), heads.get(headers, b"content-encoding"), limit
            )
        strip = plan is not None and plan.strip_usage_chunk and not heads.get(answer.headers, b"content-encoding")
        return Pump(tap, UsageChunkFilter() if strip else None, self.runtime.monotonic, bindings.tap(answer, passage))


def _streams(answer: http.Response, passage: Passage) -> bool:
    """JSON is read whole, unless it is large or a stream by its endpoint; everything else passes as it comes."""
    if answer.status_code == 101:
        return False
    kind = heads.get(answer.headers, b"content-type").partition(";")[0].strip().lower()
    if kind != "application/json" and answer.status_code < 400:
        return bool(kind) or not heads.get(answer.headers, b"content-length")
    if passage.call is not None and passage.call.streamed and answer.status_code < 400:
        return True
    length = heads.get(answer.headers, b"content-length")
    return length.isdecimal() and int(length) > passage.snapshot.rules.gateway.max_body


def _mark(answer: http.Response, passage: Passage) -> None:
    """Say on the answer which call it was and where it went; never the key, only its id."""
    marks, plan = {"x-valetkey-id": passage.id}, passage.plan
    if plan is not None:
        marks["x-valetkey-provider"] = plan.provider.name
        if plan.model:
            marks["x-valetkey-model"] = plan.model
        if plan.key:
            marks["x-valetkey-key"] = plan.key.id
        marks["x-valetkey-attempts"] = str(len(passage.attempts))
    heads.mark(answer.headers, marks)
