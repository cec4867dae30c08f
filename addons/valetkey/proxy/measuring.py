"""Usage and cost of a call: the tap that its answer is read by, and what that comes to when the call is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mitmproxy import http

from ..formats import ResultsTap, Unread, Usage, UsageTap, estimate_usage, usage_of
from ..model import Endpoint, Metering, Outcome, Results
from ..policy import metering
from ..policy.counted import Counted
from ..policy.paths import Place
from . import heads
from .passage import Passage, WirePlan
from .runtime import Runtime

COUNTED_BEFORE = "counted_before"
"""On a receipt whose answer holds usage that an earlier receipt has."""
BACKGROUND = "background"
"""On the receipt of a call that goes on in the background: its usage comes when the answer is fetched."""


@dataclass(eq=False, slots=True)
class Sheet:
    """What the answers inside an answer come to, added up as they pass."""

    passage: Passage
    plan: WirePlan
    results: Results
    counted: Counted
    name: str
    now: float
    is_part: bool = False
    """Whether only a range of the body was asked for, so that nobody knows which results are in it."""
    meter: Metering = field(default_factory=Metering)

    def take(self, number: int, document: Mapping[str, Any]) -> None:
        """Count one answer, unless that was done."""
        provider, flavors = self.plan.provider, self.results.flavors
        snapshot, when = self.passage.snapshot, self.passage.started
        batch = self.results.batch
        found = metering.measure_result(document, provider, flavors, when, batch=batch, listing=snapshot.prices)
        if found.usage_source == "none":
            return
        is_due = self.results.when is None or metering.at(document, self.results.when) is True
        if not is_due or not (self.is_part or self.counted.take(self.name, number, self.now)):
            self.passage.note(COUNTED_BEFORE)
            return
        self.meter = found if self.meter.usage_source == "none" else metering.total((self.meter, found))


def open_tap(runtime: Runtime, answer: http.Response, passage: Passage) -> UsageTap | None:
    """The tap for an answer that has usage, None for any other."""
    plan, place = passage.plan, passage.place
    if plan is None or place is None or answer.status_code >= 300:
        return None
    endpoint, headers = place.endpoint, answer.headers
    if endpoint.results is None and endpoint.flavor is None:
        return None
    limit = passage.snapshot.rules.gateway.max_body
    kind, encoding = heads.get(headers, b"content-type"), heads.get(headers, b"content-encoding")
    if endpoint.results is None:
        return UsageTap(endpoint.format, kind, encoding, limit)
    sheet = passage.sheet = _sheet(runtime, answer, passage, plan, place, endpoint.results)
    if endpoint.results.format is not None:
        return UsageTap(endpoint.results.format, kind, encoding, limit)
    return ResultsTap(endpoint.results.documents, sheet.take, encoding, limit, lines=endpoint.results.lines)


def read_whole(runtime: Runtime, answer: http.Response, passage: Passage, body: bytes) -> Usage | Unread | None:
    """What the whole body of an answer reports, None for an answer without usage."""
    plan, place = passage.plan, passage.place
    if plan is None or place is None or place.endpoint.results is not None or place.endpoint.flavor is None:
        tap = open_tap(runtime, answer, passage)
        if tap is not None:
            tap.feed(body)
            tap.end()
        return tap
    if answer.status_code >= 300:
        return None
    names = heads.by_name(answer.headers)
    if names is not None and names.get(b"content-type") == b"application/json" and b"content-encoding" not in names:
        kind, encoding = "application/json", ""  # as of most answers
    else:
        kind, encoding = heads.get(answer.headers, b"content-type"), heads.get(answer.headers, b"content-encoding")
    return usage_of(place.endpoint.format, kind, encoding, passage.snapshot.rules.gateway.max_body, body)


def _sheet(runtime: Runtime, answer: http.Response, passage: Passage, plan: WirePlan, place: Place, results: Results) -> Sheet:
    name, is_part = f"{plan.provider.name}{place.rest}", answer.status_code == 206
    return Sheet(passage, plan, results, runtime.pools.counted, name, runtime.now(), is_part)


def meter_of(runtime: Runtime, passage: Passage, tap: Usage | Unread | None) -> Metering:
    """What a call that is over comes to."""
    plan, place, sheet = passage.plan, passage.place, passage.sheet
    if plan is None or place is None:
        return Metering()
    if tap is None:
        return _left_early(passage, plan, place.endpoint)
    if isinstance(tap, Unread):
        tap = tap.read()
    is_read = place.endpoint.flavor not in plan.provider.facts.usage.counts  # else what was asked for tells the price
    if (tap.problem and is_read) or (passage.pump and passage.pump.broken):
        passage.note("unmetered")
    if sheet is not None:
        if tap.document is not None:
            sheet.take(0, tap.document)
        return sheet.meter
    measured = _measured(passage, plan, place.endpoint, tap.document)
    if measured.usage_source != "none":
        whole = tap.complete or passage.outcome is Outcome.OK
        _note_as_counted(runtime, plan, place, tap)
        return measured if whole else replace(measured, usage_source="estimated")
    if _goes_on(place.endpoint, tap):
        passage.note(BACKGROUND)
        return measured
    if place.endpoint.free or not (tap.events or tap.output_chars):
        return measured
    return _estimated(passage, plan, place.endpoint, tap.output_chars)


def _measured(passage: Passage, plan: WirePlan, endpoint: Endpoint, document: Mapping[str, Any] | None) -> Metering:
    listing = passage.snapshot.prices
    return metering.measure(document, plan.provider, endpoint.flavor, plan.model, passage.started, passage.terms, listing=listing)


def _goes_on(endpoint: Endpoint, tap: Usage) -> bool:
    return endpoint.deferred is not None and metering.at(tap.document or {}, endpoint.deferred) is True


def _note_as_counted(runtime: Runtime, plan: WirePlan, place: Place, tap: Usage) -> None:
    """What was made in the background and reports its usage here has none left when it is fetched."""
    if _goes_on(place.endpoint, tap) and tap.response_id:
        runtime.pools.counted.take(f"{plan.provider.name}{place.rest}/{tap.response_id}", 0, runtime.now())


def _left_early(passage: Passage, plan: WirePlan, endpoint: Endpoint) -> Metering:
    """An agent that left before the answer began: the provider has the request, and may bill it."""
    if not (passage.asked and passage.outcome is Outcome.CLIENT and "client_left" in passage.notes):
        return Metering()
    if endpoint.free or endpoint.flavor is None:
        return Metering()
    return _estimated(passage, plan, endpoint, 0)


def _estimated(passage: Passage, plan: WirePlan, endpoint: Endpoint, output_chars: int) -> Metering:
    """By what was asked for where the catalogue knows how, else four bytes to a token."""
    passage.note("usage_missing")
    provider, model, when = plan.provider, plan.model, passage.started
    if endpoint.flavor not in provider.facts.usage.counts:
        usage = estimate_usage(passage.request_bytes, output_chars)
        return metering.estimated(usage, provider, model, when, listing=passage.snapshot.prices)
    found = _measured(passage, plan, endpoint, {})
    return replace(found, usage_source="estimated") if found.usage else found
