"""The audit log as it is written: entries of receipts, appended to a private file that several gateways may share."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import LedgerError
from ..model import Attempt, Outcome, Receipt
from .audit import LONGEST, REACH, START, Head, Link, Place, link, needs_key, read_head, read_key, sealed, write_head
from .query import Query, Total
from .store import Store

REFUSALS = frozenset({
    "credential_withheld", "egress", "endpoint_closed", "endpoint_not_allowed", "foreign_host", "foreign_key", "foreign_origin",
    "misdirected", "no_sni", "not_admitted", "plain_http",
})  # fmt: skip
"""Refusals that are entries of their own: a credential that is not ours, or ours asked for where it does not belong."""
MAX_BYTES = 64 << 20
"""A file that has so many bytes is full."""
_LONGEST_TEXT = 200
"""Characters of a text. Agents choose names; they must not fill a line."""
_BUSY = 1.0
"""Seconds to wait for another gateway's batch."""
_LOOK_AGAIN = 0.002
_AWAY = "move the audit log's files away together"
_ASK = f"`valetkey audit verify` tells more; put back what was there, or {_AWAY}"
_encode = json.JSONEncoder(separators=(",", ":")).encode


# Entries.


def entries_of(receipt: Receipt) -> Iterator[dict[str, Any]]:
    """One entry for each attempt that had a key, and one for a refusal that concerns credentials.

    What the gateway itself stopped is `refused`, with the key that was to go. The cost is the last attempt's: it gave the answer.
    """
    last = len(receipt.attempts)
    for number, attempt in enumerate(receipt.attempts, 1):
        if attempt.key is not None:
            yield _entry(receipt, number, attempt, receipt.cost_usd if number == last else None)
    if receipt.refused in REFUSALS:
        entry = {"outcome": _cut(receipt.outcome), "status": receipt.status, "cost_usd": None, "reason": receipt.refused}
        yield _who("refused", receipt, None) | {"key": None, "host": None, "path_class": _cut(receipt.format)} | entry
    elif receipt.parent is not None and receipt.key is not None and not receipt.attempts:
        # A further answer on a connection that was opened with the key.
        attempt = Attempt("", None, receipt.key, "", receipt.status)
        yield _entry(receipt, None, attempt, receipt.cost_usd) | {"outcome": _cut(receipt.outcome)}


def _entry(receipt: Receipt, number: int | None, attempt: Attempt, cost: str | None) -> dict[str, Any]:
    event = "refused" if attempt.outcome is Outcome.REFUSED else "use"
    return _who(event, receipt, number) | {
        "key": _cut(attempt.key),
        "host": _host(attempt.upstream),
        "path_class": _cut(receipt.format),
        "outcome": attempt.outcome,
        "status": attempt.status,
        "cost_usd": _cut(cost),
    }


def _who(event: str, receipt: Receipt, number: int | None) -> dict[str, Any]:
    return {
        "event": event, "time": receipt.time, "receipt": _cut(receipt.id), "attempt": number, "agent": _cut(receipt.agent),
        "project": _cut(receipt.project),
    }  # fmt: skip


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:_LONGEST_TEXT]


@lru_cache(256)
def _host(upstream: str) -> str | None:
    """`host` or `host:port` of an upstream; nothing else of it, such as a path or a user's name."""
    place = urlsplit(upstream).netloc.rpartition("@")[2]
    return _cut(place) or None


# The file.


@dataclass(frozen=True, slots=True)
class _Tail:
    """The end of the log: its last entry (None: there is none), and what stands behind it in the current file."""

    last: Link | None
    damage: bytes
    size: int
    before: str | None
    """The name of the full file that the last entry is in; None when it is in the current one."""


class AuditLog:
    """Appends entries. `check` and `append` raise LedgerError when they cannot do it; a batch is kept whole or not at all.

    One thread may use it; others, also of other processes, may append to the same files. A file of `max_bytes` is full.
    `fsync` waits for the disk after each batch. `clock` gives Unix seconds, for what the log writes of itself.
    """

    def __init__(
        self, place: Place, *, max_bytes: int = MAX_BYTES, fsync: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self.place = place
        self._max_bytes, self._fsync, self._clock = max_bytes, fsync, clock

    def check(self) -> None:
        """Find out whether the log can be written; makes its files."""
        with self._opened():
            pass

    def append(self, receipts: Sequence[Receipt]) -> None:
        """Add the entries of receipts; without any, do as `check` does."""
        with self._opened() as (lock, log, key):
            entries = [entry for receipt in receipts for entry in entries_of(receipt)]
            if entries:
                tail = _tail(log, self.place, key)
                self._write(lock, log, tail, [*self._events(tail, _head(lock, self.place, key)), *entries], key)

    @contextmanager
    def _opened(self) -> Iterator[tuple[int, int, bytes | None]]:
        """The head file, locked, the current file and the key."""
        with _errors(self.place.current), _private(self.place, self.place.head) as lock:
            _lock(lock, self.place.head)
            key = read_key(self.place.key)
            if self._is_full(key):
                self._close_full()
            with _private(self.place, self.place.current, os.O_APPEND) as log:
                if not os.fstat(lock).st_size and not os.fstat(log).st_size and not self.place.full():
                    _put_head(lock, Head(), key)
                yield lock, log, key

    def _is_full(self, key: bytes | None) -> bool:
        try:
            if os.lstat(self.place.current).st_size < self._max_bytes:
                return False
        except (FileNotFoundError, NotADirectoryError):
            return False
        with _private(self.place, self.place.current, os.O_APPEND) as log:
            return not _tail(log, self.place, key).damage  # what is damaged is told of in the same file

    def _close_full(self) -> None:
        """The full file gets the number of its first entry as name."""
        current = self.place.current
        with current.open("rb") as file:
            first = START.match(file.readline(LONGEST))
        full = self.place.closed(int(first[1]) if first else 0)
        if full.exists():
            raise LedgerError(f"the audit log {current} is full, and {full} is there already; move that one away")
        current.rename(full)

    def _events(self, tail: _Tail, head: Head | None) -> Iterator[dict[str, Any]]:
        """What the log has to tell of itself before it goes on."""
        now, known = self._clock(), tail.last.seq if tail.last else 0
        if tail.damage:
            digest = sha256(tail.damage).hexdigest()
            yield {"event": "recovered", "time": now, "bytes": len(tail.damage), "sha256": digest}
        elif tail.before is not None:
            yield {"event": "continued", "time": now, "file": tail.before, "entries": known}
        if head is None or (tail.last is not None and tail.last.keyed and not head.keyed):
            yield {"event": "lost", "time": now, "known": known, "expected": None, "hash": None}
        elif _falls_short(tail.last, head):
            yield {"event": "lost", "time": now, "known": known, "expected": head.seq, "hash": head.seal}

    def _write(self, lock: int, log: int, tail: _Tail, entries: Sequence[Mapping[str, Any]], key: bytes | None) -> None:
        lines, head = [], Head(tail.last.seq, tail.last.seal) if tail.last else Head()
        if tail.damage and os.pread(log, 1, tail.size - 1) != b"\n":
            lines.append(b"\n")
        for entry in entries:
            line, seal = sealed(head.seq + 1, head.seal, _encode(entry)[1:-1], key)
            head = Head(head.seq + 1, seal)
            lines.append(line)
        try:
            _write_all(log, b"".join(lines))
            if self._fsync:
                os.fdatasync(log)
            _put_head(lock, head, key)
        except OSError:
            os.ftruncate(log, tail.size)
            raise


def _falls_short(last: Link | None, head: Head) -> bool:
    if last is None:
        return head.seq > 0
    return last.seq < head.seq or (last.seq == head.seq and last.seal != head.seal)


def _tail(log: int, place: Place, key: bytes | None) -> _Tail:
    size = os.fstat(log).st_size
    last, damage = _last(log, size, place.current, key)
    full = place.full() if last is None else []
    if not full:
        return _Tail(last, damage, size, None)
    with full[-1].open("rb") as file:
        last, behind = _last(file.fileno(), os.fstat(file.fileno()).st_size, full[-1], key)
    if last is None or behind:
        raise LedgerError(f"the audit log {full[-1]} does not end with an entry; {_ASK}")
    return _Tail(last, damage, size, full[-1].name)


def _last(file: int, size: int, path: Path, key: bytes | None) -> tuple[Link | None, bytes]:
    """The last entry of a file, and the bytes behind it with an end of line. Mostly it is the last line."""
    for reach in (LONGEST, REACH):
        data = os.pread(file, reach, max(0, size - reach))
        found, end = _last_of(data, path, key)
        if found is not None:
            break
    else:
        if size > REACH:
            raise LedgerError(f"the audit log {path} does not end with an entry; {_ASK}")
    damage = data[end:]
    return found, damage if damage.endswith(b"\n") or not damage else damage + b"\n"


def _last_of(data: bytes, path: Path, key: bytes | None) -> tuple[Link | None, int]:
    """The last entry in these bytes, and where it ends."""
    end = data.rfind(b"\n") + 1
    while end:
        start = data.rfind(b"\n", 0, end - 1) + 1
        line = data[start:end]
        found = link(line, key)
        if found is not None:
            return found, end
        if key is None and needs_key(line):
            raise LedgerError(f"the audit log {path} is sealed with a key that is not there; put it back, or {_AWAY}")
        end = start
    return None, 0


def _head(lock: int, place: Place, key: bytes | None) -> Head | None:
    """What the head file says; None when it is empty."""
    raw = os.pread(lock, LONGEST, 0)
    if not raw:
        return None
    head = read_head(raw, key)
    if head is None:
        raise LedgerError(f"the head of the audit log {place.head} was not written with the key that is there now; {_ASK}")
    return head


def _put_head(lock: int, head: Head, key: bytes | None) -> None:
    """In its place: who waits for the lock waits for this very file."""
    content = write_head(head, key)
    if os.pwrite(lock, content, 0) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(lock, len(content))


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


@contextmanager
def _private(place: Place, path: Path, mode: int = 0) -> Iterator[int]:
    """A file that is ours alone, made when it is not there. Raises LedgerError for one that others could have put there."""
    descriptor = _open(place.folder, path, mode | os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check_private(place.folder.stat(), place.folder, 0o022, "go-w")
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise LedgerError(f"the audit log {path} is not a plain file of one name; take it away")
        _check_private(found, path, 0o077, "600")
        yield descriptor
    finally:
        os.close(descriptor)


def _open(folder: Path, path: Path, flags: int) -> int:
    """Open a file. Only when that fails, the path is looked at: folder and file are nearly always there."""
    try:
        return os.open(path, flags, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)
    except OSError:
        if path.is_symlink():
            raise LedgerError(f"the audit log {path} is a symbolic link; take it away") from None
        raise


def _check_private(found: os.stat_result, path: Path, others: int, mode: str) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise LedgerError(f"{path} belongs to user {found.st_uid}, not to the gateway's {os.geteuid()}; use chown, or {_AWAY}")
    sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_mode & others and not sticky:
        raise LedgerError(
            f"{path} has mode {stat.S_IMODE(found.st_mode):o}: others could change the audit log; chmod {mode} {path}"
        )


def _lock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + _BUSY
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise LedgerError(f"the audit log is locked by another process ({path}); end that one") from error
        time.sleep(_LOOK_AGAIN)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LedgerError(f"the audit log {error.filename or path} cannot be written: {error.strerror}") from error


# Beside the ledger.


class AuditedStore:
    """A store whose receipts go to the audit log too, after the store has them. What one of the two refused is handed in again.

    `unaudited` holds ids of receipts that the store has and the log does not; it outlives the store, which is opened anew
    after each failure.
    """

    def __init__(self, store: Store, log: AuditLog, unaudited: set[str]) -> None:
        self._store, self._log, self._unaudited = store, log, unaudited

    def add(self, receipts: Sequence[Receipt]) -> None:
        """Keep receipts in both."""
        self._store.add([receipt for receipt in receipts if receipt.id not in self._unaudited])
        self._unaudited.clear()
        self._unaudited.update(receipt.id for receipt in receipts)
        self._log.append(receipts)
        self._unaudited.clear()

    def receipts(self, query: Query) -> Iterator[Receipt]:
        """Those of the store."""
        return self._store.receipts(query)

    def totals(self, by: Sequence[str], query: Query) -> list[Total]:
        """Those of the store."""
        return self._store.totals(by, query)

    def last_row(self) -> int:
        """That of the store."""
        return self._store.last_row()

    def purge(self, query: Query) -> int:
        """Delete receipts from the store; the log only grows."""
        return self._store.purge(query)

    def close(self) -> None:
        """Let go of the store; the log holds nothing open."""
        self._store.close()
