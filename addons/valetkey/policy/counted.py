"""How many of the results in an answer have been counted, so that what is fetched again is not counted again."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

_LONGEST = 256
"""Longest name in characters; it is made of a path that an agent chose."""


@dataclass(slots=True)
class _Entry:
    count: int
    used: float


class Counted:
    """Results counted so far, by the name of what holds them. At most `limit` names; each ends after `ttl` seconds unused.

    Providers keep results for 29 days (Anthropic) or 30 (OpenAI). `now` is in seconds, of a clock that goes on over a restart.
    """

    def __init__(self, ttl: float = 60 * 86400, limit: int = 10_000) -> None:
        self._ttl, self._limit = ttl, limit
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._changed: dict[str, None] = {}

    def take(self, name: str, number: int, now: float) -> bool:
        """Whether result `number` (from 0, in the order of the answer) is new; from now on it is not."""
        name = name[:_LONGEST]
        entry = self._entries.get(name)
        if entry is None or now - entry.used > self._ttl:
            entry = self._entries[name] = _Entry(0, now)
        self._entries.move_to_end(name)
        self._changed[name] = None
        entry.used = now
        if number < entry.count:
            return False
        entry.count = number + 1
        while len(self._entries) > self._limit:
            gone, _ = self._entries.popitem(last=False)
            self._changed[gone] = None
        return True

    def changes(self) -> dict[str, dict[str, object] | None]:
        """The entries changed since the last call, ready for JSON; None for one that is gone."""
        changed: dict[str, dict[str, object] | None] = {}
        for name in self._changed:
            entry = self._entries.get(name)
            changed[name] = None if entry is None else {"count": entry.count, "used": entry.used}
        self._changed.clear()
        return changed

    def load(self, entries: Mapping[str, object], now: float) -> None:
        """Take what `changes` gave before a restart. What is no entry or has ended goes, also from the store."""
        found = {name: entry for name, stored in entries.items() if (entry := _read(stored, now)) is not None}
        self._changed |= dict.fromkeys(entries.keys() - found.keys())
        for name, entry in sorted(found.items(), key=lambda item: item[1].used):
            if now - entry.used > self._ttl:
                self._changed[name] = None
            elif name in self._entries:  # what happened since the start came on top
                self._entries[name].count = max(self._entries[name].count, entry.count)
                self._changed[name] = None
            else:
                self._entries[name] = entry


def _read(stored: object, now: float) -> _Entry | None:
    if not isinstance(stored, Mapping):
        return None
    count, used = stored.get("count"), stored.get("used")
    if isinstance(count, bool) or not isinstance(count, int) or isinstance(used, bool) or not isinstance(used, int | float):
        return None
    try:
        time = float(used)
    except OverflowError:
        return None
    return _Entry(max(0, count), min(time, now)) if math.isfinite(time) else None
