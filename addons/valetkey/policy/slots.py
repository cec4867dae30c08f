"""How many calls a key serves at once: permits with a hard limit, and a queue in which nobody overtakes.

A permit that becomes free goes straight to the first call in the queue that wants this key. So while somebody waits for a key
there is no free permit that a newcomer could take, and none is ever lost: it is held by a call, or handed on.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Permit:
    """The right to use a key, for one attempt."""

    key: str
    released: bool = False


@dataclass(eq=False, slots=True)
class Ticket:
    """A place in the queue for any of `limits`' keys. `granted` is set when its turn has come; then `wake` is called."""

    limits: Mapping[str, int]
    wake: Callable[[], None]
    granted: Permit | None = None
    left: bool = field(default=False)


class Slots:
    """The permits of all keys."""

    def __init__(self) -> None:
        self._active: Counter[str] = Counter()
        self._queue: deque[Ticket] = deque()

    def active(self, key: str) -> int:
        """Calls that a key serves now."""
        return self._active[key]

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._queue)

    def take(self, key: str, limit: int | None) -> Permit | None:
        """A permit now, or None when the key serves as many calls as it may (None: no limit)."""
        if limit is not None and self._active[key] >= limit:
            return None
        self._active[key] += 1
        return Permit(key)

    def line_up(self, limits: Mapping[str, int], wake: Callable[[], None]) -> Ticket:
        """Join the queue for the first of these keys that becomes free. `limits` holds the hard limit of each."""
        ticket = Ticket(limits, wake)
        self._queue.append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> Permit | None:
        """Leave the queue; gives the permit when the turn had come already (it is then the caller's to release)."""
        if not ticket.left:
            ticket.left = True
            if ticket.granted is None:
                self._queue.remove(ticket)
        granted, ticket.granted = ticket.granted, None
        return granted

    def release(self, permit: Permit) -> None:
        """Give a permit back; doing so twice has no effect."""
        if permit.released:
            return
        permit.released = True
        self._active[permit.key] -= 1
        if not self._active[permit.key]:
            del self._active[permit.key]
        self._hand_on(permit.key)

    def _hand_on(self, key: str) -> None:
        while (ticket := self._next_for(key)) is not None:
            self._queue.remove(ticket)
            self._active[key] += 1
            ticket.granted = Permit(key)
            ticket.wake()

    def _next_for(self, key: str) -> Ticket | None:
        """The first call in the queue that this key may serve. Looked for anew each time: waking one may change the queue."""
        active = self._active[key]
        return next((ticket for ticket in self._queue if (limit := ticket.limits.get(key)) is not None and active < limit), None)
