"""The opt-in archive: requests and answers, without credentials, one private file per day."""

from __future__ import annotations

import json
import os
import queue
import threading
import time as clock
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from ..errors import LedgerError
from .redaction import Redact, redacted, unchanged

WAITING = 64
"""Records that may wait for the disk. They hold bodies; more of them would fill the memory."""
PURGE_EVERY = 3600.0
_Record = tuple[str, float, Mapping[str, Any], Mapping[str, Any] | None]


class Archive:
    """Writes records in a thread of its own. `on_problem` is called once per problem, and once when all is well again.

    `redact` takes secrets out of URLs, header values and bodies, beyond the known carriers. Files of days that are older
    than `retention` (seconds) are deleted, every hour; None keeps them.
    """

    def __init__(
        self, folder: Path, on_problem: Callable[[str], None], *, redact: Redact = unchanged, retention: float | None = None
    ) -> None:
        self._folder, self._on_problem = folder, on_problem
        self._redact, self._retention = redact, retention
        self._queue: queue.Queue[_Record | None] = queue.Queue(WAITING)
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="valetkey archive", daemon=True)
        self._thread.start()

    def write(self, id: str, time: float, request: Mapping[str, Any], response: Mapping[str, Any] | None) -> None:
        """Keep one call; never waits. `request` has method, url, headers and body, `response` status, headers and body.

        Headers are pairs of texts, bodies bytes.
        """
        try:
            self._queue.put_nowait((id, time, request, response))
        except queue.Full:
            self._complain(f"the archive {self._folder} is slower than the calls; some are not kept")

    def close(self, timeout: float = 5.0) -> bool:
        """Write what is left and end; whether that was possible within `timeout` seconds."""
        try:
            self._queue.put(None, timeout=timeout)
        except queue.Full:
            return False
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        next_purge = 0.0
        while True:
            if clock.monotonic() >= next_purge:
                next_purge = clock.monotonic() + PURGE_EVERY
                self._purge()
            try:
                record = self._queue.get(timeout=PURGE_EVERY)
            except queue.Empty:
                continue
            if record is None:
                return
            self._keep(*record)

    def _keep(self, id: str, time: float, request: Mapping[str, Any], response: Mapping[str, Any] | None) -> None:
        answer = None if response is None else redacted(response, self._redact)
        document = {"id": id, "time": time, "request": redacted(request, self._redact), "response": answer}
        day = datetime.fromtimestamp(time, UTC).date().isoformat()
        try:
            _append(self._folder, day, json.dumps(document, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            self._complain(f"the archive {self._folder} cannot be written: {error.strerror}")
        else:
            self._recovered()

    def _purge(self) -> None:
        if self._retention is None:
            return
        try:
            purge_archive(self._folder, clock.time() - self._retention)
        except LedgerError as error:
            self._complain(str(error))

    def _complain(self, text: str) -> None:
        if text != self._problem:
            self._problem = text
            self._on_problem(text)

    def _recovered(self) -> None:
        if self._problem is not None:
            self._problem = None
            self._on_problem(f"the archive {self._folder} is well again")


def purge_archive(folder: Path, before: float) -> int:
    """Delete the files of days that ended before a moment (Unix seconds); how many. Raises LedgerError."""
    limit = datetime.fromtimestamp(before, UTC)
    old = [path for path in sorted(folder.glob("*.jsonl")) if _ended(path, limit)]
    try:
        for path in old:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise LedgerError(f"the archive {folder} cannot be purged: {error}") from error
    return len(old)


def _append(folder: Path, day: str, line: bytes) -> None:
    """Add a line, or nothing of it: half a line would spoil the next one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(folder / f"{day}.jsonl", flags, 0o600)
    with open(descriptor, "ab", buffering=0) as file:
        os.fchmod(descriptor, 0o600)  # one that was there may have let others in
        size = os.fstat(descriptor).st_size
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(size)
            raise


def _ended(path: Path, limit: datetime) -> bool:
    try:
        day = date.fromisoformat(path.stem)
    except ValueError:
        return False
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1) <= limit
