"""What is known of the use of each key: counts per window, what the provider says remains, health, bucket."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ..model import Key, Outcome, Window
from .pool import BUCKET, Candidate

_RESET_HOUR = 3
"""Fixed windows begin at 03:00 UTC, when few people notice."""
_REFILL = 6 / 60
"""Tokens per second."""
_START_SCORE = 70.0
_RECOVERY = 10 / 3600
"""Points of health per second."""
_SCORES = {Outcome.OK: 1.0, Outcome.THROTTLED: -10.0, Outcome.QUOTA: -10.0}
_FAILED = -20.0
_BELIEVED = 300.0
"""Seconds for which a provider's statement of what remains is believed, where it does not say when there is more."""
_LATEST = 1e11
"""Unix seconds up to which a time is one (the year 5138)."""


@dataclass(slots=True)
class Count:
    """The calls of a key for a model (or quota group) since the window began."""

    begun: float
    ends: float
    used: int = 0
    most: int = 0
    """The highest count that any window saw."""


@dataclass(slots=True)
class Gauge:
    """One key."""

    last: float = 0.0
    used: int = 0
    """Calls since the gateway knows the key."""
    remaining: float | None = None
    dimension: str | None = None
    stated_at: float = 0.0
    resets_at: float = 0.0
    score: float = _START_SCORE
    scored_at: float = 0.0
    tokens: float = BUCKET
    filled_at: float = 0.0
    counts: dict[str, Count] = field(default_factory=dict)


class Gauges:
    """The gauges of all keys, by key id."""

    def __init__(self) -> None:
        self._gauges: dict[str, Gauge] = {}
        self._changed: set[str] = set()

    def of(self, key: str) -> Gauge:
        """The gauge of a key; a new one where it is not known yet."""
        gauge = self._gauges.get(key)
        if gauge is None:
            gauge = self._gauges[key] = Gauge()
        return gauge

    def began(self, key: str, group: str, window: Window, now: float) -> None:
        """An attempt is sent with a key."""
        gauge = self.of(key)
        gauge.last, gauge.used = now, gauge.used + 1
        gauge.tokens, gauge.filled_at = max(0.0, _tokens(gauge, now) - 1), now
        count = _current(gauge, group, window, now)
        count.used += 1
        count.most = max(count.most, count.used)
        self._changed.add(key)

    def ended(self, key: str, group: str, outcome: Outcome, now: float, began: float | None = None) -> None:
        """An attempt that `began` (None: in this window) ended. What was not the key's doing cost nothing: it is taken back."""
        gauge = self.of(key)
        self._changed.add(key)
        if outcome in (Outcome.SERVER, Outcome.NETWORK, Outcome.TIMEOUT, Outcome.OVERLOADED):
            gauge.tokens = min(BUCKET, gauge.tokens + 1)
            count = gauge.counts.get(group)
            if count is not None and count.used and (began is None or count.begun <= began):
                count.used -= 1
            return
        change = _SCORES.get(outcome, _FAILED if outcome is Outcome.BAD_KEY else 0.0)
        gauge.score, gauge.scored_at = min(100.0, max(0.0, _score(gauge, now) + change)), now

    def stated(self, key: str, share: float, dimension: str, resets_in: float | None, now: float) -> None:
        """The provider said what remains of the scarcest limit."""
        gauge = self.of(key)
        gauge.remaining, gauge.dimension, gauge.stated_at = share, dimension, now
        gauge.resets_at = now + resets_in if resets_in is not None else 0.0
        self._changed.add(key)

    def candidate(self, key: Key, group: str, window: Window, active: int, now: float) -> Candidate:
        """The figures of a key for a choice."""
        gauge = self._gauges.get(key.id)
        if gauge is None:
            return Candidate(key, active=active)
        count = gauge.counts.get(group)
        used = count.used if count is not None and _is_running(count, window, gauge, now) else 0
        remaining = None if now >= (gauge.resets_at or gauge.stated_at + _BELIEVED) else gauge.remaining
        return Candidate(
            key, used, active, gauge.last, remaining, now - gauge.stated_at, _score(gauge, now), _tokens(gauge, now) / BUCKET
        )  # fmt: skip

    def forget(self, key: str) -> None:
        """Forget a key."""
        self._gauges.pop(key, None)
        self._changed.add(key)

    def changes(self) -> dict[str, Any]:
        """What has changed since this was asked last, ready for JSON; None: gone."""
        changed, self._changed = self._changed, set()
        return {key: self._document(key) for key in changed}

    def load(self, documents: Mapping[str, Any], now: float = math.inf) -> None:
        """Take up what was kept; what cannot be read is left out, and times after `now` are of a clock that went back."""
        for key, document in documents.items():
            try:
                self._gauges[key] = _gauge(document, now)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
                continue

    def _document(self, key: str) -> dict[str, Any] | None:
        gauge = self._gauges.get(key)
        if gauge is None:
            return None
        counts = {name: (count.begun, count.ends, count.used, count.most) for name, count in gauge.counts.items()}
        stated = (gauge.remaining, gauge.dimension, gauge.stated_at, gauge.resets_at)
        return {"last": gauge.last, "used": gauge.used, "counts": counts, "stated": stated}


def _gauge(document: Any, now: float) -> Gauge:
    """A gauge from JSON. Raises a LookupError, ArithmeticError, AttributeError, TypeError or ValueError for what is none."""
    counts = {
        name: Count(_time(begun), _time(ends), _number(used), _number(most))
        for name, (begun, ends, used, most) in document["counts"].items()
    }
    gauge = Gauge(last=min(_time(document["last"]), now), used=_number(document["used"]), counts=counts)
    remaining, dimension, stated_at, resets_at = document.get("stated") or (None, None, 0.0, 0.0)
    if remaining is not None and _time(stated_at) <= now:
        gauge.remaining, gauge.dimension = min(1.0, _time(remaining)), str(dimension)
        gauge.stated_at, gauge.resets_at = _time(stated_at), _time(resets_at)
    return gauge


def _time(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise ValueError(value)
    return float(value)


def _number(value: Any) -> int:
    return int(_time(value))


def _current(gauge: Gauge, group: str, window: Window, now: float) -> Count:
    """The count of the running window; a window begins with its first call."""
    count = gauge.counts.get(group)
    if count is None or not _is_running(count, window, gauge, now):
        most = count.most if count else 0
        gauge.counts.pop(group, None)
        if len(gauge.counts) >= 256:  # agents choose model names
            gauge.counts.pop(next(iter(gauge.counts)))
        count = gauge.counts[group] = Count(now, window_end(window, now), 0, most)
    return count


def _is_running(count: Count, window: Window, gauge: Gauge, now: float) -> bool:
    """Whether a window has not ended. One that begins in the future was kept by a clock that went back since."""
    if window.kind == "rolling":  # most are: seen to without further calls, several times per call
        return count.begun <= now < count.begun + window.length and now < count.ends
    return count.begun <= now < _end(count, window, gauge)


def _end(count: Count, window: Window, gauge: Gauge) -> float:
    if window.kind == "provider":
        return gauge.resets_at if gauge.resets_at > count.begun else count.begun + window.length
    return min(count.ends, window_end(window, count.begun))


def window_end(window: Window, begun: float) -> float:
    """When a window that began with a call at `begun` ends (Unix seconds)."""
    if window.kind in ("rolling", "provider"):
        return begun + window.length
    moment = datetime.fromtimestamp(begun, UTC)
    day = moment.replace(hour=_RESET_HOUR, minute=0, second=0, microsecond=0)
    if window.kind == "monthly":
        first = day.replace(day=1)
        return (first if moment < first else (first + timedelta(days=32)).replace(day=1)).timestamp()
    if window.kind == "weekly":  # Sunday
        day += timedelta(days=(6 - day.weekday()) % 7)
    step = timedelta(days=7 if window.kind == "weekly" else 1)
    return (day if moment < day else day + step).timestamp()


def _tokens(gauge: Gauge, now: float) -> float:
    return min(BUCKET, gauge.tokens + max(0.0, now - gauge.filled_at) * _REFILL)


def _score(gauge: Gauge, now: float) -> float:
    if not gauge.scored_at or gauge.score >= 100.0:
        return gauge.score
    return min(100.0, gauge.score + max(0.0, now - gauge.scored_at) * _RECOVERY)
