"""The plan of a call: which key at which target next, what to wait for, and when to give up.

A generator that yields `Try` or `Pause` and is sent a `Report`; it ends with an `Ending`. It holds no clock and no random
source: both come with the report. It reads the pools and takes permits from them; nothing else.

The order of means: the same key after a short pause, another key of the pool, another target, the fallback of the route,
waiting for the first key that may be used again, and at last the best of the errors that came.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from ..model import Key, Order, Outcome, Provider
from .health import LADDER, TABLE, Condition, Failure, Mark, Place
from .pool import Choice, choose
from .pools import Pools, place_of
from .slots import Permit, Ticket

ROUNDS = 3
"""How often all keys are gone through when the provider is at fault."""
SLICE = 1.0
"""The longest pause for a key that rests, in seconds."""
_LEAST = 0.01
"""The shortest pause, in seconds."""
_TOLERANCE = 0.01
"""Seconds by which a sum of waits may miss a bound: times are floats, and a wait in slices adds up inexactly."""
_BELOW_ONE = 1 - 2**-53
_FOR_GOOD = (Outcome.QUOTA, Outcome.BAD_KEY)
_RANKS = (
    (Outcome.CLIENT, Outcome.POLICY, Outcome.TOO_LONG),
    (Outcome.OVERLOADED, Outcome.SERVER, Outcome.NETWORK, Outcome.TIMEOUT),
    (Outcome.THROTTLED,),
    (Outcome.QUOTA,),
    (Outcome.BAD_KEY,),
)

_Name = tuple[int, str | None]
"""A key at a target."""


def rank(outcome: Outcome) -> int:
    """How much an error tells the agent: the lower, the better it is to be shown."""
    return next((at for at, outcomes in enumerate(_RANKS) if outcome in outcomes), len(_RANKS))


class Option(NamedTuple):
    """One target that could be called: `at` is its number, `keys` the usable keys (a single None where none is needed)."""

    at: int
    provider: Provider
    model: str | None
    keys: tuple[Key | None, ...]


class Ask(NamedTuple):
    """What a call wants. Times in seconds; `deadline` by the same clock as the reports.

    `hard` and `soft` are names of things that belong to a key; `session` identifies the conversation where nothing explicit
    does. `wake` is called when a permit has been granted during a pause.
    """

    options: tuple[Option, ...]
    deadline: float
    too_long: tuple[Option, ...] = ()
    exhausted: tuple[Option, ...] = ()
    attempts: int = 16
    max_wait: float = 120.0
    small_wait: float = 10.0
    retry: float = 1.0
    hard: tuple[str, ...] = ()
    soft: tuple[str, ...] = ()
    session: str | None = None
    wake: Callable[[], None] = lambda: None


class Report(NamedTuple):
    """What happened since: the time, a random number in [0, 1), and after a `Try` how it failed and what mark that left."""

    now: float
    chance: float
    failure: Failure | None = None
    mark: Mark | None = None


class Try(NamedTuple):
    """Call this target with this key."""

    option: Option
    key: Key | None
    place: Place
    permit: Permit | None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds, or until `wake` was called."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Ending:
    """No attempt is left. `retry_after`: seconds until a key may be used again; None when that is not known.

    `reason` is `resting`, `busy`, `attempts`, `deadline`, `failed` or `passes` (an error that is the caller's to see).
    """

    reason: str
    retry_after: float | None = None


Step = Try | Pause


def has_choice(*groups: Sequence[Option]) -> bool:
    """Whether there is more than one key, so that it matters which one made what."""
    keys = 0
    for group in groups:
        for option in group:
            keys += len(option.keys)
    return keys > 1


def arrange(options: Sequence[Option], order: Order, weights: Sequence[float], chance: float) -> tuple[Option, ...]:
    """The options in the order to be tried."""
    if order == "priority" or len(options) < 2:
        return tuple(options)
    left = [(option, weights[at] if order == "weighted" and at < len(weights) else 1.0) for at, option in enumerate(options)]
    arranged = []
    while left:
        at, chance = _draw([weight for _, weight in left], chance)
        arranged.append(left.pop(at)[0])
    return tuple(arranged)


def _draw(weights: Sequence[float], chance: float) -> tuple[int, float]:
    """The number that is drawn, and what remains of the chance for the next draw. What weighs nothing comes last, in order."""
    heavy = [at for at, weight in enumerate(weights) if weight > 0]
    if not heavy:
        return 0, chance
    point = chance * sum(weights[at] for at in heavy)
    for at in heavy[:-1]:
        if point < weights[at]:
            return at, point / weights[at]
        point -= weights[at]
    last = heavy[-1]
    return last, min(max(0.0, point / weights[last]), _BELOW_ONE)


def first(ask: Ask, pools: Pools, now: float, chance: float) -> Try | None:
    """The first attempt, where nothing speaks against any key and nothing for a certain one; None where only `plan` can tell.

    It is the one that `plan` would begin with. Most calls need no other; `plan` goes on from it when one does.
    """
    if ask.hard or ask.soft or ask.session or not ask.options or ask.attempts < 1 or now >= ask.deadline:
        return None
    option = ask.options[0]
    if not option.keys or option.provider.model_tiers or not pools.health.is_calm or not _is_unlimited(option):
        return None
    named = [key for key in option.keys if key is not None]
    key = named[0] if len(named) == 1 else _drawn(option, named, pools, None, now, chance) if named else None
    permit = pools.slots.take(key.id, None) if key is not None else None
    return Try(option, key, place_of(option.provider, option.model, key), permit)


def plan(ask: Ask, pools: Pools, now: float, chance: float, begun: Try | None = None) -> Generator[Step, Report, Ending]:
    """The attempts of one call, of which the `first` may have `begun`: it comes once more, to be reported on.

    Close it when the call ends, so that its place in a queue is given up.
    """
    return (yield from _Plan(ask, pools, Report(now, chance)).run(begun))


class _View:
    """How the keys of the options are at this moment."""

    __slots__ = ("busy", "last", "ready", "rests", "spent")

    def __init__(self) -> None:
        self.ready: list[tuple[Option, list[Key | None]]] = []
        self.last: list[tuple[Option, list[Key | None]]] = []
        self.busy: dict[str, int] = {}
        self.rests: list[float] = []
        self.spent = False

    @property
    def earliest(self) -> float | None:
        """When the first resting key may be used again."""
        return min(self.rests, default=None)


class _Plan:
    """The state of one plan."""

    def __init__(self, ask: Ask, pools: Pools, report: Report) -> None:
        self._ask, self._pools, self._report = ask, pools, report
        self._options = list(ask.options)
        self._has_names = bool(ask.hard or ask.soft or ask.session)
        self._fallen_back = self._is_shortened = False
        self._places: dict[_Name, Place] = {}
        self._attempts = 0
        self._waited = self._stayed = 0.0
        """Seconds waited in all, and of these for the key with the warm cache though there may be others."""
        self._round = 1
        self._again: set[_Name] = set()
        self._spent: set[_Name] = set()
        """Failed in this round by the provider's fault."""
        self._gone: set[_Name] = set()
        """Not to be used for this call any more."""
        self._throttled: dict[_Name, int] = {}
        self._rests: dict[_Name, float] = {}
        """Ends of rests that health cannot note: there is no key."""
        self._ticket: Ticket | None = None
        self._wanted: dict[str, int] = {}
        """The keys that the ticket is for."""

    @property
    def _now(self) -> float:
        return self._report.now

    def run(self, begun: Try | None) -> Generator[Step, Report, Ending]:
        """Try, look at what came of it, try again."""
        while self._attempts < self._ask.attempts:
            found: Try | Ending | None = begun or (yield from self._next())
            begun = None
            while isinstance(found, Try):
                ending = yield from self._attempt(found)
                if ending is not None:
                    return ending
                found = yield from self._same_again(found)
            if found is not None:
                return found
        return Ending("attempts", self._retry_after())

    def _attempt(self, attempt: Try) -> Generator[Step, Report, Ending | None]:
        self._attempts += 1
        try:
            self._report = yield attempt
        except GeneratorExit:
            # The call may have ended before the attempt was made; a permit that is given back already stays so.
            self._give_back(attempt.permit)
            raise
        failure = self._report.failure
        if failure is None:
            return Ending("passes")
        if failure.outcome in TABLE:
            return None
        if failure.outcome is Outcome.TOO_LONG and self._ask.too_long and not self._is_shortened:
            self._is_shortened = True
            self._options = [*self._ask.too_long]
            return None
        return Ending("passes")

    def _same_again(self, attempt: Try) -> Generator[Step, Report, Try | None]:
        """The same key once more after a short pause, where that is worth it; else note what failed."""
        failure = self._report.failure
        if failure is None or failure.outcome not in TABLE:
            return None
        pause = self._pause_before_again(attempt, failure.outcome) if failure.again else None
        if pause is None:
            self._set_aside(attempt, failure)
            return None
        self._again.add(_name(attempt.option, attempt.key))
        self._report = yield Pause(pause, str(failure.outcome))
        free = self._free_at(attempt.option, attempt.key)
        # Others may have used the pause: the key may rest by now, or serve as many calls as it can.
        if self._now >= self._ask.deadline or free is None or free > self._now or not self._still_stands(attempt):
            return None
        return self._permitted(attempt.option, attempt.key)

    def _pause_before_again(self, attempt: Try, outcome: Outcome) -> float | None:
        """Seconds until the same key is to be tried once more; None when it is not."""
        if not TABLE[outcome].again or _name(attempt.option, attempt.key) in self._again or not self._still_stands(attempt):
            return None
        spaced = self._spaced_until(attempt.option, attempt.key) - self._now
        pause = max(self._ask.retry * (1 + 0.5 * self._report.chance), spaced)
        if spaced > self._ask.small_wait or self._attempts >= self._ask.attempts or self._now + pause >= self._ask.deadline:
            return None
        return pause

    def _still_stands(self, attempt: Try) -> bool:
        """Whether a key does not rest, and where it is the last choice there is no other."""
        condition = self._condition(attempt.option, attempt.key)
        return not condition.excluded and not (condition.last_choice and self._look().ready)

    def _set_aside(self, attempt: Try, failure: Failure) -> None:
        here, outcome = _name(attempt.option, attempt.key), failure.outcome
        if outcome in _FOR_GOOD:
            self._gone.add(here)
            self._gone.update(self._alike(attempt, outcome))
        elif outcome is Outcome.THROTTLED:
            self._throttled[here] = self._throttled.get(here, 0) + 1
            if attempt.key is None:
                self._rests[here] = self._now + (failure.stated or failure.rest or LADDER[0])
        else:
            self._spent.add(here)
        if outcome is Outcome.OVERLOADED and attempt.option in self._options:
            # Another key of the same model would meet the same lack of capacity.
            self._options.remove(attempt.option)
            self._options.append(attempt.option)

    def _alike(self, attempt: Try, outcome: Outcome) -> Iterator[_Name]:
        """The same key at other targets, where it would meet the same."""
        for option in (*self._ask.options, *self._ask.too_long, *self._ask.exhausted):
            same = outcome is Outcome.BAD_KEY or place_of(option.provider, option.model, attempt.key).group == attempt.place.group
            if attempt.key is not None and attempt.key in option.keys and same:
                yield _name(option, attempt.key)

    # Choosing.

    def _next(self) -> Generator[Step, Report, Try | Ending]:
        """The next attempt, after as much waiting as it takes."""
        try:
            while True:
                if self._now >= self._ask.deadline:
                    return Ending("deadline", self._retry_after())
                found: Try | Ending | None = self._granted()
                if found is None and not (yield from self._stay()):
                    view = self._look()
                    found = self._choose(view) or (yield from self._wait(view))
                if found is not None:
                    return found
        finally:
            self._leave_queue()

    def _look(self) -> _View:
        view, is_calm = _View(), self._is_calm()
        for option in self._options:
            ready: list[Key | None] = []
            last: list[Key | None] = []
            keys = self._allowed(option)
            if is_calm and _is_unlimited(option):
                ready = keys
            else:
                for key in keys:
                    self._sort(option, key, view, ready, last)
            if ready:
                view.ready.append((option, ready))
            if last:
                view.last.append((option, last))
        return view

    def _is_calm(self) -> bool:
        """Whether no key rests or has failed in this round, so that only limits could speak against one."""
        return self._pools.health.is_calm and not self._spent and not self._rests

    def _sort(self, option: Option, key: Key | None, view: _View, ready: list[Key | None], last: list[Key | None]) -> None:
        condition = self._condition(option, key)
        free = self._free_under(condition, option, key)
        if free is None:
            return
        if free > self._now:
            view.rests.append(free)
        elif _name(option, key) in self._spent:
            view.spent = True
        elif key is not None and self._is_busy(option, key):
            view.busy[key.id] = self._limit(option, key) or 0
        else:
            (last if condition.last_choice else ready).append(key)

    def _allowed(self, option: Option) -> list[Key | None]:
        """The keys that this call may still use at an option."""
        suitable = self._suitable(option)
        return [key for key in suitable if _name(option, key) not in self._gone] if self._gone else suitable

    def _suitable(self, option: Option) -> list[Key | None]:
        """The keys that suit this call: what belongs to a key goes to that key, as long as it may come back."""
        owners = self._owners() if self._ask.hard else None
        if not owners and not option.provider.model_tiers:
            return list(option.keys)
        return [key for key in option.keys if self._fits(option, key) and (not owners or (key is not None and key.id in owners))]

    def _owners(self) -> set[str]:
        """The keys that what this call refers to belongs to. At another key, or another provider, it does not exist."""
        return {
            key.id
            for option in self._options
            for owner in (self._pools.affinity.key_for(option.provider.name, self._ask.hard, self._now),)
            for key in option.keys
            if key is not None and key.id == owner and self._fits(option, key) and self._condition(option, key).until is not None
        }

    def _fits(self, option: Option, key: Key | None) -> bool:
        """Whether the model is open to keys of this tier."""
        model = (option.model or "").lower()
        return key is None or all(
            key.priority <= tier for pattern, tier in option.provider.model_tiers if fnmatchcase(model, pattern.lower())
        )

    def _choose(self, view: _View) -> Try | None:
        for option, keys in (*view.ready, *view.last):
            return self._permitted(option, self._pick(option, keys))
        return None

    def _pick(self, option: Option, keys: list[Key | None]) -> Key | None:
        named = [key for key in keys if key is not None]
        if len(named) < 2:
            return named[0] if named else None
        if self._has_names:
            preferred = self._preferred(option)
            for key in named:
                if key.id == preferred:
                    return key
        session, report = self._ask.soft[0] if self._ask.soft else self._ask.session, self._report
        return _drawn(option, named, self._pools, session, report.now, report.chance)

    def _preferred(self, option: Option) -> str | None:
        """The key whose prompt cache is warm for this call."""
        names = self._ask.soft or ((self._ask.session,) if self._ask.session else ())
        return self._pools.affinity.key_for(option.provider.name, (*self._ask.hard, *names), self._now)

    def _permitted(self, option: Option, key: Key | None) -> Try | None:
        place = self._place(option, key)
        if key is None:
            return Try(option, None, place, None)
        permit = self._pools.slots.take(key.id, self._limit(option, key))
        return None if permit is None else Try(option, key, place, permit)

    def _place(self, option: Option, key: Key | None) -> Place:
        name = _name(option, key)
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = place_of(option.provider, option.model, key)
        return place

    def _condition(self, option: Option, key: Key | None) -> Condition:
        return self._pools.health.condition(self._place(option, key), self._now)

    def _free_at(self, option: Option, key: Key | None) -> float | None:
        """When a key may be used, as far as rest and spacing go (not after now: at once); None: when a person acts."""
        return self._free_under(self._condition(option, key), option, key)

    def _free_under(self, condition: Condition, option: Option, key: Key | None) -> float | None:
        """`_free_at`, where the condition is known."""
        if condition.until is None:
            return None
        rest = condition.until if condition.excluded else 0.0
        return max(rest, self._spaced_until(option, key), self._rests.get(_name(option, key), 0.0))

    def _spaced_until(self, option: Option, key: Key | None) -> float:
        spacing = option.provider.spacing
        return self._pools.gauges.of(key.id).last + spacing if key is not None and spacing else 0.0

    def _limit(self, option: Option, key: Key) -> int | None:
        return key.concurrency or option.provider.concurrency

    def _is_busy(self, option: Option, key: Key) -> bool:
        limit = self._limit(option, key)
        return limit is not None and self._pools.slots.active(key.id) >= limit

    # Waiting.

    def _stay(self) -> Generator[Step, Report, bool]:
        """Wait for the key with the warm cache, when that is better than another key; tells whether it did."""
        if not self._has_names:
            return False
        bound = self._bound()
        if bound is None:
            return False
        option, key = bound
        left = (self._free_at(option, key) or 0.0) - self._now
        is_busy = left <= 0 and self._is_busy(option, key)
        patience = self._ask.small_wait - self._stayed
        left = patience if is_busy else left
        if left <= 0 or left > patience + _TOLERANCE or not self._can_wait(left):
            return False
        before = self._now
        if is_busy:
            self._line_up({key.id: self._limit(option, key) or 0})
        yield from self._rest(left, "concurrency" if is_busy else "affinity")
        self._stayed += max(0.0, self._now - before)
        return True

    def _bound(self) -> tuple[Option, Key] | None:
        """The key with the warm cache, at the first target that can be called or has one."""
        for option in self._options:
            preferred = self._preferred(option)
            keys = [key for key in self._allowed(option) if _name(option, key) not in self._spent]
            for key in keys:
                # Throttled again after it was waited for: it will not be better for waiting more.
                if key is not None and key.id == preferred and self._throttled.get(_name(option, key), 0) < 2:
                    return None if self._free_at(option, key) is None else (option, key)
            if any(self._is_ready(option, key) for key in keys):
                return None
        return None

    def _is_ready(self, option: Option, key: Key | None) -> bool:
        free = self._free_at(option, key)
        busy = key is not None and self._is_busy(option, key)
        return free is not None and free <= self._now and not busy and not self._condition(option, key).last_choice

    def _wait(self, view: _View) -> Generator[Step, Report, Ending | None]:
        """Wait until something may have changed; an ending when nothing will in time."""
        if view.busy:
            return (yield from self._queue(view))
        self._leave_queue()
        if self._fall_back():
            return None
        pause = self._patience(view)
        if pause is None:
            return Ending("resting" if view.rests and not view.spent else "failed", self._retry_after())
        yield from self._rest(*pause)
        return None

    def _queue(self, view: _View) -> Generator[Step, Report, Ending | None]:
        """Wait in line for one of the busy keys."""
        most = min(self._ask.deadline - self._now, self._ask.max_wait - self._waited)
        if most <= 0:
            return None if self._fall_back() else Ending("busy", self._retry_after())
        seconds = most if view.earliest is None else min(most, view.earliest - self._now)
        # A key that failed by the provider's fault may be well again before a busy one is free.
        again = self._round_pause() if view.spent and self._round < ROUNDS else None
        self._line_up(view.busy)
        if again is not None and again < seconds:
            yield from self._rest(again, "concurrency")
            if self._ticket is not None and self._ticket.granted is None:
                self._new_round()
        else:
            yield from self._rest(seconds, "concurrency")
        return None

    def _line_up(self, limits: Mapping[str, int]) -> None:
        """Be in the queue for these keys; who is there already keeps the place."""
        self._wanted.clear()
        self._wanted.update(limits)
        if self._ticket is None:
            self._ticket = self._pools.slots.line_up(self._wanted, self._ask.wake)

    def _leave_queue(self) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._give_back(self._pools.slots.leave(ticket))

    def _give_back(self, permit: Permit | None) -> None:
        if permit is not None:
            self._pools.slots.release(permit)

    def _granted(self) -> Try | None:
        """The attempt for a permit from the queue, unless its key has begun to rest meanwhile."""
        ticket = self._ticket
        if ticket is None or ticket.granted is None:
            return None
        self._ticket = None
        permit = self._pools.slots.leave(ticket)
        for option in self._options:
            for key in self._allowed(option):
                if permit is not None and key is not None and key.id == permit.key and self._is_usable(option, key):
                    return Try(option, key, self._place(option, key), permit)
        self._give_back(permit)
        return None

    def _is_usable(self, option: Option, key: Key) -> bool:
        free = self._free_at(option, key)
        return free is not None and free <= self._now and _name(option, key) not in self._spent

    def _fall_back(self) -> bool:
        """Go over to the route's targets for used-up pools, once."""
        if self._fallen_back or not self._ask.exhausted:
            return False
        self._fallen_back = True
        self._options += self._ask.exhausted
        return True

    def _patience(self, view: _View) -> tuple[float, str] | None:
        """How long to wait until something may work again, and for what; None when nothing will in time."""
        rest = None if view.earliest is None else max(_LEAST, view.earliest - self._now)
        pause = self._round_pause()
        if view.spent and self._round < ROUNDS and (rest is None or pause <= rest) and self._can_wait(pause):
            self._new_round()
            return pause, "retry"
        return None if rest is None or not self._can_wait(rest) else (rest, "cooldown")

    def _round_pause(self) -> float:
        pause: float = self._ask.retry * 2 ** (self._round - 1) * (1 + 0.5 * self._report.chance)
        return pause

    def _new_round(self) -> None:
        self._round += 1
        self._spent.clear()
        self._again.clear()

    def _can_wait(self, seconds: float) -> bool:
        return self._now + seconds < self._ask.deadline and self._waited + seconds <= self._ask.max_wait + _TOLERANCE

    def _rest(self, seconds: float, reason: str) -> Generator[Step, Report, None]:
        before = self._now
        # In slices, so that a key that a person enables, or a probe that went well, is seen soon.
        most = seconds if reason in ("retry", "concurrency") else min(seconds, SLICE)
        self._report = yield Pause(min(max(_LEAST, most), self._ask.deadline - before), reason)
        self._waited += max(0.0, self._now - before)

    def _retry_after(self) -> float | None:
        """Seconds until the first key may be used; None where one could be used any moment, or none ever."""
        frees = [self._free_at(option, key) for option in self._options for key in self._suitable(option)]
        least = min((free for free in frees if free is not None), default=self._now)
        return least - self._now if least > self._now else None


def _drawn(option: Option, named: list[Key], pools: Pools, session: str | None, now: float, chance: float) -> Key | None:
    """The key that the rotation of the pool comes to."""
    provider = option.provider
    group, window = place_of(provider, option.model, None).group, provider.window
    candidates = [pools.gauges.candidate(k, group, window, pools.slots.active(k.id), now) for k in named]
    soft = provider.soft_concurrency or (1 if provider.rotation == "balanced" else None)
    current = pools.current.get((provider.name, group)) if provider.rotation == "sequential" else None
    return choose(candidates, Choice(provider.rotation, chance, now, current, session, soft, window.tolerance, provider.leave_at))


def _is_unlimited(option: Option) -> bool:
    """Whether nothing but rests could keep a call from the keys: no spacing, and no limit on calls at once."""
    provider = option.provider
    if provider.spacing or provider.concurrency is not None:
        return False
    return not [key for key in option.keys if key is not None and key.concurrency]


def _name(option: Option, key: Key | None) -> _Name:
    return option.at, key.id if key else None
