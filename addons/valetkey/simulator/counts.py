"""What the simulator did, in numbers: by key and by how it answered."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

SHOWN = 4
"""Characters of a credential by which it is counted."""


class Counts:
    """Requests that were answered, in whatever way. May be read from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by: Counter[tuple[str, str]] = Counter()
        self._complete = 0
        self._spent = (0, 0, 0)

    def add(self, key: str | None, what: str) -> None:
        """A request with this credential gets this answer: a status, or what goes wrong."""
        with self._lock:
            self._by[(key or "none")[-SHOWN:], what] += 1

    def finished(self) -> None:
        """A good answer has been sent to its last byte."""
        with self._lock:
            self._complete += 1

    def spend(self, tokens_in: int, tokens_out: int) -> None:
        """An answer over a WebSocket takes so many tokens."""
        with self._lock:
            answers, total_in, total_out = self._spent
            self._spent = (answers + 1, total_in + tokens_in, total_out + tokens_out)

    def clear(self) -> None:
        """Begin again."""
        with self._lock:
            self._by.clear()
            self._complete = 0
            self._spent = (0, 0, 0)

    @property
    def total(self) -> int:
        """All requests."""
        with self._lock:
            return self._by.total()

    @property
    def complete(self) -> int:
        """Good answers that were sent to their last byte."""
        with self._lock:
            return self._complete

    @property
    def spent(self) -> tuple[int, int, int]:
        """Answers over WebSockets, their tokens in, and their tokens out."""
        with self._lock:
            return self._spent

    @property
    def by(self) -> dict[tuple[str, str], int]:
        """Requests by the last characters of the credential (`none` without one) and by status or what went wrong."""
        with self._lock:
            return dict(self._by)

    def what(self) -> Counter[str]:
        """Requests by status or what went wrong."""
        found: Counter[str] = Counter()
        for (_, what), count in self.by.items():
            found[what] += count
        return found

    def shown(self) -> dict[str, Any]:
        """As JSON: `total`, `complete`, and `keys` with the counts of each."""
        keys: dict[str, dict[str, int]] = {}
        for (key, what), count in sorted(self.by.items()):
            keys.setdefault(key, {})[what] = count
        return {"total": sum(sum(counts.values()) for counts in keys.values()), "complete": self.complete, "keys": keys}
