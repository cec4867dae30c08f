"""Which keys, models and upstreams rest, why and until when: a state machine that is one table.

A `Mark` is what is remembered of a scope that failed; a scope without a mark is healthy. `TABLE` says for each outcome what
is marked and for how long. Times are Unix seconds of a clock that never goes back (`Health` never asks for it itself).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from ..model import Outcome

Kind = Literal["key", "key_model", "model", "upstream"]
_KINDS: tuple[Kind, ...] = get_args(Kind)

LADDER = (10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds of rest for the first, second, … failure in a row, where nobody states a time."""
ROW = 3
"""Failures in a row after which a provider's model or an upstream becomes the last choice."""
ROW_WINDOW = 60.0
"""Seconds in which failures of an upstream count as in a row; once it has rested, counted from the end of its rest."""
PROBE = 5.0
"""Seconds that the first call after a rest has to show how it goes, before another one may try."""
FOREVER = 31 * 86400.0
"""The longest rest, in seconds; a wrong date must not retire a provider for years."""
KEPT = 2 * 86400.0
"""Seconds for which a strike is remembered after its rest: then a failure is the first one again."""

LIMIT = 10_000
"""Marks from which on those of models that do not rest any more are forgotten: agents choose model names."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What rests: a key, a key for a model (or quota group), a model of a provider, an upstream."""

    kind: Kind
    name: str
    model: str = ""

    def __str__(self) -> str:
        return "\t".join((self.kind, self.name, self.model))


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attempt goes, as far as health is concerned. `group` is the quota group of the model, or the model itself."""

    key: str | None
    provider: str
    model: str
    group: str
    upstream: str

    def scope(self, kind: Kind) -> Scope | None:
        """The scope of a kind that this attempt falls into; None without a key where one is needed."""
        match kind:
            case "model":
                return Scope("model", self.provider, self.model)
            case "upstream":
                return Scope("upstream", self.upstream)
            case _ if self.key is None:
                return None
            case "key":
                return Scope("key", self.key)
            case "key_model":
                return Scope("key_model", self.key, self.group)

    def scopes(self) -> Iterator[Scope]:
        """All scopes of this attempt."""
        return (scope for kind in _KINDS if (scope := self.scope(kind)) is not None)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what an outcome marks, and for how long when nothing is stated.

    `default` is a rest in seconds, None for the ladder; `after` failures in a row it begins; `window` seconds long failures
    count as in a row. `excludes` False: the scope is the last choice while it rests. `out_after` failures it is out until a
    person acts. `again`: the same key is tried once more first.
    """

    marks: Kind
    default: float | None = None
    stated: bool = True
    after: int = 1
    window: float = KEPT
    excludes: bool = True
    out_after: int | None = None
    again: bool = False


_PROVIDERS_FAULT = Row("upstream", None, stated=False, after=ROW, window=ROW_WINDOW, excludes=False, again=True)
TABLE: Mapping[Outcome, Row] = {
    Outcome.THROTTLED: Row("key_model"),
    Outcome.QUOTA: Row("key_model", 3600.0),
    Outcome.BAD_KEY: Row("key", 300.0, stated=False, out_after=2),
    Outcome.OVERLOADED: Row("model", 10.0, after=ROW, excludes=False, again=True),
    Outcome.SERVER: _PROVIDERS_FAULT,
    Outcome.NETWORK: _PROVIDERS_FAULT,
    Outcome.TIMEOUT: _PROVIDERS_FAULT,
}
"""Outcomes that are not here (client, too_long, policy) mark nothing and pass through."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is remembered of a scope that failed. `until` is the end of its rest, `since` its beginning.

    `raw` is the provider's own statement of the rest, `url` a page where a person must act. `out`: until a person acts.
    `probe` is the end of the time in which one call tries whether all is well again. `recent` are the times of the failures
    in a row that have led to no rest yet; `length` is the rest in seconds as of the failure that set it.
    """

    reason: Outcome
    since: float
    until: float
    strikes: int = 1
    raw: str | None = None
    url: str | None = None
    out: bool = False
    probe: float = 0.0
    recent: tuple[float, ...] = ()
    length: float = FOREVER

    def left(self, now: float) -> float:
        """Seconds of rest that are left; never more than it was long, whatever the clock did."""
        return max(0.0, min(self.until - now, self.until - self.since, self.length))


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of a failed attempt: `began` is when it was sent, `stated` the seconds that the provider asks for."""

    outcome: Outcome
    began: float
    stated: float | None = None
    raw: str | None = None
    rest: float | None = None
    """Seconds for this particular error when nothing is stated (the catalogue's)."""
    url: str | None = None
    again: bool = True
    """False where the same key would meet the same."""


def after_failure(mark: Mark | None, failure: Failure, now: float) -> Mark | None:
    """The mark of a scope after an attempt in it failed. Pure; None when the outcome marks nothing."""
    row = TABLE.get(failure.outcome)
    if row is None:
        return mark
    parallel = mark is not None and failure.began <= mark.since
    strikes, recent = _strikes(mark, row, now, parallel)
    rest = min(max(0.0, _rest(failure, row, strikes)), FOREVER) if strikes >= row.after else 0.0
    out = bool(row.out_after and strikes >= row.out_after)
    made = Mark(failure.outcome, now, now + rest, strikes, failure.raw, failure.url, out, recent=recent, length=rest)
    if mark is None:
        return made
    since = mark.since if parallel else now
    # A longer rest is never shortened by a shorter one, and what is out stays out.
    longer = mark if mark.until > made.until else made
    return replace(
        longer, strikes=strikes, since=since, out=out or mark.out, url=made.url or mark.url, probe=0.0, recent=recent,
    )  # fmt: skip


def _strikes(mark: Mark | None, row: Row, now: float, parallel: bool) -> tuple[int, tuple[float, ...]]:
    """Failures in a row, this one included, and when those were that led to no rest. Parallel attempts count once."""
    if mark is None:
        return 1, (now,)
    if parallel:
        return mark.strikes, mark.recent
    if mark.strikes < row.after:
        recent = (*(time for time in mark.recent if now - time <= row.window), now)
        return len(recent), recent
    return (mark.strikes + 1, ()) if now - max(mark.since, mark.until) <= row.window else (1, (now,))


def _rest(failure: Failure, row: Row, strikes: int) -> float:
    if row.stated and failure.stated:
        return failure.stated
    if failure.rest is not None:
        return failure.rest
    if row.default is not None:
        return row.default
    return LADDER[min(strikes - row.after, len(LADDER) - 1)]


@dataclass(frozen=True, slots=True)
class Condition:
    """How a place is. `excluded`: it must not be used now; `last_choice`: only when there is no other.

    `until` is when that may change (seconds, None: when a person acts), `reason` and `scope` tell why.
    """

    excluded: bool = False
    last_choice: bool = False
    until: float | None = 0.0
    reason: Outcome | None = None
    scope: Scope | None = None


WELL = Condition()


class Health:
    """The marks of all scopes."""

    def __init__(self) -> None:
        self._marks: dict[Scope, Mark] = {}
        self._disabled: set[str] = set()
        self._changed: set[Scope] = set()

    def failed(self, place: Place, failure: Failure, now: float) -> Mark | None:
        """Note a failed attempt; gives the mark it left."""
        row = TABLE.get(failure.outcome)
        scope = place.scope(row.marks) if row else None
        if scope is None:
            return None
        if len(self._marks) >= LIMIT and scope not in self._marks:
            self._make_room(now)
        mark = after_failure(self._marks.get(scope), failure, now)
        if mark is not None:
            self._put(scope, mark)
        return mark

    def succeeded(self, place: Place, began: float, now: float) -> None:
        """Note a good answer to an attempt sent at `began`: it clears what it can have known of, except a running quota rest."""
        for scope in self._marked(place):
            mark = self._marks[scope]
            if began <= mark.since:
                continue
            if mark.reason is Outcome.QUOTA and mark.left(now) > 0:
                continue
            self._drop(scope)

    def abandoned(self, place: Place, began: float | None = None) -> None:
        """An attempt sent at `began` told nothing about some of its scopes: a probe that it was is free again (None: any)."""
        for scope in self._marked(place):
            mark = self._marks[scope]
            if mark.probe and (began is None or mark.probe == began + PROBE):
                self._marks[scope] = replace(mark, probe=0.0)

    def begins(self, place: Place, now: float) -> None:
        """Note that an attempt is sent: after a rest it is the one probe."""
        for scope in self._marked(place):
            mark = self._marks[scope]
            if mark.strikes >= TABLE[mark.reason].after and not mark.left(now) and mark.probe <= now:
                self._marks[scope] = replace(mark, probe=now + PROBE)  # not kept: it does not outlive the process

    @property
    def is_calm(self) -> bool:
        """Whether nothing is known against any place."""
        return not (self._marks or self._disabled)

    def condition(self, place: Place, now: float) -> Condition:
        """Whether a place may be used, the worst of its scopes."""
        if not (self._marks or self._disabled):
            return WELL
        if place.key in self._disabled:
            return Condition(True, until=None, scope=Scope("key", place.key or ""))
        found = [_condition(scope, self._marks[scope], now) for scope in self._marked(place)]
        return max(found, key=_badness, default=WELL)

    def _marked(self, place: Place) -> list[Scope]:
        """The scopes of a place that have a mark."""
        return [scope for scope in place.scopes() if scope in self._marks] if self._marks else []

    def disable(self, key: str) -> None:
        """Take a key out, by a person's word."""
        self._disabled.add(key)

    def enable(self, key: str) -> None:
        """Let a key be used again, by a person's word; what had put it out is forgotten."""
        self._disabled.discard(key)
        for scope in [scope for scope, mark in self._marks.items() if scope.name == key and mark.out]:
            self._drop(scope)

    def reset(self, key: str) -> None:
        """Forget everything about a key, also that it was disabled: a person said so, or its value changed."""
        self._disabled.discard(key)
        for scope in [scope for scope in self._marks if scope.kind.startswith("key") and scope.name == key]:
            self._drop(scope)

    def is_disabled(self, key: str) -> bool:
        """Whether a person took the key out."""
        return key in self._disabled

    def marks_of(self, key: str) -> list[tuple[Scope, Mark]]:
        """The marks of a key and of its models."""
        return [(scope, mark) for scope, mark in self._marks.items() if scope.kind.startswith("key") and scope.name == key]

    def marks(self) -> list[tuple[Scope, Mark]]:
        """All marks."""
        return list(self._marks.items())

    def sweep(self, now: float) -> None:
        """Forget strikes that are long over, so that the book does not grow."""
        for scope, mark in list(self._marks.items()):
            if not mark.out and now - mark.until > KEPT:
                self._drop(scope)

    def changes(self) -> dict[str, Any]:
        """What has changed since this was asked last, ready for JSON; None: gone."""
        changed, self._changed = self._changed, set()
        return {str(scope): _document(self._marks.get(scope)) for scope in changed}

    def disabled(self) -> dict[str, Any]:
        """The keys that a person took out, ready for JSON."""
        return dict.fromkeys(self._disabled, True)

    def load(self, marks: Mapping[str, Any], disabled: Iterable[str], now: float) -> None:
        """Take up what was kept. What cannot be read is left out; no rest is longer than it was."""
        self._disabled |= set(disabled)
        for name, document in marks.items():
            entry = _read(name, document, now)
            if entry is not None:
                self._marks[entry[0]] = entry[1]

    def _make_room(self, now: float) -> None:
        for scope in [scope for scope, mark in self._marks.items() if scope.model and not mark.out and mark.until <= now]:
            self._drop(scope)

    def _put(self, scope: Scope, mark: Mark) -> None:
        self._marks[scope] = mark
        self._changed.add(scope)

    def _drop(self, scope: Scope) -> None:
        self._marks.pop(scope, None)
        self._changed.add(scope)


def _condition(scope: Scope, mark: Mark, now: float) -> Condition:
    row = TABLE[mark.reason]
    if mark.out:
        return Condition(True, until=None, reason=mark.reason, scope=scope)
    left = mark.left(now)
    if left > 0 and mark.strikes >= row.after:
        return Condition(row.excludes, not row.excludes, now + left, mark.reason, scope)
    if mark.probe > now:
        return Condition(row.excludes, not row.excludes, mark.probe, mark.reason, scope)
    return WELL


def _badness(condition: Condition) -> tuple[bool, bool, bool, float]:
    return (condition.excluded, condition.until is None, condition.last_choice, condition.until or 0.0)


def _document(mark: Mark | None) -> dict[str, Any] | None:
    return None if mark is None else asdict(mark) | {"reason": str(mark.reason), "probe": 0.0}


def _read(name: str, document: Any, now: float) -> tuple[Scope, Mark] | None:
    try:
        kind, key, model = name.split("\t", 2)
        mark = _mark(document)
        if kind not in _KINDS or mark.reason not in TABLE or mark.strikes < 1:
            return None
        left = min(max(0.0, mark.until - now), max(0.0, mark.until - mark.since), max(0.0, mark.length), FOREVER)
        # Kept by another clock: counted from now on, so that a clock that went back prolongs nothing.
        until = now + left if left else min(mark.until, now)
        recent = tuple(min(time, now) for time in mark.recent)
        return Scope(kind, key, model), replace(mark, since=min(mark.since, now), until=until, recent=recent)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _mark(document: Any) -> Mark:
    """A mark from JSON. Raises KeyError, TypeError, ValueError or OverflowError for what is none."""
    raw, url = document.get("raw"), document.get("url")
    return Mark(
        Outcome(document["reason"]),
        _finite(document["since"]),
        _finite(document["until"]),
        int(_finite(document["strikes"])),
        raw if isinstance(raw, str) else None,
        url if isinstance(url, str) else None,
        document.get("out") is True,
        recent=tuple(_finite(time) for time in document.get("recent", ())[-ROW:]),
        length=_finite(document.get("length", FOREVER)),
    )


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)
