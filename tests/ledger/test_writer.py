from __future__ import annotations

import threading

import pytest

from support.proxy_receipts import receipt
from valetkey.errors import LedgerError
from valetkey.ledger import LedgerWriter, Query
from valetkey.ledger import writer as module


class Store:
    """A store that fails while it is told to, and remembers."""

    def __init__(self):
        self.kept, self.failing, self.purged, self.tried = [], None, [], threading.Event()

    def __call__(self):
        if self.failing == "open":
            raise LedgerError("cannot be opened")
        return self

    def add(self, receipts):
        self.tried.set()
        if self.failing:
            raise LedgerError(self.failing)
        self.kept += [each.id for each in receipts]

    def purge(self, query):
        self.purged.append(query)
        return 0

    def close(self):
        pass


@pytest.fixture
def stage(monkeypatch):
    monkeypatch.setattr(module, "RETRY", 0.01)
    store, said = Store(), []
    made = LedgerWriter(store, said.append, interval=0.001, max_pending=3)
    yield made, store, said
    made.close(5)


def test_what_is_submitted_is_written(stage):
    writer, store, _ = stage
    writer.start()
    writer.submit(receipt(id="a"))
    assert writer.flush(5) and store.kept == ["a"]


def test_closing_writes_what_is_left(stage):
    writer, store, _ = stage
    writer.start()
    for n in range(3):
        writer.submit(receipt(id=str(n)))
    assert writer.close(5) and store.kept == ["0", "1", "2"]


def test_a_start_that_fails_is_said_at_once(stage):
    writer, store, _ = stage
    store.failing = "open"
    with pytest.raises(LedgerError, match="opened"):
        writer.start()


def test_after_a_start_that_failed_it_tries_again(stage):
    writer, store, _ = stage
    store.failing = "open"
    with pytest.raises(LedgerError):
        writer.start()
    store.failing = None
    writer.submit(receipt(id="a"))
    assert writer.flush(5) and store.kept == ["a"]


def test_a_failure_is_told_once(stage):
    writer, store, said = stage
    writer.start()
    store.failing = "disk full"
    for n in range(3):
        writer.submit(receipt(id=str(n)))
        writer.flush(5)
    assert len(said) == 1 and "disk full" in said[0]


def test_a_failing_store_is_not_healthy(stage):
    writer, store, _ = stage
    writer.start()
    store.failing = "disk full"
    writer.submit(receipt())
    writer.flush(5)
    assert (writer.healthy, writer.pending) == (False, 1)


def test_what_failed_is_tried_again(stage):
    writer, store, said = stage
    writer.start()
    store.failing = "disk full"
    writer.submit(receipt(id="a"))
    writer.flush(5)
    store.failing = None
    assert writer.flush(5) and store.kept == ["a"] and "well again" in said[-1]


def test_pending_receipts_are_bounded_and_losses_counted(stage):
    writer, store, _ = stage
    writer.start()
    store.failing = "disk full"
    for n in range(5):
        writer.submit(receipt(id=str(n)))
    writer.flush(5)
    assert (writer.pending, writer.lost) == (3, 2)


def test_old_receipts_are_purged(stage):
    writer, store, _ = stage
    writer.set_retention(60.0)
    writer.start()
    writer.submit(receipt())
    writer.flush(5)
    assert isinstance(store.purged[0], Query)


def test_without_retention_nothing_is_purged(stage):
    writer, store, _ = stage
    writer.start()
    writer.submit(receipt())
    writer.flush(5)
    assert store.purged == []


def test_many_threads_may_submit(stage):
    writer, store, _ = stage
    writer._max_pending = 10_000
    writer.start()
    threads = [threading.Thread(target=lambda n=n: [writer.submit(receipt(id=f"{n}-{m}")) for m in range(50)]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.flush(5) and len(set(store.kept)) == 400
