"""Which key made what, so that what belongs to a key goes to that key."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice

_NAMES = 64
"""Most names taken from one call, and the longest name in characters: names come from agents."""
_LONGEST = 256


@dataclass(slots=True)
class _Entry:
    key_id: str
    used: float
    stored: bool = False
    """Whether the store knows of it: if so, its end must be told."""


class Affinity:
    """Which key made what. At most `limit` entries, the least recently used goes first; entries end after `ttl` seconds unused.

    `now` is in seconds, of any clock that goes on over a restart. Soft entries (warm caches) end after `soft_ttl`. When it is
    full, the kind that takes more than half gives way: sessions, which an agent can make up by the thousand, never push out
    the files of others. One thread.
    """

    def __init__(self, ttl: float = 30 * 86400, soft_ttl: float = 3600, limit: int = 10_000) -> None:
        self._ttl = {False: ttl, True: soft_ttl}
        self._limit = limit
        # By softness; each from the least to the most recently used.
        self._entries: dict[bool, OrderedDict[str, _Entry]] = {False: OrderedDict(), True: OrderedDict()}
        self._changed: dict[str, None] = {}
        """In the order of their use, so that it survives where times are equal."""
        self._gone: set[str] = set()
        """Ended entries that the store still has; never more than it has."""

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def bind(self, provider: str, names: Iterable[str], key_id: str, now: float, *, soft: bool = False) -> None:
        """This key made, or has just used, what the names stand for. A later key takes the place of an earlier one."""
        for name in islice(names, _NAMES):
            if len(name) <= _LONGEST:
                self._put(f"{provider}/{name}", _Entry(key_id, now), soft)

    def key_for(self, provider: str, names: Iterable[str], now: float) -> str | None:
        """The key of the first name that is bound, which counts as a use; None when none is."""
        for name in islice(names, _NAMES):
            key_id = self._use(f"{provider}/{name}", now)
            if key_id is not None:
                return key_id
        return None

    def forget_key(self, key_id: str) -> None:
        """The key is gone for good, and what it made with it."""
        for full, soft in self._of_key(key_id):
            self._drop(full, soft)

    def changes(self) -> dict[str, dict[str, object] | None]:
        """The entries changed since the last call, by `provider/name`, ready for JSON; None for one that is gone."""
        changed: dict[str, dict[str, object] | None] = dict.fromkeys(self._gone)
        for full in self._changed:
            soft = full not in self._entries[False]
            entry = self._entries[soft][full]
            entry.stored = True
            changed[full] = {"key": entry.key_id, "used": entry.used, "soft": soft}
        self._changed.clear()
        self._gone.clear()
        return changed

    def load(self, entries: Mapping[str, object], now: float) -> None:
        """Take what `changes` gave before a restart. What is no entry, has ended or is too much goes, also from the store."""
        found = {full: read for full, stored in entries.items() if (read := _read(stored, now)) is not None}
        self._gone |= entries.keys() - found.keys() - self._all()
        for full, (entry, soft) in sorted(found.items(), key=lambda item: item[1][0].used):
            if any(full in known for known in self._entries.values()):
                continue  # what happened since the start is newer
            if self._has_ended(entry, soft, now):
                self._gone.add(full)
            else:
                self._put(full, entry, soft)
                self._changed.pop(full, None)

    def _put(self, full: str, entry: _Entry, soft: bool) -> None:
        old = self._entries[soft].pop(full, None) or self._entries[not soft].pop(full, None)
        entry.stored = entry.stored or full in self._gone or (old is not None and old.stored)
        self._gone.discard(full)
        self._entries[soft][full] = entry
        self._mark(full)
        while len(self) > self._limit:
            crowded = len(self._entries[True]) * 2 > self._limit
            self._drop(next(iter(self._entries[crowded])), crowded)

    def _use(self, full: str, now: float) -> str | None:
        for soft, entries in self._entries.items():
            entry = entries.get(full)
            if entry is None:
                continue
            if self._has_ended(entry, soft, now):
                self._drop(full, soft)
                return None
            entry.used = now
            entries.move_to_end(full)
            self._mark(full)
            return entry.key_id
        return None

    def _drop(self, full: str, soft: bool) -> None:
        entry = self._entries[soft].pop(full)
        self._changed.pop(full, None)
        if entry.stored:
            self._gone.add(full)

    def _mark(self, full: str) -> None:
        self._changed.pop(full, None)
        self._changed[full] = None

    def _has_ended(self, entry: _Entry, soft: bool, now: float) -> bool:
        return now - entry.used > self._ttl[soft]

    def _of_key(self, key_id: str) -> list[tuple[str, bool]]:
        return [(full, soft) for soft, all_ in self._entries.items() for full, entry in all_.items() if entry.key_id == key_id]

    def _all(self) -> set[str]:
        return {full for entries in self._entries.values() for full in entries}


def start(identity: str, count: int) -> int:
    """Where among `count` keys (1 or more) a new session begins: the first 8 hex digits of its SHA-256, modulo `count`."""
    return int(sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) % count


def _read(stored: object, now: float) -> tuple[_Entry, bool] | None:
    """One entry of the store; None where it is none. A time to come (the clock was set back) counts as now."""
    if not isinstance(stored, Mapping):
        return None
    key_id, used, soft = stored.get("key"), stored.get("used"), stored.get("soft")
    if not isinstance(key_id, str) or not isinstance(soft, bool) or isinstance(used, bool) or not isinstance(used, int | float):
        return None
    try:
        time = float(used)
    except OverflowError:
        return None
    return (_Entry(key_id, min(time, now), stored=True), soft) if math.isfinite(time) else None
