"""The way in: read a request's head, then its body, and decide. Reading this file from top to bottom is reading the product."""

from __future__ import annotations

import json

from mitmproxy import http

from .. import __version__
from ..model import Refusal
from ..policy import credentials, framing
from . import admission, heads, planning, refusals
from .dispatch import Dispatch
from .guard import guarded
from .passage import Arrival, Passage
from .runtime import Runtime
from .tunnels import Tunnels


class ValetIntake:
    """`requestheaders` says who calls what; `request` chooses where it goes."""

    def __init__(self, runtime: Runtime, tunnels: Tunnels) -> None:
        self.runtime = runtime
        self.tunnels = tunnels

    @guarded
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """The head of a request: recognise, verify, identify, or refuse."""
        if flow.response or flow.error or not flow.live:
            return
        passage = self.runtime.passages.open(flow, admission.begin(self.runtime, flow))
        if passage.door == "api" and flow.request.path.partition("?")[0] == "/health":
            self.runtime.passages.close(flow)
            self._health(flow)
            return
        refusal = self._admit(flow, passage)
        fault = _fault(flow, passage)
        if passage.door == "proxy" and passage.provider is None:
            self.runtime.passages.close(flow)
            if fault is not None:
                _end_at_head(flow, refusals.plain(fault))
            elif refusal is not None:
                flow.response = refusals.plain(refusal)
            return
        # Identified in any case: a refused call is shown and saved as well, and must not hold a foreign key either.
        wrong_credential = admission.identify(flow, passage, self.tunnels.user(flow))
        if fault is not None:
            self._refuse(flow, passage, fault)
            _end_at_head(flow, flow.response)
            return
        refusal = refusal or wrong_credential or self._too_large(flow, passage)
        if refusal is not None:
            self._refuse(flow, passage, refusal)
            _ask_for_no_body(flow.request)

    @guarded
    def request(self, flow: http.HTTPFlow) -> None:
        """The whole request: route it."""
        passage = self.runtime.passages.of(flow)
        if passage is None or flow.response or flow.error or passage.dispatch is not None:
            return
        content = planning.read(flow, passage)
        refusal = content if isinstance(content, Refusal) else self._route(flow, passage, content)
        if refusal is not None:
            self._refuse(flow, passage, refusal)

    def stream_request(self, flow: http.HTTPFlow) -> bool:
        """Decide on a body that is too large to read: True when it may stream through, else the flow holds a 413."""
        passage = self.runtime.passages.of(flow)
        assert passage is not None and passage.place is not None
        if passage.place.endpoint.model == "body":
            self._refuse(flow, passage, _too_large(passage))
            return False
        refusal = self._route(flow, passage, planning.Content(b"", model=passage.place.path_model))
        if refusal is not None:
            self._refuse(flow, passage, refusal)
        return refusal is None

    def _admit(self, flow: http.HTTPFlow, passage: Passage) -> Refusal | None:
        if passage.door == "api":
            return admission.by_path(self.runtime, flow, passage)
        arrival = self.runtime.passages.arrival(flow) or Arrival("origin", flow.request.authority, True)
        return admission.by_address(self.runtime, flow, arrival, passage)

    def _route(self, flow: http.HTTPFlow, passage: Passage, content: planning.Content) -> Refusal | None:
        if self.runtime.ledger_blocks:
            text = "receipts cannot be written and gateway.ledger_failure is closed; see the gateway's log"
            return Refusal(503, "ledger_failure", text, retry_after=5)
        passage.call = call = planning.describe(flow, passage, content)
        route = planning.decide(call, passage, content)
        if isinstance(route, Refusal):
            return route
        passage.route = route
        query = credentials.strip_query(flow.request.path).partition("?")[2] if call.query else ""
        aims = planning.aim(self.runtime, passage, call, route, content, query)
        if isinstance(aims, Refusal):
            return aims
        passage.dispatch = Dispatch(self.runtime, passage, aims.ask, aims.equip)
        return None

    def _too_large(self, flow: http.HTTPFlow, passage: Passage) -> Refusal | None:
        """A body that is announced as larger than `max_body` streams through, or is refused before it is read."""
        length = heads.get(flow.request.headers, b"content-length")
        if not length.isdecimal() or int(length) <= passage.snapshot.rules.gateway.max_body or passage.place is None:
            return None
        flow.request.stream = True
        if passage.place.endpoint.model == "body":
            return _too_large(passage)
        return self._route(flow, passage, planning.Content(b"", model=passage.place.path_model))

    def _refuse(self, flow: http.HTTPFlow, passage: Passage, refusal: Refusal) -> None:
        passage.refusal = refusal
        passage.plan = passage.dispatch = None
        flow.response = refusals.response(refusal, passage.dialect)

    def _health(self, flow: http.HTTPFlow) -> None:
        writer = self.runtime.writer
        state = {
            "status": "ok",
            "version": __version__,
            "revision": self.runtime.snapshot.revision,
            "ledger": "ok" if writer is None or writer.healthy else "failing",
        }
        flow.response = http.Response.make(200, json.dumps(state) + "\n", {"content-type": "application/json"})


def _fault(flow: http.HTTPFlow, passage: Passage) -> Refusal | None:
    """What is wrong with a request's head as such. Methods of hosts that are no provider are their own affair."""
    data = flow.request.data
    fault = framing.fault(data.authority + data.path, data.http_version, data.headers.fields)
    if fault is None and (passage.provider is not None or passage.door == "api"):
        fault = framing.method_fault(data.method)
    return fault


def _end_at_head(flow: http.HTTPFlow, answer: http.Response | None) -> None:
    """Answer at once and read no further request from this connection: nobody can tell where the next one begins."""
    assert answer is not None
    request = flow.request
    request.stream = True  # the body is dropped
    request.headers.fields = framing.sound(request.headers.fields)
    if not (request.is_http2 or request.is_http3):
        answer.headers["connection"] = "close"
    flow.response = answer


def _ask_for_no_body(request: http.Request) -> None:
    """Who waits for `100 Continue` gets the refusal instead, before any body."""
    if request.headers.pop("expect", None) is not None:
        request.stream = True  # answered at once; a body that comes all the same is dropped


def _too_large(passage: Passage) -> Refusal:
    limit = passage.snapshot.rules.gateway.max_body
    text = f"the request body is larger than gateway.max_body ({limit} bytes), and its model, which routing needs, is inside it"
    return Refusal(413, "too_large", text)
