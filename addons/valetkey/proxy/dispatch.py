"""The attempts of one call: runs the plan of `policy.failover`, tells the pools what came of each, keeps the best error.

The stream layer asks for steps and reports troubles; which key and when is the plan's to say, what an error means the
catalogue's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from weakref import proxy

from mitmproxy import http

from ..formats import may_create
from ..model import Attempt, Outcome, Refusal
from ..policy import failover, outcome, waits
from ..policy.failover import Ask, Ending, Report, Try
from ..policy.health import TABLE, Failure, Mark
from ..policy.pools import Use
from . import heads
from .archive import plain_body
from .hearing import Trouble
from .passage import Passage, WirePlan
from .runtime import Runtime

_OVER = Ending("failed")
"""For a stream that goes on although its call was closed, as happens when the process ends."""
_NO_ANSWER = {Outcome.TIMEOUT: (504, "upstream_timeout")}


@dataclass(frozen=True, slots=True)
class Best:
    """The best error so far: an answer of the provider, or a refusal of ours."""

    outcome: Outcome
    plan: WirePlan
    answer: http.Response | None
    message: str


class Dispatch:
    """Runs the attempts. `equip` makes the wire plan of a step."""

    def __init__(self, runtime: Runtime, passage: Passage, ask: Ask, equip: Callable[[Try], WirePlan]) -> None:
        self._runtime, self._equip = runtime, equip
        self._passage: Passage = proxy(passage)  # which holds this
        self._ask = ask
        self._plan: Generator[failover.Step, Report, Ending] | None = None
        self._begun: tuple[float, float, Try] | None = None
        """When, by which chance, and with which attempt the call began before there was a plan."""
        self._use: Use | None = None
        self._noted = False
        """Whether the pools know how the present attempt went."""
        self._failed: tuple[Failure | None, Mark | None] = (None, None)
        self._passed: http.Response | None = None
        """An error that was too long to be heard and passed; what it is is known when the call is over."""
        self._heard: http.Response | None = None
        """An answer whose limits are noted."""
        self.best: Best | None = None

    @property
    def has_choice(self) -> bool:
        """Whether it matters which key made what: there is more than one, and such an answer makes something."""
        call = self._passage.call
        if call is None or not may_create(call.format, call.path):
            return False
        return failover.has_choice(self._ask.options, self._ask.too_long, self._ask.exhausted)

    def begin(self) -> failover.Step | Ending:
        """The first step."""
        now, chance = self._runtime.now(), self._runtime.chance()
        step = failover.first(self._ask, self._runtime.pools, now, chance)
        if step is not None:
            self._begun = now, chance, step
            return step
        self._plan = failover.plan(self._ask, self._runtime.pools, now, chance)
        return self._advance(None)

    def resume(self) -> failover.Step | Ending:
        """The next step, after a pause."""
        return self._advance(Report(self._runtime.now(), self._runtime.chance()))

    def attempt(self, step: Try) -> None:
        """An attempt is made: note it before anything is dialled, so that no ending can lose it."""
        passage, now = self._passage, self._runtime.now()
        self._use = self._runtime.pools.began(step.option.provider, step.place, step.permit, now)
        self._noted, self._passed = False, None
        passage.plan = plan = self._equip(step)
        passage.attempt_mark = self._runtime.monotonic()
        key = plan.key.id if plan.key else None
        passage.attempts.append(Attempt(plan.provider.name, plan.model, key, step.place.upstream))

    def failed(self, trouble: Trouble) -> failover.Step | Ending:
        """An attempt gave no answer that may pass: what next."""
        self.note(trouble)
        return self.go_on()

    def note(self, trouble: Trouble) -> None:
        """Note that an attempt gave no answer that may pass."""
        if self._use is None:
            return
        failure = self._failure(trouble)
        assert self._passage.plan is not None
        now = self._runtime.now()
        mark = self._tell_pools(self._use, failure, now)
        self._noted, self._passage.asked = True, False
        self._close_attempt(failure.outcome, trouble.answer)
        if self._is_better(failure.outcome, trouble.answer):
            self.best = Best(failure.outcome, self._passage.plan, trouble.answer, trouble.message)
        self._failed = failure, mark

    def go_on(self, *, final: bool = False) -> failover.Step | Ending:
        """The next step after an attempt that was noted as failed. `final`: the request cannot be sent again.

        Asked for when it can be taken at once: a key that is chosen early may rest by the time it is used.
        """
        if self._use is None:
            return _OVER
        if final:
            return Ending("failed")
        return self._advance(Report(self._runtime.now(), self._runtime.chance(), *self._failed))

    def heard(self, answer: http.Response) -> None:
        """The head of an answer is here, which may pass or not."""
        self._note_limits(answer, self._runtime.now())
        self._heard = answer

    def answered(self, answer: http.Response) -> None:
        """The answer passes: the key is well, and the conversation stays with it."""
        use, now = self._use, self._runtime.now()
        if use is None:
            return
        if answer is not self._heard:
            self._note_limits(answer, now)
        if answer.status_code >= 400:
            self._passed = answer
            return
        self._runtime.pools.answered(use, now)
        names = self._ask.soft or ((self._ask.session,) if self._ask.session else ())
        if use.place.key is not None and names:
            self._runtime.pools.affinity.bind(use.provider.name, names, use.place.key, now, soft=True)

    def close(self, ending: Outcome, created: tuple[str, ...] = ()) -> None:
        """The call is over: give up what is held; only the first call counts. `created` are names of things that it made."""
        use, self._use = self._use, None
        begun, self._begun = self._begun, None
        try:
            if use is not None:
                self._end(use, ending, created)
        finally:
            if self._plan is not None:
                self._plan.close()
            elif begun is not None and begun[2].permit is not None:
                # The call may have ended before the attempt was made; a permit that is given back already stays so.
                self._runtime.pools.slots.release(begun[2].permit)

    def _end(self, use: Use, ending: Outcome, created: tuple[str, ...]) -> None:
        now, pools = self._runtime.now(), self._runtime.pools
        if ending in TABLE and not self._noted:
            self._tell_pools(use, self._broken(use, ending, now), now)
        pools.ended(use, ending, now)
        if created and use.place.key is not None:
            pools.affinity.bind(use.provider.name, created, use.place.key, now)

    def _tell_pools(self, use: Use, failure: Failure, now: float) -> Mark | None:
        """An attempt failed. What is said of a key whose value was changed meanwhile is not true of the new one."""
        key = use.place.key
        row = TABLE.get(failure.outcome)
        if key is not None and row is not None and row.marks.startswith("key") and self._is_changed(key):
            self._runtime.pools.ended(use, failure.outcome, now)
            return None
        if key is not None and failure.outcome is Outcome.BAD_KEY:
            self._runtime.doubt(key)
        return self._runtime.pools.failed(use, failure, now)

    def _is_changed(self, key: str) -> bool:
        ours, present = self._passage.snapshot, self._runtime.snapshot
        return ours is not present and not ours.vault.agrees(present.vault, key)

    def _broken(self, use: Use, ending: Outcome, now: float) -> Failure:
        """What is known of an answer that passed and went wrong all the same."""
        stated = None
        if self._passed is not None:
            stated = waits.stated(use.provider.facts, _names(self._passed), b"", now)
        if stated is None:
            return Failure(ending, use.began)
        return Failure(ending, use.began, stated.seconds, self._redacted(stated.raw))

    def ending(self, ending: Ending) -> Refusal:
        """Our own words for the end of all attempts, where no answer of the provider is to be shown."""
        if self.best is None:
            return _unavailable(ending)
        provider = self.best.plan.provider
        if self.best.outcome is Outcome.BAD_KEY and ending.reason in ("busy", "resting", "deadline"):
            return _unavailable(ending)  # there are other keys
        if self.best.outcome is Outcome.BAD_KEY:
            text = f"{provider.name} accepts none of the gateway's keys (valetkey keys tells more)"
            return Refusal(503, "no_usable_key", text, ending.retry_after)
        status, reason = _NO_ANSWER.get(self.best.outcome, (502, "upstream_failed"))
        tries = len(self._passage.attempts)
        again = f" ({tries} attempts)" if tries > 1 else ""
        text = f"{provider.name} at {provider.upstream.origin} gave no answer{again}: {self.best.message}"
        # The message may quote what the provider sent.
        return Refusal(status, reason, self._passage.snapshot.vault.redact(text))

    def _advance(self, report: Report | None) -> failover.Step | Ending:
        if self._plan is None:
            if self._begun is None:
                return _OVER
            self._plan = self._late_plan(*self._begun)
        try:
            return next(self._plan) if report is None else self._plan.send(report)
        except StopIteration as end:
            found: Ending | None = end.value
            return found or _OVER

    def _late_plan(self, now: float, chance: float, step: Try) -> Generator[failover.Step, Report, Ending]:
        """The plan, as if the attempt that was begun without it had been its first step."""
        plan = failover.plan(self._ask, self._runtime.pools, now, chance, step)
        next(plan)
        return plan

    def _failure(self, trouble: Trouble) -> Failure:
        use, plan, now = self._use, self._passage.plan, self._runtime.now()
        assert use is not None and plan is not None
        if trouble.answer is None or trouble.outcome is not None:
            return Failure(trouble.outcome or Outcome.NETWORK, use.began, again=trouble.again)
        self._note_limits(trouble.answer, now)
        headers = _names(trouble.answer)
        body = plain_body(trouble.answer)
        verdict = outcome.judge(plan.provider.facts, trouble.answer.status_code, headers, body)
        stated = waits.stated(plan.provider.facts, headers, body, now)
        url = self._redacted(verdict.url)
        if stated is None:
            rest = verdict.least if verdict.rest is None else max(verdict.rest, verdict.least or 0.0)
            return Failure(verdict.outcome, use.began, rest=rest, url=url)
        seconds = max(stated.seconds, verdict.least or 0.0)
        return Failure(verdict.outcome, use.began, seconds, self._redacted(stated.raw), verdict.rest, url)

    def _redacted(self, text: str | None) -> str | None:
        """A provider's words are kept and shown; it may have sent a key back."""
        return None if text is None else self._passage.snapshot.vault.redact(text)

    def _note_limits(self, answer: http.Response, now: float) -> None:
        """Remember what the provider says remains of the key's limits."""
        use, plan = self._use, self._passage.plan
        if use is None or plan is None or use.place.key is None or not plan.provider.facts.limits:
            return
        left = waits.remaining(plan.provider.facts, _names(answer), now)
        if left is not None:
            self._runtime.pools.gauges.stated(use.place.key, left.share, left.dimension, left.resets_in, now)

    def _close_attempt(self, ending: Outcome, answer: http.Response | None) -> None:
        passage = self._passage
        took = round((self._runtime.monotonic() - passage.attempt_mark) * 1000, 3)
        status = answer.status_code if answer is not None else None
        last = passage.attempts[-1]
        passage.attempts[-1] = Attempt(last.provider, last.model, last.key, last.upstream, status, ending, took)

    def _is_better(self, ending: Outcome, answer: http.Response | None) -> bool:
        """Whether an error is worth more than the best so far; of equals the later one, but real answers before none."""
        best = self.best
        if best is None:
            return True
        new, old = failover.rank(ending), failover.rank(best.outcome)
        return new < old or (new == old and (answer is not None or best.answer is None))


def _names(answer: http.Response) -> dict[str, str]:
    """The headers, by names in lower case."""
    return heads.plain(answer.headers)


def _unavailable(ending: Ending) -> Refusal:
    match ending.reason:
        case "busy":
            text = "every key that this call may use is busy (providers.*.concurrency)"
            return Refusal(429, "all_keys_busy", text, ending.retry_after or 1.0)
        case "resting" if ending.retry_after is not None:
            when = f"the first is free in {ending.retry_after:.0f} s (valetkey keys tells more)"
            return Refusal(429, "all_keys_rest", f"every key that this call may use rests; {when}", ending.retry_after)
        case "deadline":
            return Refusal(504, "deadline", "no key became free within gateway.deadline", ending.retry_after)
        case _:
            return Refusal(503, "no_usable_key", "no key can be used until a person acts (valetkey keys tells why)")
