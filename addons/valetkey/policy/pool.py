"""Which key of a pool the next attempt uses: one function per rotation, on figures that somebody else keeps.

`Candidate` holds what is known of a key's use; `choose` is pure. A lower `priority` number is a better tier, and only the best
tier that has a usable key is looked at; a key whose limit is nearly used up counts only where there is no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from typing import NamedTuple

from ..model import Key, Rotation
from .affinity import start

BUCKET = 50.0
"""Calls that the bucket of a key holds (hybrid)."""
_STALE = 300.0
"""Seconds for which a provider's own statement of what remains is believed fully."""
_WELL = 50.0
"""The score from which on a key counts as healthy (hybrid)."""
_CRITICAL = 0.05
"""The share of a limit at which a key is kept back (hybrid)."""


class Candidate(NamedTuple):
    """A key that may be used now, with the figures that a choice needs.

    `used` counts its calls in the window, `active` those it serves now; `last` is when it was last used (0: never);
    `remaining` the share of its limits that is left as the provider says (None: unknown), `age` how old that is in seconds;
    `score` its health from 0 to 100, `tokens` the fill of its bucket from 0 to 1.
    """

    key: Key
    used: int = 0
    active: int = 0
    last: float = 0.0
    remaining: float | None = None
    age: float = 0.0
    score: float = 70.0
    tokens: float = 1.0


class Choice(NamedTuple):
    """What a choice depends on besides the candidates. `chance` is a random number in [0, 1).

    `current` is the key that this pool, or this conversation, used last; `session` identifies the conversation.
    """

    rotation: Rotation
    chance: float
    now: float
    current: str | None = None
    session: str | None = None
    soft: int | None = None
    tolerance: float = 3.0
    leave_at: float = 0.0


def choose(candidates: Sequence[Candidate], how: Choice) -> Key | None:
    """The key to use; None without candidates."""
    left = _below_soft(_best_tier(_left_alone(candidates, how.leave_at)), how.soft)
    if not left:
        return None
    if how.current is not None and how.rotation in ("sequential", "sticky"):
        for each in left:
            if each.key.id == how.current:
                return each.key
    return _ROTATIONS[how.rotation](left, how).key


def _best_tier(candidates: Sequence[Candidate]) -> list[Candidate]:
    tiers = [each.key.priority for each in candidates]
    if len({*tiers}) < 2:
        return [*candidates]
    best = min(tiers)
    return [*compress(candidates, map(best.__eq__, tiers))]


def _left_alone(candidates: Sequence[Candidate], leave_at: float) -> Sequence[Candidate]:
    """Without the keys whose limit is nearly used up, as long as another is there."""
    return [each for each in candidates if each.remaining is None or each.remaining > leave_at] or candidates


def _below_soft(candidates: list[Candidate], soft: int | None) -> list[Candidate]:
    if soft is None:
        return candidates
    return [each for each in candidates if each.active < soft] or candidates


def _balanced(candidates: list[Candidate], how: Choice) -> Candidate:
    """Less used keys are likelier; with tolerance 0 the least used one is certain. What a provider says remains counts too."""
    if how.tolerance <= 0:
        return min(candidates, key=lambda each: (each.used / each.key.weight, each.last, each.key.id))
    # Use counts by weight: else a heavy key, once it is ahead, would be drawn no oftener than a light one.
    used = [each.used / each.key.weight for each in candidates]
    most = max(used)
    weights = [
        max(0.1, most - own + how.tolerance + 1) * each.key.weight * _share(each)
        for each, own in zip(candidates, used, strict=True)
    ]
    return _drawn(candidates, weights, how.chance)


def _share(candidate: Candidate) -> float:
    """What remains as a factor: unknown counts as full, and nothing is ever quite excluded."""
    if candidate.remaining is None or candidate.age > _STALE:
        return 1.0
    return max(0.05, candidate.remaining)


def _drawn(candidates: list[Candidate], weights: list[float], chance: float) -> Candidate:
    point = chance * sum(weights)
    for candidate, weight in zip(candidates, weights, strict=True):
        point -= weight
        if point < 0:
            return candidate
    return candidates[-1]


def _sequential(candidates: list[Candidate], how: Choice) -> Candidate:
    """The one that was begun is emptied first."""
    return max(candidates, key=lambda each: (each.used, each.last))


def _sticky(candidates: list[Candidate], how: Choice) -> Candidate:
    """A new conversation starts where its name says, so that it starts there again after its binding is forgotten."""
    if how.session is None:
        return _balanced(candidates, how)
    return sorted(candidates, key=lambda each: each.key.id)[start(how.session, len(candidates))]


def _round_robin(candidates: list[Candidate], how: Choice) -> Candidate:
    """Longest unused first; keys that were never used keep their order."""
    return min(candidates, key=lambda each: (each.last, each.used))


def _least_busy(candidates: list[Candidate], how: Choice) -> Candidate:
    return min(candidates, key=lambda each: (each.active / each.key.weight, each.last))


def _hybrid(candidates: list[Candidate], how: Choice) -> Candidate:
    """The best of health, bucket, quota and rest; filters are dropped in steps when nobody passes them."""
    critical = max(how.leave_at, _CRITICAL)
    filled = [each for each in candidates if each.tokens * BUCKET >= 1]
    healthy = [each for each in filled if each.score >= _WELL]
    passing = [each for each in healthy if each.remaining is None or each.age > _STALE or each.remaining > critical]
    return max(passing or healthy or filled or candidates, key=lambda each: (_worth(each, how.now), each.key.id))


def _worth(candidate: Candidate, now: float) -> float:
    quota = 50.0 if candidate.remaining is None else candidate.remaining * (90 if candidate.age > _STALE else 100)
    idle = min(now - candidate.last, 3600.0) if candidate.last else 3600.0
    return candidate.score * 2 + candidate.tokens * 100 * 5 + quota * 3 + idle * 0.1


_ROTATIONS: Mapping[Rotation, Callable[[list[Candidate], Choice], Candidate]] = {
    "balanced": _balanced,
    "sequential": _sequential,
    "sticky": _sticky,
    "round_robin": _round_robin,
    "least_busy": _least_busy,
    "hybrid": _hybrid,
}
