"""Settle a call: classify, meter, write one receipt, say it in the log and in the flow. Exactly once, on every ending.

An answer waits for its hooks. So only what other calls depend on is done in them, or when the event loop has handed the answer
over, and before it reads anything else: no agent can ask for more before its last call is over for the pools. Price, receipt and
log line come a moment later, while no call needs the event loop; where there is no such moment, for several calls in a row: code
that runs again and again is several times as fast. Where somebody may look at flows (`Runtime.later` is None then), all is done
in the hooks; elsewhere none is decorated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mitmproxy import http

from ..formats import Unread, Usage
from ..model import Attempt, Metering, Outcome, Receipt
from ..policy import metering, outcome
from . import archive, bindings, heads, measuring, views
from .calllog import log_call
from .guard import shielded
from .passage import Passage
from .runtime import Runtime

LATER = 0.05
"""Seconds after which receipts are written."""
AT_ONCE, IN_A_CROWD = 8, 32
"""Receipts in a row: enough for the code to become fast, and not so many that a call would wait for them. Among many calls
each waits for the others anyway, and all gain by what costs less; only one that is alone finds quiet moments for them."""
MANY = 64
"""So many calls that are over do not wait any longer."""
PATIENCE = 1.0
"""Seconds after which a receipt is written although calls go on."""
_UNMETERED = Metering()


@dataclass(eq=False, slots=True)
class _Ending:
    """A call that is over. `moment` is when, by the monotonic clock."""

    flow: http.HTTPFlow
    passage: Passage
    moment: float
    tap: Usage | Unread | None = None
    is_proof: bool = False
    """Whether it is the start canary's, which leaves no trace."""
    is_closed: bool = False
    """Whether it is classified, and over for the pools, too."""


class Settlement:
    """Turns a passage that ended into a receipt."""

    def __init__(self, runtime: Runtime, flows: views.FlowKeeper) -> None:
        self.runtime = runtime
        self.flows = flows
        self._endings: deque[_Ending] = deque()
        """Receipts to write, in the order of their calls' ends."""
        self._are_open: list[_Ending] = []
        """Those of them that are not over for the pools."""
        self._is_due = False
        self._turn = 0
        """Of which planned turn receipts are written: one that was planned before it does nothing."""

    def settle(self, flow: http.HTTPFlow) -> None:
        """See to the receipt of `flow`'s call, unless that has been done."""
        passage = self.runtime.passages.of(flow)
        if passage is None:
            self.flows.keep(flow, self.runtime.snapshot.rules.gateway)  # no call, but shown all the same
            return
        self.settle_call(flow, passage)

    def settle_call(self, flow: http.HTTPFlow, passage: Passage) -> None:
        """See to the receipt of a call, unless that has been done."""
        if passage.settled:
            return
        passage.settled = True
        ending = _Ending(flow, passage, self.runtime.monotonic(), is_proof=self.runtime.proving)
        later = self.runtime.later
        self._endings.append(ending)
        if later is None:
            self.drain()
            return
        if not _may_wait(flow, passage):
            self._close(ending)
        else:
            if not self._are_open:
                later(0.0, self._close_all)
            self._are_open.append(ending)
        if not self._is_due or len(self._endings) == MANY:
            self._plan_turn(0.0 if len(self._endings) == MANY else LATER, later)

    def _plan_turn(self, seconds: float, later: Callable[[float, Callable[[], None]], object]) -> None:
        """Write some receipts after so many seconds, and not when it was planned before: turns must not add up."""
        self._is_due = True
        self._turn += 1
        later(seconds, partial(self._drain_some, self._turn))

    def _drain_some(self, turn: int) -> None:
        """Write some receipts, and go on with the others when the calls that came meanwhile have had their turn.

        A share of what waits, or more could come in each turn than are written.
        """
        if turn != self._turn:
            return
        self._is_due = False
        self._close_all()
        waiting = len(self._endings)
        going_on = len(self.runtime.passages) - waiting
        share = min(waiting, max(AT_ONCE, min(2 * going_on, IN_A_CROWD), waiting // 4))
        may_wait = going_on <= 1 and waiting < MANY and not self._is_old()
        try:
            for _ in range(share):
                if may_wait and self.runtime.is_busy():
                    break
                self._finish(self._endings.popleft())
        finally:
            later = self.runtime.later
            if self._endings and later is not None:
                self._plan_turn(0.0, later)
        if not self._is_due:
            self.drain()  # what is left where there is no later any more

    def _is_old(self) -> bool:
        return bool(self._endings) and self.runtime.monotonic() - self._endings[0].moment > PATIENCE

    def drain(self) -> None:
        """Write all receipts that are left to write."""
        self._is_due = False
        self._close_all()
        while self._endings:
            self._finish(self._endings.popleft())

    def _close_all(self) -> None:
        closing, self._are_open = self._are_open, []
        for ending in closing:
            self._close(ending)

    def _close(self, ending: _Ending) -> None:
        """Classify the call; it is over for the pools, too."""
        flow, passage = ending.flow, ending.passage
        ending.is_closed = True
        tap = ending.tap = shielded("metering", None, self._tap, flow, passage)
        if passage.outcome is None:
            passage.outcome = shielded("classifying", Outcome.GATEWAY, _classify, flow, passage, tap)
        shielded("giving up the key", None, self._give_up, flow, passage)

    def _give_up(self, flow: http.HTTPFlow, passage: Passage) -> None:
        if passage.dispatch is not None and passage.outcome is not None:
            passage.dispatch.close(passage.outcome, bindings.created(flow, passage) if passage.outcome is Outcome.OK else ())

    def _finish(self, ending: _Ending) -> None:
        flow, passage = ending.flow, ending.passage
        if not ending.is_closed:
            self._close(ending)
        if ending.is_proof:
            return
        meter = shielded("metering", _UNMETERED, measuring.meter_of, self.runtime, passage, ending.tap)
        receipt = shielded("the receipt", None, _receipt, ending, meter) or _bare(passage)
        if self.runtime.writer is not None:
            self.runtime.writer.submit(receipt)
        shielded("showing the call", None, self._show, flow, passage, receipt)

    def _show(self, flow: http.HTTPFlow, passage: Passage, receipt: Receipt) -> None:
        gateway, is_watched = passage.snapshot.rules.gateway, self.runtime.later is None
        log_call(receipt, gateway.log, bridged=is_watched)
        if is_watched:
            views.decorate(flow, receipt)
            self.flows.keep(flow, gateway)
        if self.runtime.archive is not None:
            archive.keep(self.runtime.archive, flow, receipt)

    def _tap(self, flow: http.HTTPFlow, passage: Passage) -> Usage | Unread | None:
        """The tap of a streamed answer, or what the whole body tells."""
        if passage.pump is not None:
            if not passage.pump.ended and passage.pump.tap is not None:
                passage.pump.tap.end()
            return passage.pump.tap
        answer = flow.response
        body = None if answer is None or passage.refusal else answer.raw_content
        if answer is None or not body:
            return None
        return measuring.read_whole(self.runtime, answer, passage, body)


def _may_wait(flow: http.HTTPFlow, passage: Passage) -> bool:
    """Whether nothing depends on what came of the call: it has a whole answer that is no error by its status.

    Only such a stream is surely over. To know that the answer is no error inside, it must be read.
    """
    answer = flow.response
    return (
        passage.outcome is None
        and passage.refusal is None
        and passage.pump is None
        and flow.error is None
        and answer is not None
        and answer.status_code < 300
    )


def _receipt(ending: _Ending, meter: Metering) -> Receipt:
    passage, answer, now = ending.passage, ending.flow.response, ending.moment
    call, plan, refusal, pump = passage.call, passage.plan, passage.refusal, passage.pump
    status = answer.status_code if answer is not None else None
    first = pump.first_content if pump is not None else None
    return Receipt(
        id=passage.id,
        time=passage.started,
        agent=passage.caller.agent,
        project=passage.caller.project,
        client=passage.client,
        provider=plan.provider.name if plan else passage.provider,
        model=meter.model or (plan.model if plan else (call.model if call else None)),
        requested_model=call.requested_model if call else None,
        format=str(passage.place.endpoint.format) if passage.place else None,
        route=passage.route.name if passage.route else None,
        key=plan.key.id if plan and plan.key else None,
        status=status,
        outcome=str(passage.outcome),
        streamed=call.streamed if call else False,
        attempts=_finished(passage, status, now),
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


def _bare(passage: Passage) -> Receipt:
    """What a receipt needs at least, for a call whose facts a defect has spoiled."""
    agent, outcome = passage.caller.agent, str(Outcome.GATEWAY)
    return Receipt(
        id=passage.id, time=passage.started, agent=agent, project=passage.caller.project, client=passage.client,
        provider=passage.provider, model=None, requested_model=None, format=None, route=None, key=None, status=None,
        outcome=outcome, streamed=False,
    )  # fmt: skip


def _classify(flow: http.HTTPFlow, passage: Passage, tap: Usage | Unread | None) -> Outcome:
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
    ms = _ms(passage.attempt_mark, end)
    return (*before, Attempt(last.provider, last.model, last.key, last.upstream, answered, passage.outcome, ms))


def _ms(start: float, end: float | None) -> float | None:
    return None if end is None else round((end - start) * 1000, 3)
