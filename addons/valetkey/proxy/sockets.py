"""WebSockets: each answer on a connection is a call of its own, with rules and a receipt; the connection has one for its counts.

A message that the rules refuse is dropped, and the agent told in the protocol's own words, while the connection stays. Where the
protocol has no words for that, the connection is closed, with the reason in the close.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import parse_qsl
from weakref import WeakKeyDictionary

from mitmproxy import connection, http
from mitmproxy.proxy import events
from mitmproxy.proxy.layers.websocket import WebSocketMessageInjected
from mitmproxy.websocket import WebSocketMessage
from wsproto.frame_protocol import Opcode

from ..formats import estimate_usage
from ..formats.messages import TALKS, Answer, Ask, Talk
from ..model import Attempt, Call, Metering, Outcome, Receipt, Refusal, Route, Rules
from ..policy import metering, outcome, paths, routing
from . import alarms, archive, relay, views
from .calllog import log_call
from .guard import shielded
from .passage import Passage, WirePlan, new_id
from .runtime import Runtime
from .settlement import Settlement

KEPT = 1000
"""Most messages of a connection that are kept where somebody may look at them; older ones go."""
KEPT_BYTES = 8 * 1024 * 1024
"""Most bytes of them."""

Post = Callable[[connection.Client, events.Event], None]
Closer = Literal["agent", "provider", "rules", "us"]
_ENDINGS: Mapping[Closer, Outcome] = {
    "agent": Outcome.CLIENT, "provider": Outcome.NETWORK, "rules": Outcome.REFUSED, "us": Outcome.SHUTDOWN,
}  # fmt: skip
"""What becomes of an answer that is open, by who closed the connection."""


@dataclass(eq=False, slots=True)
class _Socket:
    """A connection that is open."""

    talk: Talk | None
    messages_in: int = 0
    messages_out: int = 0
    answers: int = 0
    kept: int = 0
    """Bytes of the messages that are kept."""
    refusal: Refusal | None = None
    """Why we close the connection."""
    allowed: tuple[Rules, tuple[str | None, ...], Route] | None = None
    """What was allowed last: most messages of a connection are for the same model."""
    refused: set[str] = field(default_factory=set)
    """Reasons that the agent was told for messages which ask for no answer; it is told once."""


class Sockets:
    """Keeps what is known of the open connections. `post` hands an event to a client's connection."""

    def __init__(self, runtime: Runtime, settlement: Settlement, post: Post = alarms.post) -> None:
        self.runtime = runtime
        self.settlement = settlement
        self._post = post
        self._sockets: WeakKeyDictionary[http.HTTPFlow, _Socket] = WeakKeyDictionary()

    def arrived(self, flow: http.HTTPFlow, passage: Passage) -> None:
        """A message came: make it whole, judge it if it is the agent's. Called before it is scrubbed."""
        assert flow.websocket is not None
        socket, message = self._of(flow, passage), flow.websocket.messages[-1]
        if not message.from_client:
            socket.messages_out += not message.injected
            return
        socket.messages_in += 1
        if socket.talk is not None:
            self._judge(flow, passage, socket, message)

    def passed(self, flow: http.HTTPFlow, passage: Passage) -> None:
        """A message goes on: read what the provider says in it."""
        assert flow.websocket is not None
        socket, message = self._of(flow, passage), flow.websocket.messages[-1]
        self._forget(flow.websocket.messages, socket)
        if socket.talk is None or message.from_client or message.injected:
            return
        talk, now = socket.talk, self.runtime.monotonic()
        over: list[Answer] = shielded("metering", [], talk.heard, message.content, now)
        self._settle_answers(passage, socket, over)

    def _forget(self, messages: list[WebSocketMessage], socket: _Socket) -> None:
        """Keep the last messages where somebody may look at them, else only this one, which is on its way."""
        if self.runtime.later is not None:
            del messages[:-1]
            return
        socket.kept += len(messages[-1].content)
        while len(messages) > 1 and (len(messages) > KEPT or socket.kept > KEPT_BYTES):
            socket.kept -= len(messages.pop(0).content)

    def ended(self, flow: http.HTTPFlow, passage: Passage, by: Closer) -> None:
        """The connection is over: settle what is open, then the connection itself, each once."""
        if flow.websocket is None or passage.settled:
            return
        socket = self._of(flow, passage)
        now = self.runtime.monotonic()
        open_ones = socket.talk.close(now) if socket.talk is not None else []
        self._settle_answers(passage, socket, open_ones, "rules" if socket.refusal is not None else by)
        passage.settled = True
        passage.outcome = passage.outcome or Outcome.OK
        if passage.dispatch is not None:
            passage.dispatch.close(passage.outcome)
        receipt = replace(
            self._receipt(passage, passage.id, passage.started),
            requested_model=passage.call.requested_model if passage.call else None,
            status=flow.response.status_code if flow.response else None,
            outcome=str(passage.outcome),
            attempts=_attempts(passage),
            ttft_ms=_ms(passage.mark, passage.first_byte),
            duration_ms=_ms(passage.mark, now),
            request_id=passage.request_id,
            notes=tuple(passage.notes),
            messages_in=socket.messages_in,
            messages_out=socket.messages_out,
            answers=socket.answers,
        )
        self._write(receipt, passage)
        self._show(flow, passage, receipt)

    def _of(self, flow: http.HTTPFlow, passage: Passage) -> _Socket:
        socket = self._sockets.get(flow)
        if socket is None:
            kind = TALKS.get(passage.place.endpoint.name) if passage.place is not None else None
            query = parse_qsl(passage.call.query, keep_blank_values=True) if passage.call is not None else []
            models = dict.fromkeys(found for name, found in query if name == "model")
            socket = self._sockets[flow] = _Socket(kind(tuple(models)) if kind is not None else None)
        return socket

    # The agent's messages.

    def _judge(self, flow: http.HTTPFlow, passage: Passage, socket: _Socket, message: WebSocketMessage) -> None:
        """Let a message of the agent go on, perhaps for another model, or drop it and say why."""
        assert socket.talk is not None
        dropped, message.dropped = message.dropped, True  # a defect below must not let it pass
        ask = socket.talk.read(message.content, is_text=message.is_text)
        route = self._routed(passage, socket, ask)
        if isinstance(route, Refusal):
            self._refuse(flow, passage, socket, ask, route)
            return
        changed = _changed(message.content, socket.talk, ask, route)
        if isinstance(changed, Refusal):
            self._refuse(flow, passage, socket, ask, changed)
            return
        over = socket.talk.sent(_as_routed(ask, route), self.runtime.monotonic())
        message.content, message.dropped = changed, dropped
        self._settle_answers(passage, socket, over)

    def _routed(self, passage: Passage, socket: _Socket, ask: Ask) -> Route | Refusal | None:
        """Where the rules send a message; None for one that is for no model."""
        if ask.problem is not None:
            return Refusal(400, "invalid_body", f"the message cannot be read: {ask.problem}")
        if self.runtime.ledger_blocks and ask.wants:
            text = "receipts cannot be written and gateway.ledger_failure is closed; see the gateway's log"
            return Refusal(503, "ledger_failure", text)
        rules = self.runtime.snapshot.rules
        if not ask.models or passage.plan is None or passage.call is None:
            return None
        if socket.allowed is not None and socket.allowed[0] is rules and socket.allowed[1] == ask.models:
            return socket.allowed[2]
        assert socket.talk is not None
        routes = [_route(model, passage.call, socket.talk, passage.plan, rules) for model in ask.models]
        refusal = next((route for route in routes if isinstance(route, Refusal)), None)
        if refusal is not None:
            return refusal
        first, *others = [route for route in routes if isinstance(route, Route)]
        for model, route in zip(ask.models[1:], others, strict=True):
            if route.targets[0].model != model:  # only the first is written anew
                return _not_changeable(route, model)
        if not _edits(first, ask.models[0]):
            socket.allowed = (rules, ask.models, first)
        return first

    def _refuse(self, flow: http.HTTPFlow, passage: Passage, socket: _Socket, ask: Ask, refusal: Refusal) -> None:
        """Tell the agent, and write the receipt of a call that was refused."""
        assert socket.talk is not None
        if not ask.wants:
            if refusal.reason in socket.refused:
                return
            socket.refused.add(refusal.reason)
        error = socket.talk.error(ask, refusal.status, refusal.reason, refusal.message)
        if error is not None:
            self._post(flow.client_conn, WebSocketMessageInjected(flow, WebSocketMessage(Opcode.TEXT, False, error)))
        elif socket.refusal is None:
            socket.refusal = refusal
            self._post(flow.client_conn, relay.closing(flow, f"{refusal.reason}: {refusal.message}"))
        now = self.runtime.clock()
        model = next((name for name in ask.models if name), None)
        receipt = replace(
            self._receipt(passage, new_id(now), now), parent=passage.id, key=None, model=model, requested_model=model,
            status=refusal.status, outcome=str(Outcome.REFUSED), refused=refusal.reason, duration_ms=0.0,
        )  # fmt: skip
        socket.answers += 1
        self._write(receipt, passage)

    # Receipts.

    def _settle_answers(self, passage: Passage, socket: _Socket, answers: list[Answer], by: Closer | None = None) -> None:
        for answer in answers:
            socket.answers += 1
            receipt = shielded("the receipt", None, self._answered, passage, answer, by)
            if receipt is not None:
                self._write(receipt, passage)

    def _answered(self, passage: Passage, answer: Answer, by: Closer | None) -> Receipt:
        """The receipt of an answer that is over. `by`: who closed the connection on it."""
        now = self.runtime.monotonic()
        started = self.runtime.clock() - (now - answer.asked)
        notes: list[str] = []
        meter = shielded("metering", Metering(), _meter, passage, answer, started, notes)
        ending = _outcome(passage.plan, answer, by)
        if ending is Outcome.CLIENT and answer.error is None:
            notes.append("client_left")
        base = self._receipt(passage, new_id(started), started)
        return replace(
            base,
            parent=passage.id,
            model=meter.model or answer.model or base.model,
            requested_model=answer.requested or answer.model,
            route=answer.route or base.route,
            status=answer.status,
            outcome=str(ending),
            streamed=True,
            usage=meter.usage,
            usage_source=meter.usage_source,
            cost_usd=metering.format_usd(meter.cost_usd),
            cost_source=meter.cost_source,
            ttft_ms=_ms(answer.asked, answer.first),
            duration_ms=_ms(answer.asked, answer.ended),
            request_id=answer.id,
            notes=tuple(notes),
        )

    def _receipt(self, passage: Passage, id: str, started: float) -> Receipt:
        """What the receipts of a connection have in common."""
        plan, place = passage.plan, passage.place
        return Receipt(
            id=id, time=started, agent=passage.caller.agent, project=passage.caller.project, client=passage.client,
            provider=plan.provider.name if plan else passage.provider, model=plan.model if plan else None, requested_model=None,
            format=str(place.endpoint.format) if place else None, route=passage.route.name if passage.route else None,
            key=plan.key.id if plan and plan.key else None, status=None, outcome=str(Outcome.OK), streamed=False,
        )  # fmt: skip

    def _write(self, receipt: Receipt, passage: Passage) -> None:
        if self.runtime.writer is not None:
            self.runtime.writer.submit(receipt)
        log_call(receipt, passage.snapshot.rules.gateway.log, bridged=self.runtime.later is None)

    def _show(self, flow: http.HTTPFlow, passage: Passage, receipt: Receipt) -> None:
        if self.runtime.later is None:
            views.decorate(flow, receipt)
            self.settlement.flows.keep(flow, passage.snapshot.rules.gateway)
        if self.runtime.archive is not None:
            archive.keep(self.runtime.archive, flow, receipt)


def _route(model: str | None, opened: Call, talk: Talk, plan: WirePlan, rules: Rules) -> Route | Refusal:
    """What the rules say of a model on this connection, which stays with its provider."""
    provider, name = plan.provider.name, model
    if model and opened.door == "api":
        provider, name = paths.split_model_prefix(model, provider, rules.providers) or (provider, model)
    if provider not in rules.providers:
        return Refusal(403, "provider_removed", f"{provider} is no longer in the rules; connect again")
    format = talk.format if name else talk.nameless
    found = routing.route(opened._replace(provider=provider, model=name, requested_model=model, format=format), rules)
    if isinstance(found, Refusal):
        return found
    here = tuple(target for target in found.targets if target.provider == plan.provider.name)
    if not here:
        text = f"{model} is routed to {found.targets[0]}, and this connection leads to {plan.provider.name}; call it over HTTP"
        return Refusal(403, "routed_elsewhere", f"{text} (route {found.name})")
    return found._replace(targets=here)


def _as_routed(ask: Ask, route: Route | None) -> Ask:
    """The message as it goes out."""
    if route is None:
        return ask
    models = (route.targets[0].model, *ask.models[1:])
    return replace(ask, models=models, requested=ask.models[0], route=route.name)


def _edits(route: Route, model: str | None) -> bool:
    return route.targets[0].model != model or bool(route.set_body or route.remove_body)


def _changed(content: bytes, talk: Talk, ask: Ask, route: Route | None) -> bytes | Refusal:
    """The message as the route wants it; the same object where nothing is to be changed."""
    if route is None or not _edits(route, ask.models[0]):
        return content
    target = route.targets[0].model
    changed = talk.renamed(content, target, route.set_body, route.remove_body) if target else None
    if changed is not None:
        return changed
    if target == ask.models[0]:
        return content  # edits are for bodies of the HTTP API; there is none
    return _not_changeable(route, ask.models[0])


def _not_changeable(route: Route, model: str | None) -> Refusal:
    target = route.targets[0].model
    text = f"the rules have {target} in place of {model}, which cannot be changed in this message; ask for {target}"
    return Refusal(403, "model_not_changeable", f"{text} (route {route.name})")


def _meter(passage: Passage, answer: Answer, started: float, notes: list[str]) -> Metering:
    """Usage and cost; an estimate where an answer was given, or may be billed, without any."""
    plan, listing = passage.plan, passage.snapshot.prices
    if plan is None:
        return Metering()
    measured = metering.measure(answer.document, plan.provider, answer.flavor, answer.model, started, listing=listing)
    if measured.usage_source == "reported":
        return measured if answer.complete else replace(measured, usage_source="estimated")
    if answer.error is not None and not answer.output_chars:
        return measured
    notes.append("usage_missing")
    usage = estimate_usage(answer.asked_bytes, answer.output_chars)
    guessed = metering.estimated(usage, plan.provider, answer.model or plan.model, started, listing=listing)
    return replace(guessed, model=measured.model)


def _outcome(plan: WirePlan | None, answer: Answer, by: Closer | None) -> Outcome:
    if answer.error is not None:
        body = json.dumps(answer.error).encode()
        return outcome.classify(plan.provider.facts, answer.status or 500, {}, body) if plan is not None else Outcome.SERVER
    if answer.complete:
        return Outcome.OK
    return _ENDINGS[by or "provider"]


def _attempts(passage: Passage) -> tuple[Attempt, ...]:
    """The attempts, the last one closed with what became of it: the provider opened the connection."""
    if not passage.attempts or passage.attempts[-1].outcome is not None:
        return tuple(passage.attempts)
    *before, last = passage.attempts
    ms = _ms(passage.attempt_mark, passage.first_byte)
    return (*before, replace(last, status=101, outcome=passage.outcome, ms=ms))


def _ms(start: float, end: float | None) -> float | None:
    return None if end is None else round((end - start) * 1000, 3)
