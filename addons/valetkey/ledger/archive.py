"""The opt-in archive: requests and answers, without credentials, one private file per day."""

from __future__ import annotations

import base64
import json
import os
import queue
import re
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

LIMIT = 1024 * 1024
"""Bytes kept of one body."""
HIDDEN = "***"
_CARRIERS = re.compile(r"authorization|cookie|api-?key|token|secret|credential", re.IGNORECASE)
_IN_QUERY = re.compile(r"([?&](?:key|api[-_]?key|access_token|token)=)[^&#]*", re.IGNORECASE)


class Archive:
    """Writes records in a thread of its own. `on_problem` is called once per problem."""

    def __init__(self, folder: Path, on_problem: Callable[[str], None]) -> None:
        self._folder, self._on_problem = folder, on_problem
        self._queue: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="valetkey archive", daemon=True)
        self._thread.start()

    def write(self, id: str, time: float, request: Mapping[str, Any], response: Mapping[str, Any] | None) -> None:
        """Keep one call. `request` has method, url, headers and body, `response` status, headers and body."""
        record = {"id": id, "time": time, "request": _redacted(request), "response": response and _redacted(response)}
        day = datetime.fromtimestamp(time, UTC).date().isoformat()
        self._queue.put((day, json.dumps(record, separators=(",", ":")).encode() + b"\n"))

    def close(self, timeout: float = 5.0) -> None:
        """Write what is left and end."""
        self._queue.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            day, line = item
            try:
                self._append(day, line)
            except OSError as error:
                self._complain(f"the archive {self._folder} cannot be written: {error.strerror}")
            else:
                self._problem = None

    def _append(self, day: str, line: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self._folder / f"{day}.jsonl", flags, 0o600)
        with open(descriptor, "ab") as file:
            file.write(line)

    def _complain(self, text: str) -> None:
        if text != self._problem:
            self._problem = text
            self._on_problem(text)


def purge_archive(folder: Path, before: float) -> int:
    """Delete the files of days that ended before a moment (Unix seconds); how many."""
    limit = datetime.fromtimestamp(before, UTC)
    old = [path for path in sorted(folder.glob("*.jsonl")) if _ended(path, limit)]
    for path in old:
        path.unlink()
    return len(old)


def _ended(path: Path, limit: datetime) -> bool:
    try:
        day = date.fromisoformat(path.stem)
    except ValueError:
        return False
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1) <= limit


def _redacted(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = dict(message)
    kept["headers"] = [[name, HIDDEN if _CARRIERS.search(name) else value] for name, value in message["headers"]]
    if "url" in kept:
        kept["url"] = _IN_QUERY.sub(rf"\1{HIDDEN}", kept["url"])
    return kept | _body(message["body"])


def _body(body: bytes) -> dict[str, Any]:
    """Text where it is text, base64 where not; says when it was cut."""
    part = body[:LIMIT]
    cut = {"truncated": len(body)} if len(body) > LIMIT else {}
    try:
        return {"body": part.decode("utf-8")} | cut
    except UnicodeDecodeError:
        return {"body": base64.b64encode(part).decode(), "encoding": "base64"} | cut
