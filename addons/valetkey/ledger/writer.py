"""The one writer: receipts are handed over in no time and written by a thread of their own, in batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import islice

from ..errors import LedgerError
from ..model import Receipt
from .query import Query
from .store import Store

RETRY = 0.25
"""Seconds until a store that failed is tried again. They double with every failure, up to the slowest."""
SLOWEST_RETRY = 5.0
PURGE_EVERY = 3600.0
SLICE = 32
"""Receipts that are written in a row: calls wait for Python's lock meanwhile."""
PAUSE = 0.002
"""Seconds from one slice to the next."""
PAUSES = 16
"""About so many at most: of a great many receipts the slices are larger."""


class LedgerWriter:
    """Owns the store. `submit` never waits and never raises; what cannot be written is kept (bounded) and tried again.

    `on_problem` is called, mostly from the writer's thread, once for each problem and once when all is well again. `interval` is
    in seconds; `max_pending` receipts are kept at most, then the oldest give way.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        on_problem: Callable[[str], None],
        interval: float = 0.25,
        max_pending: int = 100_000,
    ) -> None:
        self._open_store, self._on_problem = open_store, on_problem
        self._interval, self._max_pending = interval, max_pending
        self._incoming: deque[Receipt] = deque()
        self._waiting: deque[threading.Event] = deque()
        self._ending = False
        self._work, self._urgent = threading.Event(), threading.Event()
        """Wake the thread: `_work` when it waits for the first receipt, `_urgent` also while it lets others come."""
        self._pending: deque[Receipt] = deque()
        self._thread = threading.Thread(target=self._run, name="valetkey ledger", daemon=True)
        self._opened = threading.Event()
        self._counting = threading.Lock()
        self._store: Store | None = None
        self._retry = RETRY
        self._said: set[str] = set()
        self._retention: float | None = None
        self._next_purge = 0.0
        self.problem: str | None = None
        """What is wrong now; None while all is well."""
        self.lost = 0
        """Receipts that were dropped because the store failed for too long."""

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self.problem is None

    @property
    def pending(self) -> int:
        """Receipts that are not written yet."""
        return len(self._incoming) + len(self._pending)

    def set_retention(self, seconds: float | None) -> None:
        """Delete receipts older than this, now and every hour; None keeps them."""
        self._retention, self._next_purge = seconds, 0.0
        self._call()

    def start(self) -> None:
        """Begin. Raises LedgerError when the store cannot be opened now; the thread runs and tries again all the same."""
        self._thread.start()
        self._opened.wait()
        if self.problem is not None:
            raise LedgerError(self.problem)

    def submit(self, receipt: Receipt) -> None:
        """Hand over a receipt."""
        if len(self._incoming) >= self._max_pending:  # the thread hangs in the store
            self._lose()
            return
        self._incoming.append(receipt)
        if not self._work.is_set():  # once per round: a thread that woke for each receipt would take the time of the calls
            self._work.set()

    def flush(self, timeout: float) -> bool:
        """Wait (seconds) until everything handed over so far has been tried; whether nothing is left."""
        done = threading.Event()
        self._waiting.append(done)
        self._call()
        return done.wait(timeout) and not self._pending

    def close(self, timeout: float) -> bool:
        """Write what is left and end; whether nothing is left."""
        if self._thread.is_alive():
            self._ending = True
            self._call()
            self._thread.join(timeout)
        return not self.pending and not self._thread.is_alive()

    def _run(self) -> None:
        ended = False
        try:
            self._open()
            self._opened.set()
            while not ended:
                ended = self._round()
            self._end()
        finally:
            if not ended:  # a defect; Python prints it as the thread dies
                self._complain("the ledger's writer has ended by a defect of the gateway; receipts are no longer written")
            self._opened.set()

    def _open(self) -> None:
        try:
            self._store = self._open_store()
        except LedgerError as error:
            self.problem = str(error)
            self._said.add(self.problem)  # `start` raises it

    def _round(self) -> bool:
        """Gather, write, purge, tell those who wait. Whether it was the last round."""
        ended, waiting = self._gather()
        self._write()
        self._purge()
        for event in waiting:
            event.set()
        return ended

    def _end(self) -> None:
        if self._pending:
            self._on_problem(f"the ledger ends with {len(self._pending)} receipts that could not be written: {self.problem}")
        self._close_store()

    def _call(self) -> None:
        """Let the thread begin a round now."""
        self._urgent.set()
        self._work.set()

    def _gather(self) -> tuple[bool, list[threading.Event]]:
        """Wait for work, then take what comes within the interval. Gives whether to end, and who waits for the write."""
        if not self.healthy:
            self._urgent.wait(self._retry)
        elif self._work.wait(PURGE_EVERY):
            self._urgent.wait(self._interval)
        # In this order nothing is overlooked: what comes after the marks are cleared sets them again, and who waits
        # is found before what they wait for.
        self._work.clear()
        self._urgent.clear()
        ended, waiting = self._ending, _taken(self._waiting)
        for receipt in _taken(self._incoming):
            self._keep(receipt)
        return ended, waiting

    def _keep(self, receipt: Receipt) -> None:
        if len(self._pending) >= self._max_pending:
            self._pending.popleft()
            self._lose()
        self._pending.append(receipt)

    def _lose(self) -> None:
        with self._counting:
            self.lost += 1
            first = self.lost == 1
        if first:
            self._on_problem(f"the ledger has fallen behind by {self._max_pending} receipts; from now on receipts are lost")

    def _write(self) -> None:
        """Write what is pending; without any, find out whether a store that failed is well again."""
        if not self._pending and self.healthy:
            return
        try:
            if self._store is None:
                self._store = self._open_store()
            self._write_slices(self._store)
        except LedgerError as error:
            self._failed(error)
            return
        self._recovered()

    def _write_slices(self, store: Store) -> None:
        """Write what is pending, or nothing; the more, the larger the slices."""
        size = max(SLICE, len(self._pending) // PAUSES)
        while True:
            part = list(islice(self._pending, size))
            store.add(part)
            for _ in part:
                self._pending.popleft()
            if not self._pending:
                return
            self._urgent.wait(PAUSE)

    def _recovered(self) -> None:
        if self.problem is None:
            return
        self.problem, self._retry = None, RETRY
        self._said.clear()
        self._on_problem(f"the ledger is well again; {self.lost} receipts have been lost since the start")

    def _failed(self, error: LedgerError) -> None:
        """Wait longer from time to time, and open the store anew then: the file may have been replaced."""
        self._retry = min(2 * self._retry, SLOWEST_RETRY) if self.problem else RETRY
        self._complain(f"{error}; receipts are kept in memory ({len(self._pending)} now) and tried again", key=str(error))
        self._close_store()

    def _complain(self, text: str, key: str | None = None) -> None:
        """Say a problem once, however often it comes back until all is well."""
        self.problem = key or text
        if self.problem not in self._said:
            self._said.add(self.problem)
            self._on_problem(text)

    def _close_store(self) -> None:
        store, self._store = self._store, None
        try:
            if store is not None:
                store.close()
        except LedgerError as error:
            self._on_problem(str(error))

    def _purge(self) -> None:
        if self._retention is None or self._store is None or time.monotonic() < self._next_purge:
            return
        self._next_purge = time.monotonic() + PURGE_EVERY
        try:
            self._store.purge(Query(until=time.time() - self._retention))
        except LedgerError as error:
            self._failed(error)


def _taken[T](items: deque[T]) -> list[T]:
    """What is there by now. Others may add at the same time; nobody else takes."""
    return [items.popleft() for _ in range(len(items))]
