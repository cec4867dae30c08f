"""Notice that files changed. The caller polls; nothing here waits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

Signature = tuple[tuple[int, int, int] | None, ...]


class Watcher:
    """Compares files with what they were at the start: time, size and inode, or that they do not exist."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)
        self._loaded = self._last = self._signature()

    def changed(self) -> bool:
        """True when the files differ from the start and have stood still since the last look, so that none is half written."""
        now, before = self._signature(), self._last
        self._last = now
        return now == before and now != self._loaded

    def _signature(self) -> Signature:
        return tuple(_look(path) for path in self._files)


def _look(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
