from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from support.proxy_receipts import receipt
from valetkey.errors import LedgerError
from valetkey.ledger import LedgerWriter, Query, open_store
from valetkey.ledger import writer as module

ROOT = Path(__file__).resolve().parents[2]


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


def test_receipts_that_come_one_after_the_other_wake_the_thread_once(monkeypatch):
    store, rounds = Store(), []
    writer = LedgerWriter(store, pytest.fail, interval=30.0)
    write = writer._write
    monkeypatch.setattr(writer, "_write", lambda: (rounds.append(writer.pending), write()))
    writer.start()
    for n in range(50):
        writer.submit(receipt(id=str(n)))
    assert writer.flush(5) and writer.close(5) and rounds == [50, 0]


def test_waiting_for_the_write_does_not_wait_for_the_interval():
    store = Store()
    writer = LedgerWriter(store, pytest.fail, interval=30.0)
    writer.start()
    writer.submit(receipt(id="a"))
    assert (writer.flush(5), writer.close(5), store.kept) == (True, True, ["a"])


@pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (1, [1]), (32, [32]), (80, [32, 32, 16]), (1000, [62] * 16 + [8])])
def test_receipts_are_written_in_slices(monkeypatch, count, sizes):
    """Calls wait for Python's lock meanwhile; the number of pauses has a bound."""
    monkeypatch.setattr(module, "PAUSE", 0.0)
    store, seen = Store(), []
    writer = LedgerWriter(store, pytest.fail)
    writer._pending.extend(receipt(id=str(n)) for n in range(count))
    monkeypatch.setattr(store, "add", lambda receipts: seen.append(len(receipts)))
    writer._write_slices(store)
    assert seen == sizes


def test_what_was_written_before_a_failure_is_not_written_again(monkeypatch):
    store = Store()
    writer = LedgerWriter(store, lambda _: None)
    writer._pending.extend(receipt(id=str(n)) for n in range(40))
    add = store.add
    monkeypatch.setattr(store, "add", lambda receipts: add(receipts) if len(receipts) == module.SLICE else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        writer._write_slices(store)
    assert (len(store.kept), writer.pending) == (32, 8)


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


class Said(list):
    """What was said; `wait` waits for more."""

    def __init__(self):
        super().__init__()
        self._more = threading.Semaphore(0)

    def append(self, text):
        super().append(text)
        self._more.release()

    def wait(self):
        assert self._more.acquire(timeout=30), "nothing was said"


class SlowStore(Store):
    """A store that hangs in `add` until it is told to go on."""

    def __init__(self):
        super().__init__()
        self.go_on = threading.Event()

    def add(self, receipts):
        self.tried.set()
        assert self.go_on.wait(30)
        super().add(receipts)


def test_a_store_that_failed_is_tried_again_unasked(stage):
    writer, store, _ = stage
    said = Said()
    writer._on_problem = said.append
    writer.start()
    store.failing = "disk full"
    writer.submit(receipt(id="a"))
    said.wait()
    store.failing = None
    said.wait()
    assert (store.kept, writer.healthy) == (["a"], True)


def test_a_ledger_that_could_not_be_opened_gets_well_without_a_receipt(stage):
    writer, store, _ = stage
    said = Said()
    writer._on_problem = said.append
    store.failing = "open"
    with pytest.raises(LedgerError):
        writer.start()
    store.failing = None
    said.wait()
    assert writer.healthy and "well again" in said[0]


def test_problems_that_take_turns_are_told_once_each(stage):
    writer, store, said = stage
    writer.start()
    store.failing = "disk full"
    writer.submit(receipt())
    for problem in ("disk full", "locked", "disk full", "locked"):
        store.failing = problem
        writer.flush(5)
    assert len(said) == 2


def test_a_problem_that_comes_back_is_told_again(stage):
    writer, store, said = stage
    writer.start()
    for problem in ("disk full", None, "disk full"):
        store.failing = problem
        writer.submit(receipt())
        writer.flush(5)
    assert ["disk full" in line for line in said] == [True, False, True]


def test_the_pauses_between_attempts_grow_to_a_bound(stage, monkeypatch):
    monkeypatch.setattr(module, "SLOWEST_RETRY", 0.04)
    writer, store, _ = stage
    writer.start()
    store.failing, pauses = "disk full", []
    writer.submit(receipt())
    for _ in range(4):
        writer.flush(5)
        pauses.append(writer._retry)
    assert pauses[-1] == 0.04 and pauses == sorted(pauses)


def test_handing_over_does_not_wait_for_a_store_that_hangs():
    store, said = SlowStore(), Said()
    writer = LedgerWriter(store, said.append, interval=0.001, max_pending=10)
    writer.start()
    writer.submit(receipt())
    store.tried.wait(30)
    for n in range(100):
        writer.submit(receipt(id=f"x{n}"))
    found = writer.pending, writer.lost
    store.go_on.set()
    writer.close(30)
    assert found == (11, 90)


def test_the_first_loss_is_told(stage):
    writer, store, said = stage
    writer.start()
    store.failing = "disk full"
    for n in range(8):
        writer.submit(receipt(id=str(n)))
    writer.flush(5)
    assert len([line for line in said if "receipts are lost" in line]) == 1


def test_what_could_not_be_written_at_the_end_is_told(stage):
    writer, store, said = stage
    writer.start()
    store.failing = "disk full"
    writer.submit(receipt())
    assert not writer.close(5) and "1 receipts that could not be written: disk full" in said[-1]


def test_closing_twice_or_before_the_start_is_allowed(stage):
    writer, _, _ = stage
    before = writer.close(5)
    writer.start()
    assert (before, writer.close(5), writer.close(5)) == (True, True, True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_died_of_a_defect_is_not_healthy(stage):
    writer, store, _ = stage
    said = Said()
    writer._on_problem = said.append
    writer.start()
    store.kept = None  # type: ignore[assignment]
    writer.submit(receipt())
    said.wait()
    assert not writer.healthy and "defect" in said[0]


def test_retention_begins_at_once_also_without_calls(stage):
    writer, store, _ = stage
    done = threading.Event()
    store.purge = lambda query: done.set()
    writer.start()
    writer.set_retention(60.0)
    assert done.wait(30)


def test_retention_counts_from_now(stage, monkeypatch):
    monkeypatch.setattr(module.time, "time", lambda: 1000.0)
    writer, store, _ = stage
    writer.set_retention(60.0)
    writer.start()
    writer.flush(5)
    assert store.purged[0].until == 940.0


def test_purging_is_done_once_an_hour(stage, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    writer, store, _ = stage
    writer.set_retention(60.0)
    writer.start()
    for now in (1.0, 3599.0, 3602.0, 3603.0):
        clock[0] = now
        writer.flush(5)
    assert len(store.purged) == 2


def test_a_deleted_ledger_is_made_anew_and_nothing_after_that_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RETRY", 0.01)
    uri, said = f"sqlite:///{tmp_path}/a.db", Said()
    writer = LedgerWriter(lambda: open_store(uri), said.append, interval=0.001)
    writer.start()
    (tmp_path / "a.db").unlink()
    writer.submit(receipt(id="after"))
    said.wait()
    said.wait()
    writer.close(30)
    with closing(open_store(uri, readonly=True)) as store:
        assert ("deleted" in said[0], [each.id for each in store.receipts(Query())]) == (True, ["after"])


def test_half_a_surrogate_pair_does_not_end_the_writer(tmp_path):
    writer = LedgerWriter(lambda: open_store(f"sqlite:///{tmp_path}/a.db"), pytest.fail, interval=0.001)
    writer.start()
    writer.submit(receipt(model="\ud800"))
    assert writer.close(30)


PROCESS = """
import resource, sys, time
from dataclasses import replace
from support.proxy_receipts import receipt
from valetkey.ledger import LedgerWriter, open_store

said = []
writer = LedgerWriter(lambda: open_store(sys.argv[1]), said.append, interval=0.02)
writer.start()
base = receipt()
"""
ENDLESS = """
number = 0
while True:
    writer.submit(replace(base, id=f"{number:09d}", time=float(number)))
    number += 1
    if number % 20 == 0:
        writer.flush(30)
        print(number, flush=True)
"""
FULL = """
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))  # as a full disk: writes fail
signal = __import__("signal"); signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for number in range(2000):
    writer.submit(replace(base, id=f"{number:09d}"))
full = writer.flush(30), writer.healthy, writer.pending, writer.lost
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(full, writer.close(30), len(said), "disk" in said[0] or "full" in said[0] or "I/O" in said[0])
"""


def process(tmp_path, text):
    path = f"{ROOT}/addons{os.pathsep}{ROOT}/tests"
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS + text, f"sqlite:///{tmp_path}/a.db"],
        env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.e2e
def test_a_process_that_is_killed_loses_nothing_that_was_flushed_and_leaves_a_readable_file(tmp_path):
    with process(tmp_path, ENDLESS) as running:
        flushed = [int(running.stdout.readline()) for _ in range(10)][-1]
        running.kill()
        flushed = max([flushed, *map(int, running.stdout.read().split())])
    with closing(open_store(f"sqlite:///{tmp_path}/a.db")) as store:
        ids = [each.id for each in store.receipts(Query())]
    assert ids[:flushed] == [f"{n:09d}" for n in range(flushed)] and len(ids) >= flushed


@pytest.mark.e2e
def test_a_full_disk_is_told_once_and_costs_no_receipt_once_there_is_room(tmp_path):
    with process(tmp_path, FULL) as running:
        output = running.stdout.read().strip()
    with closing(open_store(f"sqlite:///{tmp_path}/a.db", readonly=True)) as store:
        kept = store.totals([], Query())[0].calls
    assert (output, kept) == ("(False, False, 2000, 0) True 2 True", 2000)
