"""Settle a call: classify, meter, write one receipt, say it in the log and in the flow. Exactly once, on every ending."""

from __future__ import annotations

from dataclasses import replace

from mitmproxy import http

from ..formats import UsageTap, estimate_usage
from ..model import Attempt, Metering, Outcome, Receipt
from ..policy import metering, outcome
from . import archive, bindings, heads, views
from .calllog import log_call
from .guard import shielded
from .passage import Passage
from .runtime import Runtime


class Settlement:
    """Turns a passage that ended into a receipt."""

    def __init__(self, runtime: Runtime, flows: views.FlowKeeper) -> None:
        self.runtime = runtime
        self.flows = flows

    def settle(self, flow: http.HTTPFlow) -> None:
        """Write the receipt of `flow`'s call, unless that has been done."""
        passage = self.runtime.passages.of(flow)
        if passage is None or passage.settled:
            return
        tap = shielded("metering", lambda: self._tap(flow, passage), None)
        passage.outcome = passage.outcome or shielded("classifying", lambda: _classify(flow, passage, tap), Outcome.GATEWAY)
        meter = shielded("metering", lambda: self._meter(passage, tap), Metering())
        receipt = self._receipt(flow, passage, meter)
        passage.settled = True
        shielded("giving up the key", lambda: self._close(flow, passage), None)
        if self.runtime.proving:
            return
        if self.runtime.writer is not None:
            self.runtime.writer.submit(receipt)
        shielded("showing the call", lambda: self._show(flow, passage, receipt), None)

    def _close(self, flow: http.HTTPFlow, passage: Passage) -> None:
        """The call is over for the pools, too."""
        if passage.dispatch is not None and passage.outcome is not None:
            passage.dispatch.close(passage.outcome, bindings.created(flow, passage) if passage.outcome is Outcome.OK else ())

    def _show(self, flow: http.HTTPFlow, passage: Passage, receipt: Receipt) -> None:
        gateway = passage.snapshot.rules.gateway
        log_call(receipt, gateway.log)
        views.decorate(flow, receipt)
        self.flows.keep(flow, gateway.max_flows)
        if self.runtime.archive is not None:
            archive.keep(self.runtime.archive, flow, receipt)

    def _tap(self, flow: http.HTTPFlow, passage: Passage) -> UsageTap | None:
        """The tap of a streamed answer, or one fed with the whole body now."""
        if passage.pump is not None:
            if not passage.pump.ended and passage.pump.tap is not None:
                passage.pump.tap.end()
            return passage.pump.tap
        place, answer = passage.place, flow.response
        if passage.plan is None or passage.refusal or place is None or answer is None or place.endpoint.flavor is None:
            return None
        if answer.status_code >= 300 or not answer.raw_content:
            return None
        tap = UsageTap(
            place.endpoint.format, heads.get(answer.headers, b"content-type"), heads.get(answer.headers, b"content-encoding")
        )
        tap.feed(answer.raw_content)
        tap.end()
        return tap

    def _meter(self, passage: Passage, tap: UsageTap | None) -> Metering:
        plan, place = passage.plan, passage.place
        if tap is None or plan is None or place is None:
            return Metering()
        if tap.problem or (passage.pump and passage.pump.broken):
            passage.note("unmetered")
        measured = metering.measure(tap.document, plan.provider, place.endpoint.flavor, plan.model, passage.started)
        if measured.usage_source == "reported":
            whole = tap.complete or passage.outcome is Outcome.OK
            return measured if whole else replace(measured, usage_source="estimated")
        if place.endpoint.free or not (tap.events or tap.output_chars):
            return measured
        passage.note("usage_missing")
        usage = estimate_usage(passage.request_bytes, tap.output_chars)
        return metering.estimated(usage, plan.provider, plan.model, passage.started)

    def _receipt(self, flow: http.HTTPFlow, passage: Passage, meter: Metering) -> Receipt:
        now = self.runtime.monotonic()
        call, plan, refusal = passage.call, passage.plan, passage.refusal
        assert passage.outcome is not None
        status = flow.response.status_code if flow.response else None
        attempts = _finished(passage, status, now)
        first = passage.pump.first_content if passage.pump else None
        model = plan.model if plan else (call.model if call else None)
        return Receipt(
            id=passage.id,
            time=passage.started,
            agent=passage.caller.agent,
            project=passage.caller.project,
            client=passage.client,
            provider=plan.provider.name if plan else passage.provider,
            model=meter.model or model,
            requested_model=call.requested_model if call else None,
            format=str(passage.place.endpoint.format) if passage.place else None,
            route=passage.route.name if passage.route else None,
            key=plan.key.id if plan and plan.key else None,
            status=status,
            outcome=str(passage.outcome),
            streamed=call.streamed if call else False,
            attempts=attempts,
            usage=meter.usage,
            usage_source=meter.usage_source,
            cost_usd=metering.format_usd(meter.cost_usd),
            cost_source=meter.cost_source,
            ttft_ms=_ms(passage.mark, first if first is not None else passage.first_byte),
            duration_ms=_ms(passage.mark, now),
            request_id=passage.request_id,
            refused=refusal.reason if refusal and not passage.attempts else None,
            notes=tuple(passage.notes),
        )


def _classify(flow: http.HTTPFlow, passage: Passage, tap: UsageTap | None) -> Outcome:
    """The class of the ending, when nothing has set it on the way."""
    if passage.refusal is not None:
        return Outcome.REFUSED
    if flow.error is not None or flow.response is None:
        return Outcome.CLIENT
    if tap is not None and tap.error is not None:
        return Outcome.SERVER
    assert passage.plan is not None
    if flow.response.status_code < 400:
        return Outcome.OK
    facts, body = passage.plan.provider.facts, archive.plain_body(flow.response)
    return outcome.classify(facts, flow.response.status_code, heads.plain(flow.response.headers), body)


def _finished(passage: Passage, status: int | None, now: float) -> tuple[Attempt, ...]:
    """The attempts, the last one closed with what became of it."""
    if not passage.attempts:
        return ()
    *before, last = passage.attempts
    if last.outcome is not None:
        return tuple(passage.attempts)
    answered = None if passage.refusal is not None else status
    end = passage.first_byte if passage.first_byte is not None else now
    return (*before, replace(last, status=answered, outcome=passage.outcome, ms=_ms(passage.attempt_mark, end)))


def _ms(start: float, end: float | None) -> float | None:
    return None if end is None else round((end - start) * 1000, 3)
