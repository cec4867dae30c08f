"""Everything that is remembered between calls for choosing keys: health, permits, use, affinity. One per process.

Decisions read it (`failover.py`); these few methods are the only ones that change it. Time is always an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from ..model import Key, Outcome, Provider
from .affinity import Affinity
from .counted import Counted
from .gauges import Gauges
from .health import Failure, Health, Mark, Place
from .kept import Kept
from .slots import Permit, Slots


@dataclass(eq=False, slots=True)
class Use:
    """One attempt's hold on a key: its place, when it began, and its permit."""

    provider: Provider
    place: Place
    began: float
    permit: Permit | None = None
    over: bool = False


def group_of(provider: Provider, model: str | None) -> str:
    """The quota group of a model, else the model itself; `*` where a call names none."""
    name = (model or "*").lower()
    for group, patterns in provider.quota_groups:
        if any(fnmatchcase(name, pattern.lower()) for pattern in patterns):
            return f"group {group}"
    return name[:200]


def place_of(provider: Provider, model: str | None, key: Key | None) -> Place:
    """Where an attempt goes, as health sees it."""
    name = key.id if key else None
    asked = (id(provider), model, name)
    found = _PLACES.get(asked)
    if found is None:
        place = Place(name, provider.name, (model or "*").lower()[:200], group_of(provider, model), provider.upstream.origin)
        found = _PLACES.put(asked, place, provider, model or "")
    return found


_PLACES: Kept[Place] = Kept()


@dataclass(slots=True)
class Pools:
    """The state of all pools."""

    health: Health = field(default_factory=Health)
    slots: Slots = field(default_factory=Slots)
    gauges: Gauges = field(default_factory=Gauges)
    affinity: Affinity = field(default_factory=Affinity)
    counted: Counted = field(default_factory=Counted)
    current: dict[tuple[str, str], str] = field(default_factory=dict)
    """The key that a pool used last for a model or quota group, by (provider, group)."""

    def began(self, provider: Provider, place: Place, permit: Permit | None, now: float) -> Use:
        """An attempt is made."""
        self.health.begins(place, now)
        if place.key is not None:
            self.gauges.began(place.key, place.group, provider.window, now)
            if (provider.name, place.group) not in self.current and len(self.current) > 4096:  # agents choose model names
                self.current.clear()
            self.current[provider.name, place.group] = place.key
        return Use(provider, place, now, permit)

    def failed(self, use: Use, failure: Failure, now: float) -> Mark | None:
        """It failed; gives the mark that this left."""
        self._over(use, failure.outcome, now)
        mark = self.health.failed(use.place, failure, now)
        self.health.abandoned(use.place, use.began)
        return mark

    def answered(self, use: Use, now: float) -> None:
        """A good answer has begun: the key and the upstream are well. The permit is held until the answer ends."""
        self.health.succeeded(use.place, use.began, now)

    def ended(self, use: Use, outcome: Outcome, now: float) -> None:
        """The attempt is over, one way or the other; only the first call counts."""
        if use.over:
            return
        self._over(use, outcome, now)
        if outcome is Outcome.OK:
            self.health.succeeded(use.place, use.began, now)
        else:
            self.health.abandoned(use.place, use.began)

    def _over(self, use: Use, outcome: Outcome, now: float) -> None:
        if use.over:
            return
        use.over = True
        if use.place.key is not None:
            self.gauges.ended(use.place.key, use.place.group, outcome, now, use.began)
        if use.permit is not None:
            self.slots.release(use.permit)

    def forget(self, key: str) -> None:
        """The value behind a key's id has changed: nothing that was known of it counts any more."""
        self.health.reset(key)
        self.gauges.forget(key)
        self.affinity.forget_key(key)

    def changes(self) -> dict[str, Mapping[str, Any]]:
        """What has changed since this was asked last, by kind, ready to be kept."""
        found = {
            "mark": self.health.changes(),
            "use": self.gauges.changes(),
            "affinity": self.affinity.changes(),
            "counted": self.counted.changes(),
        }
        return {kind: changed for kind, changed in found.items() if changed}

    def load(self, kept: Mapping[str, Mapping[str, Any]], now: float) -> None:
        """Take up what was kept."""
        self.health.load(kept.get("mark", {}), kept.get("disabled", {}), now)
        self.gauges.load(kept.get("use", {}), now)
        self.affinity.load(kept.get("affinity", {}), now)
        self.counted.load(kept.get("counted", {}), now)
