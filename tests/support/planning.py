"""A scripted world for the failover plan: virtual time, and a function that says how every attempt goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from support.making import CATALOG
from valetkey.model import Key, Outcome, Provider, Upstream
from valetkey.policy.failover import Ask, Ending, Option, Pause, Report, Try, first, plan
from valetkey.policy.health import Failure
from valetkey.policy.pools import Pools, Use, place_of

NOW = 1_800_000_000.0
Answer = Outcome | tuple[Outcome, float] | None
"""How an attempt goes: an outcome, one with the seconds that the provider states, or None for a good answer."""
_HELD: list[Running] = []
World = Callable[[str | None, int, float], Answer]


def provider(name: str = "openai", **changes: Any) -> Provider:
    """A provider of its own host whose rotation is the order of its keys."""
    made = Provider(name, CATALOG["openai"], Upstream("https", f"{name}.test", 443), rotation="round_robin")
    return replace(made, **changes)


def keys(count: int = 1, name: str = "openai", **changes: Any) -> tuple[Key, ...]:
    """Keys `name/1`, `name/2`, …"""
    return tuple(Key(f"{name}/{n}", name, str(n), **changes) for n in range(1, count + 1))


def option(at: int = 0, count: int = 1, name: str = "openai", model: str | None = "m", **changes: Any) -> Option:
    """A target with `count` keys; 0: one that needs none."""
    return Option(at, provider(name, **changes), model, keys(count, name) or (None,))


def ask(*options: Option, deadline: float = 600.0, **changes: Any) -> Ask:
    """A call; `deadline` counts from `NOW`."""
    return Ask(options=options, deadline=NOW + deadline, **changes)


def script(**answers: Answer | Iterable[Answer]) -> World:
    """What each key answers, by its number (`k1=`) or all of them (`all=`): always the same, or one by one, then well."""
    lasting = {name: answer for name, answer in answers.items() if answer is None or isinstance(answer, Outcome | tuple)}
    lists = {name: iter(answer) for name, answer in answers.items() if name not in lasting}  # type: ignore[arg-type]

    def world(key: str | None, at: int, _now: float) -> Answer:
        number = "k" + key.rpartition("/")[2] if key else "none"
        for name in (f"t{at}", number, "all"):
            if name in lists:
                return next(lists[name], None)  # type: ignore[call-overload,no-any-return]
            if name in lasting:
                return lasting[name]  # type: ignore[return-value]
        return None

    return world


@dataclass
class Running:
    """One call under way, told what happens by hand. It does what `proxy.dispatch` does."""

    ask: Ask
    pools: Pools
    now: float = NOW
    chance: float = 0.0
    step: Try | Pause | Ending | None = None
    use: Use | None = None

    def begin(self) -> Try | Pause | Ending:
        begun = first(self.ask, self.pools, self.now, self.chance)
        self._plan = plan(self.ask, self.pools, self.now, self.chance, begun)
        return self._advance(None)

    def attempt(self) -> Try:
        """The attempt that is due is made."""
        assert isinstance(self.step, Try), self.step
        # A moment later than the decision: what is sent after a failure did not happen at the same time.
        self.use = self.pools.began(self.step.option.provider, self.step.place, self.step.permit, self.now + 1e-5)
        return self.step

    def fails(self, outcome: Outcome, stated: float | None = None) -> Try | Pause | Ending:
        assert self.use is not None
        failure = Failure(outcome, self.use.began, stated)
        mark = self.pools.failed(self.use, failure, self.now)
        return self._advance(Report(self.now, self.chance, failure, mark))

    def resumes(self, now: float | None = None) -> Try | Pause | Ending:
        """The pause is over, by default after as long as it asked for."""
        assert isinstance(self.step, Pause), self.step
        self.now = self.now + self.step.seconds if now is None else now
        return self._advance(Report(self.now, self.chance))

    def answers(self) -> None:
        """A good answer has begun; the plan is not told, its permit is held until `close`."""
        assert self.use is not None
        self.pools.answered(self.use, self.now)
        names = self.ask.soft or ((self.ask.session,) if self.ask.session else ())
        if self.use.place.key is not None and names:
            self.pools.affinity.bind(self.use.provider.name, names, self.use.place.key, self.now, soft=True)

    def close(self, ending: Outcome = Outcome.OK) -> None:
        self._plan.close()
        if self.use is not None:
            self.pools.ended(self.use, ending, self.now)

    def _advance(self, report: Report | None) -> Try | Pause | Ending:
        try:
            self.step = next(self._plan) if report is None else self._plan.send(report)
        except StopIteration as end:
            self.step = end.value
        assert self.step is not None
        return self.step


@dataclass
class Trace:
    """What a call did. `tried`: (key number, target) of each attempt; `at`: when, in seconds after it began."""

    tried: list[tuple[str | None, int]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    ending: Ending | None = None
    """None: it was answered well."""
    end: float = 0.0

    @property
    def keys(self) -> str:
        """The keys that were tried, as `1 1 2`; targets after the first as `2@1`."""
        return " ".join(f"{key or '-'}" + (f"@{at}" if at else "") for key, at in self.tried)

    @property
    def reasons(self) -> list[str]:
        """Why it paused, each reason once in a row."""
        names = [pause.reason for pause in self.pauses]
        return [name for n, name in enumerate(names) if not n or names[n - 1] != name]

    @property
    def why(self) -> str | None:
        return self.ending.reason if self.ending else None


def play(
    ask: Ask,
    world: World,
    pools: Pools | None = None,
    *,
    chances: Iterator[float] | None = None,
    took: float = 0.0,
    watch: Callable[[Running], None] = lambda _: None,
    now: float = NOW,
) -> Trace:
    """Run a call to its end. `took` seconds pass in every attempt; `watch` sees every step before it is done."""
    run = Running(ask, Pools() if pools is None else pools, now)
    trace, step = Trace(), None
    for step in _steps(run, world, chances, took):
        watch(run)
        if isinstance(step, Try):
            trace.tried.append((step.key.name if step.key else None, step.option.at))
            trace.at.append(round(run.now - now, 3))
        elif isinstance(step, Pause):
            trace.pauses.append(step)
    trace.ending = run.step if isinstance(run.step, Ending) else None
    trace.end = round(run.now - now, 3)
    run.close(Outcome.OK if trace.ending is None else Outcome.REFUSED)
    return trace


def _steps(run: Running, world: World, chances: Iterator[float] | None, took: float) -> Iterator[Try | Pause | Ending]:
    run.chance = next(chances) if chances else 0.0
    step = run.begin()
    while not isinstance(step, Ending):
        yield step
        run.chance = next(chances) if chances else 0.0
        if isinstance(step, Pause):
            step = run.resumes()
            continue
        run.attempt()
        answer = world(step.key.id if step.key else None, step.option.at, run.now)
        run.now += took
        if answer is None:
            run.answers()
            return
        step = run.fails(*(answer if isinstance(answer, tuple) else (answer,)))


def rests(
    pools: Pools, target: Option, number: int, seconds: float, outcome: Outcome = Outcome.THROTTLED, now: float = NOW
) -> None:
    """A key of a target rests from now on, because of another call."""
    key = target.keys[number - 1]
    pools.health.failed(place_of(target.provider, target.model, key), Failure(outcome, now, seconds), now)


def last_choice(pools: Pools, target: Option, now: float = NOW) -> None:
    """A target's upstream has failed so often that it is the last choice."""
    for n in range(3):
        pools.health.failed(
            place_of(target.provider, target.model, target.keys[0]), Failure(Outcome.SERVER, now - 2 + n), now - 2 + n
        )


def occupied(pools: Pools, target: Option, number: int, times: int = 1) -> list[Running]:
    """Calls of others that a key is serving; they go on, also when nobody looks at them."""
    only = target._replace(keys=(target.keys[number - 1],))
    running = []
    for _ in range(times):
        run = Running(ask(only), pools)
        run.begin()
        run.attempt()
        running.append(run)
    _HELD.extend(running)
    return running
