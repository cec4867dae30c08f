"""The one writer: receipts are handed over in no time and written by a thread of their own, in batches."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable

from ..errors import LedgerError
from ..model import Receipt
from .query import Query
from .store import Store

RETRY = 1.0
"""Seconds between attempts while the store fails."""
PURGE_EVERY = 3600.0


class LedgerWriter:
    """Owns the store. `submit` never waits and never raises; what cannot be written is kept (bounded) and tried again.

    `on_problem` is called, from the writer's thread, once when a problem begins and once when it is over.
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
        self._queue: queue.SimpleQueue[Receipt | threading.Event | None] = queue.SimpleQueue()
        self._pending: deque[Receipt] = deque()
        self._thread = threading.Thread(target=self._run, name="valetkey ledger", daemon=True)
        self._opened = threading.Event()
        self._store: Store | None = None
        self._retention: float | None = None
        self._purged = 0.0
        self.problem: str | None = None
        self.lost = 0
        """Receipts that were dropped because the store failed for too long."""

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self.problem is None

    @property
    def pending(self) -> int:
        """Receipts that are not written yet."""
        return self._queue.qsize() + len(self._pending)

    def set_retention(self, seconds: float | None) -> None:
        """Delete receipts older than this, now and every hour; None keeps them."""
        self._retention = seconds

    def start(self) -> None:
        """Begin. Raises LedgerError when the store cannot be opened now; the thread runs and tries again all the same."""
        self._thread.start()
        self._opened.wait()
        if self.problem is not None:
            raise LedgerError(self.problem)

    def submit(self, receipt: Receipt) -> None:
        """Hand over a receipt."""
        self._queue.put(receipt)

    def flush(self, timeout: float) -> bool:
        """Wait until everything handed over so far has been tried; whether nothing is left."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout) and not self._pending

    def close(self, timeout: float) -> bool:
        """Write what is left and end; whether nothing is left."""
        self._queue.put(None)
        self._thread.join(timeout)
        return not self._pending and not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._store = self._open_store()
        except LedgerError as error:
            self.problem = str(error)
        self._opened.set()
        ending = False
        while not ending:
            ending, waiting = self._gather()
            self._write()
            self._purge()
            for event in waiting:
                event.set()
        if self._store is not None:
            self._close_store()

    def _gather(self) -> tuple[bool, list[threading.Event]]:
        """Wait for work, then take what comes within the interval. Gives whether to end, and who waits for the write."""
        waiting: list[threading.Event] = []
        deadline: float | None = time.monotonic() + RETRY if self._pending else None
        while True:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                item = self._queue.get(timeout=PURGE_EVERY if timeout is None else timeout)
            except queue.Empty:
                return False, waiting
            if item is None:
                return True, waiting
            if isinstance(item, threading.Event):
                return False, [*waiting, item]
            self._keep(item)
            deadline = deadline or time.monotonic() + self._interval

    def _keep(self, receipt: Receipt) -> None:
        if len(self._pending) >= self._max_pending:
            self._pending.popleft()
            self.lost += 1
        self._pending.append(receipt)

    def _write(self) -> None:
        if not self._pending and self.healthy:
            return
        batch = list(self._pending)
        try:
            if self._store is None:
                self._store = self._open_store()
            self._store.add(batch)
        except LedgerError as error:
            self._failed(error)
            return
        self._pending.clear()
        if self.problem is not None:
            self.problem = None
            self._on_problem(f"the ledger is well again; {self.lost} receipts were lost meanwhile")

    def _failed(self, error: LedgerError) -> None:
        """Say so once per problem, and open the store anew next time: the file may have been replaced."""
        if str(error) != self.problem:
            self.problem = str(error)
            self._on_problem(f"{error}; {len(self._pending)} receipts are kept in memory and tried again")
        if self._store is not None:
            self._close_store()

    def _close_store(self) -> None:
        store, self._store = self._store, None
        try:
            if store is not None:
                store.close()
        except LedgerError as error:
            self._on_problem(str(error))

    def _purge(self) -> None:
        now = time.time()
        if self._retention is None or self._store is None or now - self._purged < PURGE_EVERY:
            return
        self._purged = now
        try:
            self._store.purge(Query(until=now - self._retention))
        except LedgerError as error:
            self._failed(error)
